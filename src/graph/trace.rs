//! A run as text, for tests and for eyes.

use std::sync::{Mutex, PoisonError};

use super::events::{Event, Observer};
use super::state::State;

/// An observer that writes down what happens, a line per event.
///
/// ```
/// # use weir::graph::{self, Graph, Options, Trace};
/// # graph::state! {
/// #     #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
/// #     pub struct Log { pub lines: Vec<String> => append }
/// #     pub update Line;
/// #     error std::io::Error;
/// # }
/// # fn line(text: &str) -> Line { Line::default().lines(vec![text.to_owned()]) }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let graph = Graph::builder().node("ask", |_: &Log| Ok(line("a"))).entry("ask").build()?;
/// let trace = Trace::new();
/// graph.run(Log::default(), &Options::new().observer(&trace)).await?;
///
/// assert_eq!(
///     trace.text(),
///     "0: apply, next ask\n1: plan ask\n1: start ask\n1: update ask\n1: apply\n1: done\n",
/// );
/// # Ok(())
/// # }
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
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<S: State> Observer<S> for Trace {
    fn on(&self, event: &Event<'_, S>) {
        let line = match event {
            Event::Input { step, .. } => format!("{step}: input\n"),
            Event::Planned { step, nodes } => format!("{step}: plan {nodes}\n"),
            Event::Started { step, node, attempt: 1, .. } => format!("{step}: start {node}\n"),
            Event::Started { step, node, attempt, .. } => {
                format!("{step}: start {node}, attempt {attempt}\n")
            }
            Event::Updated { step, node, replayed: false, .. } => {
                format!("{step}: update {node}\n")
            }
            Event::Updated { step, node, replayed: true, .. } => format!("{step}: replay {node}\n"),
            Event::Failed { step, node, fault, .. } => format!("{step}: fail {node}: {fault}\n"),
            Event::Retried { step, node, delay, .. } => {
                format!("{step}: retry {node} in {delay:?}\n")
            }
            Event::Applied { step, next, .. } if next.is_empty() => format!("{step}: apply\n"),
            Event::Applied { step, next, .. } => format!("{step}: apply, next {next}\n"),
            Event::Done { step, .. } => format!("{step}: done\n"),
            Event::Aborted { step, error } => format!("{step}: abort: {error}\n"),
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_str(&line);
    }
}
