//! What a run has paid for: taken from the record where it is there, recorded where it is new.
//!
//! A run does not stand still while its answer is written: what follows is a function of the state and costs nothing. It
//! waits before it pays again. A run that ends without having waited hands its effects over with its outcome: where both
//! would go into one transaction, the result alone says it all.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::value::to_raw_value;
use tokio::sync::{Notify, mpsc, oneshot};
use tracing::error;
use uuid::Uuid;

use crate::agents::{AgentState, AgentUpdate};
use crate::graph::{self, EffectsError};
use crate::journal::{self, Effect, GROUP};
use crate::llm::QueueTime;
use crate::record::Position;
use crate::sink::{Outgoing, Topic};

use super::Durability;
use super::budget::Meter;
use super::graph::LLM_NODE;

/// What a run asks of the dispatch: to remember an effect, and to write it to the journal.
#[derive(Debug)]
pub struct Request {
    /// The event.
    pub position: Position,
    /// What was done.
    pub effect: Effect,
    /// The journal record; `None` when nothing is to be written.
    pub record: Option<Outgoing>,
    /// Answered once the record is committed; `None` when the run never waits for that.
    pub committed: Option<oneshot::Sender<()>>,
}

/// The way to the journal, shared by all runs.
#[derive(Debug, Clone)]
pub struct Recorder {
    requests: mpsc::Sender<Request>,
    durability: Durability,
    /// Whose journal it is, as a record's header says; `None` leaves that open.
    group: Option<Bytes>,
}

/// What an attempt has done and not yet handed over, and what of it is not yet committed.
#[derive(Debug, Default)]
pub(super) struct Pending {
    done: Mutex<Done>,
    added: Notify,
    /// Whose turn it is to wait, and for what. Nodes of one superstep wait in line: none overtakes another.
    turn: tokio::sync::Mutex<Vec<oneshot::Receiver<()>>>,
}

#[derive(Debug, Default)]
struct Done {
    /// What nobody else knows of, and whom to tell when it is committed.
    unsent: VecDeque<(Effect, Option<oneshot::Sender<()>>)>,
    /// What tells that something is committed, of all that nobody waits for yet.
    uncommitted: Vec<oneshot::Receiver<()>>,
}

/// The effects of one attempt.
pub(super) struct Run<'a> {
    pub(super) recorder: &'a Recorder,
    pub(super) position: Position,
    pub(super) event_id: Uuid,
    pub(super) attempt: u32,
    /// Waiting for the journal is no time of the run's own.
    pub(super) queue_time: QueueTime,
    /// What was done before, in this life of the process or in an earlier one.
    pub(super) done: &'a journal::Effects,
    /// What is done anew.
    pub(super) pending: &'a Pending,
    /// Counts what is done anew.
    pub(super) meter: Meter<'a>,
    /// What stands in for the model's answer when it has none and the run is to go on all the same.
    pub(super) degraded: Option<AgentUpdate>,
}

impl Recorder {
    /// Returns a recorder that hands its requests to the dispatch.
    #[must_use]
    pub fn new(requests: mpsc::Sender<Request>, durability: Durability) -> Self {
        Self { requests, durability, group: None }
    }

    /// Lets its records say which group they belong to, for a journal that others write as well.
    #[must_use]
    pub fn of_group(self, group: &str) -> Self {
        Self { group: Some(Bytes::copy_from_slice(group.as_bytes())), ..self }
    }

    /// Returns what is asked for an effect that nobody waits for.
    pub(super) fn request(&self, position: Position, effect: Effect) -> Request {
        let record = match self.durability {
            Durability::Sync | Durability::Async => self.print(position, &effect),
            Durability::Off => None,
        };
        Request { position, effect, record, committed: None }
    }

    fn print(&self, position: Position, effect: &Effect) -> Option<Outgoing> {
        let value = effect.encode();
        let value = value.inspect_err(|error| error!(%error, "an answer goes unrecorded")).ok()?;
        Some(Outgoing {
            topic: Topic::Journal,
            partition: Some(position.partition),
            key: Some(effect.event_id.to_string().into()),
            value,
            headers: self.group.iter().map(|it| (GROUP, it.clone())).collect(),
        })
    }
}

impl Pending {
    /// Hands over what the run has done, whenever it waits: to be polled after the run, so that what it does at its very end
    /// is left for [`into_effects`](Self::into_effects).
    pub(super) async fn hand_over(&self, recorder: &Recorder, position: Position) -> Infallible {
        loop {
            self.added.notified().await;
            while !self.done().unsent.is_empty() {
                // Nothing is taken before there is room for it: the run may end in the meantime.
                let room = recorder.requests.reserve().await;
                let Some((effect, committed)) = self.done().unsent.pop_front() else { break };
                // Without the dispatch the process is at its end; who waits for this learns it by that.
                if let Ok(room) = room {
                    room.send(Request { committed, ..recorder.request(position, effect) });
                }
            }
        }
    }

    /// Waits until all that was done is committed.
    pub(super) async fn committed(&self) -> Result<(), oneshot::error::RecvError> {
        let mut waiting = self.turn.lock().await;
        loop {
            waiting.append(&mut self.done().uncommitted);
            let Some(effect) = waiting.last_mut() else { return Ok(()) };
            let committed = effect.await;
            waiting.pop();
            committed?;
        }
    }

    /// Returns what was not handed over.
    pub(super) fn into_effects(self) -> Vec<Effect> {
        let done = self.done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.unsent.into_iter().map(|(effect, _)| effect).collect()
    }

    fn add(&self, effect: Effect, durability: Durability) {
        let waits = durability == Durability::Sync;
        let (committed, uncommitted) = waits.then(oneshot::channel).unzip();
        let mut done = self.done();
        done.unsent.push_back((effect, committed));
        done.uncommitted.extend(uncommitted);
        drop(done);
        self.added.notify_one();
    }

    fn done(&self) -> MutexGuard<'_, Done> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl graph::Effects<AgentState> for Run<'_> {
    fn recorded(&self, node: &str, visit: u32) -> Result<Option<AgentUpdate>, EffectsError> {
        if let Some(effect) = self.done.get(node, visit) {
            return Ok(Some(serde_json::from_str(effect.update.get())?));
        }
        if let Some(stand_in) = self.degraded.clone().filter(|_| node == LLM_NODE) {
            return Ok(Some(stand_in));
        }
        self.meter.begin(node, visit)?;
        Ok(None)
    }

    fn ready<'a>(&'a self, _node: &'a str) -> BoxFuture<'a, Result<(), EffectsError>> {
        async move {
            let waiting = self.queue_time.wait();
            let committed = self.pending.committed().await;
            drop(waiting);
            Ok(committed?)
        }
        .boxed()
    }

    fn record<'a>(
        &'a self,
        node: &'a str,
        visit: u32,
        update: &'a AgentUpdate,
    ) -> BoxFuture<'a, Result<(), EffectsError>> {
        async move {
            let usage = update.usage.map(|usage| journal::Usage {
                input_tokens: usage.input_tokens,
                output_tokens: usage.output_tokens,
            });
            let effect = Effect {
                event_id: self.event_id,
                offset: self.position.offset,
                node: node.to_owned(),
                visit,
                attempt: self.attempt,
                update: to_raw_value(update)?,
                usage,
                took: self.meter.end(node, visit, usage),
            };
            self.pending.add(effect, self.recorder.durability);
            Ok(())
        }
        .boxed()
    }
}
