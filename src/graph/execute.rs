//! One execution of one node: record, attempts, time-out, panic.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep, timeout};

use super::builder::Entry;
use super::effects::EffectsError;
use super::error::Error;
use super::events::Event;
use super::node::{Context, Outcome};
use super::options::Options;
use super::policy::Fault;
use super::shape::Name;
use super::state::State;

/// One execution of a node: which, on what, in which run.
pub(super) struct Execution<'a, S: State> {
    pub(super) name: &'a Name,
    pub(super) entry: &'a Entry<S>,
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
            Self::Faulty { fault: Fault::Failed(source), attempts } => {
                Error::Node { node, visit, attempts, source }
            }
            Self::Faulty { fault: Fault::Panicked(message), .. } => {
                Error::Panic { node, visit, message }
            }
            Self::Faulty { fault: Fault::TimedOut(limit), .. } => {
                Error::Timeout { node, visit, limit }
            }
            Self::Unrecorded(source) => Error::Effects { node, visit, source },
        }
    }
}

impl<S: State> Execution<'_, S> {
    /// Takes the node's update from the record, or runs it until it answers or is not to be
    /// retried.
    pub(super) async fn run(&self) -> Result<S::Update, Trouble<S::Error>> {
        let Some(effects) = self.options.effects.filter(|_| self.entry.options.durable) else {
            let (update, took) = self.attempts().await?;
            self.tell_update(&update, took, false);
            return Ok(update);
        };
        if let Some(update) =
            effects.recorded(self.name, self.visit).map_err(Trouble::Unrecorded)?
        {
            self.tell_update(&update, Duration::ZERO, true);
            return Ok(update);
        }
        let (update, took) = self.attempts().await?;
        effects.record(self.name, self.visit, &update).await.map_err(Trouble::Unrecorded)?;
        self.tell_update(&update, took, false);
        Ok(update)
    }

    async fn attempts(&self) -> Result<(S::Update, Duration), Trouble<S::Error>> {
        let mut attempt = 1;
        loop {
            let (step, node, visit) = (self.step, &**self.name, self.visit);
            self.options.tell(|| Event::Started { step, node, visit, attempt });
            // Only an observer wants to know how long it took, and reading the clock is not free.
            let began = self.options.observer.map(|_| Instant::now());
            let fault = match self.attempt(attempt).await {
                Ok(update) => return Ok((update, elapsed(began))),
                Err(fault) => fault,
            };
            let took = elapsed(began);
            self.options.tell(|| Event::Failed { step, node, visit, attempt, fault: &fault, took });
            let retry = self.entry.options.retry.as_ref();
            let Some(delay) = retry.and_then(|retry| retry.delay(attempt, &fault)) else {
                return Err(Trouble::Faulty { fault, attempts: attempt });
            };
            attempt = attempt.saturating_add(1);
            self.options.tell(|| Event::Retried { step, node, attempt, delay });
            if !delay.is_zero() {
                sleep(delay).await;
            }
        }
    }

    async fn attempt(&self, attempt: u32) -> Result<S::Update, Fault<S::Error>> {
        let limit = self.entry.options.timeout;
        let own = limit.and_then(|limit| Instant::now().checked_add(limit));
        let deadline = [own, self.options.deadline].into_iter().flatten().min();
        let (step, visit) = (self.step, self.visit);
        let context = Context { node: self.name, visit, attempt, step, deadline };
        // The node gets nothing that it could leave half-changed: it reads the state and owns its
        // answer.
        let start = AssertUnwindSafe(|| self.entry.body.run(self.state, context));
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
        let (step, node, visit) = (self.step, &**self.name, self.visit);
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
