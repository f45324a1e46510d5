//! Decides what goes into the next transaction: everything that settled since the last one, up to two limits.
//! What was taken comes back by `put_back` when its transaction was aborted, in its old order.
//! Never awaits and never looks at a clock.

use std::collections::VecDeque;

use crate::record::{PartitionId, Position};

use super::Outgoing;

/// The size of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Records at most.
    pub records_max: usize,
    /// Bytes of keys and values at most; a single settlement may exceed it and then goes alone.
    pub bytes_max: usize,
}

/// What one event leaves behind when it ends: at most a result and a dead letter.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// The event.
    pub position: Position,
    /// What to publish; empty for an event that is ignored.
    pub records: Vec<Outgoing>,
}

/// The record of one effect, and who waits for it to be committed.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The event whose run had the effect.
    pub position: Position,
    /// The journal record.
    pub record: Outgoing,
    /// Names the run to the driver that waits, or will; `None` when none does.
    pub ticket: Option<u64>,
}

/// One transaction's worth.
#[derive(Debug, Default)]
pub struct Load {
    /// Journal entries, oldest first.
    pub entries: Vec<Entry>,
    /// Settlements, oldest first.
    pub settlements: Vec<Settlement>,
}

impl Load {
    /// Returns how many effects and ended events it has.
    pub(crate) fn len(&self) -> usize {
        self.entries.len() + self.settlements.len()
    }
}

/// What waits for a transaction.
#[derive(Debug, Default)]
pub struct Queue {
    entries: VecDeque<Entry>,
    settlements: VecDeque<Settlement>,
    /// The last load left something behind.
    is_behind: bool,
}

impl Queue {
    /// Adds an ended event.
    pub fn settle(&mut self, settlement: Settlement) {
        self.settlements.push_back(settlement);
    }

    /// Adds an effect. Effects go before settlements: a run may wait for them.
    pub fn record(&mut self, entry: Entry) {
        self.entries.push_back(entry);
    }

    /// Says whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many effects and ended events wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len() + self.settlements.len()
    }

    /// Returns how many effects wait that a run waits for.
    #[must_use]
    pub fn waited_for(&self) -> usize {
        self.entries.iter().filter(|entry| entry.ticket.is_some()).count()
    }

    /// Says whether more waits than one load takes: what is added now may have to wait for the one after the next.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Says whether anything of a partition waits.
    #[must_use]
    pub fn holds(&self, partition: PartitionId) -> bool {
        self.entries.iter().any(|entry| entry.position.partition == partition)
            || self.settlements.iter().any(|settlement| settlement.position.partition == partition)
    }

    /// Takes the next load, oldest first, within the limits; at least one item when anything waits.
    pub fn take(&mut self, size: Size) -> Load {
        let mut load = Load::default();
        let mut room = Room { records: size.records_max, bytes: size.bytes_max, first: true };
        while let Some(entry) =
            self.entries.pop_front_if(|entry| room.admits(std::slice::from_ref(&entry.record)))
        {
            load.entries.push(entry);
        }
        while let Some(settlement) =
            self.settlements.pop_front_if(|settlement| room.admits(&settlement.records))
        {
            load.settlements.push(settlement);
        }
        self.is_behind = !self.is_empty();
        load
    }

    /// Moves what belongs to partitions to the front, in its old order.
    pub fn hasten(&mut self, partitions: &[PartitionId]) {
        self.entries
            .make_contiguous()
            .sort_by_key(|entry| !partitions.contains(&entry.position.partition));
        self.settlements
            .make_contiguous()
            .sort_by_key(|settlement| !partitions.contains(&settlement.position.partition));
    }

    /// Puts a load back in front, as it was before it was taken.
    pub fn put_back(&mut self, load: Load) {
        for entry in load.entries.into_iter().rev() {
            self.entries.push_front(entry);
        }
        for settlement in load.settlements.into_iter().rev() {
            self.settlements.push_front(settlement);
        }
    }

    /// Drops what belongs to a partition that is no longer ours.
    pub fn forget(&mut self, partition: PartitionId) {
        self.entries.retain(|entry| entry.position.partition != partition);
        self.settlements.retain(|settlement| settlement.position.partition != partition);
    }
}

/// What is left of the limits while a load is being taken.
struct Room {
    records: usize,
    bytes: usize,
    first: bool,
}

impl Room {
    fn admits(&mut self, records: &[Outgoing]) -> bool {
        // A settlement without records costs one all the same: it takes its place in the offsets.
        let count = records.len().max(1);
        let bytes = records.iter().map(Outgoing::size).sum();
        if !self.first && (count > self.records || bytes > self.bytes) {
            return false;
        }
        self.first = false;
        self.records = self.records.saturating_sub(count);
        self.bytes = self.bytes.saturating_sub(bytes);
        true
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::record::{Epoch, Offset};
    use crate::sink::Topic;

    fn outgoing(bytes: usize) -> Outgoing {
        Outgoing {
            topic: Topic::Results,
            partition: None,
            key: None,
            value: Bytes::from(vec![b'x'; bytes]),
            headers: Vec::new(),
        }
    }

    fn position(partition: i32, offset: i64) -> Position {
        Position { partition: PartitionId(partition), offset: Offset(offset), epoch: Epoch(1) }
    }

    fn queue(sizes: &[usize]) -> Queue {
        let mut queue = Queue::default();
        for (offset, bytes) in sizes.iter().enumerate() {
            let records = vec![outgoing(*bytes)];
            queue.settle(Settlement { position: position(0, offset.try_into().unwrap()), records });
        }
        queue
    }

    fn offsets(load: &Load) -> Vec<i64> {
        load.settlements.iter().map(|settlement| settlement.position.offset.0).collect()
    }

    #[test]
    fn a_load_ends_at_the_limit_of_records_or_of_bytes() {
        let sizes = [10, 10, 10, 10];

        assert_eq!(
            offsets(&queue(&sizes).take(Size { records_max: 3, bytes_max: 1000 })),
            [0, 1, 2]
        );
        assert_eq!(offsets(&queue(&sizes).take(Size { records_max: 9, bytes_max: 20 })), [0, 1]);
    }

    #[test]
    fn one_settlement_over_the_limit_goes_alone() {
        let mut queue = queue(&[50, 1]);

        assert_eq!(offsets(&queue.take(Size { records_max: 9, bytes_max: 20 })), [0]);
        assert_eq!(offsets(&queue.take(Size { records_max: 9, bytes_max: 20 })), [1]);
        assert!(queue.is_empty());
    }

    #[test]
    fn an_aborted_load_comes_back_in_its_old_order() {
        let mut queue = queue(&[1, 1, 1]);
        let size = Size { records_max: 2, bytes_max: 99 };
        let load = queue.take(size);

        queue.put_back(load);

        assert_eq!(offsets(&queue.take(Size { records_max: 9, bytes_max: 99 })), [0, 1, 2]);
    }

    #[test]
    fn what_is_hastened_goes_first_in_its_old_order() {
        let mut queue = queue(&[1, 1]);
        for offset in [10, 11] {
            queue.settle(Settlement { position: position(1, offset), records: vec![outgoing(1)] });
        }

        queue.hasten(&[PartitionId(1)]);

        assert_eq!(offsets(&queue.take(Size { records_max: 9, bytes_max: 99 })), [10, 11, 0, 1]);
    }

    #[test]
    fn what_belongs_to_a_lost_partition_is_dropped() {
        let mut queue = queue(&[1]);
        queue.record(Entry { position: position(1, 5), record: outgoing(1), ticket: None });

        queue.forget(PartitionId(0));

        assert!(!queue.holds(PartitionId(0)));
        assert!(queue.holds(PartitionId(1)));
    }
}
