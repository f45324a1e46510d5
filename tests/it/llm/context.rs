//! A prompt that is too long is an error, whoever notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use weir::llm::{ChatModel as _, Client, Input, Message, Observation, QueueTime, Request, Role};

use crate::support::model_server::{ModelServer, Reply};
use crate::support::vectors::rows;

use super::{ask, client, ollama, openai};

/// Returns an answer to a prompt of `count` tokens.
fn counted(count: u64) -> Reply {
    let line = json!({ "response": "x", "done": true, "prompt_eval_count": count });
    Reply::stream([&*format!("{line}\n")])
}

fn loaded(context: impl Into<Value>) -> Reply {
    let model = json!({ "name": "llama3.2:latest", "context_length": context.into() });
    Reply::json(200, &json!({ "models": [model] }).to_string())
}

fn asked(server: &ModelServer, path: &str) -> usize {
    server.probed().iter().filter(|request| request.target == path).count()
}

#[tokio::test]
async fn a_prompt_that_was_cut_is_no_answer() {
    let (url, server) = ModelServer::start(vec![counted(2048)]).await;
    server.page("/api/ps", [loaded(2048)]);

    let error = ask(&client(&ollama(&url)), "hi").await.unwrap_err();

    assert_eq!(error.class(), "llm.context_overflow");
    let expected = "the server read 2048 tokens of it, all that its context holds";
    assert!(error.to_string().ends_with(expected), "{error}");
}

#[tokio::test]
async fn the_context_is_asked_for_once_and_only_when_it_matters() {
    let (url, server) = ModelServer::start(vec![counted(200), counted(300)]).await;
    server.page("/api/ps", [loaded(2048)]);
    let client = client(&ollama(&url));

    ask(&client, "hi").await.unwrap();
    assert_eq!(asked(&server, "/api/ps"), 0);
    for _ in 0..3 {
        ask(&client, "hi").await.unwrap();
    }

    assert_eq!(asked(&server, "/api/ps"), 1);
}

#[tokio::test]
async fn what_can_not_fit_stands_in_no_line_and_is_no_call() {
    let (url, server) =
        ModelServer::start(vec![Reply::ollama("x").slowly(Duration::from_secs(5))]).await;
    let mut config = ollama(&url);
    (config.ollama.num_ctx, config.ollama.max_concurrency) = (Some(512), 1);
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let observer = move |_: &Observation<'_>| {
        count.fetch_add(1, Ordering::Relaxed);
    };
    let client = Client::new(&config, Arc::new(observer)).unwrap();
    let held = ask(&client, "hi");
    let refused = async {
        server.until(|counts| counts.requests == 1).await;
        let before = seen.load(Ordering::Relaxed);
        let error = ask(&client, &"word ".repeat(3000)).await.unwrap_err();
        (error, seen.load(Ordering::Relaxed) - before)
    };

    let (error, seen) = tokio::select! {
        refused = refused => refused,
        _ = held => panic!("the call waited for the other one's permit"),
    };

    assert!(error.to_string().ends_with("the context holds 512; not sent"), "{error}");
    assert_eq!(seen, 0);
}

#[tokio::test]
async fn what_can_not_fit_is_not_sent() {
    let (url, server) = ModelServer::start(vec![counted(2047)]).await;
    server.page("/api/ps", [loaded(2048)]);
    let learning = client(&ollama(&url));
    let mut config = ollama(&url);
    config.ollama.num_ctx = Some(2048);
    let told = client(&config);
    ask(&learning, "hi").await.unwrap();

    for client in [&learning, &told] {
        let error = ask(client, &"word ".repeat(2049)).await.unwrap_err();
        assert_eq!(error.class(), "llm.context_overflow");
        assert!(error.to_string().contains("at least 2049 tokens"), "{error}");
    }
    assert_eq!(server.counts().requests, 1);

    for client in [&learning, &told] {
        ask(client, &"word ".repeat(2047)).await.unwrap();
    }
    assert_eq!(server.counts().requests, 3);
}

#[tokio::test]
async fn a_server_that_does_not_tell_its_context_is_judged_by_the_usual_sizes() {
    let (url, server) = ModelServer::start(vec![counted(2048), counted(2047)]).await;
    let client = client(&ollama(&url));
    server.page("/api/ps", [Reply::json(404, "404 page not found")]);

    let cut = ask(&client, &"word ".repeat(3000)).await.unwrap_err();
    assert_eq!(cut.class(), "llm.context_overflow");
    ask(&client, &"word ".repeat(3000)).await.unwrap();

    let usage = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}],\
                 \"usage\":{\"prompt_tokens\":4096}}\n\ndata: [DONE]\n\n";
    let (url, _server) = ModelServer::start(vec![Reply::stream([usage])]).await;
    let cut = ask(&super::client(&openai(&url)), &"word ".repeat(5000)).await.unwrap_err();
    assert_eq!(cut.class(), "llm.context_overflow");
}

#[tokio::test]
async fn the_recorded_silent_cut_is_told_by_the_context() {
    let rows = rows("ollama_exchanges.jsonl");
    let row = rows.iter().find(|row| row["name"] == "overflow_truncated_silently").unwrap();
    let chunks = row["response"]["chunks"].as_array().unwrap();
    let pieces: Vec<_> = chunks.iter().map(|chunk| chunk[1].as_str().unwrap()).collect();
    let (url, server) = ModelServer::start(vec![Reply::stream(pieces)]).await;
    server.page("/api/ps", [loaded(256)]);
    let (messages, queue) = ([Message::new(Role::User, "word ".repeat(500))], QueueTime::default());

    let error = client(&ollama(&url)).ask(Request::chat(&messages, &queue)).await.unwrap_err();

    assert_eq!(error.class(), "llm.context_overflow");
}

#[tokio::test]
async fn a_conversation_goes_to_chat() {
    let stream = Reply::stream([
        "{\"message\":{\"role\":\"assistant\",\"content\":\"\",\"thinking\":\"hm\"},\"done\":false}\n",
        "{\"message\":{\"role\":\"assistant\",\"content\":\"Wet\"},\"done\":false}\n",
        "{\"message\":{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"id\":\"c\",\"function\":\
         {\"index\":0,\"name\":\"f\",\"arguments\":{}}}]},\"done\":false}\n",
        "{\"message\":{\"role\":\"assistant\",\"content\":\".\"},\"done\":false}\n",
        "{\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true,\"done_reason\":\"stop\"}\n",
    ]);
    let (url, server) = ModelServer::start(vec![stream]).await;
    let said = [
        Message::new(Role::System, "be brief"),
        Message::new(Role::User, "hi"),
        Message::new(Role::Assistant, "hello"),
        Message::new(Role::User, "is water wet?"),
    ];
    let queue = QueueTime::default();

    let answer = client(&ollama(&url)).ask(Request::chat(&said, &queue)).await.unwrap();

    assert_eq!(answer.text, "Wet.");
    let request = &server.requests()[0];
    assert_eq!(request.target, "/api/chat");
    let expected = json!({
        "model": "llama3.2:latest", "stream": true, "options": { "temperature": 0.7 },
        "messages": [
            { "role": "system", "content": "be brief" },
            { "role": "user", "content": "hi" },
            { "role": "assistant", "content": "hello" },
            { "role": "user", "content": "is water wet?" },
        ],
        "truncate": false,
    });
    assert_eq!(request.json(), expected);
    assert_eq!(Input::Chat(&said).messages().count(), 4);
}
