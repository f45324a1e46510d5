//! What to do about an error, and how long to wait before trying again.
//!
//! A policy is a value: it yields delays and never sleeps. Randomness comes in from the caller.

use std::time::Duration;

/// What an error asks for. Every error type of weir maps to one by an exhaustive match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Try again after a back-off, at the earliest after `after` where the other side named a time.
    Retry {
        /// The least time to wait, as the other side asked (`Retry-After`).
        after: Option<Duration>,
    },
    /// Try again at once: what failed is one of several, and another of them stands ready.
    Elsewhere,
    /// Trying again can't help: the event ends with a result that says so.
    Reject,
    /// The process itself can't go on.
    Stop,
}

/// How long the next attempt waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// For the back-off, which begins when the time that the other side asked for is over.
    BackOff {
        /// The least time to wait.
        after: Option<Duration>,
    },
    /// Not at all: the attempt moves to where nothing has failed.
    None,
}

impl Pause {
    /// Returns the time that the other side asked for.
    #[must_use]
    pub fn after(self) -> Option<Duration> {
        match self {
            Self::BackOff { after } => after,
            Self::None => None,
        }
    }
}

impl Disposition {
    /// Returns whether trying again may help.
    #[must_use]
    pub fn is_retry(self) -> bool {
        match self {
            Self::Retry { .. } | Self::Elsewhere => true,
            Self::Reject | Self::Stop => false,
        }
    }
}

/// Exponential back-off with full jitter, bounded in time and in number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all, the first one included; at least 1.
    pub attempts_max: u32,
    /// The upper bound of the first delay.
    pub base: Duration,
    /// The upper bound of every delay.
    pub max: Duration,
}

impl RetryPolicy {
    /// Returns the wait after the failure of attempt `attempt` (from 1), or `None` when it was the last.
    ///
    /// The delay is uniform in `[0, min(max, base * 2^(attempt - 1))]`, so that many failures at once
    /// don't come back at once, and begins when `after` is over. `random` in `[0, 1)` comes from the caller.
    #[must_use]
    pub fn delay(&self, attempt: u32, after: Option<Duration>, random: f64) -> Option<Duration> {
        if attempt >= self.attempts_max {
            return None;
        }
        let doublings = attempt.saturating_sub(1).min(31);
        let ceiling = self.base.saturating_mul(1 << doublings).min(self.max);
        let jittered = ceiling.mul_f64(random.clamp(0.0, 1.0));
        Some(jittered.saturating_add(after.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy =
        RetryPolicy { attempts_max: 4, base: Duration::from_secs(1), max: Duration::from_secs(3) };

    #[test]
    fn delays_double_up_to_the_maximum_and_end_with_the_attempts() {
        let delays: Vec<_> = (1..=4).map(|attempt| POLICY.delay(attempt, None, 1.0)).collect();

        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(delays, [seconds(1), seconds(2), seconds(3), None]);
    }

    #[test]
    fn the_other_sides_wish_is_the_least_delay() {
        let asked = Duration::from_secs(30);

        assert_eq!(POLICY.delay(1, Some(asked), 0.0), Some(asked));
        assert_eq!(POLICY.delay(1, Some(asked), 0.5), Some(asked + POLICY.base / 2));
        assert_eq!(POLICY.delay(4, Some(asked), 0.5), None);
    }

    #[test]
    fn a_huge_attempt_number_overflows_nothing() {
        let policy = RetryPolicy { attempts_max: u32::MAX, ..POLICY };

        assert_eq!(policy.delay(u32::MAX - 1, None, 1.0), Some(POLICY.max));
    }
}
