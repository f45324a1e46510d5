//! The model client against a server that replies as it is told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use weir::llm::{
    Answer, ChatModel as _, Client, Config, DoneReason, Error, Fault, Observation, Ollama, Phase,
    Presence, Provider, QueueTime, Reachability, Request, Scripted, Usage,
};
use weir::retry::Disposition;

use crate::support::model_server::{Abort, Chunk, Framing, ModelServer, Reply};

const SOON: Duration = Duration::from_millis(150);
const LATER: Duration = Duration::from_secs(20);

fn ollama(url: &str) -> Config {
    let ollama = serde_json::from_value(json!({ "base_url": url, "temperature": 0.7 })).unwrap();
    Config {
        ollama,
        ..Config::default()
    }
}

fn openai(url: &str) -> Config {
    let openai =
        serde_json::from_value(json!({ "base_url": format!("{url}/v1"), "api_key": "sk-hunter2" }));
    Config {
        provider: Provider::OpenAi,
        openai: openai.unwrap(),
        ..Config::default()
    }
}

fn client(config: &Config) -> Client {
    Client::new(config, Arc::new(|_| ())).unwrap()
}

async fn ask(client: &Client, prompt: &str) -> Result<Answer, Error> {
    let queue = QueueTime::default();
    client
        .ask(Request {
            system: None,
            prompt,
            queue: &queue,
        })
        .await
}

/// Asks Ollama once and returns what it came to: the text, or the class.
async fn outcome(replies: Vec<Reply>) -> Result<String, &'static str> {
    let (url, _server) = ModelServer::start(replies).await;
    let asked = ask(&client(&ollama(&url)), "hi").await;
    asked
        .map(|answer| answer.text)
        .map_err(|error| error.class())
}

/// Asks Ollama once with these deadlines and returns the error.
async fn error(replies: Vec<Reply>, config: impl FnOnce(&mut Config)) -> Error {
    let (url, _server) = ModelServer::start(replies).await;
    let mut with = ollama(&url);
    config(&mut with);
    ask(&client(&with), "hi").await.unwrap_err()
}

const SAID: &str = "{\"response\":\"a\",\"done\":false}\n";
const DONE: &str = "{\"response\":\"b\",\"done\":true}\n";

// What is sent

#[tokio::test]
async fn the_request_is_the_originals() {
    let (url, server) = ModelServer::start(vec![Reply::ollama("hello")]).await;

    let answer = ask(&client(&ollama(&url)), "caf\u{e9} \"x\"\n")
        .await
        .unwrap();

    assert_eq!(answer.text, "hello");
    assert_eq!(&*answer.model, "llama3.2:latest");
    assert_eq!(
        answer.usage,
        Some(Usage {
            input_tokens: 5,
            output_tokens: 3
        })
    );
    assert_eq!(answer.done_reason, DoneReason::Stop);
    let request = &server.requests()[0];
    assert_eq!(
        (&*request.method, &*request.target),
        ("POST", "/api/generate")
    );
    let body = "{\"model\":\"llama3.2:latest\",\"stream\":true,\"options\":{\"temperature\":0.7},\
                \"format\":\"\",\"prompt\":\"caf\u{e9} \\\"x\\\"\\n\"}";
    assert_eq!(String::from_utf8_lossy(&request.body), body);
    assert_eq!(request.headers["content-type"], "application/json");
    assert_eq!(request.headers["accept"], "application/json");
    assert_eq!(
        request.headers["user-agent"],
        concat!("weir/", env!("CARGO_PKG_VERSION"))
    );
    assert!(!request.headers.contains_key("authorization"));
    assert!(!request.headers.contains_key("accept-encoding"));
}

#[tokio::test]
async fn a_path_a_key_and_a_system_prompt_go_with_the_request() {
    let (url, server) = ModelServer::start(vec![Reply::ollama("x")]).await;
    let mut config = ollama(&format!("{url}/proxy/ollama/"));
    config.ollama.api_key = Some("test-bearer".into());
    let queue = QueueTime::default();

    let request = Request {
        system: Some("be brief"),
        prompt: "hi",
        queue: &queue,
    };
    client(&config).ask(request).await.unwrap();

    let request = &server.requests()[0];
    assert_eq!(request.target, "/proxy/ollama/api/generate");
    assert_eq!(request.headers["authorization"], "Bearer test-bearer");
    assert_eq!(request.json()["system"], "be brief");
}

#[tokio::test]
async fn credentials_of_the_url_are_sent_as_basic() {
    let (url, server) = ModelServer::start(vec![Reply::ollama("x")]).await;

    ask(&client(&ollama(&url.replace("//", "//ada:hunter2@"))), "hi")
        .await
        .unwrap();

    assert_eq!(
        server.requests()[0].headers["authorization"],
        "Basic YWRhOmh1bnRlcjI="
    );
}

#[tokio::test]
async fn an_openai_server_is_asked_for_a_stream_with_usage() {
    let stream = Reply::stream([
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"Say\"}}]}\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" hi\"},\"finish_reason\":\"stop\"}]}\n\n\
         data: {\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":3}}\n\ndata: [DONE]\n\n",
    ]);
    let (url, server) = ModelServer::start(vec![stream]).await;
    let queue = QueueTime::default();

    let request = Request {
        system: Some("be brief"),
        prompt: "hi",
        queue: &queue,
    };
    let answer = client(&openai(&url)).ask(request).await.unwrap();

    assert_eq!(answer.text, "Say hi");
    assert_eq!(
        answer.usage,
        Some(Usage {
            input_tokens: 11,
            output_tokens: 3
        })
    );
    let request = &server.requests()[0];
    assert_eq!(request.target, "/v1/chat/completions");
    assert_eq!(request.headers["authorization"], "Bearer sk-hunter2");
    let messages = json!([
        { "role": "system", "content": "be brief" },
        { "role": "user", "content": "hi" },
    ]);
    let expected = json!({
        "model": "gpt-4o-mini", "messages": messages, "stream": true,
        "stream_options": { "include_usage": true }, "temperature": 0.7,
    });
    assert_eq!(request.json(), expected);
}

#[tokio::test]
async fn a_server_that_does_not_stream_is_understood() {
    let body = r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"openai says hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
    let (url, _server) = ModelServer::start(vec![Reply::json(200, body)]).await;
    assert_eq!(
        ask(&client(&openai(&url)), "hi").await.unwrap().text,
        "openai says hi"
    );

    let whole = Reply::json(200, r#"{"model":"m","response":"all","done":true}"#);
    assert_eq!(outcome(vec![whole]).await, Ok("all".to_owned()));
}

#[tokio::test]
async fn calls_share_one_connection() {
    let (url, server) = ModelServer::start(vec![Reply::ollama("x")]).await;
    let client = client(&ollama(&url));

    for _ in 0..20 {
        ask(&client, "hi").await.unwrap();
    }

    assert_eq!(server.counts().connections, 1);
}

// What comes back

#[tokio::test]
async fn every_fault_of_a_server_has_its_class() {
    let check = async |reply: Reply, class: &str| {
        let shown = format!("{reply:?}");
        assert_eq!(outcome(vec![reply]).await, Err(class), "{shown}");
    };
    let busy = r#"{"error":"server busy, please try again.  maximum pending requests exceeded"}"#;
    check(Reply::json(503, busy), "llm.overloaded").await;
    check(
        Reply::json(500, r#"{"error":"llama runner process has terminated"}"#),
        "llm.server_error",
    )
    .await;
    check(
        Reply::json(404, r#"{"error":"model 'm' not found"}"#),
        "llm.model_missing",
    )
    .await;
    check(
        Reply::of(404, "text/plain", "404 page not found"),
        "llm.wrong_url",
    )
    .await;
    check(Reply::of(403, "text/plain", ""), "llm.unauthorized").await;
    check(
        Reply::of(200, "text/html", "<html>not json</html>"),
        "llm.bad_output",
    )
    .await;
    check(Reply::of(200, "application/json", ""), "llm.truncated").await;
    check(Reply::stream([SAID]), "llm.truncated").await;
    check(
        Reply::stream([SAID, "{\"error\":\"an error was encountered\"}\n"]),
        "llm.server_error",
    )
    .await;
    check(
        Reply::stream([SAID]).with_framing(Framing::Close),
        "llm.truncated",
    )
    .await;
    check(
        Reply::stream([SAID]).with_abort(Abort::MidChunk),
        "llm.truncated",
    )
    .await;
    check(
        Reply::stream([SAID]).with_abort(Abort::Unterminated),
        "llm.truncated",
    )
    .await;
    check(
        Reply::stream([SAID, DONE]).with_abort(Abort::MidChunk),
        "llm.truncated",
    )
    .await;
    check(
        Reply::stream([SAID, DONE])
            .with_framing(Framing::Length)
            .with_abort(Abort::MidChunk),
        "llm.truncated",
    )
    .await;
    check(
        Reply::stream([SAID, DONE]).with_abort(Abort::AfterHeaders),
        "llm.truncated",
    )
    .await;
    check(
        Reply::stream([]).with_abort(Abort::BeforeHeaders),
        "llm.reset",
    )
    .await;
    check(
        Reply::stream([]).with_abort(Abort::CloseBeforeHeaders),
        "llm.reset",
    )
    .await;
    check(
        Reply::stream([SAID, DONE]).with_header("Content-Encoding", "gzip"),
        "llm.bad_output",
    )
    .await;
}

#[tokio::test]
async fn any_framing_and_any_success_will_do() {
    let check = async |reply: Reply| assert_eq!(outcome(vec![reply]).await, Ok("ab".to_owned()));
    check(Reply::stream([SAID, DONE])).await;
    check(Reply::stream([SAID, DONE]).with_framing(Framing::Length)).await;
    check(Reply::stream([SAID, DONE]).with_framing(Framing::Close)).await;
    check(Reply {
        status: 201,
        ..Reply::stream([SAID, DONE])
    })
    .await;
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

    let pieces = [
        b"{\"response\":\"\xe2\x82".as_slice(),
        b"\xac\",\"done\":true}\n",
    ];
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

    assert_eq!(
        error.disposition(),
        Disposition::Retry {
            after: Some(Duration::from_secs(7))
        }
    );
}

#[tokio::test]
async fn an_answer_ends_at_its_limits() {
    let long = || vec![Reply::ollama(&"x".repeat(5000))];

    let error = error(long(), |config| {
        config.max_answer = bytesize::ByteSize::b(4999)
    })
    .await;
    assert_eq!(
        error.fault,
        Fault::TooLarge {
            what: "answer",
            limit: 4999
        }
    );
    assert_eq!(outcome(long()).await, Ok("x".repeat(5000)));

    let limit = |config: &mut Config| config.max_line = bytesize::ByteSize::b(4000);
    let error = self::error(long(), limit).await;
    assert_eq!(
        error.fault,
        Fault::TooLarge {
            what: "line",
            limit: 4000
        }
    );
}

#[tokio::test]
async fn redirects_are_followed_at_home_only() {
    let to = |status, location: &str| {
        Reply::of(status, "text/plain", "").with_header("Location", location)
    };

    let (url, server) = ModelServer::start(vec![to(302, "/other"), Reply::ollama("after")]).await;
    assert_eq!(
        ask(&client(&ollama(&url)), "hi").await.unwrap().text,
        "after"
    );
    let methods: Vec<_> = server
        .requests()
        .into_iter()
        .map(|r| (r.method, r.target))
        .collect();
    let expected = [("POST", "/api/generate"), ("GET", "/other")];
    assert_eq!(
        methods,
        expected.map(|(method, target)| (method.to_owned(), target.to_owned()))
    );

    let (url, server) = ModelServer::start(vec![to(307, "/x"), Reply::ollama("after")]).await;
    assert_eq!(
        ask(&client(&ollama(&url)), "hi").await.unwrap().text,
        "after"
    );
    assert_eq!(server.requests()[1].json()["prompt"], "hi");

    let away = error(
        vec![to(302, "http://ada:hunter2@127.0.0.2:{PORT}/x?key=hunter2")],
        |_| (),
    )
    .await;
    assert_eq!(away.class(), "llm.redirected");
    assert!(
        away.to_string().contains("redirects to http://127.0.0.2:"),
        "{away}"
    );
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
    assert!(
        refused
            .to_string()
            .starts_with(&format!("{url}: no connection: ")),
        "{refused}"
    );
    assert!(refused.to_string().contains("refused"), "{refused}");

    let unknown = client(&ollama("http://no-such-host.invalid:1234"));
    assert_eq!(
        ask(&unknown, "hi").await.unwrap_err().class(),
        "llm.unreachable"
    );
}

#[tokio::test]
async fn no_secret_is_in_any_text() {
    let echo = Reply::json(
        401,
        r#"{"error":{"message":"Incorrect API key provided: sk-hunter2."}}"#,
    );
    let (url, _server) = ModelServer::start(vec![echo]).await;
    let config = openai(&url);
    let client = client(&config);

    let error = ask(&client, "hi").await.unwrap_err();

    let shown = format!("{error} {error:?} {client:?} {config:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(
        error
            .to_string()
            .ends_with("Incorrect API key provided: [redacted]."),
        "{error}"
    );
}

// Deadlines

#[tokio::test]
async fn every_deadline_names_its_phase() {
    let check = async |replies, config: fn(&mut Config), phase| {
        let begun = Instant::now();
        let error = error(replies, config).await;
        assert_eq!(
            error.fault,
            Fault::Timeout { phase, after: SOON },
            "{error}"
        );
        assert!(begun.elapsed() < 10 * SOON, "{:?}", begun.elapsed());
    };
    let slow = || vec![Reply::stream([SAID, DONE]).slowly(LATER)];
    check(
        slow(),
        |config| config.first_byte_timeout = SOON,
        Phase::FirstByte,
    )
    .await;

    let mut stalled = Reply::stream([SAID, DONE]);
    stalled.chunks[1].delay_ms = Some(20_000);
    check(
        vec![stalled],
        |config| config.idle_timeout = SOON,
        Phase::Idle,
    )
    .await;

    let trickle = Reply::stream([SAID; 100]).slowly(Duration::from_millis(10));
    check(
        vec![trickle],
        |config| config.total_timeout = SOON,
        Phase::Total,
    )
    .await;

    check(slow(), |config| config.total_timeout = SOON, Phase::Total).await;
}

#[tokio::test]
async fn a_connection_that_does_not_come_is_the_connect_phase() {
    // A backlog of one that nobody takes from: the kernel drops what comes after it is full.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    while let Ok(connected) = timeout(SOON, TcpStream::connect(address)).await {
        held.push(connected.unwrap());
    }

    let config = Config {
        connect_timeout: SOON,
        ..ollama(&format!("http://{address}"))
    };
    let error = ask(&client(&config), "hi").await.unwrap_err();

    assert_eq!(
        error.fault,
        Fault::Timeout {
            phase: Phase::Connect,
            after: SOON
        }
    );
    assert_eq!(
        error.to_string(),
        format!("http://{address}: connect timeout after 150ms")
    );
}

#[tokio::test]
async fn a_body_that_does_not_end_after_done_keeps_no_answer_back() {
    let mut reply = Reply::stream([SAID, DONE, "\n"]);
    reply.chunks[2].delay_ms = Some(20_000);
    let (url, server) = ModelServer::start(vec![reply]).await;
    let config = Config {
        total_timeout: 4 * SOON,
        ..ollama(&url)
    };

    assert_eq!(ask(&client(&config), "hi").await.unwrap().text, "ab");
    server.until(|counts| counts.closed == 1).await;
}

#[tokio::test]
async fn a_dropped_call_closes_its_connection_at_once() {
    let mut stalled = Reply::stream([SAID, DONE]);
    stalled.chunks[1].delay_ms = Some(20_000);
    for reply in [Reply::stream([SAID]).slowly(LATER), stalled] {
        let (url, server) = ModelServer::start(vec![reply]).await;
        let client = client(&ollama(&url));

        let dropped = timeout(SOON, ask(&client, "hi")).await;
        assert!(dropped.is_err());
        let at = Instant::now();
        server.until(|counts| counts.closed == 1).await;

        assert!(
            at.elapsed() < Duration::from_millis(100),
            "{:?}",
            at.elapsed()
        );
        assert_eq!(server.counts().requests, 1);
    }
}

// Turns

#[tokio::test]
async fn calls_wait_here_in_the_order_of_their_arrival() {
    let reply = Reply::ollama("x").slowly(Duration::from_millis(5));
    let (url, server) = ModelServer::start(vec![reply]).await;
    let mut config = ollama(&url);
    config.ollama.max_concurrency = 1;
    let client = client(&config);

    let prompts: Vec<_> = (0..30).map(|n| n.to_string()).collect();
    let calls = prompts.iter().map(|prompt| ask(&client, prompt));
    for answer in futures_util::future::join_all(calls).await {
        answer.unwrap();
    }

    let asked: Vec<_> = server
        .requests()
        .iter()
        .map(|r| r.json()["prompt"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(asked, prompts);
}

#[tokio::test]
async fn no_more_calls_than_permitted_reach_the_server() {
    let reply = Reply::ollama("x").slowly(Duration::from_millis(5));
    let (url, server) = ModelServer::start(vec![reply]).await;
    let mut config = ollama(&url);
    config.ollama.max_concurrency = 3;
    let client = client(&config);

    let mut calls = JoinSet::new();
    for n in 0..60 {
        let client = client.clone();
        calls.spawn(async move { ask(&client, &n.to_string()).await });
    }
    while let Some(answer) = calls.join_next().await {
        answer.unwrap().unwrap();
    }

    let counts = server.counts();
    assert_eq!((counts.requests, counts.in_flight_max), (60, 3));
    assert!(counts.connections <= 3, "{counts:?}");
}

#[tokio::test]
async fn time_in_line_is_the_queues() {
    let reply = Reply::ollama("x").slowly(SOON);
    let (url, _server) = ModelServer::start(vec![reply]).await;
    let mut config = ollama(&url);
    config.ollama.max_concurrency = 1;
    let client = client(&config);
    let (first, second) = (QueueTime::default(), QueueTime::default());
    let request = |queue| Request {
        system: None,
        prompt: "hi",
        queue,
    };

    let (one, two) = tokio::join!(client.ask(request(&first)), client.ask(request(&second)));

    assert_eq!(one.unwrap().timings.queued, Duration::ZERO);
    assert_eq!(first.total(), Duration::ZERO);
    let timings = two.unwrap().timings;
    assert!(timings.queued >= 2 * SOON, "{timings:?}");
    assert!(
        timings.total >= 2 * SOON && timings.total < 4 * SOON,
        "{timings:?}"
    );
    assert!(second.total() >= 2 * SOON);
}

#[tokio::test]
async fn a_dropped_call_gives_its_permit_back() {
    let replies = vec![Reply::stream([SAID]).slowly(LATER), Reply::ollama("x")];
    let (url, _server) = ModelServer::start(replies).await;
    let mut config = ollama(&url);
    config.ollama.max_concurrency = 1;
    let client = client(&config);

    assert!(timeout(SOON, ask(&client, "hi")).await.is_err());

    assert_eq!(ask(&client, "hi").await.unwrap().text, "x");
}

#[tokio::test]
async fn every_call_is_reported_once() {
    let replies = vec![
        Reply::ollama("x"),
        Reply::json(500, "{}"),
        Reply::stream([SAID]).slowly(LATER),
    ];
    let (url, _server) = ModelServer::start(replies).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let client = Client::new(
        &ollama(&url),
        Arc::new(move |observation| {
            log.lock().unwrap().push(match observation {
                Observation::Admitted(_) => "admitted".to_owned(),
                Observation::Began => "began".to_owned(),
                Observation::Ended(call) => {
                    let tokens = call.usage.map(|usage| usage.output_tokens);
                    let first = call.first_byte.is_some();
                    format!(
                        "{} {} {} {first} {tokens:?}",
                        call.provider, call.model, call.outcome
                    )
                }
            });
        }),
    )
    .unwrap();

    ask(&client, "hi").await.unwrap();
    ask(&client, "hi").await.unwrap_err();
    assert!(timeout(SOON, ask(&client, "hi")).await.is_err());

    let expected = [
        "admitted",
        "began",
        "ollama llama3.2:latest ok true Some(3)",
        "admitted",
        "began",
        "ollama llama3.2:latest llm.server_error false None",
        "admitted",
        "began",
        "ollama llama3.2:latest cancelled false None",
    ];
    assert_eq!(*seen.lock().unwrap(), expected);
}

// Is it there

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
    let request = Request {
        system: None,
        prompt: "hi",
        queue: &queue,
    };
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
    let config = Config {
        start_timeout: SOON,
        ..ollama("http://127.0.0.1:1")
    };
    let client = client(&config);
    let mut tasks = JoinSet::new();
    tasks.spawn(client.watch(CancellationToken::new(), |_| ()));
    let begun = Instant::now();

    let error = ask(&client, "hi").await.unwrap_err();

    assert_eq!(error.class(), "llm.unreachable");
    assert!(
        begun.elapsed() >= SOON / 2 && begun.elapsed() < 10 * SOON,
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn nothing_waits_for_a_watch_that_ended() {
    let (url, _server) = ModelServer::start(vec![Reply::ollama("x")]).await;
    let client = client(&ollama(&url));

    drop(client.watch(CancellationToken::new(), |_| ()));

    assert_eq!(
        ask(&client, "hi").await.unwrap().timings.queued,
        Duration::ZERO
    );
}

#[tokio::test]
async fn a_check_tells_what_stands_there() {
    let show = r#"{"model_info":{"general.architecture":"llama","llama.context_length":131072}}"#;
    let missing = r#"{"error":"model 'llama3.2:latest' not found"}"#;
    let replies = vec![Reply::json(200, show), Reply::json(404, missing)];
    let (url, server) = ModelServer::start(replies).await;
    let client = client(&ollama(&url));

    let report = client.check().await.unwrap();
    assert_eq!(&*report.endpoint, url);
    assert_eq!(report.version.as_deref(), Some("0.17.4"));
    assert_eq!(
        (report.presence, report.context_length),
        (Presence::Present, Some(131_072))
    );
    assert_eq!(
        server.requests()[0].json(),
        json!({ "model": "llama3.2:latest" })
    );

    assert_eq!(client.check().await.unwrap().presence, Presence::Missing);
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
    assert_eq!(
        client(&config).check().await.unwrap_err().class(),
        "llm.unreachable"
    );

    let (url, _server) = ModelServer::start(vec![Reply::of(404, "text/plain", "no")]).await;
    let config = ollama(&format!("{url}/wrong"));
    assert_eq!(
        client(&config).check().await.unwrap_err().class(),
        "llm.wrong_url"
    );
}

// Other models

#[tokio::test]
async fn a_scripted_answer_says_that_it_is_scripted() {
    let queue = QueueTime::default();
    let request = Request {
        system: None,
        prompt: "\nanalyze this",
        queue: &queue,
    };

    let answer = Scripted::labelled().ask(request).await.unwrap();

    assert!(
        answer.text.starts_with("[scripted: no model was asked]"),
        "{}",
        answer.text
    );
    assert!(answer.text.ends_with("analyze this"), "{}", answer.text);
    assert_eq!(&*answer.model, "scripted");
}

#[test]
fn a_client_of_the_default_configuration_can_be_made() {
    assert_eq!(
        &**client(&Config::default()).endpoint(),
        "http://localhost:11434"
    );
    assert_eq!(
        &*Ollama::default().model,
        &**client(&Config::default()).model()
    );
}
