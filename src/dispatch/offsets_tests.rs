use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::journal::Scope;
use crate::record::PartitionId;

const SCOPE: Scope<'_> = Scope { group: "group", topic: "events", partition: PartitionId(0) };

fn offsets<C: FromIterator<Offset>>(from: impl IntoIterator<Item = i64>) -> C {
    from.into_iter().map(Offset).collect()
}

fn started(received: impl IntoIterator<Item = i64>) -> Tracker {
    let mut tracker = Tracker::start(Offset(0), Offset(0));
    received
        .into_iter()
        .for_each(|offset| assert_eq!(tracker.receive(Offset(offset)), Received::New));
    tracker
}

fn restored(base: i64, next: i64, unsettled: impl IntoIterator<Item = i64>) -> Tracker {
    let map = Map {
        next: Offset(next),
        journal_base: Offset(40),
        nonce: 0,
        unsettled: offsets(unsettled),
    };
    Tracker::restore(Offset(base), map, [], Offset(90))
}

fn settle(tracker: &mut Tracker, settled: impl IntoIterator<Item = i64>) {
    tracker.committed(&offsets::<Vec<_>>(settled), &[]);
}

fn nothing() -> BTreeSet<Offset> {
    BTreeSet::new()
}

#[test]
fn the_watermark_stops_at_the_first_unsettled_offset() {
    let mut tracker = started([0, 1, 2, 3]);

    settle(&mut tracker, [1, 2]);
    assert_eq!(
        (tracker.watermark(), tracker.next(), tracker.unsettled()),
        (Offset(0), Offset(4), 2)
    );

    settle(&mut tracker, [0]);
    assert_eq!(
        (tracker.watermark(), tracker.next(), tracker.unsettled()),
        (Offset(3), Offset(4), 1)
    );

    settle(&mut tracker, [3]);
    assert_eq!(
        (tracker.watermark(), tracker.next(), tracker.unsettled()),
        (Offset(4), Offset(4), 0)
    );
}

#[test]
fn offsets_that_never_come_hold_nothing() {
    let mut tracker = started([3, 900, 901, 5_000_000]);

    settle(&mut tracker, [3, 901]);

    assert_eq!(tracker.snapshot(&nothing()).map.unsettled, offsets::<Vec<_>>([900, 5_000_000]));
    assert_eq!((tracker.watermark(), tracker.gone()), (Offset(900), 0));
}

#[test]
fn a_snapshot_changes_nothing_until_it_is_committed() {
    let mut tracker = started([0, 1, 2]);
    let settling = offsets([0, 2]);

    let taken = tracker.snapshot(&settling);

    assert_eq!((taken.watermark, &taken.map.unsettled), (Offset(1), &offsets([1])));
    assert_eq!(tracker.watermark(), Offset(0));
    assert_eq!(tracker.snapshot(&settling), taken);
    tracker.committed(&settling, &[]);
    assert_eq!(tracker.snapshot(&nothing()), taken);
}

#[test]
fn settling_what_is_not_open_changes_nothing() {
    let mut tracker = started([1, 3, 5]);
    settle(&mut tracker, [3]);

    let taken = tracker.snapshot(&offsets([0, 1, 2, 3, 4, 6]));
    tracker.committed(&offsets::<BTreeSet<_>>([0, 1, 2, 3, 4, 6]), &[]);

    assert_eq!((taken.watermark, taken.map.unsettled), (Offset(5), offsets([5])));
    assert_eq!((tracker.watermark(), tracker.unsettled()), (Offset(5), 1));
}

#[test]
fn a_next_life_does_what_was_not_settled_and_skips_the_rest() {
    let mut tracker = restored(10, 14, [10, 12]);
    assert!(tracker.is_restoring());

    let received: Vec<_> = (10..16).map(|offset| tracker.receive(Offset(offset))).collect();

    use Received::{New, Restored, Settled};
    assert_eq!(received, [Restored, Settled, Restored, Settled, New, New]);
    assert!(!tracker.is_restoring());
    assert_eq!((tracker.watermark(), tracker.unsettled()), (Offset(10), 4));
}

#[test]
fn what_was_received_once_in_a_life_is_not_received_again() {
    let mut tracker = restored(10, 14, [10, 12]);
    (10..15).for_each(|offset| _ = tracker.receive(Offset(offset)));
    settle(&mut tracker, [10, 14]);

    let again: Vec<_> = (9..15).map(|offset| tracker.receive(Offset(offset))).collect();

    let mut expected = [Received::Repeated; 6];
    expected[0] = Received::Settled;
    assert_eq!(again, expected);
    assert_eq!(tracker.unsettled(), 1);
}

#[test]
fn a_restored_offset_that_is_passed_is_gone() {
    let mut tracker = restored(10, 14, [10, 12, 13]);

    assert_eq!(tracker.receive(Offset(13)), Received::Restored);

    assert_eq!((tracker.gone(), tracker.unsettled(), tracker.watermark()), (2, 1, Offset(13)));
}

#[test]
fn a_map_never_forgets_what_is_not_received_again_yet() {
    let mut tracker = restored(10, 2_000, [10, 12, 1_999]);
    _ = tracker.receive(Offset(10));

    let taken = tracker.snapshot(&offsets([10]));

    assert_eq!((taken.watermark, taken.map.next), (Offset(12), Offset(2_000)));
    assert_eq!(taken.map.unsettled, offsets::<Vec<_>>([12, 1_999]));
}

#[test]
fn the_journal_base_is_the_first_record_of_an_unfinished_run() {
    let mut tracker = started([0, 1, 2]);
    let base = |tracker: &Tracker, settling: &[i64]| {
        tracker.snapshot(&offsets(settling.iter().copied())).map.journal_base
    };
    assert_eq!(base(&tracker, &[]), Offset(0));

    tracker.committed(
        &[],
        &[(Offset(1), Offset(20)), (Offset(0), Offset(21)), (Offset(1), Offset(22))],
    );

    assert_eq!(base(&tracker, &[]), Offset(20));
    assert_eq!(base(&tracker, &[1]), Offset(21));
    assert_eq!(base(&tracker, &[0, 1]), Offset(23));
    tracker.committed(&[Offset(1)], &[(Offset(1), Offset(30))]);
    assert_eq!(base(&tracker, &[]), Offset(21));
    assert_eq!(base(&tracker, &[0]), Offset(31));
}

#[test]
fn the_journal_base_waits_for_what_was_restored() {
    let map =
        Map { next: Offset(13), journal_base: Offset(40), nonce: 0, unsettled: offsets([10, 12]) };
    let journaled =
        [(12, 61), (12, 60), (11, 41)].map(|(event, record)| (Offset(event), Offset(record)));
    let mut tracker = Tracker::restore(Offset(10), map, journaled, Offset(90));
    let base = |tracker: &Tracker| tracker.snapshot(&offsets([10])).map.journal_base;

    let mut seen = vec![base(&tracker)];
    for offset in 10..13 {
        _ = tracker.receive(Offset(offset));
        seen.push(base(&tracker));
    }
    settle(&mut tracker, [12]);
    seen.push(base(&tracker));

    assert_eq!(seen, offsets::<Vec<_>>([40, 40, 40, 60, 90]));
}

/// At least once, without transactions: the journal was written and the offsets were not.
#[test]
fn the_journal_base_waits_for_events_that_only_the_journal_knows() {
    let nothing_done =
        Map { next: Offset(10), journal_base: Offset(40), nonce: 0, unsettled: vec![] };
    let journaled = [(13, 55), (10, 50), (11, 52), (12, 53)]
        .map(|(event, record)| (Offset(event), Offset(record)));
    let mut tracker = Tracker::restore(Offset(10), nothing_done, journaled, Offset(90));
    let base = |tracker: &Tracker| tracker.snapshot(&nothing()).map.journal_base;

    assert_eq!(base(&tracker), Offset(50));
    assert_eq!((tracker.unsettled(), tracker.is_restoring()), (0, false));
    assert_eq!(tracker.receive(Offset(10)), Received::New);
    settle(&mut tracker, [10]);
    assert_eq!(base(&tracker), Offset(52));
    assert_eq!(tracker.receive(Offset(13)), Received::New);
    assert_eq!((base(&tracker), tracker.gone()), (Offset(55), 0));
    settle(&mut tracker, [13]);
    assert_eq!(base(&tracker), Offset(90));
}

#[test]
fn a_record_of_a_settled_event_does_not_hold_the_journal_base() {
    let mut tracker = started([0]);
    settle(&mut tracker, [0]);

    tracker.committed(&[], &[(Offset(0), Offset(20))]);

    assert_eq!(tracker.snapshot(&nothing()).map.journal_base, Offset(21));
    assert_eq!(tracker.journal_end(), Offset(21));
}

#[test]
fn there_is_room_for_a_thousand_offsets_and_not_for_one_more() {
    let mut tracker = started(0..999);
    assert!(tracker.has_room_for(Offset(999)));

    _ = tracker.receive(Offset(999));
    assert!(!tracker.has_room_for(Offset(1_000)));

    settle(&mut tracker, [500]);
    assert!(tracker.has_room_for(Offset(1_000)));
}

#[test]
fn there_is_room_within_the_span_of_the_first_unsettled_offset() {
    let tracker = started([100]);
    let end = 100 + Map::SPAN_MAX;

    assert!(tracker.has_room_for(Offset(end - 1)));
    assert!(!tracker.has_room_for(Offset(end)));
}

#[test]
fn there_is_room_after_any_gap_when_nothing_is_open() {
    let mut gone = restored(10, 14, [10, 12]);
    let mut settled = started([5]);
    settle(&mut settled, [5]);

    for tracker in [&mut gone, &mut settled] {
        assert!(tracker.has_room_for(Offset(i64::MAX - 1)));
        assert_eq!(tracker.receive(Offset(i64::MAX - 1)), Received::New);
        assert_eq!(tracker.watermark(), Offset(i64::MAX - 1));
    }
}

#[test]
fn a_full_life_is_restored_whole() {
    let mut tracker = restored(0, 5_000, (0..1_000).map(|i| i * 5));

    for offset in 0..5_000 {
        assert!(tracker.has_room_for(Offset(offset)), "{offset}");
        _ = tracker.receive(Offset(offset));
        assert_eq!(tracker.unsettled(), 1_000);
    }
    assert!(!tracker.has_room_for(Offset(5_000)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Every state within the limits has a map that a broker takes, whatever its gaps.
    #[test]
    fn a_map_of_any_reachable_state_fits(
        (start, widest, journal_end) in (0..1_i64 << 61, 0..=31_u32, 0..=i64::MAX),
        noise in vec(any::<u32>(), 1_400),
        settled in vec(any::<Index>(), 0..300),
    ) {
        let mut tracker = Tracker::start(Offset(start), Offset(journal_end));
        let mut next = start;
        let mut open = Vec::new();
        for (noise, index) in noise.iter().zip(settled.iter().cycle()) {
            // Half of the gaps are as wide as they may be, the others of any width below.
            let width = if noise & 1 == 0 { widest } else { noise % (widest + 1) };
            next += 1 + (i64::from(*noise) & ((1 << width) - 1));
            while !tracker.has_room_for(Offset(next)) {
                let settling = BTreeSet::from([open.swap_remove(index.index(open.len()))]);
                if noise % 16 == 0 {
                    check_fits(&tracker.snapshot(&settling))?;
                }
                tracker.committed(&settling, &[]);
            }
            prop_assert_eq!(tracker.receive(Offset(next)), Received::New);
            open.push(Offset(next));
        }
        check_fits(&tracker.snapshot(&nothing()))?;
    }
}

fn check_fits(taken: &Snapshot) -> Result<(), TestCaseError> {
    let text = taken.map.encode(&SCOPE, taken.watermark);
    prop_assert!(text.len() <= Map::TEXT_MAX, "{} characters", text.len());
    let read = Map::decode(text, &SCOPE, taken.watermark);
    prop_assert_eq!(read.as_ref(), Ok(&taken.map));
    Ok(())
}
