//! One attempt at one event: the graph that is run, the runner that runs it, and what comes out.
//! An attempt ends in an outcome or asks for another attempt; it never publishes anything itself.

mod budget;
mod config;
mod effects;
mod error;
mod expiry;
mod graph;
mod outcome;
mod runner;

pub use budget::{Exhausted, Ledger};
pub use config::{Config, Durability, OnError};
pub use effects::{Recorder, Request};
pub use error::{Error, Verdict};
pub use expiry::{Expiry, Late};
pub use graph::{agents_graph, initial_state};
pub use outcome::{Outcome, Press};
pub use runner::{Attempt, Finished, Job, Runner, Watch, run_span};

#[cfg(test)]
mod tests;
