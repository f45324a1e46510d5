//! Turns the body of a reply, as it arrives, into an answer.
//!
//! Pure: bytes go in at whatever cuts the network made, and the outcome does not depend on the cuts. Bounded by two
//! limits of the configuration, on a line and on the answer.

use std::borrow::Cow;

use super::error::Fault;
use super::model::{DoneReason, ServerTimings, Usage};
use super::{ollama, openai};

/// What a body may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// The longest answer, in bytes.
    pub(super) answer: usize,
    /// The longest line, or whole body where nothing is streamed, in bytes.
    pub(super) line: usize,
}

/// What a body said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Draft {
    pub(super) text: String,
    pub(super) usage: Option<Usage>,
    pub(super) done_reason: DoneReason,
    pub(super) server: ServerTimings,
}

/// Reads a body in one of the two dialects.
#[derive(Debug)]
pub(super) enum Reader {
    Ollama(ollama::Reader),
    OpenAi(openai::Reader),
}

/// How the server wrote its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Charset {
    Utf8,
    /// Every byte is the code point of its number.
    Latin1,
}

impl Reader {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// As soon as no more bytes could make the body an answer.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        match self {
            Self::Ollama(reader) => reader.push(bytes),
            Self::OpenAi(reader) => reader.push(bytes),
        }
    }

    /// Returns whether the protocol's own end has been read. An error may still follow it.
    pub(super) fn is_done(&self) -> bool {
        match self {
            Self::Ollama(reader) => reader.is_done(),
            Self::OpenAi(reader) => reader.is_done(),
        }
    }

    /// Ends the body.
    ///
    /// # Errors
    /// When it holds no complete answer.
    pub(super) fn finish(self) -> Result<Draft, Fault> {
        match self {
            Self::Ollama(reader) => reader.finish(),
            Self::OpenAi(reader) => reader.finish(),
        }
    }
}

impl Draft {
    /// Refuses a text that has grown too long.
    pub(super) fn check(&self, bounds: Bounds) -> Result<(), Fault> {
        if self.text.len() > bounds.answer {
            return Err(Fault::TooLarge { what: "answer", limit: bounds.answer });
        }
        Ok(())
    }
}

impl Charset {
    /// Reads the `charset` of a content type; what isn't Latin-1 is taken for UTF-8, JSON's only encoding.
    pub(super) fn of(content_type: &str) -> Self {
        let charset = content_type.split(';').skip(1).find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
        });
        let latin = ["iso-8859-1", "latin-1", "latin1"];
        match charset {
            Some(name) if latin.iter().any(|latin| name.eq_ignore_ascii_case(latin)) => {
                Self::Latin1
            }
            Some(_) | None => Self::Utf8,
        }
    }

    /// Returns the bytes in UTF-8.
    pub(super) fn decode(self, bytes: &[u8]) -> Cow<'_, [u8]> {
        match self {
            Self::Latin1 if !bytes.is_ascii() => {
                let text: String = bytes.iter().copied().map(char::from).collect();
                Cow::Owned(text.into_bytes())
            }
            Self::Utf8 | Self::Latin1 => Cow::Borrowed(bytes),
        }
    }
}
