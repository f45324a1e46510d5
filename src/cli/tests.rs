use std::io;

use clap::CommandFactory as _;
use serde_json::json;

use super::terminal::{Ink, Style, chain};
use super::*;

#[test]
fn the_command_line_is_sound() {
    Arguments::command().debug_assert();
}

#[test]
fn colours_are_for_terminals_whose_owner_does_not_mind() {
    let style = |name: &str, value: &str| Style::for_terminal(&vec![(name.into(), value.into())]);

    assert_eq!(style("TERM", "xterm"), Style::Coloured);
    assert_eq!(style("NO_COLOR", ""), Style::Coloured);
    assert_eq!(style("NO_COLOR", "1"), Style::Plain);
    assert_eq!(style("TERM", "dumb"), Style::Plain);
    assert_eq!(Style::Coloured.paint(Ink::Red, "no"), "\x1b[31mno\x1b[0m");
    assert_eq!(Style::Plain.paint(Ink::Red, "no"), "no");
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Outer(&'static str, #[source] io::Error);

#[test]
fn an_error_is_told_with_its_causes_and_nothing_twice() {
    let cause = || io::Error::other("the disk is full");

    assert_eq!(chain(&Outer("write the log", cause())), "write the log: the disk is full");
    assert_eq!(chain(&Outer("it: the disk is full", cause())), "it: the disk is full");
}

#[test]
fn a_draft_is_an_event_with_all_that_was_said() {
    let event_id = "0b5e8f2a-1c3d-4e5f-8a9b-0c1d2e3f4a5b";
    let draft = draft::Draft {
        event_id: event_id.parse().unwrap(),
        workflow_id: "sales".to_owned(),
        run_id: None,
        task: json!("Analyze \"sales\""),
        data: Some(json!({ "region": "EMEA" })),
        source: "fastapi",
        environment: "prod",
    };
    let now = "2026-11-23T10:00:00.25Z".parse().unwrap();

    let event: serde_json::Value = serde_json::from_str(&draft.write(now)).unwrap();

    assert_eq!(
        event,
        json!({
            "event_id": event_id,
            "event_type": "workflow.triggered",
            "timestamp": "2026-11-23T10:00:00.25Z",
            "source": "fastapi",
            "workflow_id": "sales",
            "workflow_run_id": event_id,
            "payload": { "data": { "task": "Analyze \"sales\"", "data": { "region": "EMEA" } } },
            "metadata": { "environment": "prod", "version": "1.0" },
        })
    );
}
