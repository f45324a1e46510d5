//! What the agents share, and how their updates become part of it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::graph;
use crate::llm::{QueueTime, Usage};

use super::AgentError;
use super::messages::{Message, add_messages};

/// The state of one run.
#[derive(Debug, Clone, Default)]
pub struct AgentState {
    /// The conversation; empty for a run that an event started.
    pub messages: Vec<Message>,
    /// What is asked; any JSON value, though only text can be worked on.
    pub task: Value,
    /// What each agent found, by the agent's name.
    pub agent_results: Map<String, Value>,
    /// Who is next; the orchestrator writes it for the router.
    pub current_agent: Cow<'static, str>,
    /// Whether the work is done.
    pub completed: bool,
    /// Where the event came from, and what the model said of itself.
    pub metadata: Map<String, Value>,
    /// How long the run has waited for its turn at a model; no part of the result.
    pub queue_time: QueueTime,
}

/// What an agent writes: absent fields stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AgentUpdate {
    /// Added to the conversation, or replacing messages of the same id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<Vec<Message>>,
    /// Merged by key, the new entry wins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_results: Option<Map<String, Value>>,
    /// Replaces the old value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_agent: Option<Cow<'static, str>>,
    /// Replaces the old value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed: Option<bool>,
    /// Merged by key, the new entry wins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
    /// What a model counted for this update; no part of the state, but the journal keeps it.
    #[serde(skip)]
    pub usage: Option<Usage>,
}

impl graph::State for AgentState {
    type Update = AgentUpdate;
    type Error = AgentError;

    fn apply(&mut self, update: AgentUpdate) {
        let AgentUpdate { messages, agent_results, current_agent, completed, metadata, usage: _ } =
            update;
        if let Some(messages) = messages {
            add_messages(&mut self.messages, messages);
        }
        if let Some(findings) = agent_results {
            merge(&mut self.agent_results, findings);
        }
        if let Some(metadata) = metadata {
            merge(&mut self.metadata, metadata);
        }
        if let Some(agent) = current_agent {
            self.current_agent = agent;
        }
        self.completed = completed.unwrap_or(self.completed);
    }
}

impl AgentState {
    /// Returns what a result carries of the state: `completed`, `agent_results`, `task`, `metadata`, in this order.
    #[must_use]
    pub fn into_result(self) -> Map<String, Value> {
        let mut result = Map::with_capacity(4);
        result.insert("completed".into(), self.completed.into());
        result.insert("agent_results".into(), self.agent_results.into());
        result.insert("task".into(), self.task);
        result.insert("metadata".into(), self.metadata.into());
        result
    }
}

impl AgentUpdate {
    /// Returns an update that enters one agent's finding and names who is next.
    pub(super) fn finding(agent: &str, finding: Value, next: &'static str) -> Self {
        let agent_results = Some(std::iter::once((agent.to_owned(), finding)).collect());
        Self { agent_results, current_agent: Some(next.into()), ..Self::default() }
    }
}

/// Merges `right` into `left` by key, not deeper; `right` wins.
pub fn merge(left: &mut Map<String, Value>, right: Map<String, Value>) {
    left.extend(right);
}
