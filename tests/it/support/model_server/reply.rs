//! A reply, as a test wants it or as a row recorded it.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

/// One reply. Reads from the form of the recorded rows.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Reply {
    #[serde(default = "ok")]
    pub(crate) status: u16,
    /// Without those of the framing, which follow from `framing`. `{PORT}` stands for the server's own port.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) framing: Framing,
    #[serde(default)]
    pub(crate) chunks: Vec<Chunk>,
    #[serde(default)]
    pub(crate) abort: Option<Abort>,
}

/// How the body's end is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Framing {
    /// Each piece is one HTTP chunk.
    #[default]
    Chunked,
    /// The length is announced.
    Length,
    /// The connection closes.
    Close,
}

/// A piece of a body.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Chunk {
    /// Waited before it is sent.
    pub(crate) delay_ms: Option<u64>,
    pub(crate) text: Option<String>,
    pub(crate) b64: Option<String>,
}

/// Where the server breaks off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Abort {
    /// A reset instead of a head.
    BeforeHeaders,
    /// An orderly close instead of a head.
    CloseBeforeHeaders,
    /// A reset after the head.
    AfterHeaders,
    /// A reset after the pieces, in the middle of another.
    MidChunk,
    /// An orderly close after the pieces, where the body's end should be.
    Unterminated,
}

fn ok() -> u16 {
    200
}

impl Reply {
    /// A reply of known length.
    pub(crate) fn of(status: u16, content_type: &str, body: &str) -> Self {
        Self {
            status,
            headers: [("Content-Type".to_owned(), content_type.to_owned())].into(),
            framing: Framing::Length,
            chunks: vec![Chunk::text(body)],
            abort: None,
        }
    }

    /// A JSON reply of known length.
    pub(crate) fn json(status: u16, body: &str) -> Self {
        Self::of(status, "application/json", body)
    }

    /// A stream with one HTTP chunk per piece.
    pub(crate) fn stream<'a>(pieces: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            framing: Framing::Chunked,
            chunks: pieces.into_iter().map(Chunk::text).collect(),
            ..Self::of(200, "application/x-ndjson", "")
        }
    }

    /// What Ollama sends when a model says `text`.
    pub(crate) fn ollama(text: &str) -> Self {
        let quoted = serde_json::to_string(text).expect("text");
        let said = format!("{{\"model\":\"m\",\"response\":{quoted},\"done\":false}}\n");
        let end = "{\"model\":\"m\",\"response\":\"\",\"done\":true,\"done_reason\":\"stop\",\
                   \"prompt_eval_count\":5,\"eval_count\":3}\n";
        Self::stream([said.as_str(), end])
    }

    pub(crate) fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Waits before every piece of the body.
    pub(crate) fn slowly(mut self, delay: Duration) -> Self {
        let delay = u64::try_from(delay.as_millis()).expect("a short delay");
        for chunk in &mut self.chunks {
            chunk.delay_ms = Some(delay);
        }
        self
    }

    pub(crate) fn with_abort(self, abort: Abort) -> Self {
        Self { abort: Some(abort), ..self }
    }

    pub(crate) fn with_framing(self, framing: Framing) -> Self {
        Self { framing, ..self }
    }

    pub(super) fn head(&self, port: u16, length: usize) -> String {
        let mut head = format!("HTTP/1.1 {} Status\r\n", self.status);
        let own = ["content-length", "transfer-encoding", "connection"];
        for (name, value) in &self.headers {
            if !own.contains(&name.to_ascii_lowercase().as_str()) {
                head += &format!("{name}: {}\r\n", value.replace("{PORT}", &port.to_string()));
            }
        }
        head += &match self.framing {
            Framing::Chunked => "Transfer-Encoding: chunked\r\n".to_owned(),
            Framing::Length => format!("Content-Length: {length}\r\n"),
            Framing::Close => "Connection: close\r\n".to_owned(),
        };
        head + "\r\n"
    }
}

impl Chunk {
    pub(crate) fn text(text: &str) -> Self {
        Self { text: Some(text.to_owned()), ..Self::default() }
    }

    pub(crate) fn bytes(bytes: &[u8]) -> Self {
        Self { b64: Some(BASE64_STANDARD.encode(bytes)), ..Self::default() }
    }

    pub(super) fn payload(&self) -> Vec<u8> {
        match (&self.text, &self.b64) {
            (Some(text), _) => text.clone().into_bytes(),
            (None, Some(b64)) => BASE64_STANDARD.decode(b64).expect("base64"),
            (None, None) => Vec::new(),
        }
    }
}
