//! What is known of a model at an endpoint.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::board::Ending;
use super::breaker::{Blame, Breaker, Pass};
use super::busy::Busy;
use super::silence::Pulse;
use crate::llm::error::Fault;

/// A model at an endpoint.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) calls: usize,
    /// Whether it is believed to be loaded: its last call was, or the endpoint says so.
    pub(super) resident: bool,
    pub(super) breaker: Breaker,
    pub(super) unfit_until: Option<Instant>,
    pub(super) busy: Busy,
    /// How long it took to load, the last time that it had to be.
    pub(super) load: Option<Duration>,
    /// What it said when it failed last; none since it answered.
    pub(super) fault: Option<Fault>,
    pub(super) pulse: Arc<Pulse>,
}

impl Cell {
    pub(super) fn new(epoch: Instant) -> Self {
        Self {
            calls: 0,
            resident: false,
            breaker: Breaker::default(),
            unfit_until: None,
            busy: Busy::default(),
            load: None,
            fault: None,
            pulse: Arc::new(Pulse::new(epoch)),
        }
    }

    /// Returns what it lets through, as far as it goes by time.
    pub(super) fn pass(&self, now: Instant) -> Pass {
        match (self.breaker.pass(now), self.busy.until(now)) {
            (Pass::Free | Pass::Trial, Some(until)) => Pass::Until(until),
            (pass @ (Pass::Free | Pass::Trial | Pass::Until(_) | Pass::Tried), _) => pass,
        }
    }

    /// Returns whether it may serve the model, whatever else is the matter with it.
    pub(super) fn is_fit(&self, now: Instant) -> bool {
        self.unfit_until.is_none_or(|until| until <= now)
    }

    /// Takes note of what a call's end says about the endpoint, which the caller's own mistake does not.
    pub(super) fn ended(&mut self, ending: &Ending<'_>) {
        match ending.blame {
            Blame::Nobody if ending.fault.is_none() => self.fault = None,
            Blame::Nobody | Blame::Unknown => {}
            Blame::Load
            | Blame::Unfit
            | Blame::Endpoint
            | Blame::Connection
            | Blame::Stuck
            | Blame::Deaf => self.fault = ending.fault.cloned().or_else(|| self.fault.take()),
        }
    }

    /// Returns whether it failed a moment ago, or refused a call the last time it was asked.
    pub(super) fn is_doubted(&self, now: Instant) -> bool {
        self.breaker.is_doubted(now) || self.busy.is_doubted()
    }
}
