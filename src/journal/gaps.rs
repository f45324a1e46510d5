//! Writes a list of gaps between offsets in few bits, whether they lie close, far apart, or both.
//!
//! A gap of at most `k` bits takes `k + 1`; the first bit beyond takes one more, each further bit
//! two. `k` is written ahead and is the one that makes the whole shortest. So a run that is far
//! behind costs some bits of its own and the others no more than before, and `n` gaps with the sum
//! `s` take at most `n * (k + 1) + 1.5 * s / 2^k` bits, whichever `k` one puts in.

/// Bits in the widest gap: offsets have 63.
const GAP_BITS: u8 = 63;

/// Appends `k` as a byte, then the gaps, each below 2^63, the last byte filled up with zeros.
pub(super) fn encode(gaps: &[u64], into: &mut Vec<u8>) {
    let plain = plain_bits(gaps);
    into.push(plain);
    let mut writer = Writer { bytes: into, waiting: 0, bits: 0 };
    for gap in gaps {
        writer.gap(*gap, plain.into());
    }
    writer.finish();
}

/// Reads `count` gaps; `None` unless they are all there and nothing else is.
pub(super) fn decode(bytes: &[u8], count: usize) -> Option<Vec<u64>> {
    let (plain, bytes) = bytes.split_first()?;
    if *plain > GAP_BITS {
        return None;
    }
    let mut reader = Reader { bytes, at: 0 };
    let gaps = (0..count).map(|_| reader.gap((*plain).into())).collect::<Option<_>>()?;
    reader.is_at_end().then_some(gaps)
}

/// Returns the `k` that makes the whole shortest.
///
/// One more costs each gap a bit; it spares one for each gap wider than `k` and another for each
/// wider than `k + 1`. These numbers fall as `k` grows: the first `k` with nothing to gain is best.
fn plain_bits(gaps: &[u64]) -> u8 {
    let wider_than = |bits: u8| gaps.iter().filter(|gap| **gap >> bits != 0).count();
    let mut wider = wider_than(0);
    for k in 0..GAP_BITS {
        let wider_still = wider_than(k + 1);
        if wider + wider_still <= gaps.len() {
            return k;
        }
        wider = wider_still;
    }
    GAP_BITS
}

/// Appends bits, the highest first.
struct Writer<'a> {
    bytes: &'a mut Vec<u8>,
    /// Its lowest `bits` bits are still to be written, fewer than 8 between two calls.
    waiting: u128,
    bits: u32,
}

impl Writer<'_> {
    /// Writes as many ones as the gap has bits beyond `plain`, a zero, then its bits: `plain` of
    /// them, or, where the ones have told how many there are, all below the leading one.
    fn gap(&mut self, gap: u64, plain: u32) {
        let width = u64::BITS - gap.leading_zeros();
        let extra = width.saturating_sub(plain);
        self.put(((1 << extra) - 1) << 1, extra + 1);
        if extra == 0 {
            self.put(gap, plain);
        } else {
            self.put(gap & !(1 << (width - 1)), width - 1);
        }
    }

    fn put(&mut self, value: u64, bits: u32) {
        self.waiting = self.waiting << bits | u128::from(value);
        self.bits += bits;
        while self.bits >= 8 {
            self.bits -= 8;
            self.bytes.push((self.waiting >> self.bits & 0xff) as u8);
        }
    }

    fn finish(mut self) {
        let filling = (8 - self.bits) % 8;
        self.put(0, filling);
    }
}

/// Takes bits, the highest first.
struct Reader<'a> {
    bytes: &'a [u8],
    /// The next bit.
    at: usize,
}

impl Reader<'_> {
    fn gap(&mut self, plain: u32) -> Option<u64> {
        let mut extra = 0;
        while self.bit()? == 1 {
            extra += 1;
        }
        if extra == 0 {
            return self.take(plain);
        }
        let below = plain + extra - 1;
        if below >= u32::from(GAP_BITS) {
            return None;
        }
        Some(1 << below | self.take(below)?)
    }

    fn take(&mut self, bits: u32) -> Option<u64> {
        (0..bits).try_fold(0, |value, _| Some(value << 1 | self.bit()?))
    }

    fn bit(&mut self) -> Option<u64> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit.into())
    }

    fn is_at_end(&mut self) -> bool {
        let whole = self.at.div_ceil(8) == self.bytes.len();
        whole && (self.at..self.bytes.len() * 8).all(|_| self.bit() == Some(0))
    }
}
