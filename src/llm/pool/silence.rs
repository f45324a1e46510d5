//! What an endpoint's silence means.
//!
//! A call that waits for its first byte stands in the server's queue, or its model loads, or its prompt is read; or the
//! runner is frozen, which no error ever tells. So while calls are silent one of them asks now and then which models
//! are loaded. A model that stays loaded and gave no call a byte for too long is frozen: all its silent calls are cut,
//! and that is what makes Ollama start the runner anew. A server that doesn't even answer this question is gone.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::residency::Running;
use crate::llm::error::{Fault, Phase};

/// How long a call may be silent before anybody asks.
pub(in crate::llm) const FIRST_LOOK: Duration = Duration::from_secs(1);

/// How often a silent call looks around.
pub(in crate::llm) const LOOK: Duration = Duration::from_millis(500);

/// The least time between two questions to one endpoint that answers them.
const ASK: Duration = Duration::from_secs(5);

/// How long a server may leave the question unanswered where calls can go elsewhere.
const DEAF_FOR: Duration = Duration::from_millis(2500);

/// How many bytes of a prompt a slow machine reads per second: some fifty tokens.
const PROMPT_PER_SECOND: usize = 200;

/// The signs of life of a model at an endpoint.
#[derive(Debug)]
pub(in crate::llm) struct Pulse {
    epoch: Instant,
    /// The last byte, and when it was found frozen; in milliseconds since the epoch, 0 = never.
    spoke: AtomicU64,
    frozen: AtomicU64,
    /// How often it was found frozen since its last byte.
    verdicts: AtomicU32,
    /// When the server last said something new of it: it loads, or answers somebody; as `spoke`.
    stirred: AtomicU64,
    /// The longest prompt of the calls that are open, in bytes.
    prompt: AtomicUsize,
    calls: AtomicUsize,
}

/// What is known of a silent endpoint.
#[derive(Debug, Default)]
pub(in crate::llm) struct Ear(Mutex<Heard>);

#[derive(Debug, Default)]
struct Heard {
    asking: bool,
    asked: Option<Instant>,
    /// Since when the question is unanswered.
    unanswered: Option<Instant>,
    listed: Vec<(Running, Instant)>,
}

/// How long silence may last.
#[derive(Debug, Clone, Copy)]
pub(in crate::llm) struct Bearing {
    /// Where the model is loaded; doubled by each verdict that no byte disproves, up to `first_byte`.
    pub(in crate::llm) resident: Duration,
    pub(in crate::llm) first_byte: Duration,
    /// Whether calls can go elsewhere.
    pub(in crate::llm) is_one_of_several: bool,
}

/// A silent call.
#[derive(Debug, Clone, Copy)]
pub(in crate::llm) struct Silent<'a> {
    pub(in crate::llm) model: &'a str,
    pub(in crate::llm) begun: Instant,
    pub(in crate::llm) pulse: &'a Pulse,
}

/// What a call hears of its model, itself and by the others.
#[derive(Debug)]
pub(in crate::llm) struct Voice {
    pulse: Arc<Pulse>,
    begun: Instant,
    has_spoken: AtomicBool,
}

/// The right to ask; only one call has it at a time.
#[derive(Debug)]
pub(in crate::llm) struct Lease<'a>(&'a Ear);

impl Pulse {
    pub(in crate::llm) fn new(epoch: Instant) -> Self {
        let [spoke, frozen, stirred] = [const { AtomicU64::new(0) }; 3];
        let [prompt, calls] = [const { AtomicUsize::new(0) }; 2];
        Self { epoch, spoke, frozen, verdicts: AtomicU32::new(0), stirred, prompt, calls }
    }

    /// Takes note of a call that begins.
    pub(in crate::llm) fn begin(&self, prompt: usize) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.prompt.fetch_max(prompt, Ordering::Relaxed);
    }

    /// Takes note of its end. A server reads a prompt to its end though nobody waits for the answer any more: whoever
    /// comes next waits for that as well.
    pub(in crate::llm) fn end(&self, has_spoken: bool) {
        if self.calls.fetch_sub(1, Ordering::Relaxed) == 1 && has_spoken {
            self.prompt.store(0, Ordering::Relaxed);
        }
    }

    /// Takes note of a byte.
    pub(in crate::llm) fn speak(&self) {
        self.spoke.store(self.stamp(Instant::now()), Ordering::Relaxed);
        self.verdicts.store(0, Ordering::Relaxed);
    }

    /// Returns when any call of the model last got a byte.
    fn spoke(&self) -> Option<Instant> {
        self.time(self.spoke.load(Ordering::Relaxed))
    }

    /// Returns how long the loaded model may be silent after so many verdicts.
    fn limit(&self, bearing: Bearing, verdicts: u32) -> Duration {
        let prompt = self.prompt.load(Ordering::Relaxed) / PROMPT_PER_SECOND;
        let doubled = bearing.resident.saturating_mul(2_u32.saturating_pow(verdicts));
        doubled.min(bearing.first_byte.max(bearing.resident))
            + Duration::from_secs(u64::try_from(prompt).unwrap_or_default())
    }

    fn stamp(&self, at: Instant) -> u64 {
        let past = at.saturating_duration_since(self.epoch).as_millis();
        u64::try_from(past).unwrap_or(u64::MAX).saturating_add(1)
    }

    fn time(&self, stamp: u64) -> Option<Instant> {
        Some(self.epoch + Duration::from_millis(stamp.checked_sub(1)?))
    }
}

impl Voice {
    /// Begins with a call for a prompt of so many bytes.
    pub(in crate::llm) fn begin(pulse: Arc<Pulse>, prompt: usize) -> Self {
        pulse.begin(prompt);
        Self { pulse, begun: Instant::now(), has_spoken: AtomicBool::new(false) }
    }

    /// Begins its silence anew.
    pub(super) fn begin_now(&mut self) {
        self.begun = Instant::now();
    }

    /// Takes note of a byte of this call.
    pub(in crate::llm) fn speak(&self) {
        self.pulse.speak();
        self.has_spoken.store(true, Ordering::Relaxed);
    }

    /// Returns whether this call has got a byte: then its silence is its own, and no longer the queue's.
    pub(in crate::llm) fn has_spoken(&self) -> bool {
        self.has_spoken.load(Ordering::Relaxed)
    }

    /// Returns whether any call of the model has got a byte since this one began.
    pub(in crate::llm) fn is_answering(&self) -> bool {
        self.pulse.spoke().is_some_and(|spoke| spoke >= self.begun)
    }

    /// Returns when the model last moved: it gave any call a byte, or the server said something new of it.
    pub(in crate::llm) fn last_sign(&self) -> Option<Instant> {
        let stirred = self.pulse.time(self.pulse.stirred.load(Ordering::Relaxed));
        self.pulse.spoke().max(stirred)
    }

    pub(super) fn silent<'a>(&'a self, model: &'a str) -> Silent<'a> {
        Silent { model, begun: self.begun, pulse: &self.pulse }
    }
}

impl Drop for Voice {
    fn drop(&mut self) {
        self.pulse.end(self.has_spoken());
    }
}

impl Ear {
    /// Returns why a silent call is to be cut, if it is.
    pub(in crate::llm) fn verdict(
        &self,
        call: Silent<'_>,
        bearing: Bearing,
        now: Instant,
    ) -> Option<Fault> {
        let (heard, pulse) = (self.heard(), call.pulse);
        let spoke = pulse.spoke();
        let limit = if bearing.is_one_of_several { DEAF_FOR } else { bearing.resident };
        // A server that is heard is not deaf, whatever it leaves unanswered.
        let deaf = heard.unanswered.map(|since| since.max(call.begun).max(spoke.unwrap_or(since)));
        if deaf.is_some_and(|since| now.saturating_duration_since(since) >= limit) {
            return Some(Fault::Timeout { phase: Phase::Unresponsive, after: limit });
        }
        let cut = |after| Some(Fault::Timeout { phase: Phase::Frozen, after });
        let verdicts = pulse.verdicts.load(Ordering::Relaxed);
        // Another call of the same model has found it frozen.
        let frozen = pulse.frozen.load(Ordering::Relaxed);
        let has_moved = pulse.spoke.load(Ordering::Relaxed) >= frozen;
        if frozen > pulse.stamp(call.begun) && !has_moved {
            return cut(pulse.limit(bearing, verdicts.saturating_sub(1)));
        }
        let (_, listed) = heard.listed.iter().find(|(running, _)| running.is(call.model))?;
        pulse.stirred.fetch_max(pulse.stamp(*listed), Ordering::Relaxed);
        let limit = pulse.limit(bearing, verdicts);
        let quiet = spoke.unwrap_or(call.begun).max(call.begun).max(*listed);
        if now.saturating_duration_since(quiet) < limit {
            return None;
        }
        pulse.frozen.store(pulse.stamp(now), Ordering::Relaxed);
        pulse.verdicts.store(verdicts.saturating_add(1), Ordering::Relaxed);
        cut(limit)
    }

    /// Returns the right to ask, if it is time and nobody else does.
    pub(in crate::llm) fn lease(&self, now: Instant) -> Option<Lease<'_>> {
        let mut heard = self.heard();
        let is_early = heard.asked.is_some_and(|asked| now < asked + ASK);
        if heard.asking || (is_early && heard.unanswered.is_none()) {
            return None;
        }
        heard.asking = true;
        heard.asked = Some(now);
        Some(Lease(self))
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease<'_> {
    /// Takes note of the answer, to a question that was asked at `asked`.
    pub(in crate::llm) fn answered(self, listed: &[Running], asked: Instant, now: Instant) {
        let mut heard = self.0.heard();
        let before = std::mem::take(&mut heard.listed);
        let since = |running: &Running| {
            let same = before.iter().find(|(known, _)| known == running);
            same.map_or(now, |(_, since)| *since)
        };
        heard.listed = listed.iter().map(|running| (running.clone(), since(running))).collect();
        heard.unanswered = None;
        heard.asked = Some(asked);
    }

    /// Takes note that there was none.
    pub(in crate::llm) fn unanswered(self, asked: Instant) {
        let mut heard = self.0.heard();
        heard.unanswered.get_or_insert(asked);
        heard.listed.clear();
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.0.heard().asking = false;
    }
}
