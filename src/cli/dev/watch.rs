//! Sees every step of every run, and tells it to whoever shows it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::agents::{AgentState, AgentUpdate};
use crate::graph::{Event, Observer};
use crate::record::Position;
use crate::workflow::{Attempt, Watch};

/// How many steps may wait to be shown. A run must not wait for a terminal: what is more is left out.
const WAITING_MAX: usize = 4096;

/// The longest text that is shown of a value, in characters.
const EXCERPT_MAX: usize = 72;

/// What happens in a run.
#[derive(Debug)]
pub(super) struct Told {
    /// The event.
    pub(super) run: Uuid,
    /// What happened.
    pub(super) what: What,
}

/// What happened.
#[derive(Debug)]
pub(super) enum What {
    /// An attempt begins.
    Began {
        /// Where the event lies.
        at: Position,
        /// The number of the attempt, from 1.
        attempt: u32,
        /// What is asked.
        task: String,
    },
    /// A node answered.
    Answered {
        /// The superstep, from 1.
        step: i64,
        /// The node.
        node: String,
        /// What it wrote.
        wrote: String,
        /// How long it took; `None` when the answer was taken from the journal.
        took: Option<Duration>,
    },
    /// A node failed.
    Failed {
        /// The superstep, from 1.
        step: i64,
        /// The node.
        node: String,
        /// Why.
        why: String,
        /// How long it took.
        took: Duration,
    },
}

struct Steps {
    run: Uuid,
    tell: mpsc::Sender<Told>,
}

/// Returns what watches the runs, and where it tells.
pub(super) fn channel() -> (Watch, mpsc::Receiver<Told>) {
    let (tell, told) = mpsc::channel(WAITING_MAX);
    let watch: Watch = Arc::new(move |attempt: &Attempt| {
        let steps = Steps { run: attempt.job.event.event_id, tell: tell.clone() };
        let task = excerpt(&attempt.job.event.task());
        steps.say(What::Began { at: attempt.position, attempt: attempt.number, task });
        Box::new(steps)
    });
    (watch, told)
}

impl Steps {
    fn say(&self, what: What) {
        // Full: the terminal is behind, and the run goes on. Closed: the show is over.
        drop(self.tell.try_send(Told { run: self.run, what }));
    }
}

impl Observer<AgentState> for Steps {
    fn on(&self, event: &Event<'_, AgentState>) {
        match event {
            Event::Updated { step, node, update, took, replayed, .. } => self.say(What::Answered {
                step: *step,
                node: (*node).to_owned(),
                wrote: written(update),
                took: (!replayed).then_some(*took),
            }),
            Event::Failed { step, node, fault, took, .. } => self.say(What::Failed {
                step: *step,
                node: (*node).to_owned(),
                why: fault.to_string(),
                took: *took,
            }),
            Event::Input { .. }
            | Event::Planned { .. }
            | Event::Started { .. }
            | Event::Retried { .. }
            | Event::Applied { .. }
            | Event::Done { .. }
            | Event::Aborted { .. } => {}
        }
    }
}

/// Returns what an update writes, field by field.
pub(super) fn written(update: &AgentUpdate) -> String {
    let AgentUpdate { messages, agent_results, current_agent, completed, metadata, usage: _ } =
        update;
    let mut parts = Vec::new();
    for (agent, finding) in agent_results.iter().flatten() {
        parts.push(format!("{agent} = {}", excerpt(finding.get("result").unwrap_or(finding))));
    }
    for name in metadata.iter().flatten().map(|(name, _)| name) {
        parts.push(format!("metadata.{name}"));
    }
    if let Some(messages) = messages {
        parts.push(format!("{} messages", messages.len()));
    }
    if *completed == Some(true) {
        parts.push("completed".to_owned());
    }
    if let Some(agent) = current_agent {
        parts.push(format!("next: {agent}"));
    }
    parts.join(", ")
}

fn excerpt(value: &Value) -> String {
    match value.as_str() {
        Some(text) => format!("\"{}\"", cut(text, EXCERPT_MAX)),
        None => cut(&value.to_string(), EXCERPT_MAX),
    }
}

/// Returns the beginning of a text, in one line.
pub(super) fn cut(text: &str, chars_max: usize) -> String {
    let line = text.replace(['\n', '\r', '\t'], " ");
    match line.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}
