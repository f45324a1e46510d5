//! How long an event takes from its producer, through whatever works on it, to a read_committed reader of the results.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::BaseRecord;
use rdkafka::{Message, Offset};
use tokio::time::Instant;

use super::broker::{PATIENCE, World};
use super::events::{Task, event, id, number};
use super::figures::Times;
use super::process::pause;
use super::producer::Producer;
use super::raw::{PER_TRANSACTION, Positions, copy, member, transactional_producer};

/// Events that are sent first and not counted: connections are made, batches settle down.
const WARM_UP: Duration = Duration::from_secs(1);

/// A bare program at work: a transaction over whatever has come.
pub(crate) struct RawHop {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl RawHop {
    /// Starts it, and returns when it has its partitions.
    pub(crate) fn start(world: &Arc<World>) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let (ready, is_ready) = mpsc::sync_channel(1);
        let thread = {
            let (stop, world) = (Arc::clone(&stop), Arc::clone(world));
            thread::spawn(move || {
                let (consumer, producer) = (member(&world), transactional_producer(&world));
                while consumer.assignment().unwrap().count() == 0 {
                    drop(consumer.poll(Duration::from_millis(10)));
                }
                ready.send(()).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    hop(&world, &consumer, &producer);
                }
            })
        };
        is_ready.recv_timeout(PATIENCE).unwrap();
        Self { stop, thread: Some(thread) }
    }
}

fn hop(world: &World, consumer: &BaseConsumer, producer: &Producer) {
    let Some(message) = consumer.poll(Duration::from_millis(50)) else { return };
    let mut positions = Positions::default();
    let mut message = Some(message);
    let mut open = 0;
    producer.begin();
    while let Some(record) = message.take() {
        let record = record.unwrap();
        positions.note(&record);
        producer.send(copy(world, &record));
        open += 1;
        if open < PER_TRANSACTION {
            message = consumer.poll(Duration::ZERO);
        }
    }
    positions.commit(world, consumer, producer);
}

impl Drop for RawHop {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// How many events per second, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) rate: u32,
    pub(crate) time: Duration,
}

/// Sends events at a rate for a time, whatever becomes of them, and takes the time until each one's
/// result is seen in the topic `to`.
pub(crate) fn latency(world: &World, to: &str, task: Task, load: Load) -> Times {
    let Load { rate, time } = load;
    let every = Duration::from_secs(1) / rate;
    let count = |time: Duration| (time.as_secs_f64() * f64::from(rate)).round();
    let (first, total) = (count(WARM_UP), count(WARM_UP + time));
    let (first, total) = (as_count(first), as_count(total));
    let reader = world.reader(to, Offset::End);
    let (seen, is_seen) = mpsc::sync_channel(1024);
    // The reader looks up where the end is before anything is sent; an empty poll is no proof of it, a second is.
    for _ in 0..10 {
        drop(reader.poll(Duration::from_millis(100)));
    }
    let reading = thread::spawn(move || {
        let mut left = total;
        let until = Instant::now() + WARM_UP + time + PATIENCE;
        while left > 0 && Instant::now() < until {
            let Some(Ok(message)) = reader.poll(Duration::from_millis(100)) else { continue };
            if let Some(number) = message.key().and_then(number) {
                seen.send((number, Instant::now())).unwrap();
                left -= 1;
            }
        }
    });
    let events: Vec<_> =
        (0..total).map(|number| (id(number).to_string(), event(number, task))).collect();
    let sent = {
        let (broker, topic) = (world.client(), world.events.clone());
        thread::spawn(move || {
            let producer = Producer::new({ broker }.set("linger.ms", "0"));
            let began = Instant::now();
            let mut sent = Vec::with_capacity(events.len());
            for (number, (key, value)) in (0_u32..).zip(&events) {
                pause((began + every * number).saturating_duration_since(Instant::now()));
                sent.push(Instant::now());
                producer.send(BaseRecord::to(&topic).key(key).payload(value));
            }
            producer.deliver();
            sent
        })
    };
    let seen: Vec<_> = is_seen.iter().collect();
    let sent = sent.join().unwrap();
    reading.join().unwrap();
    assert_eq!(seen.len() as u64, total, "every event has a result");
    let measured = seen.into_iter().filter(|(number, _)| *number >= first);
    Times::new(measured.map(|(number, at)| at - sent[usize::try_from(number).unwrap()]).collect())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count of events, which is small and not negative"
)]
fn as_count(count: f64) -> u64 {
    count as u64
}
