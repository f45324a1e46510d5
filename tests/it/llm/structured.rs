//! Answers of a given form, over HTTP.

use serde_json::json;
use weir::llm::{QueueTime, Request, Schema, structured};

use crate::support::model_server::{ModelServer, Reply};

use super::{client, ollama, openai};

fn schema() -> Schema {
    Schema::new(json!({ "type": "object", "required": ["n"] })).unwrap()
}

fn completion(text: &str) -> Reply {
    let message = json!({ "role": "assistant", "content": text });
    let choice = json!({ "index": 0, "message": message, "finish_reason": "stop" });
    let usage = json!({ "prompt_tokens": 5, "completion_tokens": 3 });
    Reply::json(200, &json!({ "choices": [choice], "usage": usage }).to_string())
}

#[tokio::test]
async fn ollama_is_told_the_schema_and_asked_again_in_a_conversation() {
    let (url, server) =
        ModelServer::start(vec![Reply::ollama("no"), Reply::ollama("{\"n\":1}")]).await;
    let (queue, schema) = (QueueTime::default(), schema());

    let request = Request::prompt("how many?", &queue);
    let answered = structured::ask(&client(&ollama(&url)), request, &schema).await.unwrap();

    assert_eq!((answered.value, answered.calls), (json!({ "n": 1 }), 2));
    let usage = answered.answer.usage.unwrap();
    assert_eq!((usage.input_tokens, usage.output_tokens), (10, 6));
    let requests = server.requests();
    let targets: Vec<_> = requests.iter().map(|request| &*request.target).collect();
    assert_eq!(targets, ["/api/generate", "/api/chat"]);
    assert!(requests.iter().all(|request| request.json()["format"] == *schema.json()));
    assert_eq!(requests[1].json()["messages"][1], json!({ "role": "assistant", "content": "no" }));
}

#[tokio::test]
async fn an_openai_server_is_told_the_schema_its_way() {
    let (url, server) = ModelServer::start(vec![completion("{\"n\":1}")]).await;
    let (queue, schema) = (QueueTime::default(), schema());

    let request = Request::prompt("how many?", &queue);
    let answered = structured::ask(&client(&openai(&url)), request, &schema).await.unwrap();

    assert_eq!(answered.calls, 1);
    let expected = json!({
        "type": "json_schema",
        "json_schema": { "name": "answer", "schema": { "type": "object", "required": ["n"] } },
    });
    assert_eq!(server.requests()[0].json()["response_format"], expected);
}

#[tokio::test]
async fn a_model_that_misses_the_form_twice_fails_by_its_class() {
    let (url, server) = ModelServer::start(vec![Reply::ollama("no")]).await;
    let (queue, schema) = (QueueTime::default(), schema());

    let request = Request::prompt("how many?", &queue);
    let error = structured::ask(&client(&ollama(&url)), request, &schema).await.unwrap_err();

    assert_eq!(error.class(), "llm.schema_mismatch");
    assert_eq!(server.counts().requests, 2);
}
