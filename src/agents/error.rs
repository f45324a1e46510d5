//! Why an agent could not do its work.

use crate::llm;
use crate::retry::Disposition;

/// An agent's error.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The task is not text, so that nobody can tell what is asked.
    #[error("the task must be text, found {found}")]
    TaskNotText {
        /// The JSON type that was found.
        found: &'static str,
    },
    /// The model did not answer.
    #[error(transparent)]
    Llm(#[from] llm::Error),
}

impl AgentError {
    /// Returns the error's stable code, the one that docs/errors.md explains.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::TaskNotText { .. } => "agent.task_not_text",
            Self::Llm(error) => error.class(),
        }
    }

    /// Returns what to do about it.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::TaskNotText { .. } => Disposition::Reject,
            Self::Llm(error) => error.disposition(),
        }
    }
}
