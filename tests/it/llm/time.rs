//! Deadlines and turns.

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use weir::llm::{ChatModel as _, Client, Config, Fault, Observation, Phase, QueueTime, Request};
use weir::standing::Standing;

use crate::support::model_server::{ModelServer, Reply};

use super::{DONE, LATER, SAID, SOON, ask, client, error, ollama};

#[tokio::test]
async fn every_deadline_names_its_phase() {
    let check = async |replies, config: fn(&mut Config), phase| {
        let begun = Instant::now();
        let error = error(replies, config).await;
        assert_eq!(error.fault, Fault::Timeout { phase, after: SOON }, "{error}");
        assert!(begun.elapsed() < 10 * SOON, "{:?}", begun.elapsed());
    };
    let slow = || vec![Reply::stream([SAID, DONE]).slowly(LATER)];
    check(slow(), |config| config.first_byte_timeout = SOON, Phase::FirstByte).await;

    let mut stalled = Reply::stream([SAID, DONE]);
    stalled.chunks[1].delay_ms = Some(20_000);
    check(vec![stalled], |config| config.idle_timeout = SOON, Phase::Idle).await;

    let trickle = Reply::stream([SAID; 100]).slowly(Duration::from_millis(10));
    check(vec![trickle], |config| config.total_timeout = SOON, Phase::Total).await;

    check(slow(), |config| config.total_timeout = SOON, Phase::Total).await;
}

#[tokio::test]
async fn a_first_byte_may_take_as_long_as_the_servers_queue_moves() {
    let long = Reply::stream([[SAID; 8].concat().as_str(), SAID, SAID, SAID, SAID, DONE]);
    let late = Reply::stream([SAID, DONE]).slowly(5 * SOON);
    let (url, _server) = ModelServer::start(vec![long.slowly(SOON), late]).await;
    let client = client(&Config { first_byte_timeout: 2 * SOON, ..ollama(&url) });

    let (first, second) = tokio::join!(ask(&client, "hi"), ask(&client, "hi"));

    assert_eq!((first.unwrap().text.len(), second.unwrap().text.as_str()), (13, "ab"));
}

#[tokio::test]
async fn a_model_that_is_being_loaded_is_waited_for() {
    let (url, server) =
        ModelServer::start(vec![Reply::ollama("x").slowly(Duration::from_secs(9))]).await;
    let listed = |n| {
        let model = json!({ "name": "llama3.2:latest", "expires_at": format!("soon {n}") });
        Reply::json(200, &json!({ "models": [model] }).to_string())
    };
    server.page("/api/ps", (0..9).map(listed));
    let config = Config { first_byte_timeout: Duration::from_secs(6), ..ollama(&url) };

    assert_eq!(ask(&client(&config), "hi").await.unwrap().text, "x");
}

#[tokio::test]
async fn a_call_that_is_being_answered_is_not_judged_by_its_servers_silence() {
    let mut reply = Reply::stream([SAID, DONE]);
    reply.chunks[1].delay_ms = Some(5_000);
    let (url, server) = ModelServer::start(vec![reply]).await;
    server.page("/api/ps", [Reply::json(200, "{}").slowly(LATER)]);
    let client = client(&ollama(&format!("{url},http://127.0.0.1:1")));

    assert_eq!(ask(&client, "hi").await.unwrap().text, "ab");
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

    let config = Config { connect_timeout: SOON, ..ollama(&format!("http://{address}")) };
    let error = ask(&client(&config), "hi").await.unwrap_err();

    assert_eq!(error.fault, Fault::Timeout { phase: Phase::Connect, after: SOON });
    assert_eq!(error.to_string(), format!("http://{address}: connect timeout after 150ms"));
}

#[tokio::test]
async fn a_body_that_does_not_end_after_done_keeps_no_answer_back() {
    let mut reply = Reply::stream([SAID, DONE, "\n"]);
    reply.chunks[2].delay_ms = Some(20_000);
    let (url, server) = ModelServer::start(vec![reply]).await;
    let config = Config { total_timeout: 4 * SOON, ..ollama(&url) };

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

        assert!(at.elapsed() < Duration::from_millis(100), "{:?}", at.elapsed());
        assert_eq!(server.counts().requests, 1);
    }
}

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

    let asked: Vec<_> =
        server.requests().iter().map(|r| r.json()["prompt"].as_str().unwrap().to_owned()).collect();
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
    let request = |queue| Request::prompt("hi", queue);

    let (one, two) = tokio::join!(client.ask(request(&first)), client.ask(request(&second)));

    assert_eq!(one.unwrap().timings.queued, Duration::ZERO);
    assert_eq!(first.total(), Duration::ZERO);
    let timings = two.unwrap().timings;
    assert!(timings.queued >= 2 * SOON, "{timings:?}");
    assert!(timings.total >= 2 * SOON && timings.total < 4 * SOON, "{timings:?}");
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
    let replies =
        vec![Reply::ollama("x"), Reply::json(500, "{}"), Reply::stream([SAID]).slowly(LATER)];
    let (url, _server) = ModelServer::start(replies).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let client = Client::new(
        &ollama(&url),
        Arc::new(move |observation| {
            log.lock().unwrap().push(match observation {
                Observation::Admitted(_) => "admitted".to_owned(),
                Observation::Began(_) => "began".to_owned(),
                Observation::Breaker { state, .. } => format!("{state:?}"),
                Observation::Ended(call) => {
                    let tokens = call.usage.map(|usage| usage.output_tokens);
                    let first = call.first_byte.is_some();
                    format!("{} {} {} {first} {tokens:?}", call.provider, call.model, call.outcome)
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

#[tokio::test]
async fn a_call_in_line_waits_while_the_process_may_have_been_replaced() {
    let slow = Reply::ollama("first").slowly(SOON);
    let (url, server) = ModelServer::start(vec![slow, Reply::ollama("second")]).await;
    let mut config = ollama(&url);
    config.ollama.max_concurrency = 1;
    let standing = Standing::new(SOON / 2);
    let client = client(&config).with_standing(standing.clone());
    standing.turn();
    let mut both = pin!(async { tokio::join!(ask(&client, "one"), ask(&client, "two")) });

    // The dispatch does not turn: it has stood still, and so have we.
    assert!(timeout(6 * SOON, both.as_mut()).await.is_err());
    assert_eq!((server.requests().len(), server.replies_left()), (1, 1), "the first was answered");
    assert!(standing.turn().is_some());
    standing.note(false);
    assert!(timeout(SOON, both.as_mut()).await.is_err());
    assert_eq!(server.requests().len(), 1);
    standing.turn();
    standing.note(true);

    let (one, two) = timeout(10 * SOON, both).await.unwrap();
    assert_eq!((&*one.unwrap().text, &*two.unwrap().text), ("first", "second"));
}
