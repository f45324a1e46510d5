//! Kafka as weir's clients use it: publish an event, and read what comes of it. In no group and in no transaction.
//!
//! A reader stands at the end of every partition before it returns, so that what is published after that is seen.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::{
    Message as _, Offset as NativeOffset, TopicPartitionList,
    config::FromClientConfigAndContext,
    consumer::{Consumer, StreamConsumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
    util::Timeout,
};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    record::{Offset, PartitionId},
    telemetry::Health,
};

use super::{
    Config, Error, Identity, Kind, Reporter,
    admin::{Admin, TopicInfo},
    bootstrap::rebootstrap,
    client::{self, ProducerSizes},
    context::Plain,
    native, thread,
};

/// How long one question may take.
const QUESTION: Duration = Duration::from_secs(5);

/// How long to wait before a broker that did not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// How often a reader to whom nothing comes is looked after.
const LOOK: Duration = Duration::from_secs(1);

/// Kafka's own default of `max.message.bytes`: the largest event that is sent.
const EVENT_MAX: usize = 1_048_588;

/// The way to Kafka for a client.
pub struct Outside {
    config: Config,
    identity: Identity,
    reporter: Reporter,
    producer: Option<FutureProducer<Plain>>,
}

/// Reads topics from their ends on.
pub struct Tail {
    consumer: Option<Arc<StreamConsumer<Plain>>>,
}

/// A record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: PartitionId,
    /// Its offset.
    pub offset: Offset,
    /// Its value; empty for a tombstone.
    pub value: Bytes,
}

impl Outside {
    /// Returns a client that calls itself `name`. Connects to nothing.
    ///
    /// Call it within a Tokio runtime.
    ///
    /// # Errors
    /// [`Kind::Configuration`] when librdkafka refuses a property.
    pub fn new(config: &Config, name: &str) -> Result<Self, Error> {
        let identity = Identity::named(&config.consumer_group_id, name);
        let health = Health::default().component("kafka");
        let reporter = Reporter::new(&config.bootstrap_servers, health);
        let sizes = ProducerSizes { smallest: EVENT_MAX, largest: EVENT_MAX };
        let native = client::producer(config, &identity, None, sizes);
        let producer = FutureProducer::from_config_and_context(&native, Plain::new(&reporter))?;
        Ok(Self { config: config.clone(), identity, reporter, producer: Some(producer) })
    }

    /// Says which of `topics` there are. Waits for a broker, for `patience` at most.
    ///
    /// # Errors
    /// Why no broker answers.
    pub async fn find(&self, topics: &[&str], patience: Duration) -> Result<Vec<bool>, Error> {
        let admin = Admin::create(&self.config, &self.identity, &self.reporter)?;
        let mut found = Vec::with_capacity(topics.len());
        for topic in topics {
            found.push(ask_patiently(&admin, topic, patience).await?.is_some());
        }
        Ok(found)
    }

    /// Publishes a record with these headers and waits until the topic has it.
    ///
    /// # Errors
    /// Why it has not.
    pub async fn publish(
        &self,
        topic: &str,
        key: Option<&str>,
        value: &[u8],
        headers: &[(&str, &str)],
    ) -> Result<(PartitionId, Offset), Error> {
        let Some(producer) = &self.producer else {
            return Err(Error::new(Kind::Other, "the client is closed"));
        };
        let mut record: FutureRecord<'_, str, [u8]> = FutureRecord::to(topic).payload(value);
        record.key = key;
        if !headers.is_empty() {
            let native = OwnedHeaders::new_with_capacity(headers.len());
            let header = |native: OwnedHeaders, (key, value): &(&str, &str)| {
                native.insert(Header { key, value: Some(*value) })
            };
            record.headers = Some(headers.iter().fold(native, header));
        }
        match producer.send(record, Timeout::After(QUESTION)).await {
            Ok(delivery) => Ok((PartitionId(delivery.partition), Offset(delivery.offset))),
            Err((error, _)) => {
                let error = Error::from(error).during(&format!("publish to {topic}"));
                Err(self.reporter.explain(error))
            }
        }
    }

    /// Returns a reader that stands at the end of every partition of `topics` as a read_committed reader sees it.
    ///
    /// # Errors
    /// When a topic is not there, or can't be asked for its ends.
    pub async fn tail(&self, topics: &[&str]) -> Result<Tail, Error> {
        let native = client::tail(&self.config, &self.identity);
        let consumer =
            StreamConsumer::from_config_and_context(&native, Plain::new(&self.reporter))?;
        let consumer: Arc<StreamConsumer<Plain>> = Arc::new(consumer);
        let tail = Tail { consumer: Some(Arc::clone(&consumer)) };
        let topics: Vec<_> = topics.iter().map(|topic| (*topic).to_owned()).collect();
        let positioned = thread::run("kafka-ends", move || position(&consumer, &topics)).await;
        match positioned {
            Some(Ok(())) => Ok(tail),
            Some(Err(error)) => Err(self.reporter.explain(error)),
            None => Err(Error::new(Kind::Other, "look for the topics' ends: panicked")),
        }
    }
}

impl Tail {
    /// Waits for the next record.
    ///
    /// Brokers that go away are waited for. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// When a topic may not be read, or is not there any more.
    pub async fn next(&self) -> Result<Seen, Error> {
        loop {
            let Some(consumer) = &self.consumer else {
                return Err(Error::new(Kind::Other, "the client is closed"));
            };
            let Ok(received) = timeout(LOOK, consumer.recv()).await else {
                rebootstrap(consumer.client());
                continue;
            };
            match received {
                Ok(message) => {
                    return Ok(Seen {
                        topic: message.topic().to_owned(),
                        partition: PartitionId(message.partition()),
                        offset: Offset(message.offset()),
                        value: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
                    });
                }
                // A reader in no group has no use for the group's coordinator, which librdkafka looks for all the same.
                Err(KafkaError::MessageConsumption(RDKafkaErrorCode::GroupAuthorizationFailed)) => {
                }
                Err(error) => {
                    let error = Error::from(error);
                    if is_final(error.kind) {
                        return Err(error.during("read"));
                    }
                }
            }
        }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        thread::close(self.producer.take());
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        thread::close(self.consumer.take());
    }
}

/// Asks for a topic until a broker answers, for `patience` at most, or until asking again can't help.
pub(crate) async fn ask_patiently(
    admin: &Admin,
    topic: &str,
    patience: Duration,
) -> Result<Option<TopicInfo>, Error> {
    let until = Instant::now() + patience;
    let mut first = None;
    loop {
        let error = match admin.topic(topic).await {
            Ok(topic) => return Ok(topic),
            Err(error) => error,
        };
        if is_final(error.kind) {
            return Err(error);
        }
        // librdkafka says why it can't connect the first time; after that only that it can't.
        let told = first.get_or_insert(error);
        if Instant::now() >= until {
            return Err(told.clone());
        }
        sleep(ASK_AGAIN).await;
    }
}

/// Moves the reader to the end of every partition. Blocks.
fn position(consumer: &StreamConsumer<Plain>, topics: &[String]) -> Result<(), Error> {
    let mut start = TopicPartitionList::new();
    for topic in topics {
        let asked = |error: Error| error.during(&format!("look for the end of topic {topic}"));
        let metadata = consumer.fetch_metadata(Some(topic), QUESTION);
        let metadata = metadata.map_err(|error| asked(error.into()))?;
        let partitions = metadata.topics().iter().find(|known| known.name() == topic);
        let mut ends = TopicPartitionList::new();
        for partition in partitions.map(|known| known.partitions()).unwrap_or_default() {
            ends.add_partition_offset(topic, partition.id(), NativeOffset::End)
                .map_err(|error| asked(error.into()))?;
        }
        if ends.count() == 0 {
            return Err(Error::new(Kind::UnknownTopic, format!("topic {topic} does not exist")));
        }
        let ends =
            consumer.offsets_for_times(ends, QUESTION).map_err(|error| asked(error.into()))?;
        for line in native::lines(&ends) {
            if let Some(code) = line.error {
                return Err(asked(code.into()));
            }
            start
                .add_partition_offset(topic, line.partition, NativeOffset::Offset(line.offset))
                .map_err(|error| asked(error.into()))?;
        }
    }
    consumer.assign(&start)?;
    Ok(())
}

/// Says whether waiting does not help a client that somebody waits for.
fn is_final(kind: Kind) -> bool {
    match kind {
        Kind::Configuration
        | Kind::Tls
        | Kind::Authentication
        | Kind::Permission
        | Kind::UnknownTopic
        | Kind::TooLarge => true,
        Kind::Unreachable
        | Kind::Resolve
        | Kind::TimedOut
        | Kind::OutOfRange
        | Kind::Unstable
        | Kind::Replaced
        | Kind::Fenced
        | Kind::Metadata
        | Kind::Other => false,
    }
}
