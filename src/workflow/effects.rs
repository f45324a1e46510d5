//! What a run has paid for: taken from the record where it is there, recorded where it is new.

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::value::to_raw_value;
use tokio::sync::{mpsc, oneshot};
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
    /// Answered once the record is committed; `None` when the run does not wait for that.
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

    async fn record(&self, position: Position, effect: Effect) -> Result<(), EffectsError> {
        let record = match self.durability {
            Durability::Sync | Durability::Async => Some(Outgoing {
                topic: Topic::Journal,
                partition: Some(position.partition),
                key: Some(effect.event_id.to_string().into()),
                value: effect.encode()?,
                headers: self.group.iter().map(|it| (GROUP, it.clone())).collect(),
            }),
            Durability::Off => None,
        };
        let (committed, wait) = oneshot::channel();
        let waits = self.durability == Durability::Sync;
        let committed = waits.then_some(committed);
        self.requests.send(Request { position, effect, record, committed }).await?;
        if waits {
            wait.await?;
        }
        Ok(())
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
            let waiting = self.queue_time.wait();
            let recorded = self.recorder.record(self.position, effect).await;
            drop(waiting);
            recorded
        }
        .boxed()
    }
}
