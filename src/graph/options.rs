//! What a run is given besides its state: limits, a way to stop it, a record, an observer.

use std::fmt;
use std::future::pending;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::effects::Effects;
use super::events::{Event, Observer};
use super::state::State;

/// How one run is to be treated. It borrows all that it is given and is cheap to copy.
///
/// ```
/// use std::time::Duration;
///
/// use tokio::time::Instant;
/// use tokio_util::sync::CancellationToken;
/// use weir::graph::{Effects, Options, State, Trace};
///
/// fn careful<'a, S: State>(
///     token: &'a CancellationToken,
///     record: &'a dyn Effects<S>,
///     trace: &'a Trace,
/// ) -> Options<'a, S> {
///     Options::new()
///         .recursion_limit(10)
///         .parallelism(4)
///         .cancel(token)
///         .deadline(Instant::now() + Duration::from_secs(300))
///         .effects(record)
///         .observer(trace)
/// }
/// ```
pub struct Options<'a, S: State> {
    pub(super) recursion_limit: u32,
    pub(super) parallelism: usize,
    pub(super) cancel: Option<&'a CancellationToken>,
    pub(super) deadline: Option<Instant>,
    pub(super) effects: Option<&'a dyn Effects<S>>,
    pub(super) observer: Option<&'a dyn Observer<S>>,
}

/// Why a run is ended from outside.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stop {
    Cancelled,
    Deadline,
}

impl<'a, S: State> Options<'a, S> {
    /// Recursion limit 25, 64 siblings at once; no token, no deadline, no record, no observer.
    #[must_use]
    pub fn new() -> Self {
        Self {
            recursion_limit: 25,
            parallelism: 64,
            cancel: None,
            deadline: None,
            effects: None,
            observer: None,
        }
    }

    /// The largest number of supersteps, counted as LangGraph does: leaving the start is one, and
    /// the limit is checked before it is noticed that nothing is left. So a run of `k` supersteps
    /// of nodes succeeds if `k < limit`. Default 25, LangGraph's of old: enough for any agent loop
    /// that makes progress, and it ends one that does not before it costs much. 0 refuses every
    /// run.
    #[must_use]
    pub fn recursion_limit(mut self, limit: u32) -> Self {
        self.recursion_limit = limit;
        self
    }

    /// The largest number of nodes of one superstep that run at once; at least 1, default 64.
    #[must_use]
    pub fn parallelism(mut self, siblings: usize) -> Self {
        self.parallelism = siblings.max(1);
        self
    }

    /// Ends the run as soon as `token` is cancelled: running nodes are dropped.
    #[must_use]
    pub fn cancel(mut self, token: &'a CancellationToken) -> Self {
        self.cancel = Some(token);
        self
    }

    /// Ends the run at `instant`: running nodes are dropped. Nodes see it in their context.
    #[must_use]
    pub fn deadline(mut self, instant: Instant) -> Self {
        self.deadline = Some(instant);
        self
    }

    /// The record of durable nodes. Without one, they run like the others. A record is of one run,
    /// or of one input of a thread: it knows a node's executions by their number alone.
    #[must_use]
    pub fn effects(mut self, effects: &'a dyn Effects<S>) -> Self {
        self.effects = Some(effects);
        self
    }

    /// Tells `observer` what happens.
    #[must_use]
    pub fn observer(mut self, observer: &'a dyn Observer<S>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Tells the observer, if there is one; only then is the event made.
    pub(super) fn tell<'e>(&self, event: impl FnOnce() -> Event<'e, S>) {
        if let Some(observer) = self.observer {
            observer.on(&event());
        }
    }

    /// Waits until the run is to end early.
    pub(super) async fn stopped(&self) -> Stop {
        let cancelled = async {
            match self.cancel {
                Some(token) => token.cancelled().await,
                None => pending().await,
            }
        };
        let late = async {
            match self.deadline {
                Some(instant) => sleep_until(instant).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased; // who cancels wants to hear that, also when time is up as well
            () = cancelled => Stop::Cancelled,
            () = late => Stop::Deadline,
        }
    }
}

impl<S: State> Clone for Options<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S: State> Copy for Options<'_, S> {}

impl<S: State> Default for Options<'_, S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: State> fmt::Debug for Options<'_, S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Options")
            .field("recursion_limit", &self.recursion_limit)
            .field("parallelism", &self.parallelism)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}
