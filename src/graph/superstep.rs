//! Which nodes are due: planning, as a pure function of what ran and where it led.
//!
//! A node is due when an edge or a router of a node that ran leads to it, or when a join to it is
//! full; once per superstep, however many ways lead there. A deferred node is held until nothing
//! else is due. Never awaits, and knows nothing of states, nodes or routers.

use super::shape::{Exits, JoinId, NodeId, Shape, Table};

/// Where a run stands among the nodes.
#[derive(Debug, Clone)]
pub(super) struct Frontier {
    /// The nodes of the next superstep, ascending.
    due: Vec<NodeId>,
    /// The nodes of the last superstep, ascending.
    ran: Vec<NodeId>,
    /// Deferred nodes that are triggered and held, ascending.
    held: Vec<NodeId>,
    /// Whether a node is in `due` or in `held`.
    marked: Table<bool>,
    joins: Table<Progress>,
}

/// Which sources of a join have run since it last led to its target.
#[derive(Debug, Clone)]
struct Progress {
    seen: Vec<bool>,
    missing: usize,
}

impl Progress {
    fn is_full(&self) -> bool {
        self.missing == 0
    }

    fn clear(&mut self) {
        self.seen.fill(false);
        self.missing = self.seen.len();
    }

    /// Notes a source, and says whether the join is full by that.
    fn fill(&mut self, source: usize) -> bool {
        match self.seen.get_mut(source) {
            Some(seen) if !*seen => {
                *seen = true;
                self.missing = self.missing.saturating_sub(1);
                self.is_full()
            }
            Some(_) | None => false,
        }
    }
}

impl Frontier {
    /// Before anything has run.
    pub(super) fn new(shape: &Shape) -> Self {
        let empty = |sources: usize| Progress { seen: vec![false; sources], missing: sources };
        Self {
            due: Vec::new(),
            ran: Vec::new(),
            held: Vec::new(),
            marked: Table::filled(false, shape.places.len()),
            joins: shape.joins.iter().map(|join| empty(join.sources.len())).collect(),
        }
    }

    /// The nodes of the next superstep, in name order.
    pub(super) fn due(&self) -> &[NodeId] {
        &self.due
    }

    /// The nodes of the last superstep, in name order.
    pub(super) fn ran(&self) -> &[NodeId] {
        &self.ran
    }

    /// The deferred nodes that wait until nothing else is due.
    pub(super) fn held(&self) -> &[NodeId] {
        &self.held
    }

    /// The places, among a join's sources, of those that have run.
    pub(super) fn seen(&self, join: JoinId) -> impl Iterator<Item = usize> {
        self.joins[join].seen.iter().enumerate().filter(|(_, seen)| **seen).map(|(at, _)| at)
    }

    /// Drops what is due, as new input does. Joins to it are used up; half-filled ones and held
    /// nodes stay.
    pub(super) fn discard(&mut self, shape: &Shape) {
        self.run_due(shape);
        self.ran.clear();
    }

    /// Leaves the start, for where its edges and its routers (`chosen`) lead.
    pub(super) fn enter(&mut self, shape: &Shape, chosen: &[NodeId]) {
        self.leave(shape, &shape.start);
        self.arrive(shape, chosen);
    }

    /// Completes a superstep: all that was due has run, and the routers of these nodes chose
    /// `chosen`.
    pub(super) fn advance(&mut self, shape: &Shape, chosen: &[NodeId]) {
        self.run_due(shape);
        for at in 0..self.ran.len() {
            if let Some(id) = self.ran.get(at) {
                self.leave(shape, &shape.places[*id].exits);
            }
        }
        self.arrive(shape, chosen);
    }

    /// Restores a place that was taken by the accessors above.
    pub(super) fn restore(&mut self, due: &[NodeId], held: &[NodeId]) {
        for id in due.iter().chain(held) {
            self.marked[*id] = true;
        }
        self.due = due.to_vec();
        self.held = held.to_vec();
        self.due.sort_unstable();
        self.held.sort_unstable();
    }

    /// Notes that a source of a join has run, without leading anywhere.
    pub(super) fn restore_seen(&mut self, join: JoinId, source: usize) {
        self.joins[join].fill(source);
    }

    /// Moves what is due to what ran. A full join is used up when its target starts, so that a
    /// source which runs in the same superstep counts for the next round.
    fn run_due(&mut self, shape: &Shape) {
        std::mem::swap(&mut self.due, &mut self.ran);
        self.due.clear();
        for id in &self.ran {
            self.marked[*id] = false;
            for join in &shape.places[*id].joins_in {
                if self.joins[*join].is_full() {
                    self.joins[*join].clear();
                }
            }
        }
    }

    fn leave(&mut self, shape: &Shape, exits: &Exits) {
        for target in &exits.edges {
            self.trigger(shape, *target);
        }
        for (join, source) in &exits.joins {
            if self.joins[*join].fill(*source)
                && let Some(target) = shape.joins[*join].target
            {
                self.trigger(shape, target);
            }
        }
    }

    fn arrive(&mut self, shape: &Shape, chosen: &[NodeId]) {
        for target in chosen {
            self.trigger(shape, *target);
        }
        if self.due.is_empty() {
            std::mem::swap(&mut self.due, &mut self.held);
        }
        self.due.sort_unstable();
        self.held.sort_unstable();
    }

    fn trigger(&mut self, shape: &Shape, id: NodeId) {
        if !std::mem::replace(&mut self.marked[id], true) {
            if shape.places[id].deferred {
                self.held.push(id);
            } else {
                self.due.push(id);
            }
        }
    }
}
