//! The moment after which an event's result is of no use, as the header `weir-deadline` says it.

use jiff::Timestamp;

/// Reads the header's value: an RFC 3339 timestamp with its zone, or whole milliseconds since the Unix epoch.
///
/// `None` for anything else.
#[must_use]
pub fn deadline(value: &[u8]) -> Option<Timestamp> {
    let text = str::from_utf8(value).ok()?.trim_ascii();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Timestamp::from_millisecond(text.parse().ok()?).ok();
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_and_milliseconds_are_read() {
        let moment = Timestamp::from_millisecond(1_763_978_400_500).unwrap();

        for text in [
            "2025-11-24T10:00:00.500Z",
            "2025-11-24T11:00:00.5+01:00",
            "2025-11-24 10:00:00.500Z",
            "1763978400500",
            " 1763978400500\n",
        ] {
            assert_eq!(deadline(text.as_bytes()), Some(moment), "{text}");
        }
    }

    #[test]
    fn anything_else_is_none() {
        for text in [
            "",
            " ",
            "soon",
            "30s",
            "-1",
            "1.5",
            "1e12",
            "2025-11-24",
            "2025-11-24T10:00:00",
            "2025-13-24T10:00:00Z",
            "99999999999999999999",
            "999999999999999999",
        ] {
            assert_eq!(deadline(text.as_bytes()), None, "{text}");
        }
        assert_eq!(deadline(b"\xff"), None);
    }
}
