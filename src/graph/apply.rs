//! What an answer does to a run: its update is checked and applied, and its node's routers are
//! asked. Never awaits.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::builder::Graph;
use super::error::Error;
use super::execute::message;
use super::run::{Answer, Routing};
use super::shape::{Name, NodeId};
use super::state::{Claims, Reason, Refusal, State, Taken};

/// Checks the updates of one superstep together, before any is applied.
pub(super) fn check_all<S: State>(
    graph: &Graph<S>,
    state: &S,
    answers: &[Answer<S::Update>],
) -> Result<(), Error<S::Error>> {
    let mut taken = Taken::new();
    for answer in answers {
        let mut claims = match answer.node {
            Some(id) => Claims::among(id, &mut taken),
            None => Claims::alone(),
        };
        let checked = state.check(&answer.update, &mut claims);
        checked.map_err(|refusal| refused(graph, answer.node, refusal))?;
    }
    Ok(())
}

/// Applies checked updates to a copy of `state`.
pub(super) fn apply_all<S: State>(
    graph: &Graph<S>,
    state: &S,
    answers: &[Answer<S::Update>],
) -> Result<S, Error<S::Error>> {
    let mut after = state.clone();
    for answer in answers {
        let source = Source { graph, node: answer.node, visit: 0 };
        source.apply(&mut after, answer.update.clone())?;
    }
    Ok(after)
}

pub(super) fn refused<S: State>(
    graph: &Graph<S>,
    node: Option<NodeId>,
    refusal: Refusal,
) -> Error<S::Error> {
    match refusal.0 {
        Reason::Claimed { field, by } => {
            Error::Conflict { field, first: graph.name(Some(by)), second: graph.name(node) }
        }
        Reason::Invalid { field, reason } => {
            Error::Invalid { node: graph.name(node), field, reason }
        }
    }
}

/// Where an update comes from: a node's execution, or the start.
#[derive(Clone, Copy)]
pub(super) struct Source<'g, S: State> {
    pub(super) graph: &'g Graph<S>,
    pub(super) node: Option<NodeId>,
    pub(super) visit: u32,
}

impl<S: State> Source<'_, S> {
    /// Applies a checked update. A reducer's panic leaves `state` as the reducer left it.
    pub(super) fn apply(&self, state: &mut S, update: S::Update) -> Result<(), Error<S::Error>> {
        let applied = catch_unwind(AssertUnwindSafe(|| state.apply(update)));
        applied.map_err(|panic| self.panic(message(&*panic)))
    }

    /// Adds to `chosen` where the routers lead from `state`.
    pub(super) fn route(
        &self,
        routing: Routing,
        state: &S,
        chosen: &mut Vec<NodeId>,
    ) -> Result<(), Error<S::Error>> {
        for conditional in self.graph.conditionals(self.node) {
            let before = chosen.len();
            let choose = || conditional.choose(&self.graph.shape, state, chosen);
            let error = match catch_unwind(AssertUnwindSafe(choose)) {
                Ok(Ok(())) => continue,
                Ok(Err(target)) => {
                    let (node, router) =
                        (self.graph.name(self.node), Name::clone(&conditional.label));
                    Error::Route { node, router, target }
                }
                Err(panic) => self.panic(message(&*panic)),
            };
            chosen.truncate(before);
            return if routing == Routing::Settled { Ok(()) } else { Err(error) };
        }
        Ok(())
    }

    fn panic(&self, message: String) -> Error<S::Error> {
        Error::Panic { node: self.graph.name(self.node), visit: self.visit, message }
    }
}
