//! What a model is asked, and what it answers.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::error::Error;
use super::queue::QueueTime;

/// A model that answers one prompt.
///
/// The answer is complete or it is an error; a future that is dropped takes its connection with it.
pub trait ChatModel: Send + Sync {
    /// Asks once. Never retries: that is the caller's, who knows what was journaled.
    fn ask<'a>(&'a self, request: Request<'a>) -> BoxFuture<'a, Result<Answer, Error>>;
}

/// One question.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What the model is told about its role, where anything.
    pub system: Option<&'a str>,
    /// The question itself, sent as it stands.
    pub prompt: &'a str,
    /// The model that is asked; `None` asks the configured one. Names come from graphs and their configuration, never
    /// from events: each has a line and figures of its own.
    pub model: Option<&'a str>,
    /// Where the time spent in line is counted: the limit on a run's own time leaves it out.
    pub queue: &'a QueueTime,
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
