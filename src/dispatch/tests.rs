//! The driver with the real machine, runner and graph, over transactions in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering as Atomic};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::machine::Settings;
use super::*;
use crate::journal::{Effect, Map, Scope};
use crate::llm::{self, Answer, ChatModel, DoneReason, Fault as LlmFault, Timings};
use crate::record::{Epoch, Offset, PartitionId, Position, Record};
use crate::retry::RetryPolicy;
use crate::shutdown::Shutdown;
use crate::sink::memory::{Fault, MemoryLog};
use crate::sink::{self, Limits, Size, Topic};
use crate::source::{self, Recovered, Window};
use crate::standing::Standing;
use crate::telemetry::{Health, Metrics};
use crate::workflow::{Config as RunConfig, Durability, Press, Recorder, Runner, agents_graph};

#[path = "limits_tests.rs"]
mod limits;

const P: PartitionId = PartitionId(0);
const SECOND: Duration = Duration::from_secs(1);

/// Answers after `latency`; fails for tasks that say so, the first time or always; counts calls by task.
#[derive(Default)]
struct Model {
    calls: Mutex<BTreeMap<String, usize>>,
    latency_ms: AtomicU64,
}

impl ChatModel for Model {
    fn ask<'a>(&'a self, request: llm::Request<'a>) -> BoxFuture<'a, Result<Answer, llm::Error>> {
        let mut lines = request.question().lines();
        let task = lines.find_map(|line| line.strip_prefix("Task: ")).unwrap().to_owned();
        let count = *self
            .calls
            .lock()
            .unwrap()
            .entry(task.clone())
            .and_modify(|count| *count += 1)
            .or_insert(1);
        async move {
            tokio::time::sleep(Duration::from_millis(self.latency_ms.load(Atomic::Relaxed))).await;
            if task.contains("always fails") || (task.contains("fails once") && count == 1) {
                let fault = LlmFault::Unreachable { reason: "refused".into() };
                return Err(llm::Error {
                    endpoint: "http://model".into(),
                    fault,
                    again: llm::Again::Here,
                });
            }
            let (text, model) = (format!("answer to {task}"), "m".into());
            Ok(Answer {
                text,
                model,
                instead_of: None,
                digest: None,
                usage: None,
                done_reason: DoneReason::Stop,
                timings: Timings::default(),
            })
        }
        .boxed()
    }
}

/// One life of the process over a log that outlives it.
struct Life {
    events: mpsc::Sender<source::Event>,
    shutdown: Shutdown,
    ended: JoinHandle<Result<End, sink::Error>>,
}

#[derive(Clone, Default)]
struct World {
    log: MemoryLog,
    model: Arc<Model>,
    metrics: Metrics,
    event_ttl: Duration,
    result_min_age: Duration,
    budget_calls: u64,
}

impl World {
    fn start(&self, in_flight_max: usize, durability: Durability) -> Life {
        let press = Arc::new(Press::new("events".into(), self.log.limits()));
        let (requests, requested) = mpsc::channel(64);
        let recorder = Recorder::new(requests, durability);
        let budget_calls = self.budget_calls;
        let config = RunConfig { durability, budget_calls, ..RunConfig::default() };
        let model: Arc<dyn ChatModel> = Arc::clone(&self.model) as _;
        let graph = agents_graph(model).unwrap();
        let kept = (Arc::clone(&press), Metrics::default());
        let runner = Arc::new(Runner::new(graph, config, "m".into(), recorder, kept));
        let (events, received) = mpsc::channel(64);
        let shutdown = Shutdown::default();
        let parts = Parts {
            settings: Settings {
                group: "group".into(),
                topic: "events".into(),
                in_flight_max,
                ordering: Ordering::Unordered,
                retry: RetryPolicy { attempts_max: 3, base: SECOND, max: SECOND },
                size: Size { records_max: 1000, bytes_max: 1 << 20 },
                spacing: Duration::ZERO,
                atomic: true,
                unsettled_max: 2_000,
            },
            result_min_age: self.result_min_age,
            event_ttl: self.event_ttl,
            revoke_grace: 2 * SECOND,
            standing: Standing::new(Duration::MAX),
            shutdown_grace: 25 * SECOND,
            publisher: self.log.clone(),
            runner,
            press,
            events: received,
            requests: requested,
            published: Box::new(|_| {}),
            metrics: self.metrics.clone(),
            health: Health::default(),
            shutdown: shutdown.clone(),
        };
        #[expect(clippy::disallowed_methods, reason = "the test awaits it")]
        let ended = tokio::spawn(Driver::new(parts, 9).run());
        Life { events, shutdown, ended }
    }

    /// Returns the partition as recovery finds it: the committed map, and the journal.
    fn recovered(&self, epoch: u64) -> Recovered {
        let (start, map) = match self.log.position(P) {
            None => (Offset(0), None),
            Some((base, text)) => {
                let scope = Scope { group: "group", topic: "events", partition: P };
                (base, Some(Map::decode(text, &scope, base).unwrap()))
            }
        };
        let journal = self.log.values(Topic::Journal);
        let effects = journal
            .iter()
            .zip(0..)
            .map(|(value, at)| (Offset(at), Effect::decode(value.to_string().as_bytes()).unwrap()));
        let wanted =
            |offset: Offset| map.as_ref().is_some_and(|map| map.unsettled.contains(&offset));
        let effects = effects.filter(|(_, effect)| wanted(effect.offset)).collect();
        let journal_end = Offset(journal.len().try_into().unwrap());
        let window = Window::alone(1000, 1 << 20);
        Recovered { partition: P, epoch: Epoch(epoch), start, map, effects, journal_end, window }
    }

    fn tasks(&self) -> Vec<String> {
        let results = self.log.values(Topic::Results);
        results
            .iter()
            .map(|result| result["result"]["task"].as_str().unwrap_or("?").to_owned())
            .collect()
    }

    async fn until_results(&self, count: usize) {
        self.log.until(|log| log.values(Topic::Results).len() >= count).await;
    }

    fn calls(&self, task: &str) -> usize {
        self.model.calls.lock().unwrap().get(task).copied().unwrap_or_default()
    }
}

impl Life {
    async fn assign(&self, world: &World) {
        self.events.send(source::Event::Assigned(vec![world.recovered(1)])).await.unwrap();
    }

    async fn send(&self, tasks: &[&str]) {
        self.send_from(0, tasks).await;
    }

    async fn send_from(&self, first: i64, tasks: &[&str]) {
        let records =
            tasks.iter().zip(first..).map(|(task, offset)| record(offset, &json!(task))).collect();
        self.events.send(source::Event::Records(records)).await.unwrap();
    }

    /// Sends events of this moment: their results wait for their least age, and their answers go to the journal.
    async fn send_young(&self, first: i64, tasks: &[&str]) {
        let timestamp_ms = Some(Timestamp::now().as_millisecond());
        let young = |(task, offset)| Record { timestamp_ms, ..record(offset, &json!(task)) };
        let records = tasks.iter().zip(first..).map(young).collect();
        self.events.send(source::Event::Records(records)).await.unwrap();
    }

    async fn revoke(&self, lost: bool) -> oneshot::Receiver<()> {
        let (done, acknowledged) = oneshot::channel();
        self.events.send(source::Event::Revoked { partitions: vec![P], lost, done }).await.unwrap();
        acknowledged
    }

    async fn drain(self) -> End {
        self.shutdown.drain.cancel();
        self.ended.await.unwrap().unwrap()
    }
}

/// A life whose one run is in the middle of a call that takes `latency_ms`.
async fn running_for(latency_ms: u64) -> (World, Life) {
    let world = World::default();
    world.model.latency_ms.store(latency_ms, Atomic::Relaxed);
    let life = world.start(9, Durability::Sync);
    life.assign(&world).await;
    life.send(&["analysis slow"]).await;
    tokio::time::sleep(SECOND).await;
    (world, life)
}

fn record(offset: i64, task: &Value) -> Record {
    let event = json!({
        "event_id": Uuid::from_u128(u128::from(offset.unsigned_abs())), "event_type": "workflow.triggered",
        "source": "airflow", "workflow_id": "w", "workflow_run_id": "r", "payload": {"data": {"task": task}},
        "metadata": {"environment": "dev"},
    });
    let position = Position { partition: P, offset: Offset(offset), epoch: Epoch(1) };
    Record {
        position,
        timestamp_ms: Some(0),
        key: None,
        value: Some(event.to_string().into()),
        deadline: None,
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_may_be_retried_waits_without_a_permit() {
    let world = World::default();
    let life = world.start(1, Durability::Off);
    life.assign(&world).await;

    life.send(&["analysis a fails once", "b"]).await;

    world.until_results(2).await;
    assert_eq!(world.tasks(), ["b", "analysis a fails once"]);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_fails_for_good_ends_in_one_result_and_one_dead_letter() {
    let world = World::default();
    let life = world.start(9, Durability::Sync);
    life.assign(&world).await;

    life.send(&["analysis always fails"]).await;

    world.until_results(1).await;
    assert_eq!(life.drain().await, End::Drained);
    let results = world.log.values(Topic::Results);
    let letters = world.log.values(Topic::DeadLetters);
    assert_eq!((results.len(), letters.len()), (1, 1));
    assert_eq!(results[0]["status"], "error");
    assert_eq!(letters[0]["retry_count"], 2);
    assert_eq!(world.calls("analysis always fails"), 3);
}

#[tokio::test(start_paused = true)]
async fn garbage_is_settled_like_everything_else() {
    let world = World::default();
    let life = world.start(9, Durability::Sync);
    life.assign(&world).await;
    let garbage = |offset, value: Option<&'static str>| Record {
        value: value.map(Into::into),
        ..record(offset, &json!(""))
    };

    let records = vec![garbage(0, None), garbage(1, Some("{")), record(2, &json!("good"))];
    life.events.send(source::Event::Records(records)).await.unwrap();

    world.until_results(1).await;
    assert_eq!(life.drain().await, End::Drained);
    assert_eq!(world.log.values(Topic::DeadLetters).len(), 2);
    assert_eq!(world.log.position(P).unwrap().0, Offset(3));
}

#[tokio::test(start_paused = true)]
async fn an_aborted_transaction_is_repeated_and_publishes_once() {
    let world = World::default();
    world.log.fail([Fault::Abort, Fault::NotAMember, Fault::Abort]);
    let life = world.start(9, Durability::Sync);
    life.assign(&world).await;

    life.send(&["analysis a", "b"]).await;

    world.until_results(2).await;
    assert_eq!(life.drain().await, End::Drained);
    assert_eq!(world.log.values(Topic::Results).len(), 2);
    assert_eq!(world.calls("analysis a"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_next_life_takes_up_the_answers_of_the_last_one_and_skips_what_is_settled() {
    let world = World { result_min_age: 60 * SECOND, ..World::default() };
    let first = world.start(9, Durability::Sync);
    first.assign(&world).await;
    first.send_young(0, &["analysis a"]).await;
    first.send_from(1, &["b", "c"]).await;
    world.until_results(2).await;
    world.log.until(|log| !log.values(Topic::Journal).is_empty()).await;
    first.ended.abort();
    let before = world.tasks();

    let second = world.start(9, Durability::Sync);
    second.assign(&world).await;
    let (start, _) = world.log.position(P).unwrap();
    let tasks = ["analysis a", "b", "c"];
    second.send_from(start.0, &tasks[usize::try_from(start.0).unwrap()..]).await;

    world.until_results(3).await;
    assert_eq!(second.drain().await, End::Drained);
    let counts = world.tasks().into_iter().fold(HashMap::new(), |mut counts, task| {
        *counts.entry(task).or_insert(0) += 1;
        counts
    });
    assert!(counts.values().all(|count| *count == 1), "{counts:?} after {before:?}");
    assert_eq!(world.calls("analysis a"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_and_its_result_take_one_transaction_and_the_journal_none() {
    let world = World::default();
    let life = world.start(9, Durability::Sync);
    life.assign(&world).await;

    life.send(&["analysis a"]).await;

    world.until_results(1).await;
    assert_eq!((world.log.commits(), world.log.values(Topic::Journal).len()), (1, 0));
    assert_eq!(world.calls("analysis a"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_outcome_read_back_without_offsets_loses_no_effect() {
    let world = World { result_min_age: 60 * SECOND, ..World::default() };
    world.log.fail([Fault::AppliedBlindly, Fault::Abort, Fault::Abort]);
    let first = world.start(9, Durability::Sync);
    first.assign(&world).await;
    first.send_young(0, &["analysis a"]).await;
    world.log.until(|log| log.commits() == 1).await;
    first.ended.abort();

    let second = world.start(9, Durability::Sync);
    second.assign(&world).await;
    second.send(&["analysis a"]).await;

    world.until_results(1).await;
    assert_eq!(world.calls("analysis a"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_revocation_is_acknowledged_only_after_the_outcome_in_flight() {
    let world = World::default();
    world.log.fail([Fault::Held]);
    let life = world.start(9, Durability::Off);
    life.assign(&world).await;
    life.send(&["a"]).await;
    tokio::time::sleep(SECOND).await;

    let mut acknowledged = life.revoke(false).await;
    tokio::time::sleep(60 * SECOND).await;
    assert!(acknowledged.try_recv().is_err(), "acknowledged while the outcome was unknown");

    world.log.release();
    acknowledged.await.unwrap();
    assert_eq!(world.tasks(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_revoked_run_is_cancelled_at_the_end_of_the_grace() {
    let (world, life) = running_for(60_000).await;
    let asked = tokio::time::Instant::now();

    life.revoke(false).await.await.unwrap();

    assert_eq!(asked.elapsed(), 2 * SECOND);
    assert!(world.tasks().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_drain_lets_runs_finish_and_commits_them() {
    let (world, life) = running_for(10_000).await;

    assert_eq!(life.drain().await, End::Drained);

    assert_eq!(world.tasks(), ["analysis slow"]);
    assert_eq!(world.log.position(P).unwrap().0, Offset(1));
}

#[tokio::test(start_paused = true)]
async fn a_drain_whose_last_transaction_never_ends_says_so() {
    let world = World::default();
    world.log.fail([Fault::Held]);
    let life = world.start(9, Durability::Off);
    life.assign(&world).await;
    life.send(&["a"]).await;
    tokio::time::sleep(SECOND).await;

    assert_eq!(life.drain().await, End::Unfinished);
}

#[tokio::test(start_paused = true)]
async fn a_second_signal_ends_it_at_once() {
    let (_world, life) = running_for(10_000).await;
    let asked = tokio::time::Instant::now();

    life.shutdown.drain.cancel();
    life.shutdown.abort.cancel();

    assert_eq!(life.ended.await.unwrap().unwrap(), End::Unfinished);
    assert_eq!(asked.elapsed(), Duration::ZERO);
}
