//! The metadata of a committed offset: what lies above it and is not settled.
//!
//! The text is `weir1.` and base64url. A checksum covers the whole and where it belongs, so that a
//! map that some tool has copied to another group, partition or offset is refused, never believed.
//! Brokers take 4,096 characters, enough for 1,000 offsets within a span of 2^31, however they lie.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::gaps;
use crate::record::{Offset, PartitionId};

/// The full stop is no base64: whatever else is written in base64 can't begin like this.
const MARKER: &str = "weir1.";
const NAME: &[u8] = b"weir";
const VERSION: u8 = 1;

/// Checksum, nonce, next, journal base and count: what precedes the gaps.
const HEADER: usize = 4 + 4 + 8 + 8 + 2;

/// Where a map belongs; part of its checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope<'a> {
    /// The consumer group that commits it.
    pub group: &'a str,
    /// The events topic.
    pub topic: &'a str,
    /// The partition of the events topic.
    pub partition: PartitionId,
}

/// What is known of a partition beyond its committed offset, the base.
///
/// Of the offsets in `[base, next)` those in `unsettled` are to be done, all others are settled or
/// never held a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map {
    /// One past the highest offset received; at least the base.
    pub next: Offset,
    /// Where reading the journal must begin to find every effect of an unfinished run.
    pub journal_base: Offset,
    /// Tells the transaction that wrote this map: no two commits are alike.
    pub nonce: u32,
    /// The received offsets that are not settled: ascending, each once, in `[base, next)`.
    pub unsettled: Vec<Offset>,
}

/// Why a committed offset's metadata is not a map to go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// Another program wrote it, or nobody did.
    #[error("metadata was not written by weir")]
    Foreign,
    /// Another release wrote it, in a format that is not known here.
    #[error("metadata of version {0}, this release reads version {VERSION}")]
    Version(u8),
    /// It was damaged, or committed for another group, topic, partition or offset.
    #[error("metadata does not match its checksum, group, topic, partition or offset")]
    Corrupt,
}

impl Map {
    /// The most offsets that may be unsettled in one partition.
    pub const UNSETTLED_MAX: usize = 1_000;
    /// How far [`Self::UNSETTLED_MAX`] unsettled offsets may reach and are sure to fit: 2^31.
    ///
    /// At 10,000 events per second of one partition that is one run outliving 59 hours of others.
    pub const SPAN_MAX: i64 = 1 << 31;
    /// The most characters a map may have: `offset.metadata.max.bytes` of a broker, at its default.
    pub const TEXT_MAX: usize = 4_096;

    /// Writes the map as the metadata of the offset `base`.
    ///
    /// No longer than [`Self::TEXT_MAX`] for as many as [`Self::UNSETTLED_MAX`] unsettled offsets
    /// within [`Self::SPAN_MAX`]. Longer ones are written all the same, for the broker to refuse:
    /// to shorten a map is to lose an event.
    #[must_use]
    pub fn encode(&self, scope: &Scope<'_>, base: Offset) -> String {
        let mut gaps = Vec::with_capacity(self.unsettled.len());
        let mut expected = base.0;
        for offset in &self.unsettled {
            gaps.push(u64::try_from(offset.0.saturating_sub(expected)).unwrap_or_default());
            expected = offset.next().0;
        }
        let count = u16::try_from(gaps.len()).unwrap_or(u16::MAX);

        let mut bytes = Vec::with_capacity(HEADER + 1 + 3 * gaps.len());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.nonce.to_be_bytes());
        bytes.extend_from_slice(&self.next.0.to_be_bytes());
        bytes.extend_from_slice(&self.journal_base.0.to_be_bytes());
        bytes.extend_from_slice(&count.to_be_bytes());
        gaps::encode(&gaps, &mut bytes);
        if let Some((sum, payload)) = bytes.split_first_chunk_mut() {
            *sum = checksum(scope, base, payload).to_be_bytes();
        }

        let mut text = String::with_capacity(MARKER.len() + bytes.len().div_ceil(3) * 4);
        text.push_str(MARKER);
        URL_SAFE_NO_PAD.encode_string(&bytes, &mut text);
        text
    }

    /// Reads the metadata that was committed with the offset `base`.
    ///
    /// Takes bytes, for other tools may have written what is no UTF-8. No metadata at all (somebody
    /// reset the offset) is [`MapError::Foreign`] here: to begin anew then is for the caller.
    ///
    /// # Errors
    /// [`MapError`], for all that is not what [`Self::encode`] wrote for this `scope` and `base`.
    pub fn decode(
        text: impl AsRef<[u8]>,
        scope: &Scope<'_>,
        base: Offset,
    ) -> Result<Self, MapError> {
        let text = text.as_ref();
        let Some(body) = text.strip_prefix(MARKER.as_bytes()) else {
            return Err(stranger(text));
        };
        if text.len() > Self::TEXT_MAX {
            return Err(MapError::Corrupt);
        }
        let bytes = URL_SAFE_NO_PAD.decode(body).map_err(|_| MapError::Corrupt)?;
        let (sum, payload) = bytes.split_first_chunk().ok_or(MapError::Corrupt)?;
        if u32::from_be_bytes(*sum) != checksum(scope, base, payload) {
            return Err(MapError::Corrupt);
        }
        Self::parse(payload, base).ok_or(MapError::Corrupt)
    }

    /// Reads what `text`, committed with the offset `base`, says is to be done. Where it is no map, that is all from the
    /// base on, as for whoever begins there anew.
    #[must_use]
    pub fn or_anew(text: impl AsRef<[u8]>, scope: &Scope<'_>, base: Offset) -> Self {
        Self::decode(text, scope, base).unwrap_or_else(|_| Self {
            next: base,
            journal_base: Offset(0),
            nonce: 0,
            unsettled: Vec::new(),
        })
    }

    /// Returns the first offset that is to be done by this map, and settled by what `other` says of its base.
    ///
    /// Of two commits for a partition the later one has none: what is settled stays so.
    #[must_use]
    pub fn first_settled_by(&self, other: &Self, base: Offset) -> Option<Offset> {
        let beyond = (self.next.0..other.next.0).map(Offset);
        self.unsettled.iter().copied().chain(beyond).find(|offset| {
            *offset < base
                || (*offset < other.next && other.unsettled.binary_search(offset).is_err())
        })
    }

    fn parse(payload: &[u8], base: Offset) -> Option<Self> {
        let (nonce, rest) = payload.split_first_chunk()?;
        let (next, rest) = rest.split_first_chunk()?;
        let (journal_base, rest) = rest.split_first_chunk()?;
        let (count, rest) = rest.split_first_chunk()?;
        let next = i64::from_be_bytes(*next);
        let gaps = gaps::decode(rest, u16::from_be_bytes(*count).into())?;

        let mut unsettled = Vec::with_capacity(gaps.len());
        let mut expected = base.0;
        for gap in gaps {
            let offset = expected.checked_add_unsigned(gap).filter(|offset| *offset < next)?;
            unsettled.push(Offset(offset));
            expected = offset.saturating_add(1);
        }
        (next >= base.0).then(|| Self {
            next: Offset(next),
            journal_base: Offset(i64::from_be_bytes(*journal_base)),
            nonce: u32::from_be_bytes(*nonce),
            unsettled,
        })
    }
}

/// Returns the CRC-32 of the marker, where the map belongs, and the payload.
///
/// Each name comes after its length, so that no two scopes look alike.
fn checksum(scope: &Scope<'_>, base: Offset, payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(MARKER.as_bytes());
    for name in [scope.group, scope.topic] {
        crc.update(&(name.len() as u64).to_be_bytes());
        crc.update(name.as_bytes());
    }
    crc.update(&scope.partition.0.to_be_bytes());
    crc.update(&base.0.to_be_bytes());
    crc.update(payload);
    crc.finalize()
}

/// Tells another release of weir from another program, for a text without this release's marker.
fn stranger(text: &[u8]) -> MapError {
    let version = text
        .strip_prefix(NAME)
        .and_then(|rest| rest.split(|byte| *byte == b'.').next().filter(|v| v.len() < rest.len()))
        .filter(|digits| digits.iter().all(u8::is_ascii_digit))
        .and_then(|digits| str::from_utf8(digits).ok()?.parse().ok());
    match version {
        Some(version) if version != VERSION => MapError::Version(version),
        Some(_) | None => MapError::Foreign,
    }
}
