//! A bare rdkafka program that does with the same bytes what weir must: the measure of what the client and the broker
//! allow. One thread, no runtime, nothing kept.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::BorrowedMessage;
use rdkafka::producer::BaseRecord;
use rdkafka::{Message, Offset, TopicPartitionList};
use tokio::time::Instant;

use super::broker::{PATIENCE, World};
use super::figures::{Rate, Times};
use super::process::cpu_of;
use super::producer::Producer;

/// How many records a transaction of the figures has.
pub(crate) const PER_TRANSACTION: u64 = 1_000;

/// Copies `total` records from the events topic to another one, as they come.
pub(crate) fn pass_through(world: &World, total: u64) -> Rate {
    world.create(&world.copies);
    let consumer = world.reader(&world.events, Offset::Beginning);
    let producer = Producer::new(world.client().set("linger.ms", "5"));
    first(&consumer, |message| producer.send(copy(world, message)));

    let (since, cpu) = (Instant::now(), cpu_of("self"));
    for _ in 1..total {
        let message = next(&consumer);
        producer.send(copy(world, &message));
    }
    producer.deliver();
    Rate::of(total - 1, since.elapsed(), cpu_of("self").saturating_sub(cpu))
}

/// Copies `total` records in transactions of 1,000, each with the consumer's offsets.
pub(crate) fn transactional(world: &World, total: u64) -> Rate {
    let (consumer, producer) = (member(world), transactional_producer(world));
    let mut positions = Positions::default();
    producer.begin();
    first(&consumer, |message| {
        positions.note(message);
        producer.send(copy(world, message));
    });
    let (since, cpu) = (Instant::now(), cpu_of("self"));
    let mut open = 1;
    for _ in 1..total {
        let message = next(&consumer);
        positions.note(&message);
        producer.send(copy(world, &message));
        open += 1;
        if open == PER_TRANSACTION {
            positions.commit(world, &consumer, &producer);
            producer.begin();
            open = 0;
        }
    }
    positions.commit(world, &consumer, &producer);
    Rate::of(total - 1, since.elapsed(), cpu_of("self").saturating_sub(cpu))
}

/// Takes the time of `count` transactions of three records with an offset each.
pub(crate) fn few_records(world: &World, count: usize) -> Times {
    let (consumer, producer) = (member(world), transactional_producer(world));
    while consumer.assignment().unwrap().count() == 0 {
        drop(consumer.poll(Duration::from_millis(10)));
    }
    let times = (0_i64..).take(count).map(|number| {
        let since = Instant::now();
        producer.begin();
        for _ in 0..3 {
            let record: BaseRecord<'_, str, str> = BaseRecord::to(&world.copies);
            let payload = "three hundred bytes would be no slower";
            producer.send(record.key("key").payload(payload));
        }
        let mut positions = Positions::default();
        positions.0.push((0, number));
        positions.commit(world, &consumer, &producer);
        since.elapsed()
    });
    Times::new(times.collect())
}

/// Returns how long it takes to join the group: from a client that is not there yet to its assignment.
pub(crate) fn join(world: &World) -> Duration {
    let since = Instant::now();
    let consumer = member(world);
    while consumer.assignment().unwrap().count() == 0 {
        drop(consumer.poll(Duration::from_millis(5)));
    }
    since.elapsed()
}

/// Returns a member of a group of its own, as weir is one of its.
pub(crate) fn member(world: &World) -> BaseConsumer {
    let consumer: BaseConsumer = world
        .client()
        .set("group.id", format!("{}-raw", world.group))
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_committed")
        .set("fetch.queue.backoff.ms", "20")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .create()
        .unwrap();
    consumer.subscribe(&[&world.events]).unwrap();
    consumer
}

pub(crate) fn transactional_producer(world: &World) -> Producer {
    world.create(&world.copies);
    let mut config = world.client();
    config
        .set("transactional.id", format!("{}-raw", world.group))
        .set("linger.ms", "0")
        .set("batch.size", "1000000");
    let producer = Producer::new(&config);
    producer.init();
    producer
}

/// The offsets of a transaction: a few partitions, so a list is searched fast enough.
#[derive(Default)]
pub(crate) struct Positions(Vec<(i32, i64)>);

impl Positions {
    pub(crate) fn note(&mut self, message: &BorrowedMessage<'_>) {
        let (partition, next) = (message.partition(), message.offset() + 1);
        match self.0.iter_mut().find(|(known, _)| *known == partition) {
            Some((_, offset)) => *offset = next,
            None => self.0.push((partition, next)),
        }
    }

    /// Commits the transaction, these offsets in it.
    pub(crate) fn commit(&mut self, world: &World, consumer: &BaseConsumer, producer: &Producer) {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in self.0.drain(..) {
            list.add_partition_offset(&world.events, partition, Offset::Offset(offset)).unwrap();
        }
        let group = consumer.group_metadata().unwrap();
        producer.commit(Some((&list, &group)));
    }
}

pub(crate) fn copy<'a>(
    world: &'a World,
    message: &'a BorrowedMessage<'_>,
) -> BaseRecord<'a, [u8], [u8]> {
    let record = BaseRecord::to(&world.copies).partition(message.partition());
    let record = record.payload(message.payload().unwrap_or_default());
    match message.key() {
        Some(key) => record.key(key),
        None => record,
    }
}

/// Waits for the first record: from then on a program is at work.
fn first(consumer: &BaseConsumer, take: impl FnOnce(&BorrowedMessage<'_>)) {
    take(&next(consumer));
}

fn next(consumer: &BaseConsumer) -> BorrowedMessage<'_> {
    let until = Instant::now() + PATIENCE;
    loop {
        match consumer.poll(Duration::from_millis(100)) {
            Some(message) => return message.unwrap(),
            None => assert!(Instant::now() < until, "no record"),
        }
    }
}
