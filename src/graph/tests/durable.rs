use std::collections::BTreeMap;
use std::sync::Mutex;

use futures_util::future::BoxFuture;

use super::*;

/// A record in memory that takes as many entries as it is told to.
#[derive(Default)]
struct Record {
    entries: Mutex<BTreeMap<(String, u32), Said>>,
    room: Option<usize>,
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
            tokio::task::yield_now().await;
            let mut entries = self.entries.lock().unwrap();
            if self.room.is_some_and(|room| entries.len() >= room) {
                return Err("the record is full".into());
            }
            entries.insert((node.to_owned(), visit), update.clone());
            Ok(())
        })
    }
}

static CALLS: AtomicU32 = AtomicU32::new(0);

/// `pay` three times, with `plan` before each.
fn graph() -> Graph<Tally> {
    let pay = |tally: &Tally| {
        CALLS.fetch_add(1, Ordering::Relaxed);
        let total = tally.total;
        async move { Ok::<_, Broken>(Said::default().log(vec![format!("paid {total}")]).total(10)) }
    };
    Graph::builder()
        .node("plan", says("plan"))
        .node_with("pay", pay, NodeOptions::new().durable())
        .entry("plan")
        .edge("plan", "pay")
        .conditional(
            "pay",
            "enough",
            |tally| if tally.total > 30 { END } else { "plan" }.into(),
            ["plan", END],
        )
        .build()
        .unwrap()
}

#[tokio::test]
async fn what_was_paid_for_is_not_paid_for_again_wherever_the_run_stopped() {
    let whole = Record::default();
    let expected = graph().run(Tally::default(), &Options::new().effects(&whole)).await.unwrap();
    assert_eq!(expected.total, 33);

    for room in 0..=3 {
        let record = Record { room: Some(room), ..Record::default() };
        let stopped = graph().run(Tally::default(), &Options::new().effects(&record)).await;
        if room < 3 {
            let failure = stopped.unwrap_err();
            let visit = u32::try_from(room).unwrap();
            assert!(matches!(failure.error, Error::Effects { visit: at, .. } if at == visit));
        }
        let before = CALLS.load(Ordering::Relaxed);
        let record = Record { room: None, ..record };
        let trace = Trace::new();
        let options = Options::new().effects(&record).observer(&trace);

        let resumed = graph().run(Tally::default(), &options).await.unwrap();

        assert_eq!(resumed, expected);
        assert_eq!(CALLS.load(Ordering::Relaxed) - before, 3 - u32::try_from(room).unwrap());
        assert_eq!(trace.text().matches("replay pay").count(), room);
        assert_eq!(
            *record.entries.lock().unwrap().keys().map(|(_, visit)| *visit).collect::<Vec<_>>(),
            [0, 1, 2]
        );
    }
}

#[tokio::test]
async fn nodes_that_are_not_durable_are_neither_recorded_nor_asked_for() {
    let graph = Graph::builder().node("a", says("a")).entry("a").build().unwrap();
    let record = Record { room: Some(0), ..Record::default() };

    graph.run(Tally::default(), &Options::new().effects(&record)).await.unwrap();

    assert!(record.entries.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_record_that_can_not_be_read_ends_the_run() {
    struct Unreadable;
    impl Effects<Tally> for Unreadable {
        fn recorded(&self, _: &str, _: u32) -> Result<Option<Said>, EffectsError> {
            Err("unreadable".into())
        }

        fn record<'a>(
            &'a self,
            _: &'a str,
            _: u32,
            _: &'a Said,
        ) -> BoxFuture<'a, Result<(), EffectsError>> {
            Box::pin(async { Ok(()) })
        }
    }
    let options = Options::new().effects(&Unreadable);

    let failure = graph().run(Tally::default(), &options).await.unwrap_err();

    assert!(matches!(failure.error, Error::Effects { node, visit: 0, .. } if &*node == "pay"));
}

#[tokio::test]
async fn a_node_that_is_not_recorded_waits_until_the_record_is_ready() {
    /// Lets nothing be executed.
    struct Closed(Record);
    impl Effects<Tally> for Closed {
        fn recorded(&self, node: &str, visit: u32) -> Result<Option<Said>, EffectsError> {
            self.0.recorded(node, visit)
        }

        fn ready<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), EffectsError>> {
            Box::pin(async { Err("closed".into()) })
        }

        fn record<'a>(
            &'a self,
            node: &'a str,
            visit: u32,
            update: &'a Said,
        ) -> BoxFuture<'a, Result<(), EffectsError>> {
            self.0.record(node, visit, update)
        }
    }
    let pay = |_: &Tally| -> Result<Said, Broken> { panic!("executed") };
    let graph = Graph::builder()
        .node_with("pay", pay, NodeOptions::new().durable())
        .entry("pay")
        .build()
        .unwrap();
    let closed = Closed(Record::default());
    let options = Options::new().effects(&closed);

    let failure = graph.run(Tally::default(), &options).await.unwrap_err();
    assert!(matches!(failure.error, Error::Effects { visit: 0, .. }), "{}", failure.error);

    closed.0.record("pay", 0, &Said::default().total(10)).await.unwrap();
    assert_eq!(graph.run(Tally::default(), &options).await.unwrap().total, 10);
}
