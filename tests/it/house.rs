//! The walls of the house, as ARCHITECTURE.md and docs/errors.md have them: read off the source.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns every source file with its path below `src`, tests left out.
fn sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    let src = root().join("src");
    let mut files = Vec::new();
    walk(&src, &mut files);
    let named = files.into_iter().map(|path| {
        let name = path.strip_prefix(&src).unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(path).unwrap())
    });
    named.filter(|(name, _)| !name.contains("tests")).collect()
}

fn room(file: &str) -> &str {
    file.split(['/', '.']).next().unwrap()
}

/// Checks that `word` stands only in the code of `rooms`; comments may name it.
fn only_in(word: &str, rooms: &[&str]) {
    for (file, text) in sources() {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let found = code.filter(|line| line.contains(word)).count();
        assert!(found == 0 || rooms.contains(&room(&file)), "{file} names {word}");
    }
}

#[test]
fn each_library_stays_in_its_rooms() {
    only_in("rdkafka::", &["kafka", "source", "sink"]);
    only_in("reqwest::", &["llm"]);
    only_in("axum::", &["admin", "cli"]);
    only_in("envy::", &["config"]);
    only_in("clap::", &["cli"]);
}

#[test]
fn no_feature_is_on_by_default() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let features = manifest.split("[features]").nth(1).unwrap().split("\n[").next().unwrap();

    assert!(features.contains("failpoints = []"));
    assert!(!features.contains("default"), "{features}");
}

#[test]
fn a_program_has_failpoints_only_where_it_was_built_with_them() {
    let program = fs::read(env!("CARGO_BIN_EXE_weir")).unwrap();
    let program = String::from_utf8_lossy(&program);

    for text in ["WEIR_FAILPOINT", "WEIR_BREAK", "commit.produced", "late-acknowledgement"] {
        assert_eq!(program.contains(text), cfg!(feature = "failpoints"), "{text}");
    }
}

#[test]
fn rooms_know_only_whom_they_may() {
    let check = |name: &str, never: &[&str]| {
        for (file, text) in sources().into_iter().filter(|(file, _)| room(file) == name) {
            for other in never {
                assert!(!text.contains(&format!("crate::{other}")), "{file} knows {other}");
            }
        }
    };

    let inner = [
        "event", "source", "dispatch", "workflow", "agents", "llm", "journal", "sink", "kafka",
        "admin",
    ];
    check(
        "graph",
        &[&inner[..], &["record", "retry", "config", "telemetry", "shutdown", "service"]].concat(),
    );
    check("journal", &["event", "source", "dispatch", "workflow", "graph", "llm", "sink", "kafka"]);
    check(
        "event",
        &["source", "dispatch", "workflow", "graph", "agents", "llm", "journal", "sink", "kafka"],
    );
    check(
        "llm",
        &["event", "source", "dispatch", "workflow", "graph", "agents", "journal", "sink", "kafka"],
    );
    check("agents", &["event", "source", "dispatch", "workflow", "journal", "sink", "kafka"]);
    check("source", &["event", "dispatch", "workflow", "graph", "agents", "llm", "sink"]);
    check("sink", &["event", "source", "dispatch", "workflow", "graph", "agents", "llm"]);
    check("dispatch", &["graph", "agents", "llm", "kafka"]);
    check("workflow", &["source", "dispatch", "kafka"]);
}

#[test]
fn the_machines_never_await_lock_or_log() {
    let machines = |file: &str| {
        file.starts_with("dispatch/machine/")
            || file.starts_with("journal/")
            || file == "sink/batch.rs"
            || file == "dispatch/lanes.rs"
            || file == "dispatch/offsets.rs"
            || file == "graph/superstep.rs"
    };
    for (file, text) in sources().into_iter().filter(|(file, _)| machines(file)) {
        for word in [".await", "async fn", "Mutex", "tracing::", "Instant::now", "SystemTime"] {
            assert!(!text.contains(word), "{file} has {word}");
        }
    }
}

#[test]
fn every_error_class_is_explained_and_every_explanation_is_of_one() {
    let prefixes = ["event", "agent", "workflow", "graph", "journal", "llm", "kafka", "sink"];
    let is_class = |word: &&str| {
        let Some((prefix, name)) = word.split_once('.') else { return false };
        prefixes.contains(&prefix)
            && !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let mut used = BTreeSet::new();
    for (file, text) in sources() {
        if !["config", "telemetry", "cli", "failpoint"].contains(&room(&file)) {
            used.extend(text.split('"').filter(is_class).map(str::to_owned));
        }
    }
    for event_type in ["triggered", "completed", "failed", "result"] {
        used.remove(&format!("workflow.{event_type}"));
    }
    let page = fs::read_to_string(root().join("docs/errors.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let explained: BTreeSet<_> =
        rows.filter_map(|row| row.split('`').nth(1)).map(str::to_owned).collect();

    assert_eq!(used, explained);
}
