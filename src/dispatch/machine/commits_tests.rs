//! What goes into transactions, and what their outcomes change.

use super::*;

#[test]
fn results_of_one_transaction_become_visible_together_and_only_then_is_room_given_back() {
    let mut bench = bench(9, Ordering::Unordered);
    bench.send(0, 0, "a").send(0, 1, "b").send(0, 2, "c");
    bench.done(0, 1).done(0, 0).done(0, 2);
    assert_eq!(
        bench.batch.as_ref().unwrap().records.len(),
        1,
        "the first settled event opens the transaction alone"
    );

    bench.apply();
    assert_eq!(
        bench.batch.as_ref().unwrap().records.len(),
        2,
        "what settled meanwhile goes into the next one"
    );
    assert_eq!(bench.released, 1);

    bench.apply();
    assert_eq!(bench.published(), ["0/1", "0/0", "0/2"]);
    assert_eq!(bench.released, 3);
    assert_eq!(bench.machine.figures(), Figures::default());
}

#[test]
fn a_transaction_commits_a_position_of_every_partition_that_it_carries_a_record_of() {
    let mut bench = bench(9, Ordering::Unordered);
    bench.send(0, 0, "a").send(0, 1, "b").send(1, 0, "c").send(1, 1, "d");

    bench.done(1, 1);

    let positions = &bench.batch.as_ref().unwrap().positions;
    assert_eq!(positions.len(), 1);
    assert_eq!(positions[0].partition, PartitionId(1));
    assert_eq!(
        positions[0].offset,
        Offset(0),
        "the watermark has not moved, and is committed all the same"
    );
}

#[test]
fn an_aborted_transaction_is_tried_again_from_memory_with_another_nonce() {
    let mut bench = bench(9, Ordering::Unordered);
    bench.send(0, 0, "a").done(0, 0);
    let first = bench.batch.clone().unwrap();

    bench.abort();
    assert!(bench.batch.is_none(), "not at once");
    bench.after(COMMIT_BACKOFF);

    let second = bench.batch.clone().unwrap();
    assert_eq!(first.records, second.records);
    assert_ne!(first.positions[0].metadata, second.positions[0].metadata);
    assert_eq!(bench.released, 0);
}

#[test]
fn records_that_their_topic_refuses_are_replaced_in_their_place_and_tried_again_at_once() {
    let mut bench = bench(9, Ordering::Unordered);
    bench.send(0, 0, "a").send(0, 1, "b").send(0, 2, "c").done(0, 0).done(0, 1).done(0, 2).apply();

    let oversized = bench.machine.oversized(&limits(2));
    let found = oversized.iter().map(|one| (one.position, one.job, one.size, one.limit));
    assert_eq!(found.collect::<Vec<_>>(), [(at(0, 1), Some(1), 3, 2), (at(0, 2), Some(2), 3, 2)]);
    for one in oversized {
        bench.machine.replace(one.position, &result("ok"));
    }
    assert!(bench.machine.oversized(&limits(2)).is_empty());
    assert!(bench.batch.take().is_some());
    bench.machine.refused();
    bench.turn().apply();

    assert_eq!(bench.published(), ["0/0", "ok", "ok"], "at once");
}

#[test]
fn an_effect_that_the_journal_does_not_take_lets_its_run_go_on() {
    let mut bench = bench(9, Ordering::Unordered);
    bench.send(0, 0, "a");
    bench.effect(0, 5);

    assert!(bench.machine.oversized(&limits(1)).is_empty());
    bench.abort();

    assert_eq!(bench.recorded, [5]);
}
