//! Budgets, and the end of an event's time.

use jiff::Timestamp;
use tokio::time::Instant;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn crew_bench(behaviour: Behaviour, config: Config) -> Bench {
    bench_of(behaviour, config, LIMITS, |model| crew(&model))
}

/// Returns an attempt of an event that this bench's runner has not seen before.
fn first(bench: &Bench) -> Attempt {
    let first = attempt("analyze it", false);
    Attempt { job: Job { ledger: bench.runner.ledger(), ..first.job }, ..first }
}

fn again(attempt: &Attempt) -> Attempt {
    let (job, effects) = (attempt.job.clone(), attempt.effects.clone());
    let number = attempt.number + 1;
    Attempt { position: POSITION, job, number, last: false, may_move: false, effects }
}

fn error(outcome: &Outcome) -> String {
    values(outcome, Topic::Results)[0]["error"].as_str().unwrap_or_default().to_owned()
}

/// Ten seconds and a hundred tokens a call.
const CALL: Behaviour = Behaviour::Costs(Duration::from_secs(10));

#[tokio::test(start_paused = true)]
async fn a_budget_that_is_used_up_ends_the_run_as_failure_and_names_it() {
    for (budget, told) in [
        (Config { budget_calls: 2, ..config() }, "WORKFLOW_BUDGET_CALLS=2 is used up: 2 calls"),
        (
            Config { budget_tokens: 101, ..config() },
            "WORKFLOW_BUDGET_TOKENS=101 is used up: 200 tokens",
        ),
        (
            Config { budget_time: 11 * SECOND, ..config() },
            "WORKFLOW_BUDGET_TIME=11s is used up: 20s in calls",
        ),
    ] {
        let bench = crew_bench(CALL, budget);

        let outcome = done(bench.runner.attempt(first(&bench)).await);

        assert_eq!((outcome.status, outcome.class), (Some("failure"), Some("workflow.budget")));
        assert_eq!(error(&outcome), told);
        assert_eq!(bench.asked.load(Ordering::Relaxed), 2, "{told}");
        let [result] = values(&outcome, Topic::Results).try_into().unwrap();
        assert_eq!(result["result"]["agent_results"]["llm_analysis"]["result"], "an answer");
        assert_eq!(values(&outcome, Topic::DeadLetters)[0]["error"]["type"], "workflow.budget");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_stays_within_its_budgets_succeeds() {
    let budget =
        Config { budget_calls: 3, budget_tokens: 201, budget_time: 21 * SECOND, ..config() };
    let bench = crew_bench(CALL, budget);

    let outcome = done(bench.runner.attempt(first(&bench)).await);

    assert_eq!(outcome.status, Some("success"));
    assert_eq!(bench.asked.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn a_next_life_counts_what_the_journal_tells_and_comes_to_the_same_end() {
    let odd = Behaviour::Costs(Duration::from_micros(10_000_999));
    for budget in [
        Config { budget_calls: 2, ..config() },
        Config { budget_tokens: 200, ..config() },
        Config { budget_time: 20 * SECOND, ..config() },
    ] {
        let mut bench = crew_bench(odd, budget.clone());
        let ended = bench.runner.attempt(first(&bench)).await;
        let Finished::Done { outcome: before, effects: at_last } = ended else {
            panic!("{ended:?}")
        };
        let recorded = std::iter::from_fn(|| Some(bench.requests.try_recv().ok()?.effect));
        let effects = recorded
            .chain(at_last)
            .map(|effect| journal::Effect::decode(&effect.encode().unwrap()).unwrap())
            .collect();

        let next = crew_bench(odd, budget);
        let after = done(next.runner.attempt(Attempt { effects, ..first(&next) }).await);

        assert_eq!(after.class, Some("workflow.budget"));
        assert_eq!(error(&after), error(&before));
        assert_eq!(next.asked.load(Ordering::Relaxed), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn calls_without_an_answer_count_over_all_attempts() {
    let bench = crew_bench(Behaviour::Fails, Config { budget_calls: 2, ..config() });
    let first = first(&bench);
    let (second, third) = (again(&first), again(&again(&first)));

    assert!(matches!(bench.runner.attempt(first).await, Finished::Retry { .. }));
    assert!(matches!(bench.runner.attempt(second).await, Finished::Retry { .. }));
    let outcome = done(bench.runner.attempt(third).await);

    assert_eq!(error(&outcome), "WORKFLOW_BUDGET_CALLS=2 is used up: 2 calls");
    assert_eq!(bench.asked.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_move_begins_no_new_account() {
    let bench = crew_bench(Behaviour::Moves, Config { budget_calls: 2, ..config() });
    let first = Attempt { may_move: true, ..first(&bench) };
    let moved = |attempt: &Attempt| Attempt { number: 1, may_move: true, ..again(attempt) };
    let (second, third) = (moved(&first), moved(&first));

    for attempt in [first, second] {
        let ended = bench.runner.attempt(attempt).await;
        assert!(matches!(ended, Finished::Retry { pause: Pause::None, .. }));
    }
    let outcome = done(bench.runner.attempt(third).await);

    assert_eq!(error(&outcome), "WORKFLOW_BUDGET_CALLS=2 is used up: 2 calls");
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_call_that_was_cut_off_counts() {
    let budget = Config { budget_time: 301 * SECOND, ..config() };
    let bench = crew_bench(Behaviour::Hangs, budget);
    let first = first(&bench);
    let (second, third) = (again(&first), again(&again(&first)));

    let timeout = |ended| matches!(ended, Finished::Retry { class: "workflow.timeout", .. });
    assert!(timeout(bench.runner.attempt(first).await));
    assert!(timeout(bench.runner.attempt(second).await));
    let outcome = done(bench.runner.attempt(third).await);

    assert_eq!(error(&outcome), "WORKFLOW_BUDGET_TIME=5m 1s is used up: 10m in calls");
}

#[tokio::test(start_paused = true)]
async fn time_in_line_uses_up_no_budget() {
    let queues = Behaviour::Queues(Duration::from_secs(3600));
    let bench = crew_bench(queues, Config { budget_time: SECOND, ..config() });

    let outcome = done(bench.runner.attempt(first(&bench)).await);

    assert_eq!(outcome.status, Some("success"));
}

#[tokio::test]
async fn degrading_hides_no_budget() {
    let budget = Config { budget_calls: 1, on_error: OnError::Degrade, ..config() };
    let bench = crew_bench(Behaviour::Answers, budget);

    let outcome = done(bench.runner.attempt(Attempt { last: true, ..first(&bench) }).await);

    assert_eq!((outcome.status, outcome.class), (Some("failure"), Some("workflow.budget")));
}

#[tokio::test(start_paused = true)]
async fn at_the_end_of_its_events_time_a_run_ends_in_line_or_in_a_call() {
    for behaviour in [Behaviour::Queues(Duration::from_secs(3600)), Behaviour::Hangs] {
        let bench = bench(behaviour, config(), LIMITS);
        let (begun, deadline) = (Instant::now(), Timestamp::UNIX_EPOCH);
        let mut urgent = first(&bench);
        let late = Late::Deadline(deadline);
        urgent.job.expiry = Some(Expiry { at: begun + SECOND, late });

        let outcome = done(bench.runner.attempt(urgent).await);

        assert_eq!(begun.elapsed(), SECOND);
        assert_eq!((outcome.status, outcome.class), (Some("error"), Some("event.expired")));
        assert_eq!(error(&outcome), "too late: its header weir-deadline said 1970-01-01T00:00:00Z");
        let [result] = values(&outcome, Topic::Results).try_into().unwrap();
        assert_eq!(
            result["result"]["agent_results"]["data"]["result"], "data_processed",
            "the partial state"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_time_is_over_asks_nobody() {
    let bench = bench(Behaviour::Answers, config(), LIMITS);
    let mut late = first(&bench);
    late.job.expiry = Some(Expiry { at: Instant::now(), late: Late::Age(SECOND) });
    tokio::time::advance(SECOND).await;

    let outcome = done(bench.runner.attempt(late).await);

    assert_eq!(outcome.class, Some("event.expired"));
    assert_eq!(bench.asked.load(Ordering::Relaxed), 0);
}
