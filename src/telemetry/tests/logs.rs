use std::io;
use std::sync::{Arc, Mutex};

use tracing::{debug, info, info_span};
use tracing_subscriber::layer::SubscriberExt as _;

use super::metrics::read;
use super::*;
use crate::telemetry::logs::{Json, report_panics};

/// A log kept in memory.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What `write` logs, line by line.
pub(super) fn logged(write: impl FnOnce()) -> Vec<serde_json::Value> {
    let log = Log::default();
    let writer = log.clone();
    let layer = Json { writer: move || writer.clone() };
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), write);
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_log_line_is_one_flat_object() {
    let lines = logged(|| {
        info!(partition = 3, offset = -7i64, share = 0.5, ok = true, "paused \"it\"\n\t\\{}", 'ü');
    });

    let line = lines[0].as_object().unwrap();
    let keys: Vec<_> = line.keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        ["timestamp", "level", "target", "message", "partition", "offset", "share", "ok"]
    );
    assert_eq!(line["message"], "paused \"it\"\n\t\\ü");
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["target"], "weir::telemetry::tests::logs");
    assert_eq!(
        (&line["partition"], &line["offset"], &line["share"], &line["ok"]),
        (&3.into(), &(-7).into(), &0.5.into(), &true.into())
    );
    let timestamp = line["timestamp"].as_str().unwrap();
    assert!(timestamp.len() == 27 && timestamp.ends_with('Z'), "{timestamp}");
    assert_eq!(timestamp.find('T'), Some(10));
}

#[test]
fn every_character_survives_the_log() {
    let all: String = (0..0x3000).filter_map(char::from_u32).chain(['😀', '\u{10ffff}']).collect();

    let lines = logged(|| info!(text = all, debug = ?all, "{all}"));

    assert_eq!(lines.len(), 1);
    assert_eq!(
        (&lines[0]["text"], &lines[0]["message"]),
        (&all.as_str().into(), &all.as_str().into())
    );
    assert_eq!(lines[0]["debug"], format!("{all:?}"));
}

#[test]
fn the_fields_of_spans_are_on_the_line_and_the_innermost_counts() {
    let lines = logged(|| {
        let run = info_span!("run", event_id = "e1", attempt = 1, node = tracing::field::Empty);
        run.record("attempt", 2);
        let _run = run.entered();
        let _node = info_span!("node", node = "llm_analysis", attempt = 3).entered();
        debug!(event_id = "e2", r#type = "x", level = "y", ratio = f64::NAN, "called");
    });

    let mut line = lines[0].clone();
    line.as_object_mut().unwrap().remove("timestamp");
    assert_eq!(
        line,
        serde_json::json!({
            "level": "DEBUG", "target": "weir::telemetry::tests::logs", "message": "called",
            "event_id": "e2", "type": "x", "level_": "y", "ratio": "NaN", "node": "llm_analysis", "attempt": 3,
        })
    );
}

#[test]
fn a_value_that_can_not_be_shown_spoils_no_line() {
    struct Broken;
    impl std::fmt::Display for Broken {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("half a ")?;
            Err(std::fmt::Error)
        }
    }

    let lines = logged(|| info!(broken = %Broken, after = 1, "shown"));

    assert_eq!((&lines[0]["broken"], &lines[0]["after"]), (&serde_json::Value::Null, &1.into()));
}

#[test]
fn a_panic_is_counted_and_logged() {
    let metrics = Metrics::default();
    let before = std::panic::take_hook();

    let lines = logged(|| {
        report_panics(metrics.clone());
        let caught = std::panic::catch_unwind(|| panic!("node {} broke", 7));
        assert!(caught.is_err());
    });
    std::panic::set_hook(before);

    assert_eq!(read(&metrics.encode())["weir_panics_total"], 1.0);
    assert_eq!((&lines[0]["level"], &lines[0]["panic"]), (&"ERROR".into(), &"node 7 broke".into()));
    assert!(lines[0]["place"].as_str().unwrap().contains("logs.rs:"));
}
