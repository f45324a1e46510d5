//! The latest results of this instance, for clients that would rather ask than read a topic.
//!
//! Nothing depends on it: it forgets the oldest when it is full, and everything at a restart. The topic is the truth.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use uuid::Uuid;

/// What one result costs besides its bytes, roughly: its places in the map and in the queue.
const OVERHEAD: usize = 128;

/// Recent results by correlation id. Cheap to clone; every clone is the same store.
#[derive(Clone)]
pub struct Results(Arc<Mutex<Ring>>);

struct Ring {
    records_max: usize,
    bytes_max: usize,
    bytes: usize,
    turn: u64,
    kept: HashMap<Uuid, (u64, Bytes)>,
    /// Oldest first. A result that was replaced leaves its older entry here, which then matches nothing.
    order: VecDeque<(u64, Uuid)>,
}

impl Results {
    /// Makes a store for at most `records_max` results that hold at most `bytes_max` bytes together. 0 keeps nothing.
    #[must_use]
    pub fn new(records_max: usize, bytes_max: usize) -> Self {
        let (kept, order) = (HashMap::new(), VecDeque::new());
        Self(Arc::new(Mutex::new(Ring { records_max, bytes_max, bytes: 0, turn: 0, kept, order })))
    }

    /// Keeps a result, JSON as it was published, and forgets the oldest ones where there is no room.
    ///
    /// A result larger than the whole store is not kept; neither is an older one of the same id then.
    pub fn insert(&self, correlation_id: Uuid, bytes: Bytes) {
        self.lock().insert(correlation_id, bytes);
    }

    /// Returns the latest result with this correlation id, if it is still here.
    #[must_use]
    pub fn get(&self, correlation_id: &Uuid) -> Option<Bytes> {
        self.lock().kept.get(correlation_id).map(|(_, bytes)| bytes.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn insert(&mut self, id: Uuid, bytes: Bytes) {
        if self.records_max == 0 || cost(&bytes) > self.bytes_max {
            if let Some((_, old)) = self.kept.remove(&id) {
                self.bytes -= cost(&old);
            }
            return;
        }
        while self.order.len() >= self.records_max || self.bytes + cost(&bytes) > self.bytes_max {
            let Some((turn, oldest)) = self.order.pop_front() else {
                break;
            };
            self.forget(turn, oldest);
        }
        self.turn += 1;
        self.bytes += cost(&bytes);
        self.order.push_back((self.turn, id));
        if let Some((_, old)) = self.kept.insert(id, (self.turn, bytes)) {
            self.bytes -= cost(&old);
        }
    }

    fn forget(&mut self, turn: u64, id: Uuid) {
        if self.kept.get(&id).is_some_and(|(kept, _)| *kept == turn)
            && let Some((_, bytes)) = self.kept.remove(&id)
        {
            self.bytes -= cost(&bytes);
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
