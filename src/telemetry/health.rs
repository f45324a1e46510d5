//! Whether this process lives, and whether it can work.
//!
//! Not ready is normal (a broker restarts) and heals by itself; not alive means that waiting won't help and a restart
//! will. So liveness looks at weir's own heartbeat only, never at Kafka or at a model.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

/// How long the heartbeat may be silent. The driver beats at each turn, and turns at least every few seconds.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// How often a component's progress is logged, at most.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// What the probes answer from. Cheap to clone; every clone is the same health.
#[derive(Clone)]
pub struct Health(Arc<Inner>);

/// One part of the world that weir needs in order to work.
#[derive(Clone)]
pub struct Component(Arc<Part>);

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Whether every check passed.
    pub ok: bool,
    /// The checks by name, each with the reason where it didn't pass.
    pub checks: Vec<(&'static str, Result<(), String>)>,
}

struct Inner {
    parts: Mutex<Vec<Component>>,
    draining: AtomicBool,
    started: Instant,
    /// Milliseconds from `started` to the last heartbeat, plus 1; 0 = none yet.
    beat: AtomicU64,
    changed: watch::Sender<()>,
}

struct Part {
    name: &'static str,
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

struct State {
    /// Why it isn't ready; `None` = it is.
    waiting: Option<String>,
    logged: Option<Instant>,
}

impl Health {
    /// Returns the handle of a component, which is not ready before it says so.
    ///
    /// The same name gives the same component.
    #[must_use]
    pub fn component(&self, name: &'static str) -> Component {
        let mut parts = self.parts();
        if let Some(known) = parts.iter().find(|part| part.0.name == name) {
            return known.clone();
        }
        let state = Mutex::new(State { waiting: Some("starting".to_owned()), logged: None });
        let part = Component(Arc::new(Part { name, state, changed: self.0.changed.clone() }));
        parts.push(part.clone());
        part
    }

    /// Turns readiness off for good: this process finishes what it has and ends.
    pub fn draining(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
        self.0.changed.send_replace(());
    }

    /// Says whether the process drains.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    /// The heartbeat of the loop that everything depends on. It must come every few seconds, also when there is
    /// nothing to do: 30 s of silence count as wedged.
    pub fn beat(&self) {
        let now = u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.beat.store(now.saturating_add(1), Ordering::Relaxed);
    }

    /// Says whether the process lives: its heart beats, or hasn't begun to.
    #[must_use]
    pub fn livez(&self) -> Report {
        let beat = self.0.beat.load(Ordering::Relaxed);
        let silence = beat.checked_sub(1).map_or(Duration::ZERO, |last| {
            self.0.started.elapsed().saturating_sub(Duration::from_millis(last))
        });
        let alive = if silence <= SILENCE_MAX {
            Ok(())
        } else {
            let (silence, limit) = (silence.as_secs(), SILENCE_MAX.as_secs());
            Err(format!("no heartbeat for {silence} s, the limit is {limit} s"))
        };
        Report::of(vec![("heartbeat", alive)])
    }

    /// Says whether the process can work: every component is ready, and it isn't draining.
    #[must_use]
    pub fn readyz(&self) -> Report {
        let mut checks: Vec<_> = self.parts().iter().map(Component::check).collect();
        let draining = if self.is_draining() { Err("draining".to_owned()) } else { Ok(()) };
        checks.push(("shutdown", draining));
        Report::of(checks)
    }

    /// Yields whenever readiness or its reason may have changed.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }

    fn parts(&self) -> MutexGuard<'_, Vec<Component>> {
        self.0.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Component {
    /// It can be worked with.
    pub fn ready(&self) {
        let before = {
            let mut state = self.state();
            state.logged = None;
            state.waiting.take()
        };
        if before.is_some() {
            info!(component = self.0.name, "component is ready");
            self.0.changed.send_replace(());
        }
    }

    /// It can't be worked with, for this reason: one warning for each new reason.
    pub fn waiting(&self, reason: impl Into<String>) {
        let reason = reason.into();
        {
            let mut state = self.state();
            if state.waiting.as_ref() == Some(&reason) {
                return;
            }
            state.waiting = Some(reason.clone());
        }
        warn!(component = self.0.name, reason, "component is not ready");
        self.0.changed.send_replace(());
    }

    /// It can't be worked with yet, and this is how far it is. Nothing is wrong, so it is told at times only.
    pub fn progress(&self, reason: impl Into<String>) {
        let reason = reason.into();
        let due = {
            let mut state = self.state();
            state.waiting = Some(reason.clone());
            let due = state.logged.is_none_or(|last| last.elapsed() >= PROGRESS_EVERY);
            if due {
                state.logged = Some(Instant::now());
            }
            due
        };
        if due {
            info!(component = self.0.name, reason, "component is getting ready");
            self.0.changed.send_replace(());
        }
    }

    fn check(&self) -> (&'static str, Result<(), String>) {
        (self.0.name, self.state().waiting.clone().map_or(Ok(()), Err))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Report {
    fn of(checks: Vec<(&'static str, Result<(), String>)>) -> Self {
        Self { ok: checks.iter().all(|(_, outcome)| outcome.is_ok()), checks }
    }

    /// Returns the reasons of the checks that didn't pass, as `name: reason`, joined by `; `.
    #[must_use]
    pub fn reasons(&self) -> String {
        let failed = self.checks.iter().filter_map(|(name, outcome)| {
            outcome.as_ref().err().map(|reason| format!("{name}: {reason}"))
        });
        failed.collect::<Vec<_>>().join("; ")
    }
}

impl Default for Health {
    fn default() -> Self {
        Self(Arc::new(Inner {
            parts: Mutex::default(),
            draining: AtomicBool::new(false),
            started: Instant::now(),
            beat: AtomicU64::new(0),
            changed: watch::Sender::new(()),
        }))
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health").field("readyz", &self.readyz()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, outcome) = self.check();
        f.debug_struct("Component").field("name", &name).field("outcome", &outcome).finish()
    }
}
