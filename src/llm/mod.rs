//! The one way from weir to a model: a chat model over HTTP, at Ollama or at an OpenAI-compatible server.
//!
//! An answer counts only when its stream ended as the protocol says it ends; all else is an [`Error`] with one
//! class and one disposition. Calls wait here, not at the server: Ollama queues without bound and in silence.
//! Never retries, never spawns, and lets no type of the HTTP client out. Dropping a call closes its connection.

mod base_url;
mod base_urls;
mod config;
mod keep_alive;
mod schema;
mod model;
mod estimate;
mod queue;
mod error;
mod client;
mod observe;
mod watch;
mod check;
mod context;
mod digests;
mod pull;
mod scripted;
pub mod structured;
mod call;
mod endpoint;
mod desk;
mod desks;
mod door;
mod pool;
mod refusal;
mod reader;
mod ollama;
mod ollama_request;
mod openai;
mod lines;
mod json;

pub use base_url::BaseUrl;
pub use base_urls::BaseUrls;
pub use check::{CheckReport, Presence};
pub use client::{Client, SetupError};
pub use config::{Config, Ollama, OpenAi, Provider, Pull};
pub use error::{Again, CLASSES, Cut, Error, Fault, Phase};
pub use estimate::Estimate;
pub use keep_alive::KeepAlive;
pub use model::{Answer, ChatModel, DoneReason, Input, Message, Request, Role, Timings, Usage};
pub use observe::{CallReport, Observation, Observer};
pub use pool::BreakerState;
pub use pull::Availability;
pub use queue::{QueueTime, Waiting};
pub use schema::{Schema, SchemaError};
pub use scripted::Scripted;
pub use watch::Reachability;

#[cfg(test)]
mod tests;
