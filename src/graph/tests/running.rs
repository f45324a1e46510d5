use super::*;

#[tokio::test]
async fn every_reducer_does_what_it_says() {
    let first = |_: &Tally| {
        let marks = [("x".to_owned(), 1), ("y".to_owned(), 1)].into();
        Ok::<_, Broken>(
            Said::default()
                .total(2)
                .best(7)
                .marks(marks)
                .longest("first".to_owned())
                .last("a".into()),
        )
    };
    let second = |_: &Tally| {
        let marks = [("y".to_owned(), 2)].into();
        let said = Said::default()
            .total(3)
            .best(5)
            .marks(marks)
            .longest("2nd".to_owned())
            .last("b".into());
        Ok::<_, Broken>(said.verdict(Some("fine".to_owned())))
    };
    let graph = Graph::builder().node("a", first).node("b", second).entry("b").entry("a");

    let tally = run(&graph.build().unwrap()).await.unwrap();

    assert_eq!((tally.total, tally.best, tally.last.as_str()), (5, 7, "b"));
    assert_eq!(tally.marks, [("x".to_owned(), 1), ("y".to_owned(), 2)].into());
    assert_eq!((tally.verdict.as_deref(), tally.longest.as_str()), (Some("fine"), "first"));
}

#[test]
fn an_update_survives_its_serialisation() {
    let said = Said { verdict: Some(None), ..Said::default().total(3) };
    let text = serde_json::to_string(&Wrap(&said)).unwrap();
    let back: Said = serde_json::from_str(r#"{"total":3,"verdict":null,"unknown":[1]}"#).unwrap();

    assert_eq!(text, r#"{"total":3,"verdict":null}"#);
    assert_eq!((back.total, back.verdict, back.log), (Some(3), Some(None), None));

    struct Wrap<'a>(&'a Said);
    impl serde::Serialize for Wrap<'_> {
        fn serialize<T: serde::Serializer>(&self, serializer: T) -> Result<T::Ok, T::Error> {
            self.0.serialize(serializer)
        }
    }
}

state! {
    /// A field that is a word of the language.
    #[derive(Debug, Clone, Default)]
    struct Typed {
        r#type: String => last_value,
        id: u32 => overwrite,
    }
    update Typing;
    error Broken;
}

#[tokio::test]
async fn a_field_that_is_a_raw_identifier_goes_by_its_plain_name() {
    let typing = Typing::default().r#type("a".to_owned()).id(1);
    let text = serde_json::to_string(&typing).unwrap();
    let back: Typing = serde_json::from_str(r#"{"type":"b"}"#).unwrap();
    let types = |_: &Typed| Ok::<_, Broken>(Typing::default().r#type(String::new()));
    let graph = Graph::builder().node("a", types).node("b", types).entry("a").entry("b");

    let failure = graph.build().unwrap().run(Typed::default(), &Options::new()).await.unwrap_err();

    assert_eq!(text, r#"{"type":"a","id":1}"#);
    assert_eq!(back.r#type.as_deref(), Some("b"));
    assert!(matches!(failure.error, Error::Conflict { field, .. } if field == "type"));
}

#[tokio::test]
async fn plain_and_async_functions_closures_and_structs_are_nodes() {
    async fn borrows(state: &Tally) -> Result<Said, Broken> {
        tokio::task::yield_now().await;
        Ok(Said::default().total(state.total))
    }
    fn nothing(_: &Tally) -> Result<Option<Said>, Broken> {
        Ok(None)
    }
    let captured = String::from("closure");
    let graph = Graph::builder()
        .node("a", |_: &Tally| Ok::<_, Broken>(Said::default().total(2)))
        .node("b", borrows)
        .node("c", nothing)
        .node("d", move |_: &Tally| {
            let name = captured.clone();
            async move { Ok::<_, Broken>(Said::default().log(vec![name])) }
        })
        .node("e", async |state: &Tally| Ok::<_, Broken>(Said::default().best(state.total)))
        .node("f", Flaky::new(0))
        .entry("a");
    let names = ["a", "b", "c", "d", "e", "f"];
    let graph = names.windows(2).fold(graph, |graph, pair| graph.edge(pair[0], pair[1]));

    let tally = run(&graph.build().unwrap()).await.unwrap();

    assert_eq!((tally.total, tally.best), (4, 4));
    assert_eq!(tally.log, ["closure", "f#1"]);
}

#[tokio::test(start_paused = true)]
async fn siblings_are_applied_in_name_order_whoever_answers_first() {
    let graph = Graph::builder()
        .node("z", says_after("z", millis(1)))
        .node("a10", says_after("a10", millis(30)))
        .node("a2", says_after("a2", millis(20)))
        .node("B", says_after("B", millis(10)))
        .node("é", says_after("é", millis(0)));
    let graph = ["z", "a10", "a2", "B", "é"].into_iter().fold(graph, Builder::entry);

    let tally = run(&graph.build().unwrap()).await.unwrap();

    assert_eq!(tally.log, ["B", "a10", "a2", "z", "é"]);
}

#[tokio::test(start_paused = true)]
async fn siblings_run_at_once_but_no_more_than_allowed() {
    let names = ["a", "b", "c", "d"];
    let graph = names.into_iter().fold(Graph::builder(), |graph, name| {
        graph.node(name, says_after(name, millis(100))).entry(name)
    });
    let graph = graph.build().unwrap();
    let begin = tokio::time::Instant::now();

    graph.run(Tally::default(), &Options::new()).await.unwrap();
    let at_once = begin.elapsed();
    graph.run(Tally::default(), &Options::new().parallelism(2)).await.unwrap();

    assert_eq!((at_once, begin.elapsed() - at_once), (millis(100), millis(200)));
}

#[tokio::test]
async fn a_router_sees_its_own_nodes_update_and_no_siblings() {
    fn route(tally: &Tally) -> Route<'_> {
        if tally.total == 1 { "alone" } else { "together" }.into()
    }
    let graph = Graph::builder()
        .node("a", says("a"))
        .node("m", says("m"))
        .node("z", says("z"))
        .node("alone", says("alone"))
        .node("together", says("together"))
        .entry("a")
        .entry("m")
        .entry("z")
        .conditional("m", "seen", route, ["alone", "together"]);

    let tally = run(&graph.build().unwrap()).await.unwrap();

    assert_eq!(tally.log, ["a", "m", "z", "alone"]);
}

#[tokio::test]
async fn a_router_may_lead_to_several_to_one_twice_or_nowhere() {
    let graph = Graph::builder()
        .node("a", says("a"))
        .node("b", says("b"))
        .node("c", says("c"))
        .conditional(START, "both", |_| vec!["c", "b", "c", END].into(), Targets::any())
        .conditional("b", "none", |_| None::<String>.into(), ["a"])
        .conditional("c", "own", |_| String::from("go").into(), [("go", "a")])
        .edge("a", END);

    let tally = run(&graph.build().unwrap()).await.unwrap();

    assert_eq!(tally.log, ["b", "c", "a"]);
}

#[tokio::test]
async fn a_join_waits_for_all_and_plain_edges_for_none() {
    let uneven = || {
        Graph::builder()
            .node("a", says("a"))
            .node("b", says("b"))
            .node("b2", says("b2"))
            .node("d", says("d"))
            .entry("a")
            .entry("b")
            .edge("b", "b2")
    };

    let joined = run(&uneven().join(["a", "b2"], "d").build().unwrap()).await.unwrap();
    let edges = run(&uneven().edge("a", "d").edge("b2", "d").build().unwrap()).await.unwrap();

    assert_eq!(joined.log, ["a", "b", "b2", "d"]);
    assert_eq!(edges.log, ["a", "b", "b2", "d", "d"]);
}

#[tokio::test]
async fn deferred_nodes_run_together_when_nothing_else_is_due() {
    let deferred = NodeOptions::new;
    let graph = Graph::builder()
        .node("a", says("a"))
        .node("b", says("b"))
        .node_with("late1", says("late1"), deferred().deferred())
        .node_with("late2", says("late2"), deferred().deferred())
        .entry("a")
        .entry("late2")
        .edge("a", "late1")
        .edge("a", "b");

    let tally = run(&graph.build().unwrap()).await.unwrap();

    assert_eq!(tally.log, ["a", "b", "late1", "late2"]);
}

#[tokio::test]
async fn a_trace_tells_the_run() {
    let retry = Retry::exponential(2, millis(0), millis(0));
    let graph = Graph::builder()
        .node_with("a", Flaky::new(1), NodeOptions::new().retry(retry))
        .node("b", says("b"))
        .entry("a")
        .edge("a", "b");
    let trace = Trace::new();

    let graph = graph.build().unwrap();
    graph.run(Tally::default(), &Options::new().observer(&trace)).await.unwrap();

    let expected = "0: apply, next a\n1: plan a\n1: start a\n1: fail a: broken: 0\n1: retry a in 0ns\n\
        1: start a, attempt 2\n1: update a\n1: apply, next b\n2: plan b\n2: start b\n2: update b\n\
        2: apply\n2: done\n";
    assert_eq!(trace.text(), expected);
}

#[tokio::test]
async fn several_observers_are_told_of_a_run_that_ends_early() {
    let (one, other) = (Trace::new(), Trace::new());
    let both: [&dyn Observer<Tally>; 2] = [&one, &other];
    let graph = Graph::builder().node("a", Flaky::new(1)).entry("a").build().unwrap();

    graph.run(Tally::default(), &Options::new().observer(&both)).await.unwrap_err();

    let expected = "0: apply, next a\n1: plan a\n1: start a\n1: fail a: broken: 0\n\
        1: abort: node \"a\" failed on attempt 1\n";
    assert_eq!((one.text().as_str(), other.text()), (expected, one.text()));
}

#[tokio::test]
async fn a_run_is_a_future_that_can_be_sent() {
    fn sent<T: Send>(value: T) -> T {
        value
    }
    let graph = Graph::builder().node("a", says("a")).entry("a").build().unwrap();

    let tally = sent(run(&graph)).await.unwrap();

    assert_eq!(tally.log, ["a"]);
}
