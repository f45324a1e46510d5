//! Ollama's own API: one JSON object per line, the last one with `done`.

use std::fmt;
use std::time::Duration;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::error::{Cut, Fault};
use super::json;
use super::lines::Lines;
use super::model::{DoneReason, ServerTimings, Usage};
use super::reader::{Bounds, Draft};
use super::refusal;

/// Reads the lines of an answer.
#[derive(Debug)]
pub(super) struct Reader {
    lines: Lines,
    state: State,
}

#[derive(Debug)]
struct State {
    bounds: Bounds,
    draft: Draft,
    answered: bool,
    done: bool,
    /// `done_reason` says `length`, and nothing at all was generated.
    overflowed: bool,
}

impl Reader {
    /// Expects the lines of one answer.
    pub(super) fn new(bounds: Bounds) -> Self {
        let state = State {
            bounds,
            draft: Draft::default(),
            answered: false,
            done: false,
            overflowed: false,
        };
        Self { lines: Lines::new(bounds.line), state }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let Self { lines, state } = self;
        lines.push(bytes, |line| state.take(line).map_err(Unread::into_fault))
    }

    pub(super) fn is_done(&self) -> bool {
        self.state.done
    }

    pub(super) fn finish(mut self) -> Result<Draft, Fault> {
        let rest = self.lines.finish();
        match self.state.take(&rest) {
            Ok(()) => {}
            Err(Unread::Json(error)) if json::is_cut(&rest, &error) => {
                return Err(truncated("the stream ends in the middle of a line", Cut::Broken));
            }
            Err(unread) => return Err(unread.into_fault()),
        }
        let State { draft, answered, done, overflowed, .. } = self.state;
        if !answered {
            return Err(truncated("the body is empty", Cut::Broken));
        }
        if !done {
            return Err(truncated("the stream ends without `done`", Cut::Ended));
        }
        if overflowed && draft.text.is_empty() {
            let message = "the model had no room left to answer".to_owned();
            return Err(Fault::ContextOverflow { message });
        }
        Ok(draft)
    }
}

impl State {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Unread> {
        if bytes.trim_ascii().is_empty() {
            return Ok(());
        }
        let mut store = String::new();
        let line: Line<'_> = json::parse(bytes, &mut store).map_err(Unread::Json)?;
        self.answered = true;
        if let Some(error) = line.error.filter(|error| json::is_truthy(error)) {
            return Err(Unread::Fault(refusal::in_stream(error)));
        }
        self.append(&line).map_err(Unread::Json)?;
        self.draft.check(self.bounds).map_err(Unread::Fault)?;
        if !self.done && line.done.is_some_and(|done| done.get() == "true") {
            self.done = true;
            self.close(&line);
        }
        Ok(())
    }

    /// Appends the text of a line of `/api/generate` or `/api/chat`; after `done` it is checked and left out.
    fn append(&mut self, line: &Line<'_>) -> Result<(), serde_json::Error> {
        let length = self.draft.text.len();
        if let Some(response) = line.response {
            json::append(response, &mut self.draft.text)?;
        }
        if let Some(message) = line.message {
            let message: Option<Message<'_>> = serde_json::from_str(message.get())?;
            if let Some(content) = message.and_then(|message| message.content) {
                json::append(content, &mut self.draft.text)?;
            }
        }
        if self.done {
            self.draft.text.truncate(length);
        }
        Ok(())
    }

    fn close(&mut self, line: &Line<'_>) {
        let count = |field: Option<&RawValue>| field.and_then(json::count);
        let time = |field| count(field).map(Duration::from_nanos).unwrap_or_default();
        let (input, output) = (count(line.prompt_eval_count), count(line.eval_count));
        let mut reason = String::new();
        if line.done_reason.is_some_and(|word| json::append(word, &mut reason).is_ok()) {
            self.draft.done_reason = DoneReason::of(&reason);
        }
        self.overflowed =
            self.draft.done_reason == DoneReason::Length && input.is_some() && output.is_none();
        self.draft.usage = (input.is_some() || output.is_some()).then(|| Usage {
            input_tokens: input.unwrap_or_default(),
            output_tokens: output.unwrap_or_default(),
        });
        self.draft.server = ServerTimings {
            load: time(line.load_duration),
            prompt: time(line.prompt_eval_duration),
            answer: time(line.eval_duration),
        };
    }
}

/// Why a line was not taken.
enum Unread {
    Json(serde_json::Error),
    Fault(Fault),
}

impl Unread {
    fn into_fault(self) -> Fault {
        match self {
            Self::Json(error) => {
                Fault::BadOutput { reason: format!("a line of the stream: {error}") }
            }
            Self::Fault(fault) => fault,
        }
    }
}

fn truncated(reason: &str, cut: Cut) -> Fault {
    Fault::Truncated { reason: reason.to_owned(), cut }
}

/// The fields of a line that are looked at, each as it stands: a server that gets one wrong that doesn't matter is
/// still understood. Of a field that comes twice the last one counts.
#[derive(Default)]
struct Line<'a> {
    response: Option<&'a RawValue>,
    message: Option<&'a RawValue>,
    error: Option<&'a RawValue>,
    done: Option<&'a RawValue>,
    done_reason: Option<&'a RawValue>,
    load_duration: Option<&'a RawValue>,
    prompt_eval_count: Option<&'a RawValue>,
    prompt_eval_duration: Option<&'a RawValue>,
    eval_count: Option<&'a RawValue>,
    eval_duration: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    Response,
    Message,
    Error,
    Done,
    DoneReason,
    LoadDuration,
    PromptEvalCount,
    PromptEvalDuration,
    EvalCount,
    EvalDuration,
    #[serde(other)]
    Other,
}

impl<'de: 'a, 'a> Deserialize<'de> for Line<'a> {
    fn deserialize<D>(deserializer: D) -> Result<Self, D::Error>
    where
        D: Deserializer<'de>,
    {
        deserializer.deserialize_map(Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Line<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A>(self, mut map: A) -> Result<Self::Value, A::Error>
    where
        A: MapAccess<'de>,
    {
        let mut line = Line::default();
        while let Some(key) = map.next_key()? {
            let field = match key {
                Key::Response => &mut line.response,
                Key::Message => &mut line.message,
                Key::Error => &mut line.error,
                Key::Done => &mut line.done,
                Key::DoneReason => &mut line.done_reason,
                Key::LoadDuration => &mut line.load_duration,
                Key::PromptEvalCount => &mut line.prompt_eval_count,
                Key::PromptEvalDuration => &mut line.prompt_eval_duration,
                Key::EvalCount => &mut line.eval_count,
                Key::EvalDuration => &mut line.eval_duration,
                Key::Other => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            *field = Some(map.next_value()?);
        }
        Ok(line)
    }
}
