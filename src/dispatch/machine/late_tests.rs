//! What becomes of events whose time is over.

use super::*;

#[test]
fn what_is_too_late_is_shed_when_its_turn_comes_and_takes_no_permit() {
    let mut bench = bench(1, Ordering::Unordered);
    bench.send(0, 0, "a").send_until(1, "b", SECOND).send_until(2, "c", 3 * SECOND);

    bench.after(2 * SECOND);
    assert!(bench.shed.is_empty(), "no turn has come");
    bench.done(0, 0);

    assert_eq!((&bench.shed[..], &bench.started[..]), (&[(1, 0)][..], &[0, 2][..]));
    bench.apply().done(0, 2).apply().apply();
    assert_eq!(bench.published(), ["0/0", "late 1", "0/2"]);
    assert_eq!(bench.machine.figures(), Figures::default());
}

#[test]
fn the_last_moment_of_a_deadline_is_too_late() {
    let mut bench = bench(9, Ordering::Unordered);

    bench.send_until(0, "a", Duration::ZERO).send_until(1, "b", Duration::from_nanos(1));

    assert_eq!((&bench.shed[..], &bench.started[..]), (&[(0, 0)][..], &[1][..]));
}

#[test]
fn an_event_whose_deadline_comes_before_its_next_attempt_is_shed_at_the_deadline() {
    let mut bench = bench(9, Ordering::Unordered);
    let short = Duration::from_millis(300);
    bench.send_until(0, "a", short).send_until(1, "b", 2 * SECOND).failed(0, 0).failed(0, 1);

    assert_eq!(bench.machine.deadline(), Some(bench.now + short));
    bench.after(short);
    assert_eq!(bench.shed, [(0, 1)]);

    bench.after(SECOND - short);
    assert_eq!((&bench.shed[..], &bench.started[..]), (&[(0, 1)][..], &[0, 1, 1][..]));
}

#[test]
fn in_order_an_event_that_is_too_late_keeps_its_place() {
    let mut bench = bench(9, Ordering::Key);
    bench.send(0, 0, "k").send_until(1, "k", SECOND).send(0, 2, "k");

    bench.after(2 * SECOND);
    assert_eq!((&bench.shed[..], &bench.started[..]), (&[][..], &[0][..]));
    bench.done(0, 0);

    assert_eq!((&bench.shed[..], &bench.started[..]), (&[(1, 0)][..], &[0, 2][..]));
}

#[test]
fn nothing_is_shed_of_partitions_that_are_given_up_nor_while_draining() {
    let mut bench = bench(1, Ordering::Unordered);
    bench.send(0, 0, "a").send_until(1, "b", SECOND);

    bench.machine.revoke(vec![P0], false, bench.now + 5 * SECOND);
    bench.after(2 * SECOND).done(0, 0);
    assert!(bench.shed.is_empty());

    let mut bench = super::bench(1, Ordering::Unordered);
    bench.send(0, 0, "a").send_until(1, "b", SECOND);

    bench.machine.drain(bench.now + 5 * SECOND);
    bench.after(2 * SECOND).done(0, 0);
    assert!(bench.shed.is_empty());
}
