//! Attempts and their effects: started, cancelled, taken in when they end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures_util::FutureExt;
use jiff::Timestamp;
use tokio::task::coop::unconstrained;
use tokio::task::{Id, JoinError};
use tokio::time::Instant;
use tracing::{Instrument, Level, Span, enabled, error, info, warn};

use crate::failpoint::{self, Point};
use crate::journal::Effect;
use crate::record::Position;
use crate::sink::{Outgoing, Publisher};
use crate::workflow::{Attempt, Finished, Job, Outcome, Request, run_span};

use super::super::machine::{Ended, Start};
use super::{Driver, TURN_MAX};

impl<P: Publisher> Driver<P> {
    /// Takes a run as far as it comes without waiting. Many end there, at a tenth of what a task costs; the others
    /// go on as one.
    pub(super) fn start(&mut self, start: Start<Job>, now: Instant) {
        let Start { position, job, attempt: number, last, may_move, effects } = start;
        let attempt = Attempt { position, job: job.clone(), number, last, may_move, effects };
        let runner = Arc::clone(&self.parts.runner);
        let mut run = Box::pin(async move { runner.attempt(attempt).await });
        // The graph's limits bound how far it comes; the task's own budget would make it a task all the same.
        let first = || unconstrained(run.as_mut()).now_or_never();
        let finished = match catch_unwind(AssertUnwindSafe(first)) {
            Ok(Some(finished)) => Some(finished),
            Err(_) => None,
            Ok(None) => {
                let handle = self.runs.spawn(run.instrument(self.span(position, &job, number)));
                self.running.insert(handle.id(), (position, job));
                self.handles.insert(position, handle);
                return;
            }
        };
        self.take_pending_requests();
        self.finished(position, &job, finished, now);
    }

    /// Returns the span of a run that waits: none unless its steps are logged, since a run's end has one of its own.
    fn span(&self, position: Position, job: &Job, attempt: u32) -> Span {
        if enabled!(Level::DEBUG) {
            run_span(self.parts.press.topic(), position, job, attempt)
        } else {
            Span::none()
        }
    }

    pub(super) fn cancel(&self, position: Position) {
        if let Some(handle) = self.handles.get(&position) {
            let Position { partition, offset, .. } = position;
            info!(
                partition = partition.0,
                offset = offset.0,
                "cancelled run; its effects are in the journal"
            );
            handle.abort();
        }
    }

    pub(super) fn take_ended(&mut self, first: Result<(Id, Finished), JoinError>) {
        let now = Instant::now();
        self.ended(first, now);
        for _ in 1..TURN_MAX {
            let Some(ended) = self.runs.try_join_next_with_id() else { break };
            self.ended(ended, now);
        }
    }

    fn ended(&mut self, ended: Result<(Id, Finished), JoinError>, now: Instant) {
        // What a run has asked to be recorded comes before its end, or its next attempt would not know of it, and a
        // cancelled run's answer would be lost.
        self.take_pending_requests();
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(failed) => failed.id(),
        };
        let Some((position, job)) = self.running.remove(&id) else { return };
        self.handles.remove(&position);
        match ended {
            Ok((_, finished)) => self.finished(position, &job, Some(finished), now),
            Err(failed) if failed.is_cancelled() => self.machine.cancelled(position),
            Err(_) => self.finished(position, &job, None, now),
        }
    }

    /// Takes the end of an attempt; `None` is a panic outside of any node.
    fn finished(
        &mut self,
        position: Position,
        job: &Job,
        finished: Option<Finished>,
        now: Instant,
    ) {
        let ended = match finished {
            Some(Finished::Done { outcome, effects }) => {
                if self.machine.records_at_end(position, now) {
                    self.take_effects(position, effects);
                }
                Ended::Done(self.count(outcome))
            }
            Some(Finished::Retry { class, pause, effects }) => {
                self.take_effects(position, effects);
                self.parts.metrics.retry(class);
                Ended::Retry { pause }
            }
            None => {
                error!(event_id = %job.event.event_id, "run panicked outside a node");
                let outcome = self.parts.press.panicked(job, position, Timestamp::now());
                Ended::Done(self.count(outcome))
            }
        };
        failpoint::reach(Point::SettleEnded);
        self.machine.ended(position, ended, || spread(position), now);
        failpoint::reach(Point::SettleQueued);
    }

    pub(super) fn count(&self, outcome: Outcome) -> Vec<Outgoing> {
        if let Some(status) = outcome.status {
            self.parts.metrics.result(status);
        }
        if let Some(class) = outcome.class {
            self.parts.metrics.dead_letter(class);
        }
        outcome.records
    }

    pub(super) fn take_requests(&mut self, first: Request) {
        self.take_request(first);
        self.take_pending_requests();
    }

    fn take_pending_requests(&mut self) {
        // All that there is room for: none of a run that has ended is left behind.
        for _ in 0..self.parts.requests.max_capacity() {
            let Ok(request) = self.parts.requests.try_recv() else { break };
            self.take_request(request);
        }
    }

    fn take_effects(&mut self, position: Position, effects: Vec<Effect>) {
        for effect in effects {
            self.take_request(self.parts.runner.request(position, effect));
        }
    }

    fn take_request(&mut self, request: Request) {
        failpoint::reach(Point::JournalAsked);
        let Request { position, effect, record, committed } = request;
        let ticket = committed.map(|committed| {
            self.ticket += 1;
            self.tickets.insert(self.ticket, committed);
            self.ticket
        });
        let record = record.filter(|record| self.fits(position, record));
        if !self.machine.record(position, effect, record, ticket) {
            // Its partition is given up, and nobody will answer.
            ticket.and_then(|ticket| self.tickets.remove(&ticket));
        }
    }

    /// Says whether the journal takes a record. One that it does not take is given up at once, or its whole transaction
    /// would be refused for it.
    fn fits(&self, position: Position, record: &Outgoing) -> bool {
        let (size, limit) = (record.size(), self.parts.press.limits().journal_max);
        if size > limit {
            let Position { partition, offset, .. } = position;
            warn!(
                partition = partition.0,
                offset = offset.0,
                size,
                limit,
                "an answer is larger than the journal takes: its run goes on without it being recorded"
            );
        }
        size <= limit
    }

    pub(super) fn recorded(&mut self, ticket: u64) {
        if let Some(run) = self.tickets.remove(&ticket) {
            // A run that was cancelled meanwhile doesn't listen any more.
            run.send(()).ok();
        }
    }
}

/// Returns a number in `[0, 1)` that spreads the retries of many events without a generator of its own.
fn spread(position: Position) -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let hash = RandomState::new().hash_one(position);
    f64::from(u32::try_from(hash >> 32).unwrap_or(0)) / (f64::from(u32::MAX) + 1.0)
}
