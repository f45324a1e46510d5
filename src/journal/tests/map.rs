use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::journal::{Map, MapError, Scope, gaps};
use crate::record::{Offset, PartitionId};

pub(super) const SCOPE: Scope<'_> = Scope {
    group: "langgraph-consumer-group",
    topic: "workflow-events",
    partition: PartitionId(3),
};

pub(super) fn offsets(from: impl IntoIterator<Item = i64>) -> Vec<Offset> {
    from.into_iter().map(Offset).collect()
}

/// Seals a payload as docs/journal.md says, independently of the code under test.
fn sealed(payload: &[u8], base: i64) -> String {
    let mut scope = b"weir1.".to_vec();
    for name in [SCOPE.group, SCOPE.topic] {
        scope.extend((name.len() as u64).to_be_bytes());
        scope.extend(name.bytes());
    }
    scope.extend(SCOPE.partition.0.to_be_bytes());
    scope.extend(base.to_be_bytes());
    scope.extend(payload);
    let bytes = [&crc32fast::hash(&scope).to_be_bytes(), payload].concat();
    format!("weir1.{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// Bits that a gap takes as docs/journal.md says, independently of the code under test.
fn cost(gap: u64, k: u32) -> usize {
    let width = 64 - gap.leading_zeros();
    let bits = if width <= k { 1 + k } else { (width - k + 1) + (width - 1) };
    bits as usize
}

prop_compose! {
    /// Gaps of all widths up to `widest` bits: mostly narrow, mostly wide, or mixed.
    fn gaps(widest: u32, most: usize)(
        gaps in vec((0..=widest, any::<u64>()), 0..=most),
    ) -> Vec<u64> {
        gaps.into_iter().map(|(width, noise)| noise & ((1_u64 << width) - 1)).collect()
    }
}

prop_compose! {
    fn a_map()(base in 0..1_i64 << 61, widest in 0..=31_u32)(
        base in Just(base),
        gaps in gaps(widest, 1_000),
        beyond in prop_oneof![Just(0), 0..1_i64 << 61],
        journal_base in 0..=i64::MAX,
        nonce in any::<u32>(),
    ) -> (Offset, Map) {
        let mut next = base;
        let mut unsettled = Vec::new();
        for gap in gaps {
            unsettled.push(Offset(next + i64::try_from(gap).unwrap()));
            next += i64::try_from(gap).unwrap() + 1;
        }
        // Kept within what a partition may have open, for the text to be one that decode takes.
        unsettled.retain(|offset| offset.0 - base < Map::SPAN_MAX);
        let (next, journal_base) = (Offset(next + beyond), Offset(journal_base));
        let map = Map { next, journal_base, nonce, unsettled };
        (Offset(base), map)
    }
}

#[test]
fn a_map_reads_as_documented() {
    let map = Map {
        next: Offset(1_010),
        journal_base: Offset(77),
        nonce: 0xdead_beef,
        unsettled: offsets([1_000, 1_001, 1_007]),
    };
    let payload = [
        &0xdead_beef_u32.to_be_bytes()[..],
        &1_010_i64.to_be_bytes(),
        &77_i64.to_be_bytes(),
        &3_u16.to_be_bytes(),
        &[0],           // k
        &[0b0011_1001], // 0 | 0 | 1110 01 : gaps 0, 0, 5
    ]
    .concat();

    let text = map.encode(&SCOPE, Offset(1_000));

    assert_eq!(text, sealed(&payload, 1_000));
    assert_eq!(text, "weir1.sx909d6tvu8AAAAAAAAD8gAAAAAAAABNAAMAOQ");
}

#[test]
fn every_truncation_and_every_single_bit_is_noticed() {
    for unsettled in [offsets([]), offsets([7]), offsets((0..300).map(|i| 7 + i * i * i))] {
        let map = Map { next: Offset(30_000_000), journal_base: Offset(5), nonce: 9, unsettled };
        let text = map.encode(&SCOPE, Offset(7)).into_bytes();
        assert_eq!(Map::decode(&text, &SCOPE, Offset(7)), Ok(map));

        for length in 0..text.len() {
            assert!(Map::decode(&text[..length], &SCOPE, Offset(7)).is_err(), "cut to {length}");
        }
        for bit in 0..text.len() * 8 {
            let mut damaged = text.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Map::decode(&damaged, &SCOPE, Offset(7)).is_err(), "bit {bit}");
        }
        for more in ["A", "=", "AAAA", " ", "\n", "."] {
            let longer = [&text, more.as_bytes()].concat();
            assert_eq!(Map::decode(&longer, &SCOPE, Offset(7)), Err(MapError::Corrupt), "{more:?}");
        }
    }
}

#[test]
fn a_map_holds_only_where_it_was_committed() {
    let map = Map { next: Offset(9), journal_base: Offset(0), nonce: 1, unsettled: offsets([8]) };
    let scope = Scope { group: "ab", topic: "c", partition: PartitionId(0) };
    let text = map.encode(&scope, Offset(8));

    for (elsewhere, base) in [
        (Scope { group: "a", topic: "bc", ..scope }, 8),
        (Scope { group: "c", topic: "ab", ..scope }, 8),
        (Scope { group: "abc", topic: "", ..scope }, 8),
        (Scope { partition: PartitionId(1), ..scope }, 8),
        (scope, 7),
        (scope, 0),
    ] {
        assert_eq!(
            Map::decode(&text, &elsewhere, Offset(base)),
            Err(MapError::Corrupt),
            "{elsewhere:?} {base}"
        );
    }
    assert_eq!(Map::decode(&text, &scope, Offset(8)), Ok(map));
}

#[test]
fn what_other_programs_write_is_foreign() {
    // Kafka Streams: version 2, a timestamp, processor metadata; base64 with padding.
    let streams = STANDARD
        .encode([&[2_u8][..], &1_700_000_000_000_i64.to_be_bytes(), &0_i32.to_be_bytes()].concat());
    // parallel-consumer: a magic byte per encoding, then the encoded offsets; base64 with padding.
    let parallel =
        b"lLJboBosOzZaAeEfFhHjJkKrR".map(|magic| STANDARD.encode([magic, 0, 3, 0b0000_0101]));
    let mut foreign = vec![
        String::new(),
        " ".into(),
        "{}".into(),
        r#"{"host":"a","pid":1}"#.into(),
        "null".into(),
        "1:3e8:0:0.1.".into(),
        "weir".into(),
        "weir1".into(),
        "weir.".into(),
        "weird1.".into(),
        "weir-1.".into(),
        "weir+2.".into(),
        "weir2".into(),
        "Weir1.".into(),
        "weir256.".into(),
        "weir01.AAAA".into(),
        " weir1.".into(),
        "we\u{ef}r1.".into(),
        streams,
    ];
    foreign.extend(parallel);

    for text in foreign {
        assert_eq!(Map::decode(&text, &SCOPE, Offset(0)), Err(MapError::Foreign), "{text:?}");
    }
    assert_eq!(Map::decode([0xff, 0xfe], &SCOPE, Offset(0)), Err(MapError::Foreign));
}

#[test]
fn another_releases_map_is_told_by_its_version() {
    for (text, version) in [("weir2.", 2), ("weir0.AAAA", 0), ("weir255.not base64 at all", 255)] {
        assert_eq!(
            Map::decode(text, &SCOPE, Offset(0)),
            Err(MapError::Version(version)),
            "{text:?}"
        );
    }
}

#[test]
fn a_sealed_map_that_makes_no_sense_is_corrupt() {
    let decode = |next: i64, count: u16, gaps: &[u8]| {
        let (next, count) = (next.to_be_bytes(), count.to_be_bytes());
        let text = sealed(&[&[0; 4], &next[..], &[0; 8], &count, gaps].concat(), 10);
        Map::decode(text, &SCOPE, Offset(10)).map(|map| map.unsettled)
    };
    assert_eq!(decode(13, 1, &[3, 0b0010_0000]), Ok(offsets([12])));

    for (what, next, count, gaps) in [
        ("next before the base", 9, 0, &[0][..]),
        ("unsettled at next", 12, 1, &[3, 0b0010_0000]),
        (
            "an offset beyond 2^63",
            i64::MAX,
            1,
            &[62, 0b1011_1111, 255, 255, 255, 255, 255, 255, 255],
        ),
        ("fewer gaps than counted", 20, 9, &[0, 0]),
        ("no gaps at all", 20, u16::MAX, &[]),
    ] {
        assert_eq!(decode(next, count, gaps), Err(MapError::Corrupt), "{what}");
    }
}

#[test]
fn gaps_are_read_to_the_last_bit() {
    assert_eq!(gaps::decode(&[0, 0b0011_1001], 3), Some(vec![0, 0, 5]));

    for (what, bytes, count) in [
        ("a gap too many", &[0, 0b0011_1001][..], 4),
        ("a gap cut short", &[0, 0b0011_1001, 0b1111_1000], 4),
        ("a byte left over", &[0, 0b0011_1001, 0], 3),
        ("filled up with a one", &[0, 0b0011_1001], 2),
        ("a parameter beyond 63", &[64, 0, 0, 0, 0, 0, 0, 0, 0, 0], 1),
        ("a gap of 64 bits", &[63, 0b1000_0000, 0, 0, 0, 0, 0, 0, 0, 0], 1),
        ("ones without end", &[0, 255, 255, 255, 255, 255, 255, 255, 255, 255], 1),
    ] {
        assert_eq!(gaps::decode(bytes, count), None, "{what}");
    }
}

proptest! {
    #[test]
    fn a_map_comes_back_as_it_was_written((base, map) in a_map()) {
        let text = map.encode(&SCOPE, base);

        prop_assert!(text.len() <= Map::TEXT_MAX, "{}", text.len());
        prop_assert_eq!(Map::decode(&text, &SCOPE, base), Ok(map));
    }

    #[test]
    fn gaps_take_the_fewest_bits_of_any_parameter(gaps in gaps(62, 60)) {
        let mut bytes = Vec::new();
        gaps::encode(&gaps, &mut bytes);

        let whole = |k| gaps.iter().map(|gap| cost(*gap, k)).sum::<usize>();
        let best = (0..64).min_by_key(|k| whole(*k)).unwrap();
        prop_assert_eq!(u32::from(bytes[0]), best);
        prop_assert_eq!(bytes.len(), 1 + whole(best).div_ceil(8));
        prop_assert_eq!(gaps::decode(&bytes, gaps.len()), Some(gaps));
    }

    #[test]
    fn no_metadata_makes_decoding_panic(
        junk in vec(any::<u8>(), 0..200),
        text in "(weir)?[0-9]{0,4}[.]?[A-Za-z0-9_=-]{0,60}",
        base in any::<i64>(),
    ) {
        prop_assert!(Map::decode(&junk, &SCOPE, Offset(base)).is_err());
        prop_assert!(Map::decode(&text, &SCOPE, Offset(base)).is_err());
        if let Ok(map) = Map::decode(sealed(&junk, base), &SCOPE, Offset(base)) {
            prop_assert!(map.unsettled.is_sorted());
            let again = map.encode(&SCOPE, Offset(base));
            prop_assert_eq!(Map::decode(again, &SCOPE, Offset(base)), Ok(map));
        }
    }
}
