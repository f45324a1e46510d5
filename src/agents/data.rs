//! Prepares the data of a task.

use super::{AgentError, AgentState, AgentUpdate, object};

/// Notes that the task's data is ready.
///
/// # Errors
/// None yet: it only passes the task on.
pub fn data_agent(state: &AgentState) -> Result<AgentUpdate, AgentError> {
    let data = object([("processed", true.into()), ("task", state.task.clone())]);
    let finding =
        object([("agent", "data".into()), ("result", "data_processed".into()), ("data", data)]);
    Ok(AgentUpdate::finding("data", finding, "analysis"))
}
