//! `weir scripted-model`: a server that speaks Ollama's API, and the OpenAI-compatible one, and asks no model.
//!
//! Every answer begins with a label that says so. It has whatever model it is asked for.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::{get, post};
use clap::Args;
use futures_util::stream;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::sleep;

use crate::llm::{Answer, ChatModel, QueueTime, Request, Scripted};
use crate::shutdown::Shutdown;

use super::block_on;
use super::exit::Exit;
use super::terminal::{fail, say};

const EXAMPLES: &str = "\
Examples:
  weir scripted-model                         where Ollama would be
  weir scripted-model --addr 0.0.0.0:11434    in a container
  curl localhost:11434/api/generate -d '{\"model\":\"any\",\"prompt\":\"Why?\"}'
  LLM_PROVIDER=openai OPENAI_BASE_URL=http://localhost:11434/v1 weir run

Exit codes: 0 ended by SIGTERM or SIGINT; 71 the address can't be listened on.";

/// The largest request that is read.
const REQUEST_MAX: usize = 16 * 1024 * 1024;

/// What is listed where models are listed: those that weir asks by default.
const MODELS: [&str; 3] = ["llama3.2:latest", "gpt-4o-mini", "scripted"];

const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson");
const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Where to serve.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:11434", value_name = "HOST:PORT")]
    addr: SocketAddr,
    /// How long an answer takes, from its first word to its last
    #[arg(long, default_value = "0s", value_parser = humantime::parse_duration)]
    latency: Duration,
}

/// What answers.
#[derive(Clone)]
struct Desk {
    model: Arc<dyn ChatModel>,
    latency: Duration,
}

/// A question in any of the three forms; what is not read makes no difference.
#[derive(Debug, Deserialize)]
struct Question {
    model: String,
    #[serde(default)]
    prompt: String,
    #[serde(default)]
    messages: Vec<Message>,
    stream: Option<bool>,
    #[serde(default)]
    stream_options: StreamOptions,
}

#[derive(Debug, Deserialize)]
struct Message {
    #[serde(default)]
    content: Value,
}

#[derive(Debug, Default, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

/// Which of Ollama's two endpoints asks.
#[derive(Debug, Clone, Copy)]
enum Form {
    Generate,
    Chat,
}

pub(super) fn run(arguments: &Arguments) -> Exit {
    let Arguments { addr, latency } = *arguments;
    block_on(1, async {
        let listener = match TcpListener::bind(addr).await {
            Ok(listener) => listener,
            Err(error) => {
                fail(format_args!("listen on {addr}: {error}"));
                return Exit::System;
            }
        };
        match listener.local_addr() {
            Ok(addr) => say(format_args!(
                "scripted model at http://{addr}: no model is asked, every answer says so"
            )),
            Err(error) => fail(error),
        }
        let shutdown = Shutdown::default();
        let desk = Desk { model: Arc::new(Scripted::labelled()), latency };
        let server = axum::serve(listener, routes(desk));
        tokio::select! {
            served = server => {
                served.err().into_iter().for_each(fail);
                Exit::Io
            }
            // A demonstration owes nobody the rest of an answer.
            () = shutdown.drain.cancelled() => Exit::Ok,
            heard = shutdown.clone().on_signals() => {
                heard.err().into_iter().for_each(fail);
                Exit::System
            }
        }
    })
}

fn routes(desk: Desk) -> Router {
    Router::new()
        .route(
            "/",
            get(async || {
                reply(
                    StatusCode::OK,
                    TEXT,
                    "Ollama is not running: this is weir's scripted model\n",
                )
            }),
        )
        .route(
            "/api/version",
            get(async || object(&json!({ "version": env!("CARGO_PKG_VERSION") }))),
        )
        .route("/api/tags", get(tags))
        .route("/api/ps", get(async || object(&json!({ "models": [] }))))
        .route("/api/show", post(show))
        .route("/api/generate", post(generate))
        .route("/api/chat", post(chat))
        .route("/v1/models", get(models))
        .route("/v1/chat/completions", post(completions))
        .layer(DefaultBodyLimit::max(REQUEST_MAX))
        .with_state(desk)
}

async fn tags() -> Response {
    let entry = |name: &&str| {
        json!({
            "name": name,
            "model": name,
            "modified_at": Timestamp::UNIX_EPOCH.to_string(),
            "size": 0,
            "digest": "",
            "details": { "format": "scripted", "family": "scripted" },
        })
    };
    object(&json!({ "models": MODELS.iter().map(entry).collect::<Vec<_>>() }))
}

async fn show() -> Response {
    object(&json!({
        "details": { "format": "scripted", "family": "scripted" },
        "model_info": { "general.architecture": "scripted" },
        "capabilities": ["completion"],
    }))
}

async fn models() -> Response {
    let entry =
        |name: &&str| json!({ "id": name, "object": "model", "created": 0, "owned_by": "weir" });
    object(&json!({ "object": "list", "data": MODELS.iter().map(entry).collect::<Vec<_>>() }))
}

async fn generate(State(desk): State<Desk>, body: Bytes) -> Response {
    ollama(&desk, &body, Form::Generate).await
}

async fn chat(State(desk): State<Desk>, body: Bytes) -> Response {
    ollama(&desk, &body, Form::Chat).await
}

async fn ollama(desk: &Desk, body: &[u8], form: Form) -> Response {
    let (question, answer) = match desk.answer(body).await {
        Ok(answered) => answered,
        Err(reason) => return refuse(&json!({ "error": reason })),
    };
    let line = |text: &str, done: bool| {
        let now = Timestamp::now().to_string();
        let line = json!({ "model": question.model, "created_at": now });
        let line = match form {
            Form::Generate => with(line, "response", text),
            Form::Chat => with(line, "message", json!({ "role": "assistant", "content": text })),
        };
        let line = with(line, "done", done);
        let line = if done { close(line, &answer, desk.latency) } else { line };
        format!("{line}\n")
    };
    if question.stream == Some(false) {
        sleep(desk.latency).await;
        return reply(StatusCode::OK, JSON, line(&answer.text, true));
    }
    let mut lines: Vec<_> = words(&answer.text).map(|word| line(word, false)).collect();
    lines.push(line("", true));
    desk.stream(NDJSON, lines)
}

/// Adds what Ollama tells with the last line.
fn close(line: Value, answer: &Answer, took: Duration) -> Value {
    let usage = answer.usage.unwrap_or_default();
    let line = with(line, "done_reason", "stop");
    let line = with(line, "total_duration", u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    let line = with(line, "prompt_eval_count", usage.input_tokens);
    with(line, "eval_count", usage.output_tokens)
}

async fn completions(State(desk): State<Desk>, body: Bytes) -> Response {
    let (question, answer) = match desk.answer(&body).await {
        Ok(answered) => answered,
        Err(reason) => {
            let error = json!({ "message": reason, "type": "invalid_request_error" });
            return refuse(&json!({ "error": error }));
        }
    };
    let head = |kind: &str, choices: Value| {
        json!({
            "id": "chatcmpl-scripted",
            "object": kind,
            "created": Timestamp::now().as_second(),
            "model": question.model,
            "choices": choices,
        })
    };
    let choice = |name: &str, said: Value, reason: Option<&str>| {
        json!([with(json!({ "index": 0, "finish_reason": reason }), name, said)])
    };
    let says = |text: &str| json!({ "role": "assistant", "content": text });
    if question.stream != Some(true) {
        sleep(desk.latency).await;
        let choices = choice("message", says(&answer.text), Some("stop"));
        return object(&with(head("chat.completion", choices), "usage", usage(&answer)));
    }
    let event = |choices: Value| head("chat.completion.chunk", choices);
    let piece = |word| event(choice("delta", says(word), None));
    let mut events: Vec<_> = words(&answer.text).map(piece).collect();
    events.push(event(choice("delta", json!({}), Some("stop"))));
    if question.stream_options.include_usage {
        events.push(with(event(json!([])), "usage", usage(&answer)));
    }
    let mut lines: Vec<_> = events.into_iter().map(|event| format!("data: {event}\n\n")).collect();
    lines.push("data: [DONE]\n\n".to_owned());
    desk.stream(EVENTS, lines)
}

fn usage(answer: &Answer) -> Value {
    let tokens = answer.usage.unwrap_or_default();
    json!({
        "prompt_tokens": tokens.input_tokens,
        "completion_tokens": tokens.output_tokens,
        "total_tokens": tokens.input_tokens.saturating_add(tokens.output_tokens),
    })
}

impl Question {
    fn read(body: &[u8]) -> Result<Self, String> {
        let question: Self = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        if question.model.is_empty() { Err("model is required".to_owned()) } else { Ok(question) }
    }

    /// Returns what is asked: the prompt, or what the last message says.
    fn text(&self) -> String {
        match self.messages.last().map(|message| &message.content) {
            None => self.prompt.clone(),
            Some(Value::String(text)) => text.clone(),
            Some(parts) => parts.to_string(),
        }
    }
}

impl Desk {
    async fn answer(&self, body: &[u8]) -> Result<(Question, Answer), String> {
        let question = Question::read(body)?;
        let (prompt, queue) = (question.text(), QueueTime::default());
        let request = Request::prompt(&prompt, &queue);
        let answer = self.model.ask(request).await.map_err(|error| error.to_string())?;
        Ok((question, answer))
    }

    /// Sends the lines one by one, spread over the latency.
    fn stream(&self, content_type: HeaderValue, lines: Vec<String>) -> Response {
        let pause = self.latency / u32::try_from(lines.len()).unwrap_or(u32::MAX).max(1);
        let pieces = stream::unfold(lines.into_iter(), move |mut lines| async move {
            let line = lines.next()?;
            if !pause.is_zero() {
                sleep(pause).await;
            }
            Some((Ok::<_, Infallible>(Bytes::from(line)), lines))
        });
        reply(StatusCode::OK, content_type, Body::from_stream(pieces))
    }
}

/// Returns the words of a text, each with the blanks behind it.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(' ')
}

/// Adds a field to an object.
fn with(mut object: Value, name: &str, value: impl Into<Value>) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(name.to_owned(), value.into());
    }
    object
}

fn object(value: &Value) -> Response {
    reply(StatusCode::OK, JSON, value.to_string())
}

fn refuse(value: &Value) -> Response {
    reply(StatusCode::BAD_REQUEST, JSON, value.to_string())
}

fn reply(status: StatusCode, content_type: HeaderValue, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}
