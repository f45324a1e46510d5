//! Why a record is no event, in words that never show what was in it.

use std::fmt;

use uuid::Uuid;

use super::Syntax;

/// A record that is no event. Its text is short whatever the record holds: it names fields, never
/// values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{stage}{}", Listed(faults))]
pub struct InvalidEvent {
    /// How far it got.
    pub stage: Stage,
    /// Every field at fault, in the order of the contract's table; empty before [`Stage::Schema`].
    pub faults: Vec<Fault>,
    /// The ids that could be read all the same, so that the one who waits for an answer gets one.
    pub ids: Ids,
}

/// The step at which a record was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stage {
    /// A tombstone.
    #[error("the record has no value")]
    Null,
    /// Bytes that are not UTF-8, the first of them at `at`.
    #[error("the value is not UTF-8 at byte {at}")]
    Utf8 {
        /// The byte, from 0.
        at: usize,
    },
    /// Text that is not JSON.
    #[error("the value is not JSON: {0}")]
    Json(Syntax),
    /// JSON, but not an object.
    #[error("the value is JSON, but not an object")]
    NotObject,
    /// An object that breaks the event's schema.
    #[error("the event breaks the schema")]
    Schema,
}

/// One field at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The field's dotted path, such as `metadata.environment`.
    pub field: &'static str,
    /// What is wrong with it.
    pub kind: FaultKind,
    /// The same in words that follow the field's name, such as `is not a UUID`.
    pub message: &'static str,
}

/// What can be wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// It is required and not there.
    Missing,
    /// It is of another JSON type; null is never a value.
    Type,
    /// It is a string that is not the UUID or the timestamp it should be.
    Format,
    /// It is none of the words that it may be.
    Choice,
}

/// The ids of a record that was refused, as far as they could be read.
///
/// A value that breaks off or is no JSON gives those that stand before the fault.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ids {
    /// The event's own id, under which its result is awaited. Never one that was made up for it.
    pub event_id: Option<Uuid>,
    /// The workflow.
    pub workflow_id: Option<String>,
    /// The run of the workflow.
    pub workflow_run_id: Option<String>,
}

impl InvalidEvent {
    pub(super) fn at(stage: Stage, ids: Ids) -> Self {
        Self { stage, faults: Vec::new(), ids }
    }
}

impl Stage {
    /// Returns the error class of dead letters and metrics.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Null => "event.null",
            Self::Utf8 { .. } => "event.utf8",
            Self::Json(_) => "event.json",
            Self::NotObject => "event.not_object",
            Self::Schema => "event.schema",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.message)
    }
}

/// Prints faults as `: a is missing; b is not a string`, and nothing for none.
struct Listed<'a>(&'a [Fault]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            let separator = if index == 0 { ": " } else { "; " };
            write!(f, "{separator}{fault}")?;
        }
        Ok(())
    }
}
