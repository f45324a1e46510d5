//! The conversation of a run: what a message is, and how new messages join it.
//! A message with an id that is there already replaces it in place; all others go to the end.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Removes every message that came before it.
const ALL: &str = "__remove_all__";

/// One message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    #[serde(rename = "type")]
    pub role: Role,
    /// What is said: text, or a list of parts.
    pub content: Value,
    /// Tells it from every other message.
    pub id: String,
    /// Who speaks, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whatever else came with it.
    #[serde(default, rename = "additional_kwargs", skip_serializing_if = "Map::is_empty")]
    pub extra: Map<String, Value>,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A person.
    Human,
    /// The model.
    Ai,
    /// Whoever set the rules.
    System,
    /// A tool that answers a call.
    Tool,
    /// A function that answers a call, in the older form.
    Function,
    /// Takes a message away: `id` names it, or all before it.
    Remove,
}

/// Why a value is no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Neither text, nor a pair of role and text, nor an object.
    #[error("a message is text, a pair of role and content, or an object")]
    Shape,
    /// An object without one of the keys that a message needs.
    #[error("a message needs {0}")]
    Missing(&'static str),
    /// A role that nobody has.
    #[error(
        "unknown role {0:?}: one of human, user, ai, assistant, system, developer, tool, function"
    )]
    Role(String),
    /// No messages at all, where a list was due.
    #[error("null is no list of messages")]
    Null,
}

impl Message {
    /// Reads one message or a list of them, in any of the forms that chat libraries write.
    /// `new_id` names those that have no id.
    ///
    /// # Errors
    /// [`MessageError`], for the first value that is no message.
    pub fn read(
        value: Value,
        new_id: &mut dyn FnMut() -> String,
    ) -> Result<Vec<Self>, MessageError> {
        match value {
            Value::Null => Err(MessageError::Null),
            Value::Array(values) => {
                values.into_iter().map(|value| Self::read_one(value, new_id)).collect()
            }
            one @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_)) => {
                Ok(vec![Self::read_one(one, new_id)?])
            }
        }
    }

    fn read_one(value: Value, new_id: &mut dyn FnMut() -> String) -> Result<Self, MessageError> {
        match value {
            Value::String(text) => Ok(Self::new(Role::Human, text.into(), new_id())),
            Value::Array(pair) => {
                let [Value::String(role), content] =
                    <[Value; 2]>::try_from(pair).map_err(|_| MessageError::Shape)?
                else {
                    return Err(MessageError::Shape);
                };
                Ok(Self::new(Role::of(&role)?, content, new_id()))
            }
            Value::Object(fields) => Self::read_object(fields, new_id),
            Value::Null | Value::Bool(_) | Value::Number(_) => Err(MessageError::Shape),
        }
    }

    fn read_object(
        mut fields: Map<String, Value>,
        new_id: &mut dyn FnMut() -> String,
    ) -> Result<Self, MessageError> {
        let mut text = |name: &str| match fields.shift_remove(name) {
            Some(Value::String(text)) => Some(text),
            Some(_) | None => None,
        };
        let role = text("role").or_else(|| text("type")).ok_or(MessageError::Missing("role"))?;
        let (id, name, call) = (text("id"), text("name"), text("tool_call_id"));
        let content = fields.shift_remove("content").ok_or(MessageError::Missing("content"))?;
        let role = Role::of(&role)?;
        if role == Role::Tool && call.is_none() {
            return Err(MessageError::Missing("tool_call_id"));
        }
        let id = id.unwrap_or_else(new_id);
        Ok(Self { name, extra: fields, ..Self::new(role, content, id) })
    }

    fn new(role: Role, content: Value, id: String) -> Self {
        Self { role, content, id, name: None, extra: Map::new() }
    }
}

impl Role {
    fn of(word: &str) -> Result<Self, MessageError> {
        match word {
            "human" | "user" => Ok(Self::Human),
            "ai" | "assistant" => Ok(Self::Ai),
            "system" | "developer" => Ok(Self::System),
            "tool" => Ok(Self::Tool),
            "function" => Ok(Self::Function),
            "remove" => Ok(Self::Remove),
            other => Err(MessageError::Role(other.to_owned())),
        }
    }
}

/// Adds `new` to the conversation `messages`.
pub fn add_messages(messages: &mut Vec<Message>, mut new: Vec<Message>) {
    let removes_all = |message: &Message| message.role == Role::Remove && message.id == ALL;
    if let Some(last) = new.iter().rposition(removes_all) {
        messages.clear();
        new.drain(..=last);
    }
    for message in new {
        let same = messages.iter().position(|known| known.id == message.id);
        match (same.and_then(|at| messages.get_mut(at).map(|known| (at, known))), message.role) {
            (Some((at, _)), Role::Remove) => drop(messages.remove(at)),
            (Some((_, known)), _) => *known = message,
            (None, Role::Remove) => {}
            (None, _) => messages.push(message),
        }
    }
}
