//! What a graph runs: something that reads the state and answers with an update.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::state::State;

/// What a node answers: an update, or its own typed error. See the example at [`Node`].
pub type Outcome<S> = Result<<S as State>::Update, <S as State>::Error>;

/// One agent of a graph.
///
/// Plain functions are nodes as they are (see [`IntoNode`]); a node that owns something, such as a
/// model or a pool, is a struct that implements this. A node may be called many times, by many runs
/// at once.
///
/// ```
/// # use weir::graph::{self, Context, Node, NodeFuture};
/// # graph::state! {
/// #     /// Counts.
/// #     #[derive(Debug, Clone, Default)]
/// #     pub struct Counter {
/// #         /// The count.
/// #         pub count: u64 => add,
/// #     }
/// #     /// A step.
/// #     pub update Step;
/// #     error std::convert::Infallible;
/// # }
/// struct Adder {
///     by: u64,
/// }
///
/// impl Node<Counter> for Adder {
///     fn run<'a>(&'a self, counter: &'a Counter, context: Context<'a>) -> NodeFuture<'a, Counter> {
///         if context.visit > 0 {
///             return NodeFuture::ready(Ok(Step::default())); // once is enough
///         }
///         NodeFuture::new(async move { Ok(Step::default().count(counter.count + self.by)) })
///     }
/// }
/// ```
pub trait Node<S: State>: Send + Sync + 'static {
    /// Reads the state of the previous superstep and answers with an update.
    fn run<'a>(&'a self, state: &'a S, context: Context<'a>) -> NodeFuture<'a, S>;
}

/// Which execution of a node this is. See the example at [`Node`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context<'a> {
    /// The node's name in this graph.
    pub node: &'a str,
    /// How often this node was executed before in this run; from 0, replayed executions count.
    pub visit: u32,
    /// The attempt within this execution, from 1.
    pub attempt: u32,
    /// The superstep, from 1.
    pub step: i64,
    /// When the run or this attempt will be dropped, whichever is earlier.
    pub deadline: Option<Instant>,
}

/// A node's answer on its way. See the example at [`Node`].
#[must_use = "futures do nothing unless awaited"]
pub struct NodeFuture<'a, S: State>(Answer<'a, S>);

enum Answer<'a, S: State> {
    Ready(Option<Outcome<S>>),
    Awaited(BoxFuture<'a, Outcome<S>>),
}

impl<'a, S: State> NodeFuture<'a, S> {
    /// An answer that has to be waited for. Allocates once.
    pub fn new(future: impl Future<Output = Outcome<S>> + Send + 'a) -> Self {
        Self(Answer::Awaited(Box::pin(future)))
    }

    /// An answer that is there. Allocates nothing.
    pub fn ready(outcome: Outcome<S>) -> Self {
        Self(Answer::Ready(Some(outcome)))
    }
}

// The ready answer is never pinned: it is moved out by the first poll.
impl<S: State> Unpin for NodeFuture<'_, S> {}

impl<S: State> Future for NodeFuture<'_, S> {
    type Output = Outcome<S>;

    fn poll(self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Self::Output> {
        match &mut self.get_mut().0 {
            Answer::Ready(outcome) => outcome.take().map_or(Poll::Pending, Poll::Ready),
            Answer::Awaited(future) => future.as_mut().poll(context),
        }
    }
}

impl<S: State> fmt::Debug for NodeFuture<'_, S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("NodeFuture")
    }
}

/// What can be added to a graph as a node: a [`Node`], or a function of the state.
///
/// A function may be sync or async, and answers `Result<Update, Error>` or `Result<Option<Update>,
/// Error>` (`None` writes nothing). An `async fn` may borrow the state while it waits; the future
/// of a closure may borrow neither the state nor what the closure owns, so it clones what it needs
/// first.
///
/// `Kind` tells the three apart and is always inferred.
///
/// ```
/// # use std::io;
/// # use weir::graph::{self, Graph, Options};
/// # graph::state! {
/// #     #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
/// #     pub struct Log { pub lines: Vec<String> => append }
/// #     pub update Line;
/// #     error std::io::Error;
/// # }
/// # fn line(text: &str) -> Line { Line::default().lines(vec![text.to_owned()]) }
/// fn first(_: &Log) -> io::Result<Line> {
///     Ok(line("a function"))
/// }
///
/// async fn second(log: &Log) -> io::Result<Option<Line>> {
///     tokio::task::yield_now().await;
///     Ok(log.lines.is_empty().then(Line::default)) // writes nothing
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let owned = "a closure".to_owned();
/// let third = move |_: &Log| Ok(line(&owned));
/// let fourth = |log: &Log| {
///     let count = log.lines.len();
///     async move { Ok(line(&format!("a closure after {count} lines"))) }
/// };
/// let graph = Graph::builder().node("1", first).node("2", second).node("3", third).node("4", fourth);
/// let graph = graph.entry("1").edge("1", "2").edge("2", "3").edge("3", "4").build()?;
///
/// let log = graph.run(Log::default(), &Options::new()).await?;
/// assert_eq!(log.lines, ["a function", "a closure", "a closure after 2 lines"]);
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no node on `{S}`",
    label = "neither a `Node<{S}>` nor a function `(&{S}) -> Result<Update, Error>`, sync or async",
    note = "a closure must name its argument's type (`|state: &{S}|`), and its future must be Send and borrow nothing"
)]
pub trait IntoNode<S: State, Kind> {
    /// Makes it a node.
    fn into_node(self) -> Box<dyn Node<S>>;
}

impl<S: State, N: Node<S>> IntoNode<S, ItselfKind> for N {
    fn into_node(self) -> Box<dyn Node<S>> {
        Box::new(self)
    }
}

impl<S, F, T> IntoNode<S, FunctionKind<T>> for F
where
    S: State,
    F: Fn(&S) -> Result<T, S::Error> + Send + Sync + 'static,
    T: Into<Option<S::Update>> + 'static,
{
    fn into_node(self) -> Box<dyn Node<S>> {
        Box::new(Function(self, PhantomData::<fn() -> T>))
    }
}

impl<S, F> IntoNode<S, AsyncFunctionKind> for F
where
    S: State,
    F: for<'a> AsyncFunction<'a, S> + Send + Sync + 'static,
{
    fn into_node(self) -> Box<dyn Node<S>> {
        Box::new(Awaited(self))
    }
}

/// A function that returns a future of an answer, for every lifetime of the state it is given.
#[doc(hidden)]
pub trait AsyncFunction<'a, S: State>: Fn(&'a S) -> Self::Future {
    type Future: Future<Output = Result<Self::Wrote, S::Error>> + Send + 'a;
    type Wrote: Into<Option<S::Update>>;
}

impl<'a, S, F, Fut, T> AsyncFunction<'a, S> for F
where
    S: State,
    F: Fn(&'a S) -> Fut,
    Fut: Future<Output = Result<T, S::Error>> + Send + 'a,
    T: Into<Option<S::Update>>,
{
    type Future = Fut;
    type Wrote = T;
}

#[doc(hidden)]
#[derive(Debug)]
pub enum ItselfKind {}

#[doc(hidden)]
#[derive(Debug)]
pub struct FunctionKind<T>(PhantomData<T>);

#[doc(hidden)]
#[derive(Debug)]
pub enum AsyncFunctionKind {}

struct Function<F, T>(F, PhantomData<fn() -> T>);

impl<S, F, T> Node<S> for Function<F, T>
where
    S: State,
    F: Fn(&S) -> Result<T, S::Error> + Send + Sync + 'static,
    T: Into<Option<S::Update>> + 'static,
{
    fn run<'a>(&'a self, state: &'a S, _: Context<'a>) -> NodeFuture<'a, S> {
        NodeFuture::ready(self.0(state).map(|wrote| wrote.into().unwrap_or_default()))
    }
}

struct Awaited<F>(F);

impl<S, F> Node<S> for Awaited<F>
where
    S: State,
    F: for<'a> AsyncFunction<'a, S> + Send + Sync + 'static,
{
    fn run<'a>(&'a self, state: &'a S, _: Context<'a>) -> NodeFuture<'a, S> {
        let future = self.0(state);
        NodeFuture::new(async move { Ok(future.await?.into().unwrap_or_default()) })
    }
}
