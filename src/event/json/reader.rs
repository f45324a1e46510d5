//! The grammar: a text goes in, one token at a time comes out, and the first fault ends it.

use super::text::{Escapes, Unit, unit};
use super::{Number, Text};

/// The deepest nesting that is read. The original's limit is its interpreter's stack of 1,000
/// frames less the few that are in use at that moment.
pub(in crate::event) const DEPTH_MAX: usize = 990;

/// The longest integer that is read, in digits: Python's own limit, which guards its quadratic
/// conversion.
pub(in crate::event) const INTEGER_DIGITS_MAX: usize = 4300;

/// A fault in the text, and the byte where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at byte {at}")]
pub struct Syntax {
    /// The byte, from 0.
    pub at: usize,
    /// What is wrong there.
    pub kind: SyntaxKind,
}

/// The ways in which a text is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxKind {
    /// No value where one must be.
    #[error("no value")]
    Value,
    /// No quoted key where one must be.
    #[error("no quoted key")]
    Key,
    /// A key without its colon.
    #[error("no colon")]
    Colon,
    /// Neither a comma nor the closing bracket of the innermost container.
    #[error("neither a comma nor the closing bracket")]
    Comma,
    /// A string that is never closed.
    #[error("an unclosed string")]
    Unclosed,
    /// A raw control character in a string.
    #[error("a raw control character in a string")]
    Control,
    /// A backslash with something after it that is no escape.
    #[error("an invalid escape")]
    Escape,
    /// An integer of more than 4,300 digits.
    #[error("an integer of more than {INTEGER_DIGITS_MAX} digits")]
    Integer,
    /// More levels of nesting than are read.
    #[error("more than {DEPTH_MAX} levels of nesting")]
    Depth,
    /// Something after the value.
    #[error("something after the value")]
    Trailing,
}

/// What a text is made of, commas and colons left out.
#[derive(Debug, Clone, Copy)]
pub(in crate::event) enum Token<'a> {
    /// An opening bracket.
    Open(Container),
    /// The closing bracket of the innermost container.
    Close,
    /// A key of the innermost object; its value comes next.
    Key(Text<'a>),
    /// A string.
    Text(Text<'a>),
    /// A number.
    Number(Number<'a>),
    /// `true` or `false`.
    Bool(bool),
    /// `null`.
    Null,
}

/// What a bracket opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::event) enum Container {
    /// `{`
    Object,
    /// `[`
    Array,
}

/// Reads a text from its beginning. Remembers the open brackets itself, so that depth costs no
/// stack.
///
/// After a fault it is of no further use.
#[derive(Debug)]
pub(in crate::event) struct Reader<'a> {
    text: &'a str,
    at: usize,
    open: Vec<Container>,
    expect: Expect,
}

/// What may come next.
#[derive(Debug, Clone, Copy)]
enum Expect {
    Value,
    ItemOrClose,
    KeyOrClose,
    CommaOrClose,
}

impl<'a> Reader<'a> {
    /// Starts at the beginning of `text`.
    pub(in crate::event) fn new(text: &'a str) -> Self {
        Self { text, at: 0, open: Vec::new(), expect: Expect::Value }
    }

    /// Returns the next token.
    ///
    /// # Errors
    /// [`Syntax`] at the first byte that fits nothing.
    pub(in crate::event) fn next(&mut self) -> Result<Token<'a>, Syntax> {
        self.skip_space();
        match (self.expect, self.peek(), self.open.last()) {
            (Expect::ItemOrClose, Some(b']'), _)
            | (Expect::KeyOrClose, Some(b'}'), _)
            | (Expect::CommaOrClose, Some(b']'), Some(Container::Array))
            | (Expect::CommaOrClose, Some(b'}'), Some(Container::Object)) => Ok(self.close()),
            (Expect::Value | Expect::ItemOrClose, _, _) => self.value(),
            (Expect::KeyOrClose, _, _) => self.key(),
            (Expect::CommaOrClose, Some(b','), Some(container)) => {
                let container = *container;
                self.at += 1;
                self.skip_space();
                match container {
                    Container::Object => self.key(),
                    Container::Array => self.value(),
                }
            }
            (Expect::CommaOrClose, _, _) => self.fault(SyntaxKind::Comma),
        }
    }

    /// Reads the value of the key that came last, and drops it.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub(in crate::event) fn skip(&mut self) -> Result<(), Syntax> {
        self.value_text().map(|_| ())
    }

    /// Reads the value of the key that came last; returns its text and its first token.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub(in crate::event) fn value_text(&mut self) -> Result<(&'a str, Token<'a>), Syntax> {
        self.skip_space();
        let start = self.at;
        let token = self.next()?;
        if matches!(token, Token::Open(_)) {
            self.rest()?;
        }
        Ok((self.since(start), token))
    }

    /// Reads on, right after an opening bracket, until that is closed; returns the container's
    /// text, brackets and all.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub(in crate::event) fn rest(&mut self) -> Result<&'a str, Syntax> {
        let start = self.at.saturating_sub(1);
        let outside = self.open.len().saturating_sub(1);
        while self.open.len() > outside {
            self.next()?;
        }
        Ok(self.since(start))
    }

    /// Checks that nothing but white space follows.
    ///
    /// # Errors
    /// [`SyntaxKind::Trailing`].
    pub(in crate::event) fn end(&mut self) -> Result<(), Syntax> {
        self.skip_space();
        match self.peek() {
            None => Ok(()),
            Some(_) => self.fault(SyntaxKind::Trailing),
        }
    }

    fn value(&mut self) -> Result<Token<'a>, Syntax> {
        let token = match self.peek() {
            Some(b'{') => return self.enter(Container::Object, Expect::KeyOrClose),
            Some(b'[') => return self.enter(Container::Array, Expect::ItemOrClose),
            Some(b'"') => Token::Text(self.string()?),
            Some(b'-' | b'0'..=b'9' | b'N' | b'I') => Token::Number(self.number()?),
            Some(b't') if self.word("true") => Token::Bool(true),
            Some(b'f') if self.word("false") => Token::Bool(false),
            Some(b'n') if self.word("null") => Token::Null,
            _ => return self.fault(SyntaxKind::Value),
        };
        self.expect = Expect::CommaOrClose;
        Ok(token)
    }

    fn key(&mut self) -> Result<Token<'a>, Syntax> {
        if self.peek() != Some(b'"') {
            return self.fault(SyntaxKind::Key);
        }
        let key = self.string()?;
        self.skip_space();
        if !self.word(":") {
            return self.fault(SyntaxKind::Colon);
        }
        self.expect = Expect::Value;
        Ok(Token::Key(key))
    }

    fn enter(&mut self, container: Container, expect: Expect) -> Result<Token<'a>, Syntax> {
        if self.open.len() == DEPTH_MAX {
            return self.fault(SyntaxKind::Depth);
        }
        self.at += 1;
        self.open.push(container);
        self.expect = expect;
        Ok(Token::Open(container))
    }

    fn close(&mut self) -> Token<'a> {
        self.at += 1;
        self.open.pop();
        self.expect = Expect::CommaOrClose;
        Token::Close
    }

    /// Reads a string from its opening quote, checking every escape.
    fn string(&mut self) -> Result<Text<'a>, Syntax> {
        self.at += 1;
        let start = self.at;
        let mut escapes = Escapes::None;
        loop {
            let tail = self.tail();
            let plain = tail.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f));
            self.at += plain.unwrap_or(tail.len());
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => escapes = self.escape(escapes)?,
                Some(_) => return self.fault(SyntaxKind::Control),
                None => return self.fault(SyntaxKind::Unclosed),
            }
        }
        let raw = self.since(start);
        self.at += 1;
        Ok(Text { raw, escapes })
    }

    /// Steps over an escape and returns what the string's escapes amount to with it.
    fn escape(&mut self, before: Escapes) -> Result<Escapes, Syntax> {
        let (length, lone) = match self.tail() {
            [_, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => (2, false),
            [_, b'u', digits @ ..] => match unit(digits) {
                Some(Unit::Char(_, digits)) => (2 + digits, false),
                Some(Unit::Lone) => (2 + 4, true),
                None => return self.fault(SyntaxKind::Escape),
            },
            _ => return self.fault(SyntaxKind::Escape),
        };
        self.at += length;
        Ok(if lone || before == Escapes::Lone { Escapes::Lone } else { Escapes::Whole })
    }

    fn number(&mut self) -> Result<Number<'a>, Syntax> {
        let start = self.at;
        if self.word("NaN") {
            return Ok(Number::NonFinite);
        }
        self.word("-");
        if self.word("Infinity") {
            return Ok(Number::NonFinite);
        }
        let digits = if self.word("0") { 1 } else { self.digits() };
        if digits == 0 {
            return self.fault(SyntaxKind::Value);
        }
        let fraction = self.fraction();
        let exponent = self.exponent();
        if fraction || exponent {
            return Ok(Number::Float(self.since(start)));
        }
        if digits > INTEGER_DIGITS_MAX {
            return self.fault(SyntaxKind::Integer);
        }
        Ok(Number::Integer(self.since(start)))
    }

    /// Steps over a point and its digits; a point without digits is left for the next token to
    /// refuse.
    fn fraction(&mut self) -> bool {
        let is_one = matches!(self.tail(), [b'.', b'0'..=b'9', ..]);
        if is_one {
            self.at += 1;
            self.digits();
        }
        is_one
    }

    fn exponent(&mut self) -> bool {
        let sign = match self.tail() {
            [b'e' | b'E', b'0'..=b'9', ..] => 0,
            [b'e' | b'E', b'+' | b'-', b'0'..=b'9', ..] => 1,
            _ => return false,
        };
        self.at += 1 + sign;
        self.digits();
        true
    }

    fn digits(&mut self) -> usize {
        let count = self.tail().iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        count
    }

    /// Steps over `word` if it comes next.
    fn word(&mut self, word: &str) -> bool {
        let is_next = self.tail().starts_with(word.as_bytes());
        if is_next {
            self.at += word.len();
        }
        is_next
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn tail(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    fn fault<T>(&self, kind: SyntaxKind) -> Result<T, Syntax> {
        Err(Syntax { at: self.at, kind })
    }
}
