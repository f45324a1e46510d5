//! A call's place in line: where it is told what becomes of it.

use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

use super::silence::Pulse;
use crate::llm::error::Fault;

/// A call in line. Costs no timer and no task: the first in line wakes for all others.
#[derive(Debug, Default)]
pub(in crate::llm) struct Seat {
    word: OnceLock<Word>,
    told: Notify,
}

/// What becomes of a call in line.
#[derive(Debug, Clone)]
pub(in crate::llm) enum Word {
    /// Its turn has come.
    Granted(Grant),
    /// Its model can't be had here now, and another may answer in its place.
    Leave,
    /// It has waited long enough for endpoints that rest; this is what the last call of one of them came to.
    Failed(usize, Fault),
}

/// A permit of a model at an endpoint, by their numbers.
#[derive(Debug, Clone)]
pub(in crate::llm) struct Grant {
    pub(in crate::llm) place: usize,
    pub(in crate::llm) model: usize,
    /// Whether the endpoint has to change its model for it.
    pub(in crate::llm) is_swap: bool,
    /// Whether the endpoint has refused calls, and this one only tries how much it takes.
    pub(in crate::llm) is_try: bool,
    /// Whether the endpoint has rested, and this one decides whether it is asked again.
    pub(in crate::llm) is_trial: bool,
    pub(in crate::llm) pulse: Arc<Pulse>,
}

impl Seat {
    pub(in crate::llm) fn word(&self) -> Option<&Word> {
        self.word.get()
    }

    /// Waits to be told something, or to be woken as the first in line.
    pub(in crate::llm) async fn told(&self) {
        self.told.notified().await;
    }

    /// Tells what becomes of the call; only the first word counts.
    pub(super) fn tell(self: Arc<Self>, word: Word) {
        self.word.set(word).unwrap_or_default();
        self.told.notify_one();
    }

    pub(super) fn wake(&self) {
        self.told.notify_one();
    }
}
