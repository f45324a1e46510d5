//! How many tokens a text comes to, without the model's tokenizer: a lower and an upper bound.
//!
//! Pure. The bounds hold for the byte-level and sentence-piece vocabularies that models use today; how far they are
//! off is measured on a real model and stands in docs/operations.md.

use super::model::{Request, Role};

/// What the template of a model adds, at most, besides a system prompt of its own.
const TEMPLATE_MAX: u64 = 64;

/// What the template adds to each message, at most.
const MESSAGE_MAX: u64 = 16;

/// The most letters of an alphabet that one token covers.
const LETTERS_MAX: u64 = 16;

/// The most digits of one token.
const DIGITS_MAX: u64 = 4;

/// The most signs, ideographs or syllables of one token.
const SIGNS_MAX: u64 = 6;

/// Of a run of one character only every so many-th counts: vocabularies have long rulers and indentations.
const RUN_STEP: u64 = 16;

/// Between how many and how many tokens a question is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Estimate {
    /// It has no fewer.
    pub least: u64,
    /// It has no more, unless the model's file adds a long system prompt of its own.
    pub most: u64,
}

impl Estimate {
    /// Estimates all that is said, the template included.
    #[must_use]
    pub fn of(request: &Request<'_>) -> Self {
        let said = |sum: Self, (_, text): (Role, &str)| {
            let text = Self::of_text(text);
            Self { least: sum.least + text.least, most: sum.most + text.most + MESSAGE_MAX }
        };
        let all = request.input.messages().fold(Self::default(), said);
        Self { most: all.most + TEMPLATE_MAX, ..all }
    }

    /// Estimates a text by itself.
    ///
    /// Upwards, a token covers at least one byte. Downwards, a word of an alphabet is at least one token, and a
    /// blank or a sign before it may belong to it.
    #[must_use]
    pub fn of_text(text: &str) -> Self {
        let mut pieces = Pieces::default();
        for c in text.chars() {
            pieces.take(c);
        }
        pieces.close();
        Self { least: pieces.tokens, most: text.len() as u64 }
    }
}

/// What belongs together in every vocabulary that is known here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Blank,
    Letter,
    Digit,
    Sign,
}

/// Counts the fewest tokens, piece by piece.
#[derive(Debug, Default)]
struct Pieces {
    tokens: u64,
    kind: Kind,
    /// Characters of the open piece; a run of one character counts less.
    length: u64,
    last: Option<char>,
    run: u64,
}

impl Pieces {
    fn take(&mut self, c: char) {
        let kind = Kind::of(c);
        if kind != self.kind {
            self.close();
            self.kind = kind;
        }
        if self.last == Some(c) {
            self.run += 1;
            // The first ones of a run still count: words have double letters.
            if self.run > 2 && !self.run.is_multiple_of(RUN_STEP) {
                return;
            }
        } else {
            self.run = 0;
        }
        self.last = Some(c);
        self.length += 1;
    }

    fn close(&mut self) {
        self.tokens += match self.kind {
            Kind::Letter => self.length.div_ceil(LETTERS_MAX),
            Kind::Digit => self.length.div_ceil(DIGITS_MAX),
            // One or two of them may belong to the word that they stand at.
            Kind::Sign => self.length.saturating_sub(2).div_ceil(SIGNS_MAX),
            Kind::Blank => self.length.saturating_sub(2) / LETTERS_MAX,
        };
        self.length = 0;
        self.last = None;
        self.run = 0;
    }
}

impl Kind {
    fn of(c: char) -> Self {
        match c {
            _ if c.is_whitespace() => Self::Blank,
            _ if c.is_ascii_digit() => Self::Digit,
            // Scripts that part words by blanks: Latin, Greek, Cyrillic, Armenian, Hebrew, Arabic.
            'a'..='z' | 'A'..='Z' | '\u{c0}'..='\u{6ff}' => Self::Letter,
            _ => Self::Sign,
        }
    }
}
