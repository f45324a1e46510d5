use super::*;

fn alone<K>(node: impl IntoNode<Tally, K>, options: NodeOptions<Tally>) -> Graph<Tally> {
    Graph::builder().node_with("a", node, options).entry("a").build().unwrap()
}

#[tokio::test]
async fn a_nodes_own_error_comes_back_typed_with_the_state_so_far() {
    let graph = Graph::builder()
        .node("a", says("a"))
        .node("b", Flaky::new(9))
        .entry("a")
        .edge("a", "b")
        .build()
        .unwrap();

    let failure = run(&graph).await.unwrap_err();

    assert_eq!((failure.step, failure.state.log), (2, vec!["a".to_owned()]));
    let Error::Node { node, visit: 0, attempts: 1, source: Broken(0) } = failure.error else {
        panic!("{:?}", failure.error)
    };
    assert_eq!(&*node, "b");
}

#[tokio::test]
async fn a_panic_is_its_nodes_error_before_and_within_its_future() {
    fn at_once(_: &Tally) -> Result<Said, Broken> {
        panic!("at once")
    }
    async fn later(_: &Tally) -> Result<Said, Broken> {
        tokio::task::yield_now().await;
        panic!("later {}", 1)
    }

    for (graph, expected) in [
        (alone(at_once, NodeOptions::new()), "at once"),
        (alone(later, NodeOptions::new()), "later 1"),
    ] {
        let failure = run(&graph).await.unwrap_err();
        let Error::Panic { node, message, .. } = failure.error else {
            panic!("{:?}", failure.error)
        };
        assert_eq!((&*node, message.as_str()), ("a", expected));
    }
}

#[tokio::test]
async fn a_routers_panic_is_its_nodes_error() {
    let graph = Graph::builder()
        .node("a", says("a"))
        .entry("a")
        .conditional("a", "r", |_| panic!("lost"), [END])
        .build()
        .unwrap();

    let failure = run(&graph).await.unwrap_err();

    assert!(matches!(failure.error, Error::Panic { message, .. } if message == "lost"));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_takes_too_long_is_dropped() {
    let slow = || says_after("a", millis(50));
    let within = alone(slow(), NodeOptions::new().timeout(millis(51)));
    let beyond = alone(slow(), NodeOptions::new().timeout(millis(49)));

    let failure = run(&beyond).await.unwrap_err();

    assert!(matches!(failure.error, Error::Timeout { limit, .. } if limit == millis(49)));
    assert!(run(&within).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn retries_wait_longer_each_time_and_end_with_the_attempts() {
    let policy = || NodeOptions::new().retry(Retry::exponential(4, millis(10), millis(25)));
    let begin = tokio::time::Instant::now();

    let tally = run(&alone(Flaky::new(3), policy())).await.unwrap();
    let waited = begin.elapsed();
    let failure = run(&alone(Flaky::new(4), policy())).await.unwrap_err();

    assert_eq!((tally.log, waited), (vec!["a#4".to_owned()], millis(10 + 20 + 25)));
    assert!(matches!(failure.error, Error::Node { attempts: 4, source: Broken(3), .. }));
}

#[tokio::test]
async fn only_errors_worth_it_are_retried() {
    let picky = Retry::exponential(9, millis(0), millis(0)).when(|Broken(n)| *n < 2);

    let failure = run(&alone(Flaky::new(9), NodeOptions::new().retry(picky))).await.unwrap_err();

    assert!(matches!(failure.error, Error::Node { attempts: 3, source: Broken(2), .. }));
}

#[tokio::test]
async fn two_writers_of_a_last_value_field_are_both_named() {
    let verdict = |_: &Tally| Ok::<_, Broken>(Said::default().verdict(None).total(1));
    let graph = Graph::builder()
        .node("b", verdict)
        .node("c", says("c"))
        .node("a", verdict)
        .entry("a")
        .entry("b")
        .entry("c")
        .build()
        .unwrap();

    let failure = run(&graph).await.unwrap_err();

    let Error::Conflict { field, first, second } = failure.error else {
        panic!("{:?}", failure.error)
    };
    assert_eq!((field.as_str(), &*first, &*second), ("verdict", "a", "b"));
    assert_eq!(failure.state, Tally::default());
}

#[tokio::test]
async fn a_route_to_what_is_not_there_names_router_and_target() {
    for targets in [Targets::from(["a"]), Targets::any()] {
        let graph = Graph::builder()
            .node("a", says("a"))
            .entry("a")
            .conditional("a", "next", |_| "nowhere".into(), targets)
            .build()
            .unwrap();

        let failure = run(&graph).await.unwrap_err();

        let message =
            "router \"next\" of node \"a\" leads to \"nowhere\", which it has no target for";
        assert_eq!(failure.error.to_string(), message);
    }
}

#[tokio::test(start_paused = true)]
async fn siblings_that_run_finish_and_no_other_starts() {
    let watched = Trace::new();
    let graph = Graph::builder()
        .node("a", says_after("a", millis(20)))
        .node("b", Flaky::new(9))
        .node("c", says("c"))
        .entry("a")
        .entry("b")
        .entry("c")
        .build()
        .unwrap();
    let options = Options::new().parallelism(2).observer(&watched);

    let failure = graph.run(Tally::default(), &options).await.unwrap_err();

    assert_eq!(failure.error.node(), Some("b"));
    assert!(watched.text().contains("update a") && !watched.text().contains("start c"));
}

#[tokio::test(start_paused = true)]
async fn of_several_failures_the_first_in_name_order_is_reported_with_the_others() {
    let slow = |_: &Tally| async {
        tokio::time::sleep(millis(9)).await;
        Err::<Said, Broken>(Broken(7))
    };
    let graph = Graph::builder()
        .node("b", Flaky::new(9))
        .node("a", slow)
        .entry("a")
        .entry("b")
        .build()
        .unwrap();

    let failure = run(&graph).await.unwrap_err();

    assert!(matches!(failure.error, Error::Node { source: Broken(7), .. }));
    assert_eq!(failure.also.iter().map(Error::node).collect::<Vec<_>>(), [Some("b")]);
}

#[tokio::test]
async fn a_state_may_refuse_an_update() {
    #[derive(Debug, Clone, Default, PartialEq)]
    struct Even(i64);
    impl State for Even {
        type Update = i64;
        type Error = std::convert::Infallible;

        fn check(&self, update: &i64, _: &mut Claims<'_>) -> Result<(), Refusal> {
            if update % 2 == 0 { Ok(()) } else { Err(Refusal::invalid("value", "odd")) }
        }

        fn apply(&mut self, update: i64) {
            self.0 += update;
        }
    }
    let graph = Graph::<Even>::builder()
        .node("two", |_: &Even| Ok(2))
        .node("three", |_: &Even| Ok(3))
        .entry("two")
        .edge("two", "three")
        .build()
        .unwrap();

    let failure = graph.run(Even(0), &Options::new()).await.unwrap_err();

    assert_eq!(
        failure.error.to_string(),
        "the update of node \"three\" to \"value\" can't be applied: odd"
    );
    assert_eq!(failure.state, Even(2));
}

#[tokio::test]
async fn a_reducers_panic_is_its_nodes_error_and_leaves_a_thread_as_it_was() {
    let graph = Graph::builder()
        .node("a", |_: &Tally| Ok::<_, Broken>(Said::default().total(1).longest("!".to_owned())))
        .node("b", says("b"))
        .entry("a");
    let alone = graph.build().unwrap();
    let together = Graph::builder()
        .node("a", says("a"))
        .node("b", |_: &Tally| Ok::<_, Broken>(Said::default().total(1).longest("!".to_owned())))
        .entry("a")
        .entry("b")
        .build()
        .unwrap();

    for (graph, node) in [(alone, "a"), (together, "b")] {
        let mut thread = graph.thread(Tally::default());
        let error = thread.start(Said::default().total(7), &Options::new()).await.unwrap_err();

        assert!(matches!(&error, Error::Panic { .. }) && error.node() == Some(node));
        assert_eq!(*thread.state(), Tally { total: 7, ..Tally::default() });
        assert!(matches!(thread.resume(&Options::new()).await, Err(Error::Panic { .. })));
    }
}
