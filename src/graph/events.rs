//! What a run tells whoever watches it.

use std::fmt;
use std::time::Duration;

use super::error::Error;
use super::policy::Fault;
use super::shape::{NodeId, Shape};
use super::state::State;

/// Watches a run. Called from within the run, so it must return quickly and not block; its panic
/// unwinds through the run to whoever polls it.
///
/// An array of observers is one that tells each of them in turn.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use weir::graph::{Event, Observer, State};
///
/// /// Counts failed attempts.
/// #[derive(Default)]
/// struct Failures(AtomicU64);
///
/// impl<S: State> Observer<S> for Failures {
///     fn on(&self, event: &Event<'_, S>) {
///         if let Event::Failed { .. } = event {
///             self.0.fetch_add(1, Ordering::Relaxed);
///         }
///     }
/// }
///
/// fn both<S: State>(failures: &Failures, trace: &weir::graph::Trace, event: &Event<'_, S>) {
///     let both: [&dyn Observer<S>; 2] = [failures, trace];
///     both.on(event);
/// }
/// ```
pub trait Observer<S: State>: Send + Sync {
    /// Takes notice of `event`.
    fn on(&self, event: &Event<'_, S>);
}

impl<S: State, const N: usize> Observer<S> for [&dyn Observer<S>; N] {
    fn on(&self, event: &Event<'_, S>) {
        self.iter().for_each(|observer| observer.on(event));
    }
}

/// One thing that happened in a run. Supersteps of nodes are counted from 1, the start is 0. See the
/// example at [`Observer`].
pub enum Event<'a, S: State> {
    /// A thread took new input; `state` does not have it yet.
    Input {
        /// The step under which the input is kept.
        step: i64,
        /// The state before the input.
        state: &'a S,
    },
    /// A superstep begins.
    Planned {
        /// The superstep.
        step: i64,
        /// The nodes that are due, in name order.
        nodes: Names<'a>,
    },
    /// A node's attempt begins.
    Started {
        /// The superstep.
        step: i64,
        /// The node.
        node: &'a str,
        /// Which execution of it in this run, from 0.
        visit: u32,
        /// Which attempt of this execution, from 1.
        attempt: u32,
    },
    /// A node answered (and, when durable, its update is recorded).
    Updated {
        /// The superstep.
        step: i64,
        /// The node.
        node: &'a str,
        /// Which execution of it in this run, from 0.
        visit: u32,
        /// What it answered.
        update: &'a S::Update,
        /// How long its last attempt took; zero when replayed.
        took: Duration,
        /// Whether the update was taken from the record.
        replayed: bool,
    },
    /// A node's attempt failed.
    Failed {
        /// The superstep.
        step: i64,
        /// The node.
        node: &'a str,
        /// Which execution of it in this run, from 0.
        visit: u32,
        /// Which attempt of this execution, from 1.
        attempt: u32,
        /// How.
        fault: &'a Fault<S::Error>,
        /// How long the attempt took.
        took: Duration,
    },
    /// A failed attempt will be followed by another.
    Retried {
        /// The superstep.
        step: i64,
        /// The node.
        node: &'a str,
        /// The attempt to come.
        attempt: u32,
        /// The wait before it.
        delay: Duration,
    },
    /// A superstep is complete: all of its updates are applied.
    Applied {
        /// The superstep.
        step: i64,
        /// The state that it made.
        state: &'a S,
        /// The nodes that are due next, in name order.
        next: Names<'a>,
    },
    /// The run came to its end.
    Done {
        /// The last superstep.
        step: i64,
        /// The final state.
        state: &'a S,
    },
    /// The run ended early. Of a run that was dropped nothing is told, nor of one that could not
    /// begin.
    Aborted {
        /// The superstep that could not be completed.
        step: i64,
        /// Why.
        error: &'a Error<S::Error>,
    },
}

/// Names of nodes, in name order.
///
/// ```
/// use weir::graph::Names;
///
/// fn sentence(nodes: Names<'_>) -> String {
///     match nodes.iter().next() {
///         _ if nodes.is_empty() => "nobody is next".to_owned(),
///         Some(first) if nodes.len() > 1 => format!("{first} and {} more", nodes.len() - 1),
///         _ => format!("{nodes} alone"),
///     }
/// }
/// ```
#[derive(Clone, Copy)]
pub struct Names<'a> {
    shape: &'a Shape,
    ids: &'a [NodeId],
}

impl<'a> Names<'a> {
    pub(super) fn new(shape: &'a Shape, ids: &'a [NodeId]) -> Self {
        Self { shape, ids }
    }

    /// The names one by one.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a str> + use<'a> {
        let shape = self.shape;
        self.ids.iter().map(move |id| &**shape.name(*id))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

impl fmt::Display for Names<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, name) in self.iter().enumerate() {
            if at > 0 {
                formatter.write_str(", ")?;
            }
            formatter.write_str(name)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Names<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}
