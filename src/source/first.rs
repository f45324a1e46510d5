//! Where a group begins that has committed nothing yet.
//!
//! That is decided once, for all partitions in one request, by the owner of partition 0, before any transaction; the
//! others wait until they see it. So several instances that start at once can't disagree, and no later restart can skip
//! anything. A partition without a position in a group that has others is a new one, and starts at its beginning.

use std::time::Duration;

use rdkafka::consumer::Consumer;
use tracing::info;

use crate::{
    kafka::{AutoOffsetReset, Committed, Error, committed},
    record::{Offset, PartitionId},
};

use super::recovery::{Clients, Recovering, Ticket, ends_of_each};

const QUESTION: Duration = Duration::from_secs(2);

/// The partition whose owner decides.
const DECIDES: PartitionId = PartitionId(0);

/// What one round has asked for, or decided, so that many partitions ask once.
#[derive(Default)]
pub(super) struct Asked(Option<Vec<Committed>>);

impl Asked {
    /// Returns the position of a partition that has none; `None` when it is not decided yet.
    pub(super) fn position(
        &mut self,
        shared: &Recovering,
        clients: &Clients,
        ticket: &Ticket,
    ) -> Result<Option<(Offset, Vec<u8>)>, Error> {
        let all = match self.0.take() {
            Some(all) => self.0.insert(all),
            None => self.0.insert(positions(shared, clients)?),
        };
        let known = all.iter().find(|one| one.partition == ticket.partition);
        if let Some(Committed { position: Ok(Some(position)), .. }) = known {
            return Ok(Some(position.clone()));
        }
        if any(all)? {
            let topic = &shared.config.workflow_events_topic;
            let ends = clients.ends(topic, &[ticket.partition]).remove(&ticket.partition);
            let Some((beginning, _)) = ends.transpose()? else { return Ok(None) };
            info!(partition = %ticket.partition, offset = %beginning, "new partition");
            return Ok(Some((beginning, Vec::new())));
        }
        if ticket.partition != DECIDES {
            let reason = "waiting for the owner of partition 0 to decide where the group begins";
            shared.status.underway(ticket.partition, ticket.epoch, reason.to_owned());
            return Ok(None);
        }
        let Some(decided) = decide(shared, clients, ticket)? else { return Ok(None) };
        let all = self.0.insert(decided);
        let ours = all.iter().find(|one| one.partition == ticket.partition);
        ours.map_or(Ok(None), |one| one.position.clone())
    }
}

/// Commits where the group begins; `None` when somebody was faster.
fn decide(
    shared: &Recovering,
    clients: &Clients,
    ticket: &Ticket,
) -> Result<Option<Vec<Committed>>, Error> {
    // Whoever gives the partition up waits for this, so its next owner sees what we commit here.
    let _deciding = shared.deciding.blocking_lock();
    if ticket.cancelled.is_cancelled() || any(&positions(shared, clients)?)? {
        return Ok(None);
    }
    let topic = &shared.config.workflow_events_topic;
    // What a read_committed reader sees: the records of a transaction that is open now are still to come.
    let ends = ends_of_each(&clients.reader, topic, &partitions(shared, clients)?);
    let mut begins = Vec::new();
    for (partition, range) in ends {
        let (low, high) = range?;
        let offset = match shared.config.auto_offset_reset {
            AutoOffsetReset::Latest => high,
            AutoOffsetReset::Earliest => low,
        };
        begins.push((partition, offset, ""));
    }
    shared.membership.commit(&begins).map_err(|error| error.during("commit the first position"))?;
    let (partitions, reset) = (begins.len(), shared.config.auto_offset_reset);
    info!(partitions, ?reset, "committed the group's first position");
    let committed = begins.into_iter().map(|(partition, offset, _)| Committed {
        partition,
        position: Ok(Some((offset, Vec::new()))),
    });
    Ok(Some(committed.collect()))
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
