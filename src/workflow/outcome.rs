//! Prints what an event ends in: a result, and a dead letter when it did not succeed.
//! Everything that is printed fits the topic it goes to. Ids are derived from the event's position, so that
//! a repeated run prints the same ones.

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Map, Value};
use tokio::sync::watch;
use uuid::Uuid;

use crate::agents::AgentState;
use crate::event::{
    DeadLetter, InvalidEvent, Origin, Original, Status, WorkflowEvent, WorkflowResult,
};
use crate::record::{Position, Record};
use crate::sink::{Limits, Outgoing, Topic};

use super::runner::Job;
use super::{Error, Late, Verdict};

/// The longest text of an error that goes into a result or a dead letter, in bytes.
const MESSAGE_MAX: usize = 2048;

/// Of a topic's limit, the part that one text may take where texts have to be cut: a character may take six bytes as
/// JSON, and there are three of them.
const CUT_SHARE: usize = 32;

/// What an event ends in.
#[derive(Debug)]
pub struct Outcome {
    /// The result's status; `None` when there is nobody to tell.
    pub status: Option<&'static str>,
    /// The error class of the dead letter, when there is one.
    pub class: Option<&'static str>,
    /// What to publish.
    pub records: Vec<Outgoing>,
}

/// Prints results and dead letters.
#[derive(Debug)]
pub struct Press {
    topic: String,
    limits: watch::Receiver<Limits>,
}

/// A run that did not succeed.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) class: &'static str,
    pub(super) status: Status,
    pub(super) message: String,
    pub(super) attempts: u32,
    pub(super) partial: Option<Map<String, Value>>,
}

impl Press {
    /// Returns a press for events of `topic`, whose prints keep to the `limits` of the moment.
    #[must_use]
    pub fn new(topic: String, limits: watch::Receiver<Limits>) -> Self {
        Self { topic, limits }
    }

    /// Returns the events topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Returns the largest records that the topics take at the moment.
    #[must_use]
    pub fn limits(&self) -> Limits {
        *self.limits.borrow()
    }

    /// Prints the outcome of a run that reached its end.
    ///
    /// # Errors
    /// [`Error::ResultTooLarge`] when the results topic does not take it.
    pub fn success(
        &self,
        event: &WorkflowEvent,
        state: AgentState,
        now: Timestamp,
    ) -> Result<Outcome, Error> {
        let record = outgoing(&answer(event, Status::Success, state.into_result(), None, now));
        let (size, limit) = (record.size(), self.limits.borrow().result_max);
        if size > limit {
            return Err(Error::ResultTooLarge { size, limit });
        }
        Ok(Outcome { status: Some(Status::Success.as_str()), class: None, records: vec![record] })
    }

    /// Prints the outcome of a run that did not succeed: one result and one dead letter of the same class.
    pub(super) fn failed(
        &self,
        job: &Job,
        position: Position,
        failed: Failed,
        now: Timestamp,
    ) -> Outcome {
        let Failed { class, status, message, attempts, partial } = failed;
        let event = &*job.event;
        let message = clipped(message, MESSAGE_MAX);
        let text = Some(message.clone());
        let record = self.fitting(answer(event, status, partial.unwrap_or_default(), text, now));
        let letter = DeadLetter {
            id: self.letter_id(position),
            timestamp: now,
            origin: self.origin(position, job.timestamp_ms),
            original: Original::Event(event),
            class,
            message: &message,
            attempts,
        };
        let records = vec![record, self.dead_letter(&letter)];
        Outcome { status: Some(status.as_str()), class: Some(class), records }
    }

    /// Prints the outcome of a run that panicked outside of any agent.
    #[must_use]
    pub fn panicked(&self, job: &Job, position: Position, now: Timestamp) -> Outcome {
        let error = Error::Panic { node: "run".into(), message: "see the log".into() };
        let verdict = error.verdict();
        let (class, status, message) = (verdict.class, verdict.status, error.to_string());
        self.failed(
            job,
            position,
            Failed { class, status, message, attempts: 1, partial: None },
            now,
        )
    }

    /// Prints the outcome of an event that was too late for its next attempt, after `attempts` of them.
    #[must_use]
    pub fn expired(
        &self,
        job: &Job,
        position: Position,
        (attempts, late): (u32, Late),
        now: Timestamp,
    ) -> Outcome {
        let error = Error::Expired(late);
        let Verdict { class, status, .. } = error.verdict();
        let failed = Failed { class, status, message: error.to_string(), attempts, partial: None };
        self.failed(job, position, failed, now)
    }

    /// Prints the outcome of a run whose records are larger than their topics take since they were printed.
    #[must_use]
    pub fn too_large(
        &self,
        job: &Job,
        position: Position,
        (attempts, size, limit): (u32, usize, usize),
        now: Timestamp,
    ) -> Outcome {
        let error = Error::ResultTooLarge { size, limit };
        let Verdict { class, status, .. } = error.verdict();
        let failed = Failed { class, status, message: error.to_string(), attempts, partial: None };
        self.failed(job, position, failed, now)
    }

    /// Cuts records of what is no event to what their topics take since they were printed. A dead letter's `original`
    /// goes on to say how large it was, and that it was cut.
    #[must_use]
    pub fn cut(&self, mut records: Vec<Outgoing>) -> Vec<Outgoing> {
        let limits = *self.limits.borrow();
        for record in &mut records {
            let limit = limits.of(record.topic);
            if record.size() <= limit {
                continue;
            }
            let mut kept: Map<String, Value> =
                serde_json::from_slice(&record.value).unwrap_or_default();
            for payload in ["original_event", "context"] {
                kept.entry(payload).and_modify(|value| *value = Value::Null);
            }
            if let Some(Value::Object(original)) = kept.get_mut("original") {
                original.insert("value".to_owned(), Value::Null);
                original.insert("truncated".to_owned(), Value::Bool(true));
            }
            for value in kept.values_mut() {
                if let Value::String(text) = value {
                    *text = clipped(std::mem::take(text), limit / CUT_SHARE);
                }
            }
            record.value = Value::from(kept).to_string().into();
        }
        records
    }

    /// Prints the outcome of a record that is no event: a dead letter with its bytes, and a result where
    /// somebody can be told.
    #[must_use]
    pub fn refused(&self, record: &Record, invalid: &InvalidEvent, now: Timestamp) -> Outcome {
        let message = clipped(invalid.to_string(), MESSAGE_MAX);
        let letter = DeadLetter {
            id: self.letter_id(record.position),
            timestamp: now,
            origin: self.origin(record.position, record.timestamp_ms),
            original: Original::Refused { value: record.value.as_deref(), ids: &invalid.ids },
            class: invalid.stage.class(),
            message: &message,
            attempts: 0,
        };
        let mut records = Vec::with_capacity(2);
        let ids = &invalid.ids;
        if let Some(event_id) = ids.event_id {
            let answer = WorkflowResult {
                correlation_id: event_id,
                workflow_id: ids.workflow_id.clone().unwrap_or_default(),
                workflow_run_id: ids.workflow_run_id.clone().unwrap_or_default(),
                result: Map::new(),
                status: Status::Error,
                timestamp: now,
                error: Some(message.clone()),
            };
            records.push(self.fitting(answer));
        }
        let status = (!records.is_empty()).then(|| Status::Error.as_str());
        records.push(self.dead_letter(&letter));
        Outcome { status, class: Some(invalid.stage.class()), records }
    }

    /// Prints a result that did not succeed so that its topic takes it: without its partial state if need be, and with
    /// the beginnings of its texts if those alone are too long.
    fn fitting(&self, mut result: WorkflowResult) -> Outgoing {
        let limit = self.limits.borrow().result_max;
        let record = outgoing(&result);
        if record.size() <= limit {
            return record;
        }
        result.result = Map::new();
        let record = outgoing(&result);
        if record.size() <= limit {
            return record;
        }
        let share = limit / CUT_SHARE;
        let cut = |text: String| clipped(text, share);
        result.workflow_id = cut(result.workflow_id);
        result.workflow_run_id = cut(result.workflow_run_id);
        result.error = result.error.map(cut);
        outgoing(&result)
    }

    fn dead_letter(&self, letter: &DeadLetter<'_>) -> Outgoing {
        let mut record = Outgoing {
            topic: Topic::DeadLetters,
            partition: None,
            key: letter.key(),
            value: Bytes::new(),
            headers: letter.headers(),
        };
        record.value =
            letter.encode(self.limits.borrow().dead_letter_max.saturating_sub(record.size()));
        record
    }

    fn origin(&self, position: Position, timestamp_ms: Option<i64>) -> Origin<'_> {
        let Position { partition, offset, .. } = position;
        Origin { topic: &self.topic, partition, offset, timestamp_ms }
    }

    /// Names a dead letter by where its event lies: a repeated run prints the same id.
    fn letter_id(&self, position: Position) -> Uuid {
        let name = format!("dead-letter/{}/{}/{}", self.topic, position.partition, position.offset);
        Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes())
    }
}

fn answer(
    event: &WorkflowEvent,
    status: Status,
    result: Map<String, Value>,
    error: Option<String>,
    now: Timestamp,
) -> WorkflowResult {
    WorkflowResult {
        correlation_id: event.event_id,
        workflow_id: event.workflow_id.clone(),
        workflow_run_id: event.workflow_run_id.clone(),
        result,
        status,
        timestamp: now,
        error,
    }
}

fn outgoing(result: &WorkflowResult) -> Outgoing {
    let (key, value) = result.record();
    Outgoing { topic: Topic::Results, partition: None, key: Some(key), value, headers: Vec::new() }
}

/// Cuts a text to what may be published of it, at a character's end.
fn clipped(mut text: String, max: usize) -> String {
    if text.len() > max {
        text.truncate(text.floor_char_boundary(max));
        text.push('…');
    }
    text
}
