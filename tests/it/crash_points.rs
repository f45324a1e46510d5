//! The process dies at each named step of an event's way, on a real broker, and then every account must balance: nothing
//! lost, nothing twice, no committed answer asked for again.
//!
//! These tests need a program that was built with its failpoints; `tests/run` builds it.
//!
//! ```text
//! tests/run --features failpoints --test it -- crash_points
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use weir::failpoint::Point;

use crate::support::ledger::Audit;
use crate::support::scene::Scene;

/// How many stories go on at once, in all tests together.
static ROOM: Semaphore = Semaphore::const_new(4);

const LATENCY_MAX: Duration = Duration::from_millis(600);

/// Returns a point's step, which is the first half of its name.
fn step(point: Point) -> &'static str {
    point.name().split('.').next().unwrap()
}

/// Returns the points of a step.
fn points(wanted: &str) -> impl Iterator<Item = Point> {
    Point::ALL.iter().copied().filter(move |point| step(*point) == wanted)
}

/// Returns at which passage to die: not at the first where there are many, so that there is something to lose.
fn nth(point: Point) -> u32 {
    match step(point) {
        "receive" => 5,
        "settle" => 3,
        "commit" => 2,
        _ if point == Point::RecoveryReading => 2,
        _ => 1,
    }
}

fn trap(point: Point) -> String {
    format!("{}:{}", point.name(), nth(point))
}

/// Returns tasks of all kinds: half ask the model, some do not, one fails and one is no event.
fn tasks(first: usize) -> impl Iterator<Item = Value> {
    (first..first + 8).map(|number| match number % 8 {
        0 | 2 | 4 | 6 => json!(format!("analyze #{number}")),
        3 => json!(format!("{{ no event {number}")),
        // The orchestrator needs words.
        5 => json!(number),
        _ => json!(format!("list #{number}")),
    })
}

async fn publish(scene: &mut Scene, first: usize) {
    scene.publish(0, tasks(first)).await;
    scene.publish(1, tasks(first + 8)).await;
}

/// Dies at a point of the usual way, and goes on in a second life.
async fn at_work(point: Point) -> Audit {
    let mut scene = Scene::new(point.name(), 2, LATENCY_MAX).await;
    publish(&mut scene, 0).await;
    let weir = scene.start_trapped("one", &trap(point));

    scene.dies(weir, point).await;
    publish(&mut scene, 16).await;
    let next = scene.start("one");

    scene.balance([next]).await
}

/// As [`at_work`], where results wait for their age: what the model has answered is in the journal meanwhile.
async fn holding_back(point: Point) -> Audit {
    let mut scene = Scene::new(point.name(), 2, LATENCY_MAX).await;
    let usual = scene.environment.clone();
    scene.environment = scene.environment.set("WORKFLOW_RESULT_MIN_AGE", "20s");
    publish(&mut scene, 0).await;
    // Behind the events that ask no model, and what a first transaction has carried.
    let nth = if step(point) == "settle" { 11 } else { 2 };
    let weir = scene.start_trapped("one", &format!("{}:{nth}", point.name()));

    scene.dies(weir, point).await;
    scene.environment = usual;
    publish(&mut scene, 16).await;
    let next = scene.start("one");

    journaling(scene.balance([next]).await)
}

/// Checks that a story was one of the journal.
fn journaling(audit: Audit) -> Audit {
    assert!(audit.figures.journaled > 0, "{:?}", audit.figures);
    audit
}

/// Dies in the recovery of what an earlier life left unfinished, and goes on in a third one.
async fn in_recovery(point: Point) -> Audit {
    let mut scene = Scene::new(point.name(), 2, LATENCY_MAX).await;
    publish(&mut scene, 0).await;
    let usual = scene.environment.clone();
    scene.environment = scene.environment.set("WORKFLOW_RESULT_MIN_AGE", "20s");
    let weir = scene.start_trapped("one", "journal.committed:2");
    scene.dies(weir, Point::JournalCommitted).await;
    scene.environment = usual;

    let weir = scene.start_trapped("one", &trap(point));
    scene.dies(weir, point).await;
    let next = scene.start("one");

    journaling(scene.balance([next]).await)
}

/// Dies while it gives a partition to another instance, and comes back beside that one.
async fn in_a_rebalance(point: Point) -> Audit {
    let mut scene = Scene::new(point.name(), 2, LATENCY_MAX).await;
    scene.environment = scene.environment.set("WORKFLOW_RESULT_MIN_AGE", "1s");
    // A static member that comes back into the middle of a rebalance does not set off the next round of it.
    scene.environment = scene.environment.set("KAFKA_STATIC_MEMBERSHIP", "false");
    let mut weir = scene.start_trapped("one", &trap(point));
    weir.ready().await;
    publish(&mut scene, 0).await;
    let other = scene.start("two");
    publish(&mut scene, 16).await;

    scene.dies(weir, point).await;
    publish(&mut scene, 32).await;
    let next = scene.start("one");

    journaling(scene.balance([other, next]).await)
}

/// Dies at every point of a step, each in a story of its own.
async fn die_at_each<F>(step: &str, story: impl Fn(Point) -> F)
where
    F: Future<Output = Audit> + Send + 'static,
{
    let mut stories = JoinSet::new();
    for point in points(step) {
        let story = story(point);
        stories.spawn(async move {
            let _room = ROOM.acquire().await.unwrap();
            (point, story.await)
        });
    }
    while let Some(told) = stories.join_next().await {
        let (point, Audit { violations, figures, .. }) = told.unwrap();
        assert!(violations.is_empty(), "{}: {figures:?} {violations:#?}", point.name());
        assert!(figures.dead_letters > 0, "{figures:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn death_while_receiving_loses_and_repeats_nothing() {
    die_at_each("receive", at_work).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn death_while_journaling_loses_and_repeats_nothing() {
    die_at_each("journal", holding_back).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn death_while_settling_loses_and_repeats_nothing() {
    die_at_each("settle", at_work).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn death_while_a_result_is_held_back_loses_and_repeats_nothing() {
    die_at_each("settle", holding_back).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn death_in_a_transaction_loses_and_repeats_nothing() {
    die_at_each("commit", at_work).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn death_in_a_transaction_of_journal_records_loses_and_repeats_nothing() {
    die_at_each("commit", holding_back).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn death_in_a_rebalance_loses_and_repeats_nothing() {
    die_at_each("revoke", in_a_rebalance).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn death_in_recovery_loses_and_repeats_nothing() {
    die_at_each("recovery", in_recovery).await;
}

#[test]
fn every_point_is_of_a_step_that_is_tested() {
    let steps: BTreeSet<_> = Point::ALL.iter().map(|point| step(*point)).collect();

    assert_eq!(
        steps,
        BTreeSet::from(["receive", "journal", "settle", "commit", "revoke", "recovery"])
    );
}
