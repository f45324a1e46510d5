//! Does tracking an offset cost less than 100 ns, however far the oldest one lies behind, and does
//! a commit's map of 1,000 unsettled offsets cost less than 50 microseconds?

use std::collections::{BTreeSet, VecDeque};
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use weir::dispatch::offsets::Tracker;
use weir::journal::{Map, Scope};
use weir::record::{Offset, PartitionId};

const SCOPE: Scope<'_> =
    Scope { group: "group", topic: "workflow-events", partition: PartitionId(3) };

/// One offset in, one settled: the oldest stays, and as many stay open as a partition may have.
fn receive_and_settle(c: &mut Criterion) {
    let mut group = c.benchmark_group("receive and settle");
    for span in [1_i64, 1_000, 1_000_000] {
        group.bench_function(BenchmarkId::new("span", span), |b| {
            let mut tracker = Tracker::start(Offset(0), Offset(0));
            // Evenly spread over the span behind the newest, at most 999 of them.
            let step = (span / 999).max(1);
            let mut open: VecDeque<_> = (0..span.min(999)).map(|i| Offset(i * step)).collect();
            for offset in &open {
                _ = tracker.receive(*offset);
            }
            let mut next = open.back().map_or(0, |last| last.0);
            b.iter(|| {
                next += step;
                open.push_back(Offset(next));
                _ = black_box(tracker.receive(black_box(Offset(next))));
                if let Some(settled) = open.pop_front() {
                    tracker.committed([&settled], &[]);
                }
            });
        });
    }
    group.finish();
}

/// The same with a thousand open and settled in no order.
fn settle_in_any_order(c: &mut Criterion) {
    c.bench_function("settle in any order", |b| {
        let mut tracker = Tracker::start(Offset(0), Offset(0));
        let mut open: Vec<_> = (0..999).map(Offset).collect();
        for offset in &open {
            _ = tracker.receive(*offset);
        }
        let (mut next, mut random) = (999, 1_usize);
        b.iter(|| {
            _ = black_box(tracker.receive(black_box(Offset(next))));
            open.push(Offset(next));
            next += 1;
            // Knuth's generator: its upper bits are random enough to pick one.
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let settled = open.swap_remove((random >> 33) % open.len());
            tracker.committed([&settled], &[]);
        });
    });
}

/// The same with the one oldest stuck and the others settled at once.
fn overtake_a_stuck_run(c: &mut Criterion) {
    c.bench_function("overtake a stuck run", |b| {
        let mut tracker = Tracker::start(Offset(0), Offset(0));
        _ = tracker.receive(Offset(0));
        let mut next = 0;
        b.iter(|| {
            next += 1;
            _ = black_box(tracker.receive(black_box(Offset(next))));
            tracker.committed([&Offset(next)], &[]);
        });
    });
}

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("map of 1,000 offsets");
    for gap in [1, 1_000, 2_000_000] {
        let mut tracker = Tracker::start(Offset(0), Offset(0));
        for i in 0..1_000 {
            _ = tracker.receive(Offset(i * gap));
        }
        let map = tracker.snapshot(&BTreeSet::new()).map;
        let text = map.encode(&SCOPE, Offset(0));
        group.bench_function(BenchmarkId::new("snapshot, gap", gap), |b| {
            let settling = (0..1_000).step_by(2).map(|i| Offset(i * gap)).collect();
            b.iter(|| black_box(&tracker).snapshot(black_box(&settling)));
        });
        group.bench_function(BenchmarkId::new("encode, gap", gap), |b| {
            b.iter(|| black_box(&map).encode(&SCOPE, Offset(0)));
        });
        group.bench_function(BenchmarkId::new("decode, gap", gap), |b| {
            b.iter(|| Map::decode(black_box(&text), &SCOPE, Offset(0)));
        });
    }
    group.finish();
}

criterion_group!(benches, receive_and_settle, settle_in_any_order, overtake_a_stuck_run, encode);
criterion_main!(benches);
