//! Exchanges recorded from a real Ollama, replayed over HTTP: each ends as the protocol's rules say.

use std::time::Duration;

use serde_json::{Value, json};
use weir::llm::{ChatModel as _, Client, Config, Message, Provider, QueueTime, Request, Role};

use crate::support::model_server::{Abort, Chunk, Framing, ModelServer, Reply};
use crate::support::vectors::rows;

fn reply(row: &Value) -> Reply {
    let response = &row["response"];
    let head = response["head"].as_str().unwrap();
    let headers = head.split("\r\n").filter_map(|line| line.split_once(": "));
    let chunks = response["chunks"].as_array().unwrap().iter();
    Reply {
        status: u16::try_from(response["status"].as_u64().unwrap()).unwrap(),
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        framing: match response["framing"].as_str().unwrap() {
            "chunked" => Framing::Chunked,
            "content-length" => Framing::Length,
            other => panic!("framing {other}"),
        },
        chunks: chunks.map(|chunk| Chunk::text(chunk[1].as_str().unwrap())).collect(),
        abort: match response["end"].as_str().unwrap() {
            "complete" => None,
            "eof_unterminated" => Some(Abort::Unterminated),
            other => panic!("end {other}"),
        },
    }
}

fn is_openai(row: &Value) -> bool {
    row["request"]["path"].as_str().unwrap().starts_with("/v1/")
}

/// What comes of a row by the rules: the text, or the class of the error.
fn expected(row: &Value) -> Result<String, &'static str> {
    let response = &row["response"];
    let chunks = response["chunks"].as_array().unwrap().iter();
    let body: String = chunks.map(|chunk| chunk[1].as_str().unwrap()).collect();
    let is_json = response["head"].as_str().unwrap().contains("application/json");
    match response["status"].as_u64().unwrap() {
        200 if response["end"] == "complete" && is_openai(row) => completion(&body),
        200 if response["end"] == "complete" => answer(&body),
        200 => Err("llm.truncated"),
        400 if body.contains("context length") => Err("llm.context_overflow"),
        401 | 403 => Err("llm.unauthorized"),
        404 if is_json => Err("llm.model_missing"),
        404 | 405 => Err("llm.wrong_url"),
        429 => Err("llm.rate_limited"),
        500 => {
            let callers = ["option \\\"", "invalid format", "invalid JSON schema", "image input"];
            let is_callers = callers.iter().any(|words| body.contains(words));
            Err(if is_callers { "llm.invalid_request" } else { "llm.server_error" })
        }
        503 => Err("llm.overloaded"),
        400 | 501 => Err("llm.invalid_request"),
        other => panic!("status {other}"),
    }
}

fn answer(body: &str) -> Result<String, &'static str> {
    let mut text = String::new();
    for line in body.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if line.get("error").is_some() {
            return Err("llm.server_error");
        }
        let said = line.get("response").or_else(|| line.pointer("/message/content"));
        text += said.and_then(Value::as_str).unwrap_or_default();
        if line["done"] == true {
            let overflow = line["done_reason"] == "length" && line.get("eval_count").is_none();
            return if overflow && text.is_empty() {
                Err("llm.context_overflow")
            } else {
                Ok(text)
            };
        }
    }
    Err("llm.truncated")
}

fn completion(body: &str) -> Result<String, &'static str> {
    if body.starts_with('{') {
        let value: Value = serde_json::from_str(body).unwrap();
        return Ok(value["choices"][0]["message"]["content"].as_str().unwrap().to_owned());
    }
    let (mut text, mut done) = (String::new(), false);
    for data in body.lines().filter_map(|line| line.strip_prefix("data: ")) {
        let event: Value = serde_json::from_str(data).unwrap_or_default();
        let choice = &event["choices"][0];
        text += choice["delta"]["content"].as_str().unwrap_or_default();
        done |= data == "[DONE]" || choice["finish_reason"].is_string();
    }
    if done { Ok(text) } else { Err("llm.truncated") }
}

#[tokio::test]
async fn vectors_of_ollama_exchanges_end_as_the_rules_say() {
    let rows = rows("ollama_exchanges.jsonl");
    for row in rows.iter().filter(|row| row.get("meta").is_none()) {
        let (url, server) = ModelServer::start(vec![reply(row)]).await;
        let mut config = Config { total_timeout: Duration::from_secs(5), ..Config::default() };
        let at = json!({ "base_url": url });
        if is_openai(row) {
            config.provider = Provider::OpenAi;
            config.openai = serde_json::from_value(at).unwrap();
        } else {
            config.ollama = serde_json::from_value(at).unwrap();
        }
        let client = Client::new(&config, std::sync::Arc::new(|_| ())).unwrap();

        let queue = QueueTime::default();
        let said = [Message::new(Role::User, "hi")];
        let request = match row["request"]["path"].as_str().unwrap() {
            "/api/generate" => Request::prompt("hi", &queue),
            _ => Request::chat(&said, &queue),
        };
        let asked = client.ask(request).await;

        let seen = asked.map(|answer| answer.text).map_err(|error| error.class());
        assert_eq!(seen, expected(row), "{}", row["name"]);
        assert_eq!((server.counts().requests, server.replies_left()), (1, 0), "{}", row["name"]);
        let path = row["request"]["path"].as_str().unwrap();
        assert!(path.ends_with(&server.requests()[0].target), "{}", row["name"]);
    }
}
