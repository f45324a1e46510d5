//! The published JSON Schemas against what really goes over the wire.

use jsonschema::Validator;
use serde_json::{Map, Value, json};
use uuid::Uuid;
use weir::event::{
    DEAD_LETTER_SCHEMA, DeadLetter, Defaults, EVENT_SCHEMA, Origin, Original, RESULT_SCHEMA, Stage,
    Status, Timestamp, WorkflowEvent, WorkflowResult, decode,
};
use weir::record::{Offset, PartitionId};

use crate::support::vectors::rows;

#[test]
fn the_schemas_are_schemas() {
    for text in [EVENT_SCHEMA, RESULT_SCHEMA, DEAD_LETTER_SCHEMA] {
        let schema: Value = serde_json::from_str(text).unwrap();

        assert!(jsonschema::meta::is_valid(&schema), "{}", schema["$id"]);
        for example in schema["examples"].as_array().into_iter().flatten() {
            assert_valid(&validator(text), example);
        }
    }
}

/// Plain JSON only: of the wider dialect a schema knows nothing. Nor does it know a calendar.
#[test]
fn the_event_schema_accepts_and_refuses_as_decode_does() {
    let schema = validator(EVENT_SCHEMA);
    let mut compared = 0;
    for row in rows("event_validation.jsonl") {
        let Some(text) = row["input_json"].as_str() else { continue };
        let Ok(value) = serde_json::from_str::<Value>(text) else { continue };
        let accepted = match decode(Some(text.as_bytes()), defaults) {
            Ok(event) => {
                assert_valid(&schema, &event.normal_form());
                true
            }
            Err(invalid) => {
                if invalid.faults.iter().all(|fault| fault.field == "timestamp")
                    && invalid.stage == Stage::Schema
                {
                    continue;
                }
                false
            }
        };

        assert_eq!(schema.is_valid(&value), accepted, "{}", row["name"]);
        compared += 1;
    }
    assert!(compared > 100, "{compared}");
}

#[test]
fn results_keep_their_schema() {
    let schema = validator(RESULT_SCHEMA);
    for (status, error) in [
        (Status::Success, None),
        (Status::Failure, Some("the model has no room".to_owned())),
        (Status::Error, Some(String::new())),
    ] {
        let result = WorkflowResult {
            correlation_id: Uuid::from_u128(7),
            workflow_id: String::new(),
            workflow_run_id: "r".to_owned(),
            result: Map::from_iter([("completed".to_owned(), json!(true))]),
            status,
            timestamp: jiff::Timestamp::constant(1_737_972_000, 1_000),
            error,
        };

        assert_valid(&schema, &serde_json::from_slice(&result.encode()).unwrap());
    }
}

#[test]
fn dead_letters_keep_their_schema_whole_and_cut() {
    let schema = validator(DEAD_LETTER_SCHEMA);
    let event = example();
    let refused: [Option<&[u8]>; 6] = [
        None,
        Some(b""),
        Some(b"\xff\xfe"),
        Some(b"[1]"),
        Some(b"{\"a\":NaN}"),
        Some(b"{\"event_id\":1}"),
    ];

    for limit in [2048, 1 << 20] {
        assert_valid(&schema, &written(Original::Event(&event), limit));
        for value in refused {
            let invalid = decode(value, defaults).unwrap_err();
            assert_valid(&schema, &written(Original::Refused { value, ids: &invalid.ids }, limit));
        }
    }
}

fn example() -> WorkflowEvent {
    let text = json!({
        "event_type": "workflow.triggered",
        "source": "fastapi",
        "workflow_id": "w",
        "workflow_run_id": "r",
        "payload": {"data": {"task": "x".repeat(3000)}},
        "metadata": {"environment": "prod"},
    });
    decode(Some(text.to_string().as_bytes()), defaults).unwrap()
}

fn written(original: Original<'_>, limit: usize) -> Value {
    let letter = DeadLetter {
        id: Uuid::from_u128(1),
        timestamp: jiff::Timestamp::UNIX_EPOCH,
        origin: Origin {
            topic: "workflow-events",
            partition: PartitionId(3),
            offset: Offset(17),
            timestamp_ms: Some(1_737_972_000_123),
        },
        original,
        class: "event.schema",
        message: "the event breaks the schema",
        attempts: 0,
    };
    serde_json::from_slice(&letter.encode(limit)).unwrap()
}

fn defaults() -> Defaults {
    Defaults { event_id: Uuid::from_u128(7), timestamp: Timestamp::UNIX_EPOCH }
}

fn validator(schema: &str) -> Validator {
    jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap()
}

fn assert_valid(schema: &Validator, value: &Value) {
    let faults: Vec<String> = schema.iter_errors(value).map(|error| error.to_string()).collect();
    assert!(faults.is_empty(), "{faults:?} in {value:.300}");
}
