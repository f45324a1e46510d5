//! When the next transaction may begin.
//!
//! A transaction costs the broker and librdkafka about as much as a few hundred records do. Where little happens it
//! begins at once. Where much does, it waits a little for more, but never for what can't come.

use std::time::Duration;

use tokio::time::Instant;

use super::Machine;

/// So much in a millisecond, effects and ended events, is not busy.
const CALM_PER_MS: u128 = 3;

/// So much at once is not either. The answers of 32 models that come in step are a quarter of it: what was paid for is
/// committed at once.
const BURST: usize = 128;

/// So many are enough for any transaction. One run that takes long must not keep a full window from reaching it.
const ENOUGH: usize = 900;

/// How transactions follow one another.
#[derive(Debug)]
pub(super) struct Pace {
    spacing: Duration,
    /// From how much pressure on it is busy.
    busy: usize,
    enough: usize,
    begun: Option<Instant>,
    /// A leaky bucket: what transactions carried, less what the calm rate lets out; at most twice what is busy.
    pressure: usize,
}

impl Pace {
    /// Busy transactions begin `spacing` after one another, or as soon as nine tenths of what can come are there.
    pub(super) fn new(spacing: Duration, load_max: usize) -> Self {
        let (busy, enough) = (BURST.max(calm(spacing)), (load_max - load_max / 10).min(ENOUGH));
        Self { spacing, busy, enough, begun: None, pressure: 0 }
    }

    /// Takes note of a transaction that begins now with so much.
    pub(super) fn begin(&mut self, load: usize, now: Instant) {
        let since = self.begun.map_or(Duration::MAX, |begun| now.saturating_duration_since(begun));
        let left = self.pressure.saturating_sub(calm(since));
        self.pressure = left.saturating_add(load).min(2 * self.busy);
        self.begun = Some(now);
    }

    /// Returns until when the next transaction waits for more than so much; `None` when it does not.
    fn until(&self, load: usize) -> Option<Instant> {
        let begun = self.begun.filter(|_| self.pressure >= self.busy && load < self.enough)?;
        begun.checked_add(self.spacing)
    }
}

/// Returns how much may come in a span without being busy.
fn calm(span: Duration) -> usize {
    let per_ms = span.as_micros().saturating_mul(CALM_PER_MS) / 1_000;
    usize::try_from(per_ms).unwrap_or(usize::MAX)
}

impl<J> Machine<J> {
    /// Returns until when the next transaction waits for more; `None` when it does not.
    pub(super) fn gathers_until(&self) -> Option<Instant> {
        let until = self.pace.until(self.queue.len())?;
        let is_pressed = self.drain.is_some() || self.revocation.is_some() || self.in_doubt;
        // Runs that all wait for their effects to be committed bring nothing more.
        let stands_still = self.running > 0 && self.queue.waited_for() >= self.running;
        (!is_pressed && !stands_still).then_some(until)
    }
}
