//! The broker that is measured against: topics of their own for each bench, filled, watched and counted.

use std::ffi::OsStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::BaseRecord;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use tokio::runtime;

use super::process::pause;
use super::producer::Producer;

/// Longer than anything takes that is going to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Topics and a group of one bench's own; the topics are deleted with it.
pub(crate) struct World {
    pub(crate) broker: String,
    pub(crate) group: String,
    pub(crate) events: String,
    pub(crate) results: String,
    pub(crate) dlq: String,
    pub(crate) journal: String,
    /// What a bare program writes to.
    pub(crate) copies: String,
    pub(crate) partitions: i32,
}

/// A thread that counts what a read_committed reader sees in a topic.
pub(crate) struct Counter {
    counts: Arc<Counts>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Counts {
    count: AtomicU64,
    unlike: AtomicU64,
    stop: AtomicBool,
}

/// Returns the broker's address; `None` when nobody has named one.
pub(crate) fn address() -> Option<String> {
    let address = std::env::var_os("WEIR_TEST_KAFKA");
    address.as_deref().and_then(OsStr::to_str).map(str::to_owned)
}

/// Says how to get a broker.
pub(crate) const NO_BROKER: &str = "needs a real broker. With Java 17 and Maven:\n  tests/env/kafka start bench\n  \
     eval \"$(tests/env/kafka env bench)\"\n  …\n  tests/env/kafka remove bench\n\
     or set WEIR_TEST_KAFKA to host:port of one with transactions, nothing else running on it";

impl World {
    /// Creates an events and a results topic of `partitions` partitions; weir makes the others.
    pub(crate) fn new(name: &str, partitions: i32) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
        let name = format!("bench-{name}-{now}");
        let topic = |kind: &str| format!("{name}-{kind}");
        let world = Self {
            broker: address().expect("checked at the start"),
            group: topic("group"),
            events: topic("events"),
            results: topic("results"),
            dlq: topic("dlq"),
            journal: topic("journal"),
            copies: topic("copies"),
            partitions,
        };
        world.create(&world.events);
        world.create(&world.results);
        world
    }

    /// Creates one of its topics, unless it is there.
    pub(crate) fn create(&self, topic: &str) {
        let topic = NewTopic::new(topic, self.partitions, TopicReplication::Fixed(1));
        let created = admin(&self.broker, async |admin, options| {
            admin.create_topics([&topic], options).await
        });
        match &created[..] {
            [Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))] => {}
            _ => panic!("{created:?}"),
        }
    }

    /// Waits until the broker leads every partition of a topic: making a thousand logs takes it half a minute.
    pub(crate) fn led(&self, topic: &str) {
        let client = self.outsider();
        for partition in 0..self.partitions {
            while client.fetch_watermarks(topic, partition, PATIENCE).is_err() {
                pause(Duration::from_millis(50));
            }
        }
    }

    fn topics(&self) -> [&str; 5] {
        [&self.events, &self.results, &self.dlq, &self.journal, &self.copies]
    }

    pub(crate) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        // The defaults make a transaction that follows another one wait for 100 ms.
        config
            .set("bootstrap.servers", &self.broker)
            .set("retry.backoff.ms", "10")
            .set("retry.backoff.max.ms", "100");
        config
    }

    /// Writes these values to the partitions that they come with, and waits until they are there.
    pub(crate) fn fill(&self, topic: &str, values: impl Iterator<Item = (i32, String)>) {
        let mut config = self.client();
        config.set("linger.ms", "20").set("batch.size", "1000000");
        let producer = Producer::new(&config);
        for (partition, value) in values {
            let record: BaseRecord<'_, (), str> = BaseRecord::to(topic);
            producer.send(record.partition(partition).payload(value.as_str()));
        }
        producer.deliver();
    }

    /// Returns what of the events topic is committed: the sum over its partitions.
    pub(crate) fn committed(&self, client: &BaseConsumer) -> u64 {
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&self.events, 0, self.partitions - 1);
        let Ok(list) = client.committed_offsets(list, PATIENCE) else { return 0 };
        let lines = list.elements();
        let offsets = lines.iter().filter_map(|line| line.offset().to_raw());
        // Where nothing is committed it is a negative word.
        offsets.filter(|offset| *offset > 0).map(i64::unsigned_abs).sum()
    }

    /// Returns a client of this world's group that is not a member of it.
    pub(crate) fn outsider(&self) -> BaseConsumer {
        self.client()
            .set("group.id", &self.group)
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_uncommitted")
            .create()
            .unwrap()
    }

    /// Commits offsets with their metadata, as an earlier life of weir would have.
    pub(crate) fn commit(&self, positions: &[(i32, i64, String)]) {
        let mut list = TopicPartitionList::new();
        for (partition, offset, metadata) in positions {
            let mut line = list.add_partition(&self.events, *partition);
            line.set_offset(Offset::Offset(*offset)).unwrap();
            line.set_metadata(metadata);
        }
        self.outsider().commit(&list, CommitMode::Sync).unwrap();
    }

    /// Starts to count a topic from its beginning; `like` says which values are as they should be.
    pub(crate) fn count(&self, topic: &str, like: fn(&[u8]) -> bool) -> Counter {
        let consumer = self.reader(topic, Offset::Beginning);
        let counts = Arc::<Counts>::default();
        let shared = Arc::clone(&counts);
        let thread = thread::spawn(move || {
            while !shared.stop.load(Ordering::Relaxed) {
                if let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) {
                    if !message.payload().is_some_and(like) {
                        shared.unlike.fetch_add(1, Ordering::Relaxed);
                    }
                    shared.count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Counter { counts, thread: Some(thread) }
    }

    /// Returns a read_committed reader of all partitions of a topic.
    pub(crate) fn reader(&self, topic: &str, from: Offset) -> BaseConsumer {
        let consumer: BaseConsumer = self
            .client()
            .set("group.id", "nobody")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("fetch.queue.backoff.ms", "20")
            .create()
            .unwrap();
        let mut list = TopicPartitionList::new();
        for partition in 0..self.partitions {
            list.add_partition_offset(topic, partition, from).unwrap();
        }
        consumer.assign(&list).unwrap();
        consumer
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let topics = self.topics();
        // What can't be deleted is left to whoever owns the broker.
        drop(admin(&self.broker, async |admin, options| {
            admin.delete_topics(&topics, options).await
        }));
    }
}

impl Counter {
    pub(crate) fn count(&self) -> u64 {
        self.counts.count.load(Ordering::Relaxed)
    }

    /// Returns how many of them were not as they should be.
    pub(crate) fn unlike(&self) -> u64 {
        self.counts.unlike.load(Ordering::Relaxed)
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.counts.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn admin<T>(
    broker: &str,
    ask: impl AsyncFnOnce(&AdminClient<DefaultClientContext>, &AdminOptions) -> Result<T, KafkaError>,
) -> T {
    let client: AdminClient<_> =
        ClientConfig::new().set("bootstrap.servers", broker).create().unwrap();
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(ask(&client, &options)).unwrap()
}
