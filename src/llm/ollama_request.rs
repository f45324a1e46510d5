//! What Ollama is asked, and where.
//!
//! A model's runner is loaded with some of the options, and a request that brings others makes the server load it
//! again. So [`Terms`] are one set per model, the same in every call to it.

use serde::{Serialize, Serializer};

use super::error::{Cut, Fault};
use super::estimate::Estimate;
use super::keep_alive::KeepAlive;
use super::model::{Input, Request};
use super::schema::Schema;

/// Where prompts go, under the base URL.
const GENERATE: &str = "api/generate";
/// Where conversations go.
const CHAT: &str = "api/chat";
/// What answers at once, also while a model loads or requests queue.
pub(super) const VERSION: &str = "api/version";
/// What a model is, and whether it is there.
pub(super) const SHOW: &str = "api/show";
/// Which models are there, with their digests.
pub(super) const TAGS: &str = "api/tags";
/// Which models are loaded, and with what context.
pub(super) const PS: &str = "api/ps";
/// Fetches a model.
pub(super) const PULL: &str = "api/pull";

/// The smallest context that an Ollama of any release gives a model by itself, in tokens.
const CONTEXT_DEFAULT_MIN: u64 = 2048;

/// How a model is run; what is not set is left to the server and to the model's own file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) temperature: f64,
    pub(super) num_ctx: Option<u64>,
    pub(super) keep_alive: Option<KeepAlive>,
}

impl Terms {
    /// Returns a fault as it stands for a model that is asked by these terms: at temperature 0 it says what it said.
    pub(super) fn judge(&self, mut fault: Fault) -> Fault {
        if let Fault::Truncated { cut: cut @ Cut::Ended, .. } = &mut fault
            && self.temperature <= 0.0
        {
            *cut = Cut::EndedForGood;
        }
        fault
    }
}

/// Returns where a question goes.
pub(super) fn path(request: &Request<'_>) -> &'static str {
    match request.input {
        Input::Prompt { .. } => GENERATE,
        Input::Chat(_) => CHAT,
    }
}

/// Returns the body of a request.
///
/// A prompt that fits any context goes out as the original's, its fields in its order and none besides; a test of
/// recorded requests holds that. A longer one, by its estimate, asks the server to refuse what it would else cut in
/// silence.
pub(super) fn body(
    model: &str,
    terms: &Terms,
    request: &Request<'_>,
    estimate: Estimate,
) -> Vec<u8> {
    let (prompt, system, messages) = match request.input {
        Input::Prompt { system, prompt } => (Some(prompt), system, None),
        Input::Chat(_) => (None, None, Some(Messages(request.input))),
    };
    let format = match (request.format, request.input) {
        (Some(schema), _) => Some(Format::Schema(schema)),
        (None, Input::Prompt { .. }) => Some(Format::None("")),
        (None, Input::Chat(_)) => None,
    };
    let may_be_cut =
        terms.num_ctx.is_some() || messages.is_some() || estimate.most > CONTEXT_DEFAULT_MIN;
    // Strings and numbers: nothing in it can fail to be written.
    serde_json::to_vec(&Body {
        model,
        stream: true,
        options: Options { temperature: terms.temperature, num_ctx: terms.num_ctx },
        format,
        prompt,
        system,
        messages,
        keep_alive: terms.keep_alive,
        truncate: may_be_cut.then_some(false),
        // Newer servers load the runner with it: so it goes with `num_ctx`, with every request or with none.
        shift: terms.num_ctx.map(|_| false),
    })
    .unwrap_or_default()
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    stream: bool,
    options: Options,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<Format<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<Messages<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_alive: Option<KeepAlive>,
    #[serde(skip_serializing_if = "Option::is_none")]
    truncate: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shift: Option<bool>,
}

#[derive(Serialize)]
struct Options {
    temperature: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    num_ctx: Option<u64>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Format<'a> {
    /// No format; the original sends it empty.
    None(&'static str),
    Schema(&'a Schema),
}

/// What is said, as both dialects write it.
#[derive(Clone, Copy)]
pub(super) struct Messages<'a>(pub(super) Input<'a>);

impl Serialize for Messages<'_> {
    fn serialize<S>(&self, serializer: S) -> Result<S::Ok, S::Error>
    where
        S: Serializer,
    {
        #[derive(Serialize)]
        struct Said<'a> {
            role: &'static str,
            content: &'a str,
        }
        let said = self.0.messages().map(|(role, content)| Said { role: role.as_str(), content });
        serializer.collect_seq(said)
    }
}
