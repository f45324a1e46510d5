//! What a transaction of weir leaves behind on a real broker: all of it, or nothing, and always known which.

use rdkafka::producer::Producer;
use weir::{
    record::Offset,
    sink::{Commit, Error, Guarantee, Topic},
};

use crate::support::kafka::{
    PATIENCE, World, alter, batch, create, outgoing, result, seen, seen_uncommitted, unique,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_visible_as_a_whole_with_its_offsets_and_their_metadata() {
    let world = World::new("whole", 2).await;
    let mut instance = world.start("a").await;
    instance.assigned(2).await;
    let longest = "m".repeat(4_096);

    let outcome = instance
        .commit(batch(
            vec![
                result("key", "a result"),
                outgoing(Topic::Journal, Some(1), "event", "an effect"),
                outgoing(Topic::DeadLetters, None, "event", "a dead letter"),
            ],
            &[(0, 0, &longest), (1, 0, "one")],
        ))
        .await;

    let Commit::Applied { journal } = outcome else { panic!("{outcome:?}") };
    assert_eq!(journal, [(1, Offset(0))]);
    assert_eq!(seen(&world.config.workflow_results_topic)[0].value, "a result");
    assert_eq!(seen(&world.config.dlq_topic)[0].key, "event");
    assert_eq!(seen(&world.config.journal_topic)[0].partition, 1);
    assert_eq!(world.committed(0), Some((0, longest)));
    assert_eq!(world.committed(1), Some((0, "one".to_owned())));
    instance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_batch_is_invisible_and_harms_no_later_one() {
    let world = World::new("aborted", 1).await;
    let mut instance = world.start("a").await;
    instance.assigned(1).await;
    let too_long = "m".repeat(4_097);

    let outcome =
        instance.commit(batch(vec![result("key", "refused")], &[(0, 0, &too_long)])).await;
    let next = instance.commit(batch(vec![result("key", "taken")], &[(0, 0, "short")])).await;

    let Commit::Aborted { error } = outcome else { panic!("{outcome:?}") };
    assert!(matches!(error, Error::Metadata { .. }), "{error}");
    assert!(matches!(next, Commit::Applied { .. }), "{next:?}");
    let values: Vec<_> = seen(&world.config.workflow_results_topic);
    assert_eq!(values.len(), 1);
    assert_eq!(values[0].value, "taken");
    assert_eq!(seen_uncommitted(&world.config.workflow_results_topic).len(), 2);
    instance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_over_its_topics_limit_is_refused_before_anything_is_sent() {
    let world = World::new("toolarge", 1).await;
    create(&world.config.workflow_results_topic, 1, &[("max.message.bytes", "20000")]).await;
    let mut instance = world.start("a").await;
    instance.assigned(1).await;
    let limit = instance.publisher.limits().borrow().result_max;
    let framing = result("key", "").size();
    let largest = "x".repeat(limit - framing);
    let larger = "x".repeat(limit - framing + 1);

    let refused = instance
        .commit(batch(vec![result("key", "first"), result("key", &larger)], &[(0, 0, "1")]))
        .await;
    let taken = instance.commit(batch(vec![result("key", &largest)], &[(0, 0, "2")])).await;

    let Commit::Aborted { error: Error::TooLarge { index, size, limit: told, .. } } = refused
    else {
        panic!("{refused:?}")
    };
    assert_eq!((index, size, told), (1, limit + 1, limit));
    assert!(matches!(taken, Commit::Applied { .. }), "{taken:?}");
    assert_eq!(seen_uncommitted(&world.config.workflow_results_topic).len(), 1);
    instance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_far_over_its_topics_limit_is_split_into_requests_that_fit() {
    let world = World::new("split", 1).await;
    create(&world.config.workflow_results_topic, 1, &[("max.message.bytes", "20000")]).await;
    let mut instance = world.start("a").await;
    instance.assigned(1).await;
    let records = (0..500).map(|_| result("key", &"x".repeat(1_000))).collect();

    let outcome = instance.commit(batch(records, &[(0, 0, "1")])).await;

    assert!(matches!(outcome, Commit::Applied { .. }), "{outcome:?}");
    assert_eq!(seen(&world.config.workflow_results_topic).len(), 500);
    instance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_was_lowered_meanwhile_is_learnt_from_its_refusal() {
    let world = World::new("lowered", 1).await;
    let mut instance = world.start("a").await;
    instance.assigned(1).await;
    alter(&world.config.workflow_results_topic, "max.message.bytes", "20000").await;
    let records = || (0..100).map(|_| result("key", &"x".repeat(1_000))).collect();
    let limits = instance.publisher.limits();

    let refused = instance.commit(batch(records(), &[(0, 0, "1")])).await;
    let taken = instance.commit(batch(records(), &[(0, 0, "2")])).await;

    let Commit::Aborted { error } = refused else { panic!("{refused:?}") };
    assert!(matches!(error, Error::Delivery { topic: Topic::Results, .. }), "{error}");
    assert!(matches!(taken, Commit::Applied { .. }), "{taken:?}");
    assert!(limits.borrow().result_max < 20_000);
    assert_eq!(seen(&world.config.workflow_results_topic).len(), 100);
    instance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_begun_without_membership() {
    let world = World::new("nomember", 1).await;
    let mut instance = world.start("a").await;

    // Not joined yet: generation -1, which the broker would take from anybody.
    let outcome = instance.commit(batch(vec![result("key", "early")], &[(0, 0, "1")])).await;

    assert!(matches!(outcome, Commit::NotAMember), "{outcome:?}");
    instance.assigned(1).await;
    assert_eq!(seen_uncommitted(&world.config.workflow_results_topic), []);
    instance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_producer_is_made_anew_and_its_batch_was_not_applied() {
    let world = World::new("fenced", 2).await;
    let mut instance = world.start("a").await;
    instance.assigned(2).await;
    let id = format!("weir-{}-a", world.config.consumer_group_id);
    let twin = world.open_transaction(&id, &[], &[]).await;
    twin.abort_transaction(PATIENCE).unwrap();

    let fenced =
        instance.commit(batch(vec![result("key", "lost")], &[(0, 0, "one"), (1, 0, "two")])).await;
    let again = instance
        .commit(batch(vec![result("key", "kept")], &[(0, 0, "three"), (1, 0, "four")]))
        .await;

    let Commit::Aborted { error } = fenced else { panic!("{fenced:?}") };
    assert!(matches!(error, Error::Fenced { .. }), "{error}");
    assert!(matches!(again, Commit::Applied { .. }), "{again:?}");
    let seen = seen(&world.config.workflow_results_topic);
    assert_eq!(seen.iter().map(|seen| seen.value.as_str()).collect::<Vec<_>>(), ["kept"]);
    assert_eq!(world.committed(1), Some((0, "four".to_owned())));
    assert!(instance.health.readyz().ok, "{}", instance.health.readyz().reasons());
    instance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_is_fenced_three_times_in_a_minute_has_a_twin() {
    let world = World::new("twin", 1).await;
    let mut instance = world.start("a").await;
    instance.assigned(1).await;
    let id = format!("weir-{}-a", world.config.consumer_group_id);

    let mut outcomes = Vec::new();
    for _ in 0..3 {
        let twin = world.open_transaction(&id, &[], &[]).await;
        twin.abort_transaction(PATIENCE).unwrap();
        outcomes
            .push(instance.commit(batch(vec![result("key", "x")], &[(0, 0, &unique("m"))])).await);
    }

    let errors: Vec<_> = outcomes
        .into_iter()
        .map(|outcome| match outcome {
            Commit::Aborted { error } => error,
            outcome @ (Commit::Applied { .. } | Commit::NotAMember) => panic!("{outcome:?}"),
        })
        .collect();
    assert!(matches!(errors[0], Error::Fenced { .. }), "{}", errors[0]);
    assert!(matches!(errors[1], Error::Fenced { .. }), "{}", errors[1]);
    assert_eq!(errors[2], Error::Twin { transactional_id: id });
    instance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_life_left_open_is_ended_by_the_next_start() {
    let world = World::new("leftover", 1).await;
    create(&world.config.workflow_results_topic, 1, &[]).await;
    let id = format!("weir-{}-a", world.config.consumer_group_id);
    let results = world.config.workflow_results_topic.clone();
    let died = world.open_transaction(&id, &[(&results, 0, b"half done")], &[(0, 0, "half")]).await;

    let mut instance = world.start("a").await;
    instance.assigned(1).await;

    assert_eq!(seen(&results), []);
    assert_ne!(world.committed(0), Some((0, "half".to_owned())));
    drop(died);
    instance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_least_once_publishes_and_commits_without_a_transaction() {
    let world = World::new("atleastonce", 1).await;
    let mut instance = world.instance("a").guarantee(Guarantee::AtLeastOnce).start().await;
    instance.assigned(1).await;

    let outcome = instance
        .commit(batch(
            vec![outgoing(Topic::Journal, Some(0), "e", "effect"), result("key", "plain")],
            &[(0, 0, "map")],
        ))
        .await;

    let Commit::Applied { journal } = outcome else { panic!("{outcome:?}") };
    assert_eq!(journal, [(0, Offset(0))]);
    assert_eq!(seen(&world.config.workflow_results_topic)[0].value, "plain");
    assert_eq!(world.committed(0), Some((0, "map".to_owned())));
    instance.stop().await;
}
