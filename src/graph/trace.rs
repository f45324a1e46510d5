//! A run as text, for tests and for eyes.

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use super::events::{Event, Observer};
use super::policy::Fault;
use super::state::State;

/// An observer that writes down what happens, a line per event.
///
/// ```text
/// 1: plan orchestrator
/// 1: start orchestrator
/// 1: update orchestrator
/// 1: apply, next data_agent
/// …
/// 5: done
/// ```
#[derive(Debug, Default)]
pub struct Trace(Mutex<String>);

impl Trace {
    /// An empty trace.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What was written so far.
    #[must_use]
    pub fn text(&self) -> String {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl<S: State> Observer<S> for Trace {
    fn on(&self, event: &Event<'_, S>) {
        let mut text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing to a String can't fail.
        let _: Result<(), std::fmt::Error> = match event {
            Event::Input { step, .. } => writeln!(text, "{step}: input"),
            Event::Planned { step, nodes } => writeln!(text, "{step}: plan {nodes}"),
            Event::Started {
                step,
                node,
                attempt: 1,
                ..
            } => writeln!(text, "{step}: start {node}"),
            Event::Started {
                step,
                node,
                attempt,
                ..
            } => {
                writeln!(text, "{step}: start {node}, attempt {attempt}")
            }
            Event::Updated {
                step,
                node,
                replayed: false,
                ..
            } => {
                writeln!(text, "{step}: update {node}")
            }
            Event::Updated {
                step,
                node,
                replayed: true,
                ..
            } => {
                writeln!(text, "{step}: replay {node}")
            }
            Event::Failed {
                step,
                node,
                fault: Fault::Failed(error),
                ..
            } => {
                writeln!(text, "{step}: fail {node}: {error}")
            }
            Event::Failed {
                step,
                node,
                fault: Fault::Panicked(message),
                ..
            } => {
                writeln!(text, "{step}: fail {node}: panic: {message}")
            }
            Event::Failed {
                step,
                node,
                fault: Fault::TimedOut(limit),
                ..
            } => {
                writeln!(text, "{step}: fail {node}: no answer within {limit:?}")
            }
            Event::Retried {
                step, node, delay, ..
            } => {
                writeln!(text, "{step}: retry {node} in {delay:?}")
            }
            Event::Applied { step, next, .. } if next.is_empty() => writeln!(text, "{step}: apply"),
            Event::Applied { step, next, .. } => writeln!(text, "{step}: apply, next {next}"),
            Event::Done { step, .. } => writeln!(text, "{step}: done"),
        };
    }
}
