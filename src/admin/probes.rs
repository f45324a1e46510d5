//! What a probe says, in the form that Kubernetes' own components use.

use serde_json::json;

use crate::telemetry::Report;

/// Says whether the query asks for every check: `?verbose`.
pub(super) fn verbose(query: &str) -> bool {
    query.split('&').any(|part| part.split('=').next() == Some("verbose"))
}

/// Returns the report without the checks that the query excludes: `?exclude=NAME`, any number of times.
pub(super) fn without_excluded(report: &Report, query: &str) -> Report {
    let excluded =
        |name: &str| query.split('&').any(|part| part.strip_prefix("exclude=") == Some(name));
    let checks = report.checks.iter().filter(|(name, _)| !excluded(name)).cloned();
    sum(checks.collect())
}

/// Returns the report of one check, if there is one of that name.
pub(super) fn only(report: Report, name: &str) -> Option<Report> {
    let check = report.checks.into_iter().find(|(known, _)| *known == name)?;
    Some(sum(vec![check]))
}

fn sum(checks: Vec<(&'static str, Result<(), String>)>) -> Report {
    Report { ok: checks.iter().all(|(_, outcome)| outcome.is_ok()), checks }
}

/// One line per check where asked for, and always where one didn't pass.
pub(super) fn text(probe: &str, report: &Report, verbose: bool) -> String {
    if report.ok && !verbose {
        return "ok\n".to_owned();
    }
    let line = |(name, outcome): &(&str, Result<(), String>)| match outcome {
        Ok(()) => format!("[+]{name} ok\n"),
        Err(reason) => format!("[-]{name} failed: {reason}\n"),
    };
    let mut text: String = report.checks.iter().map(line).collect();
    let verdict = if report.ok { "passed" } else { "failed" };
    text.push_str(&format!("{probe} check {verdict}\n"));
    text
}

pub(super) fn json(report: &Report) -> String {
    let check = |(name, outcome): &(&str, Result<(), String>)| match outcome {
        Ok(()) => json!({ "name": name, "ok": true }),
        Err(reason) => json!({ "name": name, "ok": false, "reason": reason }),
    };
    let checks: Vec<_> = report.checks.iter().map(check).collect();
    json!({ "ok": report.ok, "checks": checks }).to_string()
}
