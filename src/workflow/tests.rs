use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::*;
use crate::agents::{AgentState, LlmAnalysis};
use crate::event::{self, Defaults};
use crate::graph::{END, Graph, NodeOptions, START};
use crate::journal::{self, Effects};
use crate::llm::{self, Again, Answer, ChatModel, DoneReason, Fault, Timings};
use crate::record::{Epoch, Offset, PartitionId, Position, Record};
use crate::retry::Pause;
use crate::sink::{Limits, Outgoing, Topic};
use crate::telemetry::Metrics;

#[path = "effects_tests.rs"]
mod effects;
#[path = "limits_tests.rs"]
mod limits;

const POSITION: Position =
    Position { partition: PartitionId(3), offset: Offset(7), epoch: Epoch(1) };
const LIMITS: Limits =
    Limits { result_max: 1 << 20, dead_letter_max: 1 << 20, journal_max: 1 << 20 };

/// What a model does when it is asked.
#[derive(Clone, Copy)]
enum Behaviour {
    Answers,
    /// Another model answers.
    StandsIn,
    Fails,
    /// Fails where another endpoint stands ready.
    Moves,
    Refuses,
    Panics,
    Hangs,
    /// Answers after so long, for 90 tokens of the prompt and 10 of the answer.
    Costs(Duration),
    /// Stands in line for so long, then answers.
    Queues(Duration),
}

struct Model {
    behaviour: Behaviour,
    asked: Arc<AtomicUsize>,
}

impl ChatModel for Model {
    fn ask<'a>(&'a self, request: llm::Request<'a>) -> BoxFuture<'a, Result<Answer, llm::Error>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        async move {
            let moves = matches!(self.behaviour, Behaviour::Moves);
            let again = if moves { Again::Elsewhere } else { Again::Here };
            let fail = |fault| Err(llm::Error { endpoint: "http://model".into(), fault, again });
            match self.behaviour {
                Behaviour::Answers | Behaviour::StandsIn => {}
                Behaviour::Fails | Behaviour::Moves => {
                    return fail(Fault::Unreachable { reason: "refused".into() });
                }
                Behaviour::Refuses => {
                    return fail(Fault::ContextOverflow { message: "too long".into() });
                }
                Behaviour::Panics => panic!("the model's client broke"),
                Behaviour::Hangs => std::future::pending().await,
                Behaviour::Costs(time) => tokio::time::sleep(time).await,
                Behaviour::Queues(time) => {
                    let waiting = request.queue.wait();
                    tokio::time::sleep(time).await;
                    drop(waiting);
                }
            }
            let counts = matches!(self.behaviour, Behaviour::Costs(_));
            let usage = counts.then_some(llm::Usage { input_tokens: 90, output_tokens: 10 });
            let (model, text) = ("scripted".into(), "an answer".into());
            let stands_in = matches!(self.behaviour, Behaviour::StandsIn);
            Ok(Answer {
                text,
                model,
                instead_of: stands_in.then(|| "asked".into()),
                digest: None,
                usage,
                done_reason: DoneReason::Stop,
                timings: Timings::default(),
            })
        }
        .boxed()
    }
}

struct Bench {
    runner: Runner,
    asked: Arc<AtomicUsize>,
    requests: mpsc::Receiver<Request>,
}

fn bench(behaviour: Behaviour, config: Config, limits: Limits) -> Bench {
    bench_of(behaviour, config, limits, |model| agents_graph(model).unwrap())
}

fn bench_of(
    behaviour: Behaviour,
    config: Config,
    limits: Limits,
    graph: impl FnOnce(Arc<dyn ChatModel>) -> Graph<AgentState>,
) -> Bench {
    let asked = Arc::new(AtomicUsize::new(0));
    let model = Arc::new(Model { behaviour, asked: Arc::clone(&asked) });
    let (sender, requests) = mpsc::channel(16);
    let recorder = Recorder::new(sender, config.durability);
    let press = Arc::new(Press::new("events".into(), watch::channel(limits).1));
    let runner =
        Runner::new(graph(model), config, "llama".into(), recorder, (press, Metrics::default()));
    Bench { runner, asked, requests }
}

/// A graph that asks the model three times.
fn crew(model: &Arc<dyn ChatModel>) -> Graph<AgentState> {
    let node = || LlmAnalysis::new(Arc::clone(model));
    Graph::builder()
        .node_with("a", node(), NodeOptions::new().durable())
        .node_with("b", node(), NodeOptions::new().durable())
        .node_with("c", node(), NodeOptions::new().durable())
        .edge(START, "a")
        .edge("a", "b")
        .edge("b", "c")
        .edge("c", END)
        .build()
        .unwrap()
}

fn config() -> Config {
    Config { durability: Durability::Off, ..Config::default() }
}

fn record(task: &Value) -> Record {
    let event = json!({
        "event_id": "123e4567-e89b-42d3-a456-426614174000", "event_type": "workflow.triggered",
        "timestamp": "2026-11-23T10:00:00Z", "source": "airflow", "workflow_id": "w", "workflow_run_id": "r",
        "payload": {"data": {"task": task}}, "metadata": {"environment": "dev"},
    });
    let value = Some(event.to_string().into());
    Record { position: POSITION, timestamp_ms: Some(5), key: None, value, deadline: None }
}

fn attempt(task: &str, last: bool) -> Attempt {
    let record = record(&json!(task));
    let event = event::decode(record.value.as_deref(), || Defaults::of("events", &record)).unwrap();
    let job = Job {
        event: Arc::new(event),
        timestamp_ms: Some(5),
        expiry: None,
        ledger: Ledger::default(),
    };
    Attempt {
        position: POSITION,
        job,
        number: if last { 4 } else { 1 },
        last,
        may_move: false,
        effects: Effects::default(),
    }
}

fn done(finished: Finished) -> Outcome {
    match finished {
        Finished::Done { outcome, .. } => outcome,
        Finished::Retry { class, .. } => panic!("wants another attempt: {class}"),
    }
}

fn values(outcome: &Outcome, topic: Topic) -> Vec<Value> {
    let records = outcome.records.iter().filter(|record| record.topic == topic);
    records.map(|record| serde_json::from_slice(&record.value).unwrap()).collect()
}

#[tokio::test]
async fn a_run_that_reaches_its_end_has_a_result_and_no_dead_letter() {
    let bench = bench(Behaviour::Answers, config(), LIMITS);

    let outcome = done(bench.runner.attempt(attempt("analyze it", false)).await);

    let [result] = values(&outcome, Topic::Results).try_into().unwrap();
    assert_eq!(result["status"], "success");
    assert_eq!(result["result"]["agent_results"]["llm_analysis"]["result"], "an answer");
    assert_eq!((outcome.status, outcome.class), (Some("success"), None));
    assert_eq!(outcome.records.len(), 1);
}

#[tokio::test]
async fn a_result_says_which_model_stood_in_for_which() {
    for (behaviour, instead_of) in
        [(Behaviour::StandsIn, json!("asked")), (Behaviour::Answers, Value::Null)]
    {
        let bench = bench(behaviour, config(), LIMITS);

        let outcome = done(bench.runner.attempt(attempt("analyze it", false)).await);

        let [result] = values(&outcome, Topic::Results).try_into().unwrap();
        let said = &result["result"]["agent_results"]["llm_analysis"]["metadata"];
        assert_eq!((&said["model"], &said["instead_of"]), (&json!("scripted"), &instead_of));
    }
}

#[tokio::test]
async fn an_error_that_may_pass_asks_for_another_attempt_and_the_last_one_ends_as_error() {
    let bench = bench(Behaviour::Fails, config(), LIMITS);

    let first = bench.runner.attempt(attempt("analyze it", false)).await;
    let last = done(bench.runner.attempt(attempt("analyze it", true)).await);

    assert!(matches!(
        first,
        Finished::Retry { class: "llm.unreachable", pause: Pause::BackOff { after: None }, .. }
    ));
    let [result] = values(&last, Topic::Results).try_into().unwrap();
    let [letter] = values(&last, Topic::DeadLetters).try_into().unwrap();
    assert_eq!(result["status"], "error");
    assert_eq!(
        result["result"]["agent_results"]["data"]["result"], "data_processed",
        "the partial state"
    );
    assert_eq!(letter["error"]["type"], "llm.unreachable");
    assert_eq!(letter["retry_count"], 3);
}

#[tokio::test]
async fn an_attempt_moves_though_it_is_the_last_and_nothing_stands_in_for_it_before() {
    for on_error in [OnError::Fail, OnError::Degrade] {
        let bench = bench(Behaviour::Moves, Config { on_error, ..config() }, LIMITS);
        let only = attempt("analyze it", true);

        let moves = bench.runner.attempt(Attempt { may_move: true, ..only.clone() }).await;
        let ends = done(bench.runner.attempt(only).await);

        assert!(matches!(moves, Finished::Retry { pause: Pause::None, .. }));
        let expected = if on_error == OnError::Fail { "error" } else { "success" };
        assert_eq!(ends.status, Some(expected));
    }
}

#[tokio::test]
async fn an_error_that_stays_ends_the_run_at_once_as_failure() {
    let bench = bench(Behaviour::Refuses, config(), LIMITS);

    let outcome = done(bench.runner.attempt(attempt("analyze it", false)).await);

    assert_eq!((outcome.status, outcome.class), (Some("failure"), Some("llm.context_overflow")));
}

#[tokio::test]
async fn a_panic_in_an_agent_ends_its_run_with_a_dead_letter() {
    let bench = bench(Behaviour::Panics, config(), LIMITS);

    let outcome = done(bench.runner.attempt(attempt("analyze it", false)).await);

    assert_eq!((outcome.status, outcome.class), (Some("error"), Some("workflow.panic")));
}

#[tokio::test]
async fn degrading_writes_the_last_error_into_the_result_and_goes_on() {
    let config = Config { on_error: OnError::Degrade, ..config() };
    let bench = bench(Behaviour::Fails, config, LIMITS);

    let first = bench.runner.attempt(attempt("analyze it", false)).await;
    let last = done(bench.runner.attempt(attempt("analyze it", true)).await);

    assert!(matches!(first, Finished::Retry { .. }));
    let [result] = values(&last, Topic::Results).try_into().unwrap();
    assert_eq!(result["status"], "success");
    assert_eq!(result["result"]["agent_results"]["llm_analysis"]["status"], "error");
    assert_eq!(result["result"]["metadata"]["llm_metadata"]["error_type"], "llm.unreachable");
}

#[tokio::test(start_paused = true)]
async fn the_limit_stops_a_run_that_hangs() {
    let bench = bench(Behaviour::Hangs, config(), LIMITS);

    let ended = bench.runner.attempt(attempt("analyze it", false)).await;

    assert!(matches!(ended, Finished::Retry { class: "workflow.timeout", .. }));
}

#[tokio::test(start_paused = true)]
async fn time_in_line_does_not_count_against_the_limit() {
    let bench = bench(Behaviour::Queues(Duration::from_secs(3600)), config(), LIMITS);

    let outcome = done(bench.runner.attempt(attempt("analyze it", false)).await);

    assert_eq!(outcome.status, Some("success"));
}

#[tokio::test]
async fn a_result_too_large_for_its_topic_becomes_a_failure_that_fits() {
    let limits = Limits { result_max: 4096, dead_letter_max: 4096, ..LIMITS };
    let bench = bench(Behaviour::Answers, config(), limits);

    let outcome = done(bench.runner.attempt(attempt(&"long ".repeat(2000), false)).await);

    assert_eq!(
        (outcome.status, outcome.class),
        (Some("failure"), Some("workflow.result_too_large"))
    );
    assert!(outcome.records.iter().map(Outgoing::size).all(|size| size <= 4096));
    assert_eq!(outcome.records.len(), 2);
}

#[test]
fn texts_that_are_too_long_by_themselves_are_cut_to_what_fits() {
    let limits = Limits { result_max: 4096, dead_letter_max: 4096, ..LIMITS };
    let press = Press::new("events".into(), watch::channel(limits).1);
    let long = "\u{1}".repeat(100_000);
    let event = |environment: &str| {
        let value = json!({
            "event_id": "123e4567-e89b-42d3-a456-426614174000", "event_type": "workflow.triggered",
            "source": "airflow", "workflow_id": long, "workflow_run_id": long, "payload": {"data": {"task": 7}},
            "metadata": {"environment": environment},
        });
        Record { value: Some(value.to_string().into()), ..record(&json!("x")) }
    };
    let refused = event("nowhere");
    let invalid =
        event::decode(refused.value.as_deref(), || Defaults::of("events", &refused)).unwrap_err();
    let accepted = event("dev");
    let event =
        event::decode(accepted.value.as_deref(), || Defaults::of("events", &accepted)).unwrap();
    let job =
        Job { event: Arc::new(event), timestamp_ms: None, expiry: None, ledger: Ledger::default() };

    let outcomes = [
        press.refused(&refused, &invalid, Timestamp::UNIX_EPOCH),
        press.panicked(&job, POSITION, Timestamp::UNIX_EPOCH),
        press.too_large(&job, POSITION, (1, 9999, 4096), Timestamp::UNIX_EPOCH),
    ];

    for outcome in outcomes {
        assert_eq!(outcome.records.len(), 2);
        assert!(outcome.records.iter().map(Outgoing::size).all(|size| size <= 4096));
    }
}

#[test]
fn records_that_outgrew_a_lowered_limit_are_cut_to_it() {
    let wide = Press::new("events".into(), watch::channel(LIMITS).1);
    let tight = Limits { result_max: 2048, dead_letter_max: 2048, ..LIMITS };
    let tight = Press::new("events".into(), watch::channel(tight).1);
    let value = format!(
        r#"{{"event_id": "123e4567-e89b-42d3-a456-426614174000", "x": "{}"}}"#,
        "y".repeat(9000)
    );
    let record = Record { value: Some(value.into()), ..record(&json!("x")) };
    let invalid =
        event::decode(record.value.as_deref(), || Defaults::of("events", &record)).unwrap_err();

    let cut = tight.cut(wide.refused(&record, &invalid, Timestamp::UNIX_EPOCH).records);

    assert_eq!(cut.len(), 2);
    assert!(cut.iter().map(Outgoing::size).all(|size| size <= 2048));
    let letter: Value = serde_json::from_slice(&cut[1].value).unwrap();
    let size = record.value.as_ref().unwrap().len();
    assert_eq!(
        letter["original"],
        json!({"encoding": "utf-8", "value": null, "size": size, "truncated": true})
    );
}

#[test]
fn a_record_that_is_no_event_is_answered_where_its_id_can_be_read() {
    let press = Press::new("events".into(), watch::channel(LIMITS).1);
    let refused = |value: Option<&str>| {
        let value = value.map(|text| text.to_owned().into());
        let record = Record { value, ..record(&json!("x")) };
        let invalid =
            event::decode(record.value.as_deref(), || Defaults::of("events", &record)).unwrap_err();
        press.refused(&record, &invalid, Timestamp::UNIX_EPOCH)
    };

    let nameless = refused(None);
    let named = refused(Some(
        r#"{"event_id": "123e4567-e89b-42d3-a456-426614174000", "workflow_id": "w"}"#,
    ));

    assert_eq!((nameless.status, nameless.class), (None, Some("event.null")));
    assert_eq!((named.status, named.class), (Some("error"), Some("event.schema")));
    assert_eq!(values(&named, Topic::Results)[0]["workflow_id"], "w");
    assert_eq!(values(&named, Topic::DeadLetters)[0]["source"]["offset"], 7);
}

#[test]
fn the_same_record_has_the_same_dead_letter_id_in_every_life() {
    let press = Press::new("events".into(), watch::channel(LIMITS).1);
    let record = Record { value: None, ..record(&json!("x")) };
    let invalid = event::decode(None, || Defaults::of("events", &record)).unwrap_err();

    let id = || {
        values(&press.refused(&record, &invalid, Timestamp::UNIX_EPOCH), Topic::DeadLetters)[0]["dlq_id"].clone()
    };

    assert_eq!(id(), id());
}
