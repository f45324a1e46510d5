//! What weir answers to an event: the record of the results topic.

use bytes::Bytes;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::Timestamp;
use super::json::{Object, push_object};

/// The one result of an event.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkflowResult {
    /// The event's id: what the client waits for.
    pub correlation_id: Uuid,
    /// The event's workflow.
    pub workflow_id: String,
    /// The event's run of it.
    pub workflow_run_id: String,
    /// The run's final state, as far as it came; empty when there was no run.
    pub result: Map<String, Value>,
    /// How it ended.
    pub status: Status,
    /// When it ended.
    pub timestamp: jiff::Timestamp,
    /// Why it did not succeed; `None` on success.
    pub error: Option<String>,
}

/// How an event ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// The graph ran to its end, and every agent did its work.
    Success,
    /// The workflow itself ended badly.
    Failure,
    /// It could not be run.
    Error,
}

impl WorkflowResult {
    /// Writes it as compact JSON: all seven fields, always, in the contract's order.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut result = String::new();
        push_object(&mut result, &self.result);
        let object = Object::new()
            .text("correlation_id", &self.correlation_id.to_string())
            .text("workflow_id", &self.workflow_id)
            .text("workflow_run_id", &self.workflow_run_id)
            .json("result", &result)
            .text("status", self.status.as_str())
            .text("timestamp", &Timestamp::from(self.timestamp).to_string())
            .optional("error", self.error.as_deref());
        object.end().into()
    }

    /// Returns the record's key: the correlation id as text, so that the results of one event stay
    /// together.
    #[must_use]
    pub fn key(&self) -> Bytes {
        self.correlation_id.to_string().into()
    }
}

impl Status {
    /// Returns the word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Error => "error",
        }
    }
}
