//! What becomes of an event that did not succeed: the record of the dead-letter topic.
//!
//! It always fits: whole if it can be, else with the payload cut, and the texts that a client may
//! have made long. Nothing is cut silently: a text then ends in an ellipsis, `original.truncated`
//! speaks for the payload, and `source` says where the whole record lies.

use std::borrow::Cow;

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use uuid::Uuid;

use super::json::{Object, Tree, excerpt};
use super::{Ids, Timestamp, WorkflowEvent};
use crate::record::{Offset, PartitionId, Record};

/// The smallest limit that [`DeadLetter::encode`] keeps.
const LIMIT_MIN: usize = 2048;

/// The longest name that Kafka gives a topic.
const TOPIC_MAX: usize = 249;

/// One dead letter.
#[derive(Debug, Clone, Copy)]
pub struct DeadLetter<'a> {
    /// The letter's own id.
    pub id: Uuid,
    /// When it was written.
    pub timestamp: jiff::Timestamp,
    /// Where the record lies that it is about.
    pub origin: Origin<'a>,
    /// What the record says.
    pub original: Original<'a>,
    /// The error's class, a stable code such as `llm.timeout`; at most 64 characters.
    pub class: &'static str,
    /// The error in words; what goes beyond an eighth of the letter's limit is cut.
    pub message: &'a str,
    /// How often the event was tried: 0 for a record that is no event.
    pub attempts: u32,
}

/// Where a record came from.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: PartitionId,
    /// The offset in the partition.
    pub offset: Offset,
    /// The record's time in milliseconds since the Unix epoch, if it has one.
    pub timestamp_ms: Option<i64>,
}

/// What a dead letter is about.
#[derive(Debug, Clone, Copy)]
pub enum Original<'a> {
    /// An event that was accepted.
    Event(&'a WorkflowEvent),
    /// A record that was refused.
    Refused {
        /// Its value; `None` for a tombstone.
        value: Option<&'a [u8]>,
        /// The ids that could be read.
        ids: &'a Ids,
    },
}

impl<'a> Origin<'a> {
    /// Returns the place of a record of `topic`.
    #[must_use]
    pub fn of(topic: &'a str, record: &Record) -> Self {
        let position = record.position;
        Self {
            topic,
            partition: position.partition,
            offset: position.offset,
            timestamp_ms: record.timestamp_ms,
        }
    }
}

impl DeadLetter<'_> {
    /// Writes it as compact JSON of at most `limit` bytes; a limit below 2 KiB counts as 2 KiB.
    ///
    /// An accepted event stands in `original_event` in its normal form. Of a refused record that
    /// field holds the value if that is an object which plain JSON can carry, and `original` the
    /// value as it came: as text, or in base64 if it is not UTF-8. What does not fit is cut:
    /// `payload.data` of an event becomes null, which no consumer takes for an event, and
    /// `original` holds the beginning of the text.
    #[must_use]
    pub fn encode(&self, limit: usize) -> Bytes {
        let limit = limit.max(LIMIT_MIN);
        let whole = match self.original {
            Original::Event(event) => self.whole_event(event, limit),
            Original::Refused { value, .. } => self.whole_record(value, limit),
        };
        whole.unwrap_or_else(|| self.cut(limit)).into()
    }

    /// Returns the record's key: the event's id as text, if there is one to read.
    #[must_use]
    pub fn key(&self) -> Option<Bytes> {
        let event_id = match self.original {
            Original::Event(event) => Some(event.event_id),
            Original::Refused { ids, .. } => ids.event_id,
        };
        event_id.map(|id| id.to_string().into())
    }

    /// Returns the record's headers, for consumers that sort letters without reading them. All are
    /// text.
    #[must_use]
    pub fn headers(&self) -> Vec<(&'static str, Bytes)> {
        let origin = self.origin;
        let headers = [
            ("weir.error.class", Some(self.class.to_owned())),
            ("weir.original.topic", Some(origin.topic.to_owned())),
            ("weir.original.partition", Some(origin.partition.to_string())),
            ("weir.original.offset", Some(origin.offset.to_string())),
            ("weir.original.timestamp", origin.timestamp_ms.map(|time| time.to_string())),
            ("weir.attempts", Some(self.attempts.to_string())),
        ];
        headers.into_iter().filter_map(|(name, text)| Some((name, text?.into()))).collect()
    }

    fn whole_event(&self, event: &WorkflowEvent, limit: usize) -> Option<String> {
        let letter = self.letter(&event.normal_text(), None, &Room::whole(limit));
        (letter.len() <= limit).then_some(letter)
    }

    fn whole_record(&self, value: Option<&[u8]>, limit: usize) -> Option<String> {
        if value.is_some_and(|value| value.len() > limit) {
            return None;
        }
        let original = record_json(value, usize::MAX);
        let object = value.and_then(plain_object);
        let room = Room::whole(limit);
        let with_object = object.map(|object| self.letter(&object, Some(&original), &room));
        with_object.filter(|letter| letter.len() <= limit).or_else(|| {
            let without = self.letter("null", Some(&original), &room);
            (without.len() <= limit).then_some(without)
        })
    }

    fn cut(&self, limit: usize) -> String {
        let room = Room { text: limit / 32, ..Room::whole(limit) };
        let (event, value) = match self.original {
            Original::Event(event) => {
                let frame = event.write("null", |text| room.text(text));
                (frame, Some(Cow::Owned(event.normal_text().into_bytes())))
            }
            Original::Refused { value, .. } => ("null".to_owned(), value.map(Cow::Borrowed)),
        };
        let letter = |room_for_value| {
            let original = record_json(value.as_deref(), room_for_value);
            self.letter(&event, Some(&original), &room)
        };
        // One byte more, because `false` is longer than `true`: the value may fit whole where the
        // ids did not.
        let frame = letter(0).len() + 1;
        letter(limit.saturating_sub(frame))
    }

    fn letter(&self, event: &str, original: Option<&str>, room: &Room) -> String {
        let error = Object::new()
            .text("type", self.class)
            .text("message", &room.message(self.message))
            .json("traceback", "null")
            .end();
        let (workflow_id, workflow_run_id) = match self.original {
            Original::Event(event) => {
                (Some(event.workflow_id.as_str()), Some(event.workflow_run_id.as_str()))
            }
            Original::Refused { ids, .. } => {
                (ids.workflow_id.as_deref(), ids.workflow_run_id.as_deref())
            }
        };
        let context = Object::new()
            .optional("workflow_id", workflow_id.map(|id| room.text(id)).as_deref())
            .optional("workflow_run_id", workflow_run_id.map(|id| room.text(id)).as_deref())
            .end();
        let letter = Object::new()
            .text("dlq_id", &self.id.to_string())
            .text("timestamp", &Timestamp::from(self.timestamp).to_string())
            .json("original_event", event)
            .json("error", &error)
            .json("retry_count", &self.attempts.saturating_sub(1).to_string())
            .json("context", &context)
            .json("source", &self.origin.json());
        match original {
            Some(original) => letter.json("original", original).end(),
            None => letter.end(),
        }
    }
}

impl Origin<'_> {
    fn json(&self) -> String {
        let timestamp =
            self.timestamp_ms.map_or_else(|| "null".to_owned(), |time| time.to_string());
        Object::new()
            .text("topic", excerpt(self.topic, TOPIC_MAX))
            .json("partition", &self.partition.to_string())
            .json("offset", &self.offset.to_string())
            .json("timestamp_ms", &timestamp)
            .end()
    }
}

/// How many bytes the texts may take that come from outside, written as JSON.
struct Room {
    text: usize,
    message: usize,
}

impl Room {
    /// An eighth of the letter for the message, so that no message drives out what it is about.
    fn whole(limit: usize) -> Self {
        Self { text: usize::MAX, message: limit / 8 }
    }

    fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        shortened(text, self.text)
    }

    fn message<'t>(&self, text: &'t str) -> Cow<'t, str> {
        shortened(text, self.message)
    }
}

/// Returns the text, or its beginning and an ellipsis.
fn shortened(text: &str, room: usize) -> Cow<'_, str> {
    const ELLIPSIS: &str = "…";
    if excerpt(text, room).len() == text.len() {
        return Cow::Borrowed(text);
    }
    let beginning = excerpt(text, room.saturating_sub(ELLIPSIS.len()));
    Cow::Owned(format!("{beginning}{ELLIPSIS}"))
}

/// Returns a record's value as JSON that says how it is encoded, taking at most `room` bytes for
/// the value itself.
fn record_json(value: Option<&[u8]>, room: usize) -> String {
    let (encoding, shown, left_out) = match value.map(|value| (value, str::from_utf8(value))) {
        None => ("utf-8", None, 0),
        Some((value, Ok(text))) => {
            let shown = excerpt(text, room);
            ("utf-8", Some(Cow::Borrowed(shown)), value.len() - shown.len())
        }
        Some((value, Err(_))) => {
            let shown = value.get(..room / 4 * 3).unwrap_or(value);
            ("base64", Some(Cow::Owned(BASE64_STANDARD.encode(shown))), value.len() - shown.len())
        }
    };
    Object::new()
        .text("encoding", encoding)
        .optional("value", shown.as_deref())
        .json("size", &value.map_or(0, <[u8]>::len).to_string())
        .json("truncated", if left_out > 0 { "true" } else { "false" })
        .end()
}

/// Returns the value as compact JSON, if it is an object that plain JSON can carry unchanged.
fn plain_object(value: &[u8]) -> Option<String> {
    let tree = Tree::parse(str::from_utf8(value).ok()?).ok()?;
    let mut out = String::new();
    match tree {
        Tree::Object(_) if tree.is_plain() => tree.push(&mut out),
        Tree::Object(_)
        | Tree::Null
        | Tree::Bool(_)
        | Tree::Number(_)
        | Tree::Text(_)
        | Tree::Array(_) => {
            return None;
        }
    }
    Some(out)
}
