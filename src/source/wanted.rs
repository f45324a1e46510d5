//! Which offsets of an assigned partition are to be passed on: what the map says is settled is not.
//!
//! Pure. Knows only what was committed before the assignment; what settles afterwards is the dispatch's to know.

use std::collections::VecDeque;

use crate::{journal::Map, record::Offset};

/// Over how many settled offsets it is better to seek than to read: what one fetch of small records brings.
const JUMP_MIN: i64 = 5_000;

/// The offsets still to be read.
#[derive(Debug)]
pub(super) struct Wanted {
    /// One past the last offset that was read.
    next: Offset,
    /// Of the offsets below `restored_to`, those that are not settled.
    unsettled: VecDeque<Offset>,
    restored_to: Offset,
}

/// What to do with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Pass it on.
    Wanted,
    /// It was settled in an earlier life.
    Settled,
    /// It was read already, under this assignment.
    Repeated,
}

impl Wanted {
    /// Returns the offsets from `start` on, without those that `map` says are settled.
    pub(super) fn new(start: Offset, map: Option<&Map>) -> Self {
        let unsettled = map.map(|map| map.unsettled.iter().copied().collect()).unwrap_or_default();
        let restored_to = map.map_or(start, |map| map.next);
        Self { next: start, unsettled, restored_to }
    }

    /// Judges a record that was read.
    pub(super) fn read(&mut self, offset: Offset) -> Verdict {
        if offset < self.next {
            return Verdict::Repeated;
        }
        self.next = offset.next();
        if offset >= self.restored_to {
            self.unsettled.clear();
            return Verdict::Wanted;
        }
        while self.unsettled.front().is_some_and(|first| *first < offset) {
            self.unsettled.pop_front();
        }
        if self.unsettled.front() == Some(&offset) {
            self.unsettled.pop_front();
            Verdict::Wanted
        } else {
            Verdict::Settled
        }
    }

    /// Returns where to go on, when that is far enough away to seek.
    pub(super) fn jump(&self) -> Option<Offset> {
        let ahead = self.unsettled.front().copied().unwrap_or(self.restored_to);
        (ahead.0.saturating_sub(self.next.0) >= JUMP_MIN).then_some(ahead)
    }

    /// Notes that reading goes on at `offset`.
    pub(super) fn go_to(&mut self, offset: Offset) {
        self.next = self.next.max(offset);
    }

    /// Returns one past the last offset that was read.
    pub(super) fn next(&self) -> Offset {
        self.next
    }
}
