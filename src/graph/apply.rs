//! What an answer does to a run: its update is checked and applied, and its node's routers are
//! asked. Never awaits.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::builder::Graph;
use super::error::Error;
use super::execute::message;
use super::run::{Answer, Routing, Run};
use super::shape::{Name, NodeId};
use super::state::{Claims, Reason, State, Taken};

impl<S: State> Run<'_, S> {
    /// Checks the updates of one superstep together, before any is applied.
    pub(super) fn check_all(&self, answers: &[Answer<S::Update>]) -> Result<(), Error<S::Error>> {
        let mut taken = Taken::new();
        for answer in answers {
            let mut claims = match answer.node {
                Some(id) => Claims::among(id, &mut taken),
                None => Claims::alone(),
            };
            self.source(answer.node).check(&self.state, &answer.update, &mut claims)?;
        }
        Ok(())
    }

    /// Applies checked updates to a copy of the state.
    pub(super) fn apply_all(&self, answers: &[Answer<S::Update>]) -> Result<S, Error<S::Error>> {
        let mut after = self.state.clone();
        for answer in answers {
            self.source(answer.node).apply(&mut after, answer.update.clone())?;
        }
        Ok(after)
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
    /// Checks an update. A panic in that is the node's.
    pub(super) fn check(
        &self,
        state: &S,
        update: &S::Update,
        claims: &mut Claims<'_>,
    ) -> Result<(), Error<S::Error>> {
        let name = |node| self.graph.name(node);
        let checked = catch_unwind(AssertUnwindSafe(|| state.check(update, claims)));
        checked.map_err(|panic| self.panic(message(&*panic)))?.map_err(|refusal| match refusal.0 {
            Reason::Claimed { field, by } => {
                Error::Conflict { field, first: name(Some(by)), second: name(self.node) }
            }
            Reason::Invalid { field, reason } => {
                Error::Invalid { node: name(self.node), field, reason }
            }
        })
    }

    /// Applies a checked update. A reducer's panic leaves `state` as the reducer left it.
    pub(super) fn apply(&self, state: &mut S, update: S::Update) -> Result<(), Error<S::Error>> {
        let applied = catch_unwind(AssertUnwindSafe(|| state.apply(update)));
        applied.map_err(|panic| self.panic(message(&*panic)))
    }

    /// Adds to `chosen` where the routers lead from `state` with `update` applied to a copy of it.
    pub(super) fn preview(
        &self,
        routing: Routing,
        state: &S,
        update: &S::Update,
        chosen: &mut Vec<NodeId>,
    ) -> Result<(), Error<S::Error>> {
        self.check(state, update, &mut Claims::alone())?;
        let mut view = state.clone();
        self.apply(&mut view, update.clone())?;
        self.route(routing, &view, chosen)
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
