//! What weir answers to an event: the record of the results topic.

use std::ops::Range;

use bytes::Bytes;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::json::{Object, push_object, written_size};

/// What a result takes besides its ids' texts and its state: the names, the id, the status and the time.
const FRAME: usize = 256;

/// Where the correlation id stands in a result.
const KEY: Range<usize> = 19..55;

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
        let texts = [&self.workflow_id, &self.workflow_run_id].map(String::len);
        let size = FRAME + texts.iter().sum::<usize>() + written_size(&self.result);
        let object = Object::with_capacity(size)
            .id("correlation_id", self.correlation_id)
            .text("workflow_id", &self.workflow_id)
            .text("workflow_run_id", &self.workflow_run_id)
            .written("result", |out| push_object(out, &self.result))
            .text("status", self.status.as_str())
            .timestamp("timestamp", self.timestamp.into())
            .optional("error", self.error.as_deref());
        object.end().into()
    }

    /// Writes the record: its key, which is the correlation id as text, so that the results of one event stay
    /// together, and its value. The key is a view of the value, where it stands first.
    #[must_use]
    pub fn record(&self) -> (Bytes, Bytes) {
        let value = self.encode();
        (value.slice(KEY), value)
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
