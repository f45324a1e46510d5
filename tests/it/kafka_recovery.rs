//! What is known of a partition when it is assigned, from a real broker: where to begin, and what was done already.

#![expect(clippy::expect_used, clippy::panic, reason = "what is not there fails the test")]

use std::time::Duration;

use rdkafka::producer::Producer;
use weir::{
    journal::{GROUP, Map},
    kafka::{AutoOffsetReset, ForeignMetadata, GroupProtocol},
    record::{Offset, PartitionId},
    sink::{Commit, Guarantee, Outgoing},
    source::{Event, Recovered},
};

use crate::support::kafka::{
    Instance, PATIENCE, World, batch, create, delete_records, effect, produce_all, result, unique,
    until,
};

fn map(next: i64, journal_base: i64, unsettled: &[i64]) -> Map {
    Map {
        next: Offset(next),
        journal_base: Offset(journal_base),
        nonce: 7,
        unsettled: unsettled.iter().copied().map(Offset).collect(),
    }
}

fn recovered(instance: &Instance, partition: i32) -> &Recovered {
    instance.partitions.get(&PartitionId(partition)).expect("an assigned partition")
}

fn effects(instance: &Instance, partition: i32) -> Vec<(i64, i64, &str)> {
    let effects = recovered(instance, partition).effects.iter();
    effects.map(|(at, effect)| (at.0, effect.offset.0, effect.node.as_str())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_group_at_latest_begins_at_the_end_and_commits_that_for_every_partition() {
    let mut world = World::new("latest", 3).await;
    world.config.auto_offset_reset = AutoOffsetReset::Latest;
    produce_all(world.events(), 1, ["old", "older"]).await;

    let mut instance = world.start("a").await;
    instance.assigned(3).await;
    instance.stop().await;
    world.publish(0, "between two lives").await;
    let mut next = world.start("a").await;

    assert_eq!(next.values(1).await, ["between two lives"]);
    let begins: Vec<_> = (0..3).map(|partition| world.committed(partition).unwrap()).collect();
    assert_eq!(begins, [(0, String::new()), (2, String::new()), (0, String::new())]);
    next.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_group_at_earliest_begins_at_the_beginning() {
    let world = World::new("earliest", 2).await;
    produce_all(world.events(), 1, ["first", "second"]).await;

    let mut instance = world.start("a").await;

    assert_eq!(instance.values(2).await, ["first", "second"]);
    assert!(recovered(&instance, 1).map.is_none());
    instance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_that_start_at_once_agree_on_the_first_position() {
    let mut world = World::new("agree", 4).await;
    world.config.auto_offset_reset = AutoOffsetReset::Latest;
    for partition in 0..4 {
        produce_all(world.events(), partition, ["old"; 5]).await;
    }

    let (mut one, mut two, mut three) =
        tokio::join!(world.start("a"), world.start("b"), world.start("c"));
    let mut starts = std::collections::BTreeMap::new();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while starts.len() < 4 {
        assert!(tokio::time::Instant::now() < deadline, "{starts:?}");
        for instance in [&mut one, &mut two, &mut three] {
            let event =
                tokio::time::timeout(Duration::from_millis(50), instance.events.recv()).await;
            match event {
                Ok(Some(Event::Assigned(all))) => {
                    starts.extend(all.iter().map(|one| (one.partition.0, one.start.0)));
                    instance.note(all);
                }
                // Not acknowledging would hold the group up.
                Ok(Some(Event::Revoked { done, .. })) => drop(done),
                Ok(Some(Event::Records(records))) => panic!("{records:?}"),
                Ok(None) => panic!("ended"),
                Err(_) => {}
            }
        }
    }

    assert!(starts.values().all(|start| *start == 5), "{starts:?}");
    assert!((0..4).all(|partition| world.committed(partition) == Some((5, String::new()))));
    for instance in [one, two, three] {
        instance.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn effects_that_another_group_journaled_are_not_ours() {
    let world = World::new("scopes", 1).await;
    let mut first = world.start("a").await;
    first.assigned(1).await;
    let of = |group: &str, offset| {
        let header = (GROUP, group.as_bytes().to_vec().into());
        Outgoing { headers: vec![header], ..effect(0, offset, group) }
    };
    let ours = world.config.consumer_group_id.as_str();
    let unsettled = world.map(0, 0, &map(3, 0, &[0, 1, 2]));
    let records = vec![of("another", 0), of(ours, 1), effect(0, 2, "an older release")];
    produce_all(world.events(), 0, ["0", "1", "2"]).await;
    first.commit(batch(records, &[(0, 0, &unsettled)])).await;
    first.stop().await;

    let mut next = world.start("a").await;
    next.assigned(1).await;

    assert_eq!(effects(&next, 0), [(1, 1, ours), (2, 2, "an older release")]);
    next.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_without_a_position_among_others_is_new_and_read_from_its_beginning() {
    let mut world = World::new("grown", 2).await;
    world.config.auto_offset_reset = AutoOffsetReset::Latest;
    produce_all(world.events(), 1, ["came before its first reader"]).await;
    world.commit(0, 0, "");

    let mut instance = world.start("a").await;

    assert_eq!(instance.values(1).await, ["came before its first reader"]);
    instance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_events_are_read_again_with_their_effects_and_settled_ones_are_not() {
    let world = World::new("resume", 1).await;
    produce_all(world.events(), 0, (0..10).map(|n| n.to_string())).await;
    let mut first = world.start("a").await;
    first.records(10).await;
    // An earlier life of the group wrote this; the base says that nobody needs it any more.
    first
        .commit(batch(vec![effect(0, 3, "stale")], &[(0, 0, &world.map(0, 0, &map(8, 0, &[0])))]))
        .await;
    let journaled = [effect(0, 3, "llm"), effect(0, 4, "llm"), effect(0, 3, "tool")];
    let text = world.map(0, 3, &map(8, 2, &[3, 6]));
    let outcome = first.commit(batch(journaled.to_vec(), &[(0, 3, &text)])).await;
    assert!(matches!(outcome, Commit::Applied { .. }), "{outcome:?}");
    first.stop().await;

    let mut second = world.start("a").await;

    assert_eq!(second.values(4).await, ["3", "6", "8", "9"]);
    let found = recovered(&second, 0);
    assert_eq!(found.start, Offset(3));
    assert_eq!(found.map, Some(map(8, 2, &[3, 6])));
    // Record 0, then a marker at 1; three records from 2 on, and their marker.
    assert_eq!(effects(&second, 0), [(2, 3, "llm"), (4, 3, "tool")]);
    assert_eq!(found.journal_end, Offset(6));
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recovery_waits_for_a_transaction_that_is_open_on_the_journal() {
    let world = World::new("openjournal", 1).await;
    produce_all(world.events(), 0, ["0", "1"]).await;
    create(&world.config.journal_topic, 1, &[]).await;
    world.commit(0, 0, &world.map(0, 0, &map(2, 0, &[0, 1])));
    let journal = world.config.journal_topic.clone();
    let record = effect(0, 1, "llm");
    // It has written its records, and its offsets are another partition's: only the journal tells that it is open.
    let open =
        world.open_transaction(&unique("open"), &[(&journal, 0, record.value.as_ref())], &[]).await;

    let mut instance = world.start("a").await;
    instance.quiet(Duration::from_secs(2)).await;
    let reasons = instance.health.readyz().reasons();
    open.commit_transaction(PATIENCE).unwrap();
    instance.assigned(1).await;

    assert!(reasons.contains("recovering partition 0: 0 of 1 journal records"), "{reasons}");
    assert_eq!(effects(&instance, 0), [(0, 1, "llm")]);
    instance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_does_not_wait_for_the_journal_of_another() {
    let world = World::new("twojournals", 2).await;
    create(&world.config.journal_topic, 2, &[]).await;
    for partition in [0, 1] {
        produce_all(world.events(), partition, ["0", "1"]).await;
        world.commit(partition, 0, &world.map(partition, 0, &map(2, 0, &[0, 1])));
    }
    let journal = world.config.journal_topic.clone();
    let (held_up, told) = (effect(0, 1, "held up"), effect(1, 1, "told"));
    let ended =
        world.open_transaction(&unique("t"), &[(&journal, 1, told.value.as_ref())], &[]).await;
    ended.commit_transaction(PATIENCE).unwrap();
    let open =
        world.open_transaction(&unique("t"), &[(&journal, 0, held_up.value.as_ref())], &[]).await;

    let mut instance = world.start("a").await;
    instance.assigned(1).await;

    assert_eq!(effects(&instance, 1), [(0, 1, "told")]);
    let reasons = instance.health.readyz().reasons();
    assert!(reasons.contains("recovering partition 0"), "{reasons}");
    open.abort_transaction(PATIENCE).unwrap();
    instance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_could_not_be_told_yet_does_not_wait_for_the_journal_of_another() {
    let world = World::new("untold", 2).await;
    create(&world.config.journal_topic, 2, &[]).await;
    for partition in [0, 1] {
        produce_all(world.events(), partition, ["0", "1"]).await;
    }
    world.commit(0, 0, &world.map(0, 0, &map(2, 0, &[0, 1])));
    let (journal, held_up) = (world.config.journal_topic.clone(), effect(0, 1, "held up"));
    let open =
        world.open_transaction(&unique("t"), &[(&journal, 0, held_up.value.as_ref())], &[]).await;
    let committing = world.open_transaction(&unique("t"), &[], &[(1, 1, "")]).await;

    let mut instance = world.start("a").await;
    instance.quiet(Duration::from_secs(4)).await;
    committing.commit_transaction(PATIENCE).unwrap();
    instance.assigned(1).await;

    assert_eq!(recovered(&instance, 1).start, Offset(1));
    let reasons = instance.health.readyz().reasons();
    assert!(reasons.contains("recovering partition 0"), "{reasons}");
    open.abort_transaction(PATIENCE).unwrap();
    instance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_end_of_the_journal_is_passed() {
    let world = World::new("abortedjournal", 1).await;
    produce_all(world.events(), 0, ["0", "1"]).await;
    create(&world.config.journal_topic, 1, &[]).await;
    let journal = world.config.journal_topic.clone();
    let good = world
        .open_transaction(&unique("t"), &[(&journal, 0, effect(0, 0, "kept").value.as_ref())], &[])
        .await;
    good.commit_transaction(PATIENCE).unwrap();
    let bad = world
        .open_transaction(
            &unique("t"),
            &[(&journal, 0, effect(0, 0, "aborted").value.as_ref())],
            &[],
        )
        .await;
    bad.abort_transaction(PATIENCE).unwrap();
    world.commit(0, 0, &world.map(0, 0, &map(2, 0, &[0, 1])));

    let mut instance = world.start("a").await;
    instance.assigned(1).await;

    assert_eq!(effects(&instance, 0), [(0, 0, "kept")]);
    assert_eq!(recovered(&instance, 0).journal_end, Offset(4));
    instance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_metadata_stops_its_partition_and_no_other() {
    let world = World::new("foreign", 2).await;
    world.commit(0, 0, "somebody else's");
    world.commit(1, 0, "");
    for partition in 0..2 {
        world.publish(partition, &format!("to {partition}")).await;
    }

    let mut instance = world.start("a").await;

    assert_eq!(instance.values(1).await, ["to 1"]);
    instance.quiet(Duration::from_secs(1)).await;
    let reasons = instance.health.readyz().reasons();
    assert!(reasons.contains("partition 0 is stopped: committed offset 0"), "{reasons}");
    assert!(reasons.contains("KAFKA_FOREIGN_METADATA=ignore"), "{reasons}");
    instance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_metadata_that_is_to_be_ignored_is() {
    let mut world = World::new("ignored", 1).await;
    world.config.foreign_metadata = ForeignMetadata::Ignore;
    produce_all(world.events(), 0, ["0", "1", "2"]).await;
    world.commit(0, 1, "somebody else's");

    let mut instance = world.start("a").await;

    assert_eq!(instance.values(2).await, ["1", "2"]);
    instance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_took_is_passed_over_with_its_map() {
    let world = World::new("retention", 1).await;
    produce_all(world.events(), 0, (0..10).map(|n| n.to_string())).await;
    world.commit(0, 2, &world.map(0, 2, &map(8, 0, &[2, 7])));
    delete_records(world.events(), 0, 5).await;

    let mut instance = world.start("a").await;

    assert_eq!(instance.values(3).await, ["7", "8", "9"]);
    assert_eq!(recovered(&instance, 0).start, Offset(5));
    assert_eq!(recovered(&instance, 0).map, Some(map(8, 0, &[7])));
    instance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn classic_what_retention_takes_while_we_read_is_passed_over() {
    what_retention_takes_while_we_read_is_passed_over(World::new("taken", 1).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn consumer_what_retention_takes_while_we_read_is_passed_over() {
    let mut world = World::new("taken848", 1).await;
    world.config.group_protocol = GroupProtocol::Consumer;
    what_retention_takes_while_we_read_is_passed_over(world).await;
}

async fn what_retention_takes_while_we_read_is_passed_over(world: World) {
    produce_all(world.events(), 0, (0..5_000).map(|_| "x".repeat(1_000))).await;
    let mut instance = world.instance("a").room(5, 1 << 20).start().await;
    instance.assigned(1).await;
    let mut held = Vec::new();
    while held.len() < 5 {
        let Event::Records(records) = instance.next().await else { panic!("records") };
        held.extend(records);
    }
    // Beyond what librdkafka has read ahead.
    delete_records(world.events(), 0, 4_990).await;

    let mut last = Offset(4);
    for record in &held {
        instance.release(record);
    }
    while last < Offset(4_999) {
        match instance.next().await {
            Event::Records(records) => {
                for record in records {
                    instance.release(&record);
                    assert!(
                        record.position.offset > last,
                        "{} after {last}",
                        record.position.offset
                    );
                    last = record.position.offset;
                }
            }
            // The group is joined anew: what is read was not committed, and is gone.
            Event::Revoked { lost, .. } => assert!(!lost),
            Event::Assigned(recovered) => instance.note(recovered),
        }
    }

    assert_eq!(recovered(&instance, 0).start, Offset(4_990));
    instance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_beyond_the_log_stops_its_partition() {
    let world = World::new("beyond", 1).await;
    world.publish(0, "only one").await;
    world.commit(0, 5, "");

    let mut instance = world.start("a").await;
    until("stopped", || instance.health.readyz().reasons().contains("beyond the log's end 1"))
        .await;

    instance.quiet(Duration::from_millis(200)).await;
    instance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_settled_stretch_is_seeked_over() {
    let world = World::new("seek", 1).await;
    produce_all(world.events(), 0, (0..30_000).map(|n| n.to_string())).await;
    world.commit(0, 3, &world.map(0, 3, &map(29_998, 0, &[3, 17_000, 17_001])));

    let mut instance = world.start("a").await;

    assert_eq!(instance.values(5).await, ["3", "17000", "17001", "29998", "29999"]);
    let skipped = instance.metrics.encode();
    let skipped = skipped.lines().find(|line| line.contains("skipped") && !line.starts_with('#'));
    let skipped: f64 = skipped.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(skipped < 10_000.0, "{skipped} records were read to be skipped");
    instance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_reset_begins_anew() {
    let world = World::new("reset", 1).await;
    produce_all(world.events(), 0, ["0", "1"]).await;
    let mut first = world.start("a").await;
    first.records(2).await;
    let text = world.map(0, 1, &map(2, 0, &[1]));
    first.commit(batch(vec![effect(0, 1, "llm"), result("k", "v")], &[(0, 1, &text)])).await;
    first.stop().await;

    world.commit(0, 0, "");
    let mut second = world.start("a").await;

    assert_eq!(second.values(2).await, ["0", "1"]);
    assert_eq!(effects(&second, 0), []);
    // What is in the journal already is of an earlier life: this one's begins behind it.
    assert_eq!(recovered(&second, 0).journal_end, Offset(2));
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_transactions_the_journal_may_be_ahead_of_the_map() {
    let world = World::new("ahead", 1).await;
    produce_all(world.events(), 0, ["0", "1", "2"]).await;
    let builder = || world.instance("a").guarantee(Guarantee::AtLeastOnce);
    let mut first = builder().start().await;
    first.records(3).await;
    // The offsets say that 0 is settled and 1 was never seen: the rest of that batch died with the process.
    let text = world.map(0, 1, &map(1, 0, &[]));
    let records = vec![effect(0, 0, "llm"), effect(0, 1, "llm"), effect(0, 2, "llm")];
    first.commit(batch(records, &[(0, 1, &text)])).await;
    first.stop().await;

    let mut second = builder().start().await;
    assert_eq!(second.values(2).await, ["1", "2"]);
    assert_eq!(effects(&second, 0).len(), 2);
    second.stop().await;

    let mut third = world.start("a").await;
    assert_eq!(third.values(2).await, ["1", "2"]);
    assert_eq!(effects(&third, 0), [], "what a transaction wrote is in the map");
    third.stop().await;
}
