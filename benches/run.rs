//! What does one plain event cost between its bytes and its result's, without Kafka? The rest of an event's price is
//! librdkafka's and the dispatch's.

#![expect(clippy::unwrap_used, reason = "a bench that can't be set up has nothing to say")]

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use jiff::Timestamp;
use mimalloc::MiMalloc;
use tokio::sync::{mpsc, watch};
use weir::event::{Defaults, decode};
use weir::journal::Effects;
use weir::llm::Scripted;
use weir::record::{Epoch, Offset, PartitionId, Position, Record};
use weir::sink::Limits;
use weir::telemetry::Metrics;
use weir::workflow::{
    Attempt, Config, Durability, Finished, Job, Press, Recorder, Runner, agents_graph,
};

/// As the program has it.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const EVENT: &str = r#"{"event_id": "2b0f8d8e-7a41-4a5e-9d0e-6f2a1f3c9b10", "event_type": "workflow.triggered", "timestamp": "2025-01-27T10:00:00.123456+00:00", "source": "airflow", "workflow_id": "daily_report", "workflow_run_id": "manual__2025-01-27T10:00:00+00:00", "payload": {"data": {"task": "collect the day's figures"}}, "metadata": {"environment": "prod", "version": "1.0"}}"#;

fn record() -> Record {
    Record {
        position: Position { partition: PartitionId(0), offset: Offset(7), epoch: Epoch(1) },
        timestamp_ms: Some(1_738_000_000_000),
        key: None,
        value: Some(Bytes::from_static(EVENT.as_bytes())),
        deadline: None,
    }
}

fn run_one(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let limits = Limits { result_max: 1 << 20, dead_letter_max: 1 << 20, journal_max: 1 << 20 };
    let press = Arc::new(Press::new("workflow-events".into(), watch::channel(limits).1));
    let recorder = Recorder::new(mpsc::channel(1).0, Durability::Sync);
    let graph = agents_graph(Arc::new(Scripted::labelled())).unwrap();
    let runner = Runner::new(
        graph,
        Config::default(),
        "model".into(),
        recorder,
        (Arc::clone(&press), Metrics::new("bench")),
    );
    let record = record();
    let event = |record: &Record| {
        let defaults = || Defaults::of(press.topic(), record);
        Arc::new(decode(record.value.as_deref(), defaults).unwrap())
    };
    let attempt = |event| Attempt {
        position: record.position,
        job: Job {
            event,
            timestamp_ms: record.timestamp_ms,
            expiry: None,
            ledger: runner.ledger(),
        },
        number: 1,
        last: false,
        may_move: true,
        effects: Effects::default(),
    };
    c.bench_function("decode, run and print", |b| {
        b.iter(|| {
            let finished = runtime.block_on(runner.attempt(attempt(event(black_box(&record)))));
            assert!(matches!(finished, Finished::Done { .. }));
        });
    });
    let decoded = event(&record);
    c.bench_function("run and print", |b| {
        b.iter(|| runtime.block_on(runner.attempt(attempt(Arc::clone(&decoded)))));
    });
    let state = weir::workflow::initial_state(&decoded);
    c.bench_function("print", |b| {
        b.iter(|| press.success(&decoded, black_box(state.clone()), Timestamp::UNIX_EPOCH));
    });
    c.bench_function("initial state", |b| {
        b.iter(|| weir::workflow::initial_state(black_box(&decoded)));
    });
}

criterion_group!(benches, run_one);
criterion_main!(benches);
