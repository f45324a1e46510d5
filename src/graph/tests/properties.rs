use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use super::model::{NAMES, Plan, answer, way};
use super::*;

/// Graphs of up to seven nodes. What leads to nothing is the end.
fn plans() -> impl Strategy<Value = Plan> {
    (1..=NAMES.len()).prop_flat_map(|nodes| {
        let node = 0..nodes;
        let ways = vec(vec(node.clone(), 0..3), 1..4);
        (
            Just(nodes),
            btree_set(node.clone(), 0..=nodes / 2),
            btree_set(node.clone(), 0..=nodes),
            btree_set(node.clone(), 1..=nodes.min(3)),
            vec((node.clone(), node.clone()), 0..=nodes),
            vec((btree_set(node.clone(), 1..=nodes.min(3)), node.clone()), 0..3),
            vec((node, ways), 0..=nodes),
        )
            .prop_map(|(nodes, deferred, durable, entries, edges, joins, routers)| Plan {
                nodes,
                deferred,
                durable,
                entries,
                edges,
                joins,
                routers,
            })
    })
}

/// How a plan is built and run: in which order it is declared, and how long each node takes.
#[derive(Debug, Clone)]
struct Whims {
    order: Vec<u8>,
    waits: Vec<u64>,
    parallelism: usize,
}

fn whims() -> impl Strategy<Value = Whims> {
    (vec(any::<u8>(), 32), vec(0..4u64, NAMES.len()), 1..9usize)
        .prop_map(|(order, waits, parallelism)| Whims { order, waits, parallelism })
}

enum Declaration {
    Edge(&'static str, &'static str),
    Join(Vec<&'static str>, &'static str),
    Router(usize, &'static str, Vec<Vec<usize>>),
}

fn build(plan: &Plan, whims: &Whims) -> Graph<Tally> {
    let mut nodes: Vec<usize> = (0..plan.nodes).collect();
    let place = |at: usize| whims.order[at % whims.order.len()];
    nodes.sort_by_key(|node| place(*node));
    let mut ways: Vec<Declaration> = Vec::new();
    ways.extend(plan.entries.iter().map(|to| Declaration::Edge(START, NAMES[*to])));
    ways.extend(plan.edges.iter().map(|(from, to)| Declaration::Edge(NAMES[*from], NAMES[*to])));
    ways.extend(plan.joins.iter().map(|(from, to)| {
        Declaration::Join(from.iter().map(|node| NAMES[*node]).collect(), NAMES[*to])
    }));
    ways.extend(
        plan.routers
            .iter()
            .enumerate()
            .map(|(at, (from, ways))| Declaration::Router(at, NAMES[*from], ways.clone())),
    );
    let mut ways: Vec<(usize, Declaration)> = ways.into_iter().enumerate().collect();
    ways.sort_by_key(|(at, _)| place(at + plan.nodes));

    let mut builder = Graph::builder();
    for node in nodes {
        let wait = millis(whims.waits[node]);
        let mut options = NodeOptions::new();
        if plan.deferred.contains(&node) {
            options = options.deferred();
        }
        if plan.durable.contains(&node) {
            options = options.durable();
        }
        let body = move |tally: &Tally| {
            let said = answer(node, tally);
            async move {
                tokio::time::sleep(wait).await;
                Ok::<_, Broken>(said)
            }
        };
        builder = builder.node_with(NAMES[node], body, options);
    }
    for (_, declaration) in ways {
        builder = match declaration {
            Declaration::Edge(from, to) => builder.edge(from, to),
            Declaration::Join(from, to) => builder.join(from, to),
            Declaration::Router(at, from, ways) => {
                let targets = |tally: &Tally, ways: &[Vec<usize>]| {
                    way(ways, tally).iter().map(|to| NAMES[*to]).collect::<Vec<_>>()
                };
                let label = format!("r{at}");
                builder.conditional(from, label, move |t| targets(t, &ways).into(), Targets::any())
            }
        };
    }
    builder.build().unwrap()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true).build().unwrap().block_on(future)
}

/// Enough for loops to go round, few enough to be quick.
const LIMIT: u32 = 9;

/// The state at the end, or at the recursion limit, and whether it was the end.
fn outcome(result: Result<Tally, Box<Failure<Tally>>>) -> (Tally, bool) {
    match result.map_err(|failure| *failure) {
        Ok(state) => (state, true),
        Err(Failure { error: Error::RecursionLimit { next, .. }, state, .. }) => {
            (state, next.is_empty())
        }
        Err(failure) => panic!("{failure}"),
    }
}

#[derive(Default)]
struct Record {
    entries: Mutex<BTreeMap<(String, u32), Said>>,
    executed: Mutex<Vec<(String, u32)>>,
    room: Mutex<usize>,
}

impl Effects<Tally> for Record {
    fn recorded(&self, node: &str, visit: u32) -> Result<Option<Said>, EffectsError> {
        Ok(self.entries.lock().unwrap().get(&(node.to_owned(), visit)).cloned())
    }

    fn record<'a>(
        &'a self,
        node: &'a str,
        visit: u32,
        update: &'a Said,
    ) -> BoxFuture<'a, Result<(), EffectsError>> {
        Box::pin(async move {
            let mut room = self.room.lock().unwrap();
            *room = room.checked_sub(1).ok_or("the record is full")?;
            self.entries.lock().unwrap().insert((node.to_owned(), visit), update.clone());
            self.executed.lock().unwrap().push((node.to_owned(), visit));
            Ok(())
        })
    }
}

/// What has answered is previewed as the model would have it, and survives its snapshot.
fn stands(
    plan: &Plan,
    graph: &Graph<Tally>,
    thread: &Thread<'_, Tally>,
) -> Result<(), TestCaseError> {
    let mut expected = thread.state().clone();
    for pending in thread.pending() {
        let node = NAMES.iter().position(|name| **name == *pending.node);
        if let (Some(node), Status::Done) = (node.filter(|node| *node < plan.nodes), pending.status)
        {
            expected.apply(answer(node, thread.state()));
        }
    }
    prop_assert_eq!(thread.preview().unwrap(), expected);
    let text = serde_json::to_string(&thread.snapshot()).unwrap();
    let restored = graph.restore(serde_json::from_str(&text).unwrap()).unwrap();
    prop_assert_eq!(restored.preview().unwrap(), thread.preview().unwrap());
    prop_assert_eq!(restored.pending(), thread.pending());
    prop_assert_eq!(serde_json::to_string(&restored.snapshot()).unwrap(), text);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_run_is_what_the_plain_model_says_however_siblings_are_scheduled_and_declared(
        plan in plans(),
        whims in vec(whims(), 3),
    ) {
        let expected = model::run(&plan, LIMIT as usize);
        for whims in whims {
            let graph = build(&plan, &whims);
            let options = Options::new().recursion_limit(LIMIT).parallelism(whims.parallelism);

            let result = block_on(graph.run(Tally::default(), &options));

            prop_assert_eq!(outcome(result), expected.clone());
        }
    }

    #[test]
    fn a_thread_interrupted_after_every_superstep_ends_where_the_whole_run_ends(
        plan in plans(),
        whims in whims(),
    ) {
        let graph = build(&plan, &whims);
        let options = Options::new().parallelism(whims.parallelism);
        let mut thread = graph.thread(Tally::default());
        let mut whole = graph.thread(Tally::default());
        thread.input(Said::default(), &options);
        whole.input(Said::default(), &options);
        let mut supersteps = 0;

        while supersteps <= LIMIT && block_on(thread.advance(&options)).unwrap() {
            block_on(whole.advance(&options)).unwrap();
            let (state, over) = model::run(&plan, supersteps as usize);
            prop_assert_eq!(thread.state(), &state);
            prop_assert_eq!(thread.next().is_empty(), over);
            // From here on, another process could go on.
            let text = serde_json::to_string(&thread.snapshot()).unwrap();
            prop_assert_eq!(&text, &serde_json::to_string(&whole.snapshot()).unwrap());
            thread = graph.restore(serde_json::from_str(&text).unwrap()).unwrap();
            supersteps += 1;
        }

        let (state, _) = model::run(&plan, LIMIT as usize);
        prop_assert_eq!(thread.state(), &state);
    }

    #[test]
    fn a_thread_dropped_at_any_time_ends_where_the_whole_run_ends(
        plan in plans(),
        whims in whims(),
        patience in 0..6u64,
    ) {
        let graph = build(&plan, &whims);
        let options = Options::new().recursion_limit(LIMIT).parallelism(whims.parallelism);
        let mut thread = graph.thread(Tally::default());

        block_on(async {
            let start = thread.start(Said::default(), &options);
            let mut over = tokio::time::timeout(millis(patience), start).await.is_ok();
            for _ in 0..20 {
                stands(&plan, &graph, &thread)?;
                if over {
                    break;
                }
                let resume = tokio::time::timeout(millis(patience), thread.resume(&options));
                over = resume.await.is_ok();
            }
            Ok::<(), TestCaseError>(())
        })?;
        let interrupted = thread.state().clone();
        let (before, _) = model::run(&plan, usize::try_from(thread.step()).unwrap());
        let result = block_on(thread.resume(&options));

        prop_assert_eq!(interrupted, before);
        let (state, over) = model::run(&plan, usize::try_from(thread.step()).unwrap());
        prop_assert_eq!(thread.state(), &state);
        prop_assert_eq!(thread.next().is_empty(), over);
        let limited = matches!(result, Err(Error::RecursionLimit { .. }));
        prop_assert!(over || limited);
    }

    #[test]
    fn a_run_repeated_with_its_record_pays_for_nothing_twice_and_ends_the_same(
        plan in plans(),
        whims in whims(),
        rooms in vec(0..3usize, 0..12),
    ) {
        let expected = model::run(&plan, LIMIT as usize);
        let record = Arc::new(Record::default());
        let options = Options::new()
            .recursion_limit(LIMIT)
            .parallelism(whims.parallelism)
            .effects(&*record);
        let graph = build(&plan, &whims);
        for room in rooms.into_iter().chain([usize::MAX]) {
            *record.room.lock().unwrap() = room;
            let result = block_on(graph.run(Tally::default(), &options));
            if matches!(&result, Err(failure) if matches!(failure.error, Error::Effects { .. })) {
                continue;
            }
            prop_assert_eq!(outcome(result), expected.clone());
        }

        let mut executed = record.executed.lock().unwrap().clone();
        let all = executed.len();
        executed.sort();
        executed.dedup();
        prop_assert_eq!(executed.len(), all);
    }
}
