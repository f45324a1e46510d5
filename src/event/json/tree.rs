//! A value held in memory, as the dialect reads it: repeated keys settled, numbers and strings
//! still as written.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use serde_json::{Map, Value};

use super::{Container, Number, Reader, Syntax, Text, Token, push_text};

/// A JSON value that borrows its scalars from the text. The reader's limit on nesting bounds every
/// recursion over it.
#[derive(Debug)]
pub(in crate::event) enum Tree<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// Any number, also one that is not finite.
    Number(Number<'a>),
    /// A string.
    Text(Text<'a>),
    /// An array.
    Array(Vec<Tree<'a>>),
    /// An object; no key repeats.
    Object(Vec<(Text<'a>, Tree<'a>)>),
}

impl<'a> Tree<'a> {
    /// Reads a whole document.
    ///
    /// # Errors
    /// [`Syntax`] when the text is not JSON of the dialect.
    pub(in crate::event) fn parse(text: &'a str) -> Result<Self, Syntax> {
        let mut reader = Reader::new(text);
        let token = reader.next()?;
        let tree = Self::read(&mut reader, token)?;
        reader.end()?;
        Ok(tree)
    }

    /// Returns the value as plain JSON holds it: null for what is not finite, the nearest double
    /// for an integer beyond 64 bits.
    pub(in crate::event) fn to_value(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(bool) => Value::Bool(*bool),
            Self::Number(number) => number.to_value(),
            Self::Text(text) => Value::String(text.value().into_owned()),
            Self::Array(items) => Value::Array(items.iter().map(Self::to_value).collect()),
            Self::Object(fields) => {
                let fields = fields.iter();
                Value::Object(
                    fields
                        .map(|(key, field)| (key.key().into_owned(), field.to_value()))
                        .collect::<Map<_, _>>(),
                )
            }
        }
    }

    /// Writes the value as compact JSON: integers exactly, null for what is not finite.
    pub(in crate::event) fn push(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(true) => out.push_str("true"),
            Self::Bool(false) => out.push_str("false"),
            Self::Number(number) => number.push(out),
            // A lone surrogate has no other form than the escape that it came in.
            Self::Text(text) if !text.is_unicode() => {
                out.push('"');
                out.push_str(text.raw());
                out.push('"');
            }
            Self::Text(text) => push_text(out, &text.value()),
            Self::Array(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    separate(out, index);
                    item.push(out);
                }
                out.push(']');
            }
            Self::Object(fields) => {
                out.push('{');
                for (index, (key, field)) in fields.iter().enumerate() {
                    separate(out, index);
                    push_text(out, &key.key());
                    out.push(':');
                    field.push(out);
                }
                out.push('}');
            }
        }
    }

    /// Says whether plain JSON can carry the value unchanged: every number finite, every string
    /// Unicode.
    pub(in crate::event) fn is_plain(&self) -> bool {
        match self {
            Self::Null | Self::Bool(_) => true,
            Self::Number(number) => number.is_finite(),
            Self::Text(text) => text.is_unicode(),
            Self::Array(items) => items.iter().all(Self::is_plain),
            Self::Object(fields) => {
                fields.iter().all(|(key, field)| key.is_unicode() && field.is_plain())
            }
        }
    }

    fn read(reader: &mut Reader<'a>, token: Token<'a>) -> Result<Self, Syntax> {
        Ok(match token {
            Token::Null | Token::Close | Token::Key(_) => Self::Null,
            Token::Bool(bool) => Self::Bool(bool),
            Token::Number(number) => Self::Number(number),
            Token::Text(text) => Self::Text(text),
            Token::Open(Container::Array) => Self::read_array(reader)?,
            Token::Open(Container::Object) => Self::read_object(reader)?,
        })
    }

    fn read_array(reader: &mut Reader<'a>) -> Result<Self, Syntax> {
        let mut items = Vec::new();
        loop {
            let token = reader.next()?;
            if matches!(token, Token::Close) {
                return Ok(Self::Array(items));
            }
            items.push(Self::read(reader, token)?);
        }
    }

    fn read_object(reader: &mut Reader<'a>) -> Result<Self, Syntax> {
        let mut fields = Vec::new();
        while let Token::Key(key) = reader.next()? {
            let token = reader.next()?;
            fields.push((key, Self::read(reader, token)?));
        }
        Ok(Self::Object(last_wins(fields)))
    }
}

/// Leaves one field per key: the last value, in the place of the first.
fn last_wins<'a>(fields: Vec<(Text<'a>, Tree<'a>)>) -> Vec<(Text<'a>, Tree<'a>)> {
    let mut places: HashMap<Cow<'a, str>, usize> = HashMap::with_capacity(fields.len());
    let mut kept: Vec<(Text<'a>, Tree<'a>)> = Vec::with_capacity(fields.len());
    for (key, tree) in fields {
        match places.entry(key.key()) {
            Entry::Vacant(place) => {
                place.insert(kept.len());
                kept.push((key, tree));
            }
            Entry::Occupied(place) => {
                if let Some(field) = kept.get_mut(*place.get()) {
                    field.1 = tree;
                }
            }
        }
    }
    kept
}

fn separate(out: &mut String, index: usize) {
    if index > 0 {
        out.push(',');
    }
}
