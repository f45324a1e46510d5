//! What comes back.

use std::time::Duration;

use tokio::net::TcpListener;
use weir::llm::{Config, Cut, Fault};
use weir::retry::Disposition;

use crate::support::model_server::{Abort, Chunk, Framing, ModelServer, Reply};

use super::{DONE, SAID, ask, client, error, ollama, openai, outcome};

#[tokio::test]
async fn every_refusal_has_its_class() {
    let busy = r#"{"error":"server busy, please try again.  maximum pending requests exceeded"}"#;
    let ended = r#"{"error":"llama runner process has terminated"}"#;
    let missing = r#"{"error":"model 'm' not found"}"#;
    fails(Reply::json(503, busy), "llm.overloaded").await;
    fails(Reply::json(500, ended), "llm.server_error").await;
    fails(Reply::json(404, missing), "llm.model_missing").await;
    fails(Reply::of(404, "text/plain", "404 page not found"), "llm.wrong_url").await;
    fails(Reply::of(403, "text/plain", ""), "llm.unauthorized").await;
}

/// Refuses with the first bytes of a body, over a connection that breaks there, and returns the class and whether the
/// event ends by it.
async fn cut(status: u16, body: &str, at: usize) -> (&'static str, bool) {
    let reply = Reply::json(status, body.get(..at).unwrap()).with_abort(Abort::Unterminated);
    let error = error(vec![reply], |_| ()).await;
    (error.class(), error.disposition() == Disposition::Reject)
}

#[tokio::test]
async fn a_refusal_that_is_cut_is_taken_by_its_status() {
    let missing = r#"{"error":"model 'm' not found"}"#;
    let long = r#"{"error":"the input length exceeds the context length"}"#;
    for at in 0..=missing.len() {
        assert_eq!(cut(404, missing, at).await, ("llm.wrong_url", true), "{at}");
        assert_eq!(cut(500, missing, at).await, ("llm.server_error", false), "{at}");
    }
    for at in 0..=long.len() {
        assert_eq!(cut(400, long, at).await, ("llm.invalid_request", true), "{at}");
    }
}

#[tokio::test]
async fn every_fault_of_a_body_has_its_class() {
    let error = "{\"error\":\"an error was encountered\"}\n";
    let gzip = Reply::stream([SAID, DONE]).with_header("Content-Encoding", "gzip");
    fails(Reply::of(200, "text/html", "<html>not json</html>"), "llm.bad_output").await;
    fails(gzip, "llm.bad_output").await;
    fails(Reply::json(200, ""), "llm.truncated").await;
    fails(Reply::stream([SAID]), "llm.truncated").await;
    fails(Reply::stream([SAID]).with_framing(Framing::Close), "llm.truncated").await;
    fails(Reply::stream([SAID, error]), "llm.server_error").await;
}

#[tokio::test]
async fn who_ended_an_answer_too_early_is_told() {
    let check = async |reply: Reply, temperature, cut, disposition| {
        let shown = format!("{reply:?}");
        let error = error(vec![reply], |config| config.ollama.temperature = temperature).await;
        assert!(matches!(&error.fault, Fault::Truncated { cut: is, .. } if *is == cut), "{shown}");
        assert_eq!(error.disposition(), disposition, "{shown}");
    };
    let again = Disposition::Retry { after: None };
    let said = || Reply::stream([SAID]);
    check(said(), 0.7, Cut::Ended, again).await;
    check(said().with_framing(Framing::Length), 0.7, Cut::Ended, again).await;
    check(said(), 0.0, Cut::EndedForGood, Disposition::Reject).await;
    check(said().with_framing(Framing::Close), 0.0, Cut::Broken, again).await;
    check(said().with_abort(Abort::MidChunk), 0.0, Cut::Broken, again).await;
    check(said().with_abort(Abort::Unterminated), 0.0, Cut::Broken, again).await;
    check(Reply::stream([SAID, "{\"resp"]), 0.0, Cut::Broken, again).await;
}

#[tokio::test]
async fn every_break_of_a_connection_has_its_class() {
    let length = Reply::stream([SAID, DONE]).with_framing(Framing::Length);
    let done = Reply::stream([SAID, DONE]);
    fails(Reply::stream([]).with_abort(Abort::BeforeHeaders), "llm.reset").await;
    fails(Reply::stream([]).with_abort(Abort::CloseBeforeHeaders), "llm.reset").await;
    fails(done.clone().with_abort(Abort::AfterHeaders), "llm.truncated").await;
    fails(Reply::stream([SAID]).with_abort(Abort::MidChunk), "llm.truncated").await;
    fails(Reply::stream([SAID]).with_abort(Abort::Unterminated), "llm.truncated").await;
    // The answer may be whole; that the message is not means that something else may be missing too.
    fails(done.with_abort(Abort::MidChunk), "llm.truncated").await;
    fails(length.with_abort(Abort::MidChunk), "llm.truncated").await;
}

async fn fails(reply: Reply, class: &str) {
    let shown = format!("{reply:?}");
    assert_eq!(outcome(vec![reply]).await, Err(class), "{shown}");
}

#[tokio::test]
async fn any_framing_and_any_success_will_do() {
    let check = async |reply: Reply| assert_eq!(outcome(vec![reply]).await, Ok("ab".to_owned()));
    check(Reply::stream([SAID, DONE])).await;
    check(Reply::stream([SAID, DONE]).with_framing(Framing::Length)).await;
    check(Reply::stream([SAID, DONE]).with_framing(Framing::Close)).await;
    check(Reply { status: 201, ..Reply::stream([SAID, DONE]) }).await;
    check(Reply::stream([SAID, DONE]).with_header("Content-Encoding", "identity")).await;
    check(Reply::stream([SAID, DONE]).slowly(Duration::from_millis(20))).await;
}

#[tokio::test]
async fn a_charset_is_honoured_and_a_split_character_is_whole() {
    let latin = Reply {
        chunks: vec![Chunk::bytes(b"{\"response\":\"caf\xe9\",\"done\":true}\n")],
        ..Reply::stream([]).with_header("Content-Type", "application/x-ndjson; charset=iso-8859-1")
    };
    assert_eq!(outcome(vec![latin]).await, Ok("caf\u{e9}".to_owned()));

    let pieces = [b"{\"response\":\"\xe2\x82".as_slice(), b"\xac\",\"done\":true}\n"];
    let split = Reply {
        chunks: pieces.into_iter().map(Chunk::bytes).collect(),
        ..Reply::stream([]).slowly(Duration::from_millis(20))
    };
    assert_eq!(outcome(vec![split]).await, Ok("\u{20ac}".to_owned()));
}

#[tokio::test]
async fn a_server_says_when_to_come_back() {
    let busy = Reply::json(503, r#"{"error":"busy"}"#).with_header("Retry-After", "7");
    let error = error(vec![busy], |_| ()).await;

    assert_eq!(error.disposition(), Disposition::Retry { after: Some(Duration::from_secs(7)) });
}

#[tokio::test]
async fn an_answer_ends_at_its_limits() {
    let long = || vec![Reply::ollama(&"x".repeat(5000))];

    let error = error(long(), |config| config.max_answer = bytesize::ByteSize::b(4999)).await;
    assert_eq!(error.fault, Fault::TooLarge { what: "answer", limit: 4999 });
    assert_eq!(outcome(long()).await, Ok("x".repeat(5000)));

    let limit = |config: &mut Config| config.max_line = bytesize::ByteSize::b(4000);
    let error = super::error(long(), limit).await;
    assert_eq!(error.fault, Fault::TooLarge { what: "line", limit: 4000 });
}

#[tokio::test]
async fn redirects_are_followed_at_home_only() {
    let to = |status, location: &str| {
        Reply::of(status, "text/plain", "").with_header("Location", location)
    };

    let (url, server) = ModelServer::start(vec![to(302, "/other"), Reply::ollama("after")]).await;
    assert_eq!(ask(&client(&ollama(&url)), "hi").await.unwrap().text, "after");
    let methods: Vec<_> = server.requests().into_iter().map(|r| (r.method, r.target)).collect();
    let expected = [("POST", "/api/generate"), ("GET", "/other")];
    assert_eq!(methods, expected.map(|(method, target)| (method.to_owned(), target.to_owned())));

    let (url, server) = ModelServer::start(vec![to(307, "/x"), Reply::ollama("after")]).await;
    assert_eq!(ask(&client(&ollama(&url)), "hi").await.unwrap().text, "after");
    assert_eq!(server.requests()[1].json()["prompt"], "hi");

    let away =
        error(vec![to(302, "http://ada:hunter2@127.0.0.2:{PORT}/x?key=hunter2")], |_| ()).await;
    assert_eq!(away.class(), "llm.redirected");
    assert!(away.to_string().contains("redirects to http://127.0.0.2:"), "{away}");
    assert!(!away.to_string().contains("hunter2"), "{away}");

    let (url, server) = ModelServer::start(vec![to(302, "/again")]).await;
    let round = ask(&client(&ollama(&url)), "hi").await.unwrap_err();
    assert_eq!(round.class(), "llm.redirected");
    assert_eq!(server.counts().requests, 4);
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let url = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let refused = ask(&client(&ollama(&url)), "hi").await.unwrap_err();
    assert_eq!(refused.class(), "llm.unreachable");
    assert!(refused.to_string().starts_with(&format!("{url}: no connection: ")), "{refused}");
    assert!(refused.to_string().contains("refused"), "{refused}");

    let unknown = client(&ollama("http://no-such-host.invalid:1234"));
    assert_eq!(ask(&unknown, "hi").await.unwrap_err().class(), "llm.unreachable");
}

#[tokio::test]
async fn no_secret_is_in_any_text() {
    let echo =
        Reply::json(401, r#"{"error":{"message":"Incorrect API key provided: sk-hunter2."}}"#);
    let (url, _server) = ModelServer::start(vec![echo]).await;
    let config = openai(&url);
    let client = client(&config);

    let error = ask(&client, "hi").await.unwrap_err();

    let shown = format!("{error} {error:?} {client:?} {config:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(error.to_string().ends_with("Incorrect API key provided: [redacted]."), "{error}");
}
