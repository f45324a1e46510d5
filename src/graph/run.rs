//! Plan, execute, apply: the loop that takes a run through its supersteps.
//!
//! At every await the run is consistent: the state is that of the last complete superstep, and answers that
//! are there already are kept beside it. So the future that drives it may be dropped at any time.

use std::panic::{AssertUnwindSafe, catch_unwind};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::task::coop::consume_budget;

use super::builder::Graph;
use super::error::{Error, Failure};
use super::events::{Event, Names};
use super::execute::{Execution, Trouble, message};
use super::options::{Options, Stop};
use super::shape::{Name, NodeId, Table};
use super::state::{Claims, Reason, Refusal, State, Taken};
use super::superstep::Frontier;

/// A run, between or within two supersteps.
pub(super) struct Run<'g, S: State> {
    pub(super) graph: &'g Graph<S>,
    /// As the last complete superstep made it.
    pub(super) state: S,
    pub(super) frontier: Frontier,
    /// How often each node was executed in this run.
    pub(super) visits: Table<u32>,
    /// The last complete superstep.
    pub(super) step: i64,
    /// Input that has not yet left the start.
    pub(super) input: Option<Answer<S::Update>>,
    /// What nodes of the superstep under way have answered.
    pub(super) answers: Vec<Answer<S::Update>>,
    /// The nodes of the superstep under way that have failed.
    pub(super) failed: Vec<NodeId>,
    /// The errors of the superstep under way besides the one that is reported.
    pub(super) also: Vec<Error<S::Error>>,
    /// Where the routers of the superstep under way lead.
    chosen: Vec<NodeId>,
    /// Whether someone goes on with this run after it has failed.
    kept: bool,
}

/// An update that waits for its superstep to be complete.
pub(super) struct Answer<U> {
    /// `None` is the start.
    pub(super) node: Option<NodeId>,
    pub(super) update: U,
    pub(super) routing: Routing,
}

/// What is known of the routers of a node that has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Routing {
    /// They will be asked when the superstep is complete.
    Due,
    /// One of them led nowhere.
    Failed,
    /// Those that lead nowhere are to be passed over.
    Settled,
}

impl<S: State> Graph<S> {
    /// Runs the graph on `state` to its end.
    ///
    /// Dropping the future drops the run and all of its nodes.
    ///
    /// # Errors
    /// When a node fails and is not to be retried, when two nodes contradict each other, when the recursion
    /// limit or the deadline is reached, or when the run is cancelled: a [`Failure`] with the reason and
    /// the state so far.
    pub async fn run(&self, state: S, options: &Options<'_, S>) -> Result<S, Failure<S>> {
        let mut run = Run::new(self, state);
        let result = match options.recursion_limit {
            0 => Err(run.limit_error(0)),
            limit => run.drive(Begin::Start { limit }, options).await,
        };
        match result {
            Ok(()) => Ok(run.state),
            Err(error) => {
                let Run {
                    state, step, also, ..
                } = run;
                Err(Failure {
                    error,
                    also,
                    step: step.saturating_add(1),
                    state,
                })
            }
        }
    }
}

/// How a run gets going.
#[derive(Debug, Clone, Copy)]
pub(super) enum Begin {
    /// From the start.
    Start { limit: u32 },
    /// From where it stands. LangGraph gives it one superstep more, since there is no input to take.
    Resume { limit: u32 },
}

impl<'g, S: State> Run<'g, S> {
    /// A run that nobody goes on with; its start is superstep 0.
    fn new(graph: &'g Graph<S>, state: S) -> Self {
        Self {
            graph,
            state,
            frontier: Frontier::new(&graph.shape),
            visits: Table::filled(0, graph.shape.places.len()),
            step: -1,
            input: None,
            answers: Vec::new(),
            failed: Vec::new(),
            also: Vec::new(),
            chosen: Vec::new(),
            kept: false,
        }
    }

    /// A run that can be taken up again; its first input is step -1, as LangGraph counts.
    pub(super) fn kept(graph: &'g Graph<S>, state: S) -> Self {
        Self {
            step: -2,
            kept: true,
            ..Self::new(graph, state)
        }
    }

    /// Takes new input, and drops what was due or under way.
    pub(super) fn take_input(&mut self, update: S::Update, options: &Options<'_, S>) {
        self.frontier.discard(&self.graph.shape);
        self.visits.iter_mut().for_each(|visits| *visits = 0);
        self.answers.clear();
        self.failed.clear();
        self.input = Some(Answer {
            node: None,
            update,
            routing: Routing::Due,
        });
        self.step = self.step.saturating_add(1);
        options.tell(|| Event::Input {
            step: self.step,
            state: &self.state,
        });
    }

    /// Takes the run to its end, unless it is stopped before.
    pub(super) async fn drive(
        &mut self,
        begin: Begin,
        options: &Options<'_, S>,
    ) -> Result<(), Error<S::Error>> {
        self.also.clear();
        tokio::select! {
            biased; // nodes that are always ready must not outrun a cancelled token
            stop = options.stopped() => Err(self.stop_error(stop)),
            result = self.supersteps(begin, options) => result,
        }
    }

    async fn supersteps(
        &mut self,
        begin: Begin,
        options: &Options<'_, S>,
    ) -> Result<(), Error<S::Error>> {
        let (limit, mut left) = match begin {
            Begin::Start { limit } => (limit, u64::from(limit) + 1),
            Begin::Resume { limit } => (limit, u64::from(limit) + 2),
        };
        if matches!(begin, Begin::Start { .. }) || self.input.is_some() {
            self.enter(options)?;
            left -= 1;
        }
        loop {
            // LangGraph checks the limit before it notices that nothing is left; so must this.
            if left == 0 {
                return Err(self.limit_error(limit));
            }
            if self.frontier.due().is_empty() {
                options.tell(|| Event::Done {
                    step: self.step,
                    state: &self.state,
                });
                return Ok(());
            }
            self.superstep(options).await?;
            left -= 1;
            // Nodes that never wait must not keep the runtime's thread from other tasks.
            consume_budget().await;
        }
    }

    /// The superstep of the start: applies the input, if any, and goes where the start leads.
    fn enter(&mut self, options: &Options<'_, S>) -> Result<(), Error<S::Error>> {
        self.chosen.clear();
        match self.input.take() {
            Some(input) => self.absorb(input)?,
            None => {
                let routers = Routers {
                    graph: self.graph,
                    node: None,
                    visit: 0,
                    routing: Routing::Due,
                };
                routers.ask(&self.state, &mut self.chosen)?;
            }
        }
        self.frontier.enter(&self.graph.shape, &self.chosen);
        self.complete(options);
        Ok(())
    }

    async fn superstep(&mut self, options: &Options<'_, S>) -> Result<(), Error<S::Error>> {
        let graph = self.graph;
        let step = self.step.saturating_add(1);
        options.tell(|| Event::Planned {
            step,
            nodes: Names::new(&graph.shape, self.frontier.due()),
        });
        self.failed.clear();
        self.chosen.clear();
        match self.frontier.due() {
            [id] if self.answers.is_empty() => self.execute_alone(*id, options).await?,
            _ => self.execute_together(options).await?,
        }
        for id in self.frontier.due() {
            self.visits[*id] = self.visits[*id].saturating_add(1);
        }
        self.frontier.advance(&graph.shape, &self.chosen);
        self.complete(options);
        Ok(())
    }

    fn complete(&mut self, options: &Options<'_, S>) {
        self.step = self.step.saturating_add(1);
        options.tell(|| Event::Applied {
            step: self.step,
            state: &self.state,
            next: Names::new(&self.graph.shape, self.frontier.due()),
        });
    }

    /// The common case: one node, polled in place, its update applied without a copy.
    async fn execute_alone(
        &mut self,
        id: NodeId,
        options: &Options<'_, S>,
    ) -> Result<(), Error<S::Error>> {
        let visit = self.visits[id];
        let execution = Execution {
            name: self.graph.shape.name(id),
            entry: &self.graph.nodes[id],
            state: &self.state,
            step: self.step.saturating_add(1),
            visit,
            options,
        };
        match execution.run().await {
            Ok(update) => self.absorb(Answer {
                node: Some(id),
                update,
                routing: Routing::Due,
            }),
            Err(trouble) => {
                self.failed.push(id);
                Err(trouble.into_error(self.graph.name(Some(id)), visit))
            }
        }
    }

    /// Applies the only answer of a superstep, and asks the routers of its node.
    fn absorb(&mut self, answer: Answer<S::Update>) -> Result<(), Error<S::Error>> {
        let (graph, node, routing) = (self.graph, answer.node, answer.routing);
        let visit = node.map_or(0, |id| self.visits[id]);
        let routers = Routers {
            graph,
            node,
            visit,
            routing,
        };
        if let Err(refusal) = self.state.check(&answer.update, &mut Claims::alone()) {
            self.hold(answer);
            return Err(refused(graph, node, refusal));
        }
        if !self.kept || graph.conditionals(node).is_empty() {
            apply(graph, node, visit, &mut self.state, answer.update)?;
            return routers.ask(&self.state, &mut self.chosen);
        }
        // Whoever goes on after a router's error needs the state as it was before, so the routers see a copy.
        let mut after = self.state.clone();
        let update = answer.update.clone();
        let outcome = apply(graph, node, visit, &mut after, update)
            .and_then(|()| routers.ask(&after, &mut self.chosen));
        match outcome {
            Ok(()) => self.state = after,
            Err(_) => self.hold(Answer {
                routing: Routing::Failed,
                ..answer
            }),
        }
        outcome
    }

    /// Keeps an answer that could not be applied, for whoever goes on with the run.
    fn hold(&mut self, answer: Answer<S::Update>) {
        if self.kept {
            match answer.node {
                None => self.input = Some(answer),
                Some(_) => self.answers.push(answer),
            }
        }
    }

    async fn execute_together(&mut self, options: &Options<'_, S>) -> Result<(), Error<S::Error>> {
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
        let Self {
            graph,
            state,
            frontier,
            visits,
            step,
            answers,
            ..
        } = self;
        let (graph, state, step) = (*graph, &*state, step.saturating_add(1));
        let answered: Vec<Option<NodeId>> = answers.iter().map(|answer| answer.node).collect();
        let mut waiting = frontier
            .due()
            .iter()
            .filter(|id| !answered.contains(&Some(**id)));
        let mut running = FuturesUnordered::new();
        let mut troubles = Vec::new();
        loop {
            // When one has failed, those that run may finish, since they are paid for; no other starts.
            while troubles.is_empty() && running.len() < options.parallelism {
                let Some(id) = waiting.next().copied() else {
                    break;
                };
                let (name, entry, visit) = (graph.shape.name(id), &graph.nodes[id], visits[id]);
                let execution = Execution {
                    name,
                    entry,
                    state,
                    step,
                    visit,
                    options,
                };
                running.push(async move { (id, execution.run().await) });
            }
            match running.next().await {
                None => return troubles,
                Some((id, Ok(update))) => {
                    answers.push(Answer {
                        node: Some(id),
                        update,
                        routing: Routing::Due,
                    });
                }
                Some((id, Err(trouble))) => {
                    let trouble: Trouble<S::Error> = trouble;
                    troubles.push((id, trouble.into_error(graph.name(Some(id)), visits[id])));
                }
            }
        }
    }

    /// Asks the routers of the siblings that have answered. Each sees the snapshot and its own node's update.
    fn route_siblings(&mut self) -> Vec<(NodeId, Error<S::Error>)> {
        let mut troubles = Vec::new();
        for answer in &mut self.answers {
            let node = answer.node;
            let Some(id) = node.filter(|_| !self.graph.conditionals(node).is_empty()) else {
                continue;
            };
            // A refused update is reported when the updates are applied, with those of all siblings.
            if self
                .state
                .check(&answer.update, &mut Claims::alone())
                .is_err()
            {
                continue;
            }
            let (graph, visit, routing) = (self.graph, self.visits[id], answer.routing);
            let (mut view, update) = (self.state.clone(), answer.update.clone());
            let routers = Routers {
                graph,
                node,
                visit,
                routing,
            };
            let outcome = apply(graph, node, visit, &mut view, update)
                .and_then(|()| routers.ask(&view, &mut self.chosen));
            if let Err(error) = outcome {
                answer.routing = Routing::Failed;
                troubles.push((id, error));
            }
        }
        troubles
    }

    fn apply_siblings(&mut self) -> Result<(), Error<S::Error>> {
        check_all(self.graph, &self.state, &self.answers)?;
        for answer in self.answers.drain(..) {
            let visit = answer.node.map_or(0, |id| self.visits[id]);
            apply(
                self.graph,
                answer.node,
                visit,
                &mut self.state,
                answer.update,
            )?;
        }
        Ok(())
    }

    pub(super) fn limit_error(&self, limit: u32) -> Error<S::Error> {
        let names = |ids: &[NodeId]| ids.iter().map(|id| self.graph.name(Some(*id))).collect();
        Error::RecursionLimit {
            limit,
            last: names(self.frontier.ran()),
            next: names(self.frontier.due()),
        }
    }

    fn stop_error(&self, stop: Stop) -> Error<S::Error> {
        let due = self.frontier.due().iter();
        let answered = |id: NodeId| self.answers.iter().any(|answer| answer.node == Some(id));
        let running: Vec<Name> = due
            .filter(|id| !answered(**id))
            .map(|id| self.graph.name(Some(*id)))
            .collect();
        match stop {
            Stop::Cancelled => Error::Cancelled { running },
            Stop::Deadline => Error::Deadline { running },
        }
    }
}

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
        state
            .check(&answer.update, &mut claims)
            .map_err(|refusal| refused(graph, answer.node, refusal))?;
    }
    Ok(())
}

fn refused<S: State>(graph: &Graph<S>, node: Option<NodeId>, refusal: Refusal) -> Error<S::Error> {
    match refusal.0 {
        Reason::Claimed { field, by } => Error::Conflict {
            field,
            first: graph.name(Some(by)),
            second: graph.name(node),
        },
        Reason::Invalid { field, reason } => Error::Invalid {
            node: graph.name(node),
            field,
            reason,
        },
    }
}

/// Applies an update. A reducer's panic leaves the state as the reducer left it.
pub(super) fn apply<S: State>(
    graph: &Graph<S>,
    node: Option<NodeId>,
    visit: u32,
    state: &mut S,
    update: S::Update,
) -> Result<(), Error<S::Error>> {
    catch_unwind(AssertUnwindSafe(|| state.apply(update))).map_err(|panic| Error::Panic {
        node: graph.name(node),
        visit,
        message: message(&*panic),
    })
}

/// The routers of a node that has answered, or of the start.
struct Routers<'g, S: State> {
    graph: &'g Graph<S>,
    node: Option<NodeId>,
    visit: u32,
    routing: Routing,
}

impl<S: State> Routers<'_, S> {
    /// Adds to `chosen` where they lead from `state`.
    fn ask(&self, state: &S, chosen: &mut Vec<NodeId>) -> Result<(), Error<S::Error>> {
        for conditional in self.graph.conditionals(self.node) {
            let before = chosen.len();
            let choose = || conditional.choose(&self.graph.shape, state, chosen);
            let choice = catch_unwind(AssertUnwindSafe(choose));
            let node = || self.graph.name(self.node);
            let error = match choice {
                Ok(Ok(())) => continue,
                Ok(Err(target)) => Error::Route {
                    node: node(),
                    router: Name::clone(&conditional.label),
                    target,
                },
                Err(panic) => Error::Panic {
                    node: node(),
                    visit: self.visit,
                    message: message(&*panic),
                },
            };
            chosen.truncate(before);
            return if self.routing == Routing::Settled {
                Ok(())
            } else {
                Err(error)
            };
        }
        Ok(())
    }
}
