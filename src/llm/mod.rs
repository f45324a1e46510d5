//! The one way from weir to a model: a chat model over HTTP, at Ollama or at an OpenAI-compatible server.
//!
//! An answer counts only when its stream ended as the protocol says it ends; all else is an [`Error`] with one
//! class and one disposition. Calls wait here, not at the server: Ollama queues without bound and in silence.
//! Never retries, never spawns, and lets no type of the HTTP client out. Dropping a call closes its connection.

mod base_url;
mod base_urls;
mod config;
mod model;
mod queue;
mod error;
mod client;
mod observe;
mod watch;
mod check;
mod scripted;
mod call;
mod endpoint;
mod door;
mod pool;
mod refusal;
mod reader;
mod ollama;
mod openai;
mod lines;
mod json;

pub use base_url::BaseUrl;
pub use base_urls::BaseUrls;
pub use check::{CheckReport, Presence};
pub use client::{Client, SetupError};
pub use config::{Config, Ollama, OpenAi, Provider};
pub use error::{CLASSES, Error, Fault, Phase};
pub use model::{Answer, ChatModel, DoneReason, Request, Timings, Usage};
pub use observe::{CallReport, Observation, Observer};
pub use pool::BreakerState;
pub use queue::{QueueTime, Waiting};
pub use scripted::Scripted;
pub use watch::Reachability;

#[cfg(test)]
mod tests;
