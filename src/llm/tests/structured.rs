//! Answers of a given form.

use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::llm::model::{Request, Usage};
use crate::llm::queue::QueueTime;
use crate::llm::schema::{Schema, SchemaError};
use crate::llm::scripted::Scripted;
use crate::llm::structured::{Structured, ask};

fn schema() -> Schema {
    Schema::new(json!({
        "type": "object",
        "properties": { "n": { "type": "integer" } },
        "required": ["n"],
    }))
    .unwrap()
}

type Asked = Arc<Mutex<Vec<Vec<String>>>>;

/// Returns a model that gives these answers in turn, the last one for ever, and what it is asked.
fn model(answers: &[&str]) -> (Scripted, Asked) {
    let (answers, asked): (Vec<_>, Asked) =
        (answers.iter().map(|&text| text.to_owned()).collect(), Asked::default());
    let log = Arc::clone(&asked);
    let model = Scripted::new(move |request| {
        assert!(request.format.is_some());
        let mut log = log.lock().unwrap();
        log.push(request.input.messages().map(|(_, content)| content.to_owned()).collect());
        Ok(answers[(log.len() - 1).min(answers.len() - 1)].clone())
    });
    (model, asked)
}

async fn answer(answers: &[&str]) -> (Result<Structured, String>, Vec<Vec<String>>) {
    let ((model, asked), queue) = (model(answers), QueueTime::default());
    let answered = ask(&model, Request::prompt("how many?", &queue), &schema()).await;
    let asked = asked.lock().unwrap().clone();
    (answered.map_err(|error| error.to_string()), asked)
}

#[tokio::test]
async fn an_answer_of_the_form_is_taken_at_once() {
    let forms = [
        "{\"n\": 3}",
        " \n{\"n\":3}\n\n",
        "```json\n{\"n\":3}\n```",
        "<think>hm</think>\n{\"n\":3}",
    ];
    for text in forms {
        let (answered, asked) = answer(&[text]).await;

        let answered = answered.unwrap();
        assert_eq!((answered.value, answered.calls), (json!({ "n": 3 }), 1), "{text}");
        assert_eq!(asked, [["how many?"]]);
    }
}

#[tokio::test]
async fn a_wrong_answer_is_shown_to_the_model_once() {
    let (answered, asked) = answer(&["{\"n\": \"three\"}", "{\"n\": 3}"]).await;

    let answered = answered.unwrap();
    assert_eq!((answered.value, answered.calls), (json!({ "n": 3 }), 2));
    let [_, repair] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!(repair[..2], ["how many?", "{\"n\": \"three\"}"]);
    assert!(repair[2].contains("/n: \"three\" is not of type \"integer\""), "{}", repair[2]);
    let words = |text: &str| text.split_whitespace().count() as u64;
    let usage = Usage { input_tokens: 2 + words(&repair[2]), output_tokens: 2 + 2 };
    assert_eq!(answered.answer.usage, Some(usage));
}

#[tokio::test]
async fn a_second_wrong_answer_is_an_error() {
    let check = async |text: &str, mistakes: &str| {
        let (answered, asked) = answer(&[text]).await;
        let error = answered.unwrap_err();
        let expected = format!("scripted: answer without the form that was asked for: {mistakes}");
        assert!(error.starts_with(&expected), "{error}");
        assert_eq!(asked.len(), 2);
    };
    check("{}", "/: \"n\" is a required property").await;
    check("", "no JSON: EOF").await;
    check("three", "no JSON: expected").await;
    check("{\"n\":3", "no JSON: EOF").await;
    check(&"[".repeat(10_000), "no JSON: recursion limit").await;
}

#[tokio::test]
async fn a_huge_wrong_answer_is_not_repeated_whole() {
    let huge = "\u{20ac}".repeat(400_000);
    let (answered, asked) = answer(&[&huge]).await;

    assert!(answered.unwrap_err().len() < 300);
    assert!(asked[1].iter().map(String::len).sum::<usize>() < 20_000);
}

#[test]
fn a_schema_is_looked_at_before_it_is_used() {
    let malformed = Schema::new(json!({ "type": "intager" })).unwrap_err();
    assert!(matches!(malformed, SchemaError::Malformed { .. }), "{malformed}");
    let outside = Schema::new(json!({ "$ref": "https://example.com/schema.json" })).unwrap_err();
    assert!(matches!(outside, SchemaError::Malformed { .. }), "{outside}");
    let large = Schema::new(json!({ "description": "x".repeat(65_536) })).unwrap_err();
    assert!(matches!(large, SchemaError::TooLarge { limit: 65_536, .. }), "{large}");
}

#[test]
fn mistakes_are_few_and_short() {
    let schema = Schema::new(json!({ "items": { "type": "integer" } })).unwrap();
    let value = json!(vec!["x".repeat(1000); 100]);

    let mistakes = schema.mistakes(&value);

    assert_eq!(mistakes.len(), 8);
    assert!(mistakes.iter().all(|mistake| mistake.chars().count() <= 200));
}
