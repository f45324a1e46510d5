//! The way of an event through its stages: received, queued, running, backing off, held, settling.

use std::time::Duration;

use tokio::time::Instant;

use crate::journal::Effect;
use crate::record::Position;
use crate::retry::Pause;
use crate::sink::{Entry, Outgoing, Settlement};

use super::super::Ordering;
use super::super::offsets::Received;
use super::{Action, Arrival, Ended, Event, Machine, Partition, Stage, Start, Work};

impl<J: Clone> Machine<J> {
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

    /// Says whether a record may be received: else its partition's map might be longer than a broker takes.
    /// What has no room waits, and all behind it, until something has been committed.
    #[must_use]
    pub fn has_room_for(&self, position: Position) -> bool {
        let partition = self.partitions.get(&position.partition);
        partition.is_none_or(|partition| partition.tracker.has_room_for(position.offset))
    }

    /// Takes an event that [`Machine::receive`] wanted.
    pub fn admit(&mut self, arrival: Arrival<J>, now: Instant) {
        let Arrival { position, key, size, publish_at, deadline, work } = arrival;
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
        let event = Event {
            job,
            lane: lane.clone(),
            size,
            publish_at,
            deadline,
            attempt: 1,
            moves: 0,
            effects,
            stage: Stage::Queued,
        };
        partition.events.insert(position.offset, event);
        if let Some(records) = records {
            self.finish(position, records, now);
        } else if lane.is_none_or(|lane| self.lanes.enter(&lane, position.offset)) {
            self.ready.push_back(position);
        }
    }

    /// Takes the outcome of an attempt. `random`, in `[0, 1)`, spreads the retries.
    pub fn ended<R>(&mut self, position: Position, ended: Ended, random: R, now: Instant)
    where
        R: FnOnce() -> f64,
    {
        let retry = self.settings.retry.clone();
        let Some(event) = self.give_back_permit(position) else { return };
        match ended {
            Ended::Done(records) => self.finish(position, records, now),
            Ended::Retry { pause } => {
                let delay = match pause {
                    // A move is no attempt: nothing was wrong with the event. As many as there are attempts.
                    Pause::None if event.moves < retry.attempts_max => {
                        event.moves += 1;
                        Duration::ZERO
                    }
                    Pause::None | Pause::BackOff { .. } => {
                        let delay = retry.delay(event.attempt, pause.after(), random());
                        event.attempt += 1;
                        delay.unwrap_or(retry.max)
                    }
                };
                // Its time may be over before: then that is what happens next, not another attempt.
                let next = event.deadline.map_or(now + delay, |end| end.min(now + delay));
                event.stage = Stage::BackingOff;
                self.backing_off += 1;
                self.schedule(next, position);
            }
        }
    }

    /// Ends an event as [`Action::Shed`] asked.
    pub fn shed(&mut self, position: Position, records: Vec<Outgoing>, now: Instant) {
        if self.current(position).is_some() {
            self.finish(position, records, now);
        }
    }

    /// Takes note that a cancelled run is gone: nothing of it will come any more.
    pub fn cancelled(&mut self, position: Position) {
        if let Some(event) = self.give_back_permit(position) {
            event.stage = Stage::Queued;
        }
    }

    /// Remembers an effect of a run, and writes it to the journal when there is a record for it.
    /// A `ticket` is answered by [`Action::Recorded`] once the effect is committed (or at once without a record); never
    /// when this returns `false`, as the event is not ours any more.
    pub fn record(
        &mut self,
        position: Position,
        effect: Effect,
        record: Option<Outgoing>,
        ticket: Option<u64>,
    ) -> bool {
        let Some(event) = self.current(position).and_then(|p| p.events.get_mut(&position.offset))
        else {
            return false;
        };
        event.effects.insert(effect);
        match (record, ticket) {
            (Some(record), ticket) => self.queue.record(Entry { position, record, ticket }),
            (None, Some(ticket)) => self.outbox.push_back(Action::Recorded(ticket)),
            (None, None) => {}
        }
        true
    }

    /// Says whether an event's last effects have to be recorded, if it ends now: its result might come without them, or
    /// later. Else both would go into the same transaction, and the result says what they do.
    #[must_use]
    pub fn records_at_end(&self, position: Position, now: Instant) -> bool {
        let partition = self.partitions.get(&position.partition);
        let event = partition.and_then(|partition| partition.events.get(&position.offset));
        let is_held = event.is_some_and(|event| event.publish_at > now);
        is_held || self.queue.is_behind() || !self.settings.atomic
    }

    fn give_back_permit(&mut self, position: Position) -> Option<&mut Event<J>> {
        self.running = self.running.saturating_sub(1);
        let partition = self
            .partitions
            .get_mut(&position.partition)
            .filter(|partition| partition.epoch == position.epoch)?;
        partition.running = partition.running.saturating_sub(1);
        partition.events.get_mut(&position.offset)
    }

    /// Ends an event's run: its lane goes on at once, its result when it is old enough.
    fn finish(&mut self, position: Position, records: Vec<Outgoing>, now: Instant) {
        self.expire(now);
        let Some(partition) = self.partitions.get_mut(&position.partition) else { return };
        let Some(event) = partition.events.get_mut(&position.offset) else { return };
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
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(timer) = self.timers.first_entry().filter(|timer| timer.key().0 <= now) {
            let position = timer.remove();
            let Some(partition) = self
                .partitions
                .get_mut(&position.partition)
                .filter(|partition| partition.epoch == position.epoch)
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

    /// Starts what may start. What is too late is told here and not before, so that it keeps its place among those
    /// that wait for one another.
    pub(super) fn start(&mut self, now: Instant) -> Option<Action<J>> {
        while self.drain.is_none() && !self.in_doubt && self.running < self.settings.in_flight_max {
            let position = self.ready.pop_front()?;
            if self.is_leaving(position.partition) {
                continue;
            }
            let attempts_max = self.settings.retry.attempts_max;
            let Some(partition) = self.current(position) else { continue };
            let Some(event) = partition.events.get_mut(&position.offset) else { continue };
            let Some(job) = event.job.clone() else { continue };
            if event.deadline.is_some_and(|end| end <= now) {
                return Some(Action::Shed { position, job, attempts: event.attempt - 1 });
            }
            event.stage = Stage::Running;
            partition.running += 1;
            let (attempt, effects) = (event.attempt, event.effects.clone());
            let (last, may_move) = (attempt >= attempts_max, event.moves < attempts_max);
            self.running += 1;
            let start = Start { position, job, attempt, last, may_move, effects };
            return Some(Action::Start(start));
        }
        None
    }
}

impl<J> Partition<J> {
    pub(super) fn publish_at(&mut self, wanted: Instant, ordered: bool) -> Instant {
        if !ordered {
            return wanted;
        }
        let at = self.publish_floor.map_or(wanted, |floor| floor.max(wanted));
        self.publish_floor = Some(at);
        at
    }
}
