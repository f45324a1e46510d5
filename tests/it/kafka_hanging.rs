//! Transactions that somebody left open: how long they hold weir up, and what it says of one that nobody ends.

#![expect(clippy::print_stderr, reason = "how long it took is what one wants to know")]

use std::time::Duration;

use rdkafka::producer::Producer;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::support::kafka::{PATIENCE, World, create, produce, seen, unique};
use crate::support::process::{Environment, Weir};

/// An event that needs no model.
fn event() -> String {
    json!({
        "event_id": uuid::Uuid::new_v4(), "event_type": "workflow.triggered", "source": "airflow",
        "workflow_id": "w", "workflow_run_id": "r", "payload": {"data": {"task": "list"}},
        "metadata": {"environment": "dev"},
    })
    .to_string()
}

fn environment(world: &World) -> Environment {
    Environment::of(world).set("OLLAMA_BASE_URL", "http://127.0.0.1:1")
}

fn results(world: &World) -> usize {
    seen(&world.config.workflow_results_topic).len()
}

async fn until_metric(weir: &Weir, line: &str) {
    let until = Instant::now() + PATIENCE;
    loop {
        let page = weir.page("/metrics").await.map(|(_, page)| page).unwrap_or_default();
        if page.lines().any(|it| it == line) {
            return;
        }
        assert!(Instant::now() < until, "never {line:?}:\n{page}");
        sleep(Duration::from_millis(100)).await;
    }
}

/// What a broker does that forgets the markers of a transaction, seen from outside: one that stays open for longer than
/// any does.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_hangs_is_an_alarm_until_it_is_ended() {
    let world = World::new("hanging", 2).await;
    let results_topic = world.config.workflow_results_topic.clone();
    create(&results_topic, 2, &[]).await;
    world.commit(0, 0, "");
    world.commit(1, 0, "");
    let half = [(results_topic.as_str(), 1, &b"half done"[..])];
    let hangs = world.open_transaction(&unique("forgotten"), &half, &[(0, 0, "")]).await;

    // 2 s, and 15 more for a coordinator that looks every ten.
    let mut weir = environment(&world).set("KAFKA_TRANSACTION_TIMEOUT", "2s").start();
    weir.waits_for("partition 0 can't be recovered yet").await;
    produce(world.events(), 1, &event()).await;

    weir.waits_for(&format!("readers of partition 1 of {results_topic} are held up")).await;
    weir.waits_for("find-hanging").await;
    until_metric(&weir, "weir_partitions_held_up 2").await;
    let log = weir.log();
    assert_eq!(log.matches("ERROR").count(), 2, "{log}");
    assert_eq!(log.matches("a transaction hangs").count(), 2, "{log}");
    // As kafka-transactions.sh abort does.
    hangs.abort_transaction(PATIENCE).unwrap();
    produce(world.events(), 0, &event()).await;

    until_metric(&weir, "weir_partitions_held_up 0").await;
    let (_, reasons) = weir.page("/readyz?verbose").await.unwrap();
    assert!(!reasons.contains("find-hanging"), "{reasons}");
    crate::support::kafka::until("both events have a result", || results(&world) == 2).await;
}

/// Kills an instance that has a transaction open, starts it again, and returns how long the next answer took, once for
/// each of three kills.
async fn restarts(world: &World, environment: &Environment) -> Vec<Duration> {
    let instance = "restarts";
    let environment = environment.clone().set("INSTANCE_ID", instance);
    let id = format!("weir-{}-{instance}", world.config.consumer_group_id);
    let mut weir = environment.start();
    let mut took = Vec::new();
    for number in 0..3 {
        produce(world.events(), 0, &event()).await;
        crate::support::kafka::until("an answer", || results(world) == 2 * number + 1).await;
        weir.kill().await;
        let died = Instant::now();
        let half = [(world.config.workflow_results_topic.as_str(), 0, &b"half done"[..])];
        let offset = i64::try_from(2 * number).unwrap();
        let left_open = world.open_transaction(&id, &half, &[(0, offset, "half done")]).await;
        produce(world.events(), 0, &event()).await;
        weir = environment.start();
        crate::support::kafka::until("an answer", || results(world) == 2 * number + 2).await;
        took.push(died.elapsed());
        drop(left_open);
    }
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_after_a_kill_answers_at_once_but_for_the_session_of_the_dead_member() {
    let mut measured = Vec::new();
    for is_static in ["true", "false"] {
        let world = World::new("restart", 1).await;
        create(&world.config.workflow_results_topic, 1, &[]).await;
        let environment = environment(&world).set("KAFKA_STATIC_MEMBERSHIP", is_static);
        measured.push(restarts(&world, &environment).await);
    }

    eprintln!(
        "from the kill to the next answer: static {:?}, dynamic {:?}",
        measured[0], measured[1]
    );
    let limit = Duration::from_secs(5);
    assert!(measured[0].iter().all(|took| *took < limit), "{measured:?}");
    // The session lasts 6 s in these tests.
    assert!(measured[1].iter().all(|took| *took < Duration::from_secs(6) + limit), "{measured:?}");
}
