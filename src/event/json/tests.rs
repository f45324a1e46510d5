use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn value(text: &str) -> Result<Value, SyntaxKind> {
    Tree::parse(text).map(|tree| tree.to_value()).map_err(|syntax| syntax.kind)
}

fn written(text: &str) -> String {
    let mut out = String::new();
    Tree::parse(text).unwrap().push(&mut out);
    out
}

#[test]
fn the_grammar_is_that_of_json() {
    for (text, expected) in [
        (" \t\r\n[ ] ", json!([])),
        (
            r#"{"a" : [1, -2.5e3, true, false, null, "x", {}]}"#,
            json!({"a": [1, -2500.0, true, false, null, "x", {}]}),
        ),
        ("-0", json!(0)),
        ("-0.0", json!(-0.0)),
        ("1E+2", json!(100.0)),
        ("18446744073709551615", json!(u64::MAX)),
        ("-9223372036854775808", json!(i64::MIN)),
    ] {
        assert_eq!(value(text), Ok(expected), "{text}");
    }
}

#[test]
fn each_fault_is_named_where_it_lies() {
    for (text, at, kind) in [
        ("", 0, SyntaxKind::Value),
        (" x", 1, SyntaxKind::Value),
        ("\u{feff}1", 0, SyntaxKind::Value),
        ("[1,]", 3, SyntaxKind::Value),
        ("-", 1, SyntaxKind::Value),
        ("-NaN", 1, SyntaxKind::Value),
        ("nul", 0, SyntaxKind::Value),
        ("{a:1}", 1, SyntaxKind::Key),
        (r#"{"a":1,}"#, 7, SyntaxKind::Key),
        (r#"{"a" 1}"#, 5, SyntaxKind::Colon),
        ("[1 2]", 3, SyntaxKind::Comma),
        ("[1}", 2, SyntaxKind::Comma),
        ("[01]", 2, SyntaxKind::Comma),
        ("[1.]", 2, SyntaxKind::Comma),
        ("[1e+]", 2, SyntaxKind::Comma),
        ("[", 1, SyntaxKind::Value),
        (r#""a"#, 2, SyntaxKind::Unclosed),
        ("\"a\nb\"", 2, SyntaxKind::Control),
        (r#""\x41""#, 1, SyntaxKind::Escape),
        (r#""\u12""#, 1, SyntaxKind::Escape),
        (r#""\u+123""#, 1, SyntaxKind::Escape),
        (r#""\ud83d\u00""#, 7, SyntaxKind::Escape),
        ("1 // one", 2, SyntaxKind::Trailing),
        ("{}\0", 2, SyntaxKind::Trailing),
    ] {
        assert_eq!(Tree::parse(text).unwrap_err(), Syntax { at, kind }, "{text}");
    }
}

#[test]
fn numbers_beyond_plain_json_are_read() {
    for text in ["NaN", "Infinity", "-Infinity", "1e400", "-1e400"] {
        assert_eq!(value(text), Ok(Value::Null), "{text}");
        assert_eq!(written(text), "null");
        assert!(!Tree::parse(text).unwrap().is_plain());
    }
    assert_eq!(value("1e-400"), Ok(json!(0.0)));
    assert_eq!(value("18446744073709551616"), Ok(json!(18_446_744_073_709_551_616.0)));
    assert_eq!(written("18446744073709551616"), "18446744073709551616");
}

#[test]
fn integers_are_exact_up_to_4300_digits() {
    let longest = "7".repeat(INTEGER_DIGITS_MAX);

    assert_eq!(written(&longest), longest);
    assert_eq!(written(&format!("-{longest}")), format!("-{longest}"));
    assert_eq!(value(&longest), Ok(Value::Null));
    assert_eq!(value(&format!("{longest}7")), Err(SyntaxKind::Integer));
    assert_eq!(value(&format!("{longest}7.0")), Ok(Value::Null));
}

#[test]
fn the_last_of_repeated_keys_wins_in_the_place_of_the_first() {
    assert_eq!(written(r#"{"a":1,"b":2,"\u0061":{"c":3,"c":4}}"#), r#"{"a":{"c":4},"b":2}"#);
}

#[test]
fn lone_surrogates_become_replacement_characters() {
    for (text, expected) in [
        (r#""\ud83d\ude80""#, "\u{1f680}"),
        (r#""a\ud800b""#, "a\u{fffd}b"),
        (r#""\ude80\ud83d""#, "\u{fffd}\u{fffd}"),
        (r#""\ud83d\ud83d\ude80""#, "\u{fffd}\u{1f680}"),
        (r#""\ud83d\n""#, "\u{fffd}\n"),
        (r#""\b\f\n\r\t\"\\\/\u0000""#, "\u{8}\u{c}\n\r\t\"\\/\0"),
    ] {
        assert_eq!(value(text), Ok(json!(expected)), "{text}");
    }
    assert_eq!(value(r#"{"\ud800":1}"#), Ok(json!({"\u{fffd}\u{fffd}\u{fffd}": 1})));
    assert!(!Tree::parse(r#"{"\ud800":1}"#).unwrap().is_plain());
    assert!(Tree::parse(r#"{"\ud83d\ude80":1}"#).unwrap().is_plain());
}

#[test]
fn nesting_ends_at_its_limit() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);

    assert!(Tree::parse(&nested(DEPTH_MAX)).is_ok());
    assert_eq!(value(&nested(DEPTH_MAX + 1)), Err(SyntaxKind::Depth));
    assert_eq!(value(&r#"{"a":"#.repeat(DEPTH_MAX + 1)), Err(SyntaxKind::Depth));
}

#[test]
fn an_excerpt_takes_the_room_it_has_when_written() {
    let text = "a\"\n\u{1}é\u{1f680}";
    for room in 0..30 {
        let mut out = String::new();
        push_text(&mut out, excerpt(text, room));

        assert!(out.len() - 2 <= room, "{room}: {out}");
    }
    assert_eq!(excerpt(text, 17), text);
    assert_eq!(excerpt(text, 16), "a\"\n\u{1}é");
}

/// Any value of plain JSON, keys repeating now and then.
fn plain() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((".{0,3}", inner), 0..5)
                .prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

/// Text that looks like JSON, and often is.
fn likely() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"a\"",
        "\"a\":",
        "\"\\n\"",
        "\"\\ud83d\\ude80\"",
        "\"\\u00e9\"",
        "\"é\"",
        "0",
        "-1",
        "01",
        "1.5",
        "1e5",
        "-",
        "1.",
        "true",
        "false",
        "null",
        "nul",
        " ",
        "\n",
        "\"",
        "\\",
        "\t\"",
        "x",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn same_as_serde_json(text: &str) -> Result<(), TestCaseError> {
    match serde_json::from_str::<Value>(text) {
        // serde_json takes an integer's `-0` for a float; Python and this reader for 0.
        Ok(plain) if !text.contains("-0") => prop_assert_eq!(value(text), Ok(plain), "{}", text),
        Ok(_) => prop_assert!(value(text).is_ok(), "{}", text),
        // Python takes `1e501` for infinity, and so does this reader.
        Err(error) if error.to_string().starts_with("number out of range") => {}
        Err(_) => prop_assert!(value(text).is_err(), "{}", text),
    }
    Ok(())
}

proptest! {
    #[test]
    fn plain_json_reads_as_serde_json_reads_it(plain in plain()) {
        same_as_serde_json(&plain.to_string())?;
        same_as_serde_json(&serde_json::to_string_pretty(&plain).unwrap())?;
    }

    #[test]
    fn what_serde_json_refuses_is_refused(text in likely()) {
        same_as_serde_json(&text)?;
    }

    #[test]
    fn strings_are_written_as_serde_json_writes_them(text in any::<String>()) {
        let mut out = String::new();
        push_text(&mut out, &text);
        prop_assert_eq!(out, serde_json::to_string(&text).unwrap());
    }
}

#[test]
fn an_escape_is_found_wherever_it_stands() {
    for length in 0..100 {
        for at in 0..length {
            for escaped in ["\"", "\\", "\n", "\u{1}"] {
                let text = format!("{}{escaped}{}", "ü".repeat(at), "x".repeat(length - at));

                let mut written = String::new();
                push_text(&mut written, &text);

                assert_eq!(serde_json::from_str::<String>(&written).unwrap(), text);
            }
        }
    }
}
