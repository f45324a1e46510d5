//! A moment as an event tells it: a date and a time of day, with the zone's offset if one was
//! given.

use std::fmt;

use jiff::tz::Offset;
use jiff::{SignedDuration, civil};

/// Beyond this a number counts milliseconds, not seconds: 2603-10-11 read one way, 1970-08-20 the
/// other.
const SECONDS_MAX: f64 = 20_000_000_000.0;

/// The length of the longest text: `2025-01-27T10:00:00.123456+00:00`.
const LENGTH_MAX: usize = 32;

/// A date and time, years 1 to 9999, to the microsecond.
///
/// What came without a zone stays without: nobody knows which moment it is, so it is not turned
/// into one. Prints as `YYYY-MM-DDTHH:MM:SS`, then six digits of fraction if they are not all zero,
/// then `+HH:MM` if there is a zone; UTC is `+00:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp {
    local: civil::DateTime,
    offset_minutes: Option<i16>,
}

impl Timestamp {
    /// The Unix epoch, in UTC.
    pub const UNIX_EPOCH: Self =
        Self { local: civil::DateTime::constant(1970, 1, 1, 0, 0, 0, 0), offset_minutes: Some(0) };

    /// Returns the moment `milliseconds` after the Unix epoch, in UTC; `None` outside the years 1
    /// to 9999.
    #[must_use]
    pub fn from_millis(milliseconds: i64) -> Option<Self> {
        Self::from_epoch(milliseconds.div_euclid(1000), milliseconds.rem_euclid(1000) * 1000)
    }

    /// Reads a text: ISO 8601 as far as the contract takes it, or a number of seconds or
    /// milliseconds.
    pub(super) fn parse(text: &str) -> Option<Self> {
        date_and_time(text.as_bytes()).or_else(|| number(text))
    }

    /// Reads a count of seconds since the Unix epoch, of milliseconds beyond 20,000,000,000.
    pub(super) fn from_integer(count: i64) -> Option<Self> {
        let (seconds, milliseconds) = if count.unsigned_abs() <= 20_000_000_000 {
            (count, 0)
        } else {
            (count.div_euclid(1000), count.rem_euclid(1000))
        };
        Self::from_epoch(seconds, milliseconds * 1000)
    }

    /// Reads a count as [`from_integer`](Self::from_integer) does, and rounds its fraction to the
    /// microsecond.
    pub(super) fn from_float(count: f64) -> Option<Self> {
        let whole = count.floor();
        let fraction = count - whole;
        if count.abs() > SECONDS_MAX {
            let milliseconds = to_integer(whole)?;
            let microseconds =
                milliseconds.rem_euclid(1000) * 1000 + to_integer((fraction * 1e3).round())?;
            Self::from_epoch(milliseconds.div_euclid(1000), microseconds)
        } else {
            Self::from_epoch(to_integer(whole)?, to_integer((fraction * 1e6).round())?)
        }
    }

    /// `microseconds` may reach a second and a little over, by rounding.
    fn from_epoch(seconds: i64, microseconds: i64) -> Option<Self> {
        // Not by way of `jiff::Timestamp`, which ends a day before the year 9999 does.
        let since = SignedDuration::from_secs(seconds)
            .checked_add(SignedDuration::from_micros(microseconds))?;
        Self::new(Self::UNIX_EPOCH.local.checked_add(since).ok()?, Some(0))
    }

    fn new(local: civil::DateTime, offset_minutes: Option<i16>) -> Option<Self> {
        (local.year() >= 1).then_some(Self { local, offset_minutes })
    }
}

/// A clock's reading, in UTC. A clock that stands before the year 1 reads as the Unix epoch.
impl From<jiff::Timestamp> for Timestamp {
    fn from(moment: jiff::Timestamp) -> Self {
        Self::new(Offset::UTC.to_datetime(moment), Some(0)).unwrap_or(Self::UNIX_EPOCH)
    }
}

impl Timestamp {
    /// Adds the text that [`Display`](fmt::Display) shows.
    pub(super) fn push_to(self, out: &mut String) {
        let local = self.local;
        let number = |number: i8| u32::from(number.unsigned_abs());
        let date = [
            (u32::from(local.year().unsigned_abs()), 4, '-'),
            (number(local.month()), 2, '-'),
            (number(local.day()), 2, 'T'),
        ];
        let time = [(number(local.hour()), 2, ':'), (number(local.minute()), 2, ':')];
        for (number, digits, after) in date.into_iter().chain(time) {
            push_digits(out, number, digits);
            out.push(after);
        }
        push_digits(out, number(local.second()), 2);
        let microseconds = local.subsec_nanosecond().unsigned_abs() / 1000;
        if microseconds != 0 {
            out.push('.');
            push_digits(out, microseconds, 6);
        }
        if let Some(minutes) = self.offset_minutes {
            out.push(if minutes < 0 { '-' } else { '+' });
            let minutes = u32::from(minutes.unsigned_abs());
            push_digits(out, minutes / 60, 2);
            out.push(':');
            push_digits(out, minutes % 60, 2);
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(LENGTH_MAX);
        self.push_to(&mut text);
        f.write_str(&text)
    }
}

/// Adds a number with at least so many digits. The formatter's own way takes ten times as long, and each event that
/// is answered has two timestamps.
fn push_digits(out: &mut String, number: u32, digits: u32) {
    for place in (0..digits).rev() {
        let digit = number / 10u32.pow(place) % 10;
        out.extend(char::from_digit(digit, 10));
    }
}

/// `YYYY-MM-DD`, alone or with one of `T t space _` and a time of day.
fn date_and_time(text: &[u8]) -> Option<Timestamp> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, rest @ ..] = text else { return None };
    let year = i16::from(two(*y1, *y2)?) * 100 + i16::from(two(*y3, *y4)?);
    let date = civil::Date::new(year, two(*m1, *m2)?, two(*d1, *d2)?).ok()?;
    match rest {
        [] => Timestamp::new(date.to_datetime(civil::Time::midnight()), None),
        [b'T' | b't' | b' ' | b'_', rest @ ..] => {
            let (time, rest) = time_of_day(rest)?;
            Timestamp::new(date.to_datetime(time), zone(rest)?)
        }
        _ => None,
    }
}

/// `HH:MM`, `HH:MM:SS` or `HH:MM:SS` with a fraction after `.` or `,`; returns what follows it.
fn time_of_day(text: &[u8]) -> Option<(civil::Time, &[u8])> {
    let [h1, h2, b':', m1, m2, rest @ ..] = text else { return None };
    let (hour, minute) = (two(*h1, *h2)?, two(*m1, *m2)?);
    let [b':', s1, s2, rest @ ..] = rest else {
        return Some((civil::Time::new(hour, minute, 0, 0).ok()?, rest));
    };
    let (nanoseconds, rest) = match rest {
        [b'.' | b',', rest @ ..] => fraction(rest)?,
        _ => (0, rest),
    };
    Some((civil::Time::new(hour, minute, two(*s1, *s2)?, nanoseconds).ok()?, rest))
}

/// One digit or more; what is finer than a microsecond is cut off.
fn fraction(text: &[u8]) -> Option<(i32, &[u8])> {
    let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at_checked(count)?;
    let places = digits.iter().copied().chain(std::iter::repeat(b'0')).take(6);
    let microseconds = places.fold(0, |sum, digit| sum * 10 + i32::from(digit - b'0'));
    (count > 0).then_some((microseconds * 1000, rest))
}

/// Nothing, `Z`, `+HH:MM` or `+HHMM`, less than a day; U+2212 is a minus too. The outer `None` is a
/// refusal.
fn zone(text: &[u8]) -> Option<Option<i16>> {
    let (sign, digits) = match text {
        [] => return Some(None),
        [b'Z' | b'z'] => return Some(Some(0)),
        [b'+', digits @ ..] => (1, digits),
        [b'-', digits @ ..] | [0xE2, 0x88, 0x92, digits @ ..] => (-1, digits),
        _ => return None,
    };
    let ([h1, h2, b':', m1, m2] | [h1, h2, m1, m2]) = digits else { return None };
    let (hours, minutes) = (two(*h1, *h2)?, two(*m1, *m2)?);
    (hours < 24 && minutes < 60)
        .then_some(Some(sign * (i16::from(hours) * 60 + i16::from(minutes))))
}

/// A decimal number as text: an integer, or a float if it has a point. An exponent alone makes
/// none.
fn number(text: &str) -> Option<Timestamp> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    match unsigned.as_bytes().get(digits) {
        None => Timestamp::from_integer(text.parse().ok()?),
        Some(b'.') => Timestamp::from_float(text.parse().ok()?),
        Some(_) => None,
    }
}

fn two(tens: u8, ones: u8) -> Option<i8> {
    let is_number = tens.is_ascii_digit() && ones.is_ascii_digit();
    is_number.then(|| i8::try_from((tens - b'0') * 10 + (ones - b'0')).unwrap_or_default())
}

/// Far beyond every date that can be told, `None` instead of a wrong number.
fn to_integer(whole: f64) -> Option<i64> {
    #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53, so exact")]
    (whole.abs() < 9e15).then_some(whole as i64)
}
