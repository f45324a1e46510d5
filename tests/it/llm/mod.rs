//! The model client against a server that replies as it is told.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use weir::llm::{Answer, ChatModel as _, Client, Config, Error, Provider, QueueTime, Request};

use crate::support::model_server::{ModelServer, Reply};

mod pool;
mod care;
mod context;
mod presence;
mod real;
mod replies;
mod requests;
mod structured;
mod time;

const SOON: Duration = Duration::from_millis(150);
const LATER: Duration = Duration::from_secs(20);

fn ollama(url: &str) -> Config {
    let ollama = serde_json::from_value(json!({ "base_url": url, "temperature": 0.7 })).unwrap();
    Config { ollama, ..Config::default() }
}

fn openai(url: &str) -> Config {
    let openai =
        serde_json::from_value(json!({ "base_url": format!("{url}/v1"), "api_key": "sk-hunter2" }));
    Config { provider: Provider::OpenAi, openai: openai.unwrap(), ..Config::default() }
}

fn client(config: &Config) -> Client {
    Client::new(config, Arc::new(|_| ())).unwrap()
}

async fn ask(client: &Client, prompt: &str) -> Result<Answer, Error> {
    let queue = QueueTime::default();
    client.ask(Request::prompt(prompt, &queue)).await
}

/// Asks Ollama once and returns what it came to: the text, or the class.
async fn outcome(replies: Vec<Reply>) -> Result<String, &'static str> {
    let (url, _server) = ModelServer::start(replies).await;
    let asked = ask(&client(&ollama(&url)), "hi").await;
    asked.map(|answer| answer.text).map_err(|error| error.class())
}

/// Asks Ollama once with these deadlines and returns the error.
async fn error(replies: Vec<Reply>, config: impl FnOnce(&mut Config)) -> Error {
    let (url, _server) = ModelServer::start(replies).await;
    let mut with = ollama(&url);
    config(&mut with);
    ask(&client(&with), "hi").await.unwrap_err()
}

const SAID: &str = "{\"response\":\"a\",\"done\":false}\n";
const DONE: &str = "{\"response\":\"b\",\"done\":true}\n";
