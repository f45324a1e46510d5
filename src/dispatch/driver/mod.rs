//! Does what the machine decides: one task, one loop, one `select!`.
//! It owns the machine, the running attempts and the transaction in flight, and never blocks on any of them.
//! Rooms reach it by channels: records and rebalances come from the source, effects from the runs.

use std::collections::HashMap;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, Id, JoinSet, yield_now};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use crate::record::{PartitionId, Position, Record};
use crate::shutdown::Shutdown;
use crate::sink::{self, Commit, Outgoing, Publisher};
use crate::source::{self, Window};
use crate::standing::Standing;
use crate::telemetry::{Health, Metrics};
use crate::workflow::{Finished, Job, Press, Request, Runner};

use super::machine::{Action, Machine, Settings};

mod commits;
mod expiry;
mod intake;
mod runs;

/// How often the loop turns when nothing happens: the liveness probe counts on it.
const IDLE_TURN: Duration = Duration::from_secs(2);

/// How many finished runs, effects or batches of records one turn takes before it acts.
const TURN_MAX: usize = 1024;

/// How many runs one turn starts, or sheds, before it looks at what else has happened: the outcome of a transaction
/// waits for no more, and the next one can only begin then.
const STARTS_MAX: usize = 64;

/// How many such turns there are before the runtime may see to other tasks.
const TURNS_MAX: usize = 8;

/// Beyond the grace, how long a drain waits for its last transaction.
const LAST_COMMIT: Duration = Duration::from_secs(10);

/// How the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Everything that finished is committed.
    Drained,
    /// The last transaction did not come to an end in time, or a second signal came: what finished meanwhile
    /// will be done again, from the journal as far as that knows of it.
    Unfinished,
}

/// Is shown every record once it is committed.
pub type Published = Box<dyn Fn(&[Outgoing]) + Send>;

/// What the driver is built from.
pub struct Parts<P> {
    /// What the machine decides by.
    pub settings: Settings,
    /// How young a result may be when it is published, counted from its event's record timestamp.
    pub result_min_age: Duration,
    /// How old an event may become before it is worked on no more; zero for any age.
    pub event_ttl: Duration,
    /// How long running work may go on once partitions are revoked.
    pub revoke_grace: Duration,
    /// Whether the group may have replaced this process while it stood still.
    pub standing: Standing,
    /// How long running work may go on once the process drains.
    pub shutdown_grace: Duration,
    /// Where transactions go.
    pub publisher: P,
    /// What runs an attempt.
    pub runner: Arc<Runner>,
    /// What prints results and dead letters.
    pub press: Arc<Press>,
    /// What comes from Kafka.
    pub events: mpsc::Receiver<source::Event>,
    /// What runs want journaled.
    pub requests: mpsc::Receiver<Request>,
    /// Sees every record once it is committed.
    pub published: Published,
    /// Figures.
    pub metrics: Metrics,
    /// The loop's heartbeat.
    pub health: Health,
    /// When to end.
    pub shutdown: Shutdown,
}

/// The loop.
pub struct Driver<P> {
    parts: Parts<P>,
    machine: Machine<Job>,
    runs: JoinSet<Finished>,
    running: HashMap<Id, (Position, Job)>,
    handles: HashMap<Position, AbortHandle>,
    windows: HashMap<PartitionId, Window>,
    committing: Option<Pin<Box<dyn Future<Output = Commit> + Send>>>,
    committing_since: Instant,
    committing_records: u64,
    /// Of these, how many are the journal's, and their bytes.
    committing_journal: (u64, u64),
    /// Records of partitions whose map has no room for them; their windows bound them.
    backlog: HashMap<PartitionId, Vec<Record>>,
    revoked: Option<oneshot::Sender<()>>,
    tickets: HashMap<u64, oneshot::Sender<()>>,
    ticket: u64,
    /// More may start than the last turn has started.
    more: bool,
    /// How many turns there were since the runtime could see to other tasks.
    turns: usize,
    draining_until: Option<Instant>,
    end: Option<Result<End, sink::Error>>,
    figures_at: Instant,
    /// There was a turn since the figures were told.
    untold: bool,
    /// Whether it was told that a deadline can't be read.
    unreadable_told: bool,
}

impl<P: Publisher> Driver<P> {
    /// Returns a driver without partitions; `nonce` is any number that differs from life to life.
    #[must_use]
    pub fn new(parts: Parts<P>, nonce: u32) -> Self {
        Self {
            machine: Machine::new(parts.settings.clone(), nonce),
            parts,
            runs: JoinSet::new(),
            running: HashMap::new(),
            handles: HashMap::new(),
            windows: HashMap::new(),
            committing: None,
            committing_since: Instant::now(),
            committing_records: 0,
            committing_journal: (0, 0),
            backlog: HashMap::new(),
            revoked: None,
            tickets: HashMap::new(),
            ticket: 0,
            more: false,
            turns: 0,
            draining_until: None,
            end: None,
            figures_at: Instant::now(),
            untold: false,
            unreadable_told: false,
        }
    }

    /// Runs until the process drains.
    ///
    /// # Errors
    /// The sink's error after which this process must not go on: a twin with the same identity.
    pub async fn run(mut self) -> Result<End, sink::Error> {
        loop {
            self.act();
            if let Some(end) = self.end.take() {
                self.runs.shutdown().await;
                return end;
            }
            self.wait().await;
        }
    }

    /// Carries out all that the machine wants now.
    fn act(&mut self) {
        if let Some(silent) = self.parts.standing.turn() {
            warn!(?silent, "stood still: nothing starts until the group confirms our membership");
            self.machine.doubt();
        }
        let now = Instant::now();
        let mut starts = 0;
        self.more = false;
        while let Some(action) = self.machine.poll(now) {
            match action {
                Action::Start(start) => {
                    self.start(start, now);
                    starts += 1;
                }
                Action::Shed { position, job, attempts } => {
                    self.shed(position, &job, attempts);
                    starts += 1;
                }
                Action::Commit(batch) => self.commit(batch, now),
                Action::Recorded(ticket) => self.recorded(ticket),
                Action::Release { partition, records, bytes } => {
                    if let Some(window) = self.windows.get(&partition) {
                        window.release(records, bytes);
                    }
                }
                Action::Published(records) => (self.parts.published)(&records),
                Action::Cancel(position) => self.cancel(position),
                Action::Revoked(partitions) => self.acknowledge(&partitions),
                Action::Drained => _ = self.end.get_or_insert(Ok(End::Drained)),
            }
            if starts == STARTS_MAX {
                self.more = true;
                break;
            }
        }
        self.parts.standing.note(!self.machine.is_in_doubt());
        if self.draining_until.is_some_and(|until| until <= now) {
            warn!("the last transaction did not end in time");
            self.end.get_or_insert(Ok(End::Unfinished));
        }
        self.report(now);
    }

    /// Waits until something happens, and takes in everything that has happened by then.
    async fn wait(&mut self) {
        let wake = Instant::now() + IDLE_TURN;
        // Figures that something has changed since are told within a second.
        let figures_at = self.untold.then_some(self.figures_at);
        let wake = [self.machine.deadline(), self.draining_until, figures_at]
            .into_iter()
            .flatten()
            .fold(wake, Instant::min);
        self.turns = if self.more { self.turns % TURNS_MAX + 1 } else { 0 };
        let shutdown = &self.parts.shutdown;
        // Biased: an order to stop and the outcome of a transaction come before new work, whatever the load.
        tokio::select! {
            biased;
            () = shutdown.abort.cancelled() => self.end = Some(Ok(End::Unfinished)),
            () = shutdown.drain.cancelled(), if self.draining_until.is_none() => self.drain(),
            outcome = settled(&mut self.committing) => self.committed(outcome),
            Some(ended) = self.runs.join_next_with_id() => self.take_ended(ended),
            Some(request) = self.parts.requests.recv() => self.take_requests(request),
            Some(event) = self.parts.events.recv() => self.take_events(event),
            () = yield_now(), if self.turns == TURNS_MAX => {}
            () = ready(()), if self.more && self.turns < TURNS_MAX => {}
            () = sleep_until(wake) => {}
        }
    }

    fn drain(&mut self) {
        let now = Instant::now();
        let until = now + self.parts.shutdown_grace;
        let figures = self.machine.figures();
        info!(running = figures.running, unsettled = figures.unsettled, grace = ?self.parts.shutdown_grace, "draining");
        self.parts.health.draining();
        self.machine.drain(until);
        self.draining_until = Some(until + LAST_COMMIT);
    }

    fn report(&mut self, now: Instant) {
        self.parts.health.beat();
        self.untold = now < self.figures_at;
        if self.untold {
            return;
        }
        self.figures_at = now + Duration::from_secs(1);
        let figures = self.machine.figures();
        let gauge = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.parts.metrics.in_flight(gauge(figures.running));
        self.parts.metrics.ready_queue(gauge(figures.ready));
        self.parts.metrics.waiting_retry(gauge(figures.backing_off));
        self.parts.metrics.held(gauge(figures.held));
        self.parts.metrics.unsettled(gauge(figures.unsettled));
        self.parts.metrics.offsets_gone(self.machine.take_gone());
    }
}

/// Waits for the transaction in flight; for ever when there is none.
async fn settled(committing: &mut Option<Pin<Box<dyn Future<Output = Commit> + Send>>>) -> Commit {
    match committing {
        Some(outcome) => outcome.await,
        None => std::future::pending().await,
    }
}
