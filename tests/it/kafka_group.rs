//! Membership of the group on a real broker: partitions come, go and are held no longer than they must be.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "what both protocols share is no test by itself"
)]

use std::time::Duration;

use rdkafka::producer::Producer;
use tokio::time::Instant;
use weir::{kafka::GroupProtocol, record::PartitionId, sink::Commit, source::Event};

use crate::support::kafka::{
    Instance, PATIENCE, World, batch, produce_all, result, unique, until, value,
};

/// Waits until `instance` is told to give partitions up, releasing the records that come before.
async fn revoked(
    instance: &mut Instance,
) -> (Vec<PartitionId>, bool, tokio::sync::oneshot::Sender<()>) {
    loop {
        match instance.next().await {
            Event::Revoked { partitions, lost, done } => return (partitions, lost, done),
            Event::Records(records) => records.iter().for_each(|record| instance.release(record)),
            Event::Assigned(recovered) => instance.note(recovered),
        }
    }
}

async fn a_partition_moves_when_its_owner_has_given_it_up(world: World) {
    let mut first = world.start("a").await;
    first.assigned(2).await;
    let mut second = world.start("b").await;

    let (given, lost, done) = revoked(&mut first).await;
    assert_eq!((given.len(), lost), (1, false));
    // A live member may still commit for it, and does: that is why the next owner has to wait.
    let last = first.commit(batch(vec![result("k", "last")], &[(given[0].0, 0, "last")])).await;
    assert!(matches!(last, Commit::Applied { .. }), "{last:?}");
    second.quiet(Duration::from_secs(2)).await;
    drop(done);
    second.assigned(1).await;

    assert!(second.partitions.contains_key(&given[0]));
    assert_eq!(world.committed(given[0].0), Some((0, "last".to_owned())));
    for partition in 0..2 {
        world.publish(partition, &format!("to {partition}")).await;
    }
    let kept = 1 - given[0].0;
    assert_eq!(first.values(1).await, [format!("to {kept}")]);
    assert_eq!(second.values(1).await, [format!("to {}", given[0])]);
    second.stop().await;
    first.partitions.remove(&given[0]);
    first.assigned(2).await;
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn classic_a_partition_moves_when_its_owner_has_given_it_up() {
    let mut world = World::new("moves", 2).await;
    world.config.foreign_metadata = weir::kafka::ForeignMetadata::Ignore;
    a_partition_moves_when_its_owner_has_given_it_up(world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn consumer_a_partition_moves_when_its_owner_has_given_it_up() {
    let mut world = World::new("moves848", 2).await;
    world.config.group_protocol = GroupProtocol::Consumer;
    world.config.foreign_metadata = weir::kafka::ForeignMetadata::Ignore;
    a_partition_moves_when_its_owner_has_given_it_up(world).await;
}

async fn a_partition_that_can_t_be_told_yet_holds_up_no_other(world: World) {
    let pending = world.open_transaction(&unique("pending"), &[], &[(1, 0, "")]).await;
    world.commit(0, 0, "");
    world.publish(0, "at once").await;
    world.publish(1, "later").await;

    let mut instance = world.start("a").await;
    instance.assigned(1).await;

    assert_eq!(instance.values(1).await, ["at once"]);
    world.publish(0, "and again").await;
    assert_eq!(instance.values(1).await, ["and again"]);
    until("the reason is told", || {
        instance.health.readyz().reasons().contains("partition 1 can't be recovered yet")
    })
    .await;
    pending.commit_transaction(PATIENCE).unwrap();
    assert_eq!(instance.values(1).await, ["later"]);
    until("ready", || instance.health.readyz().ok).await;
    instance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn classic_a_partition_that_can_t_be_told_yet_holds_up_no_other() {
    let world = World::new("pending", 2).await;
    a_partition_that_can_t_be_told_yet_holds_up_no_other(world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn consumer_a_partition_that_can_t_be_told_yet_holds_up_no_other() {
    let mut world = World::new("pending848", 2).await;
    world.config.group_protocol = GroupProtocol::Consumer;
    a_partition_that_can_t_be_told_yet_holds_up_no_other(world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_leaves_before_it_is_recovered_is_given_up_in_silence() {
    let world = World::new("leaves", 2).await;
    let pending = world.open_transaction(&unique("pending"), &[], &[(0, 0, ""), (1, 0, "")]).await;
    let mut first = world.start("a").await;
    until("joined", || first.health.readyz().reasons().contains("partition")).await;

    let mut second = world.start("b").await;
    until("shared", || second.health.readyz().reasons().contains("partition")).await;
    pending.commit_transaction(PATIENCE).unwrap();

    first.assigned(1).await;
    second.assigned(1).await;
    assert_ne!(first.partitions.keys().next(), second.partitions.keys().next());
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_read_than_there_is_room_for() {
    let world = World::new("room", 1).await;
    produce_all(world.events(), 0, (0..50).map(|n| format!("{n:02}"))).await;
    let mut instance = world.instance("a").room(10, 1 << 20).start().await;
    instance.assigned(1).await;

    let mut held = Vec::new();
    while held.len() < 10 {
        let Event::Records(records) = instance.next().await else { panic!("records") };
        held.extend(records);
    }
    instance.quiet(Duration::from_millis(1_500)).await;
    for record in held.drain(..5) {
        instance.release(&record);
    }
    while held.len() < 10 {
        let Event::Records(records) = instance.next().await else { panic!("records") };
        held.extend(records);
    }
    instance.quiet(Duration::from_millis(500)).await;

    assert_eq!(value(&held[9]), "14");
    instance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_shared_by_all_partitions() {
    let world = World::new("bytes", 2).await;
    for partition in 0..2 {
        produce_all(world.events(), partition, (0..20).map(|_| "x".repeat(1_000))).await;
    }
    let mut instance = world.instance("a").room(1_000, 5_000).start().await;
    instance.assigned(2).await;

    let mut held = Vec::new();
    let quiet = Instant::now() + Duration::from_secs(2);
    while let Ok(Some(event)) = tokio::time::timeout_at(quiet, instance.events.recv()).await {
        let Event::Records(records) = event else { panic!("records") };
        held.extend(records);
    }
    // One record of each partition may exceed the budget.
    assert!((5..=7).contains(&held.len()), "{} records", held.len());
    let first = held.len();
    for record in held.drain(..) {
        instance.release(&record);
    }
    assert_eq!(instance.records(40 - first).await.len(), 40 - first);
    instance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_leaves_the_group_although_a_revocation_is_not_acknowledged() {
    let world = World::new("unacknowledged", 2).await;
    let mut first = world.start("a").await;
    first.assigned(2).await;
    let mut second = world.start("b").await;
    let (_, _, _done) = revoked(&mut first).await;

    let began = Instant::now();
    first.stop().await;

    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    second.assigned(2).await;
    second.stop().await;
}

#[tokio::test]
async fn a_member_that_was_taken_for_dead_commits_nothing_and_comes_back() {
    let mut world = World::new("lost", 1).await;
    let properties = &mut world.config.properties.consumer;
    properties.insert("max.poll.interval.ms".to_owned(), "6000".to_owned());
    world.publish(0, "an event").await;
    let mut instance = world.start("a").await;
    assert_eq!(instance.values(1).await, ["an event"]);

    // The one thread of this runtime stands still, and with it the poll by which the group sees us live.
    std::thread::park_timeout(Duration::from_secs(8));
    let (partitions, lost, done) = revoked(&mut instance).await;
    let outcome = instance.commit(batch(vec![result("k", "late")], &[(0, 1, "late")])).await;
    instance.partitions.clear();
    drop(done);
    instance.assigned(1).await;

    assert_eq!((partitions, lost), (vec![PartitionId(0)], true));
    assert!(matches!(outcome, Commit::NotAMember), "{outcome:?}");
    assert_eq!(instance.values(1).await, ["an event"]);
    let outcome = instance.commit(batch(vec![result("k", "now")], &[(0, 1, "now")])).await;
    assert!(matches!(outcome, Commit::Applied { .. }), "{outcome:?}");
    instance.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_leaves_is_replaced_at_once() {
    let world = World::new("replaced", 1).await;
    let mut first = world.start("a").await;
    first.assigned(1).await;
    let mut second = world.start("b").await;
    until("a member without partitions is ready", || second.health.readyz().ok).await;

    let began = Instant::now();
    first.stop().await;
    second.assigned(1).await;

    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(second.epoch(0), weir::record::Epoch(1));
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_member_is_fenced_by_its_twin() {
    let mut world = World::new("static", 1).await;
    world.config.static_membership = true;
    let mut first = world.start("same").await;
    first.assigned(1).await;

    let mut second = world.start("same").await;
    let error = first.failed().await;
    second.assigned(1).await;

    assert_eq!(error, weir::source::Error::Twin { instance: "same".to_owned() });
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lag_is_counted_from_what_the_transactions_commit() {
    let mut world = World::new("lag", 1).await;
    world.config.properties.consumer.insert("statistics.interval.ms".to_owned(), "200".to_owned());
    produce_all(world.events(), 0, (0..10).map(|n| n.to_string())).await;
    let mut instance = world.start("a").await;
    instance.assigned(1).await;
    let lag = |instance: &Instance, records: &str| {
        let text = instance.metrics.encode();
        text.lines().any(|line| {
            line.contains("lag")
                && line.contains("partition=\"0\"")
                && line.ends_with(&format!(" {records}"))
        })
    };
    instance.records(10).await;
    until("all ten are behind", || lag(&instance, "10")).await;

    instance.commit(batch(vec![], &[(0, 7, "m")])).await;

    until("three are behind", || lag(&instance, "3")).await;
    instance.stop().await;
}
