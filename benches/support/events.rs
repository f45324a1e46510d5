//! The events that are measured with: about 300 bytes each, with an id that tells which one it is.

use uuid::Uuid;

/// What an event asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Task {
    /// No model.
    Plain,
    /// One call of the model.
    Model,
    /// One call of the model, which the stand-in never answers.
    Hang,
}

/// Returns the id of the event of this number.
pub(crate) fn id(number: u64) -> Uuid {
    Uuid::from_u64_pair(0x7765_6972_0000_4000, 0x8000_0000_0000_0000 | number)
}

/// Returns the number of the event of this id.
pub(crate) fn number(id: &[u8]) -> Option<u64> {
    Some(Uuid::try_parse_ascii(id).ok()?.as_u64_pair().1 & !0x8000_0000_0000_0000)
}

/// Returns an event as a client writes it.
pub(crate) fn event(number: u64, task: Task) -> String {
    let id = id(number);
    let task = match task {
        Task::Plain => "sum up the books",
        Task::Model => "analyze the books",
        Task::Hang => "analyze and hang",
    };
    format!(
        r#"{{"event_id":"{id}","event_type":"workflow.triggered","timestamp":"2025-01-27T10:00:00.123456+00:00","source":"airflow","workflow_id":"daily_report","workflow_run_id":"manual__{number}","payload":{{"data":{{"task":"{task} of month {number}"}}}},"metadata":{{"environment":"dev","version":"1.0"}}}}"#
    )
}

/// Returns `count` events, spread over `partitions` in turn.
pub(crate) fn events(
    partitions: i32,
    count: u64,
    task: Task,
) -> impl Iterator<Item = (i32, String)> {
    (0_i32..partitions).cycle().zip((0..count).map(move |number| event(number, task)))
}
