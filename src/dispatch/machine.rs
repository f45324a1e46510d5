//! Decides which event may start, what waits for what, and what may be committed.
//! Every received event is in exactly one stage until the transaction that carries its result is applied.
//! Never awaits, logs or reads a clock: facts come in by methods, wishes go out by [`Machine::poll`].

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::journal::{Effect, Effects, Map, Scope};
use crate::record::{Epoch, Offset, PartitionId, Position};
use crate::retry::RetryPolicy;
use crate::sink::{Batch, CommitPosition, Entry, Load, Outgoing, Queue, Settlement, Size};

use super::Ordering;
use super::lanes::{Lane, Lanes};
use super::offsets::{Received, Tracker};

mod leaving;
#[cfg(test)]
mod tests;

use leaving::{Drain, Revocation};

/// The first wait after a transaction that was aborted; it doubles up to [`COMMIT_BACKOFF_MAX`].
const COMMIT_BACKOFF: Duration = Duration::from_millis(100);
const COMMIT_BACKOFF_MAX: Duration = Duration::from_secs(5);

/// What the machine decides by.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The consumer group, part of the checksum over each commit.
    pub group: String,
    /// The events topic, likewise.
    pub topic: String,
    /// Runs at most at any moment.
    pub in_flight_max: usize,
    /// Which events wait for which.
    pub ordering: Ordering,
    /// How often and when a run is attempted again.
    pub retry: RetryPolicy,
    /// The size of one transaction.
    pub size: Size,
}

/// An event as it enters the machine.
#[derive(Debug)]
pub struct Arrival<J> {
    /// Where it lies.
    pub position: Position,
    /// Its Kafka key, for the ordering by key.
    pub key: Option<bytes::Bytes>,
    /// What holding it costs, in bytes.
    pub size: usize,
    /// Its result is published no sooner than this.
    pub publish_at: Instant,
    /// What to do with it.
    pub work: Work<J>,
}

/// What an event asks for.
#[derive(Debug)]
pub enum Work<J> {
    /// A run of the graph.
    Run(J),
    /// Nothing but these records: an event that is ignored, or refused.
    Publish(Vec<Outgoing>),
}

/// A run that may start now.
#[derive(Debug, Clone)]
pub struct Start<J> {
    /// The event.
    pub position: Position,
    /// The job, as it arrived.
    pub job: J,
    /// The number of this attempt, from 1.
    pub attempt: u32,
    /// Whether a failure of this attempt is final.
    pub last: bool,
    /// What earlier attempts, and earlier lives of this process, have already done.
    pub effects: Effects,
}

/// How an attempt ended.
#[derive(Debug)]
pub enum Ended {
    /// The event is settled by these records.
    Done(Vec<Outgoing>),
    /// The attempt failed and may be repeated, no sooner than `after`.
    Retry {
        /// The least wait, as the other side asked.
        after: Option<Duration>,
    },
}

/// What the machine wants done.
#[derive(Debug)]
pub enum Action<J> {
    /// Run this attempt; it gives a permit back by [`Machine::ended`] or [`Machine::cancelled`].
    Start(Start<J>),
    /// Commit this transaction; its outcome comes back by [`Machine::applied`] or [`Machine::aborted`].
    Commit(Batch),
    /// The effect of this ticket is committed: let its run go on.
    Recorded(u64),
    /// Give the reader of a partition room for this much.
    Release {
        /// The partition.
        partition: PartitionId,
        /// Records that are settled.
        records: usize,
        /// Their bytes.
        bytes: usize,
    },
    /// These records are visible to every reader now.
    Published(Vec<Outgoing>),
    /// Cancel this run; [`Machine::cancelled`] says when it is gone.
    Cancel(Position),
    /// These partitions are given up: acknowledge the rebalance.
    Revoked(Vec<PartitionId>),
    /// Nothing is running and nothing waits for a commit any more.
    Drained,
}

/// How much is where, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// Runs that hold a permit.
    pub running: usize,
    /// Events that wait for a permit.
    pub ready: usize,
    /// Events that wait for their next attempt.
    pub backing_off: usize,
    /// Finished events whose result is held back until it is old enough.
    pub held: usize,
    /// Received events that are not settled.
    pub unsettled: usize,
}

#[derive(Debug)]
enum Stage {
    /// Behind another event of its lane, or in the queue of those that wait for a permit.
    Queued,
    Running,
    BackingOff,
    Held(Vec<Outgoing>),
    /// Waits for its transaction.
    Settling,
}

#[derive(Debug)]
struct Event<J> {
    job: Option<J>,
    lane: Option<Lane>,
    size: usize,
    publish_at: Instant,
    attempt: u32,
    effects: Effects,
    stage: Stage,
}

#[derive(Debug)]
struct Partition<J> {
    epoch: Epoch,
    tracker: Tracker,
    events: HashMap<Offset, Event<J>>,
    /// What recovery found of runs that are yet to be received again.
    recovered: HashMap<Offset, Effects>,
    /// In ordered modes a result is never published before an earlier one.
    publish_floor: Option<Instant>,
    running: usize,
    held: usize,
}

/// The dispatcher's decisions; `J` is what a run needs of its event.
#[derive(Debug)]
pub struct Machine<J> {
    settings: Settings,
    partitions: BTreeMap<PartitionId, Partition<J>>,
    lanes: Lanes,
    ready: VecDeque<Position>,
    timers: BTreeMap<(Instant, u64), Position>,
    timer_count: u64,
    running: usize,
    backing_off: usize,
    held: usize,
    queue: Queue,
    load: Option<Load>,
    nonce: u32,
    commit_after: Option<Instant>,
    commit_backoff: Duration,
    outbox: VecDeque<Action<J>>,
    revocation: Option<Revocation>,
    drain: Option<Drain>,
}

impl<J: Clone> Machine<J> {
    /// Returns a machine without partitions. `nonce` is any number that differs from life to life.
    #[must_use]
    pub fn new(settings: Settings, nonce: u32) -> Self {
        Self {
            lanes: Lanes::new(settings.ordering),
            settings,
            partitions: BTreeMap::new(),
            ready: VecDeque::new(),
            timers: BTreeMap::new(),
            timer_count: 0,
            running: 0,
            backing_off: 0,
            held: 0,
            queue: Queue::default(),
            load: None,
            nonce,
            commit_after: None,
            commit_backoff: COMMIT_BACKOFF,
            outbox: VecDeque::new(),
            revocation: None,
            drain: None,
        }
    }

    /// Takes over a partition that was assigned and recovered.
    pub fn assign(
        &mut self,
        partition: PartitionId,
        epoch: Epoch,
        tracker: Tracker,
        recovered: HashMap<Offset, Effects>,
    ) {
        self.forget(partition);
        let events = HashMap::new();
        let (publish_floor, running, held) = (None, 0, 0);
        self.partitions.insert(
            partition,
            Partition { epoch, tracker, events, recovered, publish_floor, running, held },
        );
    }

    /// Notes that a record was read, and says whether it is wanted; if not, its permit is given back.
    pub fn receive(&mut self, position: Position, size: usize) -> bool {
        let draining = self.drain.is_some();
        let Some(partition) = self.current(position) else { return false };
        if draining {
            return false;
        }
        match partition.tracker.receive(position.offset) {
            Received::New | Received::Restored => true,
            Received::Settled | Received::Repeated => {
                self.release(position.partition, 1, size);
                false
            }
        }
    }

    /// Takes an event that [`Machine::receive`] wanted.
    pub fn admit(&mut self, arrival: Arrival<J>, now: Instant) {
        let Arrival { position, key, size, publish_at, work } = arrival;
        let lane = self.lanes.of(position.partition, key.as_ref());
        let ordered = self.settings.ordering != Ordering::Unordered;
        let Some(partition) = self.current(position) else { return };
        let publish_at = partition.publish_at(publish_at, ordered);
        let effects = partition.recovered.remove(&position.offset).unwrap_or_default();
        let (job, records) = match work {
            Work::Run(job) => (Some(job), None),
            Work::Publish(records) => (None, Some(records)),
        };
        let lane = lane.filter(|_| job.is_some());
        let event = Event { job, lane: lane.clone(), size, publish_at, attempt: 1, effects, stage: Stage::Queued };
        partition.events.insert(position.offset, event);
        if let Some(records) = records {
            self.finish(position, records, now);
        } else if lane.is_none_or(|lane| self.lanes.enter(&lane, position.offset)) {
            self.ready.push_back(position);
        }
    }

    /// Takes the outcome of an attempt. `random` in `[0, 1)` spreads the retries.
    pub fn ended(&mut self, position: Position, ended: Ended, random: f64, now: Instant) {
        let retry = self.settings.retry.clone();
        let Some(event) = self.give_back_permit(position) else { return };
        match ended {
            Ended::Done(records) => self.finish(position, records, now),
            Ended::Retry { after } => {
                let delay = retry.delay(event.attempt, after, random).unwrap_or(retry.max);
                event.attempt += 1;
                event.stage = Stage::BackingOff;
                self.backing_off += 1;
                self.schedule(now + delay, position);
            }
        }
    }

    /// Takes note that a cancelled run is gone: nothing of it will come any more.
    pub fn cancelled(&mut self, position: Position) {
        if let Some(event) = self.give_back_permit(position) {
            event.stage = Stage::Queued;
        }
    }

    /// Remembers an effect of a run, and writes it to the journal when there is a record for it.
    /// A `ticket` is answered by [`Action::Recorded`] once the effect is committed (or at once without a record).
    pub fn record(&mut self, position: Position, effect: Effect, record: Option<Outgoing>, ticket: Option<u64>) {
        let Some(event) = self.current(position).and_then(|p| p.events.get_mut(&position.offset)) else { return };
        event.effects.insert(effect);
        match (record, ticket) {
            (Some(record), ticket) => self.queue.record(Entry { position, record, ticket }),
            (None, Some(ticket)) => self.outbox.push_back(Action::Recorded(ticket)),
            (None, None) => {}
        }
    }

    /// Takes the outcome of the transaction in flight: applied. `journal` tells, by the record's index
    /// in the batch, the offset of each journal record.
    pub fn applied(&mut self, journal: &[(usize, Offset)]) {
        let Some(load) = self.load.take() else { return };
        self.commit_after = None;
        self.commit_backoff = COMMIT_BACKOFF;
        let offsets: HashMap<usize, Offset> = journal.iter().copied().collect();
        for (id, settled) in touched(&load) {
            let Some(partition) = self.partitions.get_mut(&id) else { continue };
            // Where an outcome had to be read back, the records' offsets are not known: they are no lower than
            // the end of what is.
            let end = partition.tracker.journal_end();
            let entries = load.entries.iter().enumerate().filter(|(_, entry)| entry.position.partition == id);
            let journaled: Vec<_> = entries
                .map(|(index, entry)| (entry.position.offset, offsets.get(&index).copied().unwrap_or(end)))
                .collect();
            partition.tracker.committed(&settled, &journaled);
            let bytes = settled.iter().filter_map(|offset| partition.events.remove(offset)).map(|event| event.size).sum();
            self.release(id, settled.len(), bytes);
        }
        let tickets = load.entries.into_iter().filter_map(|entry| entry.ticket);
        self.outbox.extend(tickets.map(Action::Recorded));
        let published = load.settlements.into_iter().flat_map(|settlement| settlement.records).collect();
        self.outbox.push_back(Action::Published(published));
    }

    /// Takes the outcome of the transaction in flight: not applied. It is tried again from memory.
    pub fn aborted(&mut self, now: Instant) {
        if let Some(load) = self.load.take() {
            self.queue.put_back(load);
        }
        self.commit_after = Some(now + self.commit_backoff);
        self.commit_backoff = (self.commit_backoff * 2).min(COMMIT_BACKOFF_MAX);
    }

    /// Returns the next thing to do at `now`, until there is nothing.
    pub fn poll(&mut self, now: Instant) -> Option<Action<J>> {
        self.expire(now);
        self.leave(now);
        self.outbox
            .pop_front()
            .or_else(|| self.start().map(Action::Start))
            .or_else(|| self.commit(now).map(Action::Commit))
            .or_else(|| self.left())
    }

    /// Returns when [`Machine::poll`] should be asked again, if nothing else happens before.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let timer = self.timers.keys().next().map(|(at, _)| *at);
        let commit = self.commit_after.filter(|_| !self.queue.is_empty() && self.load.is_none());
        let revocation = self.revocation.as_ref().and_then(Revocation::due);
        let drain = self.drain.as_ref().and_then(Drain::due);
        [timer, commit, revocation, drain].into_iter().flatten().min()
    }

    /// Returns how much is where.
    #[must_use]
    pub fn figures(&self) -> Figures {
        Figures {
            running: self.running,
            ready: self.ready.len(),
            backing_off: self.backing_off,
            held: self.held,
            unsettled: self.partitions.values().map(|partition| partition.events.len()).sum(),
        }
    }

    /// Says whether a transaction is in flight.
    #[must_use]
    pub fn is_committing(&self) -> bool {
        self.load.is_some()
    }

    fn current(&mut self, position: Position) -> Option<&mut Partition<J>> {
        self.partitions.get_mut(&position.partition).filter(|partition| partition.epoch == position.epoch)
    }

    fn give_back_permit(&mut self, position: Position) -> Option<&mut Event<J>> {
        self.running = self.running.saturating_sub(1);
        let partition =
            self.partitions.get_mut(&position.partition).filter(|partition| partition.epoch == position.epoch)?;
        partition.running = partition.running.saturating_sub(1);
        partition.events.get_mut(&position.offset)
    }

    /// Ends an event's run: its lane goes on at once, its result when it is old enough.
    fn finish(&mut self, position: Position, records: Vec<Outgoing>, now: Instant) {
        self.expire(now);
        let Some(partition) = self.partitions.get_mut(&position.partition) else { return };
        let Some(event) = partition.events.get_mut(&position.offset) else { return };
        event.job = None;
        let (lane, publish_at) = (event.lane.take(), event.publish_at);
        if publish_at <= now || records.is_empty() {
            event.stage = Stage::Settling;
            self.queue.settle(Settlement { position, records });
        } else {
            event.stage = Stage::Held(records);
            partition.held += 1;
            self.held += 1;
            self.schedule(publish_at, position);
        }
        if let Some(offset) = lane.and_then(|lane| self.lanes.leave(&lane)) {
            self.ready.push_back(Position { offset, ..position });
        }
    }

    fn schedule(&mut self, at: Instant, position: Position) {
        self.timer_count += 1;
        self.timers.insert((at, self.timer_count), position);
    }

    /// Moves on every event whose time has come.
    fn expire(&mut self, now: Instant) {
        while let Some(timer) = self.timers.first_entry().filter(|timer| timer.key().0 <= now) {
            let position = timer.remove();
            let Some(partition) =
                self.partitions.get_mut(&position.partition).filter(|partition| partition.epoch == position.epoch)
            else {
                continue;
            };
            let Some(event) = partition.events.get_mut(&position.offset) else { continue };
            match std::mem::replace(&mut event.stage, Stage::Queued) {
                Stage::BackingOff => {
                    self.backing_off = self.backing_off.saturating_sub(1);
                    self.ready.push_back(position);
                }
                Stage::Held(records) => {
                    event.stage = Stage::Settling;
                    partition.held = partition.held.saturating_sub(1);
                    self.held = self.held.saturating_sub(1);
                    self.queue.settle(Settlement { position, records });
                }
                stage @ (Stage::Queued | Stage::Running | Stage::Settling) => event.stage = stage,
            }
        }
    }

    fn start(&mut self) -> Option<Start<J>> {
        while self.drain.is_none() && self.running < self.settings.in_flight_max {
            let position = self.ready.pop_front()?;
            if self.is_leaving(position.partition) {
                continue;
            }
            let last = self.settings.retry.attempts_max;
            let Some(partition) = self.current(position) else { continue };
            let Some(event) = partition.events.get_mut(&position.offset) else { continue };
            let Some(job) = event.job.clone() else { continue };
            event.stage = Stage::Running;
            partition.running += 1;
            let (attempt, effects) = (event.attempt, event.effects.clone());
            self.running += 1;
            return Some(Start { position, job, attempt, last: attempt >= last, effects });
        }
        None
    }

    fn commit(&mut self, now: Instant) -> Option<Batch> {
        if self.load.is_some() || self.commit_after.is_some_and(|at| at > now) {
            return None;
        }
        self.forget_lost();
        if self.queue.is_empty() {
            return None;
        }
        let load = self.queue.take(self.settings.size);
        self.nonce = self.nonce.wrapping_add(1);
        let positions = touched(&load).into_iter().filter_map(|(id, settled)| self.position(id, &settled)).collect();
        let records = load
            .entries
            .iter()
            .map(|entry| &entry.record)
            .chain(load.settlements.iter().flat_map(|settlement| &settlement.records))
            .cloned()
            .collect();
        self.load = Some(load);
        Some(Batch { records, positions })
    }

    /// One immutable snapshot yields the watermark and the map: never read at two moments.
    fn position(&self, id: PartitionId, settled: &BTreeSet<Offset>) -> Option<CommitPosition> {
        let snapshot = self.partitions.get(&id)?.tracker.snapshot(settled);
        let scope = Scope { group: &self.settings.group, topic: &self.settings.topic, partition: id };
        let map = Map { nonce: self.nonce, ..snapshot.map };
        let metadata = map.encode(&scope, snapshot.watermark);
        Some(CommitPosition { partition: id, offset: snapshot.watermark, metadata })
    }

    fn release(&mut self, partition: PartitionId, records: usize, bytes: usize) {
        if records > 0 {
            self.outbox.push_back(Action::Release { partition, records, bytes });
        }
    }

    fn forget(&mut self, id: PartitionId) {
        self.lanes.forget(id);
        self.queue.forget(id);
        let Some(partition) = self.partitions.remove(&id) else { return };
        let backing_off = partition.events.values().filter(|event| matches!(event.stage, Stage::BackingOff));
        self.backing_off = self.backing_off.saturating_sub(backing_off.count());
        self.held = self.held.saturating_sub(partition.held);
    }
}

impl<J> Partition<J> {
    fn publish_at(&mut self, wanted: Instant, ordered: bool) -> Instant {
        if !ordered {
            return wanted;
        }
        let at = self.publish_floor.map_or(wanted, |floor| floor.max(wanted));
        self.publish_floor = Some(at);
        at
    }
}

/// Returns the partitions that a load has anything of, each with the offsets that it settles.
fn touched(load: &Load) -> BTreeMap<PartitionId, BTreeSet<Offset>> {
    let mut touched: BTreeMap<PartitionId, BTreeSet<Offset>> = BTreeMap::new();
    for entry in &load.entries {
        touched.entry(entry.position.partition).or_default();
    }
    for settlement in &load.settlements {
        touched.entry(settlement.position.partition).or_default().insert(settlement.position.offset);
    }
    touched
}
