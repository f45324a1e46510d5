//! Tracks which offsets of one assigned partition were received and which of them are settled.
//!
//! The watermark is the offset to commit: the first received offset that is not settled, else one
//! past the last. Only received offsets count, so the gaps that compaction and transaction markers
//! leave need no care. Never awaits, locks, logs or reads a clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::journal::Map;
use crate::record::Offset;

/// What a received offset is to this partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// Nobody has received it before: to be done.
    New,
    /// An earlier life received it and did not settle it: to be done, its effects may be journaled.
    Restored,
    /// An earlier life settled it: to be skipped.
    Settled,
    /// This life has received it before, or a later one: to be skipped.
    Repeated,
}

/// What a transaction commits for a partition, taken at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The offset to commit.
    pub watermark: Offset,
    /// The rest of what a next life must know; its nonce is 0 for the writer to fill in.
    pub map: Map,
}

/// The received offsets of one partition in one assignment, its life.
///
/// Offsets are received in ascending order: all that is open lies below all that is restored.
#[derive(Debug, Clone)]
pub struct Tracker {
    /// Received in this life and not settled, ascending. At most a thousand: close together in
    /// memory they are searched and shifted in less time than a tree takes.
    open: VecDeque<Offset>,
    /// Unsettled since an earlier life and not received again yet, ascending.
    restored: VecDeque<Offset>,
    /// The first journal record of each unsettled event that has one.
    ///
    /// Also of events that no map has seen: without transactions, a crash may come between the
    /// journal and the offsets.
    journaled: BTreeMap<Offset, Offset>,
    /// Where this life began to read.
    start: Offset,
    /// One past the highest offset received in this life.
    received_to: Offset,
    /// One past the highest offset received in any earlier life.
    restored_to: Offset,
    /// The journal base that this life began with.
    restored_journal_base: Offset,
    /// One past the last journal record known: every later one lies at or beyond it.
    journal_end: Offset,
    /// How many restored offsets were not there any more.
    gone: u64,
}

impl Tracker {
    /// Starts with nothing known: all from `at` on is to be done.
    #[must_use]
    pub fn start(at: Offset, journal_end: Offset) -> Self {
        let nothing = Map { next: at, journal_base: journal_end, nonce: 0, unsettled: Vec::new() };
        Self::restore(at, nothing, [], journal_end)
    }

    /// Goes on where the life that committed `base` and `map` ended.
    ///
    /// `journaled` pairs events with their journal records, in any order; records of settled events
    /// may be among them. `journal_end` is one past the last record of the journal partition.
    #[must_use]
    pub fn restore(
        base: Offset,
        map: Map,
        journaled: impl IntoIterator<Item = (Offset, Offset)>,
        journal_end: Offset,
    ) -> Self {
        let restored = VecDeque::from(map.unsettled);
        let mut first_records = BTreeMap::new();
        for (event, record) in journaled {
            if event >= map.next || restored.binary_search(&event).is_ok() {
                let first = first_records.entry(event).or_insert(record);
                *first = record.min(*first);
            }
        }
        Self {
            open: VecDeque::new(),
            restored,
            journaled: first_records,
            start: base,
            received_to: base,
            restored_to: map.next,
            restored_journal_base: map.journal_base,
            journal_end,
            gone: 0,
        }
    }

    /// Takes note of a record that was read, and says what is to be done with it.
    ///
    /// Offsets come in ascending order. A restored offset that is passed without being received is
    /// gone (compaction, retention): dropped and counted, or it would hold the watermark for ever.
    pub fn receive(&mut self, offset: Offset) -> Received {
        if offset < self.start {
            return Received::Settled;
        }
        if offset < self.received_to {
            return Received::Repeated;
        }
        self.pass(offset);
        self.received_to = offset.next();
        if self.restored.pop_front_if(|first| *first == offset).is_some() {
            self.open.push_back(offset);
            return Received::Restored;
        }
        if offset < self.restored_to {
            return Received::Settled;
        }
        self.open.push_back(offset);
        Received::New
    }

    /// Returns whether `offset` may be received: else its map might be longer than a broker takes.
    ///
    /// What has no room waits, and all behind it, until something has been committed. False only
    /// beyond [`Map::UNSETTLED_MAX`] unsettled offsets or [`Map::SPAN_MAX`] from the first of them.
    #[must_use]
    pub fn has_room_for(&self, offset: Offset) -> bool {
        let known = offset < self.restored_to;
        let span = self.open.front().map_or(0, |first| offset.0.saturating_sub(first.0));
        known || (self.open.len() < Map::UNSETTLED_MAX && span < Map::SPAN_MAX)
    }

    /// Returns what to commit when the offsets in `settling` settle with it. Changes nothing.
    ///
    /// The journal base is the first journal record of what remains, and it stays where this life
    /// found it until all that was restored has been received again.
    #[must_use]
    pub fn snapshot(&self, settling: &BTreeSet<Offset>) -> Snapshot {
        let unfinished = self.journaled.iter().filter(|(event, _)| !settling.contains(event));
        let first_record = unfinished.map(|(_, record)| *record).min();
        let mut journal_base = first_record.unwrap_or(self.journal_end);
        if self.is_restoring() {
            journal_base = journal_base.min(self.restored_journal_base);
        }

        let mut settling = settling.iter().peekable();
        let mut unsettled = Vec::with_capacity(self.unsettled());
        for offset in self.open.iter().chain(&self.restored) {
            while settling.next_if(|settling| *settling < offset).is_some() {}
            if settling.next_if_eq(&offset).is_none() {
                unsettled.push(*offset);
            }
        }
        let next = self.next();
        Snapshot {
            watermark: unsettled.first().copied().unwrap_or(next),
            map: Map { next, journal_base, nonce: 0, unsettled },
        }
    }

    /// Takes note of a transaction that was applied: what it settled, what it wrote to the journal.
    ///
    /// `journaled` pairs events with their journal records, ascending. Of one that was aborted no
    /// note is taken: what it held goes into the next.
    pub fn committed<'a>(
        &mut self,
        settled: impl IntoIterator<Item = &'a Offset>,
        journaled: &[(Offset, Offset)],
    ) {
        for (event, record) in journaled {
            self.journal_end = self.journal_end.max(record.next());
            if self.open.binary_search(event).is_ok() {
                self.journaled.entry(*event).or_insert(*record);
            }
        }
        for offset in settled {
            if let Ok(at) = self.open.binary_search(offset) {
                self.open.remove(at);
                self.journaled.remove(offset);
            }
        }
    }

    /// Returns how many offsets are not settled, with those that are still to be received again.
    #[must_use]
    pub fn unsettled(&self) -> usize {
        self.open.len() + self.restored.len()
    }

    /// Returns the offset to commit if nothing more settles.
    #[must_use]
    pub fn watermark(&self) -> Offset {
        let first = self.open.front().or_else(|| self.restored.front());
        first.copied().unwrap_or_else(|| self.next())
    }

    /// Returns one past the highest offset received in this life or an earlier one.
    #[must_use]
    pub fn next(&self) -> Offset {
        self.received_to.max(self.restored_to)
    }

    /// Returns one past the last journal record known: every later one lies at or beyond it.
    #[must_use]
    pub fn journal_end(&self) -> Offset {
        self.journal_end
    }

    /// Returns how many restored offsets were not there any more.
    #[must_use]
    pub fn gone(&self) -> u64 {
        self.gone
    }

    /// Returns the same, and counts from 0 again.
    pub fn take_gone(&mut self) -> u64 {
        std::mem::take(&mut self.gone)
    }

    /// Returns whether offsets of an earlier life are still to be received again.
    #[must_use]
    pub fn is_restoring(&self) -> bool {
        !self.restored.is_empty()
    }

    /// Drops what should have been received before `offset`.
    fn pass(&mut self, offset: Offset) {
        while self.restored.pop_front_if(|first| *first < offset).is_some() {
            self.gone += 1;
        }
        while let Some((event, _)) = self.journaled.range(self.received_to..offset).next() {
            let event = *event;
            self.journaled.remove(&event);
        }
    }
}

#[cfg(test)]
#[path = "offsets_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "offsets_model.rs"]
mod model;
