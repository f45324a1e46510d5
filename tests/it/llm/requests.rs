//! What is sent.

use serde_json::json;
use weir::llm::{ChatModel as _, DoneReason, Input, QueueTime, Request, Usage};

use crate::support::model_server::{ModelServer, Reply};

use super::{ask, client, ollama, openai, outcome};

#[tokio::test]
async fn the_request_is_the_originals() {
    let (url, server) = ModelServer::start(vec![Reply::ollama("hello")]).await;

    let answer = ask(&client(&ollama(&url)), "caf\u{e9} \"x\"\n").await.unwrap();

    assert_eq!(answer.text, "hello");
    assert_eq!(&*answer.model, "llama3.2:latest");
    assert_eq!(answer.usage, Some(Usage { input_tokens: 5, output_tokens: 3 }));
    assert_eq!(answer.done_reason, DoneReason::Stop);
    let request = &server.requests()[0];
    assert_eq!((&*request.method, &*request.target), ("POST", "/api/generate"));
    let body = "{\"model\":\"llama3.2:latest\",\"stream\":true,\"options\":{\"temperature\":0.7},\
                \"format\":\"\",\"prompt\":\"caf\u{e9} \\\"x\\\"\\n\"}";
    assert_eq!(String::from_utf8_lossy(&request.body), body);
    assert_eq!(request.headers["content-type"], "application/json");
    assert_eq!(request.headers["accept"], "application/json");
    assert_eq!(request.headers["user-agent"], concat!("weir/", env!("CARGO_PKG_VERSION")));
    assert!(!request.headers.contains_key("authorization"));
    assert_eq!(request.headers["accept-encoding"], "identity");
}

#[tokio::test]
async fn a_path_a_key_and_a_system_prompt_go_with_the_request() {
    let (url, server) = ModelServer::start(vec![Reply::ollama("x")]).await;
    let mut config = ollama(&format!("{url}/proxy/ollama/"));
    config.ollama.api_key = Some("test-bearer".into());
    let queue = QueueTime::default();

    let input = Input::Prompt { system: Some("be brief"), prompt: "hi" };
    let request = Request { input, format: None, model: None, queue: &queue };
    client(&config).ask(request).await.unwrap();

    let request = &server.requests()[0];
    assert_eq!(request.target, "/proxy/ollama/api/generate");
    assert_eq!(request.headers["authorization"], "Bearer test-bearer");
    assert_eq!(request.json()["system"], "be brief");
}

#[tokio::test]
async fn credentials_of_the_url_are_sent_as_basic() {
    let (url, server) = ModelServer::start(vec![Reply::ollama("x")]).await;

    ask(&client(&ollama(&url.replace("//", "//ada:hunter2@"))), "hi").await.unwrap();

    assert_eq!(server.requests()[0].headers["authorization"], "Basic YWRhOmh1bnRlcjI=");
}

#[tokio::test]
async fn an_openai_server_is_asked_for_a_stream_with_usage() {
    let stream = Reply::stream([
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"Say\"}}]}\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" hi\"},\"finish_reason\":\"stop\"}]}\n\n\
         data: {\"choices\":[],\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":3}}\n\ndata: [DONE]\n\n",
    ]);
    let (url, server) = ModelServer::start(vec![stream]).await;
    let queue = QueueTime::default();

    let input = Input::Prompt { system: Some("be brief"), prompt: "hi" };
    let request = Request { input, format: None, model: None, queue: &queue };
    let answer = client(&openai(&url)).ask(request).await.unwrap();

    assert_eq!(answer.text, "Say hi");
    assert_eq!(answer.usage, Some(Usage { input_tokens: 11, output_tokens: 3 }));
    let request = &server.requests()[0];
    assert_eq!(request.target, "/v1/chat/completions");
    assert_eq!(request.headers["authorization"], "Bearer sk-hunter2");
    let messages = json!([
        { "role": "system", "content": "be brief" },
        { "role": "user", "content": "hi" },
    ]);
    let expected = json!({
        "model": "gpt-4o-mini", "messages": messages, "stream": true,
        "stream_options": { "include_usage": true }, "temperature": 0.7,
    });
    assert_eq!(request.json(), expected);
}

#[tokio::test]
async fn a_server_that_does_not_stream_is_understood() {
    let body = r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"openai says hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
    let (url, _server) = ModelServer::start(vec![Reply::json(200, body)]).await;
    assert_eq!(ask(&client(&openai(&url)), "hi").await.unwrap().text, "openai says hi");

    let whole = Reply::json(200, r#"{"model":"m","response":"all","done":true}"#);
    assert_eq!(outcome(vec![whole]).await, Ok("all".to_owned()));
}

#[tokio::test]
async fn calls_share_one_connection() {
    let (url, server) = ModelServer::start(vec![Reply::ollama("x")]).await;
    let client = client(&ollama(&url));

    for _ in 0..20 {
        ask(&client, "hi").await.unwrap();
    }

    assert_eq!(server.counts().connections, 1);
}
