//! A superstep of several nodes: all on one snapshot, applied in name order whoever answers first.

use futures_util::stream::{FuturesUnordered, StreamExt as _};

use super::apply::{Source, apply_all, check_all};
use super::error::Error;
use super::execute::{Execution, Trouble};
use super::options::Options;
use super::run::{Answer, Routing, Run};
use super::shape::NodeId;
use super::state::{Claims, State};

impl<S: State> Run<'_, S> {
    /// Runs what is due, several nodes at once, and applies what all of them answered.
    pub(super) async fn execute_together(
        &mut self,
        options: &Options<'_, S>,
    ) -> Result<(), Error<S::Error>> {
        let mut troubles = self.execute_siblings(options).await;
        self.failed.extend(troubles.iter().map(|(id, _)| *id));
        self.answers.sort_unstable_by_key(|answer| answer.node);
        troubles.extend(self.route_siblings());
        troubles.sort_by_key(|(id, _)| *id);
        let mut errors = troubles.into_iter().map(|(_, error)| error);
        match errors.next() {
            Some(first) => {
                self.also.extend(errors);
                Err(first)
            }
            None => self.apply_siblings(),
        }
    }

    /// Runs the nodes that have not answered yet, several at once, on one snapshot.
    async fn execute_siblings(
        &mut self,
        options: &Options<'_, S>,
    ) -> Vec<(NodeId, Error<S::Error>)> {
        let Self { graph, state, frontier, visits, step, answers, .. } = self;
        let (graph, state, step) = (*graph, &*state, step.saturating_add(1));
        let answered: Vec<Option<NodeId>> = answers.iter().map(|answer| answer.node).collect();
        let mut waiting = frontier.due().iter().filter(|id| !answered.contains(&Some(**id)));
        let mut running = FuturesUnordered::new();
        let mut troubles = Vec::new();
        loop {
            // When one has failed, those that run may finish, since they are paid for; no other
            // starts.
            while troubles.is_empty() && running.len() < options.parallelism {
                let Some(id) = waiting.next().copied() else {
                    break;
                };
                let (name, entry, visit) = (graph.shape.name(id), &graph.nodes[id], visits[id]);
                let execution = Execution { name, entry, state, step, visit, options };
                running.push(async move { (id, execution.run().await) });
            }
            match running.next().await {
                None => return troubles,
                Some((id, Ok(update))) => {
                    answers.push(Answer { node: Some(id), update, routing: Routing::Due });
                }
                Some((id, Err(trouble))) => {
                    let trouble: Trouble<S::Error> = trouble;
                    troubles.push((id, trouble.into_error(graph.name(Some(id)), visits[id])));
                }
            }
        }
    }

    /// Asks the routers of the siblings that have answered. Each sees the snapshot and its own
    /// node's update.
    fn route_siblings(&mut self) -> Vec<(NodeId, Error<S::Error>)> {
        let graph = self.graph;
        let mut troubles = Vec::new();
        for answer in &mut self.answers {
            let Some(id) = answer.node.filter(|id| !graph.conditionals(Some(*id)).is_empty())
            else {
                continue;
            };
            // A refused update is reported when the updates are applied, with those of all
            // siblings.
            if self.state.check(&answer.update, &mut Claims::alone()).is_err() {
                continue;
            }
            let source = Source { graph, node: Some(id), visit: self.visits[id] };
            let mut view = self.state.clone();
            let routed = source
                .apply(&mut view, answer.update.clone())
                .and_then(|()| source.route(answer.routing, &view, &mut self.chosen));
            match routed {
                Ok(()) if answer.routing == Routing::Failed => answer.routing = Routing::Due,
                Ok(()) => {}
                Err(error) => {
                    answer.routing = Routing::Failed;
                    troubles.push((id, error));
                }
            }
        }
        troubles
    }

    /// Applies what the siblings answered, in name order.
    fn apply_siblings(&mut self) -> Result<(), Error<S::Error>> {
        check_all(self.graph, &self.state, &self.answers)?;
        if self.kept {
            // Whoever goes on after a reducer's panic needs the state and the answers as they were.
            self.state = apply_all(self.graph, &self.state, &self.answers)?;
            self.answers.clear();
            return Ok(());
        }
        for Answer { node, update, .. } in self.answers.drain(..) {
            let visit = node.map_or(0, |id| self.visits[id]);
            Source { graph: self.graph, node, visit }.apply(&mut self.state, update)?;
        }
        Ok(())
    }
}
