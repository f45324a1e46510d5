//! Asks for topics and makes them.
//!
//! librdkafka's calls block for as long as their time-out says, so they run on threads of their own: whoever waits may
//! stop waiting at any moment, and the process ends without them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication},
    config::FromClientConfigAndContext,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
};

use super::{
    Config, Error, Identity, Kind, Reporter, bootstrap::rebootstrap, client, context::Plain, thread,
};

/// How long one question may take.
const QUESTION: Duration = Duration::from_secs(2);

/// How long the creation of a topic may take.
const CREATION: Duration = Duration::from_secs(10);

/// How many events are looked at after a question.
const EVENTS_MAX: usize = 64;

/// A client that asks for topics.
pub(crate) struct Admin {
    /// The question for metadata goes through a consumer: a producer's would create the topic that it asks for.
    asking: Option<Arc<BaseConsumer<Plain>>>,
    making: Option<AdminClient<Plain>>,
    reporter: Reporter,
}

/// A topic as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicInfo {
    pub(crate) partitions: usize,
    pub(crate) replicas: usize,
}

/// The settings of a topic that were asked for, by name.
pub(crate) type TopicSettings = BTreeMap<String, String>;

impl Admin {
    pub(crate) fn create(
        config: &Config,
        identity: &Identity,
        reporter: &Reporter,
    ) -> Result<Self, Error> {
        let native = client::watermarks(config, identity);
        let asking = BaseConsumer::from_config_and_context(&native, Plain::new(reporter))?;
        let native = client::admin(config, identity);
        let making = AdminClient::from_config_and_context(&native, Plain::new(reporter))?;
        let (asking, making) = (Some(Arc::new(asking)), Some(making));
        Ok(Self { asking, making, reporter: reporter.clone() })
    }

    /// Returns the topic, or `None` when there is none of that name.
    pub(crate) async fn topic(&self, name: &str) -> Result<Option<TopicInfo>, Error> {
        let Some(client) = self.asking.clone() else { return Err(closed()) };
        self.reporter.forget();
        let topic = name.to_owned();
        let asked = thread::run("kafka-metadata", move || {
            let found = client.fetch_metadata(Some(&topic), QUESTION);
            // Why a broker can't be reached comes as an event, and is told to the reporter from here. A poll that meets
            // a log line returns nothing, so nothing is no sign of an end.
            for _ in 0..EVENTS_MAX {
                drop(client.poll(Duration::ZERO));
            }
            rebootstrap(client.client());
            found
        });
        let metadata = match asked.await {
            Some(Ok(metadata)) => metadata,
            Some(Err(error)) => return Err(self.reporter.explain(error.into())),
            None => return Err(closed()),
        };
        let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == name) else {
            return Ok(None);
        };
        match topic.error().map(RDKafkaErrorCode::from) {
            None => {}
            Some(code) if Kind::of(code) == Kind::UnknownTopic => return Ok(None),
            Some(code) => return Err(Error::from(code).during(&format!("look at topic {name}"))),
        }
        let replicas = topic.partitions().iter().map(|partition| partition.replicas().len()).min();
        Ok(Some(TopicInfo {
            partitions: topic.partitions().len(),
            replicas: replicas.unwrap_or(0).max(1),
        }))
    }

    /// Creates a topic. That somebody else was faster is no error.
    pub(crate) async fn create_topic(
        &self,
        name: &str,
        like: &TopicInfo,
        settings: &[(&str, &str)],
    ) -> Result<(), Error> {
        let Some(client) = &self.making else { return Err(closed()) };
        let partitions = i32::try_from(like.partitions).unwrap_or(i32::MAX);
        let replicas = i32::try_from(like.replicas).unwrap_or(1);
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(replicas));
        for (name, value) in settings {
            topic = topic.set(name, value);
        }
        let options =
            AdminOptions::new().request_timeout(Some(CREATION)).operation_timeout(Some(CREATION));
        let done = client.create_topics([&topic], &options).await?;
        match done.into_iter().next() {
            None | Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
            Some(Err((_, code))) => Err(Error::from(code)),
        }
    }

    /// Returns the settings of topics, in their order. From a broker that can't tell them there are none.
    pub(crate) async fn settings(&self, topics: &[&str]) -> Result<Vec<TopicSettings>, Error> {
        let Some(client) = &self.making else { return Err(closed()) };
        let resources: Vec<_> = topics.iter().copied().map(ResourceSpecifier::Topic).collect();
        let options = AdminOptions::new().request_timeout(Some(QUESTION * 2));
        let mut settings = Vec::new();
        let answers = match client.describe_configs(&resources, &options).await {
            // librdkafka's mock cluster, and brokers before Kafka 0.11.
            Err(KafkaError::AdminOp(RDKafkaErrorCode::UnsupportedFeature)) => {
                return Ok(vec![TopicSettings::new(); topics.len()]);
            }
            answers => answers?,
        };
        for answer in answers {
            let entries = answer.map_err(Error::from)?.entries;
            settings.push(
                entries
                    .into_iter()
                    .filter_map(|entry| entry.value.map(|value| (entry.name, value)))
                    .collect(),
            );
        }
        if settings.len() == topics.len() {
            Ok(settings)
        } else {
            Err(Error::new(Kind::Other, "the broker described fewer topics than it was asked for"))
        }
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        thread::close((self.asking.take(), self.making.take()));
    }
}

fn closed() -> Error {
    Error::new(Kind::Other, "the client is closed")
}
