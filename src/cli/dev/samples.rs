//! The events that are tried: one of each kind of end.

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cli::draft::Draft;

/// An event to try.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    /// Its id.
    pub(super) id: Uuid,
    /// What is to be seen in it.
    pub(super) about: &'static str,
    /// Whether a dead letter comes of it.
    pub(super) fails: bool,
    /// Its bytes.
    pub(super) event: String,
}

/// Returns the samples, in the order in which they are tried.
pub(super) fn samples(now: Timestamp) -> Vec<Sample> {
    let sample = |about, fails, workflow: &str, task: Value, environment| {
        let id = Uuid::new_v4();
        let draft = Draft {
            event_id: id,
            workflow_id: workflow.to_owned(),
            run_id: None,
            task,
            data: None,
            source: "airflow",
            environment,
        };
        Sample { id, about, fails, event: draft.write(now) }
    };
    vec![
        sample(
            "a task that needs no model",
            false,
            "stock",
            json!("Reconcile the stock with yesterday's orders"),
            "dev",
        ),
        sample(
            "a task for the model",
            false,
            "sales",
            json!("Analyze the sales of last week and recommend what to reorder"),
            "dev",
        ),
        sample("a task that is no text: the run fails half-way", true, "stock", json!(42), "dev"),
        sample(
            "an environment that does not exist: no event at all",
            true,
            "sales",
            json!("Summarize the month"),
            "production",
        ),
    ]
}
