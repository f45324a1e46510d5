//! What a model is asked, and what it answers.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::error::Error;
use super::queue::QueueTime;
use super::schema::Schema;

/// A model that answers one question.
///
/// The answer is complete or it is an error; a future that is dropped takes its connection with it.
pub trait ChatModel: Send + Sync {
    /// Asks once. Never retries: that is the caller's, who knows what was journaled.
    fn ask<'a>(&'a self, request: Request<'a>) -> BoxFuture<'a, Result<Answer, Error>>;
}

/// One question.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What is asked.
    pub input: Input<'a>,
    /// The form that the answer is to have, where any. The server is told and may still miss it:
    /// [`structured::ask`](super::structured::ask) looks.
    pub format: Option<&'a Schema>,
    /// The model that is asked; `None` asks the configured one. Names come from graphs and their configuration, never
    /// from events: each has a line and figures of its own.
    pub model: Option<&'a str>,
    /// Where the time spent in line is counted: the limit on a run's own time leaves it out.
    pub queue: &'a QueueTime,
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// One text; Ollama is asked at `/api/generate`.
    Prompt {
        /// What the model is told about its role, where anything.
        system: Option<&'a str>,
        /// The question itself, sent as it stands.
        prompt: &'a str,
    },
    /// A conversation, the latest message last; Ollama is asked at `/api/chat`.
    Chat(&'a [Message<'a>]),
}

/// What somebody said in a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<'a> {
    /// Who said it.
    pub role: Role,
    /// What was said.
    pub content: Cow<'a, str>,
}

/// Who speaks in a conversation. An enum, because Ollama takes any word and loses the text of those it doesn't know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Who tells the model what it is.
    System,
    /// Who asks.
    User,
    /// The model.
    Assistant,
}

/// A complete answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The text, untouched; it may be empty.
    pub text: String,
    /// The model that was asked, by the name that it was asked under.
    pub model: Arc<str>,
    /// The model that had been asked for, where this one answered in its place.
    pub instead_of: Option<Arc<str>>,
    /// The digest of that model at the endpoint that answered, where a list of its models has told it before.
    pub digest: Option<Arc<str>>,
    /// What it cost in tokens, where the server counted them.
    pub usage: Option<Usage>,
    /// Why the model stopped.
    pub done_reason: DoneReason,
    /// Where the time went.
    pub timings: Timings,
}

/// Tokens of one call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt, those from the server's cache included.
    pub input_tokens: u64,
    /// Tokens of the answer, hidden thinking included.
    pub output_tokens: u64,
}

/// Why a model stopped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DoneReason {
    /// It had said all.
    Stop,
    /// It reached the limit on tokens or the end of its context: the text is cut.
    Length,
    /// It was loaded or unloaded and asked nothing.
    Load,
    /// It wants a tool called.
    ToolCalls,
    /// The server withheld the rest.
    ContentFilter,
    /// The server named no reason, or one that is not known here.
    #[default]
    Unknown,
}

/// Where a call's time went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// In line at weir: for a permit, and for an endpoint that was not up yet.
    pub queued: Duration,
    /// From the request to the first byte of the answer.
    pub first_byte: Duration,
    /// From the request to the answer's end; `queued` is not in it.
    pub total: Duration,
    /// What the server says of itself. Zero where it says nothing.
    pub server: ServerTimings,
}

/// What Ollama reports about a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServerTimings {
    /// Getting the model ready, waiting for another model's eviction included; not zero when it is resident.
    pub load: Duration,
    /// Reading the prompt.
    pub prompt: Duration,
    /// Writing the answer.
    pub answer: Duration,
}

impl<'a> Request<'a> {
    /// Asks one text.
    #[must_use]
    pub fn prompt(prompt: &'a str, queue: &'a QueueTime) -> Self {
        Self { input: Input::Prompt { system: None, prompt }, format: None, model: None, queue }
    }

    /// Asks for the next message of a conversation.
    #[must_use]
    pub fn chat(messages: &'a [Message<'a>], queue: &'a QueueTime) -> Self {
        Self { input: Input::Chat(messages), format: None, model: None, queue }
    }

    /// Asks for an answer of this form.
    #[must_use]
    pub fn with_format(self, schema: &'a Schema) -> Self {
        Self { format: Some(schema), ..self }
    }

    /// Returns the question proper: the prompt, or the latest message.
    #[must_use]
    pub fn question(&self) -> &'a str {
        match self.input {
            Input::Prompt { prompt, .. } => prompt,
            Input::Chat(messages) => messages.last().map_or("", |message| &message.content),
        }
    }
}

impl<'a> Input<'a> {
    /// Returns all that is said, in its order.
    pub fn messages(self) -> impl Iterator<Item = (Role, &'a str)> {
        let (system, prompt, chat) = match self {
            Self::Prompt { system, prompt } => (system, Some(prompt), &[][..]),
            Self::Chat(messages) => (None, None, messages),
        };
        let system = system.map(|content| (Role::System, content));
        let prompt = prompt.map(|content| (Role::User, content));
        let chat = chat.iter().map(|message| (message.role, &*message.content));
        system.into_iter().chain(prompt).chain(chat)
    }
}

impl<'a> Message<'a> {
    /// Returns what `role` said.
    pub fn new(role: Role, content: impl Into<Cow<'a, str>>) -> Self {
        Self { role, content: content.into() }
    }
}

impl Role {
    /// Returns its word in both dialects.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

impl DoneReason {
    /// Reads the word that the server sent.
    pub(super) fn of(word: &str) -> Self {
        match word {
            "stop" => Self::Stop,
            "length" => Self::Length,
            "load" | "unload" => Self::Load,
            "tool_calls" | "function_call" => Self::ToolCalls,
            "content_filter" => Self::ContentFilter,
            _ => Self::Unknown,
        }
    }
}
