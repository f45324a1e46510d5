//! Plan, execute, apply: the loop that takes a run through its supersteps.
//!
//! At every await the run is consistent: the state is that of the last complete superstep, and
//! answers that are there already are kept beside it. So the future that drives it may be dropped
//! at any time.

use tokio::task::coop::consume_budget;

use super::apply::Source;
use super::builder::Graph;
use super::error::{Error, Failure};
use super::events::{Event, Names};
use super::execute::Execution;
use super::options::{Options, Stop};
use super::shape::{Name, NodeId, Table};
use super::state::{Claims, State};
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
    /// What nodes of the superstep under way have answered, in name order.
    pub(super) answers: Vec<Answer<S::Update>>,
    /// The nodes of the superstep under way that have failed, in name order.
    pub(super) failed: Vec<NodeId>,
    /// How nodes of the superstep under way have failed, until one of them or a stop is reported.
    pub(super) troubles: Vec<(NodeId, Error<S::Error>)>,
    /// The errors of the superstep under way besides the one that is reported.
    pub(super) also: Vec<Error<S::Error>>,
    /// Where the routers of the superstep under way lead.
    pub(super) chosen: Vec<NodeId>,
    /// Whether someone goes on with this run after it has failed.
    pub(super) kept: bool,
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
    /// One of them led nowhere, or none could be asked.
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
    /// When a node fails and is not to be retried, when two nodes contradict each other, when the
    /// recursion limit or the deadline is reached, or when the run is cancelled: a [`Failure`] with
    /// the reason and the state so far.
    pub async fn run(&self, state: S, options: &Options<'_, S>) -> Result<S, Box<Failure<S>>> {
        let mut run = Run::new(self, state);
        let result = match options.recursion_limit {
            0 => Err(run.limit_error(0)),
            limit => run.drive(Begin::Start { limit }, options).await,
        };
        match result {
            Ok(_) => Ok(run.state),
            Err(error) => {
                let Run { state, step, also, .. } = run;
                Err(Box::new(Failure { error, also, step: step.saturating_add(1), state }))
            }
        }
    }
}

/// How a run gets going.
#[derive(Debug, Clone, Copy)]
pub(super) enum Begin {
    /// From the start.
    Start { limit: u32 },
    /// From where it stands. LangGraph gives it one superstep more, since there is no input to
    /// take.
    Resume { limit: u32 },
    /// From where it stands, by one superstep.
    Step,
}

impl<'g, S: State> Run<'g, S> {
    /// Where the update of a node's execution under way comes from, or of the start.
    pub(super) fn source(&self, node: Option<NodeId>) -> Source<'g, S> {
        let visit = node.map_or(0, |id| self.visits[id]);
        Source { graph: self.graph, node, visit }
    }

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
            troubles: Vec::new(),
            also: Vec::new(),
            chosen: Vec::new(),
            kept: false,
        }
    }

    /// A run that can be taken up again; its first input is step -1, as LangGraph counts.
    pub(super) fn kept(graph: &'g Graph<S>, state: S) -> Self {
        Self { step: -2, kept: true, ..Self::new(graph, state) }
    }

    /// Takes new input, and drops what was due or under way.
    pub(super) fn take_input(&mut self, update: S::Update, options: &Options<'_, S>) {
        self.frontier.discard(&self.graph.shape);
        self.visits.iter_mut().for_each(|visits| *visits = 0);
        self.answers.clear();
        self.failed.clear();
        self.input = Some(Answer { node: None, update, routing: Routing::Due });
        self.step = self.step.saturating_add(1);
        options.tell(|| Event::Input { step: self.step, state: &self.state });
    }

    /// Takes the run to its end, or by one superstep, unless it is stopped before. Says whether
    /// there is anything left that may be due.
    pub(super) async fn drive(
        &mut self,
        begin: Begin,
        options: &Options<'_, S>,
    ) -> Result<bool, Error<S::Error>> {
        self.also.clear();
        self.troubles.clear();
        let result = tokio::select! {
            biased; // nodes that are always ready must not outrun a cancelled token
            stop = options.stopped() => Err(self.stop_error(stop)),
            result = self.supersteps(begin, options) => result,
        };
        if let Err(error) = &result {
            options.tell(|| Event::Aborted { step: self.step.saturating_add(1), error });
        }
        result
    }

    async fn supersteps(
        &mut self,
        begin: Begin,
        options: &Options<'_, S>,
    ) -> Result<bool, Error<S::Error>> {
        let (limit, mut left) = match begin {
            Begin::Start { limit } => (limit, u64::from(limit) + 1),
            Begin::Resume { limit } => (limit, u64::from(limit) + 2),
            Begin::Step => (0, 1),
        };
        if matches!(begin, Begin::Start { .. }) || self.input.is_some() {
            self.enter(options)?;
            left -= 1;
        }
        loop {
            if left == 0 {
                // LangGraph checks the limit before it notices that nothing is left; so must this.
                let stepped = matches!(begin, Begin::Step);
                return if stepped { Ok(true) } else { Err(self.limit_error(limit)) };
            }
            if self.frontier.due().is_empty() {
                options.tell(|| Event::Done { step: self.step, state: &self.state });
                return Ok(false);
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
                self.source(None).route(Routing::Due, &self.state, &mut self.chosen)?;
            }
        }
        self.frontier.enter(&self.graph.shape, &self.chosen);
        self.complete(options);
        Ok(())
    }

    async fn superstep(&mut self, options: &Options<'_, S>) -> Result<(), Error<S::Error>> {
        let graph = self.graph;
        let step = self.step.saturating_add(1);
        options
            .tell(|| Event::Planned { step, nodes: Names::new(&graph.shape, self.frontier.due()) });
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
        let (graph, state, step) = (self.graph, &self.state, self.step.saturating_add(1));
        let execution = Execution { graph, id, state, step, visit, options };
        match execution.run().await {
            Ok(update) => self.absorb(Answer { node: Some(id), update, routing: Routing::Due }),
            Err(trouble) => {
                self.failed.push(id);
                Err(trouble.into_error(self.graph.name(Some(id)), visit))
            }
        }
    }

    /// Applies the only answer of a superstep, and asks the routers of its node.
    fn absorb(&mut self, answer: Answer<S::Update>) -> Result<(), Error<S::Error>> {
        let (source, routing) = (self.source(answer.node), answer.routing);
        if let Err(error) = source.check(&self.state, &answer.update, &mut Claims::alone()) {
            self.hold(answer);
            return Err(error);
        }
        if !self.kept {
            source.apply(&mut self.state, answer.update)?;
            return source.route(routing, &self.state, &mut self.chosen);
        }
        // Whoever goes on after an error needs the state as it was before, so this works on a copy.
        let mut after = self.state.clone();
        let applied = source.apply(&mut after, answer.update.clone());
        let routed = applied.is_ok().then(|| source.route(routing, &after, &mut self.chosen));
        match routed {
            Some(Ok(())) => self.state = after,
            Some(Err(_)) => self.hold(Answer { routing: Routing::Failed, ..answer }),
            None => self.hold(answer),
        }
        applied.and(routed.unwrap_or(Ok(())))
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

    pub(super) fn limit_error(&self, limit: u32) -> Error<S::Error> {
        let names = |ids: &[NodeId]| ids.iter().map(|id| self.graph.name(Some(*id))).collect();
        Error::RecursionLimit {
            limit,
            last: names(self.frontier.ran()),
            next: names(self.frontier.due()),
        }
    }

    /// What failed before the stop is told beside it.
    fn stop_error(&mut self, stop: Stop) -> Error<S::Error> {
        let answered = |id: NodeId| self.answers.iter().any(|answer| answer.node == Some(id));
        let failed = |id: NodeId| self.troubles.iter().any(|(node, _)| *node == id);
        let due = self.frontier.due().iter().copied();
        let running: Vec<Name> = due
            .filter(|id| !answered(*id) && !failed(*id))
            .map(|id| self.graph.name(Some(id)))
            .collect();
        self.troubles.sort_by_key(|(id, _)| *id);
        self.also.extend(self.troubles.drain(..).map(|(_, error)| error));
        match stop {
            Stop::Cancelled => Error::Cancelled { running },
            Stop::Deadline => Error::Deadline { running },
        }
    }
}
