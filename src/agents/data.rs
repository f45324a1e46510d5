//! Prepares the data of a task.

use serde_json::json;

use super::{AgentError, AgentState, AgentUpdate};

/// Notes that the task's data is ready.
///
/// # Errors
/// None yet: it only passes the task on.
pub fn data_agent(state: &AgentState) -> Result<AgentUpdate, AgentError> {
    let finding = json!({
        "agent": "data",
        "result": "data_processed",
        "data": {"processed": true, "task": state.task},
    });
    Ok(AgentUpdate::finding("data", finding, "analysis"))
}
