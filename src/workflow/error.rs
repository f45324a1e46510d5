//! Why a run did not succeed, and what its event is told.

use std::time::Duration;

use crate::agents::AgentError;
use crate::event::Status;
use crate::graph;
use crate::retry::Disposition;

use super::budget::Exhausted;
use super::expiry::Late;

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An agent failed.
    #[error("{node}: {source}")]
    Agent {
        /// The agent.
        node: String,
        /// Its error.
        source: AgentError,
    },
    /// An agent panicked.
    #[error("{node} panicked: {message}")]
    Panic {
        /// The agent, or `run` outside of any.
        node: String,
        /// What the panic said.
        message: String,
    },
    /// The attempt used up its own time.
    #[error("the run took longer than WORKFLOW_EXECUTION_TIMEOUT={}", humantime::format_duration(*limit))]
    Timeout {
        /// The limit on its own time.
        limit: Duration,
    },
    /// The event's result is of no use any more.
    #[error("{0}")]
    Expired(Late),
    /// The run has used up one of its budgets.
    #[error("{0}")]
    Budget(Exhausted),
    /// The graph turned in circles.
    #[error("{0}")]
    RecursionLimit(String),
    /// The graph can't go on: an update that does not fit, a route to nowhere.
    #[error("{0}")]
    Graph(String),
    /// A recorded effect can't be read, or an effect can't be recorded.
    #[error("{0}")]
    Effects(String),
    /// The result is larger than its topic takes.
    #[error("the result of {size} bytes exceeds the limit of {limit} of the results topic")]
    ResultTooLarge {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
}

/// What to do about a failed attempt, and what to say when nothing more is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The stable code, the one that docs/errors.md explains.
    pub class: &'static str,
    /// Whether to try again.
    pub disposition: Disposition,
    /// What the result says when it is given up at the first attempt that can't be repeated.
    pub status: Status,
}

impl Error {
    /// Judges the error.
    ///
    /// `failure` is for a workflow that ended badly by itself; `error` for one that weir could not run.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let (class, disposition, status) = match self {
            Self::Agent { source, .. } => {
                let disposition = source.disposition();
                let status = match disposition {
                    Disposition::Retry { .. } | Disposition::Elsewhere => Status::Error,
                    Disposition::Reject | Disposition::Stop => Status::Failure,
                };
                (source.class(), disposition, status)
            }
            Self::Panic { .. } => ("workflow.panic", Disposition::Reject, Status::Error),
            Self::Timeout { .. } => {
                ("workflow.timeout", Disposition::Retry { after: None }, Status::Error)
            }
            Self::Expired(_) => ("event.expired", Disposition::Reject, Status::Error),
            Self::Budget(_) => ("workflow.budget", Disposition::Reject, Status::Failure),
            Self::RecursionLimit(_) => {
                ("graph.recursion_limit", Disposition::Reject, Status::Failure)
            }
            Self::Graph(_) => ("graph.invalid", Disposition::Reject, Status::Failure),
            Self::Effects(_) => ("journal.effects", Disposition::Reject, Status::Error),
            Self::ResultTooLarge { .. } => {
                ("workflow.result_too_large", Disposition::Reject, Status::Failure)
            }
        };
        Verdict { class, disposition, status }
    }
}

impl From<graph::Error<AgentError>> for Error {
    fn from(error: graph::Error<AgentError>) -> Self {
        let text = error.to_string();
        match error {
            graph::Error::Node { node, source, .. } => {
                Self::Agent { node: node.to_string(), source }
            }
            graph::Error::Panic { node, message, .. } => {
                Self::Panic { node: node.to_string(), message }
            }
            graph::Error::Timeout { limit, .. } => Self::Timeout { limit },
            graph::Error::RecursionLimit { .. } => Self::RecursionLimit(text),
            graph::Error::Effects { source, .. } => match source.downcast::<Exhausted>() {
                Ok(exhausted) => Self::Budget(*exhausted),
                Err(_) => Self::Effects(text),
            },
            graph::Error::Route { .. }
            | graph::Error::Conflict { .. }
            | graph::Error::Invalid { .. }
            | graph::Error::Cancelled { .. }
            | graph::Error::Deadline { .. }
            | graph::Error::NothingToResume => Self::Graph(text),
        }
    }
}
