//! A string literal: checked when it was read, unescaped when somebody asks.

use std::borrow::Cow;

/// A string as it stands between its quotes, its escapes known to be well formed.
#[derive(Debug, Clone, Copy)]
pub(in crate::event) struct Text<'a> {
    pub(super) raw: &'a str,
    pub(super) escapes: Escapes,
}

/// Which escapes a literal holds, so that the many without any are never looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Escapes {
    None,
    /// Escapes, and every surrogate among them has its partner.
    Whole,
    /// At least one surrogate without its partner.
    Lone,
}

/// What a lone surrogate becomes: no Rust string can hold one, and UTF-8 has no bytes for it.
const IN_A_VALUE: &str = "\u{FFFD}";

/// In a key the original writes one replacement character for each byte that the surrogate would
/// take.
const IN_A_KEY: &str = "\u{FFFD}\u{FFFD}\u{FFFD}";

impl<'a> Text<'a> {
    /// Returns the string, each lone surrogate as one U+FFFD.
    pub(in crate::event) fn value(self) -> Cow<'a, str> {
        self.unescaped(IN_A_VALUE)
    }

    /// Returns the string as an object's key, each lone surrogate as three U+FFFD.
    pub(in crate::event) fn key(self) -> Cow<'a, str> {
        self.unescaped(IN_A_KEY)
    }

    /// Returns the literal as it stands between its quotes, escapes and all.
    pub(in crate::event) fn raw(self) -> &'a str {
        self.raw
    }

    /// Says whether Unicode can carry the string as it is: no lone surrogate.
    pub(in crate::event) fn is_unicode(self) -> bool {
        self.escapes != Escapes::Lone
    }

    fn unescaped(self, lone: &str) -> Cow<'a, str> {
        if self.escapes == Escapes::None {
            return Cow::Borrowed(self.raw);
        }
        let mut out = String::with_capacity(self.raw.len());
        let mut rest = self.raw;
        while let Some((plain, escape)) = rest.split_once('\\') {
            out.push_str(plain);
            let mut chars = escape.chars();
            let letter = chars.next().unwrap_or('\\');
            rest = chars.as_str();
            match letter {
                'b' => out.push('\u{8}'),
                'f' => out.push('\u{c}'),
                'n' => out.push('\n'),
                'r' => out.push('\r'),
                't' => out.push('\t'),
                'u' => rest = push_unit(&mut out, rest, lone),
                itself => out.push(itself),
            }
        }
        out.push_str(rest);
        Cow::Owned(out)
    }
}

/// One `\uXXXX` escape, or two that make a pair.
pub(super) enum Unit {
    /// A character, and how many bytes after the first `\u` it took: 4, or 10 as a pair.
    Char(char, usize),
    /// A surrogate without its partner.
    Lone,
}

/// Reads the code unit whose digits `digits` begins with, and its partner if it needs one and has
/// one.
///
/// `None` if the first four bytes are not hexadecimal digits. A partner with broken digits counts
/// as none: the reader meets it next, and refuses it there.
pub(super) fn unit(digits: &[u8]) -> Option<Unit> {
    let high = four_digits(digits)?;
    if let Some(char) = char::from_u32(high) {
        return Some(Unit::Char(char, 4));
    }
    let low = match digits.get(4..) {
        Some([b'\\', b'u', low @ ..]) => four_digits(low),
        _ => None,
    };
    let pair = match (high, low) {
        (0xD800..=0xDBFF, Some(low @ 0xDC00..=0xDFFF)) => {
            char::from_u32(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))
        }
        _ => None,
    };
    Some(pair.map_or(Unit::Lone, |char| Unit::Char(char, 10)))
}

fn four_digits(digits: &[u8]) -> Option<u32> {
    let four = digits.first_chunk::<4>()?;
    four.iter().try_fold(0, |unit, &digit| Some(unit << 4 | char::from(digit).to_digit(16)?))
}

fn push_unit<'a>(out: &mut String, digits: &'a str, lone: &str) -> &'a str {
    let taken = match unit(digits.as_bytes()) {
        Some(Unit::Char(char, taken)) => {
            out.push(char);
            taken
        }
        Some(Unit::Lone) | None => {
            out.push_str(lone);
            4
        }
    };
    digits.get(taken..).unwrap_or_default()
}
