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
    assert_eq!(
        draft.usage,
        Some(Usage {
            input_tokens: 7,
            output_tokens: 3
        })
    );
    assert_eq!(draft.done_reason, DoneReason::Length);
    let nanos = Duration::from_nanos;
    let server = ServerTimings {
        load: nanos(1000),
        prompt: nanos(2000),
        answer: Duration::ZERO,
    };
    assert_eq!(draft.server, server);
}

#[test]
fn ollamas_lines_are_taken_as_they_come() {
    let check = |body: &str, expected: Result<&str, &'static str>| {
        assert_eq!(
            outcome(ollama(body)),
            expected.map(str::to_owned),
            "{body:?}"
        );
    };
    let bad = Err("llm.bad_output");
    let cut = Err("llm.truncated");
    let error = Err("llm.server_error");
    check(
        "{\"response\":\"a\",\"done\":false}\n{\"response\":\"b\",\"done\":true}\n",
        Ok("ab"),
    );
    check(
        "{\"response\":\"a\"}\r\n\r\n{\"response\":\"b\",\"done\":true}\r\n",
        Ok("ab"),
    );
    check(
        "{\"response\":\"a\"}\r{\"response\":\"b\",\"done\":true}\r",
        Ok("ab"),
    );
    check("\n \n{\"response\":\"a\",\"done\":true}", Ok("a"));
    check("\u{feff}{\"response\":\"a\",\"done\":true}\n", Ok("a"));
    check(
        "{\"response\":\"a\",\"done\":true}\n{\"response\":\"late\",\"done\":true}\n",
        Ok("a"),
    );
    check(
        "{\"response\":\"a\u{2028}b\u{85}c\",\"done\":true}\n",
        Ok("a\u{2028}b\u{85}c"),
    );
    check(
        "{\"response\":\"x\",\"done\":true,\"total_duration\":NaN,\"eval_count\":-Infinity}\n",
        Ok("x"),
    );
    check(
        "{\"response\":\"x\",\"response\":\"y\",\"done\":false,\"done\":true}\n",
        Ok("y"),
    );
    check(
        "{\"response\":\"x\",\"done\":true,\"eval_count\":\"many\",\"model\":5}\n",
        Ok("x"),
    );
    check(
        "{\"response\":\"\\ud83d\\ude80\\ud83d!\",\"done\":true}\n",
        Ok("\u{1f680}\u{fffd}!"),
    );
    check(
        "{\"response\":\"NaN \\\" \\\\\",\"done\":true}\n",
        Ok("NaN \" \\"),
    );
    check("{\"done\":true}\n", Ok(""));
    check("{\"response\":null,\"done\":true}\n", Ok(""));
    check(
        "{\"error\":\"\"}\n{\"response\":\"a\",\"done\":true}\n",
        Ok("a"),
    );
    check(
        "{\"message\":{\"role\":\"assistant\",\"content\":\"a\",\"thinking\":\"b\"},\"done\":true}\n",
        Ok("a"),
    );
    check(
        "{\"response\":\"a\",\"thinking\":\"hm\",\"done\":true}",
        Ok("a"),
    );

    check("", cut);
    check("\n\n", cut);
    check("{\"response\":\"a\",\"done\":false}\n", cut);
    check("{\"response\":\"a\",\"done\":null}\n", cut);
    check("{\"response\":\"a\",\"done\":\"true\"}\n", cut);
    check("{\"response\":\"a\",\"done\":1}\n", cut);
    check("{\"response\":\"a\",\"done\":tr", cut);
    check("{\"response\":\"a\",\"done\":true}\n{\"resp", cut);

    check("{\"response\":\"a\n\",\"done\":true}\n", bad);
    check("{\"response\":5,\"done\":true}\n", bad);
    check("{\"response\":[\"a\"],\"done\":true}\n", bad);
    check(
        "{\"response\":\"a\",\"done\":true}\n{\"response\":5}\n",
        bad,
    );
    check("{\"response\":\"a\",\"done\":true}\n<html>\n", bad);
    check("[1,2]\n", bad);
    check("null\n", bad);
    check("5", bad);
    check("data: {\"response\":\"x\",\"done\":true}\n", bad);
    check("<html><body>proxy</body></html>", bad);
    check("{\"response\":\"a\"}{\"done\":true}\n", bad);
    check("\u{1f}\u{8b}\u{8}\u{0}", bad);

    check("{\"error\":\"model requires more system memory\"}\n", error);
    check(
        "{\"response\":\"x\",\"error\":\"bad\",\"done\":true}\n",
        error,
    );
    check(
        "{\"response\":\"x\",\"done\":true}\n{\"error\":\"bad\"}\n",
        error,
    );
    check("{\"error\":{\"message\":\"bad\"}}\n", error);
    check("{\"error\":true}", error);
    check(
        "{\"error\":\"the input length exceeds the context length\"}",
        Err("llm.context_overflow"),
    );
    check(
        "{\"error\":\"invalid format: \\\"x\\\"\"}",
        Err("llm.invalid_request"),
    );
}

#[test]
fn bytes_that_are_no_text_become_replacement_characters() {
    let body = b"{\"response\":\"a\xff\xe2\x82\",\"done\":true}\n";

    assert_eq!(
        outcome(read(Dialect::Ollama, body.chunks(1))),
        Ok("a\u{fffd}\u{fffd}".to_owned())
    );
}

#[test]
fn completions_are_taken_streamed_or_whole() {
    let check = |body: &str, expected: Result<&str, &'static str>| {
        assert_eq!(
            outcome(openai(body)),
            expected.map(str::to_owned),
            "{body:?}"
        );
        let bytewise = outcome(read(Dialect::OpenAi, body.as_bytes().chunks(1)));
        assert_eq!(
            bytewise,
            expected.map(str::to_owned),
            "{body:?} byte by byte"
        );
    };
    let delta = |text: &str| {
        format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}")
    };
    let (a, b) = (delta("a"), delta("b"));
    check(&format!("{a}\n\n{b}\n\ndata: [DONE]\n\n"), Ok("ab"));
    check(
        &format!(": ping\r\n\r\n{a}\r\n\r\nevent: x\r\nid: 1\r\n{b}\r\n\r\ndata:[DONE]\r\n\r\n"),
        Ok("ab"),
    );
    check(
        &format!(
            "{a}\n\ndata: {{\"choices\":[{{\"delta\":{{}},\"finish_reason\":\"stop\"}}]}}\n\n"
        ),
        Ok("a"),
    );
    check(&format!("\u{feff}{a}\n\ndata: [DONE]"), Ok("a"));
    check(&format!("{a}\n\ndata: [DONE]\n\n{b}\n\n"), Ok("a"));
    check(
        "data: {\"choices\":[{\"index\":1,\"delta\":{\"content\":\"x\"}}]}\n\ndata: [DONE]\n\n",
        Ok(""),
    );
    check(
        "data: {\"choices\":\ndata: [{\"delta\":{\"content\":\"x\"}}]}\n\ndata: [DONE]\n\n",
        Ok("x"),
    );
    let whole = "{\"choices\": [{\"message\": {\"content\": \"w\"}, \"finish_reason\": \"stop\"}],\n \"usage\": null}";
    check(whole, Ok("w"));
    check(&format!(" \n{whole}\n"), Ok("w"));
    check(&format!("\u{feff}{whole}"), Ok("w"));
    check(
        "{\"choices\":[{\"message\":{\"content\":null},\"finish_reason\":\"tool_calls\"}]}",
        Ok(""),
    );

    check("", Err("llm.truncated"));
    check(&format!("{a}\n\n"), Err("llm.truncated"));
    check(&format!("{a}\n\ndata: {{\"choi"), Err("llm.truncated"));
    check(
        "{\"choices\":[{\"message\":{\"content\":\"w\"},\"finish",
        Err("llm.truncated"),
    );
    check(
        "{\"choices\":[{\"message\":{\"content\":\"w\"},\"finish_reason\":null}]}",
        Err("llm.truncated"),
    );
    check("<html></html>", Err("llm.bad_output"));
    check("[]", Err("llm.bad_output"));
    check(
        "data: {\"choices\":[{\"delta\":{\"content\":5}}]}\n\n",
        Err("llm.bad_output"),
    );
    check("data: nonsense\n\n", Err("llm.bad_output"));
    check(
        &format!("{a}\n\ndata: {{\"error\":{{\"message\":\"gone\"}}}}\n\n"),
        Err("llm.server_error"),
    );
    check(
        "{\"error\":{\"message\":\"long\",\"code\":\"context_length_exceeded\"}}",
        Err("llm.context_overflow"),
    );
}

#[test]
fn usage_may_come_after_the_reason() {
    let draft = openai(concat!(
        "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"length\"}]}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":3}}\n\ndata: [DONE]\n\n",
    ));

    let draft = draft.unwrap();
    assert_eq!(
        draft.usage,
        Some(Usage {
            input_tokens: 11,
            output_tokens: 3
        })
    );
    assert_eq!(draft.done_reason, DoneReason::Length);
}

#[test]
fn a_body_ends_at_its_limits() {
    let bounds = Bounds {
        answer: 4,
        line: 40,
    };
    let check = |dialect, body: &str, expected: Result<&str, &'static str>| {
        let read = outcome(read_within(dialect, bounds, body.as_bytes().chunks(3)));
        assert_eq!(read, expected.map(str::to_owned), "{body:?}");
    };
    let (ollama, openai) = (Dialect::Ollama, Dialect::OpenAi);
    check(
        ollama,
        "{\"response\":\"abcd\"}\n{\"done\":true}\n",
        Ok("abcd"),
    );
    check(
        ollama,
        "{\"response\":\"abcde\"}\n{\"done\":true}\n",
        Err("llm.too_large"),
    );
    check(
        ollama,
        "{\"response\":\"abc\"}\n{\"response\":\"de\"}\n",
        Err("llm.too_large"),
    );
    check(
        ollama,
        &format!("{{\"done\":true{}}}\n", " ".repeat(27)),
        Ok(""),
    );
    check(
        ollama,
        &format!("{{\"done\":true{}}}\n", " ".repeat(28)),
        Err("llm.too_large"),
    );
    check(ollama, &"x".repeat(41), Err("llm.too_large"));
    check(
        openai,
        &format!("data: [DONE]{}\n\n", " ".repeat(28)),
        Ok(""),
    );
    check(
        openai,
        &format!("data: [DONE]{}\n\n", " ".repeat(29)),
        Err("llm.too_large"),
    );
    check(
        openai,
        &"data: xxxxxxxxxxxx\n".repeat(4),
        Err("llm.too_large"),
    );
    check(
        openai,
        &format!("{{{}", " ".repeat(40)),
        Err("llm.too_large"),
    );
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
