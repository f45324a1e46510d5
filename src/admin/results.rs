//! The latest results of this instance, for clients that would rather ask than read a topic.
//!
//! Nothing depends on it: it forgets the oldest when it is full, and everything at a restart. The topic is the truth.
//! Results come by the thousand and are rarely asked for, so to keep one costs next to nothing, and to find one is a
//! look at all of them.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use uuid::Uuid;

/// What one result costs besides its bytes, roughly.
const OVERHEAD: usize = 128;

/// Recent results by correlation id. Cheap to clone; every clone is the same store.
#[derive(Clone)]
pub struct Results(Arc<Mutex<Ring>>);

struct Ring {
    records_max: usize,
    bytes_max: usize,
    bytes: usize,
    /// Oldest first: the key, which is the correlation id as text, and the result. Of one id the latest counts.
    kept: VecDeque<(Bytes, Bytes)>,
}

impl Results {
    /// Makes a store for at most `records_max` results that hold at most `bytes_max` bytes together. 0 keeps nothing.
    #[must_use]
    pub fn new(records_max: usize, bytes_max: usize) -> Self {
        Self(Arc::new(Mutex::new(Ring { records_max, bytes_max, bytes: 0, kept: VecDeque::new() })))
    }

    /// Keeps results, JSON as they were published under their keys, and forgets the oldest ones where there is no room.
    ///
    /// A result larger than the whole store is not kept; neither is an older one of the same id then.
    pub fn keep(&self, results: impl IntoIterator<Item = (Bytes, Bytes)>) {
        let mut ring = self.lock();
        for (key, value) in results {
            ring.insert(key, value);
        }
    }

    /// Returns the latest result with this correlation id, if it is still here.
    #[must_use]
    pub fn get(&self, correlation_id: &Uuid) -> Option<Bytes> {
        let mut digits = Uuid::encode_buffer();
        let key = correlation_id.hyphenated().encode_lower(&mut digits).as_bytes();
        let ring = self.lock();
        ring.kept.iter().rev().find(|(kept, _)| *kept == key).map(|(_, latest)| latest.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn insert(&mut self, key: Bytes, value: Bytes) {
        if self.records_max == 0 || cost(&value) > self.bytes_max {
            self.kept.retain(|(kept, _)| *kept != key);
            self.bytes = self.kept.iter().map(|(_, value)| cost(value)).sum();
            return;
        }
        self.bytes += cost(&value);
        self.kept.push_back((key, value));
        while self.kept.len() > self.records_max || self.bytes > self.bytes_max {
            let Some((_, oldest)) = self.kept.pop_front() else { break };
            self.bytes -= cost(&oldest);
        }
    }
}

fn cost(bytes: &Bytes) -> usize {
    bytes.len() + OVERHEAD
}

impl Default for Results {
    /// 10,000 results and 16 MiB.
    fn default() -> Self {
        Self::new(10_000, 16 * 1024 * 1024)
    }
}

impl fmt::Debug for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ring = self.lock();
        f.debug_struct("Results")
            .field("records", &ring.kept.len())
            .field("bytes", &ring.bytes)
            .finish()
    }
}
