use futures_util::FutureExt as _;

use super::*;

/// What is wrong with a graph that has the nodes `a` and `b`, and which call shows it.
fn problem(declare: impl Fn(Builder<Tally>) -> Builder<Tally>) -> Option<(Option<usize>, Problem)> {
    let builder = Graph::builder().node("a", says("a")).node("b", says("b"));
    let error = declare(builder).build().err()?;
    Some((error.call(), error.problem().clone()))
}

fn check(
    declare: impl Fn(Builder<Tally>) -> Builder<Tally>,
    call: Option<usize>,
    expected: Problem,
) {
    assert_eq!(problem(declare), Some((call, expected)));
}

#[test]
fn a_name_is_given_once_and_is_neither_reserved_nor_separated() {
    check(|b| b.node("a", says("a")), Some(2), Problem::DuplicateNode { node: "a".into() });
    check(|b| b.node(END, says("a")), Some(2), Problem::ReservedName { node: END.into() });
    check(|b| b.node(START, says("a")), Some(2), Problem::ReservedName { node: START.into() });
    let piped = Problem::NameCharacter { node: "x|y".into(), character: '|' };
    check(|b| b.node("x|y", says("a")), Some(2), piped);
    let reserved = Problem::ReservedName { node: "__pregel_pull".into() };
    check(|b| b.node("__pregel_pull", says("a")).entry("a"), None, reserved);
    assert_eq!(problem(|b| b.node("", says("")).node("узел", says("")).entry("")), None);
    assert_eq!(problem(|b| b.node("__pregel_mine", says("")).entry("a")), None);
}

#[test]
fn an_edge_neither_leaves_the_end_nor_enters_the_start() {
    check(|b| b.edge(END, "a"), Some(2), Problem::FromEnd { to: "a".into() });
    check(|b| b.entry("a").edge("a", START), Some(3), Problem::ToStart { from: "a".into() });
    check(|b| b.entry("a").edge("x", "a"), None, Problem::UnknownSource { from: "x".into() });
    let nowhere = Problem::EdgeTarget { from: "a".into(), to: "x".into() };
    check(|b| b.entry("a").edge("a", "x"), None, nowhere);
    check(|b| b.edge("a", "b"), None, Problem::NoEntry);
    assert_eq!(problem(|b| b.edge("b", "later").entry("a").node("later", says("later"))), None);
}

#[test]
fn a_join_has_sources_and_all_its_nodes_are_there_before_it() {
    let nothing: [&str; 0] = [];
    check(|b| b.join(nothing, "a"), Some(2), Problem::EmptyJoin { to: "a".into() });
    let unknown = Problem::JoinSource { from: "x".into(), to: "b".into() };
    check(|b| b.join(["a", "x"], "b"), Some(2), unknown);
    check(|b| b.join(["a", END], "b"), Some(2), Problem::FromEnd { to: "b".into() });
    let start = Problem::JoinSource { from: START.into(), to: "b".into() };
    check(|b| b.join([START], "b"), Some(2), start);
    check(|b| b.join(["a"], START), Some(2), Problem::JoinTarget { to: START.into() });
    check(|b| b.join(["a"], "x"), Some(2), Problem::JoinTarget { to: "x".into() });
    assert_eq!(problem(|b| b.entry("a").join(["a", "b"], END)), None);
}

#[test]
fn a_router_has_its_label_for_itself_and_leads_to_nodes() {
    let declare = |b: Builder<Tally>| b.entry("a").conditional("a", "r", |_| END.into(), [END]);
    let twice = Problem::DuplicateRouter { node: "a".into(), label: "r".into() };
    check(|b| declare(declare(b)), Some(5), twice);
    let to =
        |to: &str| Problem::RouterTarget { node: "a".into(), label: "r".into(), to: to.into() };
    let lead = |b: Builder<Tally>, to: &str| {
        b.entry("a").conditional("a", "r", |_| "k".into(), [("k", to)])
    };
    check(|b| lead(b, "x"), None, to("x"));
    check(|b| lead(b, START), None, to(START));
    let ambiguous =
        Problem::AmbiguousAnswer { node: "a".into(), label: "r".into(), answer: "k".into() };
    check(
        |b| b.entry("a").conditional("a", "r", |_| "k".into(), [("k", "a"), ("k", "b")]),
        None,
        ambiguous,
    );
    let unknown = Problem::UnknownSource { from: "x".into() };
    check(|b| b.entry("a").conditional("x", "r", |_| END.into(), [END]), None, unknown);
    assert_eq!(problem(|b| b.conditional(START, "r", |_| "a".into(), Targets::any())), None);
}

#[test]
fn the_first_call_that_can_not_be_right_is_reported() {
    let declare = |b: Builder<Tally>| b.edge("a", START).edge(END, "a").node("a", says("a"));

    check(declare, Some(2), Problem::ToStart { from: "a".into() });
}

#[test]
fn an_error_names_the_place() {
    let error = Graph::builder().node("a", says("a")).edge("a", START).build().unwrap_err();

    assert_eq!(error.to_string(), "builder call 1: the way from \"a\" leads to the start");
}

fn drawn() -> Graph<Tally> {
    Graph::builder()
        .node("plan", says("plan"))
        .node_with("ask \"it\"", says("ask"), NodeOptions::new().durable())
        .node("count", says("count"))
        .node_with("sum", says("sum"), NodeOptions::new().deferred())
        .entry("plan")
        .conditional("plan", "way", |_| "ask".into(), [("ask", "ask \"it\""), ("stop", END)])
        .edge("plan", "count")
        .join(["ask \"it\"", "count"], "sum")
        .conditional("sum", "free", |_| END.into(), Targets::any())
        .build()
        .unwrap()
}

#[test]
fn a_graph_is_drawn_in_mermaid() {
    assert_eq!(
        drawn().mermaid(),
        r##"flowchart TD
    start([start])
    n0[["ask #quot;it#quot;"]]
    n1["count"]
    n2["plan"]
    n3[/"sum"/]
    finish([end])
    j0{{all}}
    j0 --> n3
    start --> n2
    n0 --> j0
    n1 --> j0
    n2 --> n1
    n2 -. "ask" .-> n0
    n2 -. "stop" .-> finish
    any8((any))
    n3 -. "free" .-> any8
"##
    );
}

#[test]
fn the_order_of_the_calls_is_seen_neither_in_drawings_nor_in_snapshots() {
    let late = |name| (says(name), NodeOptions::new().deferred());
    let ((a, late_a), (b, late_b)) = (late("a"), late("b"));
    let one = Graph::builder()
        .node_with("a", a, late_a)
        .node_with("b", b, late_b)
        .node("c", says("c"))
        .join(["c"], "a")
        .join(["a", "c"], "b")
        .edge("c", "a")
        .conditional("c", "r", |_| "b".into(), ["b"])
        .conditional("c", "q", |_| "k".into(), [("k", "a")])
        .entry("c");
    let ((a, late_a), (b, late_b)) = (late("a"), late("b"));
    let other = Graph::builder()
        .entry("c")
        .conditional("c", "q", |_| "k".into(), [("k", "a")])
        .conditional("c", "r", |_| "b".into(), ["b"])
        .node("c", says("c"))
        .node_with("b", b, late_b)
        .node_with("a", a, late_a)
        .edge("c", "a")
        .join(["c", "a"], "b")
        .join(["c"], "a");

    let seen = [one, other].map(|graph| {
        let graph = graph.build().unwrap();
        let mut thread = graph.thread(Tally::default());
        let options = Options::new().recursion_limit(1);
        let started = thread.start(Said::default(), &options).now_or_never();
        assert!(matches!(started, Some(Err(Error::RecursionLimit { .. }))));
        (graph.mermaid(), graph.dot(), serde_json::to_string(&thread.snapshot()).unwrap())
    });

    assert_eq!(seen[0], seen[1]);
}

#[test]
fn a_graph_is_drawn_in_dot() {
    let dot = drawn().dot();

    assert!(dot.starts_with("digraph {\n") && dot.ends_with("}\n"), "{dot}");
    assert!(dot.contains("n0 [label=\"ask \\\"it\\\"\", peripheries=2]\n"), "{dot}");
    assert!(dot.contains("n2 -> finish [style=dashed, label=\"stop\"]\n"), "{dot}");
    assert!(dot.contains("n1 -> j0\n"), "{dot}");
}

#[test]
fn empty_names_and_backticks_are_no_syntax_in_mermaid() {
    let graph = Graph::builder()
        .node("", says(""))
        .node("`b", says("`b"))
        .entry("")
        .conditional("", "r", |_| "".into(), [("", "`b")])
        .build()
        .unwrap();

    let mermaid = graph.mermaid();

    assert!(mermaid.contains("n0[\" \"]\n") && mermaid.contains("n1[\"#96;b\"]\n"), "{mermaid}");
    assert!(mermaid.contains("n0 -. \" \" .-> n1\n"), "{mermaid}");
}
