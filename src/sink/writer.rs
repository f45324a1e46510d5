//! The thread that owns the producer: commits one batch after the other, and finds out what became of each.
//!
//! A producer that was fenced is made anew, with the same id; that a transaction took too long looks the same as another
//! process with our id, so it is a normal path. Then the outcome is read back from the group's committed offsets:
//! every batch commits metadata that no other commit has, so finding it means that the batch was applied, whole.

use std::collections::VecDeque;
use std::sync::mpsc::Receiver;
use std::thread::park_timeout;
use std::time::Duration;

use rdkafka::{
    config::FromClientConfigAndContext, consumer::Consumer as _, error::KafkaError,
    producer::Producer as _,
};
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    failpoint::{self, Mechanism},
    kafka::{
        self, Bootstrapped as _, Config, GroupMetadata, Identity, Kind, Membership, Pending,
        Reporter, position_list, thread,
    },
    record::Offset,
};

use super::{
    Batch, Commit, CommitPosition, Error, Guarantee, Limits, Topic, Topics,
    deliveries::Deliveries,
    outcome, plain,
    topics::limits_now,
    transaction::{Failure, Outcome, Producer, Transaction, topic_name},
};

/// How often a producer may be fenced, within [`TWIN_WINDOW`], before it is a twin's doing.
const FENCINGS_MAX: usize = 3;
const TWIN_WINDOW: Duration = Duration::from_mins(1);

/// How long to wait before a producer is made once more.
const REBUILD_AGAIN: Duration = Duration::from_secs(1);

/// A batch to commit.
pub(super) struct Work {
    pub(super) batch: Batch,
    /// `None` where no transaction is wanted.
    pub(super) group: Option<GroupMetadata>,
    pub(super) reply: oneshot::Sender<Commit>,
}

/// What the thread owns.
pub(super) struct Writer {
    pub(super) config: Config,
    pub(super) identity: Identity,
    pub(super) reporter: Reporter,
    pub(super) membership: Membership,
    pub(super) guarantee: Guarantee,
    pub(super) topics: Topics,
    pub(super) limits: watch::Sender<Limits>,
    pub(super) runtime: Handle,
    /// The process ends: no waiting is worth it any more.
    pub(super) abandon: CancellationToken,
    pub(super) producer: Option<Producer>,
    pub(super) fencings: Fencings,
    pub(super) last: Option<Last>,
}

/// What was applied last.
#[derive(Debug)]
pub(super) struct Last {
    pub(super) positions: Vec<CommitPosition>,
    /// How many times no broker could be reached before it was begun.
    outages: u64,
    /// A later abort may have undone it, and that can't be told yet: nothing may be committed on top of it.
    in_doubt: bool,
    pub(super) pending: Pending,
}

/// When this process was fenced.
#[derive(Debug, Default)]
pub(super) struct Fencings(VecDeque<Instant>);

impl Fencings {
    /// Notes one, and says whether there were too many in too short a time.
    pub(super) fn note(&mut self, now: Instant) -> bool {
        self.0.retain(|at| now.duration_since(*at) < TWIN_WINDOW);
        self.0.push_back(now);
        self.0.len() >= FENCINGS_MAX
    }
}

impl Writer {
    /// Makes the producer, says so, and commits until nobody is left who could ask for it.
    pub(super) fn run(mut self, ready: oneshot::Sender<Result<(), Error>>, work: &Receiver<Work>) {
        let made = self.rebuild();
        let failed = made.is_err();
        // Whoever started us may have stopped waiting; then nobody sends work either.
        drop(ready.send(made));
        if failed {
            return;
        }
        while let Ok(Work { batch, group, reply }) = work.recv() {
            let outcome = self.commit(&batch, group.as_ref());
            // The dispatch that asked is gone: its successor, in another life, reads what we committed.
            drop(reply.send(outcome));
        }
    }

    fn commit(&mut self, batch: &Batch, group: Option<&GroupMetadata>) -> Commit {
        // The broker may die within this very commit. An outage that is not known to be over counts as one to come.
        let away = u64::from(self.reporter.is_unreachable());
        let outages = self.reporter.outages().saturating_sub(away);
        match self.try_commit(batch, group) {
            Ok(journal) => {
                self.reporter.ready();
                for position in &batch.positions {
                    self.membership.committed(position.partition, position.offset);
                }
                self.last = Some(Last {
                    positions: batch.positions.clone(),
                    outages,
                    in_doubt: false,
                    pending: Pending::default(),
                });
                Commit::Applied { journal }
            }
            Err(error) => {
                // It heals when the operator grants it; until then nothing is published, and readiness says why.
                if let Error::Permission { .. } = error {
                    self.reporter.waiting(error.to_string());
                }
                Commit::Aborted { error }
            }
        }
    }

    fn try_commit(
        &mut self,
        batch: &Batch,
        group: Option<&GroupMetadata>,
    ) -> Result<Vec<(usize, Offset)>, Error> {
        check(batch, &self.topics.limits)?;
        if self.producer.as_ref().is_none_or(|it| it.context().bootstrap().was_lost()) {
            self.rebuild()?;
        }
        if self.last.as_ref().is_some_and(|last| last.in_doubt) {
            self.check_last()?;
        }
        let Some(producer) = &self.producer else { return Err(Error::Closed) };
        let began = Instant::now();
        let positions: Vec<_> = batch
            .positions
            .iter()
            .map(|position| (position.partition, position.offset, metadata(position)))
            .collect();
        let failure = match group {
            None => plain::commit(self, producer, &batch.records, &positions),
            Some(group) => {
                let off = failpoint::is_off(Mechanism::Membership);
                let nobody = off.then(|| self.nobody()).flatten();
                let offsets = position_list(&self.config.workflow_events_topic, &positions)
                    .map_err(|error| Error::of(error.kind, error.reason))?;
                Transaction {
                    producer,
                    config: &self.config,
                    records: &batch.records,
                    offsets: &offsets,
                    group: nobody.as_ref().unwrap_or(group),
                    abandon: &self.abandon,
                }
                .run()
            }
        };
        if failure.is_ok() && failpoint::is_off(Mechanism::OffsetsInTransaction) {
            drop(self.membership.commit(&positions));
        }
        match failure {
            Ok(journal) => Ok(journal),
            Err(Failure::Aborted { error, kind }) => {
                self.heal(kind);
                self.check_last()?;
                Err(error)
            }
            Err(Failure::Abandoned) => Err(Error::Closed),
            Err(Failure::Broken { error, kind, outcome }) => {
                warn!(%error, "the producer is of no use any more; making a new one");
                self.replace(kind, began)?;
                let error = match outcome {
                    Outcome::NotApplied => error,
                    Outcome::Unknown => match self.resolve(batch, error) {
                        Ok(journal) => return Ok(journal),
                        Err(error) => error,
                    },
                };
                self.check_last()?;
                Err(error)
            }
        }
    }

    /// Does what the next transaction needs after one that was aborted for this.
    fn heal(&mut self, kind: Kind) {
        match kind {
            Kind::TooLarge => self.learn_limits(),
            Kind::Permission | Kind::UnknownTopic => self.look_at_topics(),
            // It may have lost its brokers, and a new one asks for them by itself.
            Kind::TimedOut => self.discard(),
            Kind::Configuration
            | Kind::Unreachable
            | Kind::Resolve
            | Kind::Tls
            | Kind::Authentication
            | Kind::OutOfRange
            | Kind::Unstable
            | Kind::Replaced
            | Kind::Fenced
            | Kind::Metadata
            | Kind::Other => {}
        }
    }

    /// Makes sure, after the brokers were away, that an abort has not undone what had been committed before. A lone
    /// broker that was killed within that commit may have forgotten to end it, and then ends it as the one after.
    ///
    /// As long as that can't be told nothing is committed: it might be for events whose results were undone.
    fn check_last(&mut self) -> Result<(), Error> {
        let outages = self.reporter.outages();
        let Some(mut last) = self.last.take_if(|last| last.outages != outages) else {
            return Ok(());
        };
        match outcome::undone(self, &mut last) {
            Ok(None) => Ok(()),
            Ok(Some(reason)) => Err(Error::RolledBack { reason }),
            Err(reason) => {
                self.reporter.waiting(reason.clone());
                self.last = Some(Last { in_doubt: true, ..last });
                Err(Error::Broker { reason })
            }
        }
    }

    /// Makes a new producer in the place of one that was fenced, which ends what that one left open.
    fn replace(&mut self, kind: Kind, began: Instant) -> Result<(), Error> {
        self.discard();
        // A transaction that outlived its time-out was ended by the coordinator, not by a twin.
        let timed_out = began.elapsed() >= self.config.transaction_timeout;
        if kind == Kind::Fenced && !timed_out && self.fencings.note(Instant::now()) {
            return Err(self.twin());
        }
        self.rebuild()
    }

    /// Lets go of the producer. One that librdkafka is stuck in may not come to its end, and nobody has to wait for that.
    fn discard(&mut self) {
        let Some(producer) = self.producer.take() else { return };
        thread::close(producer);
    }

    /// Finds out what became of a batch whose commit was asked for and not answered.
    fn resolve(&self, batch: &Batch, error: Error) -> Result<Vec<(usize, Offset)>, Error> {
        if failpoint::is_off(Mechanism::ReadBack) {
            return Err(error);
        }
        let applied = outcome::read_back(self, &batch.positions).ok_or(Error::Closed)?;
        self.reporter.ready();
        info!(applied, "read back what became of the last transaction");
        if applied { Ok(Vec::new()) } else { Err(error) }
    }

    /// Makes a producer until it works.
    fn rebuild(&mut self) -> Result<(), Error> {
        self.discard();
        let mut waited = false;
        while !self.abandon.is_cancelled() {
            let error = match self.make() {
                Ok(producer) => {
                    self.producer = Some(producer);
                    if waited {
                        self.reporter.ready();
                    }
                    return Ok(());
                }
                Err(error) => error,
            };
            if error.kind == Kind::Configuration {
                return Err(Error::Configuration { reason: error.reason });
            }
            if error.kind == Kind::Fenced && self.fencings.note(Instant::now()) {
                return Err(self.twin());
            }
            waited = true;
            self.reporter.waiting(format!("the producer is not ready: {}", error.reason));
            self.pause(REBUILD_AGAIN);
        }
        Err(Error::Closed)
    }

    fn make(&self) -> Result<Producer, kafka::Error> {
        let id = match self.guarantee {
            Guarantee::ExactlyOnce => Some(self.identity.transactional_id()),
            Guarantee::AtLeastOnce => None,
        };
        let native =
            kafka::producer(&self.config, &self.identity, id.as_deref(), self.topics.sizes);
        let context = Deliveries::new(self.reporter.clone());
        let producer = Producer::from_config_and_context(&native, context)?;
        if id.is_none() {
            return Ok(producer);
        }
        // Without a connection init_transactions waits for a timer of 500 ms; this makes one.
        let topic = self.config.workflow_results_topic.as_str();
        let connected = producer.client().fetch_metadata(Some(topic), Duration::from_secs(2));
        connected.map_err(|error| self.reporter.explain(error.into()))?;
        self.initialise(&producer)?;
        Ok(producer)
    }

    fn initialise(&self, producer: &Producer) -> Result<(), kafka::Error> {
        loop {
            let Err(error) = producer.init_transactions(Duration::from_secs(5)) else {
                return Ok(());
            };
            let again = matches!(&error, KafkaError::Transaction(error) if error.is_retriable());
            if !again || self.abandon.is_cancelled() {
                return Err(kafka::Error::from(error).during("initialise transactions"));
            }
            let kafka::Error { kind, reason } = error.into();
            // Nobody may be unreachable: the coordinator still ends what an earlier life left open.
            let trouble = self.reporter.trouble().filter(|_| kind == Kind::TimedOut);
            let reason = trouble.map_or(reason, |trouble| trouble.reason);
            self.reporter.waiting(format!("transactions are not initialised: {reason}"));
            kafka::rebootstrap_late(producer.client());
        }
    }

    /// Reads the topics' limits again, after a topic refused what it should take, and makes a producer for them.
    ///
    /// Where they can't be read, or say what was assumed already, the half is assumed from here on: what is refused
    /// once more would be refused for ever.
    fn learn_limits(&mut self) {
        let read = self.runtime.block_on(limits_now(&self.config, &self.identity, &self.reporter));
        let learnt = match read {
            Ok(now) => Some(now)
                .filter(|now| now.sizes != self.topics.sizes || now.limits != self.topics.limits),
            Err(error) => {
                warn!(%error, "read the topics' limits again");
                None
            }
        };
        let now = learnt.unwrap_or_else(|| self.topics.halved());
        warn!(limits = ?now.limits, "a topic takes less than was assumed");
        self.topics.sizes = now.sizes;
        self.topics.limits = now.limits;
        self.limits.send_replace(now.limits);
        self.discard();
    }

    /// Lets librdkafka look at the topics again. It remembers for five minutes that it may not write to one.
    fn look_at_topics(&self) {
        let Some(producer) = &self.producer else { return };
        for topic in [Topic::Results, Topic::DeadLetters, Topic::Journal] {
            let topic = Some(topic_name(&self.config, topic));
            if let Err(error) = producer.client().fetch_metadata(topic, Duration::from_secs(2)) {
                warn!(%error, "look at the topics again");
            }
        }
    }

    /// Returns a membership that guards nothing: that of a client which never joined.
    fn nobody(&self) -> Option<GroupMetadata> {
        let client = kafka::reader(&self.config, &self.identity, &self.reporter).ok()?;
        GroupMetadata::of(client.client())
    }

    fn twin(&self) -> Error {
        Error::Twin { transactional_id: self.identity.transactional_id() }
    }

    /// Waits, unless the process ends.
    pub(super) fn pause(&self, duration: Duration) {
        let until = Instant::now() + duration;
        while !self.abandon.is_cancelled() && Instant::now() < until {
            park_timeout(Duration::from_millis(50));
        }
    }
}

fn metadata(position: &CommitPosition) -> &str {
    if failpoint::is_off(Mechanism::Map) { "" } else { &position.metadata }
}

/// Finds what must not be sent at all.
pub(super) fn check(batch: &Batch, limits: &Limits) -> Result<(), Error> {
    if batch.positions.is_empty() {
        return Err(Error::Broker { reason: "a batch without a position".to_owned() });
    }
    for (index, record) in batch.records.iter().enumerate() {
        let (size, limit) = (record.size(), limits.of(record.topic));
        if size > limit {
            return Err(Error::TooLarge { index, topic: record.topic, size, limit });
        }
    }
    Ok(())
}
