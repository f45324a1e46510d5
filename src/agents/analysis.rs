//! Analyses what the data agent prepared.

use serde_json::{Value, json};

use super::{AgentError, AgentState, AgentUpdate};

/// Notes the analysis together with the data that it is of.
///
/// # Errors
/// None yet: it only passes the data agent's finding on.
pub fn analysis_agent(state: &AgentState) -> Result<AgentUpdate, AgentError> {
    let source = state.agent_results.get("data").unwrap_or(&Value::Null);
    let finding = json!({
        "agent": "analysis",
        "result": "analysis_complete",
        "analysis": {"status": "success", "data_source": source},
    });
    Ok(AgentUpdate::finding("analysis", finding, "orchestrator"))
}
