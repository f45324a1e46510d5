//! What a prompt comes to, what is sent for it, and what a count of tokens shows.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::llm::context::{Contexts, Guard, Reading};
use crate::llm::estimate::Estimate;
use crate::llm::keep_alive::KeepAlive;
use crate::llm::model::{Input, Message, Request, Role, Usage};
use crate::llm::ollama_request::{self, Terms};
use crate::llm::pool::Resident;
use crate::llm::queue::QueueTime;
use crate::llm::schema::Schema;

const PLAIN: Terms = Terms { temperature: 0.7, num_ctx: None, keep_alive: None };

fn estimate(least: u64) -> Estimate {
    Estimate { least, most: 5 * least }
}

fn read(guard: &Guard, least: u64, count: u64) -> Reading {
    let usage = Usage { input_tokens: count, output_tokens: 1 };
    guard.read("m", (estimate(least), Some(usage)), Instant::now())
}

#[test]
fn a_time_to_stay_loaded_keeps_its_fraction() {
    let check = |text: &str, expected: Value| {
        let keep_alive: KeepAlive = serde_json::from_value(text.into()).unwrap();
        assert_eq!(serde_json::to_value(keep_alive).unwrap(), expected, "{text}");
    };
    check("500ms", 0.5.into());
    check("5m", 300.into());
    check("0s", 0.into());
    check("-1", (-1).into());
}

#[test]
fn a_text_is_at_least_its_words_and_at_most_its_bytes() {
    let check = |text: &str, least, most| {
        assert_eq!(Estimate::of_text(text), Estimate { least, most }, "{text:?}");
    };
    check("", 0, 0);
    check("is water wet?", 3, 13);
    check("caf\u{e9}", 1, 5);
    check("uncharacteristically so", 3, 23);
    check("12 345 67890", 4, 12);
    check(r#"{"a":[1,2]}"#, 4, 11);
    check("\u{4f60}\u{597d}\u{4e16}\u{754c}\u{4f60}\u{597d}\u{4e16}\u{754c}", 1, 24);
    check(&"-".repeat(80), 1, 80);
    check(&" ".repeat(80), 0, 80);
    check(&"a".repeat(80), 1, 80);
    check(&"ab".repeat(80), 10, 160);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bounds_are_bounds_and_grow_with_the_text(text in "\\PC{0,60}", more in "[a-z0-9 {}\u{4e00}-\u{4fff}]{0,60}") {
        let (one, both) = (Estimate::of_text(&text), Estimate::of_text(&format!("{text} {more}")));

        prop_assert!(one.least <= one.most);
        prop_assert!(one.least <= both.least && one.most <= both.most);
    }
}

#[tokio::test(start_paused = true)]
async fn what_surely_does_not_fit_is_not_sent() {
    let check = |guard: &Guard, least, expected: Result<(), &str>| {
        let admitted =
            guard.admit("m", estimate(least), Instant::now()).map_err(|fault| fault.class());
        assert_eq!(admitted, expected, "{least}");
    };
    let open = Guard::new(None);
    check(&open, 1_000_000, Ok(()));
    open.learn("m", Contexts::Named(4096), Instant::now());
    check(&open, 4096, Ok(()));
    check(&open, 4097, Err("llm.context_overflow"));
    tokio::time::advance(Duration::from_secs(61)).await;
    check(&open, 4097, Ok(()));

    let configured = Guard::new(Some(8192));
    check(&configured, 8192, Ok(()));
    check(&configured, 8193, Err("llm.context_overflow"));
    configured.learn("m", Contexts::Named(2048), Instant::now());
    check(&configured, 2049, Err("llm.context_overflow"));
    configured.learn("m", Contexts::Named(100_000), Instant::now());
    check(&configured, 8193, Err("llm.context_overflow"));
    configured.learn("m", Contexts::Unknown, Instant::now());
    check(&configured, 8193, Err("llm.context_overflow"));
}

#[tokio::test(start_paused = true)]
async fn a_prompt_that_fills_the_context_was_cut() {
    let guard = Guard::new(None);
    assert_eq!(read(&guard, 100, 255), Reading::Whole);
    assert_eq!(read(&guard, 100, 256), Reading::Open);
    assert_eq!(guard.read("m", (estimate(9000), None), Instant::now()), Reading::Whole);

    guard.learn("m", Contexts::Named(2048), Instant::now());
    assert_eq!(read(&guard, 100, 2047), Reading::Whole);
    assert_eq!(read(&guard, 100, 2048), Reading::Cut);
    // Messages were dropped: fewer tokens were read than the text can have.
    assert_eq!(read(&guard, 1900, 1800), Reading::Cut);
    assert_eq!(read(&guard, 1800, 1800), Reading::Whole);
    tokio::time::advance(Duration::from_secs(61)).await;
    assert_eq!(read(&guard, 100, 2048), Reading::Open);

    // A server that does not tell.
    guard.learn("m", Contexts::Unknown, Instant::now());
    assert_eq!(read(&guard, 3000, 2048), Reading::Cut);
    assert_eq!(read(&guard, 3000, 2047), Reading::Whole);
    assert_eq!(read(&guard, 2048, 2048), Reading::Whole);

    // A server that lists the weights under another name.
    guard.learn("m", Contexts::Others(vec![8192, 700]), Instant::now());
    assert_eq!(read(&guard, 100, 700), Reading::Cut);
    assert_eq!(read(&guard, 100, 701), Reading::Whole);
    assert_eq!(read(&guard, 3000, 2048), Reading::Cut);

    let configured = Guard::new(Some(1000));
    assert_eq!(read(&configured, 100, 1000), Reading::Cut);
    assert_eq!(read(&configured, 100, 999), Reading::Open);
}

#[test]
fn a_loaded_model_is_found_by_its_name() {
    let loaded: Vec<Resident> = serde_json::from_value(json!([
        { "name": "a:latest", "context_length": 512 }, { "name": "b:1b" }, { "name": "c", "context_length": 7 },
    ]))
    .unwrap();

    let check = |model, expected| assert_eq!(Contexts::of(&loaded, model), expected, "{model}");
    check("a", Contexts::Named(512));
    check("A:latest", Contexts::Named(512));
    check("b:1b", Contexts::Others(vec![512, 7]));
    check("b", Contexts::Others(vec![512, 7]));
    assert_eq!(Contexts::of(&loaded[1..2], "a"), Contexts::Unknown);
}

fn body(terms: &Terms, request: &Request<'_>) -> Value {
    serde_json::from_slice(&ollama_request::body("m", terms, request, Estimate::of(request)))
        .unwrap()
}

#[test]
fn a_prompt_that_may_not_fit_asks_not_to_be_cut() {
    let queue = QueueTime::default();
    let truncate =
        |prompt: &str| body(&PLAIN, &Request::prompt(prompt, &queue)).get("truncate").cloned();

    assert_eq!(truncate(&"a".repeat(2048 - 80)), None);
    assert_eq!(truncate(&"a".repeat(2048 - 79)), Some(Value::Bool(false)));
}

#[test]
fn what_a_model_is_run_with_goes_with_every_call() {
    let queue = QueueTime::default();
    let terms = Terms { num_ctx: Some(4096), keep_alive: Some(KeepAlive::Forever), ..PLAIN };
    let messages = [Message::new(Role::System, "s"), Message::new(Role::User, "u")];
    let schema = Schema::new(json!({ "type": "object" })).unwrap();
    let prompt = Request::prompt("p", &queue);
    let chat = Request::chat(&messages, &queue);

    let bodies = [
        body(&terms, &prompt),
        body(&terms, &chat),
        body(&terms, &prompt.with_format(&schema)),
        body(&terms, &chat.with_format(&schema)),
    ];

    for body in &bodies {
        assert_eq!(body["options"], json!({ "temperature": 0.7, "num_ctx": 4096 }), "{body}");
        assert_eq!(body["keep_alive"], -1, "{body}");
        assert_eq!((&body["truncate"], &body["shift"]), (&json!(false), &json!(false)), "{body}");
    }
    assert_eq!(bodies[0]["format"], "");
    assert_eq!(bodies[1].get("format"), None);
    assert_eq!(bodies[2]["format"], json!({ "type": "object" }));
    assert_eq!(
        bodies[3]["messages"],
        json!([{ "role": "system", "content": "s" }, { "role": "user", "content": "u" }])
    );
}

#[test]
fn a_time_to_stay_loaded_is_sent_in_seconds() {
    let check = |text: &str, expected: Value| {
        let time: KeepAlive = serde_json::from_value(json!(text)).unwrap();
        assert_eq!(serde_json::to_value(time).unwrap(), expected);
    };
    check("-1", json!(-1));
    check("0s", json!(0));
    check("5m", json!(300));
    check("1day", json!(86400));
}

#[test]
fn all_that_is_said_counts() {
    let queue = QueueTime::default();
    let input = Input::Prompt { system: Some("be very brief"), prompt: "is water wet?" };
    let request = Request { input, format: None, model: None, queue: &queue };
    let messages = [Message::new(Role::User, "a b c"), Message::new(Role::Assistant, "d e")];

    assert_eq!(Estimate::of(&request), Estimate { least: 6, most: 13 + 13 + 2 * 16 + 64 });
    assert_eq!(Estimate::of(&Request::chat(&messages, &queue)).least, 5);
}
