//! The topics as weir needs them: there, of the right shape, and with a size limit that is known.
//!
//! What an operator can heal from outside (no broker, no topic, no permission) is waited for, with one reason at a time;
//! what would lose records as long as it stays so is an error.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::kafka::{
    self, Admin, Config, Identity, Kind, ProducerSizes, Reporter, TopicInfo, TopicSettings,
};

use super::Limits;

/// How long to wait before looking again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// After how long a client that has not found what it looks for is made anew.
const ANEW: Duration = Duration::from_secs(10);

/// What a record takes up in a batch beyond what [`super::Outgoing::size`] counts: the batch's header of 61 bytes, and
/// the lengths and deltas of its one record.
const FRAMING: usize = 128;

/// Kafka's own default of `max.message.bytes`, for brokers that don't tell theirs.
pub(super) const MESSAGE_MAX_DEFAULT: usize = 1_048_588;

/// The least that a topic is assumed to take.
const LIMIT_MIN: usize = 4096;

/// How long effects are kept in a journal that weir creates: longer than any run, and any stop of the service that it is
/// to survive.
const JOURNAL_RETENTION: &str = "604800000";

/// Below this, effects may be gone before the run that needs them resumes.
const JOURNAL_RETENTION_MIN_MS: i64 = 24 * 60 * 60 * 1000;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topics {
    /// How many partitions the events topic has.
    pub partitions: usize,
    /// The largest records that the output topics take.
    pub limits: Limits,
    pub(super) sizes: ProducerSizes,
}

/// Why weir must not start on these topics.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicsError {
    /// Effects of a partition have the same partition of the journal.
    #[error(
        "journal topic {topic} has {journal} partitions, the events topic {events}: add partitions to the journal \
         (kafka-topics.sh --alter --topic {topic} --partitions {events})"
    )]
    JournalTooSmall {
        /// The journal topic.
        topic: String,
        /// Its partitions.
        journal: usize,
        /// The partitions of the events topic.
        events: usize,
    },
    /// Compaction keeps one record per key, and a run writes several under its event's id.
    #[error(
        "journal topic {topic} has cleanup.policy={policy}, which loses effects: set it to delete (kafka-configs.sh \
         --alter --entity-type topics --entity-name {topic} --add-config cleanup.policy=delete)"
    )]
    JournalCompacted {
        /// The journal topic.
        topic: String,
        /// Its policy.
        policy: String,
    },
    /// librdkafka refuses the configuration.
    #[error("configure the Kafka client")]
    Client(#[source] kafka::Error),
    /// The process is to end before the topics were ready.
    #[error("stopped while waiting for Kafka")]
    Stopped,
}

/// Looks at the topics until they are as they must be, creating those that are missing where that is allowed.
///
/// `stop` ends the waiting at any moment.
///
/// # Errors
/// [`TopicsError`], for what waiting does not heal.
pub async fn prepare(
    config: &Config,
    identity: &Identity,
    reporter: &Reporter,
    stop: &CancellationToken,
) -> Result<Topics, TopicsError> {
    let create = || Admin::create(config, identity, reporter).map_err(TopicsError::Client);
    let (mut admin, mut made) = (create()?, Instant::now());
    let mut settings_refused = false;
    loop {
        let looked = stop.run_until_cancelled(look(config, &admin, &mut settings_refused)).await;
        match looked {
            None => return Err(TopicsError::Stopped),
            Some(Ok(topics)) => return Ok(topics),
            Some(Err(Obstacle::Never(error))) => return Err(error),
            Some(Err(Obstacle::NotYet(reason))) => reporter.waiting(reason),
        }
        if stop.run_until_cancelled(sleep(LOOK_AGAIN)).await.is_none() {
            return Err(TopicsError::Stopped);
        }
        // A client may have lost its brokers for good.
        if made.elapsed() >= ANEW {
            (admin, made) = (create()?, Instant::now());
        }
    }
}

/// What keeps weir from starting.
enum Obstacle {
    NotYet(String),
    Never(TopicsError),
}

impl From<kafka::Error> for Obstacle {
    fn from(error: kafka::Error) -> Self {
        match error.kind {
            Kind::Configuration => Self::Never(TopicsError::Client(error)),
            Kind::Permission => Self::NotYet(format!("permission denied: {}", error.reason)),
            Kind::Unreachable
            | Kind::Resolve
            | Kind::Tls
            | Kind::Authentication
            | Kind::UnknownTopic
            | Kind::TimedOut
            | Kind::OutOfRange
            | Kind::Unstable
            | Kind::Replaced
            | Kind::Fenced
            | Kind::TooLarge
            | Kind::Metadata
            | Kind::Other => Self::NotYet(error.reason),
        }
    }
}

async fn look(
    config: &Config,
    admin: &Admin,
    settings_refused: &mut bool,
) -> Result<Topics, Obstacle> {
    let name = &config.workflow_events_topic;
    let Some(events) = admin.topic(name).await? else {
        let reason = format!("events topic {name} does not exist; see KAFKA_WORKFLOW_EVENTS_TOPIC");
        return Err(Obstacle::NotYet(reason));
    };
    let journal_settings = [
        ("cleanup.policy", "delete"),
        ("retention.ms", JOURNAL_RETENTION),
        // The broker may have a limit for topics that don't say.
        ("retention.bytes", "-1"),
    ];
    present(config, admin, &config.workflow_results_topic, (&events, &[])).await?;
    present(config, admin, &config.dlq_topic, (&events, &[])).await?;
    let journal =
        present(config, admin, &config.journal_topic, (&events, &journal_settings)).await?;
    if journal.partitions < events.partitions {
        return Err(Obstacle::Never(TopicsError::JournalTooSmall {
            topic: config.journal_topic.clone(),
            journal: journal.partitions,
            events: events.partitions,
        }));
    }
    let written = written(config);
    let settings = match admin.settings(&written).await {
        Ok(settings) => settings,
        Err(error) if error.kind == Kind::Permission => {
            if !std::mem::replace(settings_refused, true) {
                warn!(
                    %error,
                    message_max = MESSAGE_MAX_DEFAULT,
                    "may not read the topics' settings; Kafka's default limit is assumed"
                );
            }
            vec![TopicSettings::new(); written.len()]
        }
        Err(error) => return Err(error.into()),
    };
    if let Some(journal) = settings.last() {
        check_journal(&config.journal_topic, journal)?;
    }
    Ok(Topics::new(events.partitions, &settings))
}

/// Returns the topics that weir writes; the journal is the last.
fn written(config: &Config) -> [&str; 3] {
    [&config.workflow_results_topic, &config.dlq_topic, &config.journal_topic]
}

/// Returns the topic as it is, after creating it where it is missing.
async fn present(
    config: &Config,
    admin: &Admin,
    name: &str,
    (like, settings): (&TopicInfo, &[(&str, &str)]),
) -> Result<TopicInfo, Obstacle> {
    if let Some(topic) = admin.topic(name).await? {
        return Ok(topic);
    }
    if !config.create_topics {
        let reason = format!("topic {name} does not exist and KAFKA_CREATE_TOPICS is false");
        return Err(Obstacle::NotYet(reason));
    }
    admin
        .create_topic(name, like, settings)
        .await
        .map_err(|error| error.during(&format!("create topic {name}")))?;
    let (partitions, replicas) = (like.partitions, like.replicas);
    info!(topic = name, partitions, replicas, "created topic");
    // Its leaders are elected while we look at the others; the next look sees whether they are.
    admin
        .topic(name)
        .await?
        .ok_or_else(|| Obstacle::NotYet(format!("topic {name} is being created")))
}

fn check_journal(topic: &str, settings: &TopicSettings) -> Result<(), Obstacle> {
    refuse_compacted(topic, settings).map_err(Obstacle::Never)?;
    for caveat in caveats(topic, settings) {
        warn!(topic, caveat, "the journal may lose effects");
    }
    Ok(())
}

/// Refuses a journal that loses effects.
pub(super) fn refuse_compacted(topic: &str, settings: &TopicSettings) -> Result<(), TopicsError> {
    match settings.get("cleanup.policy") {
        Some(policy) if policy.contains("compact") => {
            Err(TopicsError::JournalCompacted { topic: topic.to_owned(), policy: policy.clone() })
        }
        Some(_) | None => Ok(()),
    }
}

/// Says how the journal may lose effects of unfinished runs all the same, and what to do about it.
pub(super) fn caveats(topic: &str, settings: &TopicSettings) -> Vec<String> {
    let number = |name| settings.get(name).and_then(|text| text.parse::<i64>().ok());
    let mut caveats = Vec::new();
    if let Some(kept) =
        number("retention.ms").filter(|kept| (0..JOURNAL_RETENTION_MIN_MS).contains(kept))
    {
        caveats.push(format!("kept for {kept} ms only: effects of long runs may be lost"));
    }
    if let Some(size) = number("retention.bytes").filter(|size| *size >= 0) {
        caveats.push(format!(
            "cut to {size} bytes per partition, however young they are: effects of unfinished runs may be lost; set \
             retention.bytes=-1 (kafka-configs.sh --alter --entity-type topics --entity-name {topic} --add-config \
             retention.bytes=-1)"
        ));
    }
    caveats
}

/// Reads the limits again, once: a topic refused what it took when weir started.
///
/// # Errors
/// Kafka's, when it does not answer.
pub(super) async fn limits_now(
    config: &Config,
    identity: &Identity,
    reporter: &Reporter,
) -> Result<Topics, kafka::Error> {
    let admin = Admin::create(config, identity, reporter)?;
    let settings = admin.settings(&written(config)).await?;
    Ok(Topics::new(0, &settings))
}

impl Topics {
    /// Returns the same with half of each limit, but no less than [`LIMIT_MIN`].
    pub(super) fn halved(&self) -> Self {
        let half = |limit: usize| (limit / 2).max(LIMIT_MIN);
        let Limits { result_max, dead_letter_max, journal_max } = self.limits;
        Self {
            partitions: self.partitions,
            limits: Limits {
                result_max: half(result_max),
                dead_letter_max: half(dead_letter_max),
                journal_max: half(journal_max),
            },
            sizes: ProducerSizes {
                smallest: half(self.sizes.smallest),
                largest: self.sizes.largest,
            },
        }
    }

    /// `settings`: of the topics that [`written`] names, in its order.
    fn new(partitions: usize, settings: &[TopicSettings]) -> Self {
        let limit = |at: usize| {
            let text = settings.get(at).and_then(|settings| settings.get("max.message.bytes"));
            text.and_then(|text| text.parse::<usize>().ok()).unwrap_or(MESSAGE_MAX_DEFAULT)
        };
        let all = [limit(0), limit(1), limit(2)];
        let [results, dead_letters, journal] = all.map(|limit| limit.saturating_sub(FRAMING));
        Self {
            partitions,
            limits: Limits {
                result_max: results,
                dead_letter_max: dead_letters,
                journal_max: journal,
            },
            sizes: ProducerSizes {
                smallest: all.into_iter().min().unwrap_or(MESSAGE_MAX_DEFAULT),
                largest: all.into_iter().max().unwrap_or(MESSAGE_MAX_DEFAULT),
            },
        }
    }
}
