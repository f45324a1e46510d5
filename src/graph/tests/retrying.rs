use super::*;

/// Leads to `nowhere` on its first attempts, then to `b`.
struct Strays {
    attempts: u32,
}

impl Node<Tally> for Strays {
    fn run<'a>(&'a self, _: &'a Tally, context: Context<'a>) -> NodeFuture<'a, Tally> {
        let way = if context.attempt > self.attempts { "b" } else { "nowhere" };
        let said = Said::default().total(1).log(vec![format!("a#{}", context.attempt)]);
        NodeFuture::ready(Ok(said.verdict(Some(way.to_owned()))))
    }
}

/// Retries routes that lead nowhere, `attempts` in all.
fn routes(attempts: u32) -> Retry<Broken> {
    Retry::by(move |attempt, fault| match fault {
        Fault::Unrouted { router, target } if attempt < attempts => {
            assert_eq!((&**router, target.as_str()), ("r", "nowhere"));
            Some(millis(5))
        }
        Fault::Unrouted { .. }
        | Fault::Failed(_)
        | Fault::Panicked(_)
        | Fault::TimedOut(_)
        | Fault::Refused { .. } => None,
    })
}

/// `a` is sent to where its verdict says, after `attempts` attempts; beside it runs `c`, if told.
fn strays(attempts: u32, retry: Retry<Broken>, beside: bool) -> Graph<Tally> {
    let graph = Graph::builder()
        .node_with("a", Strays { attempts }, NodeOptions::new().retry(retry))
        .node("b", says("b"))
        .node("c", says("c"))
        .entry("a")
        .conditional("a", "r", |tally| tally.verdict.as_deref().into(), ["b"]);
    if beside { graph.entry("c") } else { graph }.build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_route_that_leads_nowhere_may_be_worth_another_attempt() {
    for (beside, log) in [(false, vec!["a#3", "b"]), (true, vec!["a#3", "c", "b"])] {
        let trace = Trace::new();
        let begin = tokio::time::Instant::now();
        let options = Options::new().observer(&trace);

        let tally = strays(2, routes(3), beside).run(Tally::default(), &options).await.unwrap();

        assert_eq!(
            (tally.log, begin.elapsed()),
            (log.into_iter().map(str::to_owned).collect(), millis(10))
        );
        let why = "1: fail a: router \"r\" leads to \"nowhere\", which it has no target for\n";
        assert_eq!(trace.text().matches(why).count(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_route_that_is_not_retried_fails_and_its_answer_stands() {
    let usual = || Retry::exponential(9, millis(1), millis(1));
    for (graph, attempt) in
        [(strays(9, routes(3), false), "a#3"), (strays(9, usual(), true), "a#1")]
    {
        let mut thread = graph.thread(Tally::default());

        let error = thread.start(Said::default(), &Options::new()).await.unwrap_err();

        assert!(matches!(error, Error::Route { .. }));
        assert_eq!(thread.pending()[0].status, Status::Unrouted);
        assert_eq!(thread.preview().unwrap().log[0], attempt);
        let again = thread.resume(&Options::new()).await.unwrap_err();
        assert!(matches!(again, Error::Route { .. }));
    }
}

#[tokio::test]
async fn a_policys_panic_is_its_nodes_error() {
    let retry = Retry::by(|_, _| panic!("no idea"));
    let graph = Graph::builder().node_with("a", Flaky::new(1), NodeOptions::new().retry(retry));

    let failure = run(&graph.entry("a").build().unwrap()).await.unwrap_err();

    assert_eq!(failure.error.node(), Some("a"));
    assert!(matches!(failure.error, Error::Panic { message, .. } if message == "no idea"));
}

#[tokio::test]
async fn a_panic_in_the_check_of_an_update_is_its_nodes_error() {
    #[derive(Debug, Clone, Default)]
    struct Strict(i64);
    impl State for Strict {
        type Update = i64;
        type Error = std::convert::Infallible;

        fn check(&self, update: &i64, _: &mut Claims<'_>) -> Result<(), Refusal> {
            assert_ne!(*update, 13, "unlucky");
            Ok(())
        }

        fn apply(&mut self, update: i64) {
            self.0 += update;
        }
    }
    let graph = Graph::<Strict>::builder().node("a", |_: &Strict| Ok(13)).entry("a");
    let alone = graph.build().unwrap();
    let graph = Graph::<Strict>::builder().node("a", |_: &Strict| Ok(13)).entry("a");
    let together = graph.node("b", |_: &Strict| Ok(1)).entry("b").build().unwrap();

    for graph in [alone, together] {
        let mut thread = graph.thread(Strict::default());
        let error = thread.start(0, &Options::new()).await.unwrap_err();

        assert_eq!(error.node(), Some("a"));
        assert!(matches!(error, Error::Panic { .. }));
        assert!(matches!(thread.preview(), Err(Error::Panic { .. })));
    }
}

#[tokio::test]
async fn a_reducers_panic_names_the_visit_also_on_a_thread() {
    let late = |tally: &Tally| {
        let name = if tally.total > 1 { "!" } else { "" };
        Ok::<_, Broken>(Said::default().total(1).longest(name.to_owned()))
    };
    let graph = Graph::builder().node("a", late).node("b", late).entry("a").entry("b");
    let graph = graph.edge("a", "a").edge("b", "b").build().unwrap();
    let mut thread = graph.thread(Tally::default());

    let error = thread.start(Said::default(), &Options::new()).await.unwrap_err();

    assert!(matches!(error, Error::Panic { visit: 1, .. }));
    assert!(matches!(thread.preview(), Err(Error::Panic { visit: 1, .. })));
}
