use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::*;
use crate::event::json::DEPTH_MAX;

fn result_of(result: Map<String, Value>) -> WorkflowResult {
    WorkflowResult {
        correlation_id: Uuid::parse_str(ID).unwrap(),
        workflow_id: "w\"".to_owned(),
        workflow_run_id: String::new(),
        result,
        status: Status::Success,
        timestamp: jiff::Timestamp::constant(1_737_972_000, 120_000),
        error: None,
    }
}

fn encoded(result: &WorkflowResult) -> String {
    String::from_utf8(result.encode().to_vec()).unwrap()
}

#[test]
fn a_result_has_its_seven_fields_in_order() {
    let result = result_of(Map::from_iter([("é\n".to_owned(), json!([1, 1e16, -0.0, "/"]))]));

    assert_eq!(
        encoded(&result),
        format!(
            r#"{{"correlation_id":"{ID}","workflow_id":"w\"","workflow_run_id":"","result":{{"é\n":[1,1e+16,-0.0,"/"]}},"status":"success","timestamp":"2025-01-27T10:00:00.000120+00:00","error":null}}"#
        )
    );
    assert_eq!(result.record().0, ID);
}

fn read(letter: &DeadLetter<'_>, limit: usize) -> Value {
    let bytes = letter.encode(limit);
    assert!(bytes.len() <= limit, "{} bytes for {limit}", bytes.len());
    serde_json::from_slice(&bytes).unwrap()
}

#[test]
fn a_dead_letter_of_an_event_tells_it_in_full() {
    let event = accepted(&event_with(r#"{"task":"t"}"#));
    let letter = letter(Original::Event(&event));

    assert_eq!(
        read(&letter, 4096),
        json!({
            "dlq_id": Uuid::nil(),
            "timestamp": "1970-01-01T00:00:00+00:00",
            "original_event": event.normal_form(),
            "error": {"type": "llm.timeout", "message": "no answer", "traceback": null},
            "retry_count": 3,
            "context": {"workflow_id": "w", "workflow_run_id": "r"},
            "source": {"topic": "workflow-events", "partition": 3, "offset": 17, "timestamp_ms": 5},
        })
    );
    assert_eq!(letter.key().unwrap(), ID);
    let headers = letter.headers();
    let text: Vec<String> =
        headers.iter().map(|(name, text)| format!("{name}={}", text.escape_ascii())).collect();
    assert_eq!(
        text.join(" "),
        "weir.error.class=llm.timeout weir.original.topic=workflow-events weir.original.partition=3 \
         weir.original.offset=17 weir.original.timestamp=5 weir.attempts=4"
    );
}

#[test]
fn a_dead_letter_of_a_refused_record_holds_its_bytes() {
    for (value, object, original) in [
        (
            None,
            json!(null),
            json!({"encoding": "utf-8", "value": null, "size": 0, "truncated": false}),
        ),
        (
            Some(&b"\xff\xfe\xfd"[..]),
            json!(null),
            json!({"encoding": "base64", "value": "//79", "size": 3, "truncated": false}),
        ),
        (
            Some(b"{\"a\":1}"),
            json!({"a": 1}),
            json!({"encoding": "utf-8", "value": "{\"a\":1}", "size": 7, "truncated": false}),
        ),
        (
            Some(b"{\"a\":NaN}"),
            json!(null),
            json!({"encoding": "utf-8", "value": "{\"a\":NaN}", "size": 9, "truncated": false}),
        ),
        (
            Some(b"[]"),
            json!(null),
            json!({"encoding": "utf-8", "value": "[]", "size": 2, "truncated": false}),
        ),
    ] {
        let ids = decode(value, defaults).unwrap_err().ids;
        let letter = DeadLetter { attempts: 0, ..letter(Original::Refused { value, ids: &ids }) };

        let read = read(&letter, 2048);

        assert_eq!((&read["original_event"], &read["original"]), (&object, &original));
        assert_eq!(read["context"], json!({"workflow_id": null, "workflow_run_id": null}));
        assert_eq!((&read["retry_count"], letter.key()), (&json!(0), None));
    }
}

#[test]
fn what_does_not_fit_is_cut_and_marked() {
    let event = accepted(&event_with(&format!(r#"{{"task":"{}"}}"#, "x".repeat(5000))));

    let read = read(&letter(Original::Event(&event)), 2048);

    assert_eq!(read["original_event"]["payload"], json!({"data": null}));
    assert_eq!(read["original_event"]["event_id"], json!(ID));
    assert_eq!(read["original"]["truncated"], json!(true));
    assert_eq!(read["original"]["size"], json!(event.normal_text().len()));
    assert!(event.normal_text().starts_with(read["original"]["value"].as_str().unwrap()));
}

#[test]
fn a_long_message_does_not_drive_out_the_event() {
    let event = accepted(&event_with(r#"{"task":"t"}"#));
    let message = "no answer\n".repeat(10_000);

    let read = read(&DeadLetter { message: &message, ..letter(Original::Event(&event)) }, 2048);

    assert_eq!(read["original_event"], event.normal_form());
    assert!(read["error"]["message"].as_str().unwrap().ends_with('…'));
}

#[test]
fn the_bytes_stay_when_only_they_or_the_object_fit() {
    let value = json!({"a": "x".repeat(1000)}).to_string();
    let ids = Ids::default();

    let read = read(&letter(Original::Refused { value: Some(value.as_bytes()), ids: &ids }), 2048);

    assert_eq!(read["original_event"], json!(null));
    assert_eq!(read["original"]["value"], json!(value));
}

#[test]
fn the_deepest_event_can_be_used_to_the_full() {
    let deep = DEPTH_MAX - 3;
    let data = r#"{"task":"#.repeat(deep) + "{}" + &"}".repeat(deep);
    let run = move || {
        let event = accepted(&event_with(&data));
        let result = Map::from_iter([("task".to_owned(), event.task())]);

        assert_eq!(event.normal_form().to_string(), event.normal_text());
        assert!(encoded(&result_of(result)).len() > deep);
        assert!(letter(Original::Event(&event)).encode(1 << 20).len() > data.len());
    };

    std::thread::Builder::new().stack_size(2 << 20).spawn(run).unwrap().join().unwrap();
}
