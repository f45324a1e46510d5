//! Analyses what the data agent prepared.

use super::{AgentError, AgentState, AgentUpdate, object};

/// Notes the analysis together with the data that it is of.
///
/// # Errors
/// None yet: it only passes the data agent's finding on.
pub fn analysis_agent(state: &AgentState) -> Result<AgentUpdate, AgentError> {
    let source = state.agent_results.get("data").cloned().unwrap_or_default();
    let analysis = object([("status", "success".into()), ("data_source", source)]);
    let finding = object([
        ("agent", "analysis".into()),
        ("result", "analysis_complete".into()),
        ("analysis", analysis),
    ]);
    Ok(AgentUpdate::finding("analysis", finding, "orchestrator"))
}
