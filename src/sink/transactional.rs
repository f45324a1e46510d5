//! The publisher over Kafka: takes the group metadata that guards a commit, and hands the batch to the writer's thread.
//!
//! librdkafka's transaction calls block for seconds and are made one at a time, so they have a thread of their own.

use std::future::{Future, ready};
use std::sync::mpsc::{SyncSender, sync_channel};

use futures_util::future::Either;
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::error;

use crate::kafka::{Config, Identity, Membership, Reporter, thread};

use super::{
    Batch, Commit, Error, Limits, Publisher, Topics,
    writer::{Fencings, Work, Writer},
};

/// What a crash may do to results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guarantee {
    /// Nothing: results and offsets are committed in one transaction.
    ExactlyOnce,
    /// Publish some a second time.
    AtLeastOnce,
}

/// What the publisher is made from.
pub struct Setup {
    /// The way to Kafka, and the names of the topics.
    pub config: Config,
    /// Who this process is: its transactional id.
    pub identity: Identity,
    /// Hears of trouble.
    pub reporter: Reporter,
    /// Guards each commit.
    pub membership: Membership,
    /// What is promised.
    pub guarantee: Guarantee,
    /// What [`prepare`](super::prepare) found.
    pub topics: Topics,
}

/// Commits batches to Kafka. Its thread ends when this is dropped, or when the last answer has come after that.
pub struct KafkaPublisher {
    membership: Membership,
    guarantee: Guarantee,
    work: SyncSender<Work>,
    limits: watch::Receiver<Limits>,
    /// Whoever drops the publisher no longer waits for an outcome, so neither does the thread.
    _abandon: DropGuard,
}

impl KafkaPublisher {
    /// Starts the thread and waits until its producer is initialised, which ends what an earlier life left open.
    ///
    /// Do this before the consumer joins its group. `stop` ends the waiting at any moment.
    ///
    /// # Errors
    /// [`Error::Configuration`] when librdkafka refuses a property, [`Error::Twin`] when another process with this
    /// identity fences us again and again, [`Error::Closed`] when `stop` came first.
    pub async fn start(setup: Setup, stop: &CancellationToken) -> Result<Self, Error> {
        let Setup { config, identity, reporter, membership, guarantee, topics } = setup;
        // One batch at a time: a second one would wait, and its group metadata would grow old.
        let (work, queue) = sync_channel(1);
        let (ready, initialised) = oneshot::channel();
        let (limits_now, limits) = watch::channel(topics.limits);
        let abandon = CancellationToken::new();
        let writer = Writer {
            config,
            identity,
            reporter: reporter.clone(),
            membership: membership.clone(),
            guarantee,
            topics,
            limits: limits_now,
            runtime: Handle::current(),
            abandon: abandon.clone(),
            producer: None,
            fencings: Fencings::default(),
            last: None,
        };
        thread::detach("kafka-writer", move || writer.run(ready, &queue));
        let publisher =
            Self { membership, guarantee, work, limits, _abandon: abandon.drop_guard() };
        match stop.run_until_cancelled(initialised).await {
            Some(Ok(Ok(()))) => {
                reporter.ready();
                Ok(publisher)
            }
            Some(Ok(Err(error))) => Err(error),
            Some(Err(_)) | None => Err(Error::Closed),
        }
    }

    /// Yields the topics' limits, and again when a topic turned out to take less than it did.
    #[must_use]
    pub fn limits(&self) -> watch::Receiver<Limits> {
        self.limits.clone()
    }
}

impl Publisher for KafkaPublisher {
    fn commit(&mut self, batch: Batch) -> impl Future<Output = Commit> + Send + 'static {
        let Some(group) = self.membership.metadata() else {
            return Either::Left(ready(Commit::NotAMember));
        };
        let group = match self.guarantee {
            Guarantee::ExactlyOnce => Some(group),
            Guarantee::AtLeastOnce => None,
        };
        let (reply, outcome) = oneshot::channel();
        if self.work.try_send(Work { batch, group, reply }).is_err() {
            error!("the writer takes no batch: it has ended, or the last outcome was not awaited");
            return Either::Left(ready(Commit::Aborted { error: Error::Closed }));
        }
        Either::Right(
            async move { outcome.await.unwrap_or(Commit::Aborted { error: Error::Closed }) },
        )
    }
}
