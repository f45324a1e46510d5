mod bodies;
mod context;
mod cuts;
mod faults;
mod pulls;
mod structured;
mod waits;

use super::error::Fault;
use super::reader::{Bounds, Draft, Reader};
use super::{ollama, openai};

const BOUNDS: Bounds = Bounds { answer: 1024 * 1024, line: 8 * 1024 * 1024 };

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Ollama,
    OpenAi,
}

fn reader(dialect: Dialect, bounds: Bounds) -> Reader {
    match dialect {
        Dialect::Ollama => Reader::Ollama(ollama::Reader::new(bounds)),
        Dialect::OpenAi => Reader::OpenAi(openai::Reader::new(bounds)),
    }
}

fn read_within<'a>(
    dialect: Dialect,
    bounds: Bounds,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Draft, Fault> {
    let mut reader = reader(dialect, bounds);
    for piece in pieces {
        reader.push(piece)?;
    }
    reader.finish()
}

fn read<'a>(dialect: Dialect, pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Draft, Fault> {
    read_within(dialect, BOUNDS, pieces)
}

/// What an outcome is compared by: the text, or the class.
fn outcome(read: Result<Draft, Fault>) -> Result<String, &'static str> {
    read.map(|draft| draft.text).map_err(|fault| fault.class())
}
