//! What becomes of clients whose only broker stands still for longer than its session with the controller lasts.
//!
//! When it goes on it names no broker for a moment, not even itself, and a client that asks just then lets go of it.
//! Beginning anew is then librdkafka's task, at which it fails at times; here it is not allowed to try, so that every
//! client which this happens to would be lost.

#![expect(clippy::print_stderr, reason = "which round it takes is luck")]

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};
use weir::failpoint::Mechanism;

use crate::support::kafka::OWN_BROKER;
use crate::support::own_broker::OwnBroker;
use crate::support::process::Weir;
use crate::support::scene::Scene;

/// How many instances there are on each side, each in a group of its own: it happens to some.
const INSTANCES: usize = 4;

/// Longer than the broker's session of 3 s.
const STILL: Duration = Duration::from_millis(3500);

/// Within what time events are answered afterwards.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it may happen to nobody.
const ROUNDS: usize = 16;

async fn instances(off: Option<Mechanism>) -> Vec<(Scene, Weir)> {
    let mut all = Vec::new();
    for _ in 0..INSTANCES {
        let mut scene = Scene::new("outage", 1, Duration::ZERO).await.without(off);
        scene.environment = scene
            .environment
            .set("KAFKA_PROP_METADATA_RECOVERY_STRATEGY", "none")
            .set("KAFKA_PROP_TOPIC_METADATA_REFRESH_INTERVAL_MS", "100");
        let weir = scene.start("one");
        all.push((scene, weir));
    }
    all
}

/// Publishes the event of this number to each instance, and returns the logs of those that have not answered it in time.
async fn silent(all: &mut [(Scene, Weir)], number: usize) -> Vec<String> {
    for (scene, _) in all.iter_mut() {
        scene.publish(0, [json!("list")]).await;
    }
    let wanted = format!("weir_results_total{{status=\"success\"}} {number}\n");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut silent = Vec::new();
        for (_, weir) in all.iter() {
            if !weir.page("/metrics").await.is_some_and(|(_, page)| page.contains(&wanted)) {
                silent.push(weir.log());
            }
        }
        if silent.is_empty() || Instant::now() > deadline {
            return silent;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn who_lost_the_only_broker_finds_it_again() {
    let broker = OwnBroker::start("outage").await;
    let address = broker.address().to_owned();
    let story = async {
        let mut with = instances(None).await;
        let mut without = instances(Some(Mechanism::Rebootstrap)).await;
        assert_eq!(silent(&mut with, 1).await, [""; 0]);
        assert_eq!(silent(&mut without, 1).await, [""; 0]);
        for number in 2..ROUNDS + 2 {
            eprintln!("round {number}");
            broker.pause().await;
            sleep(STILL).await;
            broker.resume().await;

            assert_eq!(silent(&mut with, number).await, [""; 0]);
            if !silent(&mut without, number).await.is_empty() {
                return;
            }
        }
        panic!("it happened to nobody, or librdkafka needs no help any more");
    };
    OWN_BROKER.scope(address, story).await;
}
