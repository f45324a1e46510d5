//! The nodes, edges and joins of a built graph by number: all that planning needs, and nothing of
//! the state.

use std::ops::{Index, IndexMut};
use std::sync::Arc;

/// The name of the entry: where a run comes from before any node has run. See the example at
/// [`Builder`](super::Builder).
pub const START: &str = "__start__";

/// The name of the end: a target that runs nothing. See the example at [`Builder`](super::Builder).
pub const END: &str = "__end__";

/// Names that LangGraph (1.2) keeps for itself: a graph that it refuses is refused.
pub(super) const RESERVED: [&str; 24] = [
    "__error__",
    "__error_source_node__",
    "__input__",
    "__interrupt__",
    "__no_writes__",
    "__pregel_checkpointer",
    "__pregel_pull",
    "__pregel_push",
    "__pregel_read",
    "__pregel_replay_state",
    "__pregel_resume_map",
    "__pregel_resuming",
    "__pregel_send",
    "__pregel_stream",
    "__pregel_stream_messages_v2",
    "__pregel_strict_resume",
    "__pregel_task_id",
    "__pregel_timed_attempt_observer",
    "__resume__",
    "__snapshot_bumps__",
    "checkpoint_id",
    "checkpoint_map",
    "checkpoint_ns",
    "configurable",
];

/// A node's name, shared with the graph. See the example at [`Thread`](super::Thread).
pub type Name = Arc<str>;

/// A node by the place of its name among the sorted names, so that ascending numbers are name
/// order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NodeId(usize);

impl NodeId {
    /// A number that tells it from the others of its graph.
    pub(super) fn place(self) -> usize {
        self.0
    }
}

/// A join by the order in which it was declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct JoinId(usize);

impl JoinId {
    /// A number that tells it from the others of its graph.
    pub(super) fn place(self) -> usize {
        self.0
    }
}

/// One value per node or per join of a graph.
#[derive(Debug, Clone)]
pub(super) struct Table<T>(Vec<T>);

impl<T> Table<T> {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }

    pub(super) fn iter_mut(&mut self) -> std::slice::IterMut<'_, T> {
        self.0.iter_mut()
    }
}

impl<T: Clone> Table<T> {
    pub(super) fn filled(value: T, len: usize) -> Self {
        Self(vec![value; len])
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> FromIterator<T> for Table<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

impl<T> Index<NodeId> for Table<T> {
    type Output = T;

    #[expect(clippy::indexing_slicing, reason = "the builder numbers the nodes of this very graph")]
    fn index(&self, id: NodeId) -> &T {
        &self.0[id.0]
    }
}

impl<T> IndexMut<NodeId> for Table<T> {
    #[expect(clippy::indexing_slicing, reason = "the builder numbers the nodes of this very graph")]
    fn index_mut(&mut self, id: NodeId) -> &mut T {
        &mut self.0[id.0]
    }
}

impl<T> Index<JoinId> for Table<T> {
    type Output = T;

    #[expect(clippy::indexing_slicing, reason = "the builder numbers the joins of this very graph")]
    fn index(&self, id: JoinId) -> &T {
        &self.0[id.0]
    }
}

impl<T> IndexMut<JoinId> for Table<T> {
    #[expect(clippy::indexing_slicing, reason = "the builder numbers the joins of this very graph")]
    fn index_mut(&mut self, id: JoinId) -> &mut T {
        &mut self.0[id.0]
    }
}

/// Where a run goes when a node has run, whatever the state.
#[derive(Debug, Clone, Default)]
pub(super) struct Exits {
    /// Targets of plain edges, ascending, each once.
    pub(super) edges: Vec<NodeId>,
    /// Whether a plain edge leads to the end.
    pub(super) ends: bool,
    /// The joins that wait for this node, and its place among their sources.
    pub(super) joins: Vec<(JoinId, usize)>,
}

/// What planning knows of a node.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) name: Name,
    pub(super) exits: Exits,
    /// The joins that lead here.
    pub(super) joins_in: Vec<JoinId>,
    pub(super) deferred: bool,
}

/// A target that waits for all of its sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Join {
    /// Ascending, each once.
    pub(super) sources: Vec<NodeId>,
    /// `None` is the end.
    pub(super) target: Option<NodeId>,
}

/// A graph without its state, nodes and routers.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    /// In name order.
    pub(super) places: Table<Place>,
    pub(super) joins: Table<Join>,
    pub(super) start: Exits,
}

impl Shape {
    pub(super) fn find(&self, name: &str) -> Option<NodeId> {
        self.places.0.binary_search_by(|place| (*place.name).cmp(name)).ok().map(NodeId)
    }

    pub(super) fn name(&self, id: NodeId) -> &Name {
        &self.places[id].name
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.places.len()).map(NodeId)
    }

    pub(super) fn join_ids(&self) -> impl Iterator<Item = JoinId> + use<> {
        (0..self.joins.len()).map(JoinId)
    }
}
