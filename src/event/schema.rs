//! The JSON Schemas of what goes over the wire, for those who write clients.

/// The schema (draft 2020-12) of a workflow event.
pub const EVENT_SCHEMA: &str = include_str!("../../docs/schemas/event.json");

/// The schema (draft 2020-12) of a workflow result.
pub const RESULT_SCHEMA: &str = include_str!("../../docs/schemas/result.json");

/// The schema (draft 2020-12) of a dead letter.
pub const DEAD_LETTER_SCHEMA: &str = include_str!("../../docs/schemas/dead-letter.json");

/// Returns the schema of `event`, `result` or `dead-letter`.
#[must_use]
pub fn schema(name: &str) -> Option<&'static str> {
    match name {
        "event" => Some(EVENT_SCHEMA),
        "result" => Some(RESULT_SCHEMA),
        "dead-letter" => Some(DEAD_LETTER_SCHEMA),
        _ => None,
    }
}
