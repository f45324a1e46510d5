//! Where a group begins that has committed nothing yet.
//!
//! That is decided once, for all partitions in one request, by the owner of partition 0, before any transaction; the
//! others wait until they see it. So several instances that start at once can't disagree, and no later restart can skip
//! anything. A partition without a position in a group that has others is a new one, and starts at its beginning.

use std::cell::OnceCell;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use tracing::info;

use crate::{
    kafka::{AutoOffsetReset, Committed, Error, committed},
    record::{Offset, PartitionId},
};

use super::recovery::{Clients, Recovering, Ticket};

const QUESTION: Duration = Duration::from_secs(2);

/// The partition whose owner decides.
const DECIDES: PartitionId = PartitionId(0);

/// What one round has asked for, so that many new partitions ask once.
#[derive(Default)]
pub(super) struct Asked(OnceCell<Vec<Committed>>);

impl Asked {
    /// Returns the position of a partition that has none; `None` when it is not decided yet.
    pub(super) fn position(
        &self,
        shared: &Recovering,
        clients: &Clients,
        ticket: &Ticket,
    ) -> Result<Option<(Offset, Vec<u8>)>, Error> {
        let all = match self.0.get() {
            Some(all) => all,
            None => {
                let asked = positions(shared, clients)?;
                self.0.get_or_init(|| asked)
            }
        };
        match any(all)? {
            true => {
                let topic = &shared.config.workflow_events_topic;
                let (beginning, _) = clients.ends(topic, ticket.partition)?;
                info!(partition = %ticket.partition, offset = %beginning, "new partition");
                Ok(Some((beginning, Vec::new())))
            }
            false if ticket.partition == DECIDES => decide(shared, clients, ticket),
            false => {
                let reason = "waiting for the owner of partition 0 to decide where the group begins";
                shared.status.underway(ticket.partition, reason);
                Ok(None)
            }
        }
    }
}

/// Commits where the group begins.
fn decide(
    shared: &Recovering,
    clients: &Clients,
    ticket: &Ticket,
) -> Result<Option<(Offset, Vec<u8>)>, Error> {
    // Whoever gives the partition up waits for this, so its next owner sees what we commit here.
    let _deciding = shared.deciding.blocking_lock();
    if ticket.cancelled.is_cancelled() || any(&positions(shared, clients)?)? {
        return Ok(None);
    }
    let topic = &shared.config.workflow_events_topic;
    let mut begins = Vec::new();
    for partition in partitions(shared, clients)? {
        // What a read_committed reader sees: the records of a transaction that is open now are still to come.
        let (low, high) = clients.reader.fetch_watermarks(topic, partition.0, QUESTION)?;
        let offset = match shared.config.auto_offset_reset {
            AutoOffsetReset::Latest => high,
            AutoOffsetReset::Earliest => low,
        };
        begins.push((partition, Offset(offset), ""));
    }
    shared.membership.commit(&begins).map_err(|error| error.during("commit the first position"))?;
    info!(partitions = begins.len(), reset = ?shared.config.auto_offset_reset, "committed the group's first position");
    let ours = begins.iter().find(|(partition, ..)| *partition == ticket.partition);
    Ok(ours.map(|(_, offset, _)| (*offset, Vec::new())))
}

fn positions(shared: &Recovering, clients: &Clients) -> Result<Vec<Committed>, Error> {
    let topic = &shared.config.workflow_events_topic;
    committed(&clients.reader, topic, &partitions(shared, clients)?, QUESTION)
}

/// Says whether any partition has a position. That one can't be told is an error, not a no.
fn any(all: &[Committed]) -> Result<bool, Error> {
    let mut untold = None;
    for one in all {
        match &one.position {
            Ok(Some(_)) => return Ok(true),
            Ok(None) => {}
            Err(error) => untold = Some(error.clone()),
        }
    }
    untold.map_or(Ok(false), Err)
}

fn partitions(shared: &Recovering, clients: &Clients) -> Result<Vec<PartitionId>, Error> {
    let topic = &shared.config.workflow_events_topic;
    let metadata = clients.reader.fetch_metadata(Some(topic), QUESTION)?;
    let found = metadata.topics().iter().flat_map(|topic| topic.partitions());
    Ok(found.map(|partition| PartitionId(partition.id())).collect())
}
