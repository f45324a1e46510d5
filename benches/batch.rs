//! What does it cost to plan a transaction of 1,000 settlements: which records, which offsets, which maps? At most 200
//! microseconds; and what is done when it was applied?

use std::collections::HashMap;
use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tokio::time::Instant;
use weir::dispatch::Ordering;
use weir::dispatch::machine::{Action, Arrival, Machine, Settings, Work};
use weir::dispatch::offsets::Tracker;
use weir::record::{Epoch, Offset, PartitionId, Position};
use weir::retry::RetryPolicy;
use weir::sink::{Outgoing, Size, Topic};

const PARTITIONS: i32 = 4;
const SETTLEMENTS: i64 = 1_000;

/// As many events as a transaction takes, all of them settled: nothing but to plan is left.
fn settled(now: Instant) -> Machine<()> {
    let settings = Settings {
        group: "group".to_owned(),
        topic: "workflow-events".to_owned(),
        in_flight_max: 512,
        ordering: Ordering::Unordered,
        retry: RetryPolicy {
            attempts_max: 4,
            base: Duration::from_secs(1),
            max: Duration::from_secs(60),
        },
        size: Size { records_max: 1_000, bytes_max: 8 * 1024 * 1024 },
        spacing: Duration::ZERO,
        atomic: true,
        unsettled_max: 2_000,
    };
    let mut machine = Machine::new(settings, 1);
    let epoch = Epoch(1);
    for partition in 0..PARTITIONS {
        let tracker = Tracker::start(Offset(0), Offset(0));
        machine.assign(PartitionId(partition), epoch, tracker, HashMap::new());
    }
    for (number, partition) in (0..SETTLEMENTS).zip((0..PARTITIONS).cycle()) {
        let offset = Offset(number / i64::from(PARTITIONS));
        let position = Position { partition: PartitionId(partition), offset, epoch };
        if machine.receive(position, 300) {
            let result = Outgoing {
                topic: Topic::Results,
                partition: None,
                key: Some(Bytes::from_static(b"7a1f0c52-97c4-4be5-9d0e-6f2a1f3c9b10")),
                value: Bytes::from(vec![b'x'; 600]),
                headers: Vec::new(),
            };
            let work = Work::Publish(vec![result]);
            let (key, size, publish_at, deadline) = (None, 300, now, None);
            machine.admit(Arrival { position, key, size, publish_at, deadline, work }, now);
        }
    }
    machine
}

fn plan(c: &mut Criterion) {
    let now = Instant::now();
    let mut group = c.benchmark_group("1,000 settlements");
    group.throughput(Throughput::Elements(SETTLEMENTS.unsigned_abs()));
    group.bench_function("plan", |b| {
        b.iter_batched(
            || settled(now),
            |mut machine| {
                let action = machine.poll(black_box(now));
                assert!(
                    matches!(&action, Some(Action::Commit(batch)) if batch.records.len() == 1_000)
                );
                // What was planned is dropped by the caller's clock, not by this one.
                (machine, action)
            },
            BatchSize::LargeInput,
        );
    });
    group.bench_function("applied", |b| {
        b.iter_batched(
            || {
                let mut machine = settled(now);
                let action = machine.poll(now);
                (machine, action)
            },
            |(mut machine, action)| {
                machine.applied(black_box(&[]));
                (machine, action)
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(benches, plan);
criterion_main!(benches);
