//! A workflow event as a client writes it.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// What a client says when it wants a run.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Draft {
    /// The event's id, and its result's correlation id.
    pub(super) event_id: Uuid,
    /// The workflow, as the client names it.
    pub(super) workflow_id: String,
    /// The run of the workflow; the event's id when the client does not name it.
    pub(super) run_id: Option<String>,
    /// What is to be done.
    pub(super) task: Value,
    /// What else the client hands over.
    pub(super) data: Option<Value>,
    /// Which system asks.
    pub(super) source: &'static str,
    /// The environment that the event belongs to.
    pub(super) environment: &'static str,
}

impl Draft {
    /// Writes the event, stamped `now`.
    pub(super) fn write(&self, now: Timestamp) -> String {
        let event_id = self.event_id.to_string();
        let mut data = Map::from_iter([("task".to_owned(), self.task.clone())]);
        if let Some(handed_over) = &self.data {
            data.insert("data".to_owned(), handed_over.clone());
        }
        json!({
            "event_id": event_id,
            "event_type": "workflow.triggered",
            "timestamp": now.to_string(),
            "source": self.source,
            "workflow_id": self.workflow_id,
            "workflow_run_id": self.run_id.as_ref().unwrap_or(&event_id),
            "payload": { "data": data },
            "metadata": { "environment": self.environment, "version": "1.0" },
        })
        .to_string()
    }
}
