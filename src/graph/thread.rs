//! A run that is taken up again: new input on the old state, or on from where it stopped.

use std::fmt;

use super::apply::{apply_all, check_all};
use super::builder::Graph;
use super::error::Error;
use super::options::Options;
use super::run::{Begin, Routing, Run};
use super::shape::{Name, NodeId, START};
use super::state::State;

/// Runs that share one state, one after another, as LangGraph's runs with one thread id do.
///
/// It costs a copy of the state for each superstep, so that it can go on after any error;
/// [`Graph::run`] makes none.
///
/// Dropping the future of [`start`](Thread::start) or [`resume`](Thread::resume) leaves the thread
/// at the last complete superstep, with the answers that were there, ready to be resumed.
pub struct Thread<'g, S: State> {
    pub(super) run: Run<'g, S>,
}

/// A node of the superstep that is not complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// The node, or [`START`] when the input has not been taken yet.
    pub node: Name,
    /// How far it is.
    pub status: Status,
}

/// How far a node is in a superstep that is not complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It has not run.
    Waiting,
    /// It has answered; its update is applied when the superstep is complete.
    Done,
    /// It has failed, and runs again on resume.
    Failed,
    /// It has answered, but one of its routers led nowhere. On resume its routers are asked again.
    Unrouted,
}

impl<S: State> Graph<S> {
    /// A thread that has had no input, with the state that its first input meets.
    #[must_use]
    pub fn thread(&self, state: S) -> Thread<'_, S> {
        Thread { run: Run::kept(self, state) }
    }
}

impl<S: State> Thread<'_, S> {
    /// Takes new input, which goes through the reducers, and runs from the start to the end.
    ///
    /// What was due from before is dropped. Half-filled joins stay, and so do deferred nodes that
    /// were held.
    ///
    /// # Errors
    /// As [`Graph::run`]. The thread then stands at the last complete superstep.
    pub async fn start(
        &mut self,
        input: S::Update,
        options: &Options<'_, S>,
    ) -> Result<(), Error<S::Error>> {
        let limit = options.recursion_limit;
        if limit == 0 {
            return Err(self.run.limit_error(limit));
        }
        self.input(input, options);
        self.run.drive(Begin::Start { limit }, options).await.map(drop)
    }

    /// Takes new input without running anything: what [`start`](Thread::start) does first.
    pub fn input(&mut self, input: S::Update, options: &Options<'_, S>) {
        self.run.take_input(input, options);
    }

    /// Completes one superstep, whatever the recursion limit, and says whether one was due. Leaving
    /// the start with new input is one.
    ///
    /// # Errors
    /// As [`resume`](Thread::resume).
    pub async fn advance(&mut self, options: &Options<'_, S>) -> Result<bool, Error<S::Error>> {
        if self.run.step < -1 {
            return Err(Error::NothingToResume);
        }
        self.run.drive(Begin::Step, options).await
    }

    /// Goes on from where the thread stands. Nodes that have answered are not run again; at the end
    /// of a run there is nothing to do. LangGraph allows it two supersteps more than a run from the
    /// start.
    ///
    /// # Errors
    /// As [`Graph::run`], and [`Error::NothingToResume`] before the first input.
    pub async fn resume(&mut self, options: &Options<'_, S>) -> Result<(), Error<S::Error>> {
        let limit = options.recursion_limit;
        if limit == 0 {
            return Err(self.run.limit_error(limit));
        }
        if self.run.step < -1 {
            return Err(Error::NothingToResume);
        }
        self.run.drive(Begin::Resume { limit }, options).await.map(drop)
    }

    /// The state that the last complete superstep made.
    #[must_use]
    pub fn state(&self) -> &S {
        &self.run.state
    }

    /// The last complete superstep. The first input is -1, its start 0; further input counts on.
    #[must_use]
    pub fn step(&self) -> i64 {
        self.run.step
    }

    /// The errors of the last [`start`](Thread::start) or [`resume`](Thread::resume) besides the
    /// one that it returned: of other nodes of the same superstep, in name order.
    #[must_use]
    pub fn also(&self) -> &[Error<S::Error>] {
        &self.run.also
    }

    /// The nodes of the superstep to come, or the one under way, in name order. [`START`] alone
    /// when the input has not been taken yet.
    #[must_use]
    pub fn pending(&self) -> Vec<Pending> {
        if let Some(input) = &self.run.input {
            let status = match input.routing {
                Routing::Due | Routing::Settled => Status::Waiting,
                Routing::Failed => Status::Unrouted,
            };
            return vec![Pending { node: START.into(), status }];
        }
        let pending = |id: &NodeId| Pending {
            node: self.run.graph.name(Some(*id)),
            status: self.status(*id),
        };
        self.run.frontier.due().iter().map(pending).collect()
    }

    /// The nodes that [`resume`](Thread::resume) would run or route, in name order.
    #[must_use]
    pub fn next(&self) -> Vec<Name> {
        let unfinished = |pending: &Pending| pending.status != Status::Done;
        self.pending().into_iter().filter(unfinished).map(|pending| pending.node).collect()
    }

    /// The state as it would be if the superstep under way ended with the answers that are there.
    ///
    /// # Errors
    /// When these answers can't be applied; a resumed run ends with the same error.
    pub fn preview(&self) -> Result<S, Error<S::Error>> {
        let run = &self.run;
        let answers = run.input.as_ref().map_or(run.answers.as_slice(), std::slice::from_ref);
        check_all(run.graph, &run.state, answers)?;
        apply_all(run.graph, &run.state, answers)
    }

    /// Takes a node whose router led nowhere as done, with the routes that it has without that
    /// router and those after it. Says whether there was such a node.
    ///
    /// This is what LangGraph does on every resume; here it has to be said.
    pub fn settle(&mut self, node: &str) -> bool {
        let run = &mut self.run;
        let mut waiting = run.input.iter_mut().chain(&mut run.answers);
        let is_meant = |id: Option<NodeId>| *run.graph.name(id) == *node;
        match waiting.find(|answer| answer.routing == Routing::Failed && is_meant(answer.node)) {
            Some(answer) => {
                answer.routing = Routing::Settled;
                true
            }
            None => false,
        }
    }

    /// Drops what a node of the superstep under way has answered, so that it runs again on resume.
    /// Says whether there was an answer.
    pub fn rerun(&mut self, node: &str) -> bool {
        let run = &mut self.run;
        let before = run.answers.len();
        run.answers.retain(|answer| *run.graph.name(answer.node) != *node);
        run.answers.len() < before
    }

    fn status(&self, id: NodeId) -> Status {
        let answer = self.run.answers.iter().find(|answer| answer.node == Some(id));
        match answer.map(|answer| answer.routing) {
            Some(Routing::Due | Routing::Settled) => Status::Done,
            Some(Routing::Failed) => Status::Unrouted,
            None if self.run.failed.contains(&id) => Status::Failed,
            None => Status::Waiting,
        }
    }
}

impl<S: State> fmt::Debug for Thread<'_, S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Thread")
            .field("step", &self.run.step)
            .field("pending", &self.pending())
            .finish_non_exhaustive()
    }
}
