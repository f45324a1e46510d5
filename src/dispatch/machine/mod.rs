//! Decides which event may start, what waits for what, and what may be committed.
//! Every received event is in exactly one stage until the transaction that carries its result is applied.
//! Never awaits, logs or reads a clock: facts come in by methods, wishes go out by [`Machine::poll`].

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::journal::Effects;
use crate::record::{Epoch, Offset, PartitionId, Position};
use crate::retry::{Pause, RetryPolicy};
use crate::sink::{Batch, Load, Outgoing, Queue, Size};

use super::Ordering;
use super::lanes::{Lane, Lanes};
use super::offsets::Tracker;

mod commits;
mod leaving;
mod pace;
mod runs;
#[cfg(test)]
mod tests;

use leaving::{Drain, Revocation};
use pace::Pace;

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
    /// How long after one another busy transactions begin.
    pub spacing: Duration,
    /// Whether all of a transaction becomes visible, or nothing.
    pub atomic: bool,
    /// The most offsets of a partition that are received and not committed.
    pub unsettled_max: usize,
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
    /// It is not attempted from here on.
    pub deadline: Option<Instant>,
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
    /// Whether a failure of this attempt is final, unless it may move.
    pub last: bool,
    /// Whether it may still move: be repeated at once, without being counted.
    pub may_move: bool,
    /// What earlier attempts, and earlier lives of this process, have already done.
    pub effects: Effects,
}

/// How an attempt ended.
#[derive(Debug)]
pub enum Ended {
    /// The event is settled by these records.
    Done(Vec<Outgoing>),
    /// The attempt failed and may be repeated.
    Retry {
        /// When.
        pause: Pause,
    },
}

/// What the machine wants done.
#[derive(Debug)]
pub enum Action<J> {
    /// Run this attempt; it gives a permit back by [`Machine::ended`] or [`Machine::cancelled`].
    Start(Start<J>),
    /// This event is too late for its next attempt: print that, and end it by [`Machine::shed`].
    Shed {
        /// The event.
        position: Position,
        /// Its job.
        job: J,
        /// How often it was attempted.
        attempts: u32,
    },
    /// Commit this transaction; its outcome comes back by [`Machine::applied`] or [`Machine::aborted`].
    Commit(Batch),
    /// The effect of this ticket is committed: let its run go on.
    Recorded(u64),
    /// Give the reader of a partition room for this much; bytes alone when the partition is given up.
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

/// An event whose records are larger than their topics take.
#[derive(Debug)]
pub struct Oversized<J> {
    /// The event.
    pub position: Position,
    /// Its job, unless it never was one.
    pub job: Option<J>,
    /// How often it was attempted.
    pub attempts: u32,
    /// What was to be published.
    pub records: Vec<Outgoing>,
    /// How large the first record is that is too large.
    pub size: usize,
    /// How large it may be.
    pub limit: usize,
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
    deadline: Option<Instant>,
    attempt: u32,
    /// How often an attempt moved elsewhere instead of counting.
    moves: u32,
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
    /// Offsets that were gone in partitions that were given up, until they are asked for.
    gone: u64,
    queue: Queue,
    load: Option<Load>,
    nonce: u32,
    pace: Pace,
    commit_after: Option<Instant>,
    commit_backoff: Duration,
    outbox: VecDeque<Action<J>>,
    revocation: Option<Revocation>,
    drain: Option<Drain>,
    /// We may have been replaced without knowing: nothing starts until a commit says that we have not.
    in_doubt: bool,
    /// Whether the transaction in flight was begun since.
    clears_doubt: bool,
}

impl<J> Work<J> {
    /// Returns the job, where there is one.
    #[must_use]
    pub fn job(&self) -> Option<&J> {
        match self {
            Self::Run(job) => Some(job),
            Self::Publish(_) => None,
        }
    }
}

impl<J: Clone> Machine<J> {
    /// Returns a machine without partitions. `nonce` is any number that differs from life to life.
    #[must_use]
    pub fn new(settings: Settings, nonce: u32) -> Self {
        Self {
            lanes: Lanes::new(settings.ordering),
            pace: Pace::new(
                settings.spacing,
                settings.size.records_max.min(settings.unsettled_max),
            ),
            settings,
            partitions: BTreeMap::new(),
            ready: VecDeque::new(),
            timers: BTreeMap::new(),
            timer_count: 0,
            running: 0,
            backing_off: 0,
            held: 0,
            gone: 0,
            queue: Queue::default(),
            load: None,
            nonce,
            commit_after: None,
            commit_backoff: COMMIT_BACKOFF,
            outbox: VecDeque::new(),
            revocation: None,
            drain: None,
            in_doubt: false,
            clears_doubt: false,
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

    /// Notes that the process stood still for so long that the group may have given its partitions to another. Nothing
    /// starts, and no model is asked for what another asks already, until a transaction is applied: it carries our
    /// membership, and one without records is made where none is due. A partition that comes meanwhile says nothing: it
    /// may have been given to us, and recovered, before.
    pub fn doubt(&mut self) {
        self.in_doubt = true;
        self.clears_doubt = false;
    }

    /// Says whether we may have been replaced without knowing.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        self.in_doubt
    }

    /// Returns the next thing to do at `now`, until there is nothing.
    pub fn poll(&mut self, now: Instant) -> Option<Action<J>> {
        self.expire(now);
        self.leave(now);
        // Partitions are given up between two transactions: others may keep the queue busy for good.
        self.outbox
            .pop_front()
            .or_else(|| self.given_up())
            .or_else(|| self.commit(now).map(Action::Commit))
            .or_else(|| self.start(now))
            .or_else(|| self.drained())
    }

    /// Returns when [`Machine::poll`] should be asked again, if nothing else happens before.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let timer = self.timers.keys().next().map(|(at, _)| *at);
        let is_due = self.load.is_none() && self.is_due();
        let commit = self.commit_after.max(self.gathers_until()).filter(|_| is_due);
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

    /// Returns how many unsettled offsets turned out not to be there any more, since this was last asked.
    pub fn take_gone(&mut self) -> u64 {
        let partitions = self.partitions.values_mut();
        let gone = partitions.map(|partition| partition.tracker.take_gone()).sum::<u64>();
        gone + std::mem::take(&mut self.gone)
    }

    fn current(&mut self, position: Position) -> Option<&mut Partition<J>> {
        self.partitions
            .get_mut(&position.partition)
            .filter(|partition| partition.epoch == position.epoch)
    }

    fn forget(&mut self, id: PartitionId) {
        self.lanes.forget(id);
        self.queue.forget(id);
        let Some(partition) = self.partitions.remove(&id) else { return };
        self.gone += partition.tracker.gone();
        // The bytes are everybody's; the room for records ends with the assignment.
        self.release(id, 0, partition.events.values().map(|event| event.size).sum());
        let backing_off =
            partition.events.values().filter(|event| matches!(event.stage, Stage::BackingOff));
        self.backing_off = self.backing_off.saturating_sub(backing_off.count());
        self.held = self.held.saturating_sub(partition.held);
    }
}
