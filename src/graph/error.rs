//! How a run ends when it does not come to its end.

use std::fmt;
use std::time::Duration;

use super::effects::EffectsError;
use super::shape::Name;
use super::state::State;

/// Why a run ended early, with the node's own error in it when that was the reason.
///
/// When several nodes of a superstep fail, this is about the first of them in name order. See the
/// example at [`Failure`].
#[derive(Debug, thiserror::Error)]
pub enum Error<E> {
    /// A node answered with its own error, and was not to be retried.
    #[error("node {node:?} failed on attempt {attempts}")]
    Node {
        /// The node.
        node: Name,
        /// Which execution of it in this run, from 0.
        visit: u32,
        /// How many attempts were made.
        attempts: u32,
        /// What it said.
        source: E,
    },
    /// A node, one of its routers, or the reducer of its update panicked.
    #[error("node {node:?} panicked: {message}")]
    Panic {
        /// The node, or [`START`](super::START).
        node: Name,
        /// Which execution of it in this run, from 0.
        visit: u32,
        /// What it said.
        message: String,
    },
    /// A node took longer than its limit.
    #[error("node {node:?} gave no answer within {limit:?}")]
    Timeout {
        /// The node.
        node: Name,
        /// Which execution of it in this run, from 0.
        visit: u32,
        /// The limit.
        limit: Duration,
    },
    /// A router named what stands for nothing.
    #[error("router {router:?} of node {node:?} leads to {target:?}, which it has no target for")]
    Route {
        /// The node that the router belongs to, or [`START`](super::START).
        node: Name,
        /// The router's label.
        router: Name,
        /// The name it answered.
        target: String,
    },
    /// Two nodes of one superstep wrote a field that takes one write.
    #[error("nodes {first:?} and {second:?} both wrote {field:?} in one superstep")]
    Conflict {
        /// The field.
        field: String,
        /// The writer that comes first in name order.
        first: Name,
        /// The other.
        second: Name,
    },
    /// The state refused an update.
    #[error("the update of node {node:?} to {field:?} can't be applied: {reason}")]
    Invalid {
        /// The node, or [`START`](super::START) for a thread's input.
        node: Name,
        /// The field.
        field: String,
        /// The state's reason.
        reason: String,
    },
    /// The run has not ended within its supersteps.
    #[error("recursion limit of {limit} reached after {last:?}, before {next:?}")]
    RecursionLimit {
        /// The limit.
        limit: u32,
        /// The nodes of the last superstep.
        last: Vec<Name>,
        /// The nodes that would have been next; none when the run was at its end without knowing.
        next: Vec<Name>,
    },
    /// The run's token was cancelled.
    #[error("cancelled while {running:?} ran")]
    Cancelled {
        /// The nodes that had neither answered nor failed.
        running: Vec<Name>,
    },
    /// The run's deadline has passed.
    #[error("deadline passed while {running:?} ran")]
    Deadline {
        /// The nodes that had neither answered nor failed.
        running: Vec<Name>,
    },
    /// What a durable node did can't be recorded, or its record can't be read.
    #[error("the record of node {node:?}, visit {visit}, is not available")]
    Effects {
        /// The node.
        node: Name,
        /// Which execution of it in this run, from 0.
        visit: u32,
        /// The recorder's reason.
        source: EffectsError,
    },
    /// A thread without any input was to go on.
    #[error("nothing to resume: the thread has had no input")]
    NothingToResume,
}

impl<E> Error<E> {
    /// The node that the error is about; of a conflict, the second writer.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        match self {
            Self::Node { node, .. }
            | Self::Panic { node, .. }
            | Self::Timeout { node, .. }
            | Self::Route { node, .. }
            | Self::Conflict { second: node, .. }
            | Self::Invalid { node, .. }
            | Self::Effects { node, .. } => Some(node),
            Self::RecursionLimit { .. }
            | Self::Cancelled { .. }
            | Self::Deadline { .. }
            | Self::NothingToResume => None,
        }
    }
}

/// A run that ended early: why, when, and what it had until then.
///
/// ```
/// # use std::io;
/// # use weir::graph::{self, Error, Graph, Options};
/// # graph::state! {
/// #     #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
/// #     pub struct Log { pub lines: Vec<String> => append }
/// #     pub update Line;
/// #     error std::io::Error;
/// # }
/// # fn line(text: &str) -> Line { Line::default().lines(vec![text.to_owned()]) }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let graph = Graph::builder()
///     .node("open", |_: &Log| Ok(line("opened")))
///     .node("read", |_: &Log| Err::<Line, _>(io::ErrorKind::UnexpectedEof.into()))
///     .entry("open")
///     .edge("open", "read")
///     .build()?;
///
/// let failure = graph.run(Log::default(), &Options::new()).await.unwrap_err();
///
/// assert_eq!((failure.step, failure.state.lines), (2, vec!["opened".to_owned()]));
/// assert_eq!(failure.error.node(), Some("read"));
/// let Error::Node { source, .. } = failure.error else { panic!() };
/// assert_eq!(source.kind(), io::ErrorKind::UnexpectedEof);
/// # Ok(())
/// # }
/// ```
pub struct Failure<S: State> {
    /// Why.
    pub error: Error<S::Error>,
    /// The errors of other nodes of the same superstep, in name order; also of those that had failed
    /// when the run was cancelled or late.
    pub also: Vec<Error<S::Error>>,
    /// The superstep that could not be completed; 0 is the start, nodes run from 1.
    pub step: i64,
    /// The state that the last complete superstep made. After a router's error in a superstep of a
    /// single node it has that node's update too, and after a reducer's panic whatever the reducer
    /// left.
    pub state: S,
}

impl<S: State> fmt::Debug for Failure<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Failure")
            .field("error", &self.error)
            .field("also", &self.also)
            .field("step", &self.step)
            .finish_non_exhaustive()
    }
}

impl<S: State> fmt::Display for Failure<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "superstep {}: {}", self.step, self.error)
    }
}

impl<S: State> std::error::Error for Failure<S> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.error)
    }
}
