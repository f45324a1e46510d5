//! Holds back events that must wait for an earlier one: the ordering modes.
//! At most one event of a lane is running or waiting for its retry; the others wait behind it in offset order.
//! Never awaits; forgets a lane as soon as it is empty, so that memory follows what is unsettled.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use crate::record::{Offset, PartitionId};

use super::Ordering;

/// A lane: events that share it run one after another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Lane(PartitionId, Option<Bytes>);

/// The lanes that hold at least one event.
#[derive(Debug)]
pub(super) struct Lanes {
    ordering: Ordering,
    waiting: HashMap<Lane, VecDeque<Offset>>,
}

impl Lanes {
    pub(super) fn new(ordering: Ordering) -> Self {
        Self { ordering, waiting: HashMap::new() }
    }

    /// Returns the lane of an event, or `None` when it waits for nobody.
    pub(super) fn of(&self, partition: PartitionId, key: Option<&Bytes>) -> Option<Lane> {
        match self.ordering {
            Ordering::Unordered => None,
            Ordering::Key => key.map(|key| Lane(partition, Some(key.clone()))),
            Ordering::Partition => Some(Lane(partition, None)),
        }
    }

    /// Enters an event into its lane and says whether it may start at once.
    pub(super) fn enter(&mut self, lane: &Lane, offset: Offset) -> bool {
        if let Some(behind) = self.waiting.get_mut(lane) {
            behind.push_back(offset);
            return false;
        }
        self.waiting.insert(lane.clone(), VecDeque::new());
        true
    }

    /// Ends the lane's head and returns the event that may start next.
    pub(super) fn leave(&mut self, lane: &Lane) -> Option<Offset> {
        let next = self.waiting.get_mut(lane)?.pop_front();
        if next.is_none() {
            self.waiting.remove(lane);
        }
        next
    }

    /// Forgets all lanes of a partition.
    pub(super) fn forget(&mut self, partition: PartitionId) {
        self.waiting.retain(|lane, _| lane.0 != partition);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: PartitionId = PartitionId(0);

    fn key(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn the_second_event_of_a_key_waits_for_the_first() {
        let mut lanes = Lanes::new(Ordering::Key);
        let lane = lanes.of(P, Some(&key("a"))).unwrap();

        assert!(lanes.enter(&lane, Offset(1)));
        assert!(!lanes.enter(&lane, Offset(2)));
        assert!(!lanes.enter(&lane, Offset(3)));

        assert_eq!(lanes.leave(&lane), Some(Offset(2)));
        assert_eq!(lanes.leave(&lane), Some(Offset(3)));
        assert_eq!(lanes.leave(&lane), None);
        assert!(lanes.waiting.is_empty());
    }

    #[test]
    fn events_without_a_key_have_no_lane_unless_the_partition_is_one() {
        assert_eq!(Lanes::new(Ordering::Key).of(P, None), None);
        assert_eq!(Lanes::new(Ordering::Unordered).of(P, Some(&key("a"))), None);
        assert!(Lanes::new(Ordering::Partition).of(P, None).is_some());
    }

    #[test]
    fn a_partition_that_went_away_leaves_no_lane_behind() {
        let mut lanes = Lanes::new(Ordering::Partition);
        let lane = lanes.of(P, None).unwrap();
        lanes.enter(&lane, Offset(1));
        lanes.enter(&lane, Offset(2));

        lanes.forget(P);

        assert!(lanes.enter(&lane, Offset(9)));
    }
}
