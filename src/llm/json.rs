//! Reads JSON that only a strict reader refuses.

use std::fmt;

use serde::de::{Deserializer as _, Visitor};
use serde_json::value::RawValue;

/// Parses `bytes`, mended in `store` where they don't parse as they are.
///
/// # Errors
/// When they don't parse mended either.
pub(super) fn parse<'a, T>(bytes: &'a [u8], store: &'a mut String) -> Result<T, serde_json::Error>
where
    T: serde::Deserialize<'a>,
{
    if let Ok(value) = serde_json::from_slice(bytes) {
        return Ok(value);
    }
    *store = mend(bytes);
    serde_json::from_str(store)
}

/// Returns whether the error of an object that nothing ended is that its rest is missing.
pub(super) fn is_cut(bytes: &[u8], error: &serde_json::Error) -> bool {
    // A number that ends in its sign or its point is an error of its own to the parser.
    let open = bytes.trim_ascii_start().starts_with(b"{") && !bytes.ends_with(b"}");
    error.is_eof() || open
}

/// Returns the same JSON with what has no meaning replaced: bytes that are no UTF-8 and lone surrogates by U+FFFD,
/// `NaN` and the infinities by null.
pub(super) fn mend(json: &[u8]) -> String {
    let text = String::from_utf8_lossy(json);
    let mut mended = String::with_capacity(text.len());
    let mut rest = text.as_ref();
    let mut quoted = false;
    while let Some(first) = rest.chars().next() {
        let (length, put) = match first {
            '\\' if quoted => escape(rest),
            'N' if !quoted && rest.starts_with("NaN") => (3, Some("null")),
            'I' if !quoted && rest.starts_with("Infinity") => (8, Some("null")),
            '-' if !quoted && rest.starts_with("-Infinity") => (9, Some("null")),
            _ => (first.len_utf8(), None),
        };
        quoted ^= first == '"';
        let (piece, tail) = rest.split_at_checked(length).unwrap_or((rest, ""));
        mended.push_str(put.unwrap_or(piece));
        rest = tail;
    }
    mended
}

/// Returns the length of the escape that `rest` begins with, and what to put in its place.
fn escape(rest: &str) -> (usize, Option<&'static str>) {
    const LONE: Option<&str> = Some("\\ufffd");
    match unit(rest) {
        Some(0xd800..=0xdbff) => match rest.get(6..).and_then(unit) {
            Some(0xdc00..=0xdfff) => (12, None),
            Some(_) | None => (6, LONE),
        },
        Some(0xdc00..=0xdfff) => (6, LONE),
        Some(_) => (6, None),
        None => (1 + rest.chars().nth(1).map_or(0, char::len_utf8), None),
    }
}

/// Returns the code unit of a `\uXXXX` at the beginning of `rest`.
fn unit(rest: &str) -> Option<u16> {
    u16::from_str_radix(rest.strip_prefix("\\u")?.get(..4)?, 16).ok()
}

/// Appends the text of a JSON string, or nothing for null.
///
/// # Errors
/// When it is neither, with what it is.
pub(super) fn append(value: &RawValue, text: &mut String) -> Result<(), serde_json::Error> {
    if value.get() == "null" {
        return Ok(());
    }
    let whole = text.len();
    serde_json::Deserializer::from_str(value.get()).deserialize_str(Append(text)).or_else(|_| {
        text.truncate(whole);
        let mended = mend(value.get().as_bytes());
        serde_json::Deserializer::from_str(&mended).deserialize_str(Append(text))
    })
}

/// Returns whether a field says that something is there, as a dynamic language would: `error` may be null or empty.
pub(super) fn is_truthy(value: &RawValue) -> bool {
    !matches!(value.get(), "null" | "false" | "0" | "\"\"" | "[]" | "{}")
}

/// Returns a count or a number of nanoseconds; nothing for what is negative or no integer.
///
/// Ollama sends `-9223372036854775808` as the duration of an answer that it did not write.
pub(super) fn count(value: &RawValue) -> Option<u64> {
    value.get().parse().ok()
}

/// Returns the words of a server on one line.
pub(super) fn quote(text: &str) -> String {
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

struct Append<'a>(&'a mut String);

impl Visitor<'_> for Append<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E>
    where
        E: serde::de::Error,
    {
        self.0.push_str(text);
        Ok(())
    }
}
