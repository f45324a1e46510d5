//! The steps of one transaction, in the one order that is safe: begin, send all, wait
//! until all have arrived, send the offsets, commit.
//!
//! Each step's error is judged once: try the same again, abort, or give the producer up. Waiting for all deliveries
//! comes first because a commit that has to flush takes 100 ms; and a transaction whose offsets were not accepted is
//! never committed, for that would make its results visible without them.

use std::time::Duration;

use rdkafka::{
    TopicPartitionList,
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{BaseRecord, Producer as _, ThreadedProducer},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{
    failpoint::{self, Mechanism, Point},
    kafka::{
        self, Bootstrapped as _, Config, GroupMetadata, Kind, Refusal, rebootstrap_late,
        send_offsets,
    },
    record::Offset,
};

use super::{
    Error, Outgoing, Topic,
    deliveries::{Deliveries, Undelivered, tag},
};

pub(super) type Producer = ThreadedProducer<Deliveries>;

/// How long one call that can be repeated may take.
pub(super) const CALL: Duration = Duration::from_secs(3);

/// How often the producer is looked after while its records are on their way.
const LOOK: Duration = Duration::from_secs(1);

/// What a transaction is made of.
pub(super) struct Transaction<'a> {
    pub(super) producer: &'a Producer,
    pub(super) config: &'a Config,
    pub(super) records: &'a [Outgoing],
    pub(super) offsets: &'a TopicPartitionList,
    pub(super) group: &'a GroupMetadata,
    /// Ends the waiting for an answer that may never come.
    pub(super) abandon: &'a CancellationToken,
}

/// How it ended, when not well.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nothing is visible, and the producer is as good as before.
    Aborted { error: Error, kind: Kind },
    /// The producer is of no use any more.
    Broken { error: Error, kind: Kind, outcome: Outcome },
    /// The process ends; the outcome is not known.
    Abandoned,
}

/// What is known of a transaction whose producer is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The commit was never asked for, so the coordinator can only have aborted it, or will when the next producer of
    /// our id is initialised.
    NotApplied,
    /// The commit was asked for, and the answer was lost.
    Unknown,
}

/// What to do about a step's error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judgement {
    Again,
    Abort,
    GiveUp,
}

impl Transaction<'_> {
    /// Runs it, and returns where its journal records lie: by their index among the records.
    pub(super) fn run(&self) -> Result<Vec<(usize, Offset)>, Failure> {
        let began = Instant::now();
        self.producer.begin_transaction().map_err(|error| self.fail("begin", self.judge(error)))?;
        failpoint::reach(Point::CommitBegun);
        let offsets = deliver(
            self.producer,
            self.config,
            self.records,
            began + share(self.config.transaction_timeout, 85),
        )
        .map_err(|undelivered| self.undelivered(&undelivered))?;
        let journal = journal_offsets(self.records, &offsets);
        if !journal.is_empty() {
            failpoint::reach(Point::JournalProduced);
        }
        failpoint::reach(Point::CommitProduced);
        if self.producer.context().bootstrap().was_lost() {
            return Err(self.abort(brokers_lost(), Outcome::NotApplied));
        }
        if !failpoint::is_off(Mechanism::OffsetsInTransaction) {
            self.send_offsets(began + share(self.config.transaction_timeout, 95))?;
        }
        failpoint::reach(Point::CommitOffsets);
        self.commit()?;
        if failpoint::fails(Point::CommitDone) {
            let lost = kafka::Error::new(Kind::Unreachable, "the answer was lost");
            return Err(self.broken(lost, Outcome::Unknown));
        }
        Ok(journal)
    }

    fn send_offsets(&self, deadline: Instant) -> Result<(), Failure> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = left.clamp(Duration::from_millis(100), CALL);
            let sent = send_offsets(self.producer.client(), self.offsets, self.group, timeout);
            let Err(refusal) = sent else { return Ok(()) };
            let judged = self.judge_refusal(&refusal);
            // The same list again, whatever became of the first call: the broker takes it as one.
            let again = judged.0 == Judgement::Again && !left.is_zero();
            if !again || self.abandon.is_cancelled() {
                return Err(self.fail("send offsets", judged));
            }
            debug!(error = %judged.1, "sending offsets again");
            rebootstrap_late(self.producer.client());
        }
    }

    fn commit(&self) -> Result<(), Failure> {
        let began = Instant::now();
        loop {
            let Err(error) = self.producer.commit_transaction(CALL) else { return Ok(()) };
            let (judgement, error) = self.judge(error);
            let is_late = began.elapsed() >= self.config.transaction_timeout;
            match judgement {
                // Resumes the same commit; the broker may well have done it already.
                Judgement::Again if self.abandon.is_cancelled() => return Err(Failure::Abandoned),
                Judgement::Again if !is_late => {
                    debug!(%error, "resuming the commit");
                    rebootstrap_late(self.producer.client());
                }
                Judgement::Abort => return Err(self.abort(told(error, "commit"), Outcome::Unknown)),
                Judgement::Again | Judgement::GiveUp => {
                    return Err(self.broken(error.during("commit"), Outcome::Unknown));
                }
            }
        }
    }

    /// Turns the error of a step before the commit into a failure, aborting the transaction where it can be.
    fn fail(&self, step: &str, (judgement, error): (Judgement, kafka::Error)) -> Failure {
        match judgement {
            Judgement::GiveUp => self.broken(error.during(step), Outcome::NotApplied),
            Judgement::Again | Judgement::Abort => {
                self.abort(told(error, step), Outcome::NotApplied)
            }
        }
    }

    fn undelivered(&self, undelivered: &Undelivered) -> Failure {
        let (told, kind) = describe_undelivered(self.records, undelivered);
        if self.is_fatal() {
            self.broken(kafka::Error::new(kind, told.to_string()), Outcome::NotApplied)
        } else {
            self.abort((told, kind), Outcome::NotApplied)
        }
    }

    /// Aborts because of an error; `otherwise` is what is known when even that is not possible. It is waited for as long as
    /// half of a transaction may last: another producer's initialisation aborts it as well.
    fn abort(&self, (because, kind): (Error, Kind), otherwise: Outcome) -> Failure {
        let began = Instant::now();
        loop {
            let Err(error) = self.producer.abort_transaction(CALL) else {
                return Failure::Aborted { error: because, kind };
            };
            let (judgement, error) = self.judge(error);
            let is_late = began.elapsed() >= share(self.config.transaction_timeout, 50);
            if judgement != Judgement::Again || is_late {
                return self.broken(error.during(&format!("abort after {because}")), otherwise);
            }
            if self.abandon.is_cancelled() {
                return Failure::Abandoned;
            }
            debug!(%error, "aborting again");
            rebootstrap_late(self.producer.client());
        }
    }

    /// The step's error is the consequence where the producer has a fatal one: that says why.
    fn broken(&self, error: kafka::Error, outcome: Outcome) -> Failure {
        let error = match self.producer.client().fatal_error() {
            Some((code, reason)) => {
                kafka::Error::new(Kind::of(code), format!("{reason}, seen at: {}", error.reason))
            }
            None => error,
        };
        let kind = error.kind;
        Failure::Broken { error: Error::of(kind, error.reason), kind, outcome }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "no other kind of error comes from these calls"
    )]
    fn judge(&self, error: KafkaError) -> (Judgement, kafka::Error) {
        let judgement = match &error {
            KafkaError::Transaction(error) => {
                self.judge_flags(error.is_fatal(), error.txn_requires_abort(), error.is_retriable())
            }
            // A commit flushes first; that this was not done in time says nothing about the transaction.
            KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut) => {
                self.judge_flags(false, false, true)
            }
            _ => Judgement::GiveUp,
        };
        (judgement, error.into())
    }

    fn judge_refusal(&self, refusal: &Refusal) -> (Judgement, kafka::Error) {
        let Refusal { code, reason, is_fatal, is_retriable, requires_abort } = refusal;
        let judgement = self.judge_flags(*is_fatal, *requires_abort, *is_retriable);
        (judgement, kafka::Error::new(Kind::of(*code), reason.clone()))
    }

    fn judge_flags(&self, is_fatal: bool, requires_abort: bool, is_retriable: bool) -> Judgement {
        if is_fatal || self.is_fatal() {
            Judgement::GiveUp
        } else if requires_abort {
            Judgement::Abort
        } else if is_retriable {
            Judgement::Again
        } else {
            Judgement::GiveUp
        }
    }

    fn is_fatal(&self) -> bool {
        self.producer.client().fatal_error().is_some()
    }
}

/// Why a producer sends no offsets. librdkafka remembers who coordinates the group; where that broker was let go of
/// meanwhile, the call waits for it for ever, whatever its time-out says (2.12.1, librdkafka's issue 5511).
fn brokers_lost() -> (Error, Kind) {
    let reason = "the brokers were away; a new producer looks for them anew".to_owned();
    (Error::Broker { reason }, Kind::TimedOut)
}

fn told(error: kafka::Error, step: &str) -> (Error, Kind) {
    let kind = error.kind;
    (Error::of(kind, error.during(step).reason), kind)
}

/// Sends all records and waits for them, until `deadline`. Returns their offsets.
pub(super) fn deliver(
    producer: &Producer,
    config: &Config,
    records: &[Outgoing],
    deadline: Instant,
) -> Result<Vec<Offset>, Undelivered> {
    let deliveries = producer.context();
    let batch = deliveries.expect(records.len());
    for (index, record) in records.iter().enumerate() {
        send(producer, config, record, tag(batch, index))
            .map_err(|error| Undelivered::Failed(index, error))?;
    }
    loop {
        match deliveries.wait(deadline.min(Instant::now() + LOOK)) {
            Err(Undelivered::Late(_)) if Instant::now() < deadline => {
                rebootstrap_late(producer.client());
            }
            ended => return ended,
        }
    }
}

fn send(
    producer: &Producer,
    config: &Config,
    record: &Outgoing,
    tag: usize,
) -> Result<(), KafkaError> {
    let mut native: BaseRecord<'_, [u8], [u8], usize> =
        BaseRecord::with_opaque_to(topic_name(config, record.topic), tag)
            .payload(record.value.as_ref());
    if let Some(partition) = record.partition {
        native = native.partition(partition.0);
    }
    if let Some(key) = &record.key {
        native = native.key(key.as_ref());
    }
    if !record.headers.is_empty() {
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (name, value) in &record.headers {
            headers = headers.insert(Header { key: name, value: Some(value.as_ref()) });
        }
        native = native.headers(headers);
    }
    producer.send(native).map_err(|(error, _)| error)
}

pub(super) fn topic_name(config: &Config, topic: Topic) -> &str {
    match topic {
        Topic::Results => &config.workflow_results_topic,
        Topic::DeadLetters => &config.dlq_topic,
        Topic::Journal => &config.journal_topic,
    }
}

pub(super) fn journal_offsets(records: &[Outgoing], offsets: &[Offset]) -> Vec<(usize, Offset)> {
    let journal = records.iter().zip(offsets).enumerate();
    journal
        .filter(|(_, (record, _))| record.topic == Topic::Journal)
        .map(|(index, (_, offset))| (index, *offset))
        .collect()
}

/// Tells which record was not delivered, and why.
pub(super) fn describe_undelivered(
    records: &[Outgoing],
    undelivered: &Undelivered,
) -> (Error, Kind) {
    match undelivered {
        Undelivered::Failed(index, error) => {
            let error = kafka::Error::from(error.clone());
            let topic = records.get(*index).map_or(Topic::Results, |record| record.topic);
            let told = if error.kind == Kind::Permission {
                Error::Permission {
                    reason: format!("write to the {topic} topic: {}", error.reason),
                }
            } else {
                Error::Delivery { topic, reason: error.reason }
            };
            (told, error.kind)
        }
        Undelivered::Late(records) => {
            let reason = format!("{records} records were not acknowledged in time");
            (Error::Broker { reason }, Kind::TimedOut)
        }
    }
}

fn share(duration: Duration, percent: u32) -> Duration {
    duration * percent / 100
}
