//! What commands say, and where: data on stdout, talk on stderr.
//!
//! A reader that has gone (`weir graph | head -1`) ends a command quietly. Colours are for terminals whose owner has not
//! set `NO_COLOR`.

use std::error::Error;
use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

use super::Vars;
use super::exit::Exit;

/// Says something to the person who typed the command.
pub(super) fn say(text: impl Display) {
    // Nothing can be said about a terminal that takes no text.
    drop(writeln!(io::stderr(), "{text}"));
}

/// Says why the command ends.
pub(super) fn fail(text: impl Display) {
    say(format_args!("error: {text}"));
}

/// Writes data. Where that can't be done, the error is how the command ends.
pub(super) fn print(text: &str) -> Result<(), Exit> {
    write(&mut io::stdout().lock(), text).map_err(|error| {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Exit::Ok;
        }
        fail(format_args!("write to stdout: {error}"));
        Exit::Io
    })
}

/// Writes and flushes, so that a reader behind a pipe sees it now.
pub(super) fn write(out: &mut impl Write, text: &str) -> io::Result<()> {
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Returns an error with all of its causes, in one line.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let told = error.to_string();
        if !text.ends_with(&told) {
            text.push_str(": ");
            text.push_str(&told);
        }
        cause = error.source();
    }
    text
}

/// How text is set off from other text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ink {
    /// What matters less.
    Dim,
    /// What is well.
    Green,
    /// What is not as it should be.
    Yellow,
    /// What went wrong.
    Red,
    /// Names of nodes.
    Cyan,
}

/// Whether text is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// For a terminal.
    Coloured,
    /// For everything else.
    Plain,
}

impl Style {
    /// Returns the style for `stream`, in the environment `vars`.
    pub(super) fn of(stream: &impl IsTerminal, vars: &Vars) -> Self {
        if stream.is_terminal() { Self::for_terminal(vars) } else { Self::Plain }
    }

    /// Returns the style for a terminal: coloured, unless its owner (no-color.org) or the terminal minds.
    pub(super) fn for_terminal(vars: &Vars) -> Self {
        let minds = |(name, value): &(OsString, OsString)| {
            (name == "NO_COLOR" && !value.is_empty()) || (name == "TERM" && value == "dumb")
        };
        if vars.iter().any(minds) { Self::Plain } else { Self::Coloured }
    }

    /// Returns `text` in `ink`.
    pub(super) fn paint(self, ink: Ink, text: impl Display) -> String {
        let code = match ink {
            Ink::Dim => "2",
            Ink::Green => "32",
            Ink::Yellow => "33",
            Ink::Red => "31",
            Ink::Cyan => "36",
        };
        match self {
            Self::Coloured => format!("\x1b[{code}m{text}\x1b[0m"),
            Self::Plain => text.to_string(),
        }
    }
}
