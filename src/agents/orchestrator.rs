//! Decides which agent is next. The first rule that fits wins; a key that is present counts as done,
//! whatever its value.

use serde_json::Value;

use crate::graph::{END, Route};

use super::{AgentError, AgentState, AgentUpdate};

/// A task whose lower-cased text holds one of these words goes to the model.
const KEYWORDS: [&str; 5] = ["analyze", "analysis", "decision", "insight", "recommend"];

/// Who is next when nobody is.
const NOBODY: &str = "end";

/// Names the next agent: `data`, `analysis`, `llm_analysis` where the task asks for it, then the end.
///
/// # Errors
/// [`AgentError::TaskNotText`] once the task's words matter and it has none.
pub fn orchestrator(state: &AgentState) -> Result<AgentUpdate, AgentError> {
    let next = |agent: &'static str| AgentUpdate {
        current_agent: Some(agent.into()),
        ..AgentUpdate::default()
    };
    if state.completed {
        return Ok(next(NOBODY));
    }
    let done = |agent| state.agent_results.contains_key(agent);
    if !done("data") {
        return Ok(next("data"));
    }
    if !done("analysis") {
        return Ok(next("analysis"));
    }
    if !done("llm_analysis") && asks_for_analysis(&state.task)? {
        return Ok(next("llm_analysis"));
    }
    Ok(AgentUpdate { completed: Some(true), ..next(NOBODY) })
}

/// Returns the node that `orchestrator` has chosen.
#[must_use]
pub fn route(state: &AgentState) -> Route<'_> {
    if state.completed { NOBODY.into() } else { (&*state.current_agent).into() }
}

/// Where [`route`]'s words lead.
pub const ROUTES: [(&str, &str); 4] = [
    ("data", "data_agent"),
    ("analysis", "analysis_agent"),
    ("llm_analysis", "llm_analysis"),
    (NOBODY, END),
];

fn asks_for_analysis(task: &Value) -> Result<bool, AgentError> {
    let Value::String(text) = task else {
        return Err(AgentError::TaskNotText { found: json_type(task) });
    };
    let text = text.to_lowercase();
    Ok(KEYWORDS.iter().any(|word| text.contains(word)))
}

fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
