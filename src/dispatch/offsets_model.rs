//! The tracker against a naive model of a partition, its journal, the group's offset and crashes.
//!
//! The model keeps every offset that was ever settled, in any life, and the history of this one;
//! the tracker must agree with it though it knows no more than the map of the last commit.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::journal::Scope;
use crate::record::PartitionId;

const SCOPE: Scope<'_> = Scope { group: "group", topic: "events", partition: PartitionId(0) };

#[derive(Debug, Clone)]
enum Step {
    /// Records come in, each after some offsets that never hold one.
    Append {
        gaps: Vec<u8>,
    },
    /// Compaction takes a record away.
    Compact(Index),
    /// The reader hands on some records.
    Read(u8),
    /// The reader goes back to a record and hands it on again.
    ReadAgain(Index),
    /// The reader seeks over what is settled.
    Seek,
    /// A run has an effect, to be journaled with the next commit.
    HaveEffect(Index),
    /// A run finishes, to be settled with the next commit.
    Finish(Index),
    Commit,
    /// The transaction is aborted: what it held waits for the next.
    Abort,
    /// The process dies, or the partition is revoked and comes back.
    Crash,
    /// Without transactions: the journal is written, then the process dies before the offsets are.
    CrashAfterJournal,
}

fn step() -> impl Strategy<Value = Step> {
    let gap = prop_oneof![6 => Just(0), 2 => 1..4_u8, 1 => any::<u8>()];
    prop_oneof![
        3 => vec(gap, 1..12).prop_map(|gaps| Step::Append { gaps }),
        1 => any::<Index>().prop_map(Step::Compact),
        4 => (1..16_u8).prop_map(Step::Read),
        1 => any::<Index>().prop_map(Step::ReadAgain),
        1 => Just(Step::Seek),
        3 => any::<Index>().prop_map(Step::HaveEffect),
        6 => any::<Index>().prop_map(Step::Finish),
        4 => Just(Step::Commit),
        1 => Just(Step::Abort),
        1 => Just(Step::Crash),
        1 => Just(Step::CrashAfterJournal),
    ]
}

/// What lasts, and what the present life did.
struct World {
    log: BTreeSet<Offset>,
    log_end: Offset,
    /// Every offset whose result was committed.
    settled: BTreeSet<Offset>,
    /// (event, journal offset) of every journal record committed.
    journal: Vec<(Offset, Offset)>,
    journal_end: Offset,
    committed: (Offset, String),
    /// Restored offsets that no life found any more.
    gone: BTreeSet<Offset>,
    life: Life,
}

struct Life {
    tracker: Tracker,
    /// The next offset that the reader asks for.
    position: Offset,
    received: BTreeSet<Offset>,
    /// To be received again: what the last commit left unsettled.
    awaited: BTreeSet<Offset>,
    gone: u64,
    running: BTreeSet<Offset>,
    finished: BTreeSet<Offset>,
    effects: Vec<Offset>,
    next: Offset,
    watermark: Offset,
}

fn pick(from: &BTreeSet<Offset>, index: Index) -> Option<Offset> {
    from.iter().nth(index.index(from.len().max(1))).copied()
}

impl Life {
    fn new(tracker: Tracker, base: Offset, awaited: BTreeSet<Offset>) -> Self {
        Self {
            next: tracker.next(),
            watermark: tracker.watermark(),
            tracker,
            position: base,
            received: BTreeSet::new(),
            awaited,
            gone: 0,
            running: BTreeSet::new(),
            finished: BTreeSet::new(),
            effects: Vec::new(),
        }
    }
}

impl World {
    fn new() -> Self {
        let tracker = Tracker::start(Offset(0), Offset(0));
        let taken = tracker.snapshot(&BTreeSet::new());
        Self {
            log: BTreeSet::new(),
            log_end: Offset(0),
            settled: BTreeSet::new(),
            journal: Vec::new(),
            journal_end: Offset(0),
            committed: (Offset(0), taken.map.encode(&SCOPE, Offset(0))),
            gone: BTreeSet::new(),
            life: Life::new(tracker, Offset(0), BTreeSet::new()),
        }
    }

    fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Append { gaps } => gaps.into_iter().for_each(|gap| self.append(gap)),
            Step::Compact(index) => _ = pick(&self.log, index).map(|at| self.log.remove(&at)),
            Step::Read(count) => self.read(count.into())?,
            Step::ReadAgain(index) => self.read_again(index)?,
            Step::Seek => self.seek(),
            Step::HaveEffect(index) => self.life.effects.extend(pick(&self.life.running, index)),
            Step::Finish(index) => self.finish(index),
            Step::Commit => self.commit()?,
            Step::Abort => drop(self.life.tracker.snapshot(&self.life.finished)),
            Step::Crash => self.crash()?,
            Step::CrashAfterJournal => {
                self.write_journal();
                self.crash()?;
            }
        }
        self.check()
    }

    fn append(&mut self, gap: u8) {
        let at = Offset(self.log_end.0 + i64::from(gap));
        self.log.insert(at);
        self.log_end = at.next();
    }

    fn read(&mut self, count: usize) -> Result<(), TestCaseError> {
        let records: Vec<_> = self.log.range(self.life.position..).take(count).copied().collect();
        for offset in records {
            if !self.life.tracker.has_room_for(offset) {
                break;
            }
            let received = self.life.tracker.receive(offset);
            let gone: Vec<_> = self.life.awaited.range(..offset).copied().collect();
            for passed in gone {
                self.life.awaited.remove(&passed);
                self.life.gone += 1;
                self.gone.insert(passed);
            }
            let was_settled = self.settled.contains(&offset);
            let expected = match (self.life.awaited.remove(&offset), was_settled) {
                (true, _) => Received::Restored,
                (false, true) => Received::Settled,
                (false, false) => Received::New,
            };
            prop_assert_eq!(received, expected, "{}", offset);
            if expected != Received::Settled {
                prop_assert!(!was_settled, "{} is done twice", offset);
                self.life.running.insert(offset);
            }
            self.life.received.insert(offset);
            self.life.next = self.life.next.max(offset.next());
            self.life.position = offset.next();
        }
        Ok(())
    }

    fn read_again(&mut self, index: Index) -> Result<(), TestCaseError> {
        if let Some(offset) = pick(&self.life.received, index) {
            prop_assert_eq!(self.life.tracker.receive(offset), Received::Repeated);
        }
        Ok(())
    }

    fn seek(&mut self) {
        let wanted = self.life.awaited.first().copied().unwrap_or(self.life.next);
        self.life.position = self.life.position.max(wanted);
    }

    fn finish(&mut self, index: Index) {
        if let Some(offset) = pick(&self.life.running, index) {
            self.life.running.remove(&offset);
            self.life.finished.insert(offset);
        }
    }

    fn write_journal(&mut self) -> Vec<(Offset, Offset)> {
        let events = std::mem::take(&mut self.life.effects);
        let written: Vec<_> =
            (self.journal_end.0..).map(Offset).zip(events).map(|(at, event)| (event, at)).collect();
        self.journal.extend(&written);
        // One more for the transaction's marker.
        self.journal_end = Offset(self.journal_end.0 + written.len() as i64 + 1);
        written
    }

    fn commit(&mut self) -> Result<(), TestCaseError> {
        let settling = std::mem::take(&mut self.life.finished);
        let mut taken = self.life.tracker.snapshot(&settling);
        taken.map.nonce = 7;
        let text = taken.map.encode(&SCOPE, taken.watermark);
        prop_assert!(text.len() <= Map::TEXT_MAX);
        self.committed = (taken.watermark, text);
        let journaled = self.write_journal();
        self.life.tracker.committed(&settling, &journaled);
        self.settled.extend(settling);

        for (event, at) in &self.journal {
            let unfinished = !self.settled.contains(event) && !self.is_gone(*event);
            prop_assert!(
                !unfinished || taken.map.journal_base <= *at,
                "{} lost record {}",
                event,
                at
            );
        }
        Ok(())
    }

    /// A record that compaction took before this life received it concerns nobody any more.
    fn is_gone(&self, event: Offset) -> bool {
        self.gone.contains(&event)
            || !(self.log.contains(&event) || self.life.running.contains(&event))
    }

    fn crash(&mut self) -> Result<(), TestCaseError> {
        let (base, text) = &self.committed;
        let map = Map::decode(text, &SCOPE, *base)
            .map_err(|error| TestCaseError::fail(error.to_string()))?;
        let journaled: Vec<_> =
            self.journal.iter().rev().filter(|(_, at)| *at >= map.journal_base).copied().collect();
        let awaited = map.unsettled.iter().copied().collect();
        let tracker = Tracker::restore(*base, map, journaled, self.journal_end);
        self.life = Life::new(tracker, *base, awaited);
        Ok(())
    }

    /// What the tracker says of itself is what its history says.
    fn check(&mut self) -> Result<(), TestCaseError> {
        let life = &mut self.life;
        let open = life.running.iter().chain(&life.finished).chain(&life.awaited);
        let unsettled: BTreeSet<_> = open.copied().collect();
        let watermark = unsettled.first().copied().unwrap_or(life.next);
        prop_assert!(watermark >= life.watermark, "{} fell to {}", life.watermark, watermark);
        life.watermark = watermark;

        let tracker = &life.tracker;
        prop_assert_eq!((tracker.watermark(), tracker.next()), (watermark, life.next));
        prop_assert_eq!((tracker.unsettled(), tracker.gone()), (unsettled.len(), life.gone));
        prop_assert_eq!(tracker.is_restoring(), !life.awaited.is_empty());
        let taken = tracker.snapshot(&life.finished);
        let remaining: Vec<_> = unsettled.difference(&life.finished).copied().collect();
        prop_assert_eq!(taken.watermark, remaining.first().copied().unwrap_or(life.next));
        prop_assert_eq!((taken.map.next, taken.map.unsettled), (life.next, remaining));
        Ok(())
    }

    /// Does what is left to do and says what was never done.
    fn drain(&mut self) -> Result<(), TestCaseError> {
        self.append(0);
        self.read(usize::MAX)?;
        let running = std::mem::take(&mut self.life.running);
        self.life.finished.extend(running);
        self.commit()?;
        self.check()?;
        prop_assert_eq!(self.life.tracker.unsettled(), 0);
        prop_assert_eq!(self.log.difference(&self.settled).count(), 0);
        Ok(())
    }
}

proptest! {
    #[test]
    fn every_event_is_settled_once_whatever_happens(steps in vec(step(), 1..200)) {
        let mut world = World::new();

        for step in steps {
            world.take(step)?;
        }

        world.drain()?;
    }
}
