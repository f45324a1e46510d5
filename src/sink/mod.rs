//! Kafka out, one transaction at a time.
//!
//! A [`Batch`] holds what settled together: results, dead letters, journal records, and the offsets that say so.
//! A [`Publisher`] makes all of it visible or none of it, and reports which of the two happened. The outcome is
//! never guessed: where Kafka's answer was lost, it is read back from the group's committed offsets.

use std::future::Future;

use bytes::Bytes;

use crate::record::{Offset, PartitionId};

mod batch;
mod deliveries;
mod error;
#[cfg(test)]
pub(crate) mod memory;
mod inspect;
mod outcome;
mod plain;
mod stability;
mod topics;
mod transaction;
mod transactional;
mod writer;

#[cfg(test)]
mod tests;

pub use batch::{Entry, Load, Queue, Settlement, Size};
pub use error::Error;
pub use inspect::{Finding, inspect};
pub use stability::Stability;
pub use topics::{Topics, TopicsError, prepare};
pub use transactional::{Guarantee, KafkaPublisher, Setup};

/// The three topics that weir writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// One result per event.
    Results,
    /// One dead letter per event that did not succeed.
    DeadLetters,
    /// The effects of runs that are not finished.
    Journal,
}

/// A record to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Where it goes.
    pub topic: Topic,
    /// The partition; `None` leaves it to the key's murmur2 hash, as Java's clients choose it.
    pub partition: Option<PartitionId>,
    /// The key's bytes.
    pub key: Option<Bytes>,
    /// The value's bytes.
    pub value: Bytes,
    /// Headers in their order.
    pub headers: Vec<(&'static str, Bytes)>,
}

/// What is committed for one partition of the events topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitPosition {
    /// The partition of the events topic.
    pub partition: PartitionId,
    /// The offset that is committed: the watermark.
    pub offset: Offset,
    /// The map of what is not settled above the watermark. It holds a nonce: no two commits are alike, so
    /// reading it back tells whether this very batch was applied.
    pub metadata: String,
}

/// What one transaction carries.
///
/// It commits a position of every partition that it carries a record of, also where the watermark has not moved:
/// the broker checks membership only where offsets are sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// The records, all or none of which become visible.
    pub records: Vec<Outgoing>,
    /// The positions committed with them, at most one per partition.
    pub positions: Vec<CommitPosition>,
}

/// What became of a batch.
#[derive(Debug)]
pub enum Commit {
    /// All of it is durable and visible.
    Applied {
        /// Where each journal record lies: its index in [`Batch::records`], and its offset. Empty when the outcome
        /// had to be read back: the offsets are then not known.
        journal: Vec<(usize, Offset)>,
    },
    /// None of it is visible, nor ever will be; the batch may be sent again, or another in its place.
    Aborted {
        /// Why.
        error: Error,
    },
    /// The group has no place for us at the moment: nothing was done. Try again when membership is back.
    NotAMember,
}

/// The way out: an implementation over Kafka, and one in memory for tests.
pub trait Publisher: Send + 'static {
    /// Begins to commit `batch`; the future waits for its outcome.
    ///
    /// The group metadata that guards the commit is taken before this returns, in the same turn in which the caller
    /// took the snapshot. Callers await one outcome before they begin the next commit.
    fn commit(&mut self, batch: Batch) -> impl Future<Output = Commit> + Send + 'static;
}

/// The largest records that the output topics take, in bytes as [`Outgoing::size`] counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest result.
    pub result_max: usize,
    /// The largest dead letter.
    pub dead_letter_max: usize,
    /// The largest journal record.
    pub journal_max: usize,
}

impl Limits {
    /// Returns the limit of one topic.
    #[must_use]
    pub fn of(&self, topic: Topic) -> usize {
        match topic {
            Topic::Results => self.result_max,
            Topic::DeadLetters => self.dead_letter_max,
            Topic::Journal => self.journal_max,
        }
    }
}

impl Outgoing {
    /// Returns what the record weighs against a topic's limit: key, value, headers and their framing.
    #[must_use]
    pub fn size(&self) -> usize {
        // Kafka's record format writes a length of at most 5 bytes before each name and each value.
        const HEADER_FRAMING: usize = 10;
        let headers =
            self.headers.iter().map(|(name, value)| name.len() + value.len() + HEADER_FRAMING);
        self.key.as_ref().map_or(0, Bytes::len) + self.value.len() + headers.sum::<usize>()
    }
}
