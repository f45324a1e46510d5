use super::map::{SCOPE, offsets};
use crate::journal::Map;
use crate::record::Offset;

/// The bound in the documentation: with k = 21 no gap takes more than 22 + 1.5 * gap / 2^21 bits.
#[test]
fn a_thousand_offsets_within_the_span_always_fit() {
    let bound = 22 * 1_000 + 3 * 512;
    assert_eq!(6 + (4 * (26 + 1 + bound / 8_usize)).div_ceil(3), 3_965);
    let mut longest = 0;
    for (a, b) in (0..31).flat_map(|a| (0..=a).map(move |b| (1_i64 << a, 1_i64 << b))) {
        // As many gaps of `a` as the span has room for beside gaps of `b`; the last fills it up.
        let wide = ((Map::SPAN_MAX - 1 - 999 * b).max(0) / (a - b).max(1)).min(999);
        let mut unsettled = vec![0];
        unsettled.extend((1..1_000).map(|i| i * b + i.min(wide) * (a - b)));
        unsettled.retain(|offset| *offset < Map::SPAN_MAX);
        if unsettled.len() == 1_000 {
            unsettled[999] = Map::SPAN_MAX - 1;
        }
        let unsettled =
            offsets(unsettled.into_iter().map(|offset| i64::MAX - Map::SPAN_MAX + offset));
        let map = Map {
            next: Offset(i64::MAX),
            journal_base: Offset(i64::MAX),
            nonce: u32::MAX,
            unsettled,
        };

        let base = map.unsettled[0];
        let text = map.encode(&SCOPE, base);

        longest = longest.max(text.len());
        assert_eq!(Map::decode(text, &SCOPE, base), Ok(map), "{a} {b}");
    }
    assert!((3_750..=3_965).contains(&longest), "{longest}");
}

#[test]
fn any_span_fits_up_to_four_hundred_offsets() {
    let step = i64::MAX / 400;
    for unsettled in [
        offsets((0..400).map(|i| i * step)),
        offsets((0..400).map(|i| if i < 200 { i } else { i * step })),
    ] {
        let map = Map {
            next: Offset(i64::MAX),
            journal_base: Offset(i64::MAX),
            nonce: u32::MAX,
            unsettled,
        };

        let text = map.encode(&SCOPE, Offset(0));

        assert!(text.len() <= Map::TEXT_MAX, "{}", text.len());
        assert_eq!(Map::decode(text, &SCOPE, Offset(0)), Ok(map));
    }
}

#[test]
fn usual_maps_are_short() {
    let length = |stuck: i64, others: i64| {
        let unsettled = offsets([stuck].into_iter().chain((0..others).map(|i| 1 << 40 | (i * 2))));
        let map = Map { next: Offset(2 << 40), journal_base: Offset(0), nonce: 0, unsettled };
        map.encode(&SCOPE, Offset(stuck)).len()
    };
    let empty = Map { next: Offset(9), journal_base: Offset(9), nonce: 1, unsettled: vec![] };

    assert_eq!(empty.encode(&SCOPE, Offset(9)).len(), 42);
    assert_eq!(length((1 << 40) - 1, 999), 376);
    assert_eq!(length(0, 999), 389);
}
