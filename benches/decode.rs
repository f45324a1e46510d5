//! What does it cost to decode one event? At most 2 microseconds for an ordinary one; and it grows
//! with the bytes, not faster, whatever they hold.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use uuid::Uuid;
use weir::event::{Defaults, Timestamp, decode};

fn decode_one(c: &mut Criterion) {
    let defaults = Defaults { event_id: Uuid::nil(), timestamp: Timestamp::UNIX_EPOCH };
    let mut group = c.benchmark_group("decode");
    for (name, data) in payloads() {
        let value = event(&data);
        group.throughput(Throughput::Bytes(value.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter(|| decode(Some(black_box(value.as_bytes())), || defaults));
        });
    }
    group.finish();
}

fn payloads() -> [(&'static str, String); 5] {
    let report = r#"{"symbol":"AAPL","date_range":"2025-01-01:2025-01-31","limits":[1,2.5,true]}"#;
    [
        ("ordinary", r#"{"task":"analyze_trading_data"}"#.to_owned()),
        (
            "nested as the Airflow client does",
            format!(r#"{{"task":"analyze","data":{{"task":"analyze","data":{report}}}}}"#),
        ),
        ("text of 10 MB", format!(r#"{{"task":"{}"}}"#, "x".repeat(10_000_000))),
        ("escapes of 10 MB", format!(r#"{{"task":"{}"}}"#, r"\ud83d\ude80".repeat(833_333))),
        ("numbers of 10 MB", format!(r#"{{"task":[{}0]}}"#, "1234567,".repeat(1_250_000))),
    ]
}

fn event(data: &str) -> String {
    format!(
        r#"{{"event_id": "2b0f8d8e-7a41-4a5e-9d0e-6f2a1f3c9b10", "event_type": "workflow.triggered", "timestamp": "2025-01-27T10:00:00.123456+00:00", "source": "airflow", "workflow_id": "daily_report", "workflow_run_id": "manual__2025-01-27T10:00:00+00:00", "payload": {{"data": {data}}}, "metadata": {{"environment": "prod", "version": "1.0"}}}}"#
    )
}

criterion_group!(benches, decode_one);
criterion_main!(benches);
