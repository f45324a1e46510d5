//! What a body says, line by line and event by event.

use std::time::Duration;

use crate::llm::error::Fault;
use crate::llm::json::mend;
use crate::llm::lines::Lines;
use crate::llm::model::{DoneReason, ServerTimings, Usage};
use crate::llm::reader::{Bounds, Charset, Draft};

use super::{Dialect, outcome, read, read_within};

fn ollama(body: &str) -> Result<Draft, Fault> {
    read(Dialect::Ollama, [body.as_bytes()])
}

fn openai(body: &str) -> Result<Draft, Fault> {
    read(Dialect::OpenAi, [body.as_bytes()])
}

#[test]
fn usage_timings_and_the_reason_are_kept() {
    let draft = ollama(concat!(
        r#"{"response":"a","done":false}"#,
        "\n",
        r#"{"done":true,"done_reason":"length","context":[1,2],"total_duration":9,"load_duration":1000,"#,
        r#""prompt_eval_count":7,"prompt_eval_duration":2000,"eval_count":3,"eval_duration":-9223372036854775808}"#,
    ));

    let draft = draft.unwrap();
    assert_eq!(draft.usage, Some(Usage { input_tokens: 7, output_tokens: 3 }));
    assert_eq!(draft.done_reason, DoneReason::Length);
    let nanos = Duration::from_nanos;
    let server = ServerTimings { load: nanos(1000), prompt: nanos(2000), answer: Duration::ZERO };
    assert_eq!(draft.server, server);
}

#[test]
fn ollamas_lines_are_taken_as_they_come() {
    let check = |body: &str, expected: &str| {
        assert_eq!(outcome(ollama(body)), Ok(expected.to_owned()), "{body:?}");
    };
    let (a, b) = (r#"{"response":"a"}"#, r#"{"response":"b","done":true}"#);
    check(&format!("{a}\n{b}\n"), "ab");
    check(&format!("{a}\n{b}"), "ab");
    check(&format!("{a}\r\n\r\n{b}\r\n"), "ab");
    check(&format!("{a}\r{b}\r"), "ab");
    check(&format!("\n \n{a}\n\n{b}\n\n"), "ab");
    check(&format!("\u{feff}{a}\n{b}\n"), "ab");
    check(&format!("{a}\n{b}\n{a}\n{b}\n"), "ab");
    check(&format!("{{\"error\":\"\"}}\n{b}\n"), "b");
    check("{\"response\":\"a\u{2028}b\u{85}c\",\"done\":true}\n", "a\u{2028}b\u{85}c");
    check(r#"{"response":"a","thinking":"hm","done":true}"#, "a");
    check(r#"{"message":{"content":"a","thinking":"hm"},"done":true}"#, "a");
}

#[test]
fn what_does_not_matter_may_be_wrong() {
    let check = |body: &str, expected: &str| {
        assert_eq!(outcome(ollama(body)), Ok(expected.to_owned()), "{body:?}");
    };
    check(r#"{"response":"x","done":true,"total_duration":NaN,"eval_count":-Infinity}"#, "x");
    check(r#"{"response":"x","done":true,"eval_count":"many","model":5}"#, "x");
    check(r#"{"response":"x","response":"y","done":false,"done":true}"#, "y");
    check(r#"{"response":"\ud83d\ude80\ud83d!","done":true}"#, "\u{1f680}\u{fffd}!");
    check(r#"{"response":"NaN \" \\","done":true}"#, "NaN \" \\");
    check(r#"{"response":null,"done":true}"#, "");
    check(r#"{"done":true}"#, "");
}

#[test]
fn a_stream_without_its_end_is_cut_off() {
    let bodies = [
        "",
        "\n\n",
        "{\"response\":\"a\",\"done\":false}\n",
        "{\"response\":\"a\",\"done\":null}\n",
        "{\"response\":\"a\",\"done\":\"true\"}\n",
        "{\"response\":\"a\",\"done\":1}\n",
        "{\"response\":\"a\",\"done\":tr",
        "{\"response\":\"a\",\"eval_count\":-",
        "{\"response\":\"a\",\"done\":true}\n{\"resp",
    ];
    for body in bodies {
        assert_eq!(outcome(ollama(body)), Err("llm.truncated"), "{body:?}");
    }
}

#[test]
fn what_is_no_line_of_a_stream_is_not_understood() {
    let bodies = [
        "{\"response\":\"a\n\",\"done\":true}\n",
        "{\"response\":5,\"done\":true}\n",
        "{\"response\":[\"a\"],\"done\":true}\n",
        "{\"response\":\"a\",\"done\":true}\n{\"response\":5}\n",
        "{\"response\":\"a\",\"done\":true}\n<html>\n",
        "{\"response\":\"a\"}{\"done\":true}\n",
        "[1,2]\n",
        "null\n",
        "5",
        "data: {\"response\":\"x\",\"done\":true}\n",
        "<html><body>proxy</body></html>",
        "\u{1f}\u{8b}\u{8}\u{0}",
    ];
    for body in bodies {
        assert_eq!(outcome(ollama(body)), Err("llm.bad_output"), "{body:?}");
    }
}

#[test]
fn an_error_anywhere_is_an_error() {
    let check = |body: &str, class| assert_eq!(outcome(ollama(body)), Err(class), "{body:?}");
    check("{\"error\":\"model requires more system memory\"}\n", "llm.server_error");
    check("{\"response\":\"x\",\"error\":\"bad\",\"done\":true}\n", "llm.server_error");
    check("{\"response\":\"x\",\"done\":true}\n{\"error\":\"bad\"}\n", "llm.server_error");
    check("{\"error\":{\"message\":\"bad\"}}\n", "llm.server_error");
    check("{\"error\":true}", "llm.server_error");
    check("{\"error\":\"the input exceeds the context length\"}", "llm.context_overflow");
    check("{\"error\":\"invalid format: \\\"x\\\"\"}", "llm.invalid_request");
}

#[test]
fn bytes_that_are_no_text_become_replacement_characters() {
    let body = b"{\"response\":\"a\xff\xe2\x82\",\"done\":true}\n";

    assert_eq!(outcome(read(Dialect::Ollama, body.chunks(1))), Ok("a\u{fffd}\u{fffd}".to_owned()));
}

const A: &str = r#"data: {"choices":[{"index":0,"delta":{"content":"a"}}]}"#;
const B: &str = r#"data: {"choices":[{"index":0,"delta":{"content":"b"}}]}"#;

/// Checks a completion, in one piece and byte by byte.
fn check_completion(body: &str, expected: Result<&str, &'static str>) {
    let expected = expected.map(str::to_owned);
    let bytewise = outcome(read(Dialect::OpenAi, body.as_bytes().chunks(1)));
    assert_eq!(outcome(openai(body)), expected, "{body:?}");
    assert_eq!(bytewise, expected, "{body:?} byte by byte");
}

#[test]
fn completions_are_taken_streamed() {
    let stop = r#"data: {"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
    let second = r#"data: {"choices":[{"index":1,"delta":{"content":"x"}}]}"#;
    let check = check_completion;
    check(&format!("{A}\n\n{B}\n\ndata: [DONE]\n\n"), Ok("ab"));
    check(&format!(": ping\r\n\r\n{A}\r\n\r\nid: 1\r\n{B}\r\n\r\ndata:[DONE]\r\n\r\n"), Ok("ab"));
    check(&format!("{A}\n\n{stop}\n\n"), Ok("a"));
    check(&format!("\u{feff}{A}\n\ndata: [DONE]"), Ok("a"));
    check(&format!("{A}\n\ndata: [DONE]\n\n{B}\n\n"), Ok("a"));
    check(&format!("{A}\n\n{second}\n\ndata: [DONE]\n\n"), Ok("a"));
    check("data: {\"choices\":\ndata: [{}]}\n\ndata: [DONE]\n\n", Ok(""));
    let no = r#"data: {"choices":[{"delta":{"content":null,"refusal":"no"}}]}"#;
    check(&format!("{no}\n\n{no}\n\n{stop}\n\ndata: [DONE]\n\n"), Ok("nono"));
}

#[test]
fn completions_are_taken_whole() {
    let whole = "{\"choices\":[{\"message\":{\"content\":\"w\"},\n \"finish_reason\":\"stop\"}]}";
    let tools = r#"{"choices":[{"message":{"content":null},"finish_reason":"tool_calls"}]}"#;
    check_completion(whole, Ok("w"));
    check_completion(&format!(" \n{whole}\n"), Ok("w"));
    check_completion(&format!("\u{feff}{whole}"), Ok("w"));
    check_completion(tools, Ok(""));
    let no = r#"{"choices":[{"message":{"content":null,"refusal":"no"},"finish_reason":"stop"}]}"#;
    check_completion(no, Ok("no"));
}

#[test]
fn completions_are_refused() {
    let open = r#"{"choices":[{"message":{"content":"w"},"finish_reason":null}]}"#;
    let number = r#"data: {"choices":[{"delta":{"content":5}}]}"#;
    let error = r#"data: {"error":{"message":"gone"}}"#;
    let long = r#"{"error":{"message":"long","code":"context_length_exceeded"}}"#;
    let check = check_completion;
    check("", Err("llm.truncated"));
    check("\u{feff}", Err("llm.truncated"));
    check("\u{feff}\u{feff}{\"choices\":[]}", Err("llm.bad_output"));
    check(&format!("{A}\n\n"), Err("llm.truncated"));
    check(&format!("{A}\n\ndata: {{\"choi"), Err("llm.truncated"));
    check(&format!("{A}\n\ndata: [DO"), Err("llm.truncated"));
    check("{\"choices\":[{\"message\":{\"content\":\"w\"},\"fin", Err("llm.truncated"));
    check(open, Err("llm.truncated"));
    check("<html></html>", Err("llm.bad_output"));
    check("[]", Err("llm.bad_output"));
    check(&format!("{number}\n\n"), Err("llm.bad_output"));
    check("data: nonsense\n\n", Err("llm.bad_output"));
    check(&format!("{A}\n\n{error}\n\n"), Err("llm.server_error"));
    check(long, Err("llm.context_overflow"));
}

#[test]
fn what_has_no_choice_is_no_empty_answer() {
    let flat = |message| format!(r#"{{"object":"error","message":"{message}","code":400}}"#);
    let (flat_error, flat_long) = (flat("gone"), flat("maximum context length is 4096"));
    let check = check_completion;
    check("data: [DONE]\n\n", Err("llm.bad_output"));
    check("data: {\"choices\":[]}\n\ndata: [DONE]\n\n", Err("llm.bad_output"));
    check("data: {\"id\":\"x\"}\n\ndata: [DONE]\n\n", Err("llm.bad_output"));
    check(&format!("data: {flat_error}\n\ndata: [DONE]\n\n"), Err("llm.server_error"));
    check(&format!("{A}\n\ndata: {flat_error}\n\ndata: [DONE]\n\n"), Err("llm.server_error"));
    check(&format!("data: {flat_long}\n\ndata: [DONE]\n\n"), Err("llm.context_overflow"));
    check(&flat_error, Err("llm.server_error"));
    check("data: {\"object\":\"error\"}\n\ndata: [DONE]\n\n", Err("llm.server_error"));
}

#[test]
fn usage_may_come_after_the_reason() {
    let draft = openai(concat!(
        "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"length\"}]}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":3}}\n\ndata: [DONE]\n\n",
    ));

    let draft = draft.unwrap();
    assert_eq!(draft.usage, Some(Usage { input_tokens: 11, output_tokens: 3 }));
    assert_eq!(draft.done_reason, DoneReason::Length);
}

#[test]
fn a_body_ends_at_its_limits() {
    let bounds = Bounds { answer: 4, line: 40 };
    let check = |dialect, body: &str, expected: Result<&str, &'static str>| {
        let read = outcome(read_within(dialect, bounds, body.as_bytes().chunks(3)));
        assert_eq!(read, expected.map(str::to_owned), "{body:?}");
    };
    let (ollama, openai) = (Dialect::Ollama, Dialect::OpenAi);
    check(ollama, "{\"response\":\"abcd\"}\n{\"done\":true}\n", Ok("abcd"));
    check(ollama, "{\"response\":\"abcde\"}\n{\"done\":true}\n", Err("llm.too_large"));
    check(ollama, "{\"response\":\"abc\"}\n{\"response\":\"de\"}\n", Err("llm.too_large"));
    check(ollama, &format!("{{\"done\":true{}}}\n", " ".repeat(27)), Ok(""));
    check(ollama, &format!("{{\"done\":true{}}}\n", " ".repeat(28)), Err("llm.too_large"));
    check(ollama, &"x".repeat(41), Err("llm.too_large"));
    let choice = "data: {\"choices\":[{}]}\n\n";
    check(openai, &format!("{choice}data: [DONE]{}\n\n", " ".repeat(28)), Ok(""));
    check(openai, &format!("{choice}data: [DONE]{}\n\n", " ".repeat(29)), Err("llm.too_large"));
    check(openai, &"data: xxxxxxxxxxxx\n".repeat(4), Err("llm.too_large"));
    check(openai, &format!("{{{}", " ".repeat(40)), Err("llm.too_large"));
}

#[test]
fn lines_are_the_same_whatever_the_chunks() {
    let body = b"\xef\xbb\xbfa\nb\r\nc\rd\r\r\n\n\xe2\x82\xace";
    let expected: [&[u8]; 7] = [b"a", b"b", b"c", b"d", b"", b"", b"\xe2\x82\xace"];
    for size in 1..=body.len() {
        let mut lines = Lines::new(100);
        let mut seen = Vec::new();
        for chunk in body.chunks(size) {
            lines
                .push(chunk, |line| {
                    seen.push(line.to_vec());
                    Ok(())
                })
                .unwrap();
        }
        seen.push(lines.finish());

        assert_eq!(seen, expected, "in pieces of {size}");
    }
}

#[test]
fn mending_touches_only_what_is_broken() {
    let check = |json: &[u8], expected: &str| assert_eq!(mend(json), expected);
    check(
        br#"{"a":[NaN,-Infinity,Infinity],"NaN":"Infinity"}"#,
        r#"{"a":[null,null,null],"NaN":"Infinity"}"#,
    );
    check(br#""\ud800""#, r#""\ufffd""#);
    check(
        br#""\udc00\ud800\udc00\ud800x\ud800\u0041""#,
        r#""\ufffd\ud800\udc00\ufffdx\ufffd\u0041""#,
    );
    check(br#""\\ud800\"NaN\"""#, r#""\\ud800\"NaN\"""#);
    check(b"\"\xff", "\"\u{fffd}");
    check(br#""\"#, r#""\"#);
    check(b"\"\\\xe2\x82\xac\"", "\"\\\u{20ac}\"");
}

#[test]
fn a_named_charset_is_honoured() {
    let check = |content_type: &str, expected| assert_eq!(Charset::of(content_type), expected);
    check("application/x-ndjson", Charset::Utf8);
    check("application/x-ndjson; charset=utf-8", Charset::Utf8);
    check("text/plain; x=y; Charset=\"ISO-8859-1\"", Charset::Latin1);
    check("", Charset::Utf8);

    assert_eq!(&*Charset::Latin1.decode(b"caf\xe9"), "caf\u{e9}".as_bytes());
    assert_eq!(&*Charset::Utf8.decode(b"caf\xe9"), b"caf\xe9");
}
