//! What goes in: events of all kinds, at the pace of the faults.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use crate::support::kafka::{World, broker};

pub(super) const PARTITIONS: usize = 4;

/// How many keys there are; those of one partition are not those of another.
const KEYS: usize = 200;

/// How often events are published, and how many at once at most.
const TICK: Duration = Duration::from_millis(250);
const TICK_MAX: usize = 250;

/// How far the faults are: their share of all, in thousandths.
pub(super) type Progress = watch::Receiver<usize>;

/// Publishes `count` events as the faults go on, and returns their ids.
pub(super) async fn feed(world: &World, count: usize, progress: Progress) -> BTreeSet<String> {
    let mut producer = producer();
    let mut ids = BTreeSet::new();
    let mut sent = 0;
    let mut next = Instant::now();
    while sent < count {
        let due = (count * *progress.borrow()).div_ceil(1000).min(sent + TICK_MAX);
        let mut arriving = Vec::new();
        for number in sent..due {
            let (id, value) = record(number);
            let key = format!("key-{}", number % KEYS);
            let record = FutureRecord::to(world.events())
                .partition(i32::try_from(number % PARTITIONS).unwrap())
                .key(&key)
                .payload(&value);
            let arrives = producer.send_result(record).map_err(|(error, _)| error).unwrap();
            arriving.push((id, arrives));
        }
        let mut failures = 0;
        for (id, arrives) in arriving {
            match arrives.await.unwrap() {
                Ok(_) => ids.extend(id.map(|id| id.to_string())),
                // It may have arrived all the same; the audit reads from the topic what did.
                Err(_) => failures += 1,
            }
        }
        if failures > 0 {
            eprintln!("{failures} records were not published; with a new producer from here on");
            producer = self::producer();
        }
        sent = sent.max(due);
        next = (next + TICK).max(Instant::now());
        sleep_until(next).await;
    }
    ids
}

/// Returns a producer that is more patient than any outage lasts, and writes nothing twice.
fn producer() -> FutureProducer {
    ClientConfig::new()
        .set("bootstrap.servers", broker())
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", "120000")
        .set("linger.ms", "5")
        .set("reconnect.backoff.max.ms", "1000")
        .create()
        .unwrap()
}

/// Returns a record and its event's id: half of all ask the model, a few fail, and a few are no events.
fn record(number: usize) -> (Option<Uuid>, String) {
    let id = Uuid::new_v4();
    let task = match number % 64 {
        61 => return (None, format!("{{ no event {number}")),
        // The orchestrator needs words.
        62 => json!(number),
        // Partitions take turns by `number`, so the kinds must not; nor keys.
        rest if (rest / 4) % 2 == 0 => json!(format!("analyze #{number}")),
        _ => json!(format!("list #{number}")),
    };
    let event = json!({
        "event_id": id, "event_type": "workflow.triggered", "source": "airflow", "workflow_id": "w",
        "workflow_run_id": "r", "payload": {"data": {"task": task}}, "metadata": {"environment": "dev"},
    });
    (Some(id), event.to_string())
}

/// How long the model takes for an answer: most are quick, one in twenty takes 2 to 10 s.
pub(super) fn latency(number: u64) -> Duration {
    Duration::from_millis(match number * 37 % 100 {
        quick @ 0..70 => quick,
        usual @ 70..95 => (usual - 69) * 40,
        long => (long - 94) * 2000,
    })
}
