//! One execution of one node: record, attempts, time-out, panic.
//!
//! Where a node may be retried and has routers, an attempt ends with these: an answer that leads
//! nowhere may be worth another attempt. That costs a copy of the state per attempt, and only there.

use std::any::Any;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep, timeout};

use super::apply::Source;
use super::builder::{Entry, Graph};
use super::effects::EffectsError;
use super::error::Error;
use super::events::Event;
use super::node::{Context, Outcome};
use super::options::Options;
use super::policy::Fault;
use super::run::Routing;
use super::shape::{Name, NodeId};
use super::state::State;

/// One execution of a node: which, on what, in which run.
pub(super) struct Execution<'a, S: State> {
    pub(super) graph: &'a Graph<S>,
    pub(super) id: NodeId,
    pub(super) state: &'a S,
    pub(super) step: i64,
    pub(super) visit: u32,
    pub(super) options: &'a Options<'a, S>,
}

/// How an execution ended without an update.
pub(super) enum Trouble<E> {
    Faulty { fault: Fault<E>, attempts: u32 },
    Unrecorded(EffectsError),
}

impl<E> Trouble<E> {
    pub(super) fn into_error(self, node: Name, visit: u32) -> Error<E> {
        match self {
            Self::Unrecorded(source) => Error::Effects { node, visit, source },
            Self::Faulty { fault, attempts } => match fault {
                Fault::Failed(source) => Error::Node { node, visit, attempts, source },
                Fault::Panicked(message) => Error::Panic { node, visit, message },
                Fault::TimedOut(limit) => Error::Timeout { node, visit, limit },
                Fault::Refused { field, reason } => Error::Invalid { node, field, reason },
                Fault::Unrouted { router, target } => Error::Route { node, router, target },
            },
        }
    }
}

impl<S: State> Execution<'_, S> {
    fn name(&self) -> &Name {
        self.graph.shape.name(self.id)
    }

    fn entry(&self) -> &Entry<S> {
        &self.graph.nodes[self.id]
    }

    /// Takes the node's update from the record, or runs it until it answers or is not to be
    /// retried.
    pub(super) async fn run(&self) -> Result<S::Update, Trouble<S::Error>> {
        let Some(effects) = self.options.effects.filter(|_| self.entry().options.durable) else {
            let (update, took) = self.attempts().await?;
            self.tell_update(&update, took, false);
            return Ok(update);
        };
        if let Some(update) =
            effects.recorded(self.name(), self.visit).map_err(Trouble::Unrecorded)?
        {
            self.tell_update(&update, Duration::ZERO, true);
            return Ok(update);
        }
        effects.ready(self.name()).await.map_err(Trouble::Unrecorded)?;
        let (update, took) = self.attempts().await?;
        effects.record(self.name(), self.visit, &update).await.map_err(Trouble::Unrecorded)?;
        self.tell_update(&update, took, false);
        Ok(update)
    }

    async fn attempts(&self) -> Result<(S::Update, Duration), Trouble<S::Error>> {
        let mut attempt = 1;
        loop {
            let (step, node, visit) = (self.step, &**self.name(), self.visit);
            self.options.tell(|| Event::Started { step, node, visit, attempt });
            // Only an observer wants to know how long it took, and reading the clock is not free.
            let began = self.options.observer.map(|_| Instant::now());
            let (fault, update) = match self.attempt(attempt).await {
                Ok(update) => match self.misled(&update) {
                    None => return Ok((update, elapsed(began))),
                    Some(fault) => (fault, Some(update)),
                },
                Err(fault) => (fault, None),
            };
            let took = elapsed(began);
            let delay = match self.judge(attempt, fault, update, took) {
                ControlFlow::Break(end) => return end.map(|update| (update, took)),
                ControlFlow::Continue(delay) => delay,
            };
            attempt = attempt.saturating_add(1);
            self.options.tell(|| Event::Retried { step, node, attempt, delay });
            if !delay.is_zero() {
                sleep(delay).await;
            }
        }
    }

    /// Whether a faulty attempt was the last, or how long to wait before the next.
    fn judge(
        &self,
        attempt: u32,
        mut fault: Fault<S::Error>,
        update: Option<S::Update>,
        took: Duration,
    ) -> ControlFlow<Result<S::Update, Trouble<S::Error>>, Duration> {
        let delay = match (self.delay(attempt, &fault), update) {
            (Ok(Some(delay)), _) => Some(delay),
            // The answer stands, and its routers fail once more when they are asked for good.
            (Ok(None), Some(update)) => return ControlFlow::Break(Ok(update)),
            (Ok(None), None) => None,
            (Err(panicked), _) => {
                fault = panicked;
                None
            }
        };
        let (step, node, visit) = (self.step, &**self.name(), self.visit);
        self.options.tell(|| Event::Failed { step, node, visit, attempt, fault: &fault, took });
        let faulty = || Err(Trouble::Faulty { fault, attempts: attempt });
        delay.map_or_else(|| ControlFlow::Break(faulty()), ControlFlow::Continue)
    }

    /// How the routers fail that follow an answer, where that may be worth another attempt.
    fn misled(&self, update: &S::Update) -> Option<Fault<S::Error>> {
        let Entry { options, conditionals, .. } = self.entry();
        if options.retry.is_none() || conditionals.is_empty() {
            return None;
        }
        let source = Source { graph: self.graph, node: Some(self.id), visit: self.visit };
        match source.preview(Routing::Due, self.state, update, &mut Vec::new()) {
            Err(Error::Route { router, target, .. }) => Some(Fault::Unrouted { router, target }),
            Err(Error::Invalid { field, reason, .. }) => Some(Fault::Refused { field, reason }),
            Err(Error::Panic { message, .. }) => Some(Fault::Panicked(message)),
            Ok(())
            | Err(
                Error::Node { .. }
                | Error::Timeout { .. }
                | Error::Conflict { .. }
                | Error::RecursionLimit { .. }
                | Error::Cancelled { .. }
                | Error::Deadline { .. }
                | Error::Effects { .. }
                | Error::NothingToResume,
            ) => None,
        }
    }

    /// What the policy says. Its panic is the node's.
    fn delay(
        &self,
        attempt: u32,
        fault: &Fault<S::Error>,
    ) -> Result<Option<Duration>, Fault<S::Error>> {
        let Some(retry) = &self.entry().options.retry else {
            return Ok(None);
        };
        let delay = catch_unwind(AssertUnwindSafe(|| retry.delay(attempt, fault)));
        delay.map_err(|panic| Fault::Panicked(message(&*panic)))
    }

    async fn attempt(&self, attempt: u32) -> Result<S::Update, Fault<S::Error>> {
        let limit = self.entry().options.timeout;
        let own = limit.and_then(|limit| Instant::now().checked_add(limit));
        let deadline = [own, self.options.deadline].into_iter().flatten().min();
        let (step, visit) = (self.step, self.visit);
        let context = Context { node: self.name(), visit, attempt, step, deadline };
        // The node gets nothing that it could leave half-changed: it reads the state and owns its
        // answer.
        let start = AssertUnwindSafe(|| self.entry().body.run(self.state, context));
        let future = catch_unwind(start).map_err(|panic| Fault::Panicked(message(&*panic)))?;
        let answer = AssertUnwindSafe(future).catch_unwind();
        let answer = match limit {
            None => answer.await,
            Some(limit) => timeout(limit, answer).await.map_err(|_| Fault::TimedOut(limit))?,
        };
        let outcome: Outcome<S> = answer.map_err(|panic| Fault::Panicked(message(&*panic)))?;
        outcome.map_err(Fault::Failed)
    }

    fn tell_update(&self, update: &S::Update, took: Duration, replayed: bool) {
        let (step, node, visit) = (self.step, &**self.name(), self.visit);
        self.options.tell(|| Event::Updated { step, node, visit, update, took, replayed });
    }
}

fn elapsed(began: Option<Instant>) -> Duration {
    began.map_or(Duration::ZERO, |began| began.elapsed())
}

/// What a panic said.
pub(super) fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message")
        .to_owned()
}
