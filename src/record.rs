//! What came off the log, in weir's own words: no room but the two at Kafka's side knows rdkafka's types.

use std::fmt;

use bytes::Bytes;

/// The header of an event that says when its result is of no use any more.
pub const DEADLINE_HEADER: &str = "weir-deadline";

/// A partition of the events topic, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionId(pub i32);

/// An offset within one partition, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Offset(pub i64);

/// One assignment of one partition to this process: what belongs to an earlier epoch is stale.
///
/// Counts up over the life of the process and is never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// Where a record lies, and under which assignment it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// The partition of the events topic.
    pub partition: PartitionId,
    /// The offset in that partition.
    pub offset: Offset,
    /// The assignment under which it was read.
    pub epoch: Epoch,
}

/// A record of the events topic, its bytes untouched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it lies.
    pub position: Position,
    /// Milliseconds since the Unix epoch as the producer or the broker stamped it, when they did.
    pub timestamp_ms: Option<i64>,
    /// The key's bytes; `None` for a record without a key.
    pub key: Option<Bytes>,
    /// The value's bytes; `None` for a tombstone.
    pub value: Option<Bytes>,
    /// The value of the header [`DEADLINE_HEADER`], the last one where there are several; no other header is kept.
    pub deadline: Option<Bytes>,
}

impl Offset {
    /// Returns the offset after this one: what Kafka calls the committed position.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl Record {
    /// Returns what holding this record costs, in bytes: key, value and deadline.
    #[must_use]
    pub fn size(&self) -> usize {
        let parts = [&self.key, &self.value, &self.deadline];
        parts.into_iter().flatten().map(Bytes::len).sum()
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
