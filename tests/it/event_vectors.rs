//! Recorded events of the service that weir replaces: what it accepted, what it made of it, what it
//! published.

use std::collections::BTreeSet;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Map, Value, json};
use uuid::Uuid;
use weir::event::{
    DeadLetter, Defaults, InvalidEvent, Origin, Original, Stage, Status, Timestamp, WorkflowEvent,
    WorkflowResult, decode,
};
use weir::record::{Offset, PartitionId};

use crate::support::vectors::rows;

#[test]
fn event_validation_vectors_agree() {
    check("event_validation.jsonl", agrees);
}

#[test]
fn state_conversion_vectors_agree_on_task_and_metadata() {
    check("state_conversion.jsonl", |row| {
        let event =
            decode_text(&row["event"].to_string()).map_err(|invalid| invalid.to_string())?;
        let state = generated(&row["state"], &event);
        let metadata = event.run_metadata();

        same("task", &state["task"], &event.task())?;
        same("metadata", &state["metadata"], &Value::Object(metadata.clone()))?;
        same("order", &row["metadata_key_order"], &keys(&metadata))
    });
}

#[test]
fn envelope_vectors_agree_on_results_and_dead_letters() {
    check("envelopes.jsonl", |row| {
        let messages = row["messages"].as_array().ok_or("no messages")?;
        messages.iter().filter(|message| message["value"].is_object()).try_for_each(|message| {
            if message["kind"] == "dlq" {
                dead_letter_agrees(row, message)
            } else {
                result_agrees(message)
            }
        })
    });
}

fn check(file: &str, agrees: impl Fn(&Value) -> Result<(), String>) {
    let rows = rows(file);
    let differing: Vec<String> = rows
        .iter()
        .filter_map(|row| Some(format!("{}: {}", row["name"], agrees(row).err()?)))
        .collect();

    assert!(!rows.is_empty());
    assert!(
        differing.is_empty(),
        "{} of {} rows differ:\n{}",
        differing.len(),
        rows.len(),
        differing.join("\n")
    );
}

fn agrees(row: &Value) -> Result<(), String> {
    match (decode(Some(&input(row)), defaults), row["accept"] == true) {
        (Ok(event), true) => normal_form_agrees(row, &event),
        (Err(invalid), false) => refusal_agrees(row, &invalid),
        (Ok(_), false) => Err(format!("accepted, not refused as {}", row["reject_stage"])),
        (Err(invalid), true) => Err(format!("refused: {invalid}")),
    }
}

fn refusal_agrees(row: &Value, invalid: &InvalidEvent) -> Result<(), String> {
    let stage = match invalid.stage {
        Stage::Null => "null",
        Stage::Utf8 { .. } => "utf8",
        Stage::Json(_) => "json",
        Stage::NotObject => "not_object",
        Stage::Schema => "validation",
    };
    let fields: BTreeSet<&str> = invalid.faults.iter().map(|fault| fault.field).collect();
    let expected: BTreeSet<&str> =
        row["error_fields"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();

    same("stage", &row["reject_stage"], &json!(stage))?;
    same("fields", &json!(expected), &json!(fields))
}

/// Where plain JSON could not carry the recorded normal form, its text is read back instead: a
/// normal form is an event again, with itself for its normal form.
fn normal_form_agrees(row: &Value, event: &WorkflowEvent) -> Result<(), String> {
    let expected = generated(&row["normalized"], event);
    if expected.is_object() {
        same("normal form", &expected, &event.normal_form())?;
    }
    if let Some(text) = generated(&row["normalized_text"], event).as_str() {
        let recorded =
            decode_text(text).map_err(|invalid| format!("normal form refused: {invalid}"))?;
        same("read back", &recorded.normal_form(), &event.normal_form())?;
    }
    let again = decode_text(&event.normal_text())
        .map_err(|invalid| format!("own form refused: {invalid}"))?;
    same("own form", &json!(event.normal_text()), &json!(again.normal_text()))?;
    let time = event.timestamp.to_string();
    let is_aware = time.get(19..).is_some_and(|rest| rest.contains(['+', '-']));
    same("zone", &row["timestamp_aware"], &json!(is_aware))
}

fn result_agrees(message: &Value) -> Result<(), String> {
    let expected = &message["value"];
    let text = |field: &str| expected[field].as_str().map(str::to_owned);
    let now = jiff::Timestamp::UNIX_EPOCH;
    let result = WorkflowResult {
        correlation_id: Uuid::parse_str(&text("correlation_id").unwrap_or_default()).unwrap(),
        workflow_id: text("workflow_id").unwrap_or_default(),
        workflow_run_id: text("workflow_run_id").unwrap_or_default(),
        result: expected["result"].as_object().cloned().ok_or("no object")?,
        status: [Status::Success, Status::Failure, Status::Error]
            .into_iter()
            .find(|status| expected["status"] == status.as_str())
            .ok_or("no such status")?,
        timestamp: now,
        error: text("error"),
    };

    let encoded: Value = serde_json::from_slice(&result.encode()).unwrap();

    let mut expected = expected.clone();
    expected["timestamp"] = json!("1970-01-01T00:00:00+00:00");
    same("value", &expected, &encoded)?;
    same("order", &message["key_order"], &keys(encoded.as_object().unwrap()))
}

/// All but the class, which is weir's own, and the retries, which are counted now.
fn dead_letter_agrees(row: &Value, message: &Value) -> Result<(), String> {
    let expected = &message["value"];
    let event = decode_text(row["event_json"].as_str().ok_or("no event")?)
        .map_err(|invalid| format!("refused: {invalid}"))?;
    let letter = DeadLetter {
        id: Uuid::nil(),
        timestamp: jiff::Timestamp::UNIX_EPOCH,
        origin: Origin {
            topic: "t",
            partition: PartitionId(0),
            offset: Offset(0),
            timestamp_ms: None,
        },
        original: Original::Event(&event),
        class: "agent.task_not_text",
        message: expected["error"]["message"].as_str().unwrap_or_default(),
        attempts: 4,
    };

    let encoded: Value = serde_json::from_slice(&letter.encode(1 << 20)).unwrap();

    let mut expected = generated(expected, &event);
    expected["dlq_id"] = json!(Uuid::nil().to_string());
    expected["timestamp"] = json!("1970-01-01T00:00:00+00:00");
    expected["error"]["type"] = json!("agent.task_not_text");
    let order = keys(encoded.as_object().unwrap());
    same("order", &message["key_order"], &json!(order.as_array().unwrap()[..6]))?;
    expected["source"] = encoded["source"].clone();
    same("value", &expected, &encoded)
}

fn input(row: &Value) -> Vec<u8> {
    match row["input_json"].as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => BASE64_STANDARD.decode(row["input_b64"].as_str().unwrap()).unwrap(),
    }
}

fn decode_text(text: &str) -> Result<WorkflowEvent, InvalidEvent> {
    decode(Some(text.as_bytes()), defaults)
}

fn defaults() -> Defaults {
    let timestamp = Timestamp::from_millis(1_737_972_000_123).unwrap();
    Defaults { event_id: Uuid::from_u128(7), timestamp }
}

/// Puts what the event was given in the place of what the recorder called `$generated`.
fn generated(value: &Value, event: &WorkflowEvent) -> Value {
    let text = value.to_string();
    let text = text
        .replace(r#""event_id":"$generated""#, &format!(r#""event_id":"{}""#, event.event_id))
        .replace(r#""timestamp":"$generated""#, &format!(r#""timestamp":"{}""#, event.timestamp))
        .replace(
            r#"\"event_id\": \"$generated\""#,
            &format!(r#"\"event_id\": \"{}\""#, event.event_id),
        )
        .replace(
            r#"\"timestamp\": \"$generated\""#,
            &format!(r#"\"timestamp\": \"{}\""#, event.timestamp),
        );
    serde_json::from_str(&text).unwrap()
}

fn keys(map: &Map<String, Value>) -> Value {
    json!(map.keys().collect::<Vec<_>>())
}

fn same(what: &str, expected: &Value, actual: &Value) -> Result<(), String> {
    let (expected, actual) = (expected.to_string(), actual.to_string());
    if expected == actual {
        return Ok(());
    }
    Err(format!("{what}\n  expected {expected:.300}\n  actual   {actual:.300}"))
}
