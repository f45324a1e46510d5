//! A run that is taken up again: new input on the old state, or on from where it stopped.

use std::fmt;

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
///
/// ```
/// # use std::io;
/// # use std::sync::atomic::{AtomicBool, Ordering};
/// # use weir::graph::{self, Graph, Name, Options, Pending, Status};
/// # graph::state! {
/// #     #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
/// #     pub struct Log { pub lines: Vec<String> => append }
/// #     pub update Line;
/// #     error std::io::Error;
/// # }
/// # fn line(text: &str) -> Line { Line::default().lines(vec![text.to_owned()]) }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let down = AtomicBool::new(true);
/// let fetch = move |_: &Log| match down.swap(false, Ordering::Relaxed) {
///     true => Err(io::Error::from(io::ErrorKind::TimedOut)),
///     false => Ok(line("fetched")),
/// };
/// let note = |_: &Log| Ok(line("noted"));
/// let graph = Graph::builder().node("fetch", fetch).node("note", note).entry("fetch").entry("note");
/// let graph = graph.build()?;
/// let mut thread = graph.thread(Log::default());
///
/// thread.start(line("input"), &Options::new()).await.unwrap_err();
///
/// assert_eq!((thread.step(), thread.next()), (0, vec![Name::from("fetch")]));
/// assert_eq!(thread.pending()[1], Pending { node: "note".into(), status: Status::Done });
/// assert_eq!(thread.state().lines, ["input"]);
/// assert_eq!(thread.preview()?.lines, ["input", "noted"]);
/// assert!(thread.also().is_empty()); // nobody else has failed
///
/// thread.resume(&Options::new()).await?; // "note" does not run again
///
/// assert_eq!(thread.state().lines, ["input", "fetched", "noted"]);
/// # Ok(())
/// # }
/// ```
pub struct Thread<'g, S: State> {
    pub(super) run: Run<'g, S>,
}

/// A node of the superstep that is not complete. See the example at [`Thread`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// The node, or [`START`] when the input has not been taken yet.
    pub node: Name,
    /// How far it is.
    pub status: Status,
}

/// How far a node is in a superstep that is not complete. See the example at [`Thread`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It has not run.
    Waiting,
    /// It has answered; its update is applied when the superstep is complete.
    Done,
    /// It has failed, and runs again on resume.
    Failed,
    /// It has answered, but one of its routers led nowhere, or can't be asked since the state refuses
    /// the update. On resume its routers are asked again.
    Unrouted,
}

impl<S: State> Graph<S> {
    /// A thread that has had no input, with the state that its first input meets. See the example at
    /// [`Thread`].
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
    /// Visits are counted from 0 again, so durable nodes need another record for each input
    /// ([`Options::effects`]): with the old one they would give their old answers.
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

    /// Takes new input without running anything: what [`start`](Thread::start) does first. See the
    /// example at [`advance`](Thread::advance).
    pub fn input(&mut self, input: S::Update, options: &Options<'_, S>) {
        self.run.take_input(input, options);
    }

    /// Completes one superstep, whatever the recursion limit, and says whether one was due. Leaving
    /// the start with new input is one.
    ///
    /// ```
    /// # use weir::graph::{self, Graph, Options};
    /// # graph::state! {
    /// #     #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
    /// #     pub struct Log { pub lines: Vec<String> => append }
    /// #     pub update Line;
    /// #     error std::io::Error;
    /// # }
    /// # fn line(text: &str) -> Line { Line::default().lines(vec![text.to_owned()]) }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let graph = Graph::builder().node("a", |_: &Log| Ok(line("a"))).entry("a").build()?;
    /// # let mut thread = graph.thread(Log::default());
    /// thread.input(line("input"), &Options::new());
    /// while thread.advance(&Options::new()).await? {
    ///     println!("superstep {}: {:?}", thread.step(), thread.state().lines);
    /// }
    /// assert_eq!(thread.state().lines, ["input", "a"]);
    /// # Ok(())
    /// # }
    /// ```
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
    /// one that it returned: of other nodes of the same superstep, in name order; also of those that
    /// had failed when the run was cancelled or late.
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
        run.check_all(answers)?;
        run.apply_all(answers)
    }

    /// Takes a node whose router led nowhere as done, with the routes that it has without that
    /// router and those after it. Says whether there was such a node.
    ///
    /// This is what LangGraph does on every resume; here it has to be said.
    ///
    /// ```
    /// # use weir::graph::{self, END, Graph, Options};
    /// # graph::state! {
    /// #     #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
    /// #     pub struct Log { pub lines: Vec<String> => append }
    /// #     pub update Line;
    /// #     error std::io::Error;
    /// # }
    /// # fn line(text: &str) -> Line { Line::default().lines(vec![text.to_owned()]) }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let graph = Graph::builder().node("a", |_: &Log| Ok(line("a"))).entry("a")
    /// #     .conditional("a", "lost", |_| "nowhere".into(), [END]).build()?;
    /// # let mut thread = graph.thread(Log::default());
    /// thread.start(Line::default(), &Options::new()).await.unwrap_err(); // "a" is routed to nowhere
    ///
    /// assert!(thread.settle("a"));
    /// thread.resume(&Options::new()).await?;
    /// assert_eq!(thread.state().lines, ["a"]);
    /// # Ok(())
    /// # }
    /// ```
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
    /// Says whether there was an answer. A durable node does not run again but answers from its record,
    /// as long as it is there. See the example at [`settle`](Thread::settle), which is called
    /// alike.
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
