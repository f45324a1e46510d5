//! The record of the journal topic: what a durable node did, so that nobody does it again.
//!
//! A record is one JSON object of a known version. Fields that this release does not know are
//! skipped, so that a later one may add some; a change of meaning takes a new version, which is
//! refused here.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::record::Offset;

/// The version this release writes, and the only one it reads.
const VERSION: u64 = 1;

/// What a record takes besides its update and its node: the names, the id and the numbers.
const FRAME: usize = 256;

/// The header of a record that names the group which wrote it. A record without one was written by an older release.
pub const GROUP: &str = "weir-group";

/// What a model counted for one effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub input_tokens: u64,
    /// Tokens of the answer.
    pub output_tokens: u64,
}

/// What a durable node did in one run: its update of the state, recorded when it finished.
#[derive(Debug, Clone)]
pub struct Effect {
    /// The event whose run it belongs to; also the record's key.
    pub event_id: Uuid,
    /// Where the event lies in its partition of the events topic, which has the number of the
    /// journal partition that holds this record.
    pub offset: Offset,
    /// The node that had the effect.
    pub node: String,
    /// How many times that node had been visited before in this run, from 0.
    pub visit: u32,
    /// The attempt of the run that it happened in, from 1. For people: replay does not ask.
    pub attempt: u32,
    /// The node's update of the state, byte for byte as it was written.
    pub update: Box<RawValue>,
    /// What the model counted, where a model was asked and did count.
    pub usage: Option<Usage>,
    /// How long it took, time in line not counted; written in whole milliseconds.
    pub took: Option<Duration>,
}

/// Why a journal record can't be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The record was written by another release, whose format is not known here.
    #[error("journal record of version {0}, this release reads version {VERSION}")]
    Version(u64),
    /// The value is not a journal record of any version.
    #[error("not a journal record")]
    Malformed(#[source] serde_json::Error),
    /// The effect can't be written as JSON.
    #[error("write a journal record")]
    Unwritable(#[source] serde_json::Error),
}

#[derive(Serialize)]
struct Written<'a> {
    v: u64,
    event_id: Uuid,
    offset: i64,
    node: &'a str,
    visit: u32,
    attempt: u32,
    update: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    took_ms: Option<u64>,
}

#[derive(Deserialize)]
struct Read {
    v: u64,
    event_id: Uuid,
    // Unsigned, so that a negative offset is no record.
    offset: u64,
    node: String,
    visit: u32,
    attempt: u32,
    update: Box<RawValue>,
    usage: Option<Usage>,
    took_ms: Option<u64>,
}

/// All that is asked of a record that is not one of this version.
#[derive(Deserialize)]
struct Versioned {
    v: u64,
}

impl Effect {
    /// Writes the effect as a journal record's value.
    ///
    /// # Errors
    /// [`Error::Unwritable`] when JSON refuses it, which no effect made of these types does.
    pub fn encode(&self) -> Result<Bytes, Error> {
        let written = Written {
            v: VERSION,
            event_id: self.event_id,
            offset: self.offset.0,
            node: &self.node,
            visit: self.visit,
            attempt: self.attempt,
            update: &self.update,
            usage: self.usage,
            took_ms: self.took.map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
        };
        let mut value = Vec::with_capacity(FRAME + self.node.len() + self.update.get().len());
        serde_json::to_writer(&mut value, &written).map_err(Error::Unwritable)?;
        Ok(value.into())
    }

    /// Reads a journal record's value.
    ///
    /// Holds no more than the value's own length, however it is nested: the update stays text.
    ///
    /// # Errors
    /// [`Error::Version`] for a record of another version, [`Error::Malformed`] for anything else.
    pub fn decode(value: &[u8]) -> Result<Self, Error> {
        // serde would take an array of the same values for the object.
        if !value.trim_ascii_start().starts_with(b"{") {
            return Err(malformed("expected an object"));
        }
        let read = serde_json::from_slice::<Read>(value).map_err(|error| stranger(value, error))?;
        if read.v != VERSION {
            return Err(Error::Version(read.v));
        }
        let offset = i64::try_from(read.offset).map_err(malformed)?;
        Ok(Self {
            event_id: read.event_id,
            offset: Offset(offset),
            node: read.node,
            visit: read.visit,
            attempt: read.attempt,
            update: read.update,
            usage: read.usage,
            took: read.took_ms.map(Duration::from_millis),
        })
    }
}

fn malformed(reason: impl std::fmt::Display) -> Error {
    Error::Malformed(serde::de::Error::custom(reason))
}

/// Tells a record of another version, of which no more than `v` is known, from no record at all.
fn stranger(value: &[u8], error: serde_json::Error) -> Error {
    match serde_json::from_slice::<Versioned>(value) {
        Ok(Versioned { v }) if v != VERSION => Error::Version(v),
        Ok(_) | Err(_) => Error::Malformed(error),
    }
}
