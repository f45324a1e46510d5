//! What the report of a fetch says.

use crate::llm::pull::Progress;

fn progress(lines: &[&str]) -> Result<Progress, &'static str> {
    let mut progress = Progress::default();
    for line in lines {
        progress.take(line.as_bytes()).map_err(|fault| fault.class())?;
    }
    Ok(progress)
}

#[test]
fn parts_add_up() {
    let progress = progress(&[
        r#"{"status":"pulling manifest"}"#,
        r#"{"status":"pulling aa","digest":"sha256:aa","total":1900000000,"completed":100}"#,
        r#"{"status":"pulling aa","digest":"sha256:aa","total":1900000000,"completed":1100000000}"#,
        r#"{"status":"pulling bb","digest":"sha256:bb","total":100000000}"#,
        "",
    ]);

    assert_eq!(progress.unwrap().tell("m"), "pulling m: 1.1 GB of 2.0 GB");
}

#[test]
fn only_success_is_a_success() {
    let check = |lines: &[&str], expected: Result<(), &'static str>| {
        let read = progress(lines).and_then(|p| p.finish().map_err(|fault| fault.class()));
        assert_eq!(read, expected, "{lines:?}");
    };
    check(&[r#"{"status":"verifying sha256 digest"}"#, r#"{"status":"success"}"#], Ok(()));
    check(&[], Err("llm.truncated"));
    check(&[r#"{"status":"pulling manifest"}"#], Err("llm.truncated"));
    check(&["<html>"], Err("llm.bad_output"));
    let missing = r#"{"error":"pull model manifest: file does not exist"}"#;
    check(&[r#"{"status":"pulling manifest"}"#, missing], Err("llm.model_missing"));
    let unreachable =
        r#"{"error":"pull model manifest: Get \"https://x\": dial tcp: no such host"}"#;
    check(&[unreachable], Err("llm.server_error"));
}

#[test]
fn a_report_without_end_stays_small() {
    let mut progress = Progress::default();
    for part in 0..10_000 {
        let line = format!(r#"{{"status":"x","digest":"{part}","total":1,"completed":1}}"#);
        progress.take(line.as_bytes()).unwrap();
    }

    assert_eq!(progress.tell("m"), "pulling m: 256 B of 256 B");
}
