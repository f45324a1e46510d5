//! Does what the machine decides: one task, one loop, one `select!`.
//! It owns the machine, the running attempts and the transaction in flight, and never blocks on any of them.
//! Rooms reach it by channels: records and rebalances come from the source, effects from the runs.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tracing::{Instrument, debug, error, info, info_span, warn};

use crate::event::{self, Defaults, EventType};
use crate::journal::Effects;
use crate::record::{Offset, PartitionId, Position, Record};
use crate::retry::Disposition;
use crate::shutdown::Shutdown;
use crate::sink::{self, Batch, Commit, Outgoing, Publisher};
use crate::source::{self, Recovered, Window};
use crate::telemetry::{Health, Metrics};
use crate::workflow::{Attempt, Finished, Job, Outcome, Press, Request, Runner};

use super::machine::{Action, Arrival, Ended, Machine, Settings, Start, Work};
use super::offsets::Tracker;

/// How often the loop turns when nothing happens: the liveness probe counts on it.
const IDLE_TURN: Duration = Duration::from_secs(2);

/// How many finished runs, effects or batches of records one turn takes before it acts.
const TURN_MAX: usize = 1024;

/// Beyond the grace, how long a drain waits for its last transaction.
const LAST_COMMIT: Duration = Duration::from_secs(10);

/// How the loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Everything that finished is committed.
    Drained,
    /// The last transaction did not come to an end in time, or a second signal came: what finished meanwhile
    /// will be done again from the journal.
    Unfinished,
}

/// What the driver is built from.
pub struct Parts<P> {
    /// What the machine decides by.
    pub settings: Settings,
    /// How young a result may be when it is published, counted from its event's record timestamp.
    pub result_min_age: Duration,
    /// How long running work may go on once partitions are revoked.
    pub revoke_grace: Duration,
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
    pub published: Box<dyn Fn(&[Outgoing]) + Send>,
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
    running: HashMap<Id, (Position, Job, AbortHandle)>,
    windows: HashMap<PartitionId, Window>,
    committing: Option<Pin<Box<dyn Future<Output = Commit> + Send>>>,
    committing_since: Instant,
    committing_records: u64,
    revoked: Option<oneshot::Sender<()>>,
    tickets: HashMap<u64, oneshot::Sender<()>>,
    ticket: u64,
    draining_until: Option<Instant>,
    end: Option<Result<End, sink::Error>>,
    figures_at: Instant,
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
            windows: HashMap::new(),
            committing: None,
            committing_since: Instant::now(),
            committing_records: 0,
            revoked: None,
            tickets: HashMap::new(),
            ticket: 0,
            draining_until: None,
            end: None,
            figures_at: Instant::now(),
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
        let now = Instant::now();
        while let Some(action) = self.machine.poll(now) {
            match action {
                Action::Start(start) => self.start(start),
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
                Action::Drained => self.end = Some(Ok(End::Drained)),
            }
        }
        if self.draining_until.is_some_and(|until| until <= now) {
            warn!("the last transaction did not end in time");
            self.end.get_or_insert(Ok(End::Unfinished));
        }
        self.report(now);
    }

    /// Waits until something happens, and takes in everything that has happened by then.
    async fn wait(&mut self) {
        let wake = Instant::now() + IDLE_TURN;
        let wake = [self.machine.deadline(), self.draining_until].into_iter().flatten().fold(wake, Instant::min);
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

    fn take_events(&mut self, first: source::Event) {
        self.take_event(first);
        for _ in 1..TURN_MAX {
            let Ok(event) = self.parts.events.try_recv() else { break };
            self.take_event(event);
        }
    }

    fn take_event(&mut self, event: source::Event) {
        match event {
            source::Event::Assigned(recovered) => recovered.into_iter().for_each(|one| self.assign(one)),
            source::Event::Records(records) => self.receive(records),
            source::Event::Revoked { partitions, lost, done } => {
                debug!(?partitions, lost, "giving partitions up");
                self.revoked = Some(done);
                self.machine.revoke(partitions, lost, Instant::now() + self.parts.revoke_grace);
            }
        }
    }

    fn assign(&mut self, recovered: Recovered) {
        let Recovered { partition, epoch, start, map, effects, journal_end, window } = recovered;
        let mut runs: HashMap<Offset, Effects> = HashMap::new();
        let first: Vec<_> = effects.iter().map(|(at, effect)| (effect.offset, *at)).collect();
        for (_, effect) in effects {
            runs.entry(effect.offset).or_default().insert(effect);
        }
        info!(%partition, offset = %start, resumed = runs.len(), "took over partition");
        let tracker = match map {
            Some(map) => Tracker::restore(start, map, first, journal_end),
            None => Tracker::start(start, journal_end),
        };
        self.windows.insert(partition, window);
        self.machine.assign(partition, epoch, tracker, runs);
    }

    fn receive(&mut self, records: Vec<Record>) {
        let now = Instant::now();
        let wall = Timestamp::now();
        let mut ignored = 0;
        self.parts.metrics.records_consumed(records.len() as u64);
        for record in records {
            let size = record.size();
            if !self.machine.receive(record.position, size) {
                continue;
            }
            let work = self.decode(&record, wall);
            ignored += u64::from(matches!(&work, Work::Publish(records) if records.is_empty()));
            let publish_at = now + self.too_young(record.timestamp_ms, wall);
            let Record { position, key, .. } = record;
            self.machine.admit(Arrival { position, key, size, publish_at, work }, now);
        }
        self.parts.metrics.ignored(ignored);
    }

    fn decode(&self, record: &Record, wall: Timestamp) -> Work<Job> {
        let defaults = Defaults::of(self.parts.press.topic(), record);
        match event::decode(record.value.as_deref(), &defaults) {
            Ok(event) => match event.event_type {
                EventType::Triggered => {
                    Work::Run(Job { event: Arc::new(event), timestamp_ms: record.timestamp_ms })
                }
                EventType::Completed | EventType::Failed | EventType::Result => Work::Publish(Vec::new()),
            },
            Err(invalid) => {
                let Position { partition, offset, .. } = record.position;
                warn!(%partition, %offset, error = %invalid, "refused event");
                let outcome = self.parts.press.refused(record, &invalid, wall);
                Work::Publish(self.count(outcome))
            }
        }
    }

    /// Returns how long a result must still be held back, so that a client that subscribes only after
    /// publishing can see it.
    fn too_young(&self, timestamp_ms: Option<i64>, wall: Timestamp) -> Duration {
        let min = self.parts.result_min_age;
        let age_ms = timestamp_ms.map_or(0, |at| wall.as_millisecond().saturating_sub(at).max(0));
        min.saturating_sub(Duration::from_millis(age_ms.unsigned_abs()))
    }

    fn start(&mut self, start: Start<Job>) {
        let Start { position, job, attempt, last, effects } = start;
        let span = info_span!(
            "run",
            event_id = %job.event.event_id,
            topic = self.parts.press.topic(),
            partition = position.partition.0,
            offset = position.offset.0,
            attempt,
        );
        let runner = Arc::clone(&self.parts.runner);
        let attempt = Attempt { position, job: job.clone(), number: attempt, last, effects };
        let handle = self.runs.spawn(async move { runner.attempt(attempt).await }.instrument(span));
        self.running.insert(handle.id(), (position, job, handle));
    }

    fn cancel(&self, position: Position) {
        let handle = self.running.values().find(|(at, ..)| *at == position);
        if let Some((_, job, handle)) = handle {
            info!(event_id = %job.event.event_id, "cancelled run; its effects are in the journal");
            handle.abort();
        }
    }

    fn take_ended(&mut self, first: Result<(Id, Finished), JoinError>) {
        let now = Instant::now();
        self.ended(first, now);
        for _ in 1..TURN_MAX {
            let Some(ended) = self.runs.try_join_next_with_id() else { break };
            self.ended(ended, now);
        }
    }

    fn ended(&mut self, ended: Result<(Id, Finished), JoinError>, now: Instant) {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(failed) => failed.id(),
        };
        let Some((position, job, _)) = self.running.remove(&id) else { return };
        let ended = match ended {
            Ok((_, Finished::Done(outcome))) => Ended::Done(self.count(outcome)),
            Ok((_, Finished::Retry { class, after })) => {
                self.parts.metrics.retry(class);
                Ended::Retry { after }
            }
            Err(failed) if failed.is_cancelled() => return self.machine.cancelled(position),
            Err(_) => {
                error!(event_id = %job.event.event_id, "run panicked outside a node");
                let outcome = self.parts.press.panicked(&job, position, Timestamp::now());
                Ended::Done(self.count(outcome))
            }
        };
        self.machine.ended(position, ended, spread(position), now);
    }

    fn count(&self, outcome: Outcome) -> Vec<Outgoing> {
        if let Some(status) = outcome.status {
            self.parts.metrics.result(status);
        }
        if let Some(class) = outcome.class {
            self.parts.metrics.dead_letter(class);
        }
        outcome.records
    }

    fn take_requests(&mut self, first: Request) {
        self.take_request(first);
        for _ in 1..TURN_MAX {
            let Ok(request) = self.parts.requests.try_recv() else { break };
            self.take_request(request);
        }
    }

    fn take_request(&mut self, request: Request) {
        let Request { position, effect, record, committed } = request;
        let ticket = committed.map(|committed| {
            self.ticket += 1;
            self.tickets.insert(self.ticket, committed);
            self.ticket
        });
        if let Some(record) = &record {
            self.parts.metrics.journal_records(1, record.size() as u64);
        }
        self.machine.record(position, effect, record, ticket);
    }

    fn recorded(&mut self, ticket: u64) {
        if let Some(run) = self.tickets.remove(&ticket) {
            // A run that was cancelled meanwhile doesn't listen any more.
            drop(run.send(()));
        }
    }

    fn commit(&mut self, batch: Batch, now: Instant) {
        self.committing_since = now;
        self.committing_records = batch.records.len() as u64;
        self.committing = Some(Box::pin(self.parts.publisher.commit(batch)));
    }

    fn committed(&mut self, outcome: Commit) {
        self.committing = None;
        let now = Instant::now();
        let took = now - self.committing_since;
        match outcome {
            Commit::Applied { journal } => {
                self.parts.metrics.transaction("committed", took, self.committing_records);
                self.machine.applied(&journal);
            }
            Commit::Aborted { error } => {
                self.parts.metrics.transaction("aborted", took, self.committing_records);
                match error.disposition() {
                    Disposition::Stop => self.end = Some(Err(error)),
                    Disposition::Retry { .. } | Disposition::Reject => {
                        warn!(class = error.class(), %error, "transaction aborted; its records are kept and tried again");
                    }
                }
                self.machine.aborted(now);
            }
            Commit::NotAMember => {
                debug!("not a member of the group: nothing can be committed yet");
                self.machine.aborted(now);
            }
        }
    }

    fn acknowledge(&mut self, partitions: &[PartitionId]) {
        for partition in partitions {
            self.windows.remove(partition);
        }
        info!(?partitions, "gave partitions up");
        if let Some(done) = self.revoked.take() {
            // The source may have gone already; then nobody waits for the answer.
            drop(done.send(()));
        }
    }

    fn report(&mut self, now: Instant) {
        self.parts.health.beat();
        if now < self.figures_at {
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
    }
}

/// Waits for the transaction in flight; for ever when there is none.
async fn settled(committing: &mut Option<Pin<Box<dyn Future<Output = Commit> + Send>>>) -> Commit {
    match committing {
        Some(outcome) => outcome.await,
        None => std::future::pending().await,
    }
}

/// Returns a number in `[0, 1)` that spreads the retries of many events without a generator of its own.
fn spread(position: Position) -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let hash = RandomState::new().hash_one(position);
    f64::from(u32::try_from(hash >> 32).unwrap_or(0)) / (f64::from(u32::MAX) + 1.0)
}
