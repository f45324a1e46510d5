use super::*;

fn input(name: &str) -> Said {
    Said::default().log(vec![name.to_owned()])
}

fn names(names: &[Name]) -> Vec<&str> {
    names.iter().map(|name| &**name).collect()
}

/// `a` and `b` at once, then `c` after both; `b` fails as often as told.
fn joined(failures: u32) -> Graph<Tally> {
    Graph::builder()
        .node("a", says("a"))
        .node("b", Flaky::new(failures))
        .node("c", says("c"))
        .entry("a")
        .entry("b")
        .join(["a", "b"], "c")
        .build()
        .unwrap()
}

#[tokio::test]
async fn new_input_goes_through_the_reducers_of_the_old_state() {
    let graph = Graph::builder().node("a", says("a")).entry("a").build().unwrap();
    let mut thread = graph.thread(Tally::default());

    thread.start(input("one"), &Options::new()).await.unwrap();
    assert_eq!(thread.step(), 1);
    thread.start(input("two"), &Options::new()).await.unwrap();

    assert_eq!(thread.state().log, ["one", "a", "two", "a"]);
    assert_eq!((thread.step(), thread.next()), (4, vec![]));
}

#[tokio::test]
async fn a_thread_goes_on_without_running_again_what_has_answered() {
    let graph = joined(1);
    let mut thread = graph.thread(Tally::default());

    let error = thread.start(input("in"), &Options::new()).await.unwrap_err();

    assert_eq!(error.node(), Some("b"));
    assert_eq!((names(&thread.next()), thread.step()), (vec!["b"], 0));
    let statuses: Vec<Status> = thread.pending().iter().map(|pending| pending.status).collect();
    assert_eq!(statuses, [Status::Done, Status::Failed]);
    assert_eq!(thread.preview().unwrap().log, ["in", "a"]);
    assert_eq!(thread.state().log, ["in"]);

    let trace = Trace::new();
    thread.resume(&Options::new().observer(&trace)).await.unwrap();

    assert_eq!(thread.state().log, ["in", "a", "b#1", "c"]);
    assert!(!trace.text().contains("start a"));
}

#[tokio::test]
async fn new_input_drops_what_was_due_and_answered() {
    let graph = joined(1);
    let mut thread = graph.thread(Tally::default());
    thread.start(input("in"), &Options::new()).await.unwrap_err();

    thread.start(input("again"), &Options::new()).await.unwrap();

    assert_eq!(thread.state().log, ["in", "again", "a", "b#1", "c"]);
}

#[tokio::test]
async fn a_thread_resumes_only_after_input_and_at_its_end_does_nothing() {
    let graph = joined(0);
    let mut thread = graph.thread(Tally::default());

    let nothing = thread.resume(&Options::new()).await.unwrap_err();
    thread.start(Said::default(), &Options::new()).await.unwrap();
    let before = thread.state().clone();
    thread.resume(&Options::new()).await.unwrap();

    assert!(matches!(nothing, Error::NothingToResume));
    assert_eq!(*thread.state(), before);
}

#[tokio::test]
async fn a_resumed_run_has_two_supersteps_more() {
    let graph = Graph::builder().node("a", says("a")).entry("a").edge("a", "a").build().unwrap();
    let mut thread = graph.thread(Tally::default());
    let options = Options::new().recursion_limit(3);

    thread.start(Said::default(), &options).await.unwrap_err();
    let first = thread.state().total;
    thread.resume(&options).await.unwrap_err();

    assert_eq!((first, thread.state().total), (3, 3 + 5));
}

/// `a` is sent to where its verdict says.
fn routed() -> Graph<Tally> {
    let verdict = |tally: &Tally| {
        let verdict = if tally.total < 1 { "nowhere" } else { "b" };
        Ok::<_, Broken>(input("a").total(1).verdict(Some(verdict.to_owned())))
    };
    Graph::builder()
        .node("a", verdict)
        .node("b", says("b"))
        .node("c", says("c"))
        .entry("a")
        .edge("a", "c")
        .conditional("a", "r", |tally| tally.verdict.as_deref().into(), ["b"])
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_route_that_fails_fails_again_until_it_is_settled() {
    let graph = routed();
    let mut thread = graph.thread(Tally::default());
    let error = thread.start(Said::default(), &Options::new()).await.unwrap_err();
    assert!(matches!(error, Error::Route { .. }));
    assert_eq!(thread.state().total, 0);

    let again = thread.resume(&Options::new()).await.unwrap_err();
    assert!(matches!(again, Error::Route { .. }));
    assert_eq!(thread.pending()[0].status, Status::Unrouted);

    assert!(thread.settle("a") && !thread.settle("a") && !thread.settle("b"));
    thread.resume(&Options::new()).await.unwrap();
    assert_eq!(thread.state().log, ["a", "c"]);
}

#[tokio::test]
async fn a_node_whose_route_failed_can_be_run_again() {
    let graph = routed();
    let mut thread = graph.thread(Tally::default());
    thread.start(Said::default(), &Options::new()).await.unwrap_err();

    assert!(thread.rerun("a") && !thread.rerun("a"));

    assert_eq!(thread.pending()[0].status, Status::Waiting);
    assert_eq!(thread.preview().unwrap(), *thread.state());
}

#[tokio::test]
async fn a_contradiction_stays_until_there_is_new_input() {
    let verdict = |tally: &Tally| {
        let once = tally.log.is_empty().then_some(None);
        Ok::<_, Broken>(Said { verdict: once, ..Said::default() })
    };
    let graph = Graph::builder().node("a", verdict).node("b", verdict).entry("a").entry("b");
    let graph = graph.build().unwrap();
    let mut thread = graph.thread(Tally::default());

    thread.start(Said::default(), &Options::new()).await.unwrap_err();
    let again = thread.resume(&Options::new()).await.unwrap_err();

    assert!(matches!(again, Error::Conflict { .. }));
    assert!(matches!(thread.preview(), Err(Error::Conflict { .. })));
    thread.start(input("in"), &Options::new()).await.unwrap();
    assert_eq!(thread.state().log, ["in"]);
}

#[tokio::test]
async fn a_snapshot_holds_all_that_a_thread_needs() {
    let graph = joined(1);
    let mut thread = graph.thread(Tally::default());
    thread.start(input("in"), &Options::new()).await.unwrap_err();

    let text = serde_json::to_string(&thread.snapshot()).unwrap();
    let snapshot: Snapshot<Tally> = serde_json::from_str(&text).unwrap();
    assert_eq!(snapshot_text(&graph.restore(snapshot.clone()).unwrap()), text);
    let other = joined(0);
    let mut restored = other.restore(snapshot).unwrap();
    restored.resume(&Options::new()).await.unwrap();

    assert_eq!(restored.state().log, ["in", "a", "b#1", "c"]);
}

fn snapshot_text(thread: &Thread<'_, Tally>) -> String {
    serde_json::to_string(&thread.snapshot()).unwrap()
}

#[tokio::test]
async fn a_half_filled_join_and_a_held_node_are_in_the_snapshot() {
    let graph = Graph::builder()
        .node("a", says("a"))
        .node("b", says("b"))
        .node("c", says("c"))
        .node_with("late", says("late"), NodeOptions::new().deferred())
        .entry("a")
        .edge("a", "late")
        .edge("a", "b")
        .join(["a", "b"], "c")
        .build()
        .unwrap();
    let mut thread = graph.thread(Tally::default());
    let options = Options::new().recursion_limit(1);
    thread.start(Said::default(), &options).await.unwrap_err();

    let text = snapshot_text(&thread);
    let mut restored = graph.restore(serde_json::from_str(&text).unwrap()).unwrap();
    restored.resume(&Options::new()).await.unwrap();

    assert!(text.contains(r#""held":["late"]"#) && text.contains(r#""seen":["a"]"#), "{text}");
    assert_eq!(restored.state().log, ["a", "b", "c", "late"]);
}

#[test]
fn a_snapshot_of_another_format_or_graph_is_refused() {
    let graph = joined(0);
    let text = snapshot_text(&graph.thread(Tally::default()));
    let changed = |from: &str, to: &str| {
        assert!(text.contains(from), "{text}");
        let snapshot = serde_json::from_str(&text.replacen(from, to, 1)).unwrap();
        graph.restore(snapshot).unwrap_err()
    };

    assert_eq!(changed(r#""version":1"#, r#""version":2"#), SnapshotError::Version { found: 2 });
    let unknown = SnapshotError::UnknownNode { node: "x".into() };
    assert_eq!(changed(r#""due":[]"#, r#""due":["x"]"#), unknown);
    let join = r#""joins":[{"from":["a","c"],"seen":["a"]}]"#;
    let unknown = SnapshotError::UnknownJoin { from: vec!["a".into(), "c".into()] };
    assert_eq!(changed(r#""joins":[]"#, join), unknown);
}

#[test]
fn a_snapshot_of_another_format_is_told_by_its_version_whatever_its_shape() {
    let graph = joined(0);
    let read = |text: &str| serde_json::from_str::<Snapshot<Tally>>(text);
    let version = |text| graph.restore(read(text).unwrap()).unwrap_err();

    assert_eq!(version(r#"{"version":2}"#), SnapshotError::Version { found: 2 });
    let other = r#"{"version":3,"state":[1,{}],"due":"a","thread":{"version":1}}"#;
    assert_eq!(version(other), SnapshotError::Version { found: 3 });
    let later = read(r#"{"version":2,"due":null}"#).unwrap();
    assert_eq!(serde_json::to_string(&later).unwrap(), r#"{"version":2}"#);
    assert!(read("{}").is_err() && read(r#"{"version":1}"#).is_err());
}

#[tokio::test]
async fn a_snapshot_may_come_with_its_fields_in_another_order() {
    let graph = joined(1);
    let mut thread = graph.thread(Tally::default());
    thread.start(input("in"), &Options::new()).await.unwrap_err();
    let text = snapshot_text(&thread);

    let fields: std::collections::BTreeMap<String, serde_json::Value> =
        serde_json::from_str(&text).unwrap();
    let sorted = serde_json::to_string(&fields).unwrap();
    let snapshot: Snapshot<Tally> = serde_json::from_str(&sorted).unwrap();

    assert_ne!(sorted, text);
    assert_eq!(serde_json::to_string(&snapshot).unwrap(), text);
    let unversioned = sorted.replace("version", "versions");
    assert!(serde_json::from_str::<Snapshot<Tally>>(&unversioned).is_err());
}
