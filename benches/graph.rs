//! What does the engine cost, besides what its nodes do? A chain of 1,000 nodes should stay below 1
//! us per node, the multi-agent graph (7 executions, routed, 10 kB of state) below 5 us; a fan-out
//! of 1,000 shows what siblings cost each other.

#![expect(clippy::unwrap_used, reason = "a bench that can't be set up has nothing to say")]

use std::convert::Infallible;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde_json::{Map, Value, json};
use tokio::runtime::{Builder, Runtime};
use weir::graph::{self, END, Graph, IntoNode, Node, NodeFuture, Options, Route, START};

graph::state! {
    /// As little as there can be.
    #[derive(Debug, Clone, Default)]
    pub struct Count {
        /// A sum.
        pub total: u64 => add,
    }
    /// A summand.
    pub update Step;
    error Infallible;
}

graph::state! {
    /// The state of the multi-agent workflow.
    #[derive(Debug, Clone, Default)]
    pub struct Agents {
        /// What was said.
        pub messages: Vec<Value> => append,
        /// The task.
        pub task: String => overwrite,
        /// What each agent found.
        pub agent_results: Map<String, Value> => merge,
        /// Who goes next.
        pub current_agent: String => overwrite,
        /// Whether all is done.
        pub completed: bool => overwrite,
        /// Notes.
        pub metadata: Map<String, Value> => merge,
    }
    /// What one agent says.
    pub update Said;
    error Infallible;
}

fn count(_: &Count) -> Result<Step, Infallible> {
    Ok(Step::default().total(1))
}

async fn count_later(_: &Count) -> Result<Step, Infallible> {
    Ok(Step::default().total(1))
}

/// A node that does nothing and allocates nothing, so that only the engine is measured.
struct Nothing;

impl Node<Count> for Nothing {
    fn run<'a>(&'a self, _: &'a Count, _: graph::Context<'a>) -> NodeFuture<'a, Count> {
        NodeFuture::ready(Ok(Step::default()))
    }
}

fn name(at: usize) -> String {
    format!("node{at:04}")
}

fn chain<K, N: IntoNode<Count, K>>(node: impl Fn() -> N) -> Graph<Count> {
    let graph = (0..1000).fold(Graph::builder(), |graph, at| graph.node(name(at), node()));
    let graph = (1..1000).fold(graph, |graph, at| graph.edge(name(at - 1), name(at)));
    graph.entry(name(0)).build().unwrap()
}

fn fan_out() -> Graph<Count> {
    let graph = (0..1000).fold(Graph::builder(), |graph, at| graph.node(name(at), count));
    (0..1000).fold(graph, |graph, at| graph.entry(name(at))).build().unwrap()
}

/// The workflow's graph: an orchestrator that sends three workers off, one after the other.
fn multi_agent() -> Graph<Agents> {
    fn orchestrate(state: &Agents) -> Result<Said, Infallible> {
        let open = ["data", "analysis", "llm_analysis"];
        let next = open.into_iter().find(|agent| !state.agent_results.contains_key(*agent));
        let said = Said::default().current_agent(next.unwrap_or("end").to_owned());
        Ok(if next.is_none() { said.completed(true) } else { said })
    }
    fn route(state: &Agents) -> Route<'_> {
        if state.completed { "end" } else { state.current_agent.as_str() }.into()
    }
    let worker = |agent: &'static str| {
        move |_: &Agents| {
            let result = Map::from_iter([(agent.to_owned(), json!("done"))]);
            Ok(Said::default().agent_results(result).current_agent("orchestrator".to_owned()))
        }
    };
    let targets = [
        ("data", "data_agent"),
        ("analysis", "analysis_agent"),
        ("llm_analysis", "llm_analysis"),
        ("end", END),
    ];
    Graph::builder()
        .node("orchestrator", orchestrate)
        .node("data_agent", worker("data"))
        .node("analysis_agent", worker("analysis"))
        .node("llm_analysis", worker("llm_analysis"))
        .edge(START, "orchestrator")
        .conditional("orchestrator", "by_agent", route, targets)
        .edge("data_agent", "orchestrator")
        .edge("analysis_agent", "orchestrator")
        .edge("llm_analysis", "orchestrator")
        .build()
        .unwrap()
}

/// 10 kB in a hundred messages.
fn agents() -> Agents {
    let message = || json!({ "role": "user", "content": "x".repeat(80) });
    let messages = (0..100).map(|_| message()).collect();
    Agents { messages, task: "analyze".to_owned(), ..Agents::default() }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

fn chains(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("chain of 1000");
    group.throughput(Throughput::Elements(1000));
    let options = Options::new().recursion_limit(1001);
    for (title, graph) in [
        ("nodes that do nothing", chain(|| Nothing)),
        ("functions", chain(|| count)),
        ("async functions", chain(|| count_later)),
    ] {
        group.bench_function(title, |bencher| {
            let runtime = runtime();
            bencher.iter(|| runtime.block_on(graph.run(black_box(Count::default()), &options)));
        });
    }
    group.finish();
}

fn siblings(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fan-out of 1000");
    group.throughput(Throughput::Elements(1000));
    let graph = fan_out();
    for parallelism in [64, 1000] {
        let options = Options::new().parallelism(parallelism);
        group.bench_function(format!("{parallelism} at once"), |bencher| {
            let runtime = runtime();
            bencher.iter(|| runtime.block_on(graph.run(black_box(Count::default()), &options)));
        });
    }
    group.finish();
}

fn workflow(criterion: &mut Criterion) {
    let (graph, runtime, options) = (multi_agent(), runtime(), Options::new());
    criterion.bench_function("multi-agent graph, 10 kB of state", |bencher| {
        bencher.iter_batched(
            agents,
            |state| runtime.block_on(graph.run(state, &options)).ok(),
            criterion::BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, chains, siblings, workflow);
criterion_main!(benches);
