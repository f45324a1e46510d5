//! One attempt at one event: the graph that is run, the runner that runs it, and what comes out.
//! An attempt ends in an outcome or asks for another attempt; it never publishes anything itself.

mod config;
mod effects;
mod error;
mod graph;
mod outcome;
mod runner;

pub use config::{Config, Durability, OnError};
pub use effects::{Recorder, Request};
pub use error::{Error, Verdict};
pub use graph::{agents_graph, initial_state};
pub use outcome::{Outcome, Press};
pub use runner::{Attempt, Finished, Job, Runner, Watch, run_span};

#[cfg(test)]
mod tests;
