//! Publishes the samples one after another, shows what becomes of them, and then whatever else comes in.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::cli::exit::Exit;
use crate::cli::terminal::{fail, print};
use crate::kafka::{self, Outside, Seen, Tail};
use crate::telemetry::Health;

use super::samples::{Sample, samples};
use super::screen::Screen;
use super::watch::{Told, What};

/// How many runs are timed at once; the time of one more is not shown.
const TIMED_MAX: usize = 10_000;

/// A deadline for those who have none.
const NEVER: Duration = Duration::from_hours(24 * 365);

/// The show.
pub(super) struct Show {
    events: String,
    results: String,
    outside: Outside,
    tail: Tail,
    told: mpsc::Receiver<Told>,
    screen: Screen,
    health: Health,
    samples: VecDeque<Sample>,
    awaited: Option<Awaited>,
    begun: HashMap<Uuid, Instant>,
}

/// The sample that is under way.
struct Awaited {
    sample: Sample,
    result: bool,
    letter: bool,
}

impl Show {
    pub(super) fn new(
        config: &kafka::Config,
        (outside, tail): (Outside, Tail),
        told: mpsc::Receiver<Told>,
        screen: Screen,
        health: Health,
    ) -> Self {
        Self {
            events: config.workflow_events_topic.clone(),
            results: config.workflow_results_topic.clone(),
            outside,
            tail,
            told,
            screen,
            health,
            samples: samples(Timestamp::now()).into(),
            awaited: None,
            begun: HashMap::new(),
        }
    }

    /// Runs until `stop`; with a `limit` until the samples are through, whose results then are printed as they are.
    pub(super) async fn run(
        mut self,
        doors: (&str, Option<SocketAddr>),
        limit: Option<Duration>,
        stop: &CancellationToken,
    ) -> Exit {
        let once = limit.is_some();
        let until = Instant::now() + limit.unwrap_or(NEVER);
        let mut invited = false;
        loop {
            if self.awaited.is_none() {
                match self.publish().await {
                    Ok(true) => {}
                    Ok(false) if once => return Exit::Ok,
                    Ok(false) if !invited => {
                        self.screen.invite(doors, &self.results);
                        invited = true;
                    }
                    Ok(false) => {}
                    Err(error) => return broken(&error),
                }
            }
            if self.screen.is_gone() {
                return Exit::Ok;
            }
            // Biased: the steps of a run were told before its result was committed, and are shown before it.
            tokio::select! {
                biased;
                () = stop.cancelled() => return if once { self.unfinished("interrupted") } else { Exit::Ok },
                Some(told) = self.told.recv() => self.step(&told),
                seen = self.tail.next() => match seen {
                    Ok(seen) => {
                        if let Err(exit) = self.seen(&seen, once) {
                            return exit;
                        }
                    }
                    Err(error) => return broken(&error),
                },
                () = sleep_until(until) => {
                    let limit = humantime::format_duration(limit.unwrap_or(NEVER)).to_string();
                    return self.unfinished(&format!("not finished within {limit}"));
                }
            }
        }
    }

    /// Publishes the next sample; says whether there was one.
    async fn publish(&mut self) -> Result<bool, kafka::Error> {
        let Some(sample) = self.samples.pop_front() else { return Ok(false) };
        self.screen.published(sample.id, sample.about);
        self.begin(sample.id);
        self.outside.publish(&self.events, None, sample.event.as_bytes(), &[]).await?;
        self.awaited = Some(Awaited { result: true, letter: sample.fails, sample });
        Ok(true)
    }

    fn step(&mut self, told: &Told) {
        if let What::Began { .. } = told.what {
            self.begin(told.run);
        }
        self.screen.told(told);
    }

    fn begin(&mut self, run: Uuid) {
        if self.begun.len() < TIMED_MAX {
            self.begun.entry(run).or_insert_with(Instant::now);
        }
    }

    fn seen(&mut self, seen: &Seen, once: bool) -> Result<(), Exit> {
        // What others write into these topics is none of ours.
        let Ok(value) = serde_json::from_slice::<Value>(&seen.value) else { return Ok(()) };
        let is_result = seen.topic == self.results;
        let pointer = if is_result { "/correlation_id" } else { "/original_event/event_id" };
        let id =
            value.pointer(pointer).and_then(Value::as_str).and_then(|id| Uuid::parse_str(id).ok());
        match id {
            Some(id) if is_result => {
                let took = self.begun.remove(&id).map(|begun| begun.elapsed());
                self.screen.result(id, &value, (seen, took));
                if once && self.awaits(id) {
                    print(&format!("{}\n", String::from_utf8_lossy(&seen.value)))?;
                }
            }
            None if is_result => {}
            id => self.screen.letter(id, &value, seen),
        }
        self.settle(id, is_result);
        Ok(())
    }

    fn awaits(&self, id: Uuid) -> bool {
        self.awaited.as_ref().is_some_and(|awaited| awaited.sample.id == id && awaited.result)
    }

    fn settle(&mut self, id: Option<Uuid>, is_result: bool) {
        let Some(awaited) = &mut self.awaited else { return };
        if id != Some(awaited.sample.id) {
            return;
        }
        awaited.result &= !is_result;
        awaited.letter &= is_result;
        if !awaited.result && !awaited.letter {
            self.awaited = None;
        }
    }

    fn unfinished(&self, why: &str) -> Exit {
        if let Some(Awaited { sample: Sample { id, about, .. }, result, .. }) = &self.awaited {
            let lacks = if *result { "result" } else { "dead letter" };
            fail(format_args!("{why}: event {id} ({about}) has no {lacks}"));
        }
        for (check, outcome) in self.health.readyz().checks {
            if let Err(reason) = outcome {
                fail(format_args!("not ready: {check}: {reason}"));
            }
        }
        Exit::Failed
    }
}

fn broken(error: &kafka::Error) -> Exit {
    fail(format_args!("the embedded broker: {error}"));
    Exit::Internal
}
