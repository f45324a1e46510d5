//! When transactions begin.

use super::*;

const SPACING: Duration = Duration::from_millis(20);
const SHORT: Duration = Duration::from_millis(19);
const REST: Duration = Duration::from_millis(1);

/// A machine whose transaction with 199 of so many runs is in flight: a busy one.
fn busy(runs: i64) -> Bench {
    let mut bench = paced(runs);
    done(&mut bench, 0..1);
    done(&mut bench, 1..200);
    bench.apply();
    bench
}

/// A machine with so many runs that have started.
fn paced(runs: i64) -> Bench {
    let mut bench = bench_of(|settings| {
        (settings.spacing, settings.in_flight_max) = (SPACING, 2_000);
        settings.size.records_max = 10_000;
    });
    for offset in 0..runs {
        bench.send(0, offset, "a");
    }
    bench
}

fn done(bench: &mut Bench, offsets: std::ops::Range<i64>) {
    for offset in offsets {
        bench.done(0, offset);
    }
}

#[test]
fn a_transaction_begins_at_once_where_little_happens() {
    let mut bench = paced(200);
    done(&mut bench, 0..1);
    assert!(bench.batch.is_some(), "the first");
    done(&mut bench, 1..127);
    bench.apply();
    done(&mut bench, 127..130);

    bench.apply();

    assert!(bench.batch.is_some(), "127 so far");
}

#[test]
fn after_a_busy_one_the_next_waits_for_more() {
    let mut bench = busy(300);
    done(&mut bench, 200..210);
    bench.after(SHORT).apply();
    assert!(bench.batch.is_none());
    assert_eq!(bench.machine.deadline(), Some(bench.now + REST));
    done(&mut bench, 210..220);

    bench.after(REST);

    assert!(bench.batch.is_some());
    assert_eq!(bench.apply().published().len(), 220);
}

#[test]
fn bursts_with_pauses_between_them_are_not_busy() {
    let mut bench = paced(300);
    for burst in 0..4 {
        done(&mut bench, burst * 64..burst * 64 + 1);
        done(&mut bench, burst * 64 + 1..(burst + 1) * 64);
        bench.apply();
        assert!(bench.batch.is_some(), "burst {burst}");
        bench.apply().after(SPACING);
    }
}

#[test]
fn nobody_waits_for_more_than_enough() {
    let mut bench = busy(1_400);
    done(&mut bench, 200..1_099);
    bench.apply();
    assert!(bench.batch.is_none());

    done(&mut bench, 1_099..1_100);

    assert!(bench.batch.is_some());
}

#[test]
fn nobody_waits_where_all_runs_wait_for_the_journal() {
    let mut bench = busy(203);
    bench.effect(200, 1).effect(201, 2).apply();
    assert!(bench.batch.is_none(), "one run is still at work");

    bench.effect(202, 3);

    assert!(bench.batch.is_some());
}

#[test]
fn effects_of_runs_that_have_gone_on_do_not_count_as_waiting() {
    let mut bench = busy(203);
    assert!(bench.record(200, None) && bench.record(201, None) && bench.record(202, None));

    bench.apply();

    assert!(bench.batch.is_none());
}

#[test]
fn nobody_waits_on_the_way_out() {
    let mut bench = busy(300);
    done(&mut bench, 200..201);
    bench.apply();
    assert!(bench.batch.is_none());

    bench.machine.drain(bench.now + SECOND);
    bench.turn();

    assert!(bench.batch.is_some());
}
