//! Several endpoints, one of which falls ill; a model that stands in; ten thousand calls in line.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use weir::llm::{BreakerState, ChatModel as _, Client, Config, Observation, QueueTime, Request};
use weir::retry::{Disposition, RetryPolicy};

use crate::support::fickle_model::{FickleModel, Health};
use crate::support::model_server::{ModelServer, Reply};

use super::{ask, client, ollama, openai};

const LATENCY: Duration = Duration::from_millis(20);
const FIVE_SECONDS: Duration = Duration::from_secs(5);

fn three() -> (Vec<FickleModel>, Config) {
    let mut models = Vec::new();
    for _ in 0..3 {
        models.push(FickleModel::start(LATENCY));
    }
    let urls: Vec<_> = models.iter().map(|model| model.url.clone()).collect();
    let mut config = ollama(&urls.join(","));
    config.ollama.max_concurrency = 4;
    (models, config)
}

/// What became of the runs, by the rule of the dispatch: a retry counts and backs off, a move does neither, and there
/// are at most four of each.
#[derive(Default)]
struct Runs {
    done: AtomicUsize,
    moves: AtomicUsize,
    retries: AtomicUsize,
    failed: Mutex<Vec<String>>,
}

impl Runs {
    /// Starts so many workers that make one run after another, until it `ends`.
    fn start(
        self: &Arc<Self>,
        workers: usize,
        client: &Client,
        ends: &Arc<AtomicBool>,
    ) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for _ in 0..workers {
            let (client, runs, ends) = (client.clone(), Arc::clone(self), Arc::clone(ends));
            tasks.spawn(async move {
                while !ends.load(Ordering::Relaxed) {
                    runs.run(&client).await;
                }
            });
        }
        tasks
    }

    async fn run(&self, client: &Client) {
        let policy = RetryPolicy {
            attempts_max: 4,
            base: Duration::from_secs(1),
            max: Duration::from_secs(60),
        };
        let (mut attempt, mut moves) = (1, 0);
        loop {
            let Err(error) = ask(client, "hi").await else {
                self.done.fetch_add(1, Ordering::Relaxed);
                return;
            };
            match error.disposition() {
                Disposition::Elsewhere if moves < 4 => {
                    moves += 1;
                    self.moves.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                Disposition::Retry { after } => {
                    if let Some(delay) = policy.delay(attempt, after, 0.5) {
                        attempt += 1;
                        self.retries.fetch_add(1, Ordering::Relaxed);
                        sleep(delay).await;
                        continue;
                    }
                }
                Disposition::Elsewhere | Disposition::Reject | Disposition::Stop => {}
            }
            self.failed.lock().unwrap().push(error.to_string());
            return;
        }
    }
}

/// Waits until a server has answered so many calls.
async fn answers(model: &FickleModel, count: usize) {
    let answered = async {
        while model.answered() < count {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(FIVE_SECONDS, answered).await.expect("traffic within five seconds");
}

/// Lets one of three endpoints fall ill and recover under load, and checks what the pool makes of it.
async fn falls_ill(health: Health, set: fn(&mut Config)) {
    let (models, mut config) = three();
    set(&mut config);
    let opened = Arc::new(Mutex::new(BTreeMap::new()));
    let log = Arc::clone(&opened);
    let client = Client::new(
        &config,
        Arc::new(move |seen| {
            if let Observation::Breaker { endpoint, state: BreakerState::Open, .. } = seen {
                log.lock().unwrap().entry((*endpoint).to_owned()).or_insert_with(Instant::now);
            }
        }),
    )
    .unwrap();
    let (cancel, ends) = (CancellationToken::new(), Arc::new(AtomicBool::new(false)));
    let runs = Arc::new(Runs::default());
    let mut tasks = runs.start(9, &client, &ends);
    tasks.spawn(client.watch(cancel.clone(), |_| ()));
    sleep(Duration::from_secs(1)).await;
    assert!(models.iter().all(|model| model.answered() > 0), "{health:?}");

    let [ill, ..] = models.as_slice() else { unreachable!() };
    let fell_ill = Instant::now();
    ill.turn(health);
    sleep(Duration::from_secs(7)).await;
    let opened_at = opened.lock().unwrap().get(&ill.name).copied();
    let opened_after = opened_at.map(|at| at - fell_ill);
    assert!(
        opened_after.is_some_and(|after| after <= FIVE_SECONDS),
        "{health:?}: {opened_after:?}"
    );

    let (before, recovered) = (ill.answered(), Instant::now());
    ill.turn(Health::Well);
    // More than a single trial: it has its share again.
    answers(ill, before + 10).await;
    let back_after = recovered.elapsed();

    ends.store(true, Ordering::Relaxed);
    cancel.cancel();
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    let told = format!(
        "{health:?}: rests after {opened_after:?}, back after {back_after:?}, {} done, {} moved, {} repeated",
        runs.done.load(Ordering::Relaxed),
        runs.moves.load(Ordering::Relaxed),
        runs.retries.load(Ordering::Relaxed),
    );
    assert!(runs.failed.lock().unwrap().is_empty(), "{told}: {:?}", runs.failed.lock().unwrap());
    // What failed went elsewhere at once: no run spent an attempt, or waited.
    assert_eq!(runs.retries.load(Ordering::Relaxed), 0, "{told}");
    assert!(opened.lock().unwrap().len() == 1, "{told}");
}

#[tokio::test]
async fn an_endpoint_that_dies_costs_no_run() {
    falls_ill(Health::Dead, |_| ()).await;
}

#[tokio::test]
async fn an_endpoint_that_answers_500_costs_no_run() {
    falls_ill(Health::Error, |_| ()).await;
}

#[tokio::test]
async fn an_endpoint_that_is_overloaded_costs_no_run() {
    let (models, config) = three();
    let client = client(&config);
    let (runs, ends) = (Arc::new(Runs::default()), Arc::new(AtomicBool::new(false)));
    // More than the other two have permits for.
    let tasks = runs.start(20, &client, &ends);
    models[0].turn(Health::Busy);
    sleep(Duration::from_secs(5)).await;
    let before = models[0].answered();
    models[0].turn(Health::Well);
    answers(&models[0], before + 10).await;
    ends.store(true, Ordering::Relaxed);
    tasks.join_all().await;

    assert_eq!(*runs.failed.lock().unwrap(), [""; 0]);
    let count = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    assert_eq!((count(&runs.retries), count(&runs.moves)), (0, 0));
}

#[tokio::test]
async fn a_single_endpoint_that_is_overloaded_for_ten_seconds_costs_no_run() {
    for workers in [1, 40] {
        let model = FickleModel::start(LATENCY);
        let client = client(&ollama(&model.url));
        let (runs, ends) = (Arc::new(Runs::default()), Arc::new(AtomicBool::new(false)));
        model.turn(Health::Busy);
        let tasks = runs.start(workers, &client, &ends);
        sleep(Duration::from_secs(10)).await;
        model.turn(Health::Well);
        answers(&model, 10).await;
        ends.store(true, Ordering::Relaxed);
        tasks.join_all().await;

        assert_eq!(*runs.failed.lock().unwrap(), [""; 0]);
        // Those that were under way at first; what was tried afterwards cost nothing.
        let retries = runs.retries.load(Ordering::Relaxed);
        assert!(retries <= workers.min(32), "{retries}");
    }
}

#[tokio::test]
async fn an_endpoint_that_hangs_costs_no_run() {
    falls_ill(Health::Hung, |_| ()).await;
}

#[tokio::test]
async fn an_endpoint_whose_runner_freezes_costs_no_run() {
    let limit = |config: &mut Config| config.resident_first_byte_timeout = Duration::from_secs(2);
    falls_ill(Health::Frozen, limit).await;
}

#[tokio::test]
async fn a_frozen_runner_is_found_out_and_tried_again_where_it_is_the_only_one() {
    let model = FickleModel::start(LATENCY);
    let mut config = ollama(&model.url);
    config.resident_first_byte_timeout = Duration::from_secs(2);
    let client = client(&config);
    model.turn(Health::Frozen);
    let begun = Instant::now();

    let error = ask(&client, "hi").await.unwrap_err();
    assert_eq!(error.class(), "llm.timeout");
    assert!(error.to_string().ends_with("frozen-runner timeout after 2s"), "{error}");
    assert!(begun.elapsed() < FIVE_SECONDS, "{:?}", begun.elapsed());
    assert_eq!(error.disposition(), Disposition::Retry { after: None });

    model.turn(Health::Well);
    let answer = ask(&client, "hi").await.unwrap();
    // It rested for a second.
    assert!(answer.timings.queued > Duration::from_millis(500), "{:?}", answer.timings);
}

#[tokio::test]
async fn a_wait_in_vain_is_the_last_where_the_server_is_there_and_only_fails() {
    let soon = Duration::from_secs(1);
    for health in [Health::Error, Health::Busy, Health::Dead] {
        let model = FickleModel::start(LATENCY);
        let mut config = ollama(&model.url);
        config.start_timeout = soon;
        (config.breaker_rest, config.breaker_rest_max) = (4 * soon, 4 * soon);
        let client = client(&config);
        model.turn(health);
        for _ in 0..config.breaker_faults {
            let error = ask(&client, "hi").await.unwrap_err();
            let may_repeat = matches!(error.disposition(), Disposition::Retry { .. });
            assert!(may_repeat || error.to_string().contains("in line"), "{health:?}: {error}");
        }

        let begun = Instant::now();
        let error = ask(&client, "hi").await.unwrap_err();

        assert!(begun.elapsed() >= soon, "{health:?}: {error}");
        let is_last = error.disposition() == Disposition::Reject;
        assert_eq!(is_last, health != Health::Dead, "{health:?}: {error}");
        assert_eq!(is_last, error.to_string().ends_with("after 1s in line it is given up"));
    }
}

#[tokio::test]
async fn a_wait_is_not_in_vain_where_the_server_has_asked_for_it() {
    let full = Reply::json(429, r#"{"error":"later"}"#).with_header("retry-after", "60");
    let (url, _server) = ModelServer::start(vec![full]).await;
    let mut config = ollama(&url);
    config.start_timeout = Duration::from_secs(1);
    let client = client(&config);
    ask(&client, "hi").await.unwrap_err();

    let error = ask(&client, "hi").await.unwrap_err();

    let after = Some(Duration::from_secs(60));
    assert_eq!(error.disposition(), Disposition::Retry { after }, "{error}");
}

#[tokio::test]
async fn a_call_that_was_not_sent_goes_elsewhere_at_once() {
    let model = FickleModel::start(LATENCY);
    let client = client(&ollama(&format!("http://127.0.0.1:1,{}", model.url)));
    for _ in 0..10 {
        ask(&client, "hi").await.unwrap();
    }
}

#[tokio::test]
async fn an_endpoint_without_the_model_is_passed_over() {
    let (models, config) = three();
    models[0].turn(Health::Empty);
    let client = client(&config);
    for _ in 0..10 {
        ask(&client, "hi").await.unwrap();
    }

    models.iter().for_each(|model| model.turn(Health::Empty));
    let error = ask(&client, "hi").await.unwrap_err();
    assert_eq!((error.class(), error.disposition()), ("llm.model_missing", Disposition::Reject));
}

#[tokio::test]
async fn another_model_stands_in_and_the_answer_says_so() {
    let missing = Reply::json(404, r#"{"error":"model 'llama3.2:latest' not found"}"#);
    let (url, server) = ModelServer::start(vec![missing, Reply::ollama("small")]).await;
    let mut config = ollama(&url);
    config.ollama.fallback_model = Some("tiny".to_owned());
    let client = client(&config);

    let answer = ask(&client, "hi").await.unwrap();

    assert_eq!((answer.text.as_str(), &*answer.model), ("small", "tiny"));
    assert_eq!(answer.instead_of.as_deref(), Some("llama3.2:latest"));
    let asked: Vec<_> = server.requests().iter().map(|r| r.json()["model"].clone()).collect();
    assert_eq!(asked, ["llama3.2:latest", "tiny"]);
    let again = ask(&client, "hi").await.unwrap();
    assert_eq!(&*again.model, "tiny");
}

#[tokio::test]
async fn another_provider_stands_in_where_the_first_can_not_be_reached() {
    let said = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\ndata: [DONE]\n\n";
    let reply = Reply::of(200, "text/event-stream", said);
    let (url, server) = ModelServer::start(vec![reply]).await;
    let mut config = ollama("http://127.0.0.1:1");
    config.fallback_provider = Some(weir::llm::Provider::OpenAi);
    config.openai = openai(&url).openai;
    let client = client(&config);

    let mut moved = 0;
    let answer = loop {
        match ask(&client, "hi").await {
            Ok(answer) => break answer,
            Err(error) => {
                assert_eq!(error.class(), "llm.unreachable");
                moved += 1;
                assert!(moved <= 3);
            }
        }
    };

    assert_eq!(
        (&*answer.model, answer.instead_of.as_deref()),
        ("gpt-4o-mini", Some("llama3.2:latest"))
    );
    assert_eq!(server.requests()[0].target, "/v1/chat/completions");
}

#[tokio::test]
async fn what_stands_in_has_nobody_in_its_own_place() {
    let (url, server) = ModelServer::start(vec![Reply::json(401, r#"{"error":"who?"}"#)]).await;
    let mut config = ollama("http://127.0.0.1:1");
    config.fallback_provider = Some(weir::llm::Provider::OpenAi);
    config.openai = openai(&url).openai;
    let client = client(&config);

    let error = loop {
        let error = ask(&client, "hi").await.unwrap_err();
        if error.class() != "llm.unreachable" {
            break error;
        }
    };

    assert_eq!(error.class(), "llm.unauthorized");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_call_may_ask_another_model() {
    let (url, server) = ModelServer::start(vec![Reply::ollama("x")]).await;
    let client = client(&ollama(&url));
    let queue = QueueTime::default();
    let request = Request { model: Some("other"), ..Request::prompt("hi", &queue) };

    let answer = client.ask(request).await.unwrap();

    assert_eq!((&*answer.model, answer.instead_of), ("other", None));
    assert_eq!(server.requests()[0].json()["model"], "other");
}

#[tokio::test]
async fn every_endpoint_gets_its_own_credentials() {
    let reply = || vec![Reply::ollama("x").slowly(LATENCY)];
    let (a, server_a) = ModelServer::start(reply()).await;
    let (b, server_b) = ModelServer::start(reply()).await;
    let (c, server_c) = ModelServer::start(reply()).await;
    let with = |url: &str, login: &str| url.replace("http://", &format!("http://{login}@"));
    let urls = format!("{},{},{c}", with(&a, "ada:hunter2"), with(&b, ":hunter3"));
    let mut config = ollama(&urls);
    config.ollama.api_key = Some("hunter4".into());
    let client = client(&config);
    let queue = QueueTime::default();
    let request = Request::prompt("hi", &queue);

    let calls = (0..9).map(|_| client.ask(request));
    for answer in futures_util::future::join_all(calls).await {
        answer.unwrap();
    }

    let sent = |server: &ModelServer| server.requests()[0].headers["authorization"].clone();
    assert_eq!(sent(&server_a), "Basic YWRhOmh1bnRlcjI=");
    assert_eq!(sent(&server_b), "Bearer hunter3");
    assert_eq!(sent(&server_c), "Bearer hunter4");
    let told: Vec<_> = client.endpoints().iter().map(|view| view.endpoint().to_string()).collect();
    assert_eq!(told, [a, b, c]);
}

#[tokio::test]
async fn ten_thousand_calls_wait_small_and_asleep() {
    const CALLS: usize = 10_000;
    let (url, _server) = ModelServer::start(vec![Reply::ollama("x").slowly(super::LATER)]).await;
    let mut config = ollama(&url);
    config.ollama.max_concurrency = 1;
    let client = client(&config);
    let queues: Vec<_> = (0..=CALLS).map(|_| QueueTime::default()).collect();
    let polls = AtomicUsize::new(0);
    let before = resident();
    let mut calls: Vec<_> =
        queues.iter().map(|queue| client.ask(Request::prompt("hi", queue))).collect();
    let size = size_of_val(&*calls[0]);

    let all = async {
        let counted = calls.iter_mut().map(|call| {
            std::future::poll_fn(|cx| {
                polls.fetch_add(1, Ordering::Relaxed);
                call.poll_unpin(cx)
            })
        });
        futures_util::future::join_all(counted).await;
    };
    assert!(timeout(Duration::from_secs(3), all).await.is_err());
    let each = resident().saturating_sub(before) / CALLS;
    let polled = polls.load(Ordering::Relaxed);

    assert!(size <= 2048, "{size} bytes");
    // Other tests run in this process; 10,000 runs may take 256 MB.
    assert!(each <= 16 * 1024, "{each} bytes each");
    // Each once when it came, and hardly ever again: the first one looks up now and then.
    assert!(polled <= CALLS + 200, "{polled}");
}

/// The memory that this process holds, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}
