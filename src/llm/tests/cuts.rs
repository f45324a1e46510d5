//! Recorded and generated bodies, cut in pieces and cut off.

use proptest::prelude::*;
use serde_json::Value;

use super::faults::refused;
use super::{Dialect, outcome, read};

const EXCHANGES: &str = include_str!("../../../tests/fixtures/ollama_exchanges.jsonl");

/// The answer's lines, read the plain way: all of it, then line by line, into values.
fn expected(body: &[u8]) -> Result<String, &'static str> {
    let text = String::from_utf8_lossy(body);
    let (whole, rest) = text.rsplit_once('\n').unwrap_or(("", &text));
    let mut answer = String::new();
    let mut done = false;
    let ended = whole.split('\n').map(|line| (line, true));
    for (line, ended) in ended.chain([(rest, false)]) {
        if line.trim().is_empty() {
            continue;
        }
        let value: Value = match serde_json::from_str(line) {
            Ok(value) => value,
            Err(error) if error.is_eof() && !ended => return Err("llm.truncated"),
            Err(_) => return Err("llm.bad_output"),
        };
        if value.get("error").is_some() {
            return Err("llm.server_error");
        }
        let said = value.get("response").or_else(|| value.pointer("/message/content"));
        if !done {
            answer += said.and_then(Value::as_str).unwrap_or_default();
        }
        done |= value["done"] == true;
        if done
            && answer.is_empty()
            && value["done_reason"] == "length"
            && value["eval_count"].is_null()
        {
            return Err("llm.context_overflow");
        }
    }
    if done { Ok(answer) } else { Err("llm.truncated") }
}

fn exchanges() -> impl Iterator<Item = Value> {
    EXCHANGES.lines().map(|line| serde_json::from_str(line).unwrap())
}

fn name(row: &Value) -> String {
    row["name"].as_str().unwrap().to_owned()
}

fn body(row: &Value) -> String {
    let chunks = row["response"]["chunks"].as_array().unwrap();
    chunks.iter().map(|chunk| chunk[1].as_str().unwrap()).collect()
}

/// The recorded bodies of status 200, with the dialect that they are written in.
fn recorded() -> Vec<(String, Dialect, Vec<u8>)> {
    let good = exchanges().filter(|row| row["response"]["status"] == 200);
    good.map(|row| {
        let path = row["request"]["path"].as_str().unwrap();
        let dialect = if path.starts_with("/v1") { Dialect::OpenAi } else { Dialect::Ollama };
        (name(&row), dialect, body(&row).into_bytes())
    })
    .collect()
}

#[test]
fn recorded_refusals_cut_off_anywhere_are_taken_by_their_words_or_by_their_status() {
    let mut refusals = 0;
    for row in exchanges() {
        // Some were never answered.
        let Some(status) = row["response"]["status"].as_u64().filter(|status| *status != 200)
        else {
            continue;
        };
        let status = status.try_into().unwrap();
        let body = body(&row);
        let known = [refused(status, &body).class(), refused(status, "").class()];
        for (at, _) in body.char_indices() {
            let class = refused(status, body.get(..at).unwrap()).class();
            assert!(known.contains(&class), "{} cut at {at}: {class}, not {known:?}", name(&row));
        }
        refusals += 1;
    }
    assert!(refusals > 5, "{refusals}");
}

#[test]
fn vectors_mean_the_same_whatever_the_chunks() {
    for (name, dialect, body) in recorded() {
        let whole = read(dialect, [body.as_slice()]);
        for size in [1, 2, 3, 5, 7, 64, 1000] {
            assert_eq!(read(dialect, body.chunks(size)), whole, "{name} in pieces of {size}");
        }
        for cut in 0..body.len() {
            let (head, tail) = body.split_at(cut);
            assert_eq!(read(dialect, [head, tail]), whole, "{name} in two at {cut}");
        }
    }
}

#[test]
fn vectors_cut_off_anywhere_are_never_an_answer_before_their_end() {
    for (name, dialect, body) in recorded() {
        for cut in 0..=body.len() {
            let body = &body[..cut];
            let read = outcome(read(dialect, body.chunks(97)));
            match dialect {
                Dialect::Ollama => assert_eq!(read, expected(body), "{name} cut at {cut}"),
                Dialect::OpenAi => {
                    let end = body.windows(22).any(|window| window == b"\"finish_reason\":\"lengt");
                    let cut_off = Err("llm.truncated");
                    assert!(
                        read == cut_off || end && read == Ok("Say hi\u{306b}\u{884c}".into()),
                        "{name} cut at {cut}: {read:?}"
                    );
                }
            }
        }
    }
}

/// What a server, or something before it, could send: pieces of both dialects, whole and broken.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        "{\"response\":\"a\",\"done\":false}",
        "{\"response\":\"\\ud83d\",\"done\":true}",
        "{\"done\":true,\"eval_count\":NaN}",
        "{\"error\":\"\"}",
        "{\"error\":\"x\"}",
        "{\"message\":{\"content\":\"b\"}}",
        "{\"message\":{\"content\":\"\",\"thinking\":\"h\",\"tool_calls\":[{\"function\":{}}]},\"done\":false}",
        "{\"message\":{\"content\":null},\"done\":true,\"done_reason\":\"length\",\"prompt_eval_count\":9}",
        "data: {\"choices\":[{\"delta\":{\"content\":\"c\"},\"finish_reason\":null}]}",
        "data: {\"choices\":[{\"message\":{\"content\":\"d\"},\"finish_reason\":\"stop\"}]}",
        "data: {\"object\":\"error\",\"message\":\"x\"}",
        "data: {\"choices\":[{\"delta\":{\"refusal\":\"r\"}}]}",
        "data: [DONE]",
        "data:",
        ": ping",
        "\u{feff}",
        "\n",
        "\r",
        "\r\n",
        "\n\n",
        " ",
        "{",
        "}",
        "\"",
        "\\",
        "\u{2028}",
    ]);
    prop_oneof![
        4 => known.prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn no_body_panics_and_none_depends_on_its_chunks(
        pieces in prop::collection::vec(piece(), 0..12),
        sizes in prop::collection::vec(1_usize..9, 1..5),
    ) {
        let body = pieces.concat();
        for dialect in [Dialect::Ollama, Dialect::OpenAi] {
            let whole = outcome(read(dialect, [body.as_slice()]));
            let mut rest = body.as_slice();
            let mut chunks = Vec::new();
            for size in sizes.iter().cycle() {
                let (chunk, tail) = rest.split_at((*size).min(rest.len()));
                chunks.push(chunk);
                rest = tail;
                if rest.is_empty() {
                    break;
                }
            }

            prop_assert_eq!(outcome(read(dialect, chunks)), whole, "{:?}", dialect);
        }
    }
}
