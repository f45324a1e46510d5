//! Why a graph can't be built, and where.

use std::fmt;

use super::shape::Name;

/// What is wrong with a graph, found when it is built.
///
/// ```
/// # use weir::graph::{self, Graph, Problem, START};
/// # graph::state! {
/// #     #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
/// #     pub struct Log { pub lines: Vec<String> => append }
/// #     pub update Line;
/// #     error std::io::Error;
/// # }
/// # fn line(text: &str) -> Line { Line::default().lines(vec![text.to_owned()]) }
/// let error = Graph::<Log>::builder().edge("a", START).build().unwrap_err();
///
/// assert_eq!(error.call(), Some(0));
/// assert_eq!(*error.problem(), Problem::ToStart { from: "a".into() });
/// assert_eq!(error.to_string(), r#"builder call 0: the way from "a" leads to the start"#);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildError {
    pub(super) call: Option<usize>,
    pub(super) problem: Problem,
}

impl BuildError {
    /// The builder call that can't be right, counted from 0 in the order of the calls; `None` when
    /// only the graph as a whole shows it.
    #[must_use]
    pub fn call(&self) -> Option<usize> {
        self.call
    }

    /// What is wrong.
    #[must_use]
    pub fn problem(&self) -> &Problem {
        &self.problem
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.call {
            Some(call) => write!(formatter, "builder call {call}: {}", self.problem),
            None => self.problem.fmt(formatter),
        }
    }
}

impl std::error::Error for BuildError {}

/// What is wrong with a graph. See the example at [`BuildError`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Two nodes have the same name.
    #[error("node {node:?} is there already")]
    DuplicateNode {
        /// The name.
        node: Name,
    },
    /// A node has a name that means something else.
    #[error("the name {node:?} is reserved")]
    ReservedName {
        /// The name.
        node: Name,
    },
    /// A node's name has a character that separates names elsewhere.
    #[error("the name {node:?} contains {character:?}")]
    NameCharacter {
        /// The name.
        node: Name,
        /// `|` or `:`.
        character: char,
    },
    /// Something starts at the end.
    #[error("the way to {to:?} starts at the end")]
    FromEnd {
        /// Where it leads.
        to: Name,
    },
    /// Something leads to the start.
    #[error("the way from {from:?} leads to the start")]
    ToStart {
        /// Where it starts.
        from: Name,
    },
    /// A join waits for nothing, so it would never fire, or always.
    #[error("the join to {to:?} has no sources")]
    EmptyJoin {
        /// Its target.
        to: Name,
    },
    /// A join waits for what is no node, or not yet: nodes are added before their joins.
    #[error("the join to {to:?} waits for {from:?}, which is no node so far")]
    JoinSource {
        /// The source.
        from: Name,
        /// The join's target.
        to: Name,
    },
    /// A join leads to what is no node, or not yet.
    #[error("a join leads to {to:?}, which is no node so far")]
    JoinTarget {
        /// Its target.
        to: Name,
    },
    /// Two routers of a node have the same label.
    #[error("node {node:?} has a router {label:?} already")]
    DuplicateRouter {
        /// The node, or the start.
        node: Name,
        /// The label.
        label: Name,
    },
    /// A router's answer stands for two targets.
    #[error("router {label:?} of node {node:?} has two targets for {answer:?}")]
    AmbiguousAnswer {
        /// The node, or the start.
        node: Name,
        /// The router's label.
        label: Name,
        /// The answer.
        answer: String,
    },
    /// An edge or a router starts at what is no node.
    #[error("a way starts at {from:?}, which is no node")]
    UnknownSource {
        /// Where it starts.
        from: Name,
    },
    /// Nothing leaves the start.
    #[error("nothing leaves the start: add an edge or a router from START")]
    NoEntry,
    /// A router has a target that is no node.
    #[error("router {label:?} of node {node:?} leads to {to:?}, which is no node")]
    RouterTarget {
        /// The node, or the start.
        node: Name,
        /// The router's label.
        label: Name,
        /// The target.
        to: Name,
    },
    /// An edge leads to what is no node.
    #[error("the edge from {from:?} leads to {to:?}, which is no node")]
    EdgeTarget {
        /// Where it starts.
        from: Name,
        /// Where it leads.
        to: Name,
    },
}
