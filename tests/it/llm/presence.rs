//! Whether an endpoint is there, and what stands in for it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use weir::llm::{
    ChatModel as _, Config, Ollama, Presence, QueueTime, Reachability, Request, Scripted,
};

use crate::support::model_server::{ModelServer, Reply};

use super::{SOON, ask, client, ollama, openai};

#[tokio::test]
async fn calls_wait_for_an_endpoint_that_is_not_up_yet() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let client = client(&ollama(&format!("http://{address}")));
    let (cancel, states) = (CancellationToken::new(), Arc::new(Mutex::new(Vec::new())));
    let log = Arc::clone(&states);
    let watch = client.watch(cancel.clone(), move |state| log.lock().unwrap().push(state));
    let mut tasks = JoinSet::new();
    tasks.spawn(watch);
    let queue = QueueTime::default();

    let starting = async {
        sleep(2 * SOON).await;
        let listener = TcpListener::bind(address).await.unwrap();
        ModelServer::on(listener, vec![Reply::ollama("up")])
    };
    let request = Request::prompt("hi", &queue);
    let (answer, server) = tokio::join!(client.ask(request), starting);

    assert_eq!(answer.unwrap().text, "up");
    assert!(queue.total() >= 2 * SOON, "{:?}", queue.total());
    assert_eq!(server.counts().requests, 1);
    cancel.cancel();
    tasks.join_next().await.unwrap().unwrap();
    let states = states.lock().unwrap();
    assert!(
        matches!(&states[0], Reachability::Waiting(reason) if reason.contains("refused")),
        "{states:?}"
    );
    assert_eq!(states.last(), Some(&Reachability::Ready));
}

#[tokio::test]
async fn calls_go_on_when_the_time_to_start_is_over() {
    let config = Config { start_timeout: SOON, ..ollama("http://127.0.0.1:1") };
    let client = client(&config);
    let mut tasks = JoinSet::new();
    tasks.spawn(client.watch(CancellationToken::new(), |_| ()));
    let begun = Instant::now();

    let error = ask(&client, "hi").await.unwrap_err();

    assert_eq!(error.class(), "llm.unreachable");
    assert!(begun.elapsed() >= SOON / 2 && begun.elapsed() < 10 * SOON, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn nothing_waits_for_a_watch_that_ended() {
    let (url, _server) = ModelServer::start(vec![Reply::ollama("x")]).await;
    let client = client(&ollama(&url));

    drop(client.watch(CancellationToken::new(), |_| ()));

    assert_eq!(ask(&client, "hi").await.unwrap().timings.queued, Duration::ZERO);
}

#[tokio::test]
async fn a_check_tells_what_stands_there() {
    let show = r#"{"model_info":{"general.architecture":"llama","llama.context_length":131072}}"#;
    let missing = r#"{"error":"model 'llama3.2:latest' not found"}"#;
    let (url, server) = ModelServer::start(vec![]).await;
    server.page("/api/show", [Reply::json(200, show), Reply::json(404, missing)]);
    let client = client(&ollama(&url));

    let report = client.check().await.unwrap();
    assert_eq!(&*report.endpoint, url);
    assert_eq!(report.version.as_deref(), Some("0.17.4"));
    assert_eq!((report.presence, report.context_length), (Presence::Present, Some(131_072)));
    assert_eq!(server.probed()[1].json(), json!({ "model": "llama3.2:latest" }));
    assert_eq!(report.digest, None);

    assert_eq!(client.check().await.unwrap().presence, Presence::Missing);
}

#[tokio::test]
async fn an_answer_names_the_digest_that_a_list_has_told() {
    let (url, server) = ModelServer::start(vec![Reply::ollama("x")]).await;
    let tags = r#"{"models":[{"name":"other:latest"},{"name":"Llama3.2:latest","digest":"a70ff7e570d9"}]}"#;
    server.page("/api/tags", [Reply::json(200, tags)]);
    let client = client(&ollama(&url));

    assert_eq!(ask(&client, "hi").await.unwrap().digest, None);
    assert_eq!(client.check().await.unwrap().digest.as_deref(), Some("a70ff7e570d9"));
    let probes = server.counts().probes;
    assert_eq!(ask(&client, "hi").await.unwrap().digest.as_deref(), Some("a70ff7e570d9"));
    assert_eq!(server.counts().probes, probes);
}

#[tokio::test]
async fn a_check_of_an_openai_server_reads_its_list() {
    let (url, _server) = ModelServer::start(vec![Reply::of(404, "text/plain", "no")]).await;
    let mut config = openai(&url);
    let presence =
        async |config: &Config| client(config).check().await.map(|report| report.presence);

    assert_eq!(presence(&config).await, Ok(Presence::Present));
    "other".clone_into(&mut config.openai.model);
    assert_eq!(presence(&config).await, Ok(Presence::Missing));
    let at = json!({ "base_url": format!("{url}/without/list") });
    config.openai = serde_json::from_value(at).unwrap();
    assert_eq!(presence(&config).await, Ok(Presence::Unknown));
}

#[tokio::test]
async fn a_check_says_why_it_can_not() {
    let config = ollama("http://127.0.0.1:1");
    assert_eq!(client(&config).check().await.unwrap_err().class(), "llm.unreachable");

    let (url, _server) = ModelServer::start(vec![Reply::of(404, "text/plain", "no")]).await;
    let config = ollama(&format!("{url}/wrong"));
    assert_eq!(client(&config).check().await.unwrap_err().class(), "llm.wrong_url");
}

#[tokio::test]
async fn a_scripted_answer_says_that_it_is_scripted() {
    let queue = QueueTime::default();
    let request = Request::prompt("\nanalyze this", &queue);

    let answer = Scripted::labelled().ask(request).await.unwrap();

    assert!(answer.text.starts_with("[scripted: no model was asked]"), "{}", answer.text);
    assert!(answer.text.ends_with("analyze this"), "{}", answer.text);
    assert_eq!(&*answer.model, "scripted");
}

#[test]
fn a_client_of_the_default_configuration_can_be_made() {
    assert_eq!(&**client(&Config::default()).endpoint(), "http://localhost:11434");
    assert_eq!(&*Ollama::default().model, &**client(&Config::default()).model());
}
