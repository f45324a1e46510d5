//! What comes from the source: assignments, records, revocations.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::event::{self, Defaults, EventType};
use crate::failpoint::{self, Point};
use crate::journal::Effects;
use crate::record::{Offset, Position, Record};
use crate::sink::Publisher;
use crate::source::{self, Recovered};
use crate::workflow::Job;

use super::super::machine::{Arrival, Work};
use super::super::offsets::Tracker;
use super::{Driver, TURN_MAX};

impl<P: Publisher> Driver<P> {
    pub(super) fn take_events(&mut self, first: source::Event) {
        self.take_event(first);
        for _ in 1..TURN_MAX {
            let Ok(event) = self.parts.events.try_recv() else { break };
            self.take_event(event);
        }
    }

    fn take_event(&mut self, event: source::Event) {
        match event {
            source::Event::Assigned(recovered) => {
                recovered.into_iter().for_each(|one| self.assign(one))
            }
            source::Event::Records(records) => self.receive(records),
            source::Event::Revoked { partitions, lost, done } => {
                debug!(?partitions, lost, "giving partitions up");
                self.revoked = Some(done);
                let grace = if lost { Duration::ZERO } else { self.parts.revoke_grace };
                self.machine.revoke(partitions, lost, Instant::now() + grace);
                failpoint::reach(Point::RevokeGrace);
            }
        }
    }

    fn assign(&mut self, recovered: Recovered) {
        let Recovered { partition, epoch, start, map, effects, journal_end, window } = recovered;
        failpoint::reach(Point::RecoveryTold);
        let mut runs: HashMap<Offset, Effects> = HashMap::new();
        let first: Vec<_> = effects.iter().map(|(at, effect)| (effect.offset, *at)).collect();
        for (_, effect) in effects {
            runs.entry(effect.offset).or_default().insert(effect);
        }
        info!(
            partition = partition.0,
            offset = start.0,
            resumed = runs.len(),
            "took over partition"
        );
        let tracker = match map {
            Some(map) => Tracker::restore(start, map, first, journal_end),
            None => Tracker::start(start, journal_end),
        };
        self.windows.insert(partition, window);
        self.machine.assign(partition, epoch, tracker, runs);
        failpoint::reach(Point::RecoveryDone);
    }

    fn receive(&mut self, records: Vec<Record>) {
        self.parts.metrics.records_consumed(records.len() as u64);
        let Some(partition) = records.first().map(|record| record.position.partition) else {
            return;
        };
        match self.backlog.get_mut(&partition) {
            Some(backlog) => backlog.extend(records),
            None => self.admit(records),
        }
    }

    /// Takes what waited for its partition's map to become shorter.
    pub(super) fn take_backlog(&mut self) {
        for records in std::mem::take(&mut self.backlog).into_values() {
            self.admit(records);
        }
    }

    fn admit(&mut self, records: Vec<Record>) {
        let now = Instant::now();
        let wall = Timestamp::now();
        let mut ignored = 0;
        let mut records = records.into_iter();
        while let Some(record) = records.next() {
            if !self.machine.has_room_for(record.position) {
                let partition = record.position.partition;
                self.backlog.insert(partition, std::iter::once(record).chain(records).collect());
                break;
            }
            let size = record.size();
            failpoint::reach(Point::ReceiveTaken);
            if !self.machine.receive(record.position, size) {
                continue;
            }
            let work = self.decode(&record, now, wall);
            ignored += u64::from(matches!(&work, Work::Publish(records) if records.is_empty()));
            let publish_at = now + self.too_young(record.timestamp_ms, wall);
            let deadline = work.job().and_then(|job| Some(job.expiry?.at));
            let Record { position, key, .. } = record;
            self.machine.admit(Arrival { position, key, size, publish_at, deadline, work }, now);
            failpoint::reach(Point::ReceiveTracked);
        }
        self.parts.metrics.ignored(ignored);
    }

    fn decode(&mut self, record: &Record, now: Instant, wall: Timestamp) -> Work<Job> {
        let defaults = || Defaults::of(self.parts.press.topic(), record);
        match event::decode(record.value.as_deref(), defaults) {
            Ok(event) => match event.event_type {
                EventType::Triggered => Work::Run(Job {
                    event: Arc::new(event),
                    timestamp_ms: record.timestamp_ms,
                    expiry: self.expiry(record, now, wall),
                    ledger: self.parts.runner.ledger(),
                }),
                EventType::Completed | EventType::Failed | EventType::Result => {
                    Work::Publish(Vec::new())
                }
            },
            Err(invalid) => {
                let Position { partition, offset, .. } = record.position;
                warn!(partition = partition.0, offset = offset.0, error = %invalid, "refused event");
                let outcome = self.parts.press.refused(record, &invalid, wall);
                Work::Publish(self.count(outcome))
            }
        }
    }

    /// Returns how long a result must still be held back, so that a client that subscribes only after
    /// publishing can see it.
    fn too_young(&self, timestamp_ms: Option<i64>, wall: Timestamp) -> Duration {
        let min = self.parts.result_min_age;
        let age_ms = timestamp_ms.map_or(0, |at| wall.as_millisecond().saturating_sub(at).max(0));
        min.saturating_sub(Duration::from_millis(age_ms.unsigned_abs()))
    }
}
