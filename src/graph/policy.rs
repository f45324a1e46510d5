//! How a node is treated: its time-out, what is retried, what is durable, what waits for the rest.

use std::fmt;
use std::time::Duration;

use super::shape::Name;
use super::state::State;

/// How one attempt of a node failed. See the example at [`Retry`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault<E> {
    /// The node answered with its own error.
    #[error("{0}")]
    Failed(E),
    /// The node panicked; what it said.
    #[error("panic: {0}")]
    Panicked(String),
    /// The attempt took longer than the node's limit, and was dropped.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The node answered with an update that the state refuses, so that its routers can't be asked.
    /// Only nodes with routers have this fault: of others, an update is looked at with those of
    /// their siblings.
    #[error("the update to {field:?} can't be applied: {reason}")]
    Refused {
        /// The field.
        field: String,
        /// The state's reason.
        reason: String,
    },
    /// The node answered, and one of its routers named what stands for nothing.
    #[error("router {router:?} leads to {target:?}, which it has no target for")]
    Unrouted {
        /// The router's label.
        router: Name,
        /// The name it answered.
        target: String,
    },
}

/// When a failed attempt of a node is followed by another, within the same superstep.
///
/// Its siblings don't run again, and nothing of a failed attempt is written.
///
/// The routers of a node are part of its attempts: one that leads nowhere is a fault, and if the
/// policy wants it so, the node runs again. If not, its answer stands and the run ends with the
/// router's error. A node that has both a policy and routers costs a copy of the state per attempt.
///
/// ```
/// use std::time::Duration;
///
/// use weir::graph::{Fault, Retry};
///
/// let thrice = Retry::exponential(3, Duration::from_millis(500), Duration::from_secs(8))
///     .when(|error: &std::io::Error| error.kind() == std::io::ErrorKind::TimedOut);
/// let once_at_most = Retry::by(|attempt, fault: &Fault<std::io::Error>| match fault {
///     Fault::Failed(_) | Fault::TimedOut(_) if attempt == 1 => Some(Duration::from_secs(1)),
///     _ => None,
/// });
/// ```
pub struct Retry<E>(Box<Delay<E>>);

/// Attempts made and how the last one failed -> the wait before the next, if there is to be one.
type Delay<E> = dyn Fn(u32, &Fault<E>) -> Option<Duration> + Send + Sync;

impl<E: 'static> Retry<E> {
    /// Waits `initial` after the first failure and twice as long after each further one, at most
    /// `max`; `attempts` in all, the first one included. What the node itself says or is too slow
    /// to say is retried; a panic is not, nor is an answer that can't be applied or routed.
    #[must_use]
    pub fn exponential(attempts: u32, initial: Duration, max: Duration) -> Self {
        Self::by(move |attempt, fault| match fault {
            Fault::Panicked(_) | Fault::Refused { .. } | Fault::Unrouted { .. } => None,
            Fault::Failed(_) | Fault::TimedOut(_) if attempt >= attempts => None,
            Fault::Failed(_) | Fault::TimedOut(_) => {
                let doublings = attempt.saturating_sub(1).min(31);
                Some(initial.saturating_mul(1 << doublings).min(max))
            }
        })
    }

    /// Asks `delay` after every failed attempt (counted from 1) how long to wait before the next;
    /// `None` ends the node. Jitter, a wish of the other side, a budget: all can be told here. A panic
    /// in it is the node's.
    #[must_use]
    pub fn by(delay: impl Fn(u32, &Fault<E>) -> Option<Duration> + Send + Sync + 'static) -> Self {
        Self(Box::new(delay))
    }

    /// Retries only those of the node's own errors that `worth` picks; all else stays as it was.
    #[must_use]
    pub fn when(self, worth: impl Fn(&E) -> bool + Send + Sync + 'static) -> Self {
        Self::by(move |attempt, fault| match fault {
            Fault::Failed(error) if !worth(error) => None,
            Fault::Failed(_)
            | Fault::Panicked(_)
            | Fault::TimedOut(_)
            | Fault::Refused { .. }
            | Fault::Unrouted { .. } => self.0(attempt, fault),
        })
    }

    pub(super) fn delay(&self, attempt: u32, fault: &Fault<E>) -> Option<Duration> {
        self.0(attempt, fault)
    }
}

impl<E> fmt::Debug for Retry<E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Retry")
    }
}

/// How a node is treated; by default without a time-out, without retries, neither durable nor
/// deferred.
///
/// ```
/// # use std::time::Duration;
/// # use weir::graph::{NodeOptions, Retry, State};
/// /// For a node that asks a model.
/// fn asks<S: State>() -> NodeOptions<S> {
///     NodeOptions::new()
///         .durable()
///         .timeout(Duration::from_secs(60))
///         .retry(Retry::exponential(3, Duration::from_millis(500), Duration::from_secs(10)))
/// }
///
/// /// For one that sums up when all others have run.
/// fn sums_up<S: State>() -> NodeOptions<S> {
///     asks().deferred()
/// }
/// ```
pub struct NodeOptions<S: State> {
    pub(super) timeout: Option<Duration>,
    pub(super) retry: Option<Retry<S::Error>>,
    pub(super) durable: bool,
    pub(super) deferred: bool,
}

impl<S: State> NodeOptions<S> {
    /// The treatment that a node gets when nothing is said.
    #[must_use]
    pub fn new() -> Self {
        Self { timeout: None, retry: None, durable: false, deferred: false }
    }

    /// Drops an attempt that takes longer than `limit`.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Retries failed attempts.
    #[must_use]
    pub fn retry(mut self, retry: Retry<S::Error>) -> Self {
        self.retry = Some(retry);
        self
    }

    /// Records the node's update before the run goes on, and takes it from the record where it is
    /// there: for nodes that cost money or have an effect on the world. See
    /// [`Effects`](super::Effects).
    #[must_use]
    pub fn durable(mut self) -> Self {
        self.durable = true;
        self
    }

    /// Holds the node back until nothing else is due; all that are held back then run together.
    #[must_use]
    pub fn deferred(mut self) -> Self {
        self.deferred = true;
        self
    }
}

impl<S: State> Default for NodeOptions<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: State> fmt::Debug for NodeOptions<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("NodeOptions")
            .field("timeout", &self.timeout)
            .field("retry", &self.retry)
            .field("durable", &self.durable)
            .field("deferred", &self.deferred)
            .finish()
    }
}
