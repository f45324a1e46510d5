//! Kafka in: membership of the group, recovery of assigned partitions, and their records.
//!
//! Nothing of a partition is read before its recovery is through, and a revoked partition is acknowledged only when
//! its owner says so. A record is read only when there is room for it: the partition's window of records, and the
//! budget of bytes that all partitions share.

use tokio::sync::oneshot;

use crate::{
    journal::{Effect, Map},
    record::{Epoch, Offset, PartitionId, Record},
};

mod assignments;
mod effects;
mod failure;
mod first;
mod handle;
mod reader;
mod recovery;
mod status;
mod wanted;
mod window;

#[cfg(test)]
mod tests;

pub use handle::{Error, Setup, Source};
pub use window::Window;

/// What the source tells the dispatch, in the order in which it happened.
#[derive(Debug)]
pub enum Event {
    /// Partitions came to us. Sent before anything of them is read.
    Assigned(Vec<Recovered>),
    /// Records of one partition, ascending.
    Records(Vec<Record>),
    /// Partitions leave us. Their readers have ended: no record of these assignments follows.
    Revoked {
        /// The partitions.
        partitions: Vec<PartitionId>,
        /// The group has already given them to another: nothing may be committed for them any more.
        lost: bool,
        /// The rebalance is acknowledged when this is sent or dropped.
        done: oneshot::Sender<()>,
    },
}

/// What is known of a partition when it is assigned.
#[derive(Debug)]
pub struct Recovered {
    /// The partition of the events topic; its journal is the same partition of the journal topic.
    pub partition: PartitionId,
    /// The assignment: every record that is read under it carries it.
    pub epoch: Epoch,
    /// Where reading begins.
    pub start: Offset,
    /// What the committed metadata said; `None` starts clean.
    pub map: Option<Map>,
    /// The effects of events that are not settled, by journal offset, ascending.
    pub effects: Vec<(Offset, Effect)>,
    /// The journal's end as recovery saw it: the base of runs that have no journal record yet.
    pub journal_end: Offset,
    /// Gives back the room that this partition's records took.
    pub window: Window,
}
