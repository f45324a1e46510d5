//! How much work is held at once, in which order it starts, and how often it is tried.
//!
//! One variable per field: `WORKFLOW_` and the field's name in upper case, but for `DELIVERY_GUARANTEE`.

use std::time::Duration;

use bytesize::ByteSize;
use serde::Deserialize;

use crate::retry::RetryPolicy;

/// The limits and the order of the work.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Config {
    /// The most runs at once. Default `512`, from 1 to 100,000.
    ///
    /// A run that waits for the model or a back-off costs its state, no thread. Too few: runs without a
    /// model call queue behind those that wait for one. Too many: memory, as
    /// [`memory`](Self::memory) counts the events but not what the graph makes of them.
    pub max_in_flight: usize,
    /// The most offsets per partition that were received and are not committed: running, waiting for a
    /// retry, held or finished. Default and maximum `1000`, at least 1.
    ///
    /// The maximum is what fits into an offset's metadata. Throughput per partition is this divided by
    /// the time of two transactions, or by the time of a run where that is longer.
    pub max_unsettled: usize,
    /// The most bytes of events held, over all partitions. Default `64MiB`, at least 1 MiB.
    ///
    /// When it is used up nothing more is read until something is settled. A single larger event is
    /// still taken, alone.
    pub memory: ByteSize,
    /// How old an event must be before its result is published. Default `1s`, from 0 to 1 min.
    ///
    /// The original's clients publish first and subscribe afterwards, which takes them 0.3 s: a result
    /// that is there earlier is never seen. `0` where clients subscribe first.
    #[serde(with = "humantime_serde")]
    pub result_min_age: Duration,
    /// How old an event may become before it is worked on no more, counted from its record's timestamp.
    /// Default `0s`, any age; at most 30 d.
    ///
    /// The header `weir-deadline` says the same for one event; the earlier of the two counts. Too short, and
    /// a backlog after a stop is answered with errors; too long, and the model works for clients that have
    /// gone.
    #[serde(with = "humantime_serde")]
    pub event_ttl: Duration,
    /// Which events wait for one another. Default `unordered`.
    pub ordering: Ordering,
    /// How often an event is attempted before it is given up, the first time included. Default `4`, as
    /// the original; from 1 to 100.
    pub max_attempts: u32,
    /// The upper bound of the first back-off; it doubles with each attempt. Default `1s`, as the
    /// original; from 1 ms to 1 min.
    #[serde(with = "humantime_serde")]
    pub retry_base: Duration,
    /// The upper bound of every back-off. Default `60s`, as the original; at most 1 h.
    ///
    /// It can't be below [`retry_base`](Self::retry_base). A waiting event keeps its place among the
    /// unsettled offsets: an hour of them stops the partition.
    #[serde(with = "humantime_serde")]
    pub retry_max: Duration,
    /// What a crash may do to results (`DELIVERY_GUARANTEE`). Default `exactly_once`.
    pub delivery_guarantee: DeliveryGuarantee,
}

/// Which events wait for one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ordering {
    /// None: each starts as soon as there is room.
    Unordered,
    /// Those with the same Kafka key run one after another in offset order; no key, no order.
    Key,
    /// Those of one partition run one after another.
    Partition,
}

/// What a crash may do to results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryGuarantee {
    /// Nothing: results and offsets are committed in one transaction.
    ExactlyOnce,
    /// Publish some a second time: results are flushed, then offsets are committed. For brokers without
    /// transactions.
    AtLeastOnce,
}

impl Config {
    /// Returns how often and after which delays an event is attempted again.
    #[must_use]
    pub fn retry(&self) -> RetryPolicy {
        RetryPolicy { attempts_max: self.max_attempts, base: self.retry_base, max: self.retry_max }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_in_flight: 512,
            max_unsettled: 1000,
            memory: ByteSize::mib(64),
            result_min_age: Duration::from_secs(1),
            event_ttl: Duration::ZERO,
            ordering: Ordering::Unordered,
            max_attempts: 4,
            retry_base: Duration::from_secs(1),
            retry_max: Duration::from_secs(60),
            delivery_guarantee: DeliveryGuarantee::ExactlyOnce,
        }
    }
}
