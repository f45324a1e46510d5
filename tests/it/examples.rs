//! The programs of `examples/`, run as somebody runs them who wants to copy them.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::support::kafka::PATIENCE;
use crate::support::model_server::{ModelServer, Reply};
use crate::support::ollama::real_model;

/// Where cargo puts an example: beside the program.
fn example(name: &str) -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_weir"));
    let path = program.parent().unwrap().join("examples").join(name);
    let how = "`cargo test` builds it; with --test, `cargo build --example` does";
    assert!(path.exists(), "{} is not there: {how}", path.display());
    path
}

async fn research(url: &str, model: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(example("research"));
    command.args(arguments).env_clear().stdin(Stdio::null()).kill_on_drop(true);
    command.env("OLLAMA_BASE_URL", url).env("OLLAMA_MODEL", model);
    timeout(6 * PATIENCE, command.output()).await.expect("an end").unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn research_asks_three_at_once_and_hands_their_findings_to_the_editor() {
    let findings = ["dear", "loud", "unclear"];
    let mut replies: Vec<Reply> = findings.map(Reply::ollama).to_vec();
    replies.push(Reply::ollama("Rather not."));
    let replies = replies.into_iter().map(|reply| reply.slowly(Duration::from_millis(100)));
    let (url, server) = ModelServer::start(replies.collect()).await;

    let ended = research(&url, "m", &["A disco in the library?"]).await;

    assert!(ended.status.success(), "{}", text(&ended.stderr));
    assert_eq!(text(&ended.stdout), "Rather not.\n");
    assert_eq!(server.counts().in_flight_max, 3);
    let prompts: Vec<String> =
        server.requests().iter().map(|request| request.json()["prompt"].to_string()).collect();
    let [researchers @ .., editor] = &prompts[..] else { panic!("{prompts:?}") };
    assert_eq!(researchers.len(), 3);
    assert!(prompts.iter().all(|prompt| prompt.contains("A disco in the library?")));
    assert!(findings.iter().all(|finding| editor.contains(finding)), "{editor}");
    let told = text(&ended.stderr);
    assert!(told.starts_with("superstep 1: economist, neighbour, sceptic\n"), "{told}");
    assert!(told.ends_with("done, 12 tokens\n\n"), "{told}");
}

#[tokio::test]
async fn research_with_a_record_asks_only_what_was_not_answered() {
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("answers.jsonl");
    let arguments = ["--record", record.to_str().unwrap(), "Why?"];
    let refused = Reply::json(404, r#"{"error":"model 'm' not found"}"#);
    let (url, _server) =
        ModelServer::start(vec![Reply::ollama("one"), Reply::ollama("two"), refused]).await;

    let first = research(&url, "m", &arguments).await;
    // What a crash leaves of a line that was being written.
    let torn = std::fs::read_to_string(&record).unwrap() + "\n[\"Why?\",\"editor\",0,{\"summ";
    std::fs::write(&record, torn).unwrap();
    let (url, server) =
        ModelServer::start(vec![Reply::ollama("three"), Reply::ollama("Because.")]).await;
    let second = research(&url, "m", &arguments).await;
    let third = research("http://127.0.0.1:9", "m", &arguments).await;

    assert_eq!(first.status.code(), Some(1));
    assert!(text(&first.stderr).ends_with("no such model: model 'm' not found\n"));
    assert_eq!((text(&second.stdout), server.requests().len()), ("Because.\n".to_owned(), 2));
    assert_eq!(text(&second.stderr).matches("has answered before").count(), 2);
    assert_eq!(text(&third.stdout), "Because.\n");
}

#[tokio::test]
async fn research_draws_its_graph_and_asks_nobody() {
    let ended = research("http://127.0.0.1:9", "m", &["--mermaid"]).await;

    assert!(text(&ended.stdout).starts_with("flowchart TD\n"), "{}", text(&ended.stderr));
    assert_eq!(text(&ended.stdout).matches("--> j0\n").count(), 3);
}

#[tokio::test]
async fn research_ends_with_a_real_models_answer() {
    let Some((url, model)) = real_model() else {
        return;
    };

    let ended = research(&url, &model, &["Is water wet?"]).await;

    let told = text(&ended.stderr);
    assert!(ended.status.success(), "{told}");
    assert_eq!(told.matches(" answered in ").count(), 4, "{told}");
    assert!(told.contains("\nsuperstep 2: editor\n"), "{told}");
}
