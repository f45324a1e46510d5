//! A real broker for tests: topics of their own for each, records in and out, and weir's Kafka rooms put together.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "whatever goes wrong here fails the test that asked for it"
)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rdkafka::{
    ClientConfig, Message, Offset as NativeOffset, TopicPartitionList,
    admin::{
        AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication,
    },
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    producer::{FutureProducer, FutureRecord, Producer},
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use weir::{
    journal::{Effect, Map, Scope},
    kafka::{AutoOffsetReset, Config, Identity, Member, Reporter},
    record::{Epoch, Offset, PartitionId, Record},
    sink::{
        Batch, Commit, CommitPosition, Guarantee, KafkaPublisher, Outgoing, Publisher, Topic,
        prepare,
    },
    source::{self, Event, Recovered, Source},
    telemetry::{Health, Metrics},
};

/// Longer than anything takes that is going to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

tokio::task_local! {
    /// The broker of a test that has one to itself.
    pub(crate) static OWN_BROKER: String;
}

/// The broker's address.
pub(crate) fn broker() -> String {
    if let Ok(own) = OWN_BROKER.try_with(Clone::clone) {
        return own;
    }
    let address = std::env::var_os("WEIR_TEST_KAFKA");
    address.as_deref().and_then(OsStr::to_str).map(str::to_owned).expect(
        "WEIR_TEST_KAFKA names no broker: run the tests by tests/run, or set it to host:port of one",
    )
}

/// Returns a name that no other test has, nor an earlier run.
pub(crate) fn unique(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
    format!("{name}-{now}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Topics and a group of one test's own.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) config: Config,
}

impl World {
    /// Names topics and a group, and creates none of them.
    pub(crate) fn nowhere(name: &str) -> Self {
        let name = unique(name);
        let config = Config {
            bootstrap_servers: broker(),
            consumer_group_id: format!("{name}-group"),
            workflow_events_topic: format!("{name}-events"),
            workflow_results_topic: format!("{name}-results"),
            dlq_topic: format!("{name}-dlq"),
            journal_topic: format!("{name}-journal"),
            auto_offset_reset: AutoOffsetReset::Earliest,
            session_timeout: Duration::from_secs(6),
            ..Config::default()
        };
        Self { config }
    }

    /// Creates an events topic of `partitions` partitions; weir makes the others.
    pub(crate) async fn new(name: &str, partitions: i32) -> Self {
        let world = Self::nowhere(name);
        create(&world.config.workflow_events_topic, partitions, &[]).await;
        world
    }

    pub(crate) fn events(&self) -> &str {
        &self.config.workflow_events_topic
    }

    /// Writes an event, and returns its offset.
    pub(crate) async fn publish(&self, partition: i32, value: &str) -> Offset {
        produce(self.events(), partition, value).await
    }

    /// Returns a map's text for a partition of this world.
    pub(crate) fn map(&self, partition: i32, base: i64, map: &Map) -> String {
        let scope = Scope {
            group: &self.config.consumer_group_id,
            topic: self.events(),
            partition: PartitionId(partition),
        };
        map.encode(&scope, Offset(base))
    }

    /// Commits a position from outside of the group, as an operator's tool does.
    pub(crate) fn commit(&self, partition: i32, offset: i64, metadata: &str) {
        let consumer = self.outsider();
        let list = positions(self.events(), &[(partition, offset, metadata)]);
        consumer.commit(&list, rdkafka::consumer::CommitMode::Sync).unwrap();
    }

    /// Returns the committed offset and its metadata.
    pub(crate) fn committed(&self, partition: i32) -> Option<(i64, String)> {
        let consumer = self.outsider();
        let mut list = TopicPartitionList::new();
        list.add_partition(self.events(), partition);
        let deadline = SystemTime::now() + PATIENCE;
        loop {
            match consumer.committed_offsets(list.clone(), Duration::from_secs(5)) {
                Ok(list) => {
                    let line = list.elements().pop().unwrap();
                    let NativeOffset::Offset(offset) = line.offset() else { return None };
                    return Some((offset, line.metadata().to_owned()));
                }
                Err(error) => assert!(SystemTime::now() < deadline, "committed offsets: {error}"),
            }
        }
    }

    fn outsider(&self) -> BaseConsumer {
        ClientConfig::new()
            .set("bootstrap.servers", broker())
            .set("group.id", &self.config.consumer_group_id)
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .create()
            .unwrap()
    }

    /// Opens a transaction as another process would, and leaves it open.
    ///
    /// It carries `records` (topic, partition, value) and `offsets` (partition, offset, metadata) of this group.
    pub(crate) async fn open_transaction(
        &self,
        id: &str,
        records: &[(&str, i32, &[u8])],
        offsets: &[(i32, i64, &str)],
    ) -> FutureProducer {
        let producer: FutureProducer = ClientConfig::new()
            .set("bootstrap.servers", broker())
            .set("transactional.id", id)
            .set("transaction.timeout.ms", "60000")
            .set("linger.ms", "0")
            .create()
            .unwrap();
        let (topic, offsets) = (self.events().to_owned(), offsets.to_vec());
        producer.init_transactions(PATIENCE).unwrap();
        producer.begin_transaction().unwrap();
        for (topic, partition, value) in records {
            let record: FutureRecord<'_, (), [u8]> =
                FutureRecord::to(topic).partition(*partition).payload(value);
            producer.send(record, PATIENCE).await.unwrap();
        }
        if !offsets.is_empty() {
            let list = positions(&topic, &offsets);
            // Generation -1: the broker takes it from anybody, which is why weir never sends it.
            let group = self.outsider().group_metadata().unwrap();
            producer.send_offsets_to_transaction(&list, &group, PATIENCE).unwrap();
        }
        producer
    }

    /// Starts weir's Kafka rooms as an instance of this world.
    pub(crate) async fn start(&self, instance: &str) -> Instance {
        Builder::new(self, instance).start().await
    }

    pub(crate) fn instance(&self, instance: &str) -> Builder {
        Builder::new(self, instance)
    }
}

/// How an instance is put together.
pub(crate) struct Builder {
    config: Config,
    identity: Identity,
    guarantee: Guarantee,
    records_max: usize,
    bytes_max: usize,
}

/// Weir's Kafka rooms, with the test in the dispatch's place.
pub(crate) struct Instance {
    pub(crate) publisher: KafkaPublisher,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) health: Health,
    pub(crate) metrics: Metrics,
    source: Option<Source>,
    /// What was recovered, by partition.
    pub(crate) partitions: BTreeMap<PartitionId, Recovered>,
}

impl Builder {
    fn new(world: &World, instance: &str) -> Self {
        Self {
            config: world.config.clone(),
            identity: Identity::named(&world.config.consumer_group_id, instance),
            guarantee: Guarantee::ExactlyOnce,
            records_max: 1_000,
            bytes_max: 64 * 1024 * 1024,
        }
    }

    pub(crate) fn guarantee(mut self, guarantee: Guarantee) -> Self {
        self.guarantee = guarantee;
        self
    }

    pub(crate) fn room(mut self, records_max: usize, bytes_max: usize) -> Self {
        (self.records_max, self.bytes_max) = (records_max, bytes_max);
        self
    }

    pub(crate) async fn start(self) -> Instance {
        let Self { config, identity, guarantee, records_max, bytes_max } = self;
        let (health, metrics) = (Health::default(), Metrics::default());
        let stop = CancellationToken::new();
        let reporter = Reporter::new(&config.bootstrap_servers, health.component("kafka"));
        let topics = prepare(&config, &identity, &reporter, &stop).await.unwrap();
        let member = Member::create(&config, &identity, &reporter, &metrics).unwrap();
        let setup = weir::sink::Setup {
            config: config.clone(),
            identity: identity.clone(),
            reporter: reporter.clone(),
            membership: member.membership(),
            guarantee,
            topics,
        };
        let publisher = KafkaPublisher::start(setup, &stop).await.unwrap();
        let setup = source::Setup {
            config: config.clone(),
            identity,
            reporter,
            journal_is_ahead: match guarantee {
                Guarantee::ExactlyOnce => false,
                Guarantee::AtLeastOnce => true,
            },
            records_max,
            bytes_max,
            group: health.component("group"),
            metrics: metrics.clone(),
            tracker: TaskTracker::new(),
        };
        let (source, events) = Source::start(member, setup).unwrap();
        Instance {
            publisher,
            events,
            health,
            metrics,
            source: Some(source),
            partitions: BTreeMap::new(),
        }
    }
}

impl Instance {
    /// Returns the next event.
    pub(crate) async fn next(&mut self) -> Event {
        let event = timeout(PATIENCE, self.events.recv()).await;
        event.unwrap_or_else(|_| panic!("no event; {}", self.health.readyz().reasons())).unwrap()
    }

    /// Waits until `partitions` partitions are assigned and recovered; nothing may be revoked meanwhile.
    pub(crate) async fn assigned(&mut self, partitions: usize) {
        while self.partitions.len() < partitions {
            match self.next().await {
                Event::Assigned(recovered) => self.note(recovered),
                Event::Records(records) => panic!("records before their turn: {records:?}"),
                Event::Revoked { partitions, .. } => panic!("revoked {partitions:?}"),
            }
        }
    }

    pub(crate) fn note(&mut self, recovered: Vec<Recovered>) {
        self.partitions.extend(recovered.into_iter().map(|one| (one.partition, one)));
    }

    /// Returns the values of the next `count` records, in the order in which they came, releasing each.
    pub(crate) async fn values(&mut self, count: usize) -> Vec<String> {
        let records = self.records(count).await;
        records.iter().map(|record| value(record).to_owned()).collect()
    }

    /// Returns the next `count` records, releasing each.
    pub(crate) async fn records(&mut self, count: usize) -> Vec<Record> {
        let mut found = Vec::new();
        while found.len() < count {
            match self.next().await {
                Event::Assigned(recovered) => self.note(recovered),
                Event::Records(records) => {
                    for record in records {
                        self.release(&record);
                        found.push(record);
                    }
                }
                Event::Revoked { partitions, .. } => panic!("revoked {partitions:?}"),
            }
        }
        found
    }

    pub(crate) fn release(&self, record: &Record) {
        let held = &self.partitions[&record.position.partition];
        held.window.release(1, record.size());
    }

    /// Says that nothing comes for a while.
    pub(crate) async fn quiet(&mut self, duration: Duration) {
        if let Ok(Some(event)) = timeout(duration, self.events.recv()).await {
            panic!("unexpected {event:?}");
        }
    }

    /// Commits a batch and waits for its outcome.
    pub(crate) async fn commit(&mut self, batch: Batch) -> Commit {
        timeout(PATIENCE * 2, self.publisher.commit(batch)).await.expect("an outcome")
    }

    /// Leaves the group.
    pub(crate) async fn stop(mut self) {
        drop(self.publisher);
        let source = self.source.take().unwrap();
        // Whatever is still to be acknowledged is, by nobody listening any more.
        drop(self.events);
        timeout(PATIENCE, source.stop()).await.expect("an end");
    }

    /// Waits until the source can't go on.
    pub(crate) async fn failed(&self) -> source::Error {
        let failed = self.source.as_ref().unwrap().failed();
        timeout(PATIENCE, failed).await.expect("a failure")
    }

    pub(crate) fn epoch(&self, partition: i32) -> Epoch {
        self.partitions[&PartitionId(partition)].epoch
    }
}

/// Returns a result with this key and value.
pub(crate) fn result(key: &str, value: &str) -> Outgoing {
    outgoing(Topic::Results, None, key, value)
}

pub(crate) fn outgoing(topic: Topic, partition: Option<i32>, key: &str, value: &str) -> Outgoing {
    Outgoing {
        topic,
        partition: partition.map(PartitionId),
        key: Some(Bytes::copy_from_slice(key.as_bytes())),
        value: Bytes::copy_from_slice(value.as_bytes()),
        headers: vec![("who", Bytes::from_static(b"weir"))],
    }
}

/// Returns a journal record of an event's one node.
pub(crate) fn effect(partition: i32, offset: i64, node: &str) -> Outgoing {
    let effect = Effect {
        event_id: uuid::Uuid::from_u64_pair(0, offset.unsigned_abs()),
        offset: Offset(offset),
        node: node.to_owned(),
        visit: 0,
        attempt: 1,
        update: serde_json::value::RawValue::from_string("{}".to_owned()).unwrap(),
        usage: None,
        took: None,
    };
    Outgoing {
        topic: Topic::Journal,
        partition: Some(PartitionId(partition)),
        key: None,
        value: effect.encode().unwrap(),
        headers: Vec::new(),
    }
}

/// Returns a batch that commits `positions` (partition, offset, metadata).
pub(crate) fn batch(records: Vec<Outgoing>, positions: &[(i32, i64, &str)]) -> Batch {
    let positions = positions.iter().map(|(partition, offset, metadata)| CommitPosition {
        partition: PartitionId(*partition),
        offset: Offset(*offset),
        metadata: (*metadata).to_owned(),
    });
    Batch { records, positions: positions.collect() }
}

pub(crate) fn value(record: &Record) -> &str {
    std::str::from_utf8(record.value.as_ref().unwrap()).unwrap()
}

fn positions(topic: &str, positions: &[(i32, i64, &str)]) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (partition, offset, metadata) in positions {
        let mut line = list.add_partition(topic, *partition);
        line.set_offset(NativeOffset::Offset(*offset)).unwrap();
        line.set_metadata(metadata);
    }
    list
}

fn admin() -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", broker()).create().unwrap()
}

/// Creates a topic.
pub(crate) async fn create(name: &str, partitions: i32, settings: &[(&str, &str)]) {
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    for (name, value) in settings {
        topic = topic.set(name, value);
    }
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    admin().create_topics([&topic], &options).await.unwrap().remove(0).unwrap();
}

/// Changes a topic's setting.
pub(crate) async fn alter(topic: &str, name: &str, value: &str) {
    let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(name, value);
    let done = admin().alter_configs([&change], &AdminOptions::new()).await.unwrap();
    assert!(done.iter().all(Result::is_ok), "{done:?}");
}

/// Deletes the records of a partition below `offset`, as retention does.
pub(crate) async fn delete_records(topic: &str, partition: i32, offset: i64) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, NativeOffset::Offset(offset)).unwrap();
    admin().delete_records(&list, &AdminOptions::new()).await.unwrap();
}

/// Writes a record outside of any transaction.
pub(crate) async fn produce(topic: &str, partition: i32, value: &str) -> Offset {
    produce_all(topic, partition, [value]).await
}

/// Writes records outside of any transaction; returns the offset of the last.
pub(crate) async fn produce_all<V: AsRef<[u8]>>(
    topic: &str,
    partition: i32,
    values: impl IntoIterator<Item = V>,
) -> Offset {
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", broker())
        .set("linger.ms", "5")
        .create()
        .unwrap();
    let mut sent = Vec::new();
    for value in values {
        let record: FutureRecord<'_, (), [u8]> =
            FutureRecord::to(topic).partition(partition).payload(value.as_ref());
        sent.push(producer.send_result(record).map_err(|(error, _)| error).unwrap());
    }
    let mut last = Offset(-1);
    for sent in sent {
        last = Offset(sent.await.unwrap().map_err(|(error, _)| error).unwrap().offset);
    }
    last
}

/// A record as somebody else reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: String,
    pub(crate) value: String,
}

/// Returns all that a read_committed reader sees in a topic, once no transaction is open on it.
pub(crate) fn seen(topic: &str) -> Vec<Seen> {
    try_seen(topic).unwrap_or_else(|unstable| panic!("{unstable}"))
}

/// Returns all that a read_committed reader sees in a topic; or why it does not: partitions are held up by a
/// transaction that does not end, or the broker is away.
pub(crate) fn try_seen(topic: &str) -> Result<Vec<Seen>, String> {
    read(topic, "read_committed")
}

/// Returns all that a topic holds, aborted records included.
pub(crate) fn seen_uncommitted(topic: &str) -> Vec<Seen> {
    read(topic, "read_uncommitted").unwrap_or_else(|unstable| panic!("{unstable}"))
}

fn read(topic: &str, isolation: &str) -> Result<Vec<Seen>, String> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker())
        .set("group.id", "nobody")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", "20")
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", isolation)
        .create()
        .unwrap();
    let ends: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker())
        .set("isolation.level", "read_uncommitted")
        .create()
        .unwrap();
    let mut open = BTreeMap::new();
    let mut list = TopicPartitionList::new();
    let away = |error| format!("{topic}: {error}");
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).map_err(away)?;
    for partition in metadata.topics()[0].partitions() {
        let (_, end) = ends.fetch_watermarks(topic, partition.id(), PATIENCE).map_err(away)?;
        list.add_partition_offset(topic, partition.id(), NativeOffset::Beginning).unwrap();
        open.insert(partition.id(), end);
    }
    consumer.assign(&list).unwrap();
    drop(list);
    open.retain(|_, end| *end > 0);
    let mut found = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while !open.is_empty() {
        if Instant::now() > deadline {
            return Err(format!("{topic}: not stable up to {open:?}"));
        }
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => found.push(Seen {
                partition: message.partition(),
                offset: message.offset(),
                key: String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned(),
                value: String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned(),
            }),
            Some(Err(KafkaError::PartitionEOF(_))) | None => {
                for line in consumer.position().unwrap().elements() {
                    if let NativeOffset::Offset(at) = line.offset() {
                        open.retain(|partition, end| *partition != line.partition() || at < *end);
                    }
                }
            }
            // A broker of a test's own may be away.
            Some(Err(KafkaError::Global(_) | KafkaError::MessageConsumption(_))) => {}
            Some(Err(error)) => panic!("{topic}: {error}"),
        }
    }
    Ok(found)
}

/// Waits until `what` holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
