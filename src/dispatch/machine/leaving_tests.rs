//! How partitions and the process are given up, and what doubt holds back.

use super::*;

#[test]
fn a_revocation_lets_runs_finish_commits_them_and_only_then_lets_go() {
    let mut bench = bench(9, Ordering::Unordered);
    bench.send(0, 0, "a").send(0, 1, "b");
    let until = bench.now + 2 * SECOND;

    bench.machine.revoke(vec![P0], false, until);
    bench.turn().done(0, 0).done(0, 1);
    assert!(bench.revoked.is_empty(), "the transaction in flight comes first");
    bench.apply().apply();

    assert_eq!(bench.revoked, [P0]);
    assert_eq!(bench.published(), ["0/0", "0/1"]);
}

#[test]
fn a_revocation_cancels_what_outlives_the_grace_and_starts_nothing_new() {
    let mut bench = bench(1, Ordering::Unordered);
    bench.send(0, 0, "a").send(0, 1, "b").send(1, 0, "c");
    let until = bench.now + 2 * SECOND;

    bench.machine.revoke(vec![P0], false, until);
    bench.turn().after(2 * SECOND);

    assert_eq!(bench.cancelled, [0]);
    assert_eq!(bench.revoked, [P0]);
    assert_eq!(bench.started, [0, 0], "the freed permit goes to the partition that stays");
    assert!(bench.published.is_empty());
}

/// Lets partition 1 settle one event after the other, so that something always waits for a commit.
fn keep_busy(bench: &mut Bench, offsets: std::ops::Range<i64>) {
    for offset in offsets {
        bench.send(1, offset, "busy").done(1, offset);
    }
}

#[test]
fn a_revocation_waits_for_no_more_than_one_transaction_of_the_partitions_that_stay() {
    for lost in [false, true] {
        let mut bench = bench(9, Ordering::Unordered);
        bench.send(0, 0, "a").done(0, 0).apply();
        keep_busy(&mut bench, 0..3);
        let grace = if lost { Duration::ZERO } else { 2 * SECOND };

        bench.machine.revoke(vec![P0], lost, bench.now + grace);
        keep_busy(&mut bench, 3..5);
        assert!(bench.revoked.is_empty(), "the outcome in flight is awaited");
        bench.apply();

        assert_eq!(bench.revoked, [P0]);
        assert!(bench.batch.is_some(), "the other partition goes on");
    }
}

#[test]
fn what_a_leaving_partition_settled_goes_into_the_next_transaction_before_all_others() {
    let mut bench = bench(999, Ordering::Unordered);
    // More waits than one transaction takes.
    keep_busy(&mut bench, 0..250);
    bench.send(0, 0, "a");
    bench.machine.revoke(vec![P0], false, bench.now + 2 * SECOND);
    bench.turn().done(0, 0);

    bench.apply();
    assert!(bench.revoked.is_empty(), "what it settled is in flight");
    assert_eq!(bench.batch.as_ref().unwrap().records[0].value, "0/0");
    bench.apply();

    assert_eq!(bench.revoked, [P0]);
}

#[test]
fn an_overdue_revocation_leaves_what_can_t_be_committed_to_the_next_owner() {
    let mut bench = bench(9, Ordering::Unordered);
    bench.send(0, 0, "a").done(0, 0);
    keep_busy(&mut bench, 0..3);
    bench.machine.revoke(vec![P0], false, bench.now + 2 * SECOND);
    bench.turn().abort().after(4 * SECOND);
    assert!(bench.revoked.is_empty());

    bench.abort().after(SECOND);

    assert_eq!(bench.revoked, [P0]);
    bench.apply();
    assert!(bench.published().iter().all(|result| result.starts_with("1/")));
}

#[test]
fn of_a_lost_partition_nothing_is_committed_and_the_outcome_in_flight_is_awaited() {
    let mut bench = bench(9, Ordering::Unordered);
    bench.send(0, 0, "a").send(0, 1, "b").send(0, 2, "c").done(0, 0).done(0, 1);

    bench.machine.revoke(vec![P0], true, bench.now);
    bench.turn();
    assert_eq!(bench.cancelled, [2]);
    assert!(bench.revoked.is_empty());

    bench.abort();
    assert_eq!(bench.revoked, [P0]);
    bench.after(60 * SECOND);
    assert!(bench.batch.is_none());
}

#[test]
fn a_partition_that_goes_gives_its_bytes_back_to_the_others() {
    let mut bench = bench(1, Ordering::Unordered);
    bench.send(0, 0, "a").send(0, 1, "b").send_young(0, 2, "c", SECOND);

    bench.machine.revoke(vec![P0], true, bench.now);
    bench.turn();

    assert_eq!(bench.revoked, [P0]);
    assert_eq!((bench.released, bench.released_bytes), (0, 30));
}

#[test]
fn a_loss_that_waits_for_an_outcome_asks_for_no_turn_meanwhile() {
    let mut bench = bench(9, Ordering::Unordered);
    bench.send(0, 0, "a").done(0, 0);

    bench.machine.revoke(vec![P0], true, bench.now);
    bench.turn().after(60 * SECOND);

    assert!(bench.revoked.is_empty());
    assert_eq!(bench.machine.deadline(), None);
}

#[test]
fn a_drain_starts_nothing_new_and_ends_when_what_ran_is_committed() {
    let mut bench = bench(1, Ordering::Unordered);
    bench.send(0, 0, "a").send(0, 1, "b");

    bench.machine.drain(bench.now + 25 * SECOND);
    bench.turn().done(0, 0);
    assert!(!bench.drained);
    bench.apply();

    assert!(bench.drained);
    assert_eq!(bench.started, [0]);
    assert_eq!(bench.machine.deadline().map(|at| at > bench.now), Some(true));
}

#[test]
fn a_drain_cancels_at_the_end_of_its_grace() {
    let mut bench = bench(9, Ordering::Unordered);
    bench.send(0, 0, "a");

    bench.machine.drain(bench.now + SECOND);
    bench.turn().after(SECOND);

    assert_eq!(bench.cancelled, [0]);
    assert!(bench.drained);
}

#[test]
fn in_doubt_nothing_starts_until_a_transaction_begun_since_is_applied() {
    let mut bench = bench(9, Ordering::Unordered);
    bench.send(0, 0, "a").done(0, 0);
    bench.machine.doubt();
    bench.send(0, 1, "b").apply();
    assert_eq!(bench.started, [0], "the transaction in flight says nothing of now");
    let batch = bench.batch.clone().unwrap();
    assert!(batch.records.is_empty());
    assert_eq!(batch.positions.len(), 2, "of every partition, so that each owner is asked");
    bench.abort();
    assert_eq!(bench.started, [0]);
    bench.after(COMMIT_BACKOFF).apply();
    assert_eq!(bench.started, [0, 1]);
}

#[test]
fn doubt_outlives_the_partitions_that_were_in_it() {
    let mut bench = bench(9, Ordering::Unordered);
    bench.send(0, 0, "a").machine.doubt();
    bench.turn().abort();
    bench.machine.revoke(vec![P0, PartitionId(1)], true, bench.now);
    bench.turn();
    assert_eq!(bench.revoked, [P0, PartitionId(1)]);
    bench.after(COMMIT_BACKOFF_MAX);
    assert_eq!(bench.machine.deadline(), None, "there is nothing to ask about");
    bench.machine.assign(P0, Epoch(2), Tracker::start(Offset(0), Offset(0)), HashMap::new());
    let again = Position { epoch: Epoch(2), ..at(0, 0) };
    bench.arrive(again, "a", bench.now, None);
    assert_eq!(bench.machine.figures().running, 0, "it may have been recovered before");
    assert!(bench.batch.as_ref().is_some_and(|batch| batch.records.is_empty()));
    bench.apply();
    assert_eq!(bench.machine.figures().running, 1);
}

#[test]
fn an_idle_machine_drains_at_once() {
    let mut bench = bench(9, Ordering::Unordered);

    bench.machine.drain(bench.now + 25 * SECOND);

    assert!(bench.turn().drained);
}
