//! Asks for an answer of a given form, and looks whether it has it.
//!
//! A server that knows schemas holds the model to them while it writes; others only know the words. So the answer is
//! read here, and one that misses the form is shown to the model once, with its mistakes. No more: a model that
//! misses twice misses a third time. The two calls are two calls; what they cost is summed.

use serde_json::Value;

use super::error::{Again, Error, Fault};
use super::model::{Answer, ChatModel, Input, Message, Request, Role, Usage};
use super::schema::Schema;

/// How much of a wrong answer is shown to the model, in bytes.
const SHOWN_MAX: usize = 16 * 1024;

/// An answer that has the form that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Structured {
    /// What was said.
    pub value: Value,
    /// The call that brought it; its usage is that of all calls.
    pub answer: Answer,
    /// How many calls it took: 1, or 2 after a repair.
    pub calls: u32,
}

/// Asks `model` for an answer of the form `schema`, and once more when the first one misses it.
///
/// # Errors
/// [`Fault::SchemaMismatch`] when the second answer misses it as well; the faults of either call as they are.
pub async fn ask(
    model: &dyn ChatModel,
    request: Request<'_>,
    schema: &Schema,
) -> Result<Structured, Error> {
    let request = request.with_format(schema);
    let first = model.ask(request).await?;
    let mistakes = match read(schema, &first.text) {
        Ok(value) => return Ok(Structured { value, answer: first, calls: 1 }),
        Err(mistakes) => mistakes,
    };
    let said = request.input.messages().map(|(role, content)| Message::new(role, content));
    let turn = [
        Message::new(Role::Assistant, beginning(&first.text)),
        Message::new(Role::User, complaint(schema, &mistakes)),
    ];
    let messages: Vec<_> = said.chain(turn).collect();
    let repair = Request { input: Input::Chat(&messages), ..request };
    let second = model.ask(repair).await?;
    let usage = sum(first.usage, second.usage);
    match read(schema, &second.text) {
        Ok(value) => {
            let answer = Answer { usage, ..second };
            Ok(Structured { value, answer, calls: 2 })
        }
        Err(mistakes) => {
            let fault = Fault::SchemaMismatch { mistakes: mistakes.join("; ") };
            Err(Error { endpoint: second.model, fault, again: Again::Here })
        }
    }
}

/// Returns the value of an answer, or its mistakes.
fn read(schema: &Schema, text: &str) -> Result<Value, Vec<String>> {
    let value =
        serde_json::from_str(bare(text)).map_err(|error| vec![format!("no JSON: {error}")])?;
    let mistakes = schema.mistakes(&value);
    if mistakes.is_empty() { Ok(value) } else { Err(mistakes) }
}

/// Returns the answer proper: without thoughts before it, and without the fence of a code block around it.
fn bare(text: &str) -> &str {
    let text = text.trim();
    let text = match text.strip_prefix("<think>").and_then(|rest| rest.split_once("</think>")) {
        Some((_, rest)) => rest.trim(),
        None => text,
    };
    let fenced = text.strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    let inner = fenced.and_then(|rest| rest.split_once('\n')).map(|(_, inner)| inner.trim());
    inner.unwrap_or(text)
}

fn beginning(text: &str) -> &str {
    // An empty message is no message to some servers.
    if text.is_empty() {
        return " ";
    }
    text.get(..text.floor_char_boundary(SHOWN_MAX)).unwrap_or(text)
}

fn complaint(schema: &Schema, mistakes: &[String]) -> String {
    format!(
        "This answer does not have the form that was asked for: {}\n\nGive the whole answer again, as one JSON value \
         that fits this JSON schema, and nothing else:\n{}",
        mistakes.join("; "),
        schema.json(),
    )
}

fn sum(first: Option<Usage>, second: Option<Usage>) -> Option<Usage> {
    let (Some(a), Some(b)) = (first, second) else { return first.or(second) };
    Some(Usage {
        input_tokens: a.input_tokens.saturating_add(b.input_tokens),
        output_tokens: a.output_tokens.saturating_add(b.output_tokens),
    })
}
