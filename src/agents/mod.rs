//! The agents of the workflow and the state that they share.
//! Each agent sees the whole state and returns an update of it; only `llm_analysis` reaches out into the world.
//! Knows the graph engine and the model, nothing of events or of Kafka.

mod analysis;
mod data;
mod error;
mod llm_analysis;
mod messages;
mod orchestrator;
mod state;

pub use analysis::analysis_agent;
pub use data::data_agent;
pub use error::AgentError;
pub use llm_analysis::{LlmAnalysis, degraded};
pub use messages::{Message, MessageError, Role, add_messages};
pub use orchestrator::{ROUTES, orchestrator, route};
pub use state::{AgentState, AgentUpdate, merge};

use serde_json::{Map, Value};

/// Returns an object of these fields, in this order. `json!` would serialise each value anew.
fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value));
    Value::Object(fields.collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests;
