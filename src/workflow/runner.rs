//! Runs one attempt of one job through the graph, under the limit on its own time.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{Span, debug, info, info_span, warn};

use crate::agents::{AgentError, AgentState, AgentUpdate, degraded};
use crate::event::WorkflowEvent;
use crate::graph::{self, Event, Graph, Observer, Options};
use crate::journal::{Effect, Effects};
use crate::record::Position;
use crate::retry::{Disposition, Pause};
use crate::telemetry::Metrics;

use super::budget::{Budget, Ledger, Meter};
use super::effects::{Pending, Recorder, Request, Run};
use super::error::{Error, Verdict};
use super::expiry::Expiry;
use super::graph::initial_state;
use super::outcome::{Failed, Outcome, Press};
use super::{Config, OnError};

/// What a run needs of its event.
#[derive(Debug, Clone)]
pub struct Job {
    /// The event.
    pub event: Arc<WorkflowEvent>,
    /// When its record was stamped, in milliseconds since the Unix epoch.
    pub timestamp_ms: Option<i64>,
    /// The end of its time, where it has one.
    pub expiry: Option<Expiry>,
    /// What its attempts have used so far.
    pub ledger: Ledger,
}

/// One attempt.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Where the event lies.
    pub position: Position,
    /// The event.
    pub job: Job,
    /// The number of this attempt, from 1.
    pub number: u32,
    /// Whether a failure is final, unless the attempt may move.
    pub last: bool,
    /// Whether it may be repeated at once, and without being counted, where another endpoint stands ready.
    pub may_move: bool,
    /// What earlier attempts have already done.
    pub effects: Effects,
}

/// How an attempt ended.
#[derive(Debug)]
pub enum Finished {
    /// The event is settled by this.
    Done {
        /// What it is answered.
        outcome: Outcome,
        /// What the run has done at last and not asked to be recorded: the outcome says it as well, but comes later where
        /// a result has to wait.
        effects: Vec<Effect>,
    },
    /// It may be attempted again.
    Retry {
        /// The error's stable code.
        class: &'static str,
        /// When.
        pause: Pause,
        /// What the attempt has done at last and not asked to be recorded.
        effects: Vec<Effect>,
    },
}

/// Runs attempts; shared by all of them.
pub struct Runner {
    graph: Graph<AgentState>,
    config: Config,
    model: String,
    recorder: Recorder,
    press: Arc<Press>,
    metrics: Metrics,
    watch: Option<Watch>,
}

/// Returns the span of an attempt. Making one costs more than all of a short run, so only attempts that have something
/// to tell are given one, and where the log is detailed those that wait.
#[must_use]
pub fn run_span(topic: &str, position: Position, job: &Job, attempt: u32) -> Span {
    let event_id = &job.event.event_id;
    let Position { partition, offset, .. } = position;
    info_span!("run", %event_id, topic, partition = partition.0, offset = offset.0, attempt)
}

/// Makes the observer of each attempt: observers are told what happens, not to whom.
pub type Watch = Arc<dyn Fn(&Attempt) -> Box<dyn Observer<AgentState>> + Send + Sync>;

/// What went wrong, and the state that was reached before.
struct Failure {
    error: Error,
    partial: Option<AgentState>,
}

impl Runner {
    /// Returns a runner of `graph`. `model` is what a degraded answer names as the model that did not answer.
    #[must_use]
    pub fn new(
        graph: Graph<AgentState>,
        config: Config,
        model: String,
        recorder: Recorder,
        (press, metrics): (Arc<Press>, Metrics),
    ) -> Self {
        Self { graph, config, model, recorder, press, metrics, watch: None }
    }

    /// Lets the observers that `watch` makes see every step of every attempt.
    #[must_use]
    pub fn with_watch(self, watch: Option<Watch>) -> Self {
        Self { watch, ..self }
    }

    /// Returns the ledger of an event that has not been attempted.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        Budget::of(&self.config).ledger()
    }

    /// Runs one attempt to its outcome, or to the wish for another attempt.
    /// Dropping the future stops all of it, the call to the model included.
    pub async fn attempt(&self, attempt: Attempt) -> Finished {
        attempt.job.ledger.enter(&attempt.effects);
        let pending = Pending::default();
        let mut finished = tokio::select! {
            biased;
            finished = self.conclude(&attempt, &pending) => finished,
            never = pending.hand_over(&self.recorder, attempt.position) => match never {},
        };
        let (Finished::Done { effects, .. } | Finished::Retry { effects, .. }) = &mut finished;
        *effects = pending.into_effects();
        finished
    }

    async fn conclude(&self, attempt: &Attempt, pending: &Pending) -> Finished {
        let begun = Instant::now();
        let mut ended = self.run(attempt, pending, None).await;
        if let Err(failure) = &ended
            && let Some(stand_in) = self.stand_in(&failure.error, attempt)
        {
            ended = self.run(attempt, pending, Some(stand_in)).await;
        }
        let now = Timestamp::now();
        let failure = match ended {
            Ok(state) => match self.press.success(&attempt.job.event, state, now) {
                Ok(outcome) => return self.done(outcome, begun),
                Err(error) => Failure { error, partial: None },
            },
            Err(failure) => failure,
        };
        let finished = self.judge(attempt, failure, now, begun);
        if let Finished::Retry { .. } = finished {
            // What the next attempt takes as done is to be committed. Where it can't be, the partition is gone.
            pending.committed().await.ok();
        }
        finished
    }

    /// Returns what a failure comes to: the end, or another attempt.
    fn judge(
        &self,
        attempt: &Attempt,
        failure: Failure,
        now: Timestamp,
        begun: Instant,
    ) -> Finished {
        let verdict = failure.error.verdict();
        let Attempt { position, job, number, .. } = attempt;
        let alone = Span::current().is_none();
        let _span = alone.then(|| run_span(self.press.topic(), *position, job, *number).entered());
        match verdict.disposition {
            Disposition::Retry { after } if !attempt.last => {
                info!(class = verdict.class, error = %failure.error, "attempt failed; it will be repeated");
                retry(verdict.class, Pause::BackOff { after })
            }
            Disposition::Elsewhere if attempt.may_move || !attempt.last => {
                info!(class = verdict.class, error = %failure.error, "attempt failed; it moves elsewhere");
                retry(verdict.class, Pause::None)
            }
            Disposition::Retry { .. }
            | Disposition::Elsewhere
            | Disposition::Reject
            | Disposition::Stop => {
                warn!(class = verdict.class, error = %failure.error, "run failed");
                self.done(self.failed(attempt, failure, verdict, now), begun)
            }
        }
    }

    /// Returns what is asked for an effect that a run had at its very end.
    #[must_use]
    pub fn request(&self, position: Position, effect: Effect) -> Request {
        self.recorder.request(position, effect)
    }

    async fn run(
        &self,
        attempt: &Attempt,
        pending: &Pending,
        stand_in: Option<AgentUpdate>,
    ) -> Result<AgentState, Failure> {
        let Attempt { position, job, number, effects, .. } = attempt;
        let state = initial_state(&job.event);
        let effects = Run {
            recorder: &self.recorder,
            position: *position,
            event_id: job.event.event_id,
            attempt: *number,
            queue_time: state.queue_time.clone(),
            done: effects,
            pending,
            meter: Meter::new(Budget::of(&self.config), &job.ledger, state.queue_time.clone()),
            degraded: stand_in,
        };
        let also = self.watch.as_ref().map(|watch| watch(attempt));
        let figures = Figures { metrics: &self.metrics, also: also.as_deref() };
        let mut options = Options::new()
            .recursion_limit(self.config.recursion_limit)
            .effects(&effects)
            .observer(&figures);
        if let Some(expiry) = job.expiry {
            options = options.deadline(expiry.at);
        }
        let queue_time = state.queue_time.clone();
        let limit = self.config.execution_timeout;
        tokio::select! {
            biased; // a run that waits for nothing never sets the timer
            ended = self.graph.run(state, &options) => ended.map_err(|failure| Failure {
                partial: Some(failure.state),
                error: match (failure.error, job.expiry) {
                    (graph::Error::Deadline { .. }, Some(expiry)) => Error::Expired(expiry.late),
                    (error, _) => error.into(),
                },
            }),
            // Time in line for a model is not the run's own.
            () = queue_time.expire(Instant::now(), limit) => {
                Err(Failure { error: Error::Timeout { limit }, partial: None })
            }
        }
    }

    /// Returns the update that stands in for the model's answer, when the model is what failed, for good, and the run
    /// is to go on all the same.
    fn stand_in(&self, error: &Error, attempt: &Attempt) -> Option<AgentUpdate> {
        let for_good = match error.verdict().disposition {
            Disposition::Retry { .. } => attempt.last,
            Disposition::Elsewhere => attempt.last && !attempt.may_move,
            Disposition::Reject | Disposition::Stop => true,
        };
        if self.config.on_error != OnError::Degrade || !for_good {
            return None;
        }
        match error {
            Error::Agent { source: source @ AgentError::Llm(_), .. } => {
                Some(degraded(source, &self.model))
            }
            Error::Agent { .. }
            | Error::Panic { .. }
            | Error::Timeout { .. }
            | Error::Expired(_)
            | Error::Budget(_)
            | Error::RecursionLimit(_)
            | Error::Graph(_)
            | Error::Effects(_)
            | Error::ResultTooLarge { .. } => None,
        }
    }

    fn failed(
        &self,
        attempt: &Attempt,
        failure: Failure,
        verdict: Verdict,
        now: Timestamp,
    ) -> Outcome {
        let failed = Failed {
            class: verdict.class,
            status: verdict.status,
            message: failure.error.to_string(),
            attempts: attempt.number,
            partial: failure.partial.map(AgentState::into_result),
        };
        self.press.failed(&attempt.job, attempt.position, failed, now)
    }

    fn done(&self, outcome: Outcome, begun: Instant) -> Finished {
        if let Some(status) = outcome.status {
            self.metrics.run(begun.elapsed(), status);
            debug!(status, "run ended");
        }
        Finished::Done { outcome, effects: Vec::new() }
    }
}

fn retry(class: &'static str, pause: Pause) -> Finished {
    Finished::Retry { class, pause, effects: Vec::new() }
}

/// Counts what nodes do, and passes it on.
struct Figures<'a> {
    metrics: &'a Metrics,
    also: Option<&'a dyn Observer<AgentState>>,
}

impl Observer<AgentState> for Figures<'_> {
    fn on(&self, event: &Event<'_, AgentState>) {
        match event {
            Event::Updated { node, took, replayed: false, .. } => {
                self.metrics.node(node, *took, true)
            }
            Event::Failed { node, took, .. } => self.metrics.node(node, *took, false),
            Event::Input { .. }
            | Event::Planned { .. }
            | Event::Started { .. }
            | Event::Updated { .. }
            | Event::Retried { .. }
            | Event::Applied { .. }
            | Event::Done { .. }
            | Event::Aborted { .. } => {}
        }
        if let Some(also) = self.also {
            also.on(event);
        }
    }
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner").field("config", &self.config).finish_non_exhaustive()
    }
}
