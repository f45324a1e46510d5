//! A graph in the making: what was said so far, and the checks that make it a graph that can run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::build_error::{BuildError, Problem};
use super::node::{IntoNode, Node};
use super::policy::NodeOptions;
use super::route::{Conditional, Resolved, Route, Router, Targets};
use super::shape::{END, Exits, Join, Name, NodeId, Place, RESERVED, START, Shape, Table};
use super::state::State;

/// A graph that is built, and therefore can run.
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
/// let answer = |log: &Log| Ok(line(&format!("{} lines so far", log.lines.len())));
/// let graph = Graph::builder().node("answer", answer).entry("answer").build()?;
///
/// assert_eq!(graph.nodes().collect::<Vec<_>>(), ["answer"]);
/// assert!(graph.mermaid().contains("start --> n0"));
/// assert!(graph.dot().contains("start -> n0"));
/// let log = graph.run(Log::default(), &Options::new()).await?;
/// assert_eq!(log.lines, ["0 lines so far"]);
/// # Ok(())
/// # }
/// ```
pub struct Graph<S: State> {
    pub(super) shape: Shape,
    pub(super) nodes: Table<Entry<S>>,
    pub(super) start: Vec<Conditional<S>>,
}

/// What running knows of a node, besides its place.
pub(super) struct Entry<S: State> {
    pub(super) body: Box<dyn Node<S>>,
    pub(super) options: NodeOptions<S>,
    pub(super) conditionals: Vec<Conditional<S>>,
}

impl<S: State> Graph<S> {
    /// A graph to be declared, call by call.
    pub fn builder() -> Builder<S> {
        Builder {
            calls: 0,
            refused: None,
            nodes: BTreeMap::new(),
            edges: BTreeSet::new(),
            joins: Vec::new(),
            routers: Vec::new(),
        }
    }

    /// The names of the nodes, in the order in which their updates are applied.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &str> {
        self.shape.places.iter().map(|place| &*place.name)
    }

    /// The routers of a node, or of the start.
    pub(super) fn conditionals(&self, node: Option<NodeId>) -> &[Conditional<S>] {
        node.map_or(&self.start, |id| &self.nodes[id].conditionals)
    }

    /// A node's name, or the start's.
    pub(super) fn name(&self, node: Option<NodeId>) -> Name {
        node.map_or_else(|| START.into(), |id| Name::clone(self.shape.name(id)))
    }
}

impl<S: State> fmt::Debug for Graph<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Graph").field("shape", &self.shape).finish_non_exhaustive()
    }
}

/// Declares a graph. The order of the calls changes nothing in what the graph does, only which of
/// several mistakes [`build`](Builder::build) reports, and which of a node's routers is asked first:
/// that shows when several of them lead nowhere.
///
/// ```
/// # use weir::graph::{self, END, Graph, NodeOptions, Options, START};
/// # graph::state! {
/// #     #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
/// #     pub struct Log { pub lines: Vec<String> => append }
/// #     pub update Line;
/// #     error std::io::Error;
/// # }
/// # fn line(text: &str) -> Line { Line::default().lines(vec![text.to_owned()]) }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let says = |text: &'static str| move |_: &Log| Ok(line(text));
/// let graph = Graph::builder()
///     .node("plan", says("plan"))
///     .node("news", says("news"))
///     .node("prices", says("prices"))
///     .node("report", says("report"))
///     .node_with("archive", says("archive"), NodeOptions::new().deferred())
///     .entry("plan") // as .edge(START, "plan")
///     .edge("plan", "news")
///     .edge("plan", "prices")
///     .join(["news", "prices"], "report") // when both have run
///     .edge("news", "archive") // deferred: when nothing else is due
///     .conditional("report", "again", |log| if log.lines.len() < 5 { "news" } else { END }.into(), ["news", END])
///     .finish("archive") // as .edge("archive", END)
///     .build()?;
///
/// let log = graph.run(Log::default(), &Options::new()).await?;
/// assert_eq!(log.lines, ["plan", "news", "prices", "report", "news", "archive"]);
/// # Ok(())
/// # }
/// ```
#[must_use = "a graph can't run unbuilt"]
pub struct Builder<S: State> {
    /// How many calls were made.
    calls: usize,
    /// The first call that can't be right.
    refused: Option<BuildError>,
    nodes: BTreeMap<Name, Declared<S>>,
    edges: BTreeSet<(Name, Name)>,
    joins: Vec<(BTreeSet<Name>, Name)>,
    routers: Vec<Routed<S>>,
}

struct Declared<S: State> {
    body: Box<dyn Node<S>>,
    options: NodeOptions<S>,
}

struct Routed<S> {
    from: Name,
    label: Name,
    router: Box<Router<S>>,
    targets: Targets,
}

impl<S: State> Builder<S> {
    /// Adds a node. Its name may be anything but [`START`] and [`END`], without `|` and `:`.
    pub fn node<K>(self, name: impl Into<Name>, node: impl IntoNode<S, K>) -> Self {
        self.node_with(name, node, NodeOptions::new())
    }

    /// Adds a node that is treated in its own way.
    pub fn node_with<K>(
        mut self,
        name: impl Into<Name>,
        node: impl IntoNode<S, K>,
        options: NodeOptions<S>,
    ) -> Self {
        let name = name.into();
        let separator = name.chars().find(|character| matches!(character, '|' | ':'));
        let problem = if self.nodes.contains_key(&name) {
            Some(Problem::DuplicateNode { node: Name::clone(&name) })
        } else if matches!(&*name, START | END) {
            Some(Problem::ReservedName { node: Name::clone(&name) })
        } else {
            separator
                .map(|character| Problem::NameCharacter { node: Name::clone(&name), character })
        };
        if !self.refuses(problem) {
            self.nodes.insert(name, Declared { body: node.into_node(), options });
        }
        self
    }

    /// Adds an edge: when `from` has run, `to` is due. The nodes may be added later.
    pub fn edge(mut self, from: impl Into<Name>, to: impl Into<Name>) -> Self {
        let (from, to) = (from.into(), to.into());
        let problem = if *from == *END {
            Some(Problem::FromEnd { to: Name::clone(&to) })
        } else if *to == *START {
            Some(Problem::ToStart { from: Name::clone(&from) })
        } else {
            None
        };
        if !self.refuses(problem) {
            self.edges.insert((from, to));
        }
        self
    }

    /// Begins at `node`: an edge from [`START`]. A graph may have several entries.
    pub fn entry(self, node: impl Into<Name>) -> Self {
        self.edge(START, node)
    }

    /// Ends after `node`, if nothing else is due: an edge to [`END`].
    pub fn finish(self, node: impl Into<Name>) -> Self {
        self.edge(node, END)
    }

    /// Adds a join: when all of `from` have run since it last led there, `to` is due. The nodes
    /// must have been added before.
    pub fn join<N: Into<Name>>(
        mut self,
        from: impl IntoIterator<Item = N>,
        to: impl Into<Name>,
    ) -> Self {
        let to = to.into();
        let from: BTreeSet<Name> = from.into_iter().map(Into::into).collect();
        let stranger = from.iter().find(|source| !self.nodes.contains_key(*source));
        let problem = if from.contains(END) {
            Some(Problem::FromEnd { to: Name::clone(&to) })
        } else if from.is_empty() {
            Some(Problem::EmptyJoin { to: Name::clone(&to) })
        } else if let Some(source) = stranger {
            Some(Problem::JoinSource { from: Name::clone(source), to: Name::clone(&to) })
        } else if *to == *START || (*to != *END && !self.nodes.contains_key(&to)) {
            Some(Problem::JoinTarget { to: Name::clone(&to) })
        } else {
            None
        };
        if !self.refuses(problem) {
            self.joins.push((from, to));
        }
        self
    }

    /// Adds a conditional edge: when `from` has run, `router` says where to go. It sees the state
    /// that `from` saw, with the update of `from` applied, but never a sibling's; from [`START`],
    /// the state that the run begins with. `label` names it in errors and drawings. A node may have
    /// several routers and plain edges too: all of them count.
    pub fn conditional(
        mut self,
        from: impl Into<Name>,
        label: impl Into<Name>,
        router: impl Fn(&S) -> Route<'_> + Send + Sync + 'static,
        targets: impl Into<Targets>,
    ) -> Self {
        let (from, label) = (from.into(), label.into());
        let taken = self.routers.iter().any(|other| other.from == from && other.label == label);
        let duplicate =
            || Problem::DuplicateRouter { node: Name::clone(&from), label: Name::clone(&label) };
        if !self.refuses(taken.then(duplicate)) {
            let (router, targets) = (Box::new(router), targets.into());
            self.routers.push(Routed { from, label, router, targets });
        }
        self
    }

    /// Checks the whole and makes it a graph that can run.
    ///
    /// # Errors
    /// The first call that can't be right, else the first thing that is wrong with the whole: a
    /// source that is no node, no way from the start, a target that is no node, a reserved name.
    pub fn build(mut self) -> Result<Graph<S>, BuildError> {
        if let Some(error) = self.refused.take() {
            return Err(error);
        }
        self.check().map_err(|problem| BuildError { call: None, problem })?;
        // The order of the calls is seen in no drawing and in no snapshot.
        self.joins.sort_unstable();
        let shape = self.shape();
        let mut start = Vec::new();
        let mut nodes: Table<Entry<S>> = std::mem::take(&mut self.nodes)
            .into_values()
            .map(|Declared { body, options }| Entry { body, options, conditionals: Vec::new() })
            .collect();
        for routed in self.routers {
            let from = shape.find(&routed.from);
            let conditional = routed.resolve(&shape);
            from.map_or(&mut start, |id| &mut nodes[id].conditionals).push(conditional);
        }
        Ok(Graph { shape, nodes, start })
    }

    /// Counts a call and notes its problem, if it is the first. Says whether the call is to be left
    /// out.
    fn refuses(&mut self, problem: Option<Problem>) -> bool {
        let call = Some(self.calls);
        self.calls += 1;
        let refused = problem.is_some();
        if let (None, Some(problem)) = (&self.refused, problem) {
            self.refused = Some(BuildError { call, problem });
        }
        refused
    }

    fn check(&self) -> Result<(), Problem> {
        let is_source = |name: &str| name == START || self.nodes.contains_key(name);
        let is_target = |name: &str| name == END || self.nodes.contains_key(name);
        let edge_sources = self.edges.iter().map(|(from, _)| from);
        let mut sources = edge_sources.chain(self.routers.iter().map(|router| &router.from));
        if let Some(from) = sources.clone().find(|from| !is_source(from)) {
            return Err(Problem::UnknownSource { from: Name::clone(from) });
        }
        if !sources.any(|from| **from == *START) {
            return Err(Problem::NoEntry);
        }
        self.routers.iter().try_for_each(|router| router.check(is_target))?;
        if let Some((from, to)) = self.edges.iter().find(|(_, to)| !is_target(to)) {
            return Err(Problem::EdgeTarget { from: Name::clone(from), to: Name::clone(to) });
        }
        let is_reserved = |name: &&Name| RESERVED.contains(&&***name);
        match self.nodes.keys().find(is_reserved) {
            Some(node) => Err(Problem::ReservedName { node: Name::clone(node) }),
            None => Ok(()),
        }
    }

    fn shape(&self) -> Shape {
        let place = |(name, declared): (&Name, &Declared<S>)| Place {
            name: Name::clone(name),
            exits: Exits::default(),
            joins_in: Vec::new(),
            deferred: declared.options.deferred,
        };
        let places = self.nodes.iter().map(place).collect();
        let mut shape = Shape { places, joins: Table::default(), start: Exits::default() };
        for (from, to) in &self.edges {
            let target = shape.find(to);
            let exits = match shape.find(from) {
                Some(id) => &mut shape.places[id].exits,
                None => &mut shape.start,
            };
            match target {
                Some(id) => exits.edges.push(id),
                None => exits.ends = true,
            }
        }
        shape.joins = self
            .joins
            .iter()
            .map(|(from, to)| Join {
                sources: from.iter().filter_map(|source| shape.find(source)).collect(),
                target: shape.find(to),
            })
            .collect();
        for join in shape.join_ids() {
            let Join { sources, target } = shape.joins[join].clone();
            for (at, source) in sources.into_iter().enumerate() {
                shape.places[source].exits.joins.push((join, at));
            }
            if let Some(target) = target {
                shape.places[target].joins_in.push(join);
            }
        }
        shape
    }
}

impl<S> Routed<S> {
    fn check(&self, is_target: impl Fn(&str) -> bool) -> Result<(), Problem> {
        let Some(pairs) = &self.targets.0 else {
            return Ok(());
        };
        let mut known = BTreeMap::new();
        for (answer, to) in pairs {
            let (node, label) = (Name::clone(&self.from), Name::clone(&self.label));
            if !is_target(to) {
                return Err(Problem::RouterTarget { node, label, to: to.as_str().into() });
            }
            if known.insert(answer, to).is_some_and(|other| other != to) {
                return Err(Problem::AmbiguousAnswer { node, label, answer: answer.clone() });
            }
        }
        Ok(())
    }

    fn resolve(self, shape: &Shape) -> Conditional<S> {
        let resolve = |(answer, to): (String, String)| (answer.into_boxed_str(), shape.find(&to));
        let targets = match self.targets.0 {
            None => Resolved::Any,
            Some(pairs) => Resolved::Mapped(pairs.into_iter().map(resolve).collect()),
        };
        Conditional { label: self.label, router: self.router, targets }
    }
}

impl<S: State> fmt::Debug for Builder<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Builder")
            .field("refused", &self.refused)
            .field("nodes", &self.nodes.keys())
            .field("edges", &self.edges)
            .field("joins", &self.joins)
            .finish_non_exhaustive()
    }
}
