//! When an event is too late to be worked on, and by whose word.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::record::DEADLINE_HEADER;

/// The end of an event's time. What is not finished by then is stopped, and ends with a result that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// When it is.
    pub at: Instant,
    /// What set it.
    pub late: Late,
}

/// Why an event is too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Late {
    /// The deadline that came with it.
    Deadline(Timestamp),
    /// `WORKFLOW_EVENT_TTL`.
    Age(Duration),
}

impl Expiry {
    /// Returns the end of an event's time, where it has one: the earlier of `deadline` and the age `ttl`, which is
    /// counted from the record's timestamp and is none when zero. `now` and `wall` are one moment on two clocks.
    ///
    /// The wall clock is asked this once: whatever it does later, the event's end stays.
    #[must_use]
    pub fn of(
        deadline: Option<Timestamp>,
        (timestamp_ms, ttl): (Option<i64>, Duration),
        (now, wall): (Instant, Timestamp),
    ) -> Option<Self> {
        let by_deadline = deadline.map(|at| (at.as_millisecond(), Late::Deadline(at)));
        let born = timestamp_ms.filter(|_| !ttl.is_zero());
        let by_age = born.map(|born| {
            let ttl_ms = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
            (born.saturating_add(ttl_ms), Late::Age(ttl))
        });
        let (at, late) = [by_deadline, by_age].into_iter().flatten().min_by_key(|(at, _)| *at)?;
        let left = u64::try_from(at.saturating_sub(wall.as_millisecond())).unwrap_or_default();
        let at = now.checked_add(Duration::from_millis(left))?;
        Some(Self { at, late })
    }
}

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadline(at) => write!(f, "too late: its header {DEADLINE_HEADER} said {at}"),
            Self::Age(ttl) => {
                let ttl = humantime::format_duration(*ttl);
                write!(f, "too late: it is older than WORKFLOW_EVENT_TTL={ttl}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON_MS: i64 = 1_763_985_600_000;
    const SECOND: Duration = Duration::from_secs(1);

    /// Returns how much time is left at noon, and why.
    fn left(
        deadline_s: Option<i64>,
        born_s: Option<i64>,
        ttl: Duration,
    ) -> Option<(Duration, Late)> {
        let (now, wall) = (Instant::now(), Timestamp::from_millisecond(NOON_MS).unwrap());
        let deadline = deadline_s.map(|s| Timestamp::from_millisecond(NOON_MS + s * 1000).unwrap());
        let born = born_s.map(|s| NOON_MS + s * 1000);
        let expiry = Expiry::of(deadline, (born, ttl), (now, wall))?;
        Some((expiry.at - now, expiry.late))
    }

    #[test]
    fn the_earlier_of_deadline_and_age_counts() {
        let deadline =
            |s: i64| Late::Deadline(Timestamp::from_millisecond(NOON_MS + s * 1000).unwrap());
        let age = Late::Age(10 * SECOND);

        assert_eq!(left(Some(5), Some(0), 10 * SECOND), Some((5 * SECOND, deadline(5))));
        assert_eq!(left(Some(50), Some(-3), 10 * SECOND), Some((7 * SECOND, age)));
        assert_eq!(left(None, Some(-3), 10 * SECOND), Some((7 * SECOND, age)));
        assert_eq!(left(Some(5), None, 10 * SECOND), Some((5 * SECOND, deadline(5))));
    }

    #[test]
    fn what_is_past_is_over_now() {
        assert_eq!(left(None, Some(-60), 10 * SECOND).unwrap().0, Duration::ZERO);
        assert_eq!(left(Some(-1), None, Duration::ZERO).unwrap().0, Duration::ZERO);
    }

    #[test]
    fn without_deadline_and_limit_on_age_there_is_no_end() {
        assert_eq!(left(None, Some(-60), Duration::ZERO), None);
        assert_eq!(left(None, None, 10 * SECOND), None);
    }

    #[test]
    fn times_at_the_ends_of_their_range_overflow_nothing() {
        let (now, wall) = (Instant::now(), Timestamp::MIN);

        for born in [i64::MIN, i64::MAX] {
            let by_age = Expiry::of(None, (Some(born), Duration::MAX), (now, wall));
            assert!(by_age.is_none_or(|expiry| expiry.at > now), "{born}");
        }
    }
}
