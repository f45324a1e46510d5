//! How long it takes to be at work again after a crash.

use std::time::Duration;

use rdkafka::producer::BaseRecord;
use serde_json::value::RawValue;
use weir::journal::{Effect, Map, Scope};
use weir::record::{Offset, PartitionId};

use super::Scale;
use super::plain::all_succeeded;
use super::support::broker::World;
use super::support::events::{Task, event, id};
use super::support::figures::{judge, mib, question, tell};
use super::support::process::Weir;
use super::support::raw::transactional_producer;
use super::support::stand_in::StandIn;

const PARTITIONS: i32 = 4;

/// What the model said, as the journal keeps it.
const UPDATE: &str = r#"{"agent_results":{"llm_analysis":{"agent":"llm_analysis","result":"Sales rose. Reorder.","status":"completed","metadata":{"model":"llama3.2:latest","input_length":120,"output_length":20}}},"current_agent":"orchestrator","metadata":{"llm_metadata":{"model":"llama3.2:latest","input_length":120,"output_length":20}}}"#;

/// With a million finished records in the journal and 1,000 unfinished runs, is weir at work again in 10 s, without
/// asking the model for anything again?
pub(super) fn long_journal(scale: Scale) {
    let total = scale.events(1_000_000, 2_000);
    let unfinished: u64 = if scale.test { 100 } else { 1_000 };
    question(&format!("recovery: a journal of {total} records, {unfinished} unfinished runs"));
    let world = World::new("recovery", PARTITIONS);
    leave_behind(&world, total, unfinished);
    let model = StandIn::start(Duration::ZERO);
    let mut weir = Weir::start(&world, &[("OLLAMA_BASE_URL", &model.url)]);
    let ready = weir.ready();
    let limit = Duration::from_secs(10);
    tell("ready after", &format!("{:.2} s", ready.as_secs_f64()));
    // Those that were unfinished, and one new event of each partition.
    let expected = unfinished + u64::from(PARTITIONS.unsigned_abs());
    let samples = {
        let results = world.count(&world.results, |_| true);
        weir.follow(expected, || results.count())
    };
    let last = samples.last().expect("a sample");
    let first = samples.iter().find(|sample| sample.done > 0).expect("a result").at;
    tell("the first result after", &format!("{:.2} s", first.as_secs_f64()));
    judge(
        "all of them after",
        &format!(
            "{:.2} s; {:.2} s of CPU, {}",
            last.at.as_secs_f64(),
            last.cpu.as_secs_f64(),
            mib(weir.peak())
        ),
        "<= 10 s",
        last.at <= limit,
    );
    all_succeeded(&world, expected);
    assert_eq!(model.answered(), 0, "an answer that is in the journal is not asked for again");
}

/// Leaves what a crash would: events, their effects, and committed offsets with maps.
fn leave_behind(world: &World, total: u64, unfinished: u64) {
    let partitions = u64::from(PARTITIONS.unsigned_abs());
    let each = i64::try_from(total / partitions).unwrap();
    let step = each / i64::try_from(unfinished / partitions).unwrap();
    let number = |partition: i32, offset: i64| {
        offset.unsigned_abs() * partitions + u64::from(partition.unsigned_abs())
    };
    world.fill(
        &world.events,
        (0..each).flat_map(|offset| {
            (0..PARTITIONS)
                .map(move |partition| (partition, event(number(partition, offset), Task::Model)))
        }),
    );
    let new =
        (0..PARTITIONS).map(|partition| (partition, event(number(partition, each), Task::Plain)));
    world.fill(&world.events, new);

    world.create(&world.journal);
    let producer = transactional_producer(world);
    for begin in (0..each).step_by(1_000) {
        producer.begin();
        for offset in begin..(begin + 1_000).min(each) {
            for partition in 0..PARTITIONS {
                let value = effect(number(partition, offset), offset);
                let record: BaseRecord<'_, (), [u8]> = BaseRecord::to(&world.journal);
                producer.send(record.partition(partition).payload(&value));
            }
        }
        producer.commit(None);
    }
    drop(producer);

    let unsettled: Vec<_> = (0..each).step_by(usize::try_from(step).unwrap()).map(Offset).collect();
    let positions = (0..PARTITIONS).map(|partition| {
        let scope =
            Scope { group: &world.group, topic: &world.events, partition: PartitionId(partition) };
        let map = Map {
            next: Offset(each),
            journal_base: Offset(0),
            nonce: 1,
            unsettled: unsettled.clone(),
        };
        (partition, 0, map.encode(&scope, Offset(0)))
    });
    world.commit(&positions.collect::<Vec<_>>());
}

fn effect(number: u64, offset: i64) -> bytes::Bytes {
    let effect = Effect {
        event_id: id(number),
        offset: Offset(offset),
        node: "llm_analysis".to_owned(),
        visit: 0,
        attempt: 1,
        update: RawValue::from_string(UPDATE.to_owned()).unwrap(),
        usage: None,
        took: Some(Duration::from_millis(800)),
    };
    effect.encode().unwrap()
}
