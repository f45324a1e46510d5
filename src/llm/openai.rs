//! OpenAI's chat completions, as OpenAI, vLLM, llama.cpp, LiteLLM and Ollama itself speak it: server-sent events
//! that end with `[DONE]`, or one JSON object from a server that does not stream.
//!
//! A model that refuses says so in a field of its own; that is its answer like any other, and is taken as the text.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::error::{Cut, Fault};
use super::json;
use super::lines::Lines;
use super::model::{DoneReason, Request, Usage};
use super::ollama_request::Messages;
use super::reader::{Bounds, Draft};
use super::refusal;
use super::schema::Schema;

/// Where questions go, under the base URL.
pub(super) const COMPLETIONS: &str = "chat/completions";
/// The list of models: what every such server answers without work.
pub(super) const MODELS: &str = "models";

/// The last line of a stream.
const END: &[u8] = b"data: [DONE]";

/// The byte order mark.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// Returns the body of a request.
pub(super) fn body(model: &str, temperature: f64, request: &Request<'_>) -> Vec<u8> {
    let form = |schema| ResponseFormat {
        kind: "json_schema",
        json_schema: JsonSchema { name: "answer", schema },
    };
    // Strings and a number: nothing in it can fail to be written.
    serde_json::to_vec(&Completion {
        model,
        messages: Messages(request.input),
        stream: true,
        stream_options: StreamOptions { include_usage: true },
        temperature,
        response_format: request.format.map(form),
    })
    .unwrap_or_default()
}

#[derive(Serialize)]
struct Completion<'a> {
    model: &'a str,
    messages: Messages<'a>,
    stream: bool,
    stream_options: StreamOptions,
    temperature: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<ResponseFormat<'a>>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
struct ResponseFormat<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    json_schema: JsonSchema<'a>,
}

/// Not `strict`: OpenAI would then refuse every schema with an optional field, and the answer is looked at all the same.
#[derive(Serialize)]
struct JsonSchema<'a> {
    name: &'static str,
    schema: &'a Schema,
}

/// Reads an answer, streamed or whole.
#[derive(Debug)]
pub(super) struct Reader {
    lines: Lines,
    form: Form,
    state: State,
}

/// How the body is written; the first byte that says anything tells.
#[derive(Debug)]
enum Form {
    Unknown(Vec<u8>),
    Events,
    Whole(Vec<u8>),
}

#[derive(Debug)]
struct State {
    bounds: Bounds,
    draft: Draft,
    event: Vec<u8>,
    answered: bool,
    /// Whether it had a choice: what has none is no answer, not even an empty one.
    chose: bool,
    done: bool,
}

impl Reader {
    /// Expects one answer.
    pub(super) fn new(bounds: Bounds) -> Self {
        let state = State {
            bounds,
            draft: Draft::default(),
            event: Vec::new(),
            answered: false,
            chose: false,
            done: false,
        };
        Self { lines: Lines::new(bounds.line), form: Form::Unknown(Vec::new()), state }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let Self { lines, form, state } = self;
        match form {
            Form::Unknown(begin) => {
                // Blanks say nothing, before the mark and after it.
                let begun = if begin.is_empty() || begin == MARK {
                    bytes.trim_ascii_start()
                } else {
                    bytes
                };
                begin.extend_from_slice(begun);
                let begin = std::mem::take(begin);
                let marked = begin.strip_prefix(MARK);
                let text = marked.unwrap_or(&begin).trim_ascii_start();
                *form = match text.first() {
                    // Nothing but the mark so far, which is one only where it comes first.
                    None => {
                        *form = Form::Unknown(marked.map_or_else(Vec::new, |_| MARK.to_vec()));
                        return Ok(());
                    }
                    Some(b'{') => Form::Whole(Vec::new()),
                    Some(_) if marked.is_none() && MARK.starts_with(&begin) => {
                        *form = Form::Unknown(begin);
                        return Ok(());
                    }
                    Some(_) => Form::Events,
                };
                self.push(text)
            }
            Form::Events => lines.push(bytes, |line| state.line(line)),
            Form::Whole(body) => {
                body.extend_from_slice(bytes);
                if body.len() > state.bounds.line {
                    return Err(Fault::TooLarge { what: "body", limit: state.bounds.line });
                }
                Ok(())
            }
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.state.done
    }

    pub(super) fn finish(mut self) -> Result<Draft, Fault> {
        match self.form {
            Form::Unknown(_) => {}
            Form::Events => {
                let rest = self.lines.finish();
                if END.starts_with(&rest) && !rest.is_empty() && rest.len() < END.len() {
                    return Err(truncated("the stream ends in the middle of a line", Cut::Broken));
                }
                self.state.line(&rest).and_then(|()| self.state.dispatch(Ended::Body))?;
            }
            Form::Whole(body) => self.state.take(&body, Ended::Body)?,
        }
        let State { draft, answered, chose, done, .. } = self.state;
        if !answered {
            return Err(truncated("the body is empty", Cut::Broken));
        }
        if !done {
            return Err(truncated(
                "the stream ends without `finish_reason` or `[DONE]`",
                Cut::Ended,
            ));
        }
        if !chose {
            let reason = "a chat completion without a choice".to_owned();
            return Err(Fault::BadOutput { reason });
        }
        Ok(draft)
    }
}

/// What an event ended with.
#[derive(Clone, Copy)]
enum Ended {
    Blank,
    Body,
}

impl State {
    /// Takes a line of the event stream: a field of the event, a comment, or the blank line that ends the event.
    fn line(&mut self, line: &[u8]) -> Result<(), Fault> {
        if line.is_empty() {
            return self.dispatch(Ended::Blank);
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        match name {
            b"data" => {
                let value = value.get(1..).unwrap_or_default();
                if !self.event.is_empty() {
                    self.event.push(b'\n');
                }
                self.event.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
                if self.event.len() > self.bounds.line {
                    return Err(Fault::TooLarge { what: "event", limit: self.bounds.line });
                }
                Ok(())
            }
            b"" | b"event" | b"id" | b"retry" => Ok(()),
            _ => {
                let quoted = json::quote(&String::from_utf8_lossy(line));
                Err(Fault::BadOutput { reason: format!("no event stream: {quoted}") })
            }
        }
    }

    fn dispatch(&mut self, ended: Ended) -> Result<(), Fault> {
        let mut event = std::mem::take(&mut self.event);
        let taken = match event.trim_ascii() {
            b"" => Ok(()),
            b"[DONE]" => {
                self.answered = true;
                self.done = true;
                Ok(())
            }
            data => self.take(data, ended),
        };
        event.clear();
        self.event = event;
        taken
    }

    fn take(&mut self, data: &[u8], ended: Ended) -> Result<(), Fault> {
        let mut store = String::new();
        let chunk: Chunk<'_> = json::parse(data, &mut store).map_err(|error| match ended {
            Ended::Body if json::is_cut(data, &error) => {
                truncated("the stream ends in the middle of an event", Cut::Broken)
            }
            Ended::Body | Ended::Blank => not_understood(&error),
        })?;
        self.answered = true;
        if let Some(error) = chunk.error.filter(|error| json::is_truthy(error)) {
            return Err(refusal::in_stream(error));
        }
        // vLLM and others write the error flat.
        if chunk.object.is_some_and(|object| object.get() == "\"error\"") {
            return Err(refusal::in_stream(chunk.message.unwrap_or(RawValue::NULL)));
        }
        let (late, length) = (self.done, self.draft.text.len());
        let choices = chunk.choices.unwrap_or_default();
        for choice in choices.iter().filter(|choice| choice.index.unwrap_or_default() == 0) {
            self.choose(choice).map_err(|error| not_understood(&error))?;
        }
        if late {
            self.draft.text.truncate(length);
        }
        if let Some(usage) = chunk.usage {
            self.draft.usage = Some(Usage {
                input_tokens: usage.prompt_tokens.and_then(json::count).unwrap_or_default(),
                output_tokens: usage.completion_tokens.and_then(json::count).unwrap_or_default(),
            });
        }
        self.draft.check(self.bounds)
    }

    fn choose(&mut self, choice: &Choice<'_>) -> Result<(), serde_json::Error> {
        self.chose = true;
        let part = choice.delta.as_ref().or(choice.message.as_ref());
        if let Some(content) = part.and_then(|part| part.content.or(part.refusal)) {
            json::append(content, &mut self.draft.text)?;
        }
        if let Some(reason) = choice.finish_reason {
            let mut word = String::new();
            json::append(reason, &mut word)?;
            if !word.is_empty() {
                self.done = true;
                self.draft.done_reason = DoneReason::of(&word);
            }
        }
        Ok(())
    }
}

fn truncated(reason: &str, cut: Cut) -> Fault {
    Fault::Truncated { reason: reason.to_owned(), cut }
}

fn not_understood(error: &serde_json::Error) -> Fault {
    Fault::BadOutput { reason: format!("a chat completion: {error}") }
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    choices: Option<Vec<Choice<'a>>>,
    #[serde(borrow, default)]
    usage: Option<Tokens<'a>>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    object: Option<&'a RawValue>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    index: Option<u64>,
    #[serde(borrow, default)]
    delta: Option<Part<'a>>,
    #[serde(borrow, default)]
    message: Option<Part<'a>>,
    #[serde(borrow, default)]
    finish_reason: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    refusal: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Tokens<'a> {
    #[serde(borrow, default)]
    prompt_tokens: Option<&'a RawValue>,
    #[serde(borrow, default)]
    completion_tokens: Option<&'a RawValue>,
}
