//! This process as a member of its group: the consumer that holds the membership, and the handle that guards commits.
//!
//! The broker fences members, not partitions, and it takes offsets from nobody at all when they come with a generation
//! of -1. So a commit is guarded by group metadata that was valid when its snapshot was taken, or is not begun.

use std::sync::{Arc, Weak};

use rdkafka::{
    Offset as NativeOffset, TopicPartitionList,
    config::FromClientConfigAndContext,
    consumer::{CommitMode, Consumer, StreamConsumer},
};
use tokio::sync::mpsc;

use crate::{
    record::{Offset, PartitionId},
    telemetry::Metrics,
};

use super::{
    Config, Error, Identity, Kind, Reporter, client,
    context::{MemberContext, REBALANCES_MAX, Rebalance},
    native::GroupMetadata,
};

pub(crate) type Consuming = StreamConsumer<MemberContext>;

/// The group's consumer, not subscribed yet: the producer's transactions are to be initialised before it joins.
pub struct Member {
    pub(crate) consumer: Arc<Consuming>,
    pub(crate) rebalances: mpsc::Receiver<Rebalance>,
    topic: Arc<str>,
}

/// What the sink needs of the membership. Cheap to clone; it does not keep the consumer open.
#[derive(Clone)]
pub struct Membership {
    consumer: Weak<Consuming>,
    topic: Arc<str>,
}

impl Member {
    /// Creates the consumer. No broker is asked yet.
    ///
    /// Call it within a Tokio runtime.
    ///
    /// # Errors
    /// [`Kind::Configuration`] when librdkafka refuses a property.
    pub fn create(
        config: &Config,
        identity: &Identity,
        reporter: &Reporter,
        metrics: &Metrics,
    ) -> Result<Self, Error> {
        let (sender, rebalances) = mpsc::channel(REBALANCES_MAX);
        let topic = config.workflow_events_topic.as_str();
        let context = MemberContext::new(topic, reporter.clone(), metrics.clone(), sender);
        let native = client::member(config, identity);
        let consumer = StreamConsumer::from_config_and_context(&native, context)?;
        Ok(Self { consumer: Arc::new(consumer), rebalances, topic: topic.into() })
    }

    /// Returns the handle for the sink.
    #[must_use]
    pub fn membership(&self) -> Membership {
        Membership { consumer: Arc::downgrade(&self.consumer), topic: Arc::clone(&self.topic) }
    }
}

impl Membership {
    /// Says whether the group counts us as a member now.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.metadata().is_some()
    }

    /// Returns the group metadata that guards a commit, when the membership is good for one.
    ///
    /// Asks librdkafka's main thread, some tens of microseconds.
    pub(crate) fn metadata(&self) -> Option<GroupMetadata> {
        let consumer = self.consumer.upgrade()?;
        let metadata = GroupMetadata::of(consumer.client())?;
        let is_ours = metadata.is_valid() && consumer.context().holds_as(&metadata);
        (is_ours && !consumer.assignment_lost()).then_some(metadata)
    }

    /// Says whether we are in the group again as another member than the one that we hold partitions as.
    pub(crate) fn is_stale(&self) -> bool {
        let Some(consumer) = self.consumer.upgrade() else { return false };
        let metadata = GroupMetadata::of(consumer.client());
        metadata
            .is_some_and(|metadata| metadata.is_valid() && !consumer.context().holds_as(&metadata))
    }

    /// Returns the group metadata as it is, good for a commit or not.
    #[cfg(test)]
    pub(crate) fn metadata_unchecked(&self) -> Option<GroupMetadata> {
        GroupMetadata::of(self.consumer.upgrade()?.client())
    }

    /// Commits positions outside of any transaction, as a member of the current generation, and waits for the answer.
    ///
    /// Blocks.
    pub(crate) fn commit(&self, positions: &[(PartitionId, Offset, &str)]) -> Result<(), Error> {
        let gone = || Error::new(Kind::Replaced, "the consumer is closed");
        let consumer = self.consumer.upgrade().ok_or_else(gone)?;
        let list = position_list(&self.topic, positions)?;
        Ok(consumer.commit(&list, CommitMode::Sync)?)
    }

    /// Notes what was committed, for the lag.
    pub(crate) fn committed(&self, partition: PartitionId, offset: Offset) {
        if let Some(consumer) = self.consumer.upgrade() {
            consumer.context().committed(partition, offset);
        }
    }
}

/// Returns the list that commits positions of `topic`.
pub(crate) fn position_list(
    topic: &str,
    positions: &[(PartitionId, Offset, &str)],
) -> Result<TopicPartitionList, Error> {
    let mut list = TopicPartitionList::with_capacity(positions.len());
    for (partition, offset, metadata) in positions {
        let mut line = list.add_partition(topic, partition.0);
        line.set_offset(NativeOffset::Offset(offset.0))?;
        if !metadata.is_empty() {
            line.set_metadata(metadata);
        }
    }
    Ok(list)
}
