//! When effects are recorded, and what waits for that.

use futures_util::future::join_all;

use super::*;
use crate::agents::{AgentError, AgentUpdate};

fn durable(durability: Durability) -> Config {
    Config { durability, ..config() }
}

/// A graph that asks the model, and then fails as long as that may pass.
fn fails_afterwards(model: Arc<dyn ChatModel>) -> Graph<AgentState> {
    let fail = |_: &AgentState| {
        let fault = Fault::Unreachable { reason: "refused".into() };
        let error = llm::Error { endpoint: "http://model".into(), fault, again: Again::Here };
        Err::<AgentUpdate, _>(AgentError::from(error))
    };
    Graph::builder()
        .node_with("ask", LlmAnalysis::new(model), NodeOptions::new().durable())
        .node("fail", fail)
        .edge(START, "ask")
        .edge("ask", "fail")
        .edge("fail", END)
        .build()
        .unwrap()
}

#[tokio::test]
async fn what_a_run_pays_for_at_last_comes_with_its_outcome_and_is_not_asked_for_again() {
    let mut bench = bench(Behaviour::Answers, durable(Durability::Sync), LIMITS);

    let ended = bench.runner.attempt(attempt("analyze it", false)).await;

    let Finished::Done { outcome: first, effects } = ended else { panic!("{ended:?}") };
    assert!(bench.requests.try_recv().is_err(), "nobody is asked to record it");
    let [effect] = <[_; 1]>::try_from(effects).unwrap();
    let request = bench.runner.request(POSITION, effect.clone());
    assert_eq!(request.record.unwrap().partition, Some(POSITION.partition));
    let mut again = attempt("analyze it", false);
    again.effects.insert(effect);
    let second = done(bench.runner.attempt(again).await);
    assert_eq!(bench.asked.load(Ordering::Relaxed), 1);
    let result = |outcome| values(outcome, Topic::Results)[0]["result"].clone();
    assert_eq!(result(&first), result(&second));
}

#[tokio::test]
async fn in_sync_a_run_pays_again_when_what_it_has_paid_for_is_committed() {
    let mut bench =
        bench_of(Behaviour::Answers, durable(Durability::Sync), LIMITS, |model| crew(&model));
    let mut run = Box::pin(bench.runner.attempt(attempt("analyze it", false)));

    for paid in 1..=2 {
        assert!(run.as_mut().now_or_never().is_none(), "did not wait");
        let request = bench.requests.try_recv().unwrap();
        assert!(request.record.is_some());
        assert_eq!(bench.asked.load(Ordering::Relaxed), paid);
        request.committed.unwrap().send(()).unwrap();
    }

    let ended = run.await;
    let Finished::Done { effects, .. } = ended else { panic!("{ended:?}") };
    assert_eq!((bench.asked.load(Ordering::Relaxed), effects.len()), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn otherwise_a_run_waits_for_no_record() {
    for (durability, is_recorded) in [(Durability::Async, true), (Durability::Off, false)] {
        let behaviour = Behaviour::Costs(Duration::from_secs(1));
        let mut bench = bench_of(behaviour, durable(durability), LIMITS, |model| crew(&model));

        let ended = bench.runner.attempt(attempt("analyze it", false)).await;

        let Finished::Done { effects, .. } = ended else { panic!("{ended:?}") };
        assert_eq!(effects.len(), 1, "the last");
        for _ in 0..2 {
            let request = bench.requests.try_recv().unwrap();
            assert_eq!(
                (request.record.is_some(), request.committed.is_none()),
                (is_recorded, true)
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_there_is_no_room_for_comes_with_the_outcome() {
    let rests = |model| {
        let rest = |_: &AgentState| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(AgentUpdate::default())
        };
        Graph::builder()
            .node_with("ask", LlmAnalysis::new(model), NodeOptions::new().durable())
            .node("rest", rest)
            .edge(START, "ask")
            .edge("ask", "rest")
            .edge("rest", END)
            .build()
            .unwrap()
    };
    let bench = bench_of(Behaviour::Answers, durable(Durability::Sync), LIMITS, rests);
    let room = bench.requests.capacity();

    let runs = (0..=room).map(|_| bench.runner.attempt(attempt("analyze it", false)));
    let ended = join_all(runs).await;

    let at_last = |ended: &Finished| match ended {
        Finished::Done { effects, .. } => effects.len(),
        Finished::Retry { .. } => panic!("{ended:?}"),
    };
    assert_eq!(bench.requests.len(), room);
    assert_eq!(ended.iter().map(at_last).sum::<usize>(), 1);
}

#[tokio::test]
async fn in_sync_an_attempt_is_repeated_when_what_it_has_paid_for_is_committed() {
    let mut bench =
        bench_of(Behaviour::Answers, durable(Durability::Sync), LIMITS, fails_afterwards);
    let mut run = Box::pin(bench.runner.attempt(attempt("analyze it", false)));

    assert!(run.as_mut().now_or_never().is_none(), "did not wait");
    bench.requests.try_recv().unwrap().committed.unwrap().send(()).unwrap();

    let ended = run.await;
    assert!(matches!(&ended, Finished::Retry { effects, .. } if effects.is_empty()), "{ended:?}");
}

#[tokio::test]
async fn otherwise_an_attempt_that_is_repeated_hands_over_what_it_has_paid_for() {
    for durability in [Durability::Async, Durability::Off] {
        let bench = bench_of(Behaviour::Answers, durable(durability), LIMITS, fails_afterwards);
        let mut attempt = attempt("analyze it", false);

        for _ in 0..2 {
            let ended = bench.runner.attempt(attempt.clone()).await;
            let Finished::Retry { effects, .. } = ended else { panic!("{ended:?}") };
            attempt.effects.extend(effects);
        }

        assert_eq!(bench.asked.load(Ordering::Relaxed), 1, "{durability:?}");
    }
}

#[tokio::test]
async fn a_run_whose_record_can_not_be_committed_pays_for_nothing_more() {
    let mut bench =
        bench_of(Behaviour::Answers, durable(Durability::Sync), LIMITS, |model| crew(&model));
    let mut run = Box::pin(bench.runner.attempt(attempt("analyze it", true)));
    assert!(run.as_mut().now_or_never().is_none(), "did not wait");

    // As the dispatch does with what belongs to a partition that is not its own any more.
    drop(bench.requests.try_recv().unwrap());

    assert_eq!(done(run.await).class, Some("journal.effects"));
    assert_eq!(bench.asked.load(Ordering::Relaxed), 1);
}
