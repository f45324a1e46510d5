//! Negative controls: a scripted story is told twice, with a mechanism and without it. With it every account balances;
//! without it the ledger must find what is broken, or the ledger, the story or the mechanism is worth nothing.
//!
//! ```text
//! tests/run --features failpoints --test it -- controls
//! ```

use std::time::Duration;

use rdkafka::producer::Producer as _;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use weir::failpoint::{Mechanism, Point};

use crate::support::counting_model::{Ailment, CountingModel};
use crate::support::kafka::{PATIENCE, create, effect, unique, until};
use crate::support::ledger::{Audit, Kind};
use crate::support::process::Weir;
use crate::support::scene::Scene;

/// Returns tasks that no model is asked for.
fn plain(count: usize) -> impl Iterator<Item = Value> {
    (0..count).map(|number| json!(format!("list #{number}")))
}

/// Tells a story with and without a mechanism, and checks that what breaks is what was said.
fn check<F>(
    story: impl Fn(Option<Mechanism>) -> F,
    off: Mechanism,
    breaks: Kind,
) -> impl Future<Output = ()>
where
    F: Future<Output = Audit> + Send + 'static,
{
    let told = both(story(None), story(Some(off)));
    async move {
        let (with, without) = told.await;

        assert_eq!(with.violations, [], "with {}", off.name());
        let found = without.violations.iter().any(|violation| violation.kind == breaks);
        let Audit { violations, figures, .. } = &without;
        assert!(found, "without {}: {violations:#?}, {figures:?}", off.name());
    }
}

/// Tells two stories at once. Reading a topic blocks, so each has a thread.
fn both<T: Send + 'static>(
    one: impl Future<Output = T> + Send + 'static,
    other: impl Future<Output = T> + Send + 'static,
) -> impl Future<Output = (T, T)> {
    let (mut first, mut second) = (JoinSet::new(), JoinSet::new());
    first.spawn(one);
    second.spawn(other);
    async move {
        let told = (first.join_next().await, second.join_next().await);
        (told.0.unwrap().unwrap(), told.1.unwrap().unwrap())
    }
}

/// Waits until an instance has come to a point at which it pauses.
async fn pauses(weir: &Weir, point: Point) {
    until(point.name(), || weir.log().contains(&format!("failpoint {}", point.name()))).await;
}

/// Waits until an instance has so many results.
async fn counts(weir: &Weir, results: usize) {
    shows(weir, &format!("weir_results_total{{status=\"success\"}} {results}\n")).await;
}

/// Waits until an instance shows a metric.
async fn shows(weir: &Weir, wanted: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "{}", weir.log());
        let (_, metrics) = weir.page("/metrics").await.unwrap_or_default();
        if metrics.contains(wanted) {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn offsets_outside_of_the_transaction_publish_twice() {
    let story = |off| async move {
        let mut scene = Scene::new("control-offsets", 1, Duration::ZERO).await.without(off);
        scene.publish(0, plain(6)).await;
        let weir = scene.start_trapped("one", "commit.done");
        scene.dies(weir, Point::CommitDone).await;
        let next = scene.start("one");
        scene.balance([next]).await
    };

    check(story, Mechanism::OffsetsInTransaction, Kind::Duplicated).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn without_the_map_what_finished_out_of_order_is_done_again() {
    let story = |off| async move {
        let mut scene = Scene::new("control-map", 1, Duration::from_secs(3)).await.without(off);
        scene.publish(0, [json!("analyze slowly")]).await;
        scene.publish(0, plain(10)).await;
        // The others are committed long before the model has answered.
        let weir = scene.start_trapped("one", "settle.ended:11");
        scene.dies(weir, Point::SettleEnded).await;
        let next = scene.start("one");
        scene.balance([next]).await
    };

    check(story, Mechanism::Map, Kind::Duplicated).await;
}

/// Another producer's open transaction holds the journal's last stable offset below a record that is committed. That
/// happens by itself for the moment in which a transaction's markers are written, one after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn recovery_to_the_last_stable_offset_misses_a_journaled_answer() {
    let story = |off| async move {
        let latency = Duration::from_millis(100);
        let mut scene = Scene::new("control-stable", 1, latency).await.without(off);
        scene.environment = scene.environment.set("WORKFLOW_RESULT_MIN_AGE", "5s");
        let journal = scene.world.config.journal_topic.clone();
        create(&journal, 1, &[]).await;
        let strange = effect(0, 999_999, "llm");
        let records = [(journal.as_str(), 0, strange.value.as_ref())];
        let open = scene.world.open_transaction(&unique("open"), &records, &[]).await;
        scene.publish(0, [json!("analyze once")]).await;
        let weir = scene.start_trapped("one", "journal.committed");
        scene.dies(weir, Point::JournalCommitted).await;

        let next = scene.start("one");
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "{}", next.log());
            let (_, reasons) = next.page("/readyz?verbose").await.unwrap_or_default();
            let waits = reasons.contains("journal records");
            // Who does not wait asks the model a second time.
            if waits || scene.model.asked().values().any(|asked| asked.len() > 1) {
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
        open.abort_transaction(PATIENCE).unwrap();
        scene.balance([next]).await
    };

    check(story, Mechanism::JournalToItsEnd, Kind::Repeated).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_revocation_acknowledged_at_once_publishes_twice() {
    const SLOW: Duration = Duration::from_secs(12);
    let story = |off| async move {
        let mut scene = Scene::new("control-revoke", 2, Duration::ZERO).await.without(off);
        // The first member's two answers come within the grace; the next one's come at once.
        let latency = |number| if number <= 2 { SLOW } else { Duration::ZERO };
        scene.model = CountingModel::start(latency).await;
        scene.environment = scene
            .environment
            .set("OLLAMA_BASE_URL", &scene.model.url)
            .set("KAFKA_REVOKE_GRACE", "15s")
            .set("KAFKA_SESSION_TIMEOUT", "20s");
        for partition in 0..2 {
            scene.publish(partition, [json!(format!("analyze slowly {partition}"))]).await;
        }
        let one = scene.start("one");
        until("both are asked for", || scene.model.asked().len() == 2).await;
        let two = scene.start("two");
        scene.balance([one, two]).await
    };

    check(story, Mechanism::LateAcknowledgement, Kind::Duplicated).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_commit_that_no_membership_guards_publishes_twice() {
    let story = |off| async move {
        let mut scene = Scene::new("control-member", 1, Duration::ZERO).await.without(off);
        scene.environment = scene
            .environment
            .set("KAFKA_STATIC_MEMBERSHIP", "false")
            .set("KAFKA_TRANSACTION_TIMEOUT", "60s");
        scene.publish(0, plain(6)).await;
        let one = scene.start_trapped("one", "commit.produced=pause:3000");
        pauses(&one, Point::CommitProduced).await;
        one.signal("STOP").await;
        let two = scene.start("two");
        counts(&two, 6).await;
        one.signal("CONT").await;
        scene.balance([one, two]).await
    };

    check(story, Mechanism::Membership, Kind::Duplicated).await;
}

/// Whoever is dropped while a revocation is outstanding is not told, and a static member keeps what it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_static_member_that_was_dropped_unnoticed_publishes_twice() {
    const SLOW: Duration = Duration::from_secs(12);
    let story = |off| async move {
        let mut scene = Scene::new("control-dropped", 2, Duration::ZERO).await.without(off);
        // The first member's two answers come when it is in the group again; the next one's come at once.
        let latency = |number| if number <= 2 { SLOW } else { Duration::ZERO };
        scene.model = CountingModel::start(latency).await;
        scene.environment = scene
            .environment
            .set("OLLAMA_BASE_URL", &scene.model.url)
            .set("KAFKA_SESSION_TIMEOUT", "8s")
            .set("KAFKA_REVOKE_GRACE", "7s");
        for partition in 0..2 {
            scene.publish(partition, [json!(format!("analyze slowly {partition}"))]).await;
        }
        let one = scene.start("one");
        until("both are asked for", || scene.model.asked().len() == 2).await;
        let asked = Instant::now();
        let two = scene.start("two");
        until("a revocation", || one.log().contains("revoked")).await;
        one.signal("STOP").await;
        counts(&two, 2).await;
        one.signal("CONT").await;
        until("its answer has come", || asked.elapsed() > SLOW + Duration::from_secs(2)).await;
        scene.balance([one, two]).await
    };

    check(story, Mechanism::SameMember, Kind::Duplicated).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn without_doubt_who_was_replaced_asks_for_what_its_successor_has_committed() {
    let story = |off| async move {
        let mut scene = Scene::new("control-doubt", 1, Duration::ZERO).await.without(off);
        // Retries come at any time up to this; some are due when it goes on, and no breaker holds them back, nor the
        // thread that the pause takes.
        scene.environment = scene
            .environment
            .set("WORKFLOW_RETRY_BASE", "4s")
            .set("LLM_BREAKER_FAULTS", "1000")
            .set("WORKER_THREADS", "4");
        scene.model.suffer(Ailment::Broken);
        scene.publish(0, (0..8).map(|number| json!(format!("analyze #{number}")))).await;
        // It hears late of what it has lost, so that the calls of its retries are not cut short by that.
        let one = scene.start_trapped("one", "revoke.called=pause:3000");
        let failed = "attempt failed; it will be repeated";
        until("all have failed", || one.log().matches(failed).count() >= 8).await;
        one.signal("STOP").await;
        scene.model.suffer(Ailment::None);
        let two = scene.start("two");
        counts(&two, 8).await;
        one.signal("CONT").await;
        until("it has heard of it", || one.log().contains("gave partitions up")).await;
        scene.balance([one, two]).await
    };

    check(story, Mechanism::Doubt, Kind::Repeated).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_lost_answer_taken_for_an_abort_publishes_twice() {
    let story = |off| async move {
        let mut scene = Scene::new("control-outcome", 1, Duration::ZERO).await.without(off);
        scene.publish(0, plain(6)).await;
        let weir = scene.start_trapped("one", "commit.done=fail");
        pauses(&weir, Point::CommitDone).await;
        scene.balance([weir]).await
    };

    check(story, Mechanism::ReadBack, Kind::Duplicated).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn without_a_journal_a_finished_call_is_made_again() {
    let story = |durability| async move {
        let mut scene = Scene::new("control-journal", 1, Duration::ZERO).await;
        scene.environment = scene
            .environment
            .set("WORKFLOW_DURABILITY", durability)
            .set("WORKFLOW_RESULT_MIN_AGE", "15s");
        let mut weir = scene.start("one");
        weir.ready().await;
        scene.publish(0, [json!("analyze once")]).await;
        shows(&weir, "weir_results_held 1\n").await;
        // Time for a transaction, while the result still waits.
        sleep(Duration::from_secs(3)).await;
        scene.was_quiet();
        weir.kill().await;
        let next = scene.start("one");
        scene.balance([next]).await
    };

    let (with, without) = both(story("sync"), story("off")).await;

    assert_eq!((with.violations, with.figures.journaled, with.figures.requests), (vec![], 1, 1));
    assert_eq!((without.figures.journaled, without.figures.requests), (0, 2));
    assert_eq!(without.violations.iter().map(|it| it.kind).collect::<Vec<_>>(), [Kind::Repeated]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn an_id_that_dies_with_its_process_leaves_the_transaction_open_until_it_times_out() {
    let story = |off| async move {
        let mut scene = Scene::new("control-id", 1, Duration::ZERO).await.without(off);
        scene.environment = scene.environment.set("KAFKA_TRANSACTION_TIMEOUT", "16s");
        scene.publish(0, plain(6)).await;
        let weir = scene.start_trapped("one", "commit.offsets");
        scene.dies(weir, Point::CommitOffsets).await;
        let since = Instant::now();
        let next = scene.start("one");
        scene.answered(std::slice::from_ref(&next)).await;
        let (took, log) = (since.elapsed(), next.log());
        (scene.balance([next]).await.violations, took, log)
    };

    let (with, without) = both(story(None), story(Some(Mechanism::StableId))).await;

    assert_eq!((with.0, without.0), (vec![], vec![]));
    let limit = Duration::from_secs(11);
    let told = format!("{:?} {:?}\n{}", with.1, without.1, with.2);
    assert!(with.1 < limit && without.1 > limit, "{told}");
}
