//! A number as it stands in the text: it is read into a machine's number only where one is asked
//! for.

use serde_json::Value;

/// A number literal of the dialect.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::event) enum Number<'a> {
    /// Digits with an optional minus sign: exact, whatever the length.
    Integer(&'a str),
    /// With a point or an exponent: a double, which may overflow to an infinity.
    Float(&'a str),
    /// `NaN`, `Infinity` or `-Infinity`.
    NonFinite,
}

impl Number<'_> {
    /// Returns the number as `serde_json` would hold it: an integer of up to 64 bits exactly,
    /// anything else as the nearest double, and null beyond the doubles.
    pub(super) fn to_value(self) -> Value {
        match self {
            Self::Integer("-0") => Value::from(0),
            Self::Integer(text) => match (text.parse::<i64>(), text.parse::<u64>()) {
                (Ok(signed), _) => Value::from(signed),
                (_, Ok(unsigned)) => Value::from(unsigned),
                _ => finite(text).map_or(Value::Null, Value::from),
            },
            Self::Float(text) => finite(text).map_or(Value::Null, Value::from),
            Self::NonFinite => Value::Null,
        }
    }

    /// Writes the number as JSON: integers exactly, floats as they were written, null for what is
    /// not finite.
    pub(super) fn push(self, out: &mut String) {
        out.push_str(match self {
            Self::Integer("-0") => "0",
            Self::Integer(text) => text,
            Self::Float(text) if self.is_finite() => text,
            Self::Float(_) | Self::NonFinite => "null",
        });
    }

    /// Says whether it has a value that JSON can carry.
    pub(super) fn is_finite(self) -> bool {
        match self {
            Self::Integer(_) => true,
            Self::Float(text) => finite(text).is_some(),
            Self::NonFinite => false,
        }
    }
}

fn finite(text: &str) -> Option<f64> {
    text.parse().ok().filter(|double: &f64| double.is_finite())
}
