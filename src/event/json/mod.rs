//! The JSON that the clients write: that of Python's `json` module, which is wider than RFC 8259.
//!
//! Beyond the RFC it knows `NaN`, `Infinity` and `-Infinity`, lone surrogates as `\ud800`, numbers
//! that overflow, integers of up to 4,300 digits, and keys that repeat: the last value wins and
//! takes the first one's place. It refuses a byte order mark, raw control characters in strings,
//! comments, and more than 990 levels of nesting.
//!
//! One [`Reader`] knows the grammar and never recurses. [`Tree`] is what is built of it where a
//! value must be held; its recursion is bounded by the reader's depth.

mod number;
mod reader;
mod text;
mod tree;
mod write;

#[cfg(test)]
mod tests;

pub(super) use number::Number;
pub(super) use reader::{Container, Reader, Token};
#[cfg(test)]
pub(super) use reader::{DEPTH_MAX, INTEGER_DIGITS_MAX};
pub use reader::{Syntax, SyntaxKind};
pub(super) use text::Text;
pub(super) use tree::Tree;
pub(super) use write::{Object, excerpt, push_object, push_text, written_size};
