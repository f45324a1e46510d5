//! What a record means: bytes become a [`WorkflowEvent`] or an [`InvalidEvent`], and what weir
//! answers becomes bytes, a [`WorkflowResult`] or a [`DeadLetter`].
//!
//! Decoding is a function of the bytes and the [`Defaults`] alone: no clock, no random number, so a
//! record that is read twice means the same twice. It is linear in the bytes, needs no stack in
//! proportion to them, and has an answer for every input: data never panics here.
//! Never awaits, never logs, and never shows a payload in an error.

mod data;
mod dead_letter;
mod deadline;
mod decode;
mod invalid;
mod json;
mod result;
mod schema;
mod timestamp;
mod workflow_event;

#[cfg(test)]
mod tests;

pub use data::Data;
pub use dead_letter::{DeadLetter, Origin, Original};
pub use deadline::deadline;
pub use decode::{Defaults, decode};
pub use invalid::{Fault, FaultKind, Ids, InvalidEvent, Stage};
pub use json::{Syntax, SyntaxKind};
pub use result::{Status, WorkflowResult};
pub use schema::{DEAD_LETTER_SCHEMA, EVENT_SCHEMA, RESULT_SCHEMA, schema};
pub use timestamp::Timestamp;
pub use workflow_event::{Environment, EventType, Source, WorkflowEvent};
