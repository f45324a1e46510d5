//! Whether the model is there, and what is done when it is not.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use weir::llm::{
    Availability, ChatModel as _, Client, Config, KeepAlive, Message, Pull, QueueTime,
};
use weir::llm::{Request, Role};

use crate::support::model_server::{ModelServer, Reply};

use super::{SOON, ask, client, ollama};

const PATIENCE: Duration = Duration::from_secs(10);

fn missing() -> Reply {
    Reply::json(404, r#"{"error":"model 'llama3.2' not found"}"#)
}

fn shown() -> Reply {
    Reply::json(200, r#"{"model_info":{"llama.context_length":131072}}"#)
}

fn pulling(url: &str) -> Config {
    let mut config = ollama(url);
    config.ollama.pull = Pull::Missing;
    config
}

/// Cares for a client's model, and keeps what it says.
struct Cared {
    states: Arc<Mutex<Vec<Availability>>>,
    _tasks: JoinSet<()>,
}

impl Cared {
    fn start(client: &Client) -> Self {
        let (states, mut tasks) = (Arc::<Mutex<Vec<_>>>::default(), JoinSet::new());
        let log = Arc::clone(&states);
        let task =
            client.care(CancellationToken::new(), move |state| log.lock().unwrap().push(state));
        tasks.spawn(task);
        Self { states, _tasks: tasks }
    }

    async fn until(&self, wanted: impl Fn(&[Availability]) -> bool) -> Vec<Availability> {
        let seen = timeout(PATIENCE, async {
            while !wanted(&self.states.lock().unwrap()) {
                sleep(Duration::from_millis(5)).await;
            }
        });
        seen.await.unwrap_or_else(|_| panic!("{:?}", self.states.lock().unwrap()));
        self.states.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn a_missing_model_is_told_with_its_remedy() {
    let (url, server) = ModelServer::start(vec![missing()]).await;
    server.page("/api/show", [missing()]);
    let client = client(&ollama(&url));
    let cared = Cared::start(&client);

    let states = cared.until(|states| !states.is_empty()).await;

    let reason = format!(
        "llama3.2:latest is not at {url}; run `ollama pull llama3.2:latest` there, or see OLLAMA_PULL"
    );
    assert_eq!(states, [Availability::Missing(reason)]);
    assert_eq!(ask(&client, "hi").await.unwrap_err().class(), "llm.model_missing");
    assert!(server.probed().iter().all(|request| request.target != "/api/pull"));
}

#[tokio::test]
async fn calls_wait_while_the_model_is_fetched() {
    let (url, server) = ModelServer::start(vec![Reply::ollama("here")]).await;
    server.page("/api/show", [missing(), shown()]);
    let part = |completed: u64| {
        let line = json!({ "status": "pulling aa", "digest": "sha256:aa", "total": 2_000_000_000_u64, "completed": completed });
        format!("{line}\n")
    };
    let (some, all) = (part(1_200_000_000), part(2_000_000_000));
    let lines = ["{\"status\":\"pulling manifest\"}\n", &some, &all, "{\"status\":\"success\"}\n"];
    server.page("/api/pull", [Reply::stream(lines).slowly(SOON / 3)]);
    let client = client(&pulling(&url));
    let cared = Cared::start(&client);
    let queue = QueueTime::default();

    let answer = timeout(PATIENCE, client.ask(Request::prompt("hi", &queue))).await.unwrap();

    assert_eq!(answer.unwrap().text, "here");
    assert!(queue.total() >= SOON, "{:?}", queue.total());
    let states = cared.until(|states| states.contains(&Availability::Ready)).await;
    let expected = Availability::Pulling("pulling llama3.2:latest: 1.2 GB of 2.0 GB".to_owned());
    assert!(states.contains(&expected), "{states:?}");
    let probed = server.probed();
    let pull = probed.iter().find(|request| request.target == "/api/pull").unwrap();
    assert_eq!(pull.json(), json!({ "model": "llama3.2:latest", "stream": true }));
}

#[tokio::test]
async fn calls_do_not_wait_long_for_a_fetch_where_another_model_stands_in() {
    let (url, server) = ModelServer::start(vec![Reply::ollama("instead")]).await;
    server.page("/api/show", [missing()]);
    let manifest = "{\"status\":\"pulling manifest\"}\n";
    server.page("/api/pull", [Reply::stream([manifest; 100]).slowly(SOON)]);
    let mut config = pulling(&url);
    config.ollama.fallback_model = Some("small".to_owned());
    config.start_timeout = SOON;
    let client = client(&config);
    let _cared = Cared::start(&client);

    let answer = timeout(PATIENCE, ask(&client, "hi")).await.unwrap().unwrap();

    assert_eq!((&*answer.text, &*answer.model), ("instead", "small"));
    assert_eq!(answer.instead_of.as_deref(), Some("llama3.2:latest"));
}

#[tokio::test]
async fn a_fetch_that_breaks_off_is_asked_for_again() {
    let (url, server) = ModelServer::start(vec![Reply::ollama("here")]).await;
    server.page("/api/show", [missing(), missing(), shown()]);
    let manifest = "{\"status\":\"pulling manifest\"}\n";
    let success = Reply::stream([manifest, "{\"status\":\"success\"}\n"]);
    server.page("/api/pull", [Reply::stream([manifest]), success]);
    let client = client(&pulling(&url));
    let cared = Cared::start(&client);

    assert_eq!(timeout(PATIENCE, ask(&client, "hi")).await.unwrap().unwrap().text, "here");

    let states = cared.until(|states| states.contains(&Availability::Ready)).await;
    let broke = |state: &Availability| matches!(state, Availability::Missing(reason) if reason.contains("without `success`"));
    assert!(states.iter().any(broke), "{states:?}");
}

#[tokio::test]
async fn a_model_that_nobody_has_holds_no_call_back() {
    let (url, server) = ModelServer::start(vec![missing()]).await;
    server.page("/api/show", [missing()]);
    let unknown = "{\"error\":\"pull model manifest: file does not exist\"}\n";
    server.page("/api/pull", [Reply::stream([unknown])]);
    let client = client(&pulling(&url));
    let cared = Cared::start(&client);

    let error = timeout(PATIENCE, ask(&client, "hi")).await.unwrap().unwrap_err();

    assert_eq!(error.class(), "llm.model_missing");
    cared.until(|states| matches!(states, [Availability::Missing(reason), ..] if reason.contains("file does not exist"))).await;
}

#[tokio::test]
async fn a_model_that_is_removed_while_weir_runs_is_fetched_again_and_costs_no_call() {
    let gone = Reply::json(404, r#"{"error":"model 'llama3.2:latest' not found"}"#);
    let (url, server) = ModelServer::start(vec![gone, Reply::ollama("back")]).await;
    server.page("/api/show", [shown(), missing(), shown()]);
    let success = "{\"status\":\"success\"}\n";
    server.page("/api/pull", [Reply::stream([success]).slowly(SOON)]);
    let client = client(&pulling(&url));
    let cared = Cared::start(&client);
    cared.until(|states| states.contains(&Availability::Ready)).await;

    let answer = timeout(PATIENCE, ask(&client, "hi")).await.unwrap().unwrap();

    assert_eq!(answer.text, "back");
    assert!(answer.timings.queued >= SOON, "{:?}", answer.timings);
    assert_eq!(server.counts().requests, 2);
}

#[tokio::test]
async fn a_model_that_is_not_there_after_its_fetch_is_no_hot_loop() {
    let (url, server) = ModelServer::start(vec![missing()]).await;
    server.page("/api/show", [missing()]);
    server.page("/api/pull", [Reply::stream(["{\"status\":\"success\"}\n"])]);
    let client = client(&pulling(&url));
    let cared = Cared::start(&client);

    let is_told = |state: &Availability| matches!(state, Availability::Missing(reason) if reason.contains("that it is not there"));
    cared.until(|states| states.iter().any(is_told)).await;
    sleep(Duration::from_secs(1)).await;

    let pulls = server.probed().iter().filter(|request| request.target == "/api/pull").count();
    assert_eq!(pulls, 1);
}

#[tokio::test]
async fn an_endpoint_that_is_away_holds_calls_for_its_time_only() {
    let config = Config { start_timeout: SOON, ..pulling("http://127.0.0.1:1") };
    let client = client(&config);
    let cared = Cared::start(&client);

    let error = timeout(PATIENCE, ask(&client, "hi")).await.unwrap().unwrap_err();

    assert_eq!(error.class(), "llm.unreachable");
    assert_eq!(*cared.states.lock().unwrap(), []);
}

#[tokio::test]
async fn every_request_runs_the_model_alike() {
    let (url, server) = ModelServer::start(vec![Reply::ollama("{}")]).await;
    let mut config = ollama(&url);
    config.ollama.num_ctx = Some(4096);
    config.ollama.keep_alive = Some(KeepAlive::For(Duration::from_mins(5)));
    let client = client(&config);
    let cared = Cared::start(&client);
    let mut tasks = JoinSet::new();
    tasks.spawn(client.watch(CancellationToken::new(), |_| ()));
    cared.until(|states| states.contains(&Availability::Ready)).await;
    let (messages, queue) = ([Message::new(Role::User, "hi")], QueueTime::default());

    client.check().await.unwrap();
    ask(&client, "hi").await.unwrap();
    ask(&client, &"word ".repeat(3000)).await.unwrap();
    client.ask(Request::chat(&messages, &queue)).await.unwrap();

    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    for request in &requests {
        let body = request.json();
        let terms = (&body["options"]["num_ctx"], &body["keep_alive"], &body["shift"]);
        assert_eq!(terms, (&json!(4096), &json!(300), &json!(false)), "{body}");
    }
    // What only asks loads nothing: no request that names options or a time to stay.
    for request in server.probed() {
        let body = request.json();
        let fields = body.as_object().map(|object| object.keys().cloned().collect::<Vec<_>>());
        assert!(fields.is_none_or(|fields| fields == ["model"]), "{} {body}", request.target);
    }
}
