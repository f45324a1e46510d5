//! What can go wrong between weir and a model, and what to do about each.
//!
//! The class and the disposition of a [`Fault`] are one exhaustive match each. What is sorted in here, by status
//! *and* message, is sorted in `refusal`. No text holds a credential: the endpoint takes them out on the way.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::retry::Disposition;

/// A call that brought no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{endpoint}: {fault}{again}")]
pub struct Error {
    /// The base URL that was asked, without credentials; of a [`Fault::SchemaMismatch`] the model.
    pub endpoint: Arc<str>,
    /// What went wrong.
    pub fault: Fault,
    /// Where the call may be made again, if the fault allows it.
    pub again: Again,
}

/// Where a call that brought no answer may be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// Where it was made, after a back-off.
    Here,
    /// At another endpoint that stands ready, or of a model in its place.
    Elsewhere,
    /// Nowhere: it was not even made, for no endpoint could be asked for so long, and calls that were tried there
    /// brought nothing but this fault and its like.
    Nowhere {
        /// How long it was in line.
        waited: Duration,
    },
}

/// What went wrong with a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No connection: refused, no such name, no route, TLS not agreed.
    #[error("no connection: {reason}")]
    Unreachable {
        /// The innermost cause.
        reason: String,
    },
    /// The connection broke before the answer began.
    #[error("connection lost before the answer began: {reason}")]
    Reset {
        /// The innermost cause.
        reason: String,
    },
    /// A deadline passed.
    #[error("{phase} timeout after {after:?}")]
    Timeout {
        /// Which one.
        phase: Phase,
        /// How long that phase may last.
        after: Duration,
    },
    /// The server does not have the model.
    #[error("no such model: {message}")]
    ModelMissing {
        /// The server's words.
        message: String,
    },
    /// Something answers, but not with this API.
    #[error("the base URL leads nowhere, status {status}: {message}")]
    WrongUrl {
        /// The HTTP status.
        status: u16,
        /// The server's words.
        message: String,
    },
    /// The server points to another origin, or points on too often.
    #[error(
        "status {status} redirects to {to}, which is not followed: set the base URL to the final address"
    )]
    Redirected {
        /// The HTTP status.
        status: u16,
        /// The `Location`, without credentials and query.
        to: String,
    },
    /// The server can't serve such a request, however often it is sent.
    #[error("request refused, status {status}: {message}")]
    InvalidRequest {
        /// The HTTP status; Ollama answers 500 to several mistakes of the caller.
        status: u16,
        /// The server's words.
        message: String,
    },
    /// The credentials, or the `Host` that weir calls the server by, are not accepted.
    #[error("access denied, status {status}: {message}")]
    Unauthorized {
        /// The HTTP status.
        status: u16,
        /// The server's words.
        message: String,
    },
    /// The caller has asked too often.
    #[error("rate limit reached: {message}")]
    RateLimited {
        /// When the server wants to be asked again.
        after: Option<Duration>,
        /// The server's words.
        message: String,
    },
    /// The server's queue is full.
    #[error("overloaded: {message}")]
    Overloaded {
        /// When the server wants to be asked again.
        after: Option<Duration>,
        /// The server's words.
        message: String,
    },
    /// The server, its model's runner or a gateway before it failed.
    #[error("server error, status {status}: {message}")]
    ServerError {
        /// The HTTP status; 200 where a begun stream ended with an error.
        status: u16,
        /// When the server wants to be asked again.
        after: Option<Duration>,
        /// The server's words.
        message: String,
    },
    /// The prompt does not fit into the model's context.
    #[error("prompt longer than the context: {message}")]
    ContextOverflow {
        /// The server's words, or what gave it away.
        message: String,
    },
    /// The answer ended before its end.
    #[error("answer cut off: {reason}")]
    Truncated {
        /// What is missing.
        reason: String,
        /// Who ended it.
        cut: Cut,
    },
    /// The reply does not follow the API.
    #[error("reply not understood: {reason}")]
    BadOutput {
        /// What was found.
        reason: String,
    },
    /// The answer does not have the form that was asked for, and neither had the one before.
    #[error("answer without the form that was asked for: {mistakes}")]
    SchemaMismatch {
        /// What is wrong with it.
        mistakes: String,
    },
    /// The answer passes a limit of the configuration.
    #[error("{what} longer than {limit} bytes")]
    TooLarge {
        /// What is too long: the answer, a line or the body.
        what: &'static str,
        /// The limit that it passes.
        limit: usize,
    },
}

/// How an answer was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The connection ended in the middle of it.
    Broken,
    /// The server ended it in good order, as Ollama does when a model repeats itself.
    Ended,
    /// As before, and the model would say the same again: it was asked at temperature 0.
    EndedForGood,
}

/// The part of a call that a deadline covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Until the connection stands, name lookup and TLS included.
    Connect,
    /// From the request to the first byte of the answer: the server's queue, the load of the model and the
    /// reading of the prompt pass in silence.
    FirstByte,
    /// Between two pieces of the answer.
    Idle,
    /// The whole call.
    Total,
    /// From the last sign of life of a model that the endpoint says is loaded: no call got a byte of it.
    Frozen,
    /// From the first question about itself that the server left unanswered, while calls wait in silence.
    Unresponsive,
}

/// Every class of this room, for the tables that must name them all.
pub const CLASSES: [&str; 16] = [
    "llm.unreachable",
    "llm.reset",
    "llm.timeout",
    "llm.model_missing",
    "llm.wrong_url",
    "llm.redirected",
    "llm.invalid_request",
    "llm.unauthorized",
    "llm.rate_limited",
    "llm.overloaded",
    "llm.server_error",
    "llm.context_overflow",
    "llm.truncated",
    "llm.bad_output",
    "llm.schema_mismatch",
    "llm.too_large",
];

impl Error {
    /// Returns the stable code of what went wrong.
    #[must_use]
    pub fn class(&self) -> &'static str {
        self.fault.class()
    }

    /// Returns what to do about it.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        match (self.fault.disposition(), self.again) {
            (Disposition::Retry { .. }, Again::Elsewhere) => Disposition::Elsewhere,
            (Disposition::Retry { .. }, Again::Nowhere { .. }) => Disposition::Reject,
            (disposition, Again::Here | Again::Elsewhere | Again::Nowhere { .. }) => disposition,
        }
    }
}

impl Fault {
    /// Returns the stable code: a metric's label, the key of docs/errors.md, a field of results and dead letters.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "llm.unreachable",
            Self::Reset { .. } => "llm.reset",
            Self::Timeout { .. } => "llm.timeout",
            Self::ModelMissing { .. } => "llm.model_missing",
            Self::WrongUrl { .. } => "llm.wrong_url",
            Self::Redirected { .. } => "llm.redirected",
            Self::InvalidRequest { .. } => "llm.invalid_request",
            Self::Unauthorized { .. } => "llm.unauthorized",
            Self::RateLimited { .. } => "llm.rate_limited",
            Self::Overloaded { .. } => "llm.overloaded",
            Self::ServerError { .. } => "llm.server_error",
            Self::ContextOverflow { .. } => "llm.context_overflow",
            Self::Truncated { .. } => "llm.truncated",
            Self::BadOutput { .. } => "llm.bad_output",
            Self::SchemaMismatch { .. } => "llm.schema_mismatch",
            Self::TooLarge { .. } => "llm.too_large",
        }
    }

    /// Returns what to do about it.
    ///
    /// A reply that is not understood is tried again, since it is most often a gateway's page while the server
    /// behind it restarts. One that is too large is not: it was paid for, and the next would be as large. Nor is one
    /// that missed its form twice, or that the server ended early and the model would begin alike.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Unreachable { .. }
            | Self::Reset { .. }
            | Self::Timeout { .. }
            | Self::Truncated { cut: Cut::Broken | Cut::Ended, .. }
            | Self::BadOutput { .. } => Disposition::Retry { after: None },
            Self::RateLimited { after, .. }
            | Self::Overloaded { after, .. }
            | Self::ServerError { after, .. } => Disposition::Retry { after: *after },
            Self::ModelMissing { .. }
            | Self::WrongUrl { .. }
            | Self::Redirected { .. }
            | Self::InvalidRequest { .. }
            | Self::Unauthorized { .. }
            | Self::ContextOverflow { .. }
            | Self::Truncated { cut: Cut::EndedForGood, .. }
            | Self::SchemaMismatch { .. }
            | Self::TooLarge { .. } => Disposition::Reject,
        }
    }
}

impl Fault {
    /// Returns when the server wants to be asked again, where it said so.
    pub(super) fn after(&self) -> Option<Duration> {
        match self.disposition() {
            Disposition::Retry { after } => after,
            Disposition::Elsewhere | Disposition::Reject | Disposition::Stop => None,
        }
    }

    /// Rewrites what the other side or the network said, as `rewrite` does.
    pub(super) fn map_text<F>(mut self, rewrite: F) -> Self
    where
        F: FnOnce(String) -> String,
    {
        let text = match &mut self {
            Self::Unreachable { reason }
            | Self::Reset { reason }
            | Self::Truncated { reason, .. }
            | Self::BadOutput { reason } => reason,
            Self::SchemaMismatch { mistakes } => mistakes,
            Self::ModelMissing { message }
            | Self::WrongUrl { message, .. }
            | Self::InvalidRequest { message, .. }
            | Self::Unauthorized { message, .. }
            | Self::RateLimited { message, .. }
            | Self::Overloaded { message, .. }
            | Self::ServerError { message, .. }
            | Self::ContextOverflow { message } => message,
            Self::Redirected { to, .. } => to,
            Self::Timeout { .. } | Self::TooLarge { .. } => return self,
        };
        *text = rewrite(std::mem::take(text));
        self
    }
}

impl fmt::Display for Again {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here | Self::Elsewhere => Ok(()),
            Self::Nowhere { waited } => {
                write!(
                    f,
                    "; this was the answer to others, and after {waited:?} in line it is given up"
                )
            }
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::FirstByte => "first-byte",
            Self::Idle => "idle",
            Self::Total => "total",
            Self::Frozen => "frozen-runner",
            Self::Unresponsive => "unresponsive-server",
        })
    }
}
