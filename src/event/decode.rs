//! Bytes become an event, or a refusal that names every field at fault.

use std::borrow::Cow;

use uuid::Uuid;

use super::json::{Container, Number, Reader, Syntax, Text, Token};
use super::{
    Data, Environment, EventType, Fault, FaultKind, Ids, InvalidEvent, Source, Stage, Timestamp,
    WorkflowEvent,
};
use crate::record::Record;

/// What an event gets where it gives nothing itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defaults {
    /// The event's id.
    pub event_id: Uuid,
    /// The event's time.
    pub timestamp: Timestamp,
}

/// The namespace of the ids that weir makes up for events without one.
const NAMESPACE: Uuid = Uuid::from_u128(0x5b0f_6c3e_8a52_4d7b_9f14_2e60_c7d1_a983);

/// The version of an event whose metadata name none.
const VERSION: &str = "1.0";

impl Defaults {
    /// Derives both from the record, so that it gets the same each time it is read: the id from
    /// topic, partition and offset (UUID version 5), the time from the record's own, or the Unix
    /// epoch where it has none.
    #[must_use]
    pub fn of(topic: &str, record: &Record) -> Self {
        let position = record.position;
        let name = format!("{topic}/{}/{}", position.partition, position.offset);
        Self {
            event_id: Uuid::new_v5(&NAMESPACE, name.as_bytes()),
            timestamp: record
                .timestamp_ms
                .and_then(Timestamp::from_millis)
                .unwrap_or(Timestamp::UNIX_EPOCH),
        }
    }
}

/// Decodes a record's value. Unknown keys are dropped; a lone surrogate in a string becomes U+FFFD.
/// `defaults` is asked only where the event lacks what it has.
///
/// # Errors
/// [`InvalidEvent`] with the stage reached, every field at fault, and the ids that could be read.
pub fn decode<D>(value: Option<&[u8]>, defaults: D) -> Result<WorkflowEvent, InvalidEvent>
where
    D: Fn() -> Defaults,
{
    let Some(bytes) = value else {
        return Err(InvalidEvent::at(Stage::Null, Ids::default()));
    };
    let text = match str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let at = error.valid_up_to();
            let readable = bytes.get(..at).and_then(|bytes| str::from_utf8(bytes).ok());
            let (fields, _) = Fields::read(readable.unwrap_or_default());
            return Err(InvalidEvent::at(Stage::Utf8 { at }, fields.ids()));
        }
    };
    match Fields::read(text) {
        (fields, Ok(true)) => fields.to_event(&defaults),
        (fields, Ok(false)) => Err(InvalidEvent::at(Stage::NotObject, fields.ids())),
        (fields, Err(syntax)) => Err(InvalidEvent::at(Stage::Json(syntax), fields.ids())),
    }
}

/// The event's fields as they stand in the text. Of a key that repeats the last value is kept.
#[derive(Debug, Default)]
struct Fields<'a> {
    event_id: Option<Scalar<'a>>,
    event_type: Option<Scalar<'a>>,
    timestamp: Option<Scalar<'a>>,
    source: Option<Scalar<'a>>,
    workflow_id: Option<Scalar<'a>>,
    workflow_run_id: Option<Scalar<'a>>,
    payload: Option<Section<Payload<'a>>>,
    metadata: Option<Section<Metadata<'a>>>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Payload<'a> {
    data: Option<Section<&'a str>>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Metadata<'a> {
    environment: Option<Scalar<'a>>,
    version: Option<Scalar<'a>>,
}

/// A value where a string or a number is looked for.
#[derive(Debug, Clone, Copy)]
enum Scalar<'a> {
    Text(Text<'a>),
    Number(Number<'a>),
    Other,
}

/// A value where an object is looked for.
#[derive(Debug, Clone, Copy)]
enum Section<T> {
    Object(T),
    Other,
}

impl<'a> Fields<'a> {
    /// Reads a document to its end or to its first fault; what stands before a fault is kept. Says
    /// whether the document is an object.
    fn read(text: &'a str) -> (Self, Result<bool, Syntax>) {
        let mut fields = Self::default();
        let outcome = fields.read_document(&mut Reader::new(text));
        (fields, outcome)
    }

    fn read_document(&mut self, reader: &mut Reader<'a>) -> Result<bool, Syntax> {
        let section = Section::read(reader, |reader| self.read_object(reader))?;
        reader.end()?;
        Ok(matches!(section, Section::Object(())))
    }

    fn read_object(&mut self, reader: &mut Reader<'a>) -> Result<(), Syntax> {
        while let Token::Key(key) = reader.next()? {
            match &*key.key() {
                "event_id" => self.event_id = Some(Scalar::read(reader)?),
                "event_type" => self.event_type = Some(Scalar::read(reader)?),
                "timestamp" => self.timestamp = Some(Scalar::read(reader)?),
                "source" => self.source = Some(Scalar::read(reader)?),
                "workflow_id" => self.workflow_id = Some(Scalar::read(reader)?),
                "workflow_run_id" => self.workflow_run_id = Some(Scalar::read(reader)?),
                "payload" => self.payload = Some(Section::read(reader, Payload::read)?),
                "metadata" => self.metadata = Some(Section::read(reader, Metadata::read)?),
                _ => reader.skip()?,
            }
        }
        Ok(())
    }

    fn ids(&self) -> Ids {
        let text = |field: Option<Scalar<'_>>| Some(field?.text().ok()?.into_owned());
        Ids {
            event_id: self.event_id.and_then(|field| field.uuid().ok()),
            workflow_id: text(self.workflow_id),
            workflow_run_id: text(self.workflow_run_id),
        }
    }

    fn to_event(&self, defaults: &dyn Fn() -> Defaults) -> Result<WorkflowEvent, InvalidEvent> {
        let mut faults = Faults(Vec::new());
        let event_id = self.event_id.map_or_else(|| Ok(defaults().event_id), Scalar::uuid);
        let event_id = faults.sift("event_id", event_id);
        let event_type = faults.sift("event_type", given(self.event_type).and_then(event_type));
        let timestamp = self.timestamp.map_or_else(|| Ok(defaults().timestamp), Scalar::timestamp);
        let timestamp = faults.sift("timestamp", timestamp);
        let source = faults.sift("source", given(self.source).and_then(source));
        let workflow_id =
            faults.sift("workflow_id", given(self.workflow_id).and_then(Scalar::text));
        let workflow_run_id =
            faults.sift("workflow_run_id", given(self.workflow_run_id).and_then(Scalar::text));
        let payload = faults.sift("payload", given(self.payload).and_then(Section::object));
        let data = payload.and_then(|payload| {
            faults.sift("payload.data", given(payload.data).and_then(Section::object))
        });
        let metadata = faults.sift("metadata", given(self.metadata).and_then(Section::object));
        let environment = metadata.and_then(|metadata| {
            faults.sift("metadata.environment", given(metadata.environment).and_then(environment))
        });
        let version = metadata.and_then(|metadata| {
            faults.sift(
                "metadata.version",
                metadata.version.map_or(Ok(Cow::Borrowed(VERSION)), Scalar::text),
            )
        });
        let event = || {
            Some(WorkflowEvent {
                event_id: event_id?,
                event_type: event_type?,
                timestamp: timestamp?,
                source: source?,
                workflow_id: workflow_id?.into_owned(),
                workflow_run_id: workflow_run_id?.into_owned(),
                data: Data::of(data?),
                environment: environment?,
                version: version?.into_owned(),
            })
        };
        event().ok_or_else(|| InvalidEvent {
            stage: Stage::Schema,
            faults: faults.0,
            ids: self.ids(),
        })
    }
}

impl<'a> Payload<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Syntax> {
        let mut payload = Self::default();
        while let Token::Key(key) = reader.next()? {
            match &*key.key() {
                "data" => payload.data = Some(Section::read(reader, Reader::rest)?),
                _ => reader.skip()?,
            }
        }
        Ok(payload)
    }
}

impl<'a> Metadata<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Syntax> {
        let mut metadata = Self::default();
        while let Token::Key(key) = reader.next()? {
            match &*key.key() {
                "environment" => metadata.environment = Some(Scalar::read(reader)?),
                "version" => metadata.version = Some(Scalar::read(reader)?),
                _ => reader.skip()?,
            }
        }
        Ok(metadata)
    }
}

/// What is wrong with a field, before its name is put to it.
type Wrong = (FaultKind, &'static str);

impl<'a> Scalar<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Syntax> {
        Ok(match reader.next()? {
            Token::Text(text) => Self::Text(text),
            Token::Number(number) => Self::Number(number),
            Token::Open(_) => {
                reader.rest()?;
                Self::Other
            }
            Token::Close | Token::Key(_) | Token::Bool(_) | Token::Null => Self::Other,
        })
    }

    fn text(self) -> Result<Cow<'a, str>, Wrong> {
        match self {
            Self::Text(text) => Ok(text.value()),
            Self::Number(_) | Self::Other => Err((FaultKind::Type, "is not a string")),
        }
    }

    fn uuid(self) -> Result<Uuid, Wrong> {
        uuid(&self.text()?).ok_or((FaultKind::Format, "is not a UUID"))
    }

    fn timestamp(self) -> Result<Timestamp, Wrong> {
        let timestamp = match self {
            Self::Text(text) => Timestamp::parse(&text.value()),
            Self::Number(Number::Integer(text)) => {
                text.parse().ok().and_then(Timestamp::from_integer)
            }
            Self::Number(Number::Float(text)) => text.parse().ok().and_then(Timestamp::from_float),
            Self::Number(Number::NonFinite) => None,
            Self::Other => return Err((FaultKind::Type, "is neither a string nor a number")),
        };
        timestamp.ok_or((FaultKind::Format, "is not a timestamp of the years 1 to 9999"))
    }
}

impl<T> Section<T> {
    /// Reads a value: an object by `read`, which starts behind its bracket and ends behind the
    /// closing one.
    fn read<'a>(
        reader: &mut Reader<'a>,
        read: impl FnOnce(&mut Reader<'a>) -> Result<T, Syntax>,
    ) -> Result<Self, Syntax> {
        Ok(match reader.next()? {
            Token::Open(Container::Object) => Self::Object(read(reader)?),
            Token::Open(Container::Array) => {
                reader.rest()?;
                Self::Other
            }
            Token::Close
            | Token::Key(_)
            | Token::Text(_)
            | Token::Number(_)
            | Token::Bool(_)
            | Token::Null => Self::Other,
        })
    }

    fn object(self) -> Result<T, Wrong> {
        match self {
            Self::Object(object) => Ok(object),
            Self::Other => Err((FaultKind::Type, "is not an object")),
        }
    }
}

fn given<T>(field: Option<T>) -> Result<T, Wrong> {
    field.ok_or((FaultKind::Missing, "is missing"))
}

/// Reads a UUID hyphenated, as 32 digits, hyphenated in braces, or hyphenated after `urn:uuid:`.
///
/// The `uuid` crate's own reader takes the prefix in any letter case, which the contract does not.
fn uuid(text: &str) -> Option<Uuid> {
    match text.strip_prefix("urn:uuid:") {
        Some(hyphenated) if hyphenated.len() == 36 => Uuid::try_parse(hyphenated).ok(),
        None if matches!(text.len(), 32 | 36 | 38) => Uuid::try_parse(text).ok(),
        Some(_) | None => None,
    }
}

fn event_type(field: Scalar<'_>) -> Result<EventType, Wrong> {
    EventType::named(&field.text()?).ok_or((FaultKind::Choice, "is no known event type"))
}

fn source(field: Scalar<'_>) -> Result<Source, Wrong> {
    Source::named(&field.text()?)
        .ok_or((FaultKind::Choice, "is none of airflow, langgraph, fastapi"))
}

fn environment(field: Scalar<'_>) -> Result<Environment, Wrong> {
    Environment::named(&field.text()?).ok_or((FaultKind::Choice, "is none of dev, staging, prod"))
}

struct Faults(Vec<Fault>);

impl Faults {
    /// Keeps what is right and notes what is wrong.
    fn sift<T>(&mut self, field: &'static str, result: Result<T, Wrong>) -> Option<T> {
        result.map_err(|(kind, message)| self.0.push(Fault { field, kind, message })).ok()
    }
}
