use std::future::Future as _;
use std::task::{Context as TaskContext, Waker};

use tokio_util::sync::CancellationToken;

use super::*;

/// `a` and then `a` again, without end.
fn endless() -> Graph<Tally> {
    Graph::builder().node("a", says("a")).entry("a").edge("a", "a").build().unwrap()
}

fn chain(nodes: &'static [&'static str]) -> Graph<Tally> {
    let graph = nodes.iter().fold(Graph::builder(), |graph, name| graph.node(*name, says(name)));
    let graph = nodes.windows(2).fold(graph, |graph, pair| graph.edge(pair[0], pair[1]));
    graph.entry(nodes[0]).build().unwrap()
}

#[tokio::test]
async fn a_run_of_k_supersteps_needs_a_limit_above_k() {
    let graph = chain(&["a", "b", "c"]);
    let run =
        async |limit| graph.run(Tally::default(), &Options::new().recursion_limit(limit)).await;

    let failure = run(3).await.unwrap_err();

    assert_eq!(failure.state.log, ["a", "b", "c"]);
    let Error::RecursionLimit { limit: 3, last, next } = failure.error else {
        panic!("{:?}", failure.error)
    };
    assert_eq!((last, next), (vec![Name::from("c")], vec![]));
    assert!(run(4).await.is_ok());
}

#[tokio::test]
async fn the_default_limit_is_25_and_its_error_names_the_last_nodes() {
    let failure = run(&endless()).await.unwrap_err();

    let message = "recursion limit of 25 reached after [\"a\"], before [\"a\"]";
    assert_eq!(failure.error.to_string(), message);
    assert_eq!((failure.step, failure.state.total), (26, 25));
}

#[tokio::test]
async fn a_limit_of_0_refuses_every_run() {
    let options = Options::new().recursion_limit(0);

    let failure = endless().run(Tally::default(), &options).await.unwrap_err();

    assert!(matches!(failure.error, Error::RecursionLimit { limit: 0, .. }));
    assert_eq!(failure.state, Tally::default());
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_token_ends_the_run_and_names_who_ran() {
    let graph = Graph::builder()
        .node("a", says("a"))
        .node("b", says("b"))
        .node("c", says_after("c", millis(1000)))
        .entry("a")
        .edge("a", "b")
        .edge("a", "c")
        .build()
        .unwrap();
    let token = CancellationToken::new();
    let options = Options::new().cancel(&token);
    let cancel = async {
        tokio::time::sleep(millis(500)).await;
        token.cancel();
    };

    let (result, ()) = tokio::join!(graph.run(Tally::default(), &options), cancel);

    let failure = result.unwrap_err();
    assert!(matches!(failure.error, Error::Cancelled { running } if running == [Name::from("c")]));
    assert_eq!((failure.step, failure.state.log), (2, vec!["a".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn who_had_failed_before_a_stop_is_named_beside_it_and_did_not_run_any_more() {
    let graph = || {
        Graph::builder()
            .node("a", says("a"))
            .node("b", Flaky::new(9))
            .node("c", says_after("c", millis(1000)))
            .entry("a")
            .entry("b")
            .entry("c")
            .build()
            .unwrap()
    };
    let late = tokio::time::Instant::now() + millis(500);
    let options = Options::new().deadline(late);

    let failure = graph().run(Tally::default(), &options).await.unwrap_err();
    let graph = graph();
    let mut thread = graph.thread(Tally::default());
    let error = thread.start(Said::default(), &options.deadline(late + millis(500))).await;

    let of_b = |also: &[Error<Broken>]| matches!(also, [Error::Node { node, source: Broken(0), .. }] if &**node == "b");
    assert!(matches!(failure.error, Error::Deadline { running } if running == [Name::from("c")]));
    assert!(of_b(&failure.also));
    assert!(matches!(error, Err(Error::Deadline { running }) if running == [Name::from("c")]));
    assert!(of_b(thread.also()));
    let statuses: Vec<Status> = thread.pending().iter().map(|pending| pending.status).collect();
    assert_eq!(statuses, [Status::Done, Status::Failed, Status::Waiting]);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_does_not_tell_who_failed_first() {
    let slow = |_: &Tally| async {
        tokio::time::sleep(millis(9)).await;
        Err::<Said, Broken>(Broken(7))
    };
    let graph = Graph::builder().node("a", slow).node("b", Flaky::new(9)).entry("a").entry("b");
    let graph = graph.build().unwrap();
    let mut thread = graph.thread(Tally::default());

    thread.start(Said::default(), &Options::new()).await.unwrap_err();

    let text = serde_json::to_string(&thread.snapshot()).unwrap();
    assert!(text.contains(r#""failed":["a","b"]"#), "{text}");
}

#[tokio::test(start_paused = true)]
async fn answers_before_a_stop_are_kept_in_name_order_whoever_was_first() {
    let graph = Graph::builder()
        .node("a", says_after("a", millis(20)))
        .node("b", says_after("b", millis(10)))
        .node("c", says_after("c", millis(1000)))
        .entry("a")
        .entry("b")
        .entry("c")
        .build()
        .unwrap();
    let mut thread = graph.thread(Tally::default());
    let options = Options::new().deadline(tokio::time::Instant::now() + millis(500));

    thread.start(Said::default(), &options).await.unwrap_err();

    assert_eq!(thread.preview().unwrap().log, ["a", "b"]);
    let text = serde_json::to_string(&thread.snapshot()).unwrap();
    assert!(text.find("\"node\":\"a\"") < text.find("\"node\":\"b\""), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_the_run_and_is_seen_by_its_nodes() {
    struct Waits;
    impl Node<Tally> for Waits {
        fn run<'a>(&'a self, _: &'a Tally, context: Context<'a>) -> NodeFuture<'a, Tally> {
            NodeFuture::new(async move {
                let left = context.deadline.unwrap() - tokio::time::Instant::now();
                tokio::time::sleep(left.mul_f64(0.6)).await;
                Ok(Said::default().best(i64::try_from(left.as_millis()).unwrap()))
            })
        }
    }
    let graph = Graph::builder()
        .node("a", Waits)
        .node_with("b", Waits, NodeOptions::new().timeout(millis(10)))
        .node("c", says_after("c", millis(5000)))
        .entry("a")
        .edge("a", "b")
        .edge("b", "c")
        .build()
        .unwrap();
    let options = Options::new().deadline(tokio::time::Instant::now() + millis(1000));

    let failure = graph.run(Tally::default(), &options).await.unwrap_err();

    assert!(matches!(failure.error, Error::Deadline { running } if running == [Name::from("c")]));
    assert_eq!((failure.step, failure.state.best), (3, 1000));
}

#[test]
fn nodes_that_never_wait_let_other_tasks_run_and_can_be_cancelled() {
    let graph = endless();
    let token = CancellationToken::new();
    let options = Options::new().cancel(&token).recursion_limit(1_000_000);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();

    let result = runtime.block_on(async {
        let cancel = async { token.cancel() };
        let (result, ()) = tokio::join!(graph.run(Tally::default(), &options), cancel);
        result
    });

    assert!(matches!(result.unwrap_err().error, Error::Cancelled { .. }));
}

#[test]
fn a_dropped_run_drops_its_nodes() {
    struct Held<'a>(&'a AtomicU32);
    impl Drop for Held<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    static DROPPED: AtomicU32 = AtomicU32::new(0);
    async fn holds(_: &Tally) -> Result<Said, Broken> {
        let _held = Held(&DROPPED);
        std::future::pending().await
    }
    let graph = Graph::builder().node("a", holds).node("b", holds).entry("a").entry("b");
    let graph = graph.build().unwrap();

    {
        let mut run = Box::pin(run(&graph));
        assert!(run.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())).is_pending());
        assert_eq!(DROPPED.load(Ordering::Relaxed), 0);
    }

    assert_eq!(DROPPED.load(Ordering::Relaxed), 2);
}
