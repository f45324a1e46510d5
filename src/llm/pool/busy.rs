//! Whether an endpoint has refused calls of a model because it had too much to do, and how many it is sent since.
//!
//! After a refusal it is left alone for as long as it asked, and no shorter than a rest that doubles while it answers
//! nobody. Then it is sent one call, or as many as it kept when it refused, and one more for each that it answers, up
//! to all permits. Never reads a clock.

use std::time::Duration;

use tokio::time::Instant;

use super::breaker::Limits;

/// How many refusals in a row are waited out: by the default rests, eleven seconds. One that goes on refusing is not
/// busy but of no use, and its calls have to come to an end.
const WAITED_OUT_MAX: u32 = 4;

/// What is known of the load of a model's endpoint.
#[derive(Debug, Clone, Default)]
pub(super) struct Busy {
    until: Option<Instant>,
    /// The last rest; zero after an answer.
    rest: Duration,
    /// How many calls it is sent at once; `None` is no fewer than there are permits.
    room: Option<usize>,
    /// How often it has refused since it answered a call.
    refusals: u32,
}

impl Busy {
    /// Returns until when it is left alone.
    pub(super) fn until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }

    /// Returns how many calls it is sent at once, of so many permits.
    pub(super) fn room(&self, permits: usize) -> usize {
        self.room.map_or(permits, |room| room.min(permits))
    }

    /// Returns whether a call that is sent now only tries how much it takes, and costs nothing if it is refused.
    pub(super) fn is_tried(&self) -> bool {
        self.room.is_some() && self.refusals <= WAITED_OUT_MAX
    }

    /// Returns whether it has answered nobody since it refused a call.
    pub(super) fn is_doubted(&self) -> bool {
        !self.rest.is_zero()
    }

    /// Takes note of a refusal, with the time that the endpoint asked for; so many other calls are still open there.
    pub(super) fn refused(
        &mut self,
        asked: Option<Duration>,
        open: usize,
        limits: Limits,
        now: Instant,
    ) {
        // Calls that were sent together are refused together: that is one refusal.
        if self.until(now).is_none() {
            self.rest = (self.rest * 2).max(limits.rest).min(limits.rest_max);
            self.until = Some(now + self.rest);
            self.refusals = self.refusals.saturating_add(1);
        }
        self.room = Some(open.max(1));
        self.leave_alone(asked.unwrap_or_default(), now);
    }

    /// Leaves it alone for at least so long.
    pub(super) fn leave_alone(&mut self, asked: Duration, now: Instant) {
        self.until = self.until.max(Some(now + asked));
    }

    /// Takes note of an answer. What the endpoint asked for still holds: the call may be older.
    pub(super) fn answered(&mut self, permits: usize) {
        self.refusals = 0;
        self.took(permits);
    }

    /// Takes note of a call that was not refused, however badly it ended: there was room for it.
    pub(super) fn took(&mut self, permits: usize) {
        self.rest = Duration::ZERO;
        self.room = self.room.map(|room| room + 1).filter(|room| *room < permits);
    }
}
