//! Sorts what a server says when it does not answer, by status *and* message.
//!
//! Ollama answers 500 to several mistakes of the caller, 404 in three meanings, and after the first line of a stream
//! an error can only be told by its words. Gateways answer with pages. What isn't known is taken by its status alone.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::Fault;
use super::json;

/// The longest wait that a server may ask for; a longer one would park the event beyond its use.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);

/// The status that stands for an error in the middle of a stream.
const IN_STREAM: u16 = 200;

/// A reply that is no answer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Refusal<'a> {
    /// The HTTP status.
    pub(super) status: u16,
    /// What `Retry-After` comes to.
    pub(super) after: Option<Duration>,
    /// The `Location`, without credentials and query.
    pub(super) location: Option<&'a str>,
    /// The beginning of the body.
    pub(super) body: &'a [u8],
}

/// What the server says.
#[derive(Debug, Default)]
struct Words {
    /// Its message, on one line.
    message: String,
    /// OpenAI's code or type of the error.
    code: String,
    /// Whether the body is an error of the API, not a page or a gateway's note.
    api: bool,
}

impl Refusal<'_> {
    /// Returns what went wrong.
    pub(super) fn fault(self) -> Fault {
        let Self { status, after, location, body } = self;
        let words = Words::of_body(body);
        if words.tell_overflow() && matches!(status, 400 | 413 | 422 | 500) {
            return Fault::ContextOverflow { message: words.message };
        }
        let about_model = words.api && words.name_a_model();
        let message = words.or_status(status);
        match status {
            300..=399 => Fault::Redirected { status, to: location.unwrap_or("nowhere").to_owned() },
            401 | 403 | 407 => Fault::Unauthorized { status, message },
            404 if about_model => Fault::ModelMissing { message },
            404 | 405 => Fault::WrongUrl { status, message },
            429 => Fault::RateLimited { after, message },
            503 | 529 => Fault::Overloaded { after, message },
            500 if is_callers(&message) => Fault::InvalidRequest { status, message },
            501 => Fault::InvalidRequest { status, message },
            408 | 425 | 500.. => Fault::ServerError { status, after, message },
            _ => Fault::InvalidRequest { status, message },
        }
    }
}

/// Returns what an `error` inside a stream means: the status was sent long before.
pub(super) fn in_stream(error: &RawValue) -> Fault {
    let words = Words::of_error(error);
    if words.tell_overflow() {
        return Fault::ContextOverflow { message: words.message };
    }
    let message = words.or_status(IN_STREAM);
    if is_callers(&message) {
        Fault::InvalidRequest { status: IN_STREAM, message }
    } else {
        Fault::ServerError { status: IN_STREAM, after: None, message }
    }
}

/// Returns what a `Retry-After` asks for, seconds or an HTTP date, at most an hour.
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    let wait = if value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number takes mean the maximum all the same.
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        let date = DateTimeParser::new().relaxed_weekday(true).parse_timestamp(value).ok()?;
        let now = Timestamp::try_from(now).ok()?;
        Duration::try_from(date.duration_since(now)).unwrap_or_default()
    };
    (!value.is_empty()).then(|| wait.min(RETRY_AFTER_MAX))
}

/// Returns whether Ollama's 500 is the caller's mistake: no server and no time would do better.
fn is_callers(message: &str) -> bool {
    let beginnings = ["option \"", "invalid format", "invalid JSON schema"];
    beginnings.iter().any(|beginning| message.starts_with(beginning))
        || message.contains("missing data required for image input")
}

impl Words {
    fn of_body(body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let text = text.trim_start_matches('\u{feff}').trim();
        let Ok(page) = serde_json::from_str::<Page<'_>>(text) else {
            let message = match text.strip_prefix('<') {
                Some(_) => format!("a page of {} bytes", body.len()),
                None => json::quote(text),
            };
            return Self { message, ..Self::default() };
        };
        match (page.error, page.message.or(page.detail)) {
            (Some(error), _) => Self { api: true, ..Self::of_error(error) },
            // vLLM and others write the error flat.
            (None, Some(message)) => {
                let api = page.object.is_some_and(|object| object.get() == "\"error\"");
                Self {
                    message: plain(message),
                    code: page.code.map(plain).unwrap_or_default(),
                    api,
                }
            }
            (None, None) => Self { message: json::quote(text), ..Self::default() },
        }
    }

    fn of_error(error: &RawValue) -> Self {
        let Ok(detail) = serde_json::from_str::<Page<'_>>(error.get()) else {
            return Self { message: plain(error), ..Self::default() };
        };
        // Some repeat the status as the code; then the type is what tells.
        let code = detail.code.filter(|code| code.get().starts_with('"')).or(detail.kind);
        Self {
            message: detail.message.map_or_else(|| plain(error), plain),
            code: code.map(plain).unwrap_or_default(),
            api: false,
        }
    }

    fn tell_overflow(&self) -> bool {
        let message = self.message.to_ascii_lowercase();
        let phrases = ["context length", "context size", "maximum context", "context window"];
        phrases.iter().any(|phrase| message.contains(phrase))
            || matches!(&*self.code, "context_length_exceeded" | "exceed_context_size_error")
    }

    fn name_a_model(&self) -> bool {
        self.code == "model_not_found" || self.message.to_ascii_lowercase().contains("model")
    }

    /// Returns the message; where the server sent none, what its status alone most likely means.
    fn or_status(self, status: u16) -> String {
        if !self.message.is_empty() {
            return self.message;
        }
        match status {
            403 => "no reason given; an Ollama bound to loopback refuses every Host header but local names",
            _ => "no reason given",
        }
        .to_owned()
    }
}

/// Returns a string's text, and anything else as it stands.
fn plain(value: &RawValue) -> String {
    let mut text = String::new();
    match json::append(value, &mut text) {
        Ok(()) => json::quote(&text),
        Err(_) => json::quote(value.get()),
    }
}

/// An error as one of the known servers writes it, at the top or under `error`.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    detail: Option<&'a RawValue>,
    #[serde(borrow)]
    code: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    object: Option<&'a RawValue>,
}
