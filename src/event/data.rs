//! An event's payload: kept as text, because most of it is never looked at.

use std::fmt;

use serde_json::Value;

use super::json::{Container, Reader, Syntax, Token, Tree};

/// The object in `payload.data`, as the client wrote it: the dialect's text, checked, not yet taken
/// apart.
#[derive(Clone, PartialEq, Eq)]
pub struct Data {
    text: Box<str>,
}

impl Data {
    /// Takes the text of an object that a reader has been through.
    pub(super) fn of(text: &str) -> Self {
        Self { text: text.into() }
    }

    /// Returns the size of its text in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.text.len()
    }

    /// Returns it as plain JSON holds it, numbers as
    /// [`WorkflowEvent::task`](super::WorkflowEvent::task) says.
    #[must_use]
    pub fn to_value(&self) -> Value {
        self.tree().to_value()
    }

    /// Returns it as compact JSON: repeated keys settled, integers exact, null for numbers that are
    /// not finite.
    #[must_use]
    pub fn normal_text(&self) -> String {
        let mut out = String::with_capacity(self.text.len());
        self.tree().push(&mut out);
        out
    }

    /// Returns the task as the contract finds it: the inner one, else the outer one.
    pub(super) fn task(&self) -> Option<Value> {
        let outer = Found::within(&self.text).unwrap_or_default();
        let inner = outer.data.and_then(|data| Found::within(data).ok()?.task);
        inner.or(outer.task).map(|text| tree(text).to_value())
    }

    fn tree(&self) -> Tree<'_> {
        tree(&self.text)
    }
}

/// Shows the size only: a payload is nobody's business in a log.
impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Data({} bytes)", self.text.len())
    }
}

/// What a task is looked for in.
#[derive(Debug, Default)]
struct Found<'a> {
    /// The text of `task`, whatever it is.
    task: Option<&'a str>,
    /// The text of `data`, if it is an object.
    data: Option<&'a str>,
}

impl<'a> Found<'a> {
    fn within(object: &'a str) -> Result<Self, Syntax> {
        let mut found = Self::default();
        let mut reader = Reader::new(object);
        reader.next()?;
        while let Token::Key(key) = reader.next()? {
            match &*key.key() {
                "task" => found.task = Some(reader.value_text()?.0),
                "data" => {
                    let (text, token) = reader.value_text()?;
                    found.data = matches!(token, Token::Open(Container::Object)).then_some(text);
                }
                _ => reader.skip()?,
            }
        }
        Ok(found)
    }
}

/// Reads a text that was read before, so it can't be refused; null would stand for what is.
fn tree(text: &str) -> Tree<'_> {
    Tree::parse(text).unwrap_or(Tree::Null)
}
