//! Whether the records of the one batch that is on its way have arrived.
//!
//! librdkafka reports each record on its own thread; the writer waits here for all of them, under a deadline. A report
//! carries the number of its batch, so that a late one of an aborted batch counts for nothing.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rdkafka::{
    ClientContext, Message,
    config::RDKafkaLogLevel,
    error::KafkaError,
    producer::{DeliveryResult, ProducerContext},
};
use tokio::time::Instant;

use crate::{
    kafka::{Bootstrap, Bootstrapped, Reporter},
    record::Offset,
};

/// The producer's context.
#[derive(Debug)]
pub(super) struct Deliveries {
    reporter: Reporter,
    bootstrap: Bootstrap,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    batch: u32,
    outstanding: usize,
    offsets: Vec<Offset>,
    failed: Option<(usize, KafkaError)>,
}

/// How the waiting ended badly.
#[derive(Debug)]
pub(super) enum Undelivered {
    /// A record of the batch failed, the one of this index first.
    Failed(usize, KafkaError),
    /// So many reports had not come by the deadline.
    Late(usize),
}

impl Deliveries {
    pub(super) fn new(reporter: Reporter) -> Self {
        let bootstrap = Bootstrap::new(reporter.servers());
        Self { reporter, bootstrap, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Begins to count a batch of `records` records, and returns its number.
    pub(super) fn expect(&self, records: usize) -> u32 {
        let mut state = self.state();
        let batch = state.batch.wrapping_add(1);
        *state =
            State { batch, outstanding: records, offsets: vec![Offset(-1); records], failed: None };
        batch
    }

    /// Waits until every record of the batch has arrived, and returns their offsets.
    ///
    /// # Errors
    /// [`Undelivered`], as soon as one has failed, or at `deadline`.
    pub(super) fn wait(&self, deadline: Instant) -> Result<Vec<Offset>, Undelivered> {
        let mut state = self.state();
        loop {
            if let Some((index, error)) = state.failed.take() {
                return Err(Undelivered::Failed(index, error));
            }
            if state.outstanding == 0 {
                return Ok(std::mem::take(&mut state.offsets));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Undelivered::Late(state.outstanding));
            }
            state =
                self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns what a record of a batch carries through librdkafka.
pub(super) fn tag(batch: u32, index: usize) -> usize {
    const { assert!(usize::BITS == 64, "a tag holds a batch's number and an index") };
    (batch as usize) << 32 | (index & 0xffff_ffff)
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.reporter.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.bootstrap.note(&error);
        self.reporter.error(&error, reason);
    }
}

impl Bootstrapped for Deliveries {
    fn bootstrap(&self) -> &Bootstrap {
        &self.bootstrap
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, tag: usize) {
        let (batch, index) = (tag >> 32, tag & 0xffff_ffff);
        let mut state = self.state();
        if batch != state.batch as usize {
            return;
        }
        match result {
            Ok(message) => {
                if let Some(offset) = state.offsets.get_mut(index) {
                    *offset = Offset(message.offset());
                }
                state.outstanding = state.outstanding.saturating_sub(1);
            }
            Err((error, _)) => {
                if state.failed.is_none() {
                    state.failed = Some((index, error.clone()));
                }
            }
        }
        if state.outstanding == 0 || state.failed.is_some() {
            self.changed.notify_all();
        }
    }
}
