//! Writes compact UTF-8 JSON into a `String`, which cannot fail: there is no error to invent an
//! answer for.

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::event::Timestamp;

/// An object that is being written, field by field in the order given.
#[derive(Debug)]
pub(in crate::event) struct Object {
    out: String,
}

impl Object {
    /// Starts an object.
    pub(in crate::event) fn new() -> Self {
        Self::with_capacity(0)
    }

    /// Starts an object of about `bytes` bytes: written without growing where that is enough.
    pub(in crate::event) fn with_capacity(bytes: usize) -> Self {
        let mut out = String::with_capacity(bytes);
        out.push('{');
        Self { out }
    }

    /// Adds a field whose value is JSON text already.
    pub(in crate::event) fn json(self, name: &str, json: &str) -> Self {
        self.written(name, |out| out.push_str(json))
    }

    /// Adds a field whose value `write` writes, as JSON.
    pub(in crate::event) fn written<F>(mut self, name: &str, write: F) -> Self
    where
        F: FnOnce(&mut String),
    {
        if self.out.len() > 1 {
            self.out.push(',');
        }
        push_text(&mut self.out, name);
        self.out.push(':');
        write(&mut self.out);
        self
    }

    /// Adds a string.
    pub(in crate::event) fn text(self, name: &str, text: &str) -> Self {
        self.written(name, |out| push_text(out, text))
    }

    /// Adds a point in time, as a string.
    pub(in crate::event) fn timestamp(self, name: &str, timestamp: Timestamp) -> Self {
        self.written(name, |out| {
            out.push('"');
            timestamp.push_to(out);
            out.push('"');
        })
    }

    /// Adds an id, as a string.
    pub(in crate::event) fn id(self, name: &str, id: Uuid) -> Self {
        let mut digits = Uuid::encode_buffer();
        self.text(name, id.hyphenated().encode_lower(&mut digits))
    }

    /// Adds a string, or null.
    pub(in crate::event) fn optional(self, name: &str, text: Option<&str>) -> Self {
        match text {
            Some(text) => self.text(name, text),
            None => self.json(name, "null"),
        }
    }

    /// Ends the object and returns its text.
    pub(in crate::event) fn end(mut self) -> String {
        self.out.push('}');
        self.out
    }
}

/// Returns about how many bytes the values take as JSON: more only by what has to be escaped and by long numbers.
pub(in crate::event) fn written_size(fields: &Map<String, Value>) -> usize {
    fields.iter().map(|(key, value)| key.len() + 4 + value_size(value)).sum::<usize>() + 2
}

fn value_size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 5,
        Value::Number(_) => 8,
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(|item| value_size(item) + 1).sum::<usize>() + 2,
        Value::Object(fields) => written_size(fields),
    }
}

/// Writes an object of plain values. Recurses as deep as the values nest.
pub(in crate::event) fn push_object(out: &mut String, fields: &Map<String, Value>) {
    out.push('{');
    for (index, (key, value)) in fields.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        push_text(out, key);
        out.push(':');
        push_value(out, value);
    }
    out.push('}');
}

fn push_value(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => out.push_str(&number.to_string()),
        Value::String(text) => push_text(out, text),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                push_value(out, item);
            }
            out.push(']');
        }
        Value::Object(fields) => push_object(out, fields),
    }
}

/// Writes a string with its quotes, escaping no more than JSON asks for.
pub(in crate::event) fn push_text(out: &mut String, text: &str) {
    out.reserve(text.len() + 2);
    out.push('"');
    let mut rest = text;
    while let Some(at) = first_escape(rest.as_bytes()) {
        let (plain, tail) = rest.split_at(at);
        out.push_str(plain);
        let mut chars = tail.chars();
        if let Some(char) = chars.next() {
            push_escape(out, char);
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
    out.push('"');
}

/// Returns the longest beginning of `text` that takes at most `room` bytes as JSON, quotes not
/// counted.
pub(in crate::event) fn excerpt(text: &str, room: usize) -> &str {
    let mut taken = 0;
    for (at, char) in text.char_indices() {
        taken += written_len(char);
        if taken > room {
            return text.get(..at).unwrap_or_default();
        }
    }
    text
}

/// Returns where the first byte stands that JSON wants escaped. Most texts have none, so whole blocks are looked at
/// without a branch for each byte.
fn first_escape(bytes: &[u8]) -> Option<usize> {
    const BLOCK: usize = 32;
    let is_plain =
        |block: &&[u8]| !block.iter().fold(false, |found, byte| found | needs_escape(*byte));
    let passed = bytes.chunks_exact(BLOCK).take_while(is_plain).count() * BLOCK;
    let at = bytes.get(passed..)?.iter().position(|byte| needs_escape(*byte))?;
    Some(passed + at)
}

fn needs_escape(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | 0..=0x1f)
}

fn push_escape(out: &mut String, char: char) {
    match char {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        control => out.push_str(&format!("\\u{:04x}", u32::from(control))),
    }
}

fn written_len(char: char) -> usize {
    match char {
        '"' | '\\' | '\u{8}' | '\u{c}' | '\n' | '\r' | '\t' => 2,
        '\0'..='\u{1f}' => 6,
        other => other.len_utf8(),
    }
}
