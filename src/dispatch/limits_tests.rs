//! Deadlines, the limit on an event's age, budgets, sizes: over the whole driver.

use super::*;

/// Returns an event whose header is `deadline`.
fn urgent(offset: i64, task: &str, deadline: &str) -> Record {
    Record { deadline: Some(deadline.to_owned().into()), ..record(offset, &json!(task)) }
}

#[tokio::test(start_paused = true)]
async fn an_event_older_than_the_limit_is_answered_without_a_call() {
    let world = World { event_ttl: 30 * SECOND, ..World::default() };
    let life = world.start(9, Durability::Sync);
    life.assign(&world).await;

    // Their records are of 1970.
    life.send(&["analysis a", "b"]).await;

    world.until_results(2).await;
    assert_eq!(life.drain().await, End::Drained);
    let results = world.log.values(Topic::Results);
    let letters = world.log.values(Topic::DeadLetters);
    assert_eq!((results.len(), letters.len()), (2, 2));
    for (result, letter) in results.iter().zip(&letters) {
        assert_eq!(result["status"], "error");
        assert_eq!(result["error"], "too late: it is older than WORKFLOW_EVENT_TTL=30s");
        assert_eq!(
            (&letter["error"]["type"], &letter["retry_count"]),
            (&json!("event.expired"), &json!(0))
        );
    }
    assert_eq!(world.calls("analysis a"), 0);
    assert!(world.log.values(Topic::Journal).is_empty());
    assert_eq!(world.log.position(P).unwrap().0, Offset(2));
}

#[tokio::test(start_paused = true)]
async fn a_run_ends_at_the_deadline_of_its_event() {
    let world = World::default();
    world.model.latency_ms.store(60_000, Atomic::Relaxed);
    let life = world.start(9, Durability::Sync);
    life.assign(&world).await;
    let at = Timestamp::now() + SECOND;
    let sent = tokio::time::Instant::now();

    let record = urgent(0, "analysis a", &at.as_millisecond().to_string());
    life.events.send(source::Event::Records(vec![record])).await.unwrap();
    world.until_results(1).await;

    assert!(sent.elapsed() <= SECOND, "{:?}", sent.elapsed());
    let [result] = world.log.values(Topic::Results).try_into().unwrap();
    assert_eq!(result["status"], "error");
    assert_eq!(result["result"]["agent_results"]["data"]["result"], "data_processed");
    assert_eq!(world.log.values(Topic::DeadLetters)[0]["error"]["type"], "event.expired");
    assert_eq!(world.calls("analysis a"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_can_not_be_read_is_passed_over_and_counted() {
    let world = World::default();
    let life = world.start(9, Durability::Sync);
    life.assign(&world).await;

    let records = vec![urgent(0, "a", "soon"), urgent(1, "b", "")];
    life.events.send(source::Event::Records(records)).await.unwrap();

    world.until_results(2).await;
    assert!(world.log.values(Topic::Results).iter().all(|result| result["status"] == "success"));
    let counted = "weir_deadlines_unreadable_total 2\n";
    assert!(world.metrics.encode().contains(counted));
}

#[tokio::test(start_paused = true)]
async fn the_calls_of_all_attempts_count_against_the_budget() {
    let world = World { budget_calls: 2, ..World::default() };
    let life = world.start(9, Durability::Sync);
    life.assign(&world).await;

    life.send(&["analysis always fails"]).await;

    world.until_results(1).await;
    let [result] = world.log.values(Topic::Results).try_into().unwrap();
    let [letter] = world.log.values(Topic::DeadLetters).try_into().unwrap();
    assert_eq!(result["status"], "failure");
    assert_eq!(result["error"], "WORKFLOW_BUDGET_CALLS=2 is used up: 2 calls");
    assert_eq!(letter["error"]["type"], "workflow.budget");
    assert_eq!(world.calls("analysis always fails"), 2);
}

#[tokio::test(start_paused = true)]
async fn what_topics_take_no_longer_is_replaced_in_one_pass_and_without_a_wait() {
    let world = World::default();
    let life = world.start(9, Durability::Sync);
    life.assign(&world).await;
    world.log.fail([Fault::Held]);
    let long = "long ".repeat(1_000);
    life.send(&["a", &long, &long, &long, &long]).await;
    tokio::time::sleep(SECOND).await;
    let since = tokio::time::Instant::now();

    world.log.lower(Limits { result_max: 4_000, dead_letter_max: 9_000, journal_max: 1 << 20 });
    world.log.release();
    world.until_results(5).await;

    assert_eq!(since.elapsed(), Duration::ZERO);
    let statuses: Vec<_> = world.log.values(Topic::Results);
    assert!(statuses[1..].iter().all(|result| result["status"] == "failure"), "{statuses:?}");
    assert_eq!(world.log.values(Topic::DeadLetters).len(), 4);
    let aborted = "weir_transactions_total{outcome=\"aborted\"} 1\n";
    assert!(world.metrics.encode().contains(aborted), "{}", world.metrics.encode());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_the_journal_does_not_take_costs_no_transaction() {
    let world = World { result_min_age: 60 * SECOND, ..World::default() };
    let life = world.start(9, Durability::Sync);
    life.assign(&world).await;
    world.log.lower(Limits { result_max: 1 << 20, dead_letter_max: 1 << 20, journal_max: 10 });

    life.send_young(0, &["analysis a"]).await;
    world.until_results(1).await;

    assert_eq!(world.log.values(Topic::Results)[0]["status"], "success");
    assert!(world.log.values(Topic::Journal).is_empty());
    assert!(!world.metrics.encode().contains("outcome=\"aborted\"} 1\n"));
}
