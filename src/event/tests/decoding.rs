use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::record::{Epoch, Offset, PartitionId, Position, Record};

fn record(timestamp_ms: Option<i64>) -> Record {
    let position = Position { partition: PartitionId(3), offset: Offset(17), epoch: Epoch(1) };
    Record { position, timestamp_ms, key: None, value: None, deadline: None }
}

#[test]
fn what_an_event_lacks_comes_from_its_record() {
    let of = |record: &Record| Defaults::of("workflow-events", record);
    let given = of(&record(Some(1_737_972_000_123)));

    assert_eq!(given.event_id.get_version_num(), 5);
    assert_eq!(given.timestamp.to_string(), "2025-01-27T10:00:00.123000+00:00");
    assert_eq!(given, of(&Record { value: Some("x".into()), ..record(Some(1_737_972_000_123)) }));
    assert_ne!(given.event_id, Defaults::of("other", &record(None)).event_id);
    assert_eq!(of(&record(None)).timestamp, Timestamp::UNIX_EPOCH);
    assert_eq!(of(&record(Some(i64::MAX))).timestamp, Timestamp::UNIX_EPOCH);
}

#[test]
fn all_fields_at_fault_are_named_at_once() {
    let invalid = refused(
        r#"{"event_id":"x","timestamp":[],"source":"Airflow","workflow_id":1,"payload":{"data":null},"metadata":{}}"#,
    );

    assert_eq!(invalid.stage, Stage::Schema);
    assert_eq!(
        invalid.to_string(),
        "the event breaks the schema: event_id is not a UUID; event_type is missing; timestamp is neither a string \
         nor a number; source is none of airflow, langgraph, fastapi; workflow_id is not a string; workflow_run_id \
         is missing; payload.data is not an object; metadata.environment is missing"
    );
}

#[test]
fn a_refusal_never_shows_what_was_refused() {
    let secret = "hunter2".repeat(1000);
    for field in ["event_id", "event_type", "timestamp", "source", "payload", "metadata"] {
        let text = refused(event_where(field, &format!("\"{secret}\""))).to_string();

        assert!(!text.contains("hunter2") && text.len() < 200, "{text}");
    }
}

#[test]
fn each_stage_has_its_class_and_its_words() {
    for (value, class, words) in [
        (None, "event.null", "the record has no value"),
        (Some(&b"{\"a\":\"\xff\"}"[..]), "event.utf8", "the value is not UTF-8 at byte 6"),
        (Some(b""), "event.json", "the value is not JSON: no value at byte 0"),
        (Some(b"[{}]"), "event.not_object", "the value is JSON, but not an object"),
        (Some(b"NaN"), "event.not_object", "the value is JSON, but not an object"),
    ] {
        let invalid = decode(value, defaults).unwrap_err();

        assert_eq!((invalid.stage.class(), &*invalid.to_string()), (class, words));
    }
}

#[test]
fn ids_are_read_as_far_as_they_can_be() {
    let whole = event_with("{}");
    let head = whole.split("\"payload\"").next().unwrap();
    let all = Ids {
        event_id: Some(Uuid::parse_str(ID).unwrap()),
        workflow_id: Some("w".to_owned()),
        workflow_run_id: Some("r".to_owned()),
    };

    assert_eq!(refused(event_where("source", "1")).ids, all);
    assert_eq!(refused(head).ids, all);
    assert_eq!(refused([head.as_bytes(), b"\"payload\":\"\xff\"}"].concat()).ids, all);
    assert_eq!(refused(event_with(&"[".repeat(3000))).ids, all);
    assert_eq!(refused(event_with(&"7".repeat(4301))).ids, all);
    assert_eq!(refused(event_where("event_id", "1")).ids, Ids { event_id: None, ..all.clone() });
    assert_eq!(refused(event_where("workflow_id", "1")).ids, Ids { workflow_id: None, ..all });
    assert_eq!(refused(format!("[{whole}]")).ids, Ids::default());
}

#[test]
fn uuids_come_in_five_forms() {
    let plain = ID.replace('-', "");
    for (text, is_one) in [
        (ID.to_owned(), true),
        (ID.to_uppercase(), true),
        (plain.clone(), true),
        (format!("{{{ID}}}"), true),
        (format!("urn:uuid:{ID}"), true),
        (format!("URN:UUID:{ID}"), false),
        (format!("urn:uuid:{plain}"), false),
        (format!("urn:uuid:{{{ID}}}"), false),
        (format!("{{{plain}}}"), false),
        (format!(" {ID}"), false),
        (ID.replace("-9", "9-"), false),
    ] {
        let outcome =
            decode(Some(event_where("event_id", &format!("\"{text}\"")).as_bytes()), defaults);

        assert_eq!(outcome.is_ok_and(|event| event.event_id.to_string() == ID), is_one, "{text}");
    }
}

#[test]
fn timestamps_print_in_one_form() {
    for (value, expected) in [
        (r#""2024-02-29""#, Some("2024-02-29T00:00:00")),
        (r#""2025-01-27 10:00""#, Some("2025-01-27T10:00:00")),
        (r#""2025-01-27_10:00:00,5z""#, Some("2025-01-27T10:00:00.500000+00:00")),
        (r#""2025-01-27t10:00:00.9999999-0530""#, Some("2025-01-27T10:00:00.999999-05:30")),
        (r#""2025-01-27T10:00−00:30""#, Some("2025-01-27T10:00:00-00:30")),
        (r#""2025""#, Some("1970-01-01T00:33:45+00:00")),
        (r#""+1.5e1""#, Some("1970-01-01T00:00:15+00:00")),
        (r#""+1.5""#, Some("1970-01-01T00:00:01.500000+00:00")),
        (r#""1e9""#, None),
        (r#""1.e9""#, Some("2001-09-09T01:46:40+00:00")),
        ("20000000000", Some("2603-10-11T11:33:20+00:00")),
        ("20000000001", Some("1970-08-20T11:33:20.001000+00:00")),
        ("-20000000000.5", Some("1969-05-14T12:26:39.999500+00:00")),
        ("-0.25", Some("1969-12-31T23:59:59.750000+00:00")),
        ("0.9999996", Some("1970-01-01T00:00:01+00:00")),
        ("253402300799999", Some("9999-12-31T23:59:59.999000+00:00")),
        ("253402300800000", None),
        ("-62135596800000", Some("0001-01-01T00:00:00+00:00")),
        ("-62135596800001", None),
        ("1e300", None),
        ("NaN", None),
        ("true", None),
        (r#""2025-02-29""#, None),
        (r#""0000-01-01""#, None),
        (r#""2025-01-27T10:00:60""#, None),
        (r#""2025-01-27T24:00""#, None),
        (r#""2025-01-27T10:00.5""#, None),
        (r#""2025-01-27T10:00:00+24:00""#, None),
        (r#""2025-01-27T10:00:00+00:60""#, None),
        (r#""2025-01-27Z""#, None),
    ] {
        let text = event_where("timestamp", value);
        let time = decode(Some(text.as_bytes()), defaults).map(|event| event.timestamp.to_string());

        assert_eq!(time.ok().as_deref(), expected, "{value}");
    }
}

#[test]
fn the_inner_task_wins_by_presence() {
    for (data, task) in [
        ("{}", json!("process_workflow")),
        (r#"{"task":"outer"}"#, json!("outer")),
        (r#"{"task":"outer","data":{"task":null}}"#, json!(null)),
        (r#"{"task":"outer","data":{"data":{"task":"too deep"}}}"#, json!("outer")),
        (r#"{"data":{"task":"first"},"task":"outer","data":[{"task":"x"}]}"#, json!("outer")),
        (
            r#"{"t\u0061sk":"a","task":{"n":[NaN,1e400,18446744073709551616]}}"#,
            json!({"n": [null, null, 2f64.powi(64)]}),
        ),
        (r#"{"task":"\ud800"}"#, json!("\u{fffd}")),
    ] {
        assert_eq!(accepted(&event_with(data)).task(), task, "{data}");
    }
}

#[test]
fn the_normal_form_is_complete_and_keeps_integers() {
    let event = accepted(&event_where("metadata", r#"{"environment":"prod","team":"x"}"#));
    let big = accepted(&event_with(r#"{"n":340282366920938463463374607431768211456,"n2":NaN}"#));

    let normal = event.normal_form();

    assert_eq!(normal["metadata"], json!({"environment": "prod", "version": "1.0"}));
    assert_eq!(event.normal_text(), normal.to_string());
    assert!(
        big.normal_text().contains(r#"{"n":340282366920938463463374607431768211456,"n2":null}"#)
    );
}

#[test]
fn hostile_values_need_neither_much_stack_nor_much_time() {
    let hostile = [
        event_with(&"[".repeat(3_000)),
        event_with(&r#"{"a":"#.repeat(100_000)),
        "[".repeat(100_000),
        "{\"a\":".repeat(2_000_000),
        event_with(&"7".repeat(4_301)),
        format!("\"{}", "\\u00e9".repeat(1_600_000)),
        event_with(&format!(r#"{{"task":"{}"}}"#, "x".repeat(10_000_000))),
        event_with(&format!("{{{}\"z\":0}}", "\"a\":1,".repeat(1_600_000))),
    ];
    let started = jiff::Timestamp::now();
    let run = move || {
        for value in &hostile {
            match decode(Some(value.as_bytes()), defaults) {
                Ok(event) => drop(event.normal_text()),
                Err(invalid) => assert!(invalid.to_string().len() < 200),
            }
        }
    };

    std::thread::Builder::new().stack_size(128 << 10).spawn(run).unwrap().join().unwrap();

    assert!(
        jiff::Timestamp::now().duration_since(started).unsigned_abs() < Duration::from_secs(60)
    );
}
