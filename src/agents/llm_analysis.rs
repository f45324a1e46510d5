//! Asks the model to analyse a task: the one agent whose work costs money.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::graph::{Context, Node, NodeFuture};
use crate::llm::{ChatModel, Request};

use super::{AgentError, AgentState, AgentUpdate, object};

const ROLE: &str = "You are the analyst of an automated workflow. Be factual, be brief, and say so when \
something can't be known from what you are given.";
const REQUEST: &str =
    "Work out what this task calls for: the findings, what they rest on, and what to do next.";
const CLOSING: &str = "Answer in plain text, the most important finding first.";

/// The agent that asks a model.
pub struct LlmAnalysis {
    model: Arc<dyn ChatModel>,
}

impl LlmAnalysis {
    /// Returns an agent that asks `model`.
    #[must_use]
    pub fn new(model: Arc<dyn ChatModel>) -> Self {
        Self { model }
    }

    async fn ask(&self, state: &AgentState) -> Result<AgentUpdate, AgentError> {
        let input = input_block(state);
        let prompt = format!("{ROLE}\n\n{input}\n\n{CLOSING}");
        let request = Request::prompt(&prompt, &state.queue_time);
        let answer = self.model.ask(request).await?;
        let mut metadata = object([
            ("model", (*answer.model).into()),
            ("input_length", input.chars().count().into()),
            ("output_length", answer.text.chars().count().into()),
        ]);
        if let (Some(asked), Some(metadata)) = (&answer.instead_of, metadata.as_object_mut()) {
            metadata.insert("instead_of".to_owned(), (**asked).into());
        }
        let update = finding(answer.text, "completed", metadata);
        Ok(AgentUpdate { usage: answer.usage, ..update })
    }
}

impl Node<AgentState> for LlmAnalysis {
    fn run<'a>(
        &'a self,
        state: &'a AgentState,
        _context: Context<'a>,
    ) -> NodeFuture<'a, AgentState> {
        NodeFuture::new(self.ask(state))
    }
}

/// Returns the update that stands in for an answer when the model has none and the run goes on all the same.
#[must_use]
pub fn degraded(error: &AgentError, model: &str) -> AgentUpdate {
    let metadata = object([
        ("error", error.to_string().into()),
        ("model", model.into()),
        ("error_type", error.class().into()),
    ]);
    finding(String::new(), "error", metadata)
}

fn finding(text: String, status: &str, metadata: Value) -> AgentUpdate {
    let finding = object([
        ("agent", "llm_analysis".into()),
        ("result", text.into()),
        ("status", status.into()),
        ("metadata", metadata.clone()),
    ]);
    let metadata = Map::from_iter([("llm_metadata".to_owned(), metadata)]);
    AgentUpdate {
        metadata: Some(metadata),
        ..AgentUpdate::finding("llm_analysis", finding, "orchestrator")
    }
}

fn input_block(state: &AgentState) -> String {
    let task = spoken(&state.task);
    let word = |agent: &str| state.agent_results.get(agent).map(result_word).unwrap_or_default();
    format!(
        "Task: {task}\n\nData: {}\n\nPrevious Analysis: {}\n\n{REQUEST}",
        word("data"),
        word("analysis")
    )
}

/// Returns what an agent's finding says in a word: its `result` where it has one, else all of it.
fn result_word(finding: &Value) -> String {
    spoken(finding.get("result").unwrap_or(finding))
}

fn spoken(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            value.to_string()
        }
    }
}
