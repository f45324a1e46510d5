//! What holds for every input, and what the tests of this room share.

mod answers;
mod decoding;

use proptest::prelude::*;
use proptest::test_runner::Config;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::*;
use crate::record::{Offset, PartitionId};

const ID: &str = "2b0f8d8e-7a41-4a5e-9d0e-6f2a1f3c9b10";

fn defaults() -> Defaults {
    Defaults { event_id: Uuid::from_u128(7), timestamp: Timestamp::from_millis(1).unwrap() }
}

/// A valid event's text with `data` for its payload's data.
fn event_with(data: &str) -> String {
    format!(
        r#"{{"event_id":"{ID}","event_type":"workflow.triggered","timestamp":"2025-01-27T10:00:00Z",
        "source":"airflow","workflow_id":"w","workflow_run_id":"r","payload":{{"data":{data}}},
        "metadata":{{"environment":"dev"}}}}"#
    )
}

/// A valid event's text with `value` in the place of one field's.
fn event_where(field: &str, value: &str) -> String {
    let mut event: Map<String, Value> = serde_json::from_str(&event_with("{}")).unwrap();
    event.insert(field.to_owned(), json!("here"));
    Value::Object(event).to_string().replace(r#""here""#, value)
}

fn accepted(text: &str) -> WorkflowEvent {
    decode(Some(text.as_bytes()), defaults).unwrap()
}

fn refused(value: impl AsRef<[u8]>) -> InvalidEvent {
    decode(Some(value.as_ref()), defaults).unwrap_err()
}

fn letter(original: Original<'_>) -> DeadLetter<'_> {
    let origin = Origin {
        topic: "workflow-events",
        partition: PartitionId(3),
        offset: Offset(17),
        timestamp_ms: Some(5),
    };
    DeadLetter {
        id: Uuid::nil(),
        timestamp: jiff::Timestamp::UNIX_EPOCH,
        origin,
        original,
        class: "llm.timeout",
        message: "no answer",
        attempts: 4,
    }
}

/// Runs as often as `PROPTEST_CASES` says, and 20,000 times where proptest would run its own 256.
fn often() -> Config {
    let config = Config::default();
    Config { cases: if config.cases == 256 { 20_000 } else { config.cases }, ..config }
}

/// A valid event in which some places were overwritten, removed, doubled or cut off.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let data = r#"{"task":"caf\u00e9 \ud83d\ude80","data":{"n":[-1.5e-3,NaN,12345678901234567890123],"n":{}}}"#;
    let pieces = [
        "{", "}", "[", "]", "\"", "\\", ":", ",", "\\ud800", "1e999", "-", "NaN", "null", "\u{7f}",
        "é",
    ];
    let piece = prop_oneof![
        prop::sample::select(pieces.to_vec()).prop_map(|piece| piece.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec((any::<prop::sample::Index>(), 0..12_usize, piece), 1..6).prop_map(
        move |edits| {
            let mut bytes = event_with(data).into_bytes();
            for (index, removed, piece) in edits {
                let at = index.index(bytes.len() + 1);
                let end = (at + removed).min(bytes.len());
                bytes.splice(at..end, piece);
            }
            bytes
        },
    )
}

fn holds_together(value: &[u8]) -> Result<(), TestCaseError> {
    match decode(Some(value), defaults) {
        Ok(event) => {
            let text = event.normal_text();
            let again = accepted(&text);
            prop_assert_eq!(again.normal_text(), text);
            prop_assert_eq!(again.task(), event.task());
            prop_assert!(letter(Original::Event(&event)).encode(2048).len() <= 2048);
        }
        Err(invalid) => {
            prop_assert!(invalid.to_string().len() < 1024);
            prop_assert_eq!(invalid.faults.is_empty(), invalid.stage != Stage::Schema);
            let original = Original::Refused { value: Some(value), ids: &invalid.ids };
            prop_assert!(letter(original).encode(2048).len() <= 2048);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(often())]

    #[test]
    fn any_bytes_are_decoded_or_refused(value in prop::collection::vec(any::<u8>(), 0..64)) {
        holds_together(&value)?;
    }

    #[test]
    fn a_damaged_event_is_decoded_or_refused(value in mutated()) {
        holds_together(&value)?;
    }
}

proptest! {
    #[test]
    fn a_dead_letter_fits_whatever_the_texts(
        text in any::<String>(),
        times in 1..300_usize,
        limit in 2048..9000_usize,
    ) {
        let message = text.repeat(times);
        let long = json!(message).to_string();
        let event = event_where("workflow_id", &long)
            .replace("\"r\"", &long)
            .replace("\"dev\"", &format!("\"dev\",\"version\":{long}"));
        let event = accepted(&event);
        let letter = DeadLetter { message: &message, ..letter(Original::Event(&event)) };

        let bytes = letter.encode(limit);

        prop_assert!(bytes.len() <= limit);
        prop_assert!(serde_json::from_slice::<Value>(&bytes).is_ok());
    }
}
