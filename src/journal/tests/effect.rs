use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::journal::{Effect, Effects, Error, Usage};
use crate::record::Offset;

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

fn effect(node: &str, visit: u32, update: &str) -> Effect {
    Effect {
        event_id: Uuid::from_u128(0x00c0_ffee),
        offset: Offset(41),
        node: node.to_owned(),
        visit,
        attempt: 1,
        update: raw(update),
        usage: None,
        took: None,
    }
}

#[test]
fn a_record_reads_as_documented() {
    let mut recorded = effect("llm_analysis", 0, r#"{"current_agent": "orchestrator"}"#);
    recorded.usage = Some(Usage { input_tokens: 112, output_tokens: 34 });
    recorded.took = Some(Duration::from_millis(2_750));

    assert_eq!(
        recorded.encode().unwrap(),
        concat!(
            r#"{"v":1,"event_id":"00000000-0000-0000-0000-000000c0ffee","offset":41,"#,
            r#""node":"llm_analysis","visit":0,"attempt":1,"#,
            r#""update":{"current_agent": "orchestrator"},"#,
            r#""usage":{"input_tokens":112,"output_tokens":34},"took_ms":2750}"#,
        )
    );
}

#[test]
fn fields_of_a_later_release_are_skipped() {
    let value =
        br#"{"v":1,"event_id":"00000000-0000-0000-0000-000000c0ffee","offset":41,"node":"n",
        "visit":2,"attempt":1,"update":null,"model":{"name":["x"]},"usage":null}"#;

    let read = Effect::decode(value).unwrap();

    assert_eq!(
        (read.node.as_str(), read.visit, read.update.get(), read.usage),
        ("n", 2, "null", None)
    );
}

#[test]
fn an_update_keeps_every_digit_and_any_depth() {
    let digits = "9".repeat(4_301);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));

    for update in [digits, deep, r#"{"a":1.0, "a":1e400}"#.to_owned()] {
        let read = Effect::decode(&effect("node", 0, &update).encode().unwrap()).unwrap();
        assert_eq!(read.update.get(), update);
    }
}

#[test]
fn a_record_of_another_version_is_told_as_such() {
    let later = effect("n", 0, "{}").encode().unwrap();
    let later = str::from_utf8(&later).unwrap().replace("\"v\":1", "\"v\":2");
    for (value, version) in [
        (later.as_str(), 2),
        (r#"{"v":2,"effects":[[1,2,3]]}"#, 2),
        (r#"{"v":0}"#, 0),
        (r#"{"deep":[[{"v":1}]],"v":18446744073709551615}"#, u64::MAX),
    ] {
        let told = Effect::decode(value.as_bytes()).unwrap_err();
        assert!(matches!(told, Error::Version(v) if v == version), "{value}: {told}");
    }
}

#[test]
fn what_is_no_record_is_refused() {
    let whole = String::from_utf8(effect("n", 7, "{}").encode().unwrap().to_vec()).unwrap();
    let array = r#"[1,"00000000-0000-0000-0000-000000c0ffee",41,"n",7,1,{},null]"#;
    let mut refused: Vec<_> = [
        "",
        " ",
        "null",
        "1",
        "{}",
        "[]",
        "\"v\"",
        "{\"v\":\"1\"}",
        "{\"v\":-1}",
        "{\"v\":1}",
        "{\"v\":1.0}",
        array,
    ]
    .map(str::to_owned)
    .into();
    for (part, instead) in [
        ("\"offset\":41", "\"offset\":-1"),
        ("\"offset\":41", "\"offset\":9223372036854775808"),
        ("\"offset\":41,", ""),
        ("\"visit\":7", "\"visit\":4294967296"),
        ("\"visit\":7", "\"visit\":7,\"visit\":8"),
        ("\"attempt\":1", "\"attempt\":1.5"),
        ("\"node\":\"n\"", "\"node\":null"),
        ("00000000-", "0000000g-"),
        ("\"update\":{}", "\"update\":{]"),
        ("\"update\":{},", ""),
        ("\"update\":{}", "\"update\":{},\"usage\":{\"input_tokens\":1}"),
        ("\"update\":{}", "\"update\":{},\"took_ms\":-1"),
    ] {
        assert!(whole.contains(part) || part.ends_with(','), "{part}");
        refused.push(whole.replacen(part, instead, 1));
    }
    refused.retain(|value| *value != whole);
    refused.extend((0..whole.len()).map(|length| whole.chars().take(length).collect()));
    refused.push(format!("{whole}{whole}"));

    for value in refused {
        let told = Effect::decode(value.as_bytes()).unwrap_err();
        assert!(matches!(told, Error::Malformed(_)), "{value}: {told}");
    }
}

#[test]
fn effects_are_found_by_node_and_visit() {
    let effects: Effects =
        [effect("a", 0, "1"), effect("a", 1, "2"), effect("b", 0, "3")].into_iter().collect();

    let found = |node, visit| effects.get(node, visit).map(|effect| effect.update.get());
    assert_eq!([found("a", 0), found("a", 1), found("b", 0)], [Some("1"), Some("2"), Some("3")]);
    assert_eq!([found("b", 1), found("c", 0)], [None, None]);
    assert_eq!((effects.len(), effects.is_empty()), (3, false));
}

#[test]
fn of_two_effects_of_one_visit_the_later_stays() {
    let effects: Effects = [effect("a", 0, "1"), effect("a", 0, "2")].into_iter().collect();

    assert_eq!(effects.get("a", 0).unwrap().update.get(), "2");
    assert_eq!(effects.len(), 1);
}

#[test]
fn what_is_added_to_a_clone_stays_there() {
    let before = Effects::default();
    let mut after = before.clone();

    after.insert(effect("a", 0, "1"));

    assert_eq!((before.len(), after.len()), (0, 1));
    assert!(before.is_empty());
}

proptest! {
    #[test]
    fn an_effect_comes_back_as_it_was_written(
        (id, offset, node) in (any::<u128>(), 0..=i64::MAX, ".{0,40}"),
        (visit, attempt) in any::<(u32, u32)>(),
        (usage, took) in any::<(Option<(u64, u64)>, Option<u64>)>(),
        (text, number, spaces) in (".{0,200}", -1e300..1e300, "[ \n\t]{0,5}"),
    ) {
        let text = serde_json::json!(text);
        let update = format!(r#"{{"t":{spaces}{text},"n":[{number:e}{spaces}]}}"#);
        let usage =
            usage.map(|(input_tokens, output_tokens)| Usage { input_tokens, output_tokens });
        let written = Effect {
            event_id: Uuid::from_u128(id),
            offset: Offset(offset),
            node,
            visit,
            attempt,
            update: raw(&update),
            usage,
            took: took.map(Duration::from_millis),
        };

        let value = written.encode().unwrap();
        let read = Effect::decode(&value).unwrap();

        prop_assert_eq!(read.event_id, written.event_id);
        prop_assert_eq!((read.offset, read.visit, read.attempt), (written.offset, visit, attempt));
        prop_assert_eq!((&read.node, read.usage, read.took), (&written.node, usage, written.took));
        prop_assert_eq!(read.update.get(), &update);
        prop_assert!(value.len() <= update.len() + 6 * written.node.len() + 288);
    }

    #[test]
    fn junk_is_refused_and_never_more_than_it_is(
        junk in vec(any::<u8>(), 0..300), at: prop::sample::Index, with in vec(any::<u8>(), 0..4),
    ) {
        prop_assert!(Effect::decode(&junk).is_err());
        let whole = effect("node", 3, r#"{"answer": [1, {"b": null}]}"#);
        let mut value = whole.encode().unwrap().to_vec();
        let at = at.index(value.len());
        value.splice(at..(at + with.len()).min(value.len()), with);
        if let Ok(read) = Effect::decode(&value) {
            prop_assert!(read.node.len() + read.update.get().len() < value.len());
        }
    }
}
