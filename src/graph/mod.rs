//! The graph engine: stateful agent graphs with LangGraph's semantics, generic over a typed state.
//!
//! A graph is declared with a [`Builder`], checked when it is built, and run in *supersteps*: all
//! nodes that are due run concurrently on one snapshot of the state, their updates are applied in
//! the order of the nodes' names by each field's reducer, and edges, joins and routers say which
//! nodes are due next. The invariant: what a run does depends on its state and its nodes' answers
//! alone, never on which sibling finished first or on the order in which the graph was put
//! together (but for which of a node's routers is asked first).
//!
//! `docs/graph.md` is the tutorial. Nothing is spawned, so dropping a run drops all that it does.
//! The room imports nothing from the rest of the crate.
//!
//! ```
//! use weir::graph::{self, END, Graph, Options};
//!
//! graph::state! {
//!     /// What the nodes share.
//!     #[derive(Debug, Clone, Default)]
//!     pub struct Tally {
//!         /// A sum.
//!         pub total: u64 => add,
//!     }
//!     /// A summand.
//!     pub update Summand;
//!     error std::convert::Infallible;
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let graph = Graph::builder()
//!     .node("add", |_: &Tally| Ok(Summand::default().total(3)))
//!     .entry("add")
//!     .conditional("add", "enough", |tally| if tally.total > 7 { END } else { "add" }.into(), ["add", END])
//!     .build()?;
//!
//! let tally = graph.run(Tally::default(), &Options::new()).await?;
//!
//! assert_eq!(tally.total, 9);
//! # Ok(())
//! # }
//! ```

mod state;
mod reducers;
mod node;
mod policy;
mod route;
mod builder;
mod build_error;
mod shape;
mod superstep;
mod options;
mod effects;
mod events;
mod trace;
mod error;
mod execute;
mod run;
mod siblings;
mod apply;
mod thread;
mod snapshot;
mod draw;

#[doc(inline)]
pub use crate::__graph_state as state;
pub use build_error::{BuildError, Problem};
pub use builder::{Builder, Graph};
pub use effects::{Effects, EffectsError};
pub use error::{Error, Failure};
pub use events::{Event, Names, Observer};
pub use node::{Context, IntoNode, Node, NodeFuture, Outcome};
pub use options::Options;
pub use policy::{Fault, NodeOptions, Retry};
pub use route::{Route, Targets};
pub use shape::{END, Name, START};
pub use snapshot::{Snapshot, SnapshotError};
pub use state::{Claims, Refusal, State};
pub use thread::{Pending, Status, Thread};
pub use trace::Trace;

#[doc(hidden)]
pub use reducers::private as __private;

/// The programs of the tutorial, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../docs/graph.md")]
struct Tutorial;

#[cfg(test)]
mod tests;
