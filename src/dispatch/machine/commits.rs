//! What goes into a transaction, and what its outcome changes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tokio::time::Instant;

use crate::journal::{Map, Scope};
use crate::record::{Offset, PartitionId, Position};
use crate::sink::{Batch, CommitPosition, Limits, Load, Outgoing, Settlement};

use super::{Action, COMMIT_BACKOFF, COMMIT_BACKOFF_MAX, Machine, Oversized};

impl<J: Clone> Machine<J> {
    /// Takes the outcome of the transaction in flight: applied. `journal` tells, by the record's index
    /// in the batch, the offset of each journal record.
    pub fn applied(&mut self, journal: &[(usize, Offset)]) {
        let Some(load) = self.load.take() else { return };
        self.commit_after = None;
        self.commit_backoff = COMMIT_BACKOFF;
        self.in_doubt &= !self.clears_doubt;
        let offsets: HashMap<usize, Offset> = journal.iter().copied().collect();
        let mut journaled: BTreeMap<PartitionId, Vec<(Offset, Option<Offset>)>> = BTreeMap::new();
        for (index, entry) in load.entries.iter().enumerate() {
            let Position { partition, offset, .. } = entry.position;
            journaled.entry(partition).or_default().push((offset, offsets.get(&index).copied()));
        }
        for (id, settled) in touched(&load) {
            let Some(partition) = self.partitions.get_mut(&id) else { continue };
            // Where an outcome had to be read back, the records' offsets are not known: they are no lower than
            // the end of what is.
            let end = partition.tracker.journal_end();
            let records = journaled.remove(&id).unwrap_or_default();
            let records: Vec<_> =
                records.into_iter().map(|(event, at)| (event, at.unwrap_or(end))).collect();
            partition.tracker.committed(&settled, &records);
            let bytes = settled
                .iter()
                .filter_map(|offset| partition.events.remove(offset))
                .map(|event| event.size)
                .sum();
            self.release(id, settled.len(), bytes);
        }
        let tickets = load.entries.into_iter().filter_map(|entry| entry.ticket);
        self.outbox.extend(tickets.map(Action::Recorded));
        let published =
            load.settlements.into_iter().flat_map(|settlement| settlement.records).collect();
        self.outbox.push_back(Action::Published(published));
    }

    /// Finds what the transaction in flight carries that is larger than its topic takes. An effect is given up: its run
    /// goes on without it being recorded. For the others the caller finds other records.
    pub fn oversized(&mut self, limits: &Limits) -> Vec<Oversized<J>> {
        let Some(load) = &mut self.load else { return Vec::new() };
        let excess = |record: &Outgoing| {
            let (size, limit) = (record.size(), limits.of(record.topic));
            (size > limit).then_some((size, limit))
        };
        let given_up = load.entries.extract_if(.., |entry| excess(&entry.record).is_some());
        self.outbox.extend(given_up.filter_map(|entry| entry.ticket).map(Action::Recorded));
        let oversized = load.settlements.iter().filter_map(|settlement| {
            let Settlement { position, records } = settlement;
            let (size, limit) = records.iter().find_map(excess)?;
            let event = self.partitions.get(&position.partition)?.events.get(&position.offset)?;
            let (position, job, attempts) = (*position, event.job.clone(), event.attempt);
            Some(Oversized { position, job, attempts, records: records.clone(), size, limit })
        });
        oversized.collect()
    }

    /// Puts other records in the place of an event's, in the transaction in flight.
    pub fn replace(&mut self, position: Position, records: &[Outgoing]) {
        let settlements = self.load.iter_mut().flat_map(|load| &mut load.settlements);
        for settlement in settlements.filter(|settlement| settlement.position == position) {
            records.clone_into(&mut settlement.records);
        }
    }

    /// Takes the outcome of the transaction in flight: not applied. It is tried again from memory.
    pub fn aborted(&mut self, now: Instant) {
        self.refused();
        self.commit_after = Some(now + self.commit_backoff);
        self.commit_backoff = (self.commit_backoff * 2).min(COMMIT_BACKOFF_MAX);
    }

    /// Takes the outcome of the transaction in flight: refused for what has been replaced since. It is tried again at
    /// once.
    pub fn refused(&mut self) {
        if let Some(load) = self.load.take() {
            self.queue.put_back(load);
        }
    }

    pub(super) fn commit(&mut self, now: Instant) -> Option<Batch> {
        if self.load.is_some() || self.commit_after.is_some_and(|at| at > now) {
            return None;
        }
        self.forget_lost();
        if !self.is_due() {
            return None;
        }
        if self.gathers_until().is_some_and(|until| until > now) {
            return None;
        }
        self.hasten();
        let load = self.queue.take(self.settings.size);
        self.pace.begin(load.len(), now);
        self.nonce = self.nonce.wrapping_add(1);
        let mut touched = touched(&load);
        if self.in_doubt {
            let ours = self.partitions.keys().filter(|id| !self.is_leaving(**id));
            ours.for_each(|id| _ = touched.entry(*id).or_default());
        }
        let positions: Vec<_> =
            touched.into_iter().filter_map(|(id, settled)| self.position(id, &settled)).collect();
        if positions.is_empty() {
            self.queue.put_back(load);
            return None;
        }
        let records = load
            .entries
            .iter()
            .map(|entry| &entry.record)
            .chain(load.settlements.iter().flat_map(|settlement| &settlement.records))
            .cloned()
            .collect();
        self.load = Some(load);
        self.clears_doubt = self.in_doubt;
        Some(Batch { records, positions })
    }

    /// Returns whether there is anything to commit, if only our membership. A doubt about nothing waits until something is
    /// ours.
    pub(super) fn is_due(&self) -> bool {
        let is_asked = || self.partitions.keys().any(|id| !self.is_leaving(*id));
        !self.queue.is_empty() || (self.in_doubt && is_asked())
    }

    /// One immutable snapshot yields the watermark and the map: never read at two moments.
    fn position(&self, id: PartitionId, settled: &BTreeSet<Offset>) -> Option<CommitPosition> {
        let snapshot = self.partitions.get(&id)?.tracker.snapshot(settled);
        let scope =
            Scope { group: &self.settings.group, topic: &self.settings.topic, partition: id };
        let map = Map { nonce: self.nonce, ..snapshot.map };
        let metadata = map.encode(&scope, snapshot.watermark);
        Some(CommitPosition { partition: id, offset: snapshot.watermark, metadata })
    }

    pub(super) fn release(&mut self, partition: PartitionId, records: usize, bytes: usize) {
        if records > 0 || bytes > 0 {
            self.outbox.push_back(Action::Release { partition, records, bytes });
        }
    }
}

/// Returns the partitions that a load has anything of, each with the offsets that it settles.
fn touched(load: &Load) -> BTreeMap<PartitionId, BTreeSet<Offset>> {
    let mut touched: BTreeMap<PartitionId, BTreeSet<Offset>> = BTreeMap::new();
    for entry in &load.entries {
        touched.entry(entry.position.partition).or_default();
    }
    for settlement in &load.settlements {
        touched
            .entry(settlement.position.partition)
            .or_default()
            .insert(settlement.position.offset);
    }
    touched
}
