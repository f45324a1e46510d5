//! What survives a crash: the effects of a run, and what of a partition was not settled.
//!
//! Two formats live here: the record of the journal topic ([`Effect`]) and the metadata of a
//! committed offset ([`Map`]). Both carry a version and refuse what they do not know, for to guess
//! is to pay for an answer twice or to skip an event. docs/journal.md has them byte by byte.
//! Pure: source and sink do the reading and writing.

mod effect;
mod replay;
mod map;
mod gaps;

pub use effect::{Effect, Error, GROUP, Usage};
pub use map::{Map, MapError, Scope};
pub use replay::Effects;

#[cfg(test)]
mod tests;
