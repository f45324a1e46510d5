//! What one run may use of its models, over all of its attempts, and what it has used.
//!
//! An answer from the journal counts, since it was paid for, whichever life of the process paid. A call without an
//! answer counts for as long as this process lives: nothing else knows of it. A limit is looked at before a call, so
//! the last call may go beyond it, and none is cut off.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::journal::{Effects, Usage};
use crate::llm::QueueTime;

use super::Config;

/// The limits; zero is none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    calls: u64,
    tokens: u64,
    time: Duration,
}

/// What a run has used, over all of its attempts. Clones count together.
///
/// Empty where there are no limits: then nothing is counted.
#[derive(Debug, Clone, Default)]
pub struct Ledger(Option<Arc<Mutex<Used>>>);

/// Calls, and what they took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Used {
    /// Whether what the journal tells is in it.
    entered: bool,
    calls: u64,
    tokens: u64,
    time: Duration,
}

/// The limit that a run has reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Exhausted {
    /// Calls of a model.
    #[error("WORKFLOW_BUDGET_CALLS={limit} is used up: {used} calls")]
    Calls {
        /// The limit.
        limit: u64,
        /// What was used.
        used: u64,
    },
    /// Tokens, of prompts and answers.
    #[error("WORKFLOW_BUDGET_TOKENS={limit} is used up: {used} tokens")]
    Tokens {
        /// The limit.
        limit: u64,
        /// What was used.
        used: u64,
    },
    /// Time in calls.
    #[error(
        "WORKFLOW_BUDGET_TIME={} is used up: {} in calls",
        humantime::format_duration(*limit),
        humantime::format_duration(*used)
    )]
    Time {
        /// The limit.
        limit: Duration,
        /// What was used.
        used: Duration,
    },
}

/// Measures the calls of one attempt. Calls that are open when it is dropped have failed.
#[derive(Debug)]
pub(super) struct Meter<'a> {
    budget: Budget,
    ledger: &'a Ledger,
    queue_time: QueueTime,
    open: Mutex<Vec<Call>>,
}

/// A call that has begun.
#[derive(Debug)]
struct Call {
    node: String,
    visit: u32,
    begun: Instant,
    /// How long the run had stood in line before.
    queued: Duration,
}

impl Budget {
    /// Takes the limits of the configuration.
    pub(super) fn of(config: &Config) -> Self {
        let Config { budget_calls: calls, budget_tokens: tokens, budget_time: time, .. } = *config;
        Self { calls, tokens, time }
    }

    /// Returns the ledger of a run that has used nothing.
    pub(super) fn ledger(self) -> Ledger {
        let is_limited = self.calls > 0 || self.tokens > 0 || !self.time.is_zero();
        Ledger(is_limited.then(Arc::default))
    }

    fn check(self, used: Used) -> Result<(), Exhausted> {
        let Self { calls, tokens, time } = self;
        if calls > 0 && used.calls >= calls {
            return Err(Exhausted::Calls { limit: calls, used: used.calls });
        }
        if tokens > 0 && used.tokens >= tokens {
            return Err(Exhausted::Tokens { limit: tokens, used: used.tokens });
        }
        if !time.is_zero() && used.time >= time {
            return Err(Exhausted::Time { limit: time, used: used.time });
        }
        Ok(())
    }
}

impl Ledger {
    /// Enters what is known of a run before its first attempt in this life: its journaled effects. Only the first
    /// time counts: what comes later is counted as it happens.
    pub(super) fn enter(&self, effects: &Effects) {
        self.change(|used| {
            if std::mem::replace(&mut used.entered, true) {
                return;
            }
            for effect in effects.iter() {
                used.calls = used.calls.saturating_add(1);
                used.tokens = used.tokens.saturating_add(tokens(effect.usage));
                used.time = used.time.saturating_add(effect.took.unwrap_or_default());
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Used)) {
        if let Some(used) = &self.0 {
            change(&mut locked(used));
        }
    }
}

impl<'a> Meter<'a> {
    /// Returns the meter of an attempt; time in `queue_time` is no time of a call.
    pub(super) fn new(budget: Budget, ledger: &'a Ledger, queue_time: QueueTime) -> Self {
        Self { budget, ledger, queue_time, open: Mutex::default() }
    }

    /// Begins a call, where the budget has one left.
    pub(super) fn begin(&self, node: &str, visit: u32) -> Result<(), Exhausted> {
        let (budget, mut checked) = (self.budget, Ok(()));
        self.ledger.change(|used| {
            checked = budget.check(*used);
            used.calls = used.calls.saturating_add(u64::from(checked.is_ok()));
        });
        checked?;
        let (begun, queued) = (Instant::now(), self.queue_time.total());
        locked(&self.open).push(Call { node: node.to_owned(), visit, begun, queued });
        Ok(())
    }

    /// Ends a call with its answer, and returns how long it took: whole milliseconds, as the journal keeps it, so that
    /// a later life counts the same.
    pub(super) fn end(&self, node: &str, visit: u32, usage: Option<Usage>) -> Option<Duration> {
        let mut open = locked(&self.open);
        let at = open.iter().position(|call| (call.node.as_str(), call.visit) == (node, visit))?;
        let took = self.took(&open.swap_remove(at));
        drop(open);
        let took = Duration::from_millis(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        self.ledger.change(|used| {
            used.tokens = used.tokens.saturating_add(tokens(usage));
            used.time = used.time.saturating_add(took);
        });
        Some(took)
    }

    fn took(&self, call: &Call) -> Duration {
        let queued = self.queue_time.total().saturating_sub(call.queued);
        call.begun.elapsed().saturating_sub(queued)
    }
}

impl Drop for Meter<'_> {
    fn drop(&mut self) {
        let open = std::mem::take(&mut *locked(&self.open));
        for call in &open {
            let took = self.took(call);
            self.ledger.change(|used| used.time = used.time.saturating_add(took));
        }
    }
}

fn tokens(usage: Option<Usage>) -> u64 {
    usage.map_or(0, |usage| usage.input_tokens.saturating_add(usage.output_tokens))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
