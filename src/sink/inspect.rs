//! Looks at Kafka as weir will find it, for `weir check`: brokers, topics, their limits, the journal, transactions.
//!
//! Changes nothing: what is missing stays missing, and a group is not joined. The one trace that it leaves is the
//! coordinator's note of a transactional id of its own, which never writes.

use std::time::Duration;

use rdkafka::{
    config::FromClientConfigAndContext,
    producer::{FutureProducer, Producer as _},
};

use crate::{
    kafka::{
        self, Admin, Config, Identity, Kind, Plain, ProducerSizes, Reporter, TopicInfo,
        TopicSettings, ask_patiently, thread,
    },
    telemetry::Health,
};

use super::{
    Guarantee,
    topics::{MESSAGE_MAX_DEFAULT, TopicsError, caveats, refuse_compacted},
};

/// The instance that looks: no other can be called so by accident.
const INSTANCE: &str = "~check";

/// How long a broker may take to be there.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the coordinator may take to take a transactional id on.
const TRANSACTIONS: Duration = Duration::from_secs(10);

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub name: String,
    /// How it is; or what is wrong with it, and what to do.
    pub outcome: Result<String, String>,
}

/// Looks at everything that a run needs of Kafka.
///
/// Ends early where no broker answers. Call it within a Tokio runtime.
pub async fn inspect(config: &Config, guarantee: Guarantee) -> Vec<Finding> {
    let identity = Identity::named(&config.consumer_group_id, INSTANCE);
    let reporter = Reporter::new(&config.bootstrap_servers, Health::default().component("kafka"));
    let inspection = Inspection { config, identity: &identity, reporter: &reporter };
    let mut findings = Vec::new();
    let admin = match inspection.reach().await {
        Ok(admin) => admin,
        Err(error) => {
            findings.push(Finding::new("brokers", Err(refusal(&error))));
            return findings;
        }
    };
    let servers = &config.bootstrap_servers;
    findings.push(Finding::new("brokers", Ok(format!("{servers} answers"))));
    let events = inspection.events(&admin, &mut findings).await;
    for name in [&config.workflow_results_topic, &config.dlq_topic] {
        inspection.output(&admin, name, &mut findings).await;
    }
    inspection.journal(&admin, events.as_ref(), &mut findings).await;
    findings.push(inspection.transactions(guarantee).await);
    findings
}

struct Inspection<'a> {
    config: &'a Config,
    identity: &'a Identity,
    reporter: &'a Reporter,
}

impl Inspection<'_> {
    /// Waits a little for a broker.
    async fn reach(&self) -> Result<Admin, kafka::Error> {
        let admin = Admin::create(self.config, self.identity, self.reporter)?;
        match ask_patiently(&admin, &self.config.workflow_events_topic, PATIENCE).await {
            // Who is refused was heard.
            Err(error) if error.kind != Kind::Permission => Err(error),
            Ok(_) | Err(_) => Ok(admin),
        }
    }

    async fn events(&self, admin: &Admin, findings: &mut Vec<Finding>) -> Option<TopicInfo> {
        let name = &self.config.workflow_events_topic;
        let found = admin.topic(name).await;
        let outcome = match &found {
            Ok(Some(topic)) => Ok(shape(topic)),
            Ok(None) => {
                Err("does not exist; create it, or set KAFKA_WORKFLOW_EVENTS_TOPIC".to_owned())
            }
            Err(error) => Err(refusal(error)),
        };
        findings.push(Finding::topic(name, outcome));
        found.ok().flatten()
    }

    async fn output(&self, admin: &Admin, name: &str, findings: &mut Vec<Finding>) {
        let outcome = match self.look(admin, name).await {
            Ok(Some((topic, settings))) => Ok(format!("{}, {}", shape(&topic), limit(&settings))),
            Ok(None) => self.missing(),
            Err(error) => Err(refusal(&error)),
        };
        findings.push(Finding::topic(name, outcome));
    }

    async fn journal(
        &self,
        admin: &Admin,
        events: Option<&TopicInfo>,
        findings: &mut Vec<Finding>,
    ) {
        let name = &self.config.journal_topic;
        let outcome = match self.look(admin, name).await {
            Ok(Some((topic, settings))) => match fit(name, &topic, &settings, events) {
                Ok(()) => {
                    let caveats = caveats(name, &settings);
                    let caveats: String =
                        caveats.iter().map(|caveat| format!(", but {caveat}")).collect();
                    Ok(format!("{}, {}{caveats}", shape(&topic), limit(&settings)))
                }
                Err(error) => Err(error.to_string()),
            },
            Ok(None) => self.missing(),
            Err(error) => Err(refusal(&error)),
        };
        findings.push(Finding::topic(name, outcome));
    }

    async fn look(
        &self,
        admin: &Admin,
        name: &str,
    ) -> Result<Option<(TopicInfo, TopicSettings)>, kafka::Error> {
        let Some(topic) = admin.topic(name).await? else { return Ok(None) };
        let settings = match admin.settings(&[name]).await {
            Ok(settings) => settings.into_iter().next().unwrap_or_default(),
            // weir runs without knowing them.
            Err(error) if error.kind == Kind::Permission => TopicSettings::new(),
            Err(error) => return Err(error),
        };
        Ok(Some((topic, settings)))
    }

    fn missing(&self) -> Result<String, String> {
        if self.config.create_topics {
            Ok("does not exist yet; weir creates it when it starts".to_owned())
        } else {
            Err("does not exist; create it, or set KAFKA_CREATE_TOPICS=true".to_owned())
        }
    }

    async fn transactions(&self, guarantee: Guarantee) -> Finding {
        let outcome = match guarantee {
            Guarantee::AtLeastOnce => {
                Ok("not used, as DELIVERY_GUARANTEE=at_least_once".to_owned())
            }
            Guarantee::ExactlyOnce => match self.initialise().await {
                Ok(()) => Ok(format!("initialised as {}", self.identity.transactional_id())),
                Err(error) if error.kind == Kind::Permission => Err(format!(
                    "{}; grant WRITE on transactional ids that begin with weir-{}-",
                    error.reason, self.config.consumer_group_id
                )),
                Err(error) => Err(format!(
                    "{}; brokers without transactions need DELIVERY_GUARANTEE=at_least_once, and a single broker \
                     transaction.state.log.replication.factor=1 and transaction.state.log.min.isr=1",
                    error.reason
                )),
            },
        };
        Finding::new("transactions", outcome)
    }

    async fn initialise(&self) -> Result<(), kafka::Error> {
        let id = self.identity.transactional_id();
        let sizes = ProducerSizes { smallest: MESSAGE_MAX_DEFAULT, largest: MESSAGE_MAX_DEFAULT };
        let native = kafka::producer(self.config, self.identity, Some(&id), sizes);
        let producer: FutureProducer<Plain> =
            FutureProducer::from_config_and_context(&native, Plain::new(self.reporter))?;
        let asked =
            thread::run("kafka-check", move || producer.init_transactions(TRANSACTIONS)).await;
        match asked {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(error.into()),
            None => Err(kafka::Error::new(Kind::Other, "initialise transactions: panicked")),
        }
    }
}

impl Finding {
    fn new(name: &str, outcome: Result<String, String>) -> Self {
        Self { name: name.to_owned(), outcome }
    }

    fn topic(name: &str, outcome: Result<String, String>) -> Self {
        Self::new(&format!("topic {name}"), outcome)
    }
}

/// Says whether the journal can hold the effects of the events.
fn fit(
    name: &str,
    topic: &TopicInfo,
    settings: &TopicSettings,
    events: Option<&TopicInfo>,
) -> Result<(), TopicsError> {
    if let Some(events) = events
        && topic.partitions < events.partitions
    {
        return Err(TopicsError::JournalTooSmall {
            topic: name.to_owned(),
            journal: topic.partitions,
            events: events.partitions,
        });
    }
    refuse_compacted(name, settings)
}

fn shape(topic: &TopicInfo) -> String {
    let count = |number: usize, noun: &str| match number {
        1 => format!("1 {noun}"),
        number => format!("{number} {noun}s"),
    };
    format!("{}, {}", count(topic.partitions, "partition"), count(topic.replicas, "replica"))
}

fn limit(settings: &TopicSettings) -> String {
    match settings.get("max.message.bytes") {
        Some(bytes) => format!("records up to {bytes} bytes"),
        None => format!("records up to {MESSAGE_MAX_DEFAULT} bytes, as its settings can't be read"),
    }
}

fn refusal(error: &kafka::Error) -> String {
    match error.kind {
        Kind::Permission => format!("{}; grant the principal DESCRIBE on it", error.reason),
        Kind::Unreachable | Kind::TimedOut => {
            format!("{}; start it, or set KAFKA_BOOTSTRAP_SERVERS", error.reason)
        }
        Kind::Configuration
        | Kind::Resolve
        | Kind::Tls
        | Kind::Authentication
        | Kind::UnknownTopic
        | Kind::OutOfRange
        | Kind::Unstable
        | Kind::Replaced
        | Kind::Fenced
        | Kind::TooLarge
        | Kind::Metadata
        | Kind::Other => error.reason.clone(),
    }
}
