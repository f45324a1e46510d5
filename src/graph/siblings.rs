//! A superstep of several nodes: all on one snapshot, applied in name order whoever answers first.

use std::future::{Future as _, poll_fn};
use std::iter::Peekable;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use futures_util::stream::{FuturesUnordered, StreamExt as _};

use super::apply::Source;
use super::error::Error;
use super::execute::Execution;
use super::options::Options;
use super::run::{Answer, Routing, Run};
use super::shape::NodeId;
use super::state::State;

impl<S: State> Run<'_, S> {
    /// Runs what is due, several nodes at once, and applies what all of them answered.
    pub(super) async fn execute_together(
        &mut self,
        options: &Options<'_, S>,
    ) -> Result<(), Error<S::Error>> {
        self.execute_siblings(options).await;
        self.route_siblings();
        self.troubles.sort_by_key(|(id, _)| *id);
        let mut errors = self.troubles.drain(..).map(|(_, error)| error);
        if let Some(first) = errors.next() {
            self.also.extend(errors);
            return Err(first);
        }
        drop(errors);
        self.apply_siblings()
    }

    /// Runs the nodes that have not answered yet, several at once, on one snapshot.
    ///
    /// Workers take one node after another. The first is polled in place, and there is another one
    /// only where all others wait: nodes that answer at once cost no allocation, and of those that
    /// wait each worker's lasts for many.
    async fn execute_siblings(&mut self, options: &Options<'_, S>) {
        let Self { graph, state, frontier, visits, step, answers, failed, troubles, .. } = self;
        let (graph, state, step) = (*graph, &*state, step.saturating_add(1));
        let answered: Vec<Option<NodeId>> = answers.iter().map(|answer| answer.node).collect();
        let due = frontier.due().iter().copied();
        let waiting = due.filter(|id| !answered.contains(&Some(*id))).peekable();
        let at_once = options.parallelism;
        let desk = Mutex::new(Desk::<S, _> { waiting, at_once, answers, failed, troubles });
        let worker = || async {
            loop {
                // In a `while let`, the lock would be held as long as the node runs.
                let Some(id) = open(&desk).next() else {
                    return;
                };
                let visit = visits[id];
                let execution = Execution { graph, id, state, step, visit, options };
                let outcome = execution.run().await;
                let outcome =
                    outcome.map_err(|trouble| trouble.into_error(graph.name(Some(id)), visit));
                open(&desk).take(id, outcome);
            }
        };
        let mut first = pin!(Some(worker()));
        let (mut others, mut hired) = (None::<FuturesUnordered<_>>, 1);
        poll_fn(|context| {
            if first.as_mut().as_pin_mut().is_some_and(|worker| worker.poll(context).is_ready()) {
                first.set(None);
            }
            loop {
                let left = others.as_mut().is_some_and(|others| {
                    while let Poll::Ready(Some(())) = others.poll_next_unpin(context) {}
                    !others.is_empty()
                });
                if hired == options.parallelism || !open(&desk).has_next() {
                    let over = !left && first.is_none();
                    return if over { Poll::Ready(()) } else { Poll::Pending };
                }
                others.get_or_insert_default().push(worker());
                hired += 1;
            }
        })
        .await;
    }

    /// Asks the routers of the siblings that have answered. Each sees the snapshot and its own
    /// node's update; where that can't be applied, the node has failed like one that leads nowhere.
    fn route_siblings(&mut self) {
        let graph = self.graph;
        for answer in &mut self.answers {
            let Some(id) = answer.node.filter(|id| !graph.conditionals(Some(*id)).is_empty())
            else {
                continue;
            };
            let source = Source { graph, node: Some(id), visit: self.visits[id] };
            let (routing, update) = (answer.routing, &answer.update);
            let routed = source.preview(routing, &self.state, update, &mut self.chosen);
            match routed {
                Ok(()) if answer.routing == Routing::Failed => answer.routing = Routing::Due,
                Ok(()) => {}
                // Its update can't be applied, which is told when all are.
                Err(_) if answer.routing == Routing::Settled => {}
                Err(error) => {
                    answer.routing = Routing::Failed;
                    self.troubles.push((id, error));
                }
            }
        }
    }

    /// Applies what the siblings answered, in name order.
    fn apply_siblings(&mut self) -> Result<(), Error<S::Error>> {
        self.check_all(&self.answers)?;
        if self.kept {
            // Whoever goes on after a reducer's panic needs the state and the answers as they were.
            self.state = self.apply_all(&self.answers)?;
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

/// Where the workers of one superstep take nodes and leave answers. What they leave is the run's at
/// once, since the run may be stopped at any time.
struct Desk<'a, S: State, I: Iterator<Item = NodeId>> {
    waiting: Peekable<I>,
    /// How many nodes may still start although one has failed: those that would be running by now.
    at_once: usize,
    answers: &'a mut Vec<Answer<S::Update>>,
    failed: &'a mut Vec<NodeId>,
    troubles: &'a mut Vec<(NodeId, Error<S::Error>)>,
}

impl<S: State, I: Iterator<Item = NodeId>> Desk<'_, S, I> {
    /// When one has failed, those that run may finish, since they are paid for; no other starts.
    fn has_next(&mut self) -> bool {
        (self.at_once > 0 || self.troubles.is_empty()) && self.waiting.peek().is_some()
    }

    fn next(&mut self) -> Option<NodeId> {
        let next = self.has_next().then(|| self.waiting.next()).flatten();
        self.at_once = self.at_once.saturating_sub(1);
        next
    }

    fn take(&mut self, id: NodeId, outcome: Result<S::Update, Error<S::Error>>) {
        match outcome {
            Ok(update) => {
                let at = self.answers.partition_point(|answer| answer.node < Some(id));
                let answer = Answer { node: Some(id), update, routing: Routing::Due };
                self.answers.insert(at, answer);
            }
            Err(error) => {
                let at = self.failed.partition_point(|other| *other < id);
                self.failed.insert(at, id);
                self.troubles.push((id, error));
            }
        }
    }
}

/// Locks for a moment, never across an await.
fn open<T>(desk: &Mutex<T>) -> MutexGuard<'_, T> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}
