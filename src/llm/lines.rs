//! Cuts bytes, as they arrive, into lines.
//!
//! A line ends at LF, CR or both. None of them can stand inside a JSON string, so a line of a stream of JSON is
//! never cut in two; U+2028 and U+0085 can, and end nothing. Never holds more than one unfinished line, which is
//! bounded. Never looks into a line: a character split between two chunks is whole again when its line is.

use super::error::Fault;

/// The unfinished line of a body.
#[derive(Debug)]
pub(super) struct Lines {
    held: Vec<u8>,
    max: usize,
    started: bool,
    after_cr: bool,
}

impl Lines {
    /// Takes lines of at most `max` bytes.
    pub(super) fn new(max: usize) -> Self {
        Self { held: Vec::new(), max, started: false, after_cr: false }
    }

    /// Takes the next bytes and hands every line that they finish to `line`, without its end.
    ///
    /// # Errors
    /// [`Fault::TooLarge`] for a line over the limit, and the first error of `line`.
    pub(super) fn push<F>(&mut self, mut bytes: &[u8], mut line: F) -> Result<(), Fault>
    where
        F: FnMut(&[u8]) -> Result<(), Fault>,
    {
        if self.after_cr && !bytes.is_empty() {
            self.after_cr = false;
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        while let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let (head, tail) = bytes.split_at(end);
            bytes = match tail {
                [b'\r', b'\n', rest @ ..] | [_, rest @ ..] => rest,
                [] => tail,
            };
            self.after_cr = tail == b"\r";
            if self.held.is_empty() {
                self.check(head.len())?;
                line(self.without_mark(head))?;
            } else {
                self.hold(head)?;
                let held = std::mem::take(&mut self.held);
                line(self.without_mark(&held))?;
            }
        }
        self.hold(bytes)
    }

    /// Ends the body and returns the line that nothing ended, empty if there is none.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        let held = std::mem::take(&mut self.held);
        self.without_mark(&held).to_vec()
    }

    fn hold(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.check(self.held.len() + bytes.len())?;
        self.held.extend_from_slice(bytes);
        Ok(())
    }

    fn check(&self, length: usize) -> Result<(), Fault> {
        if length > self.max {
            return Err(Fault::TooLarge { what: "line", limit: self.max });
        }
        Ok(())
    }

    /// Takes the byte order mark off the first line.
    fn without_mark<'a>(&mut self, line: &'a [u8]) -> &'a [u8] {
        if std::mem::replace(&mut self.started, true) {
            return line;
        }
        line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line)
    }
}
