//! Sees to it that the model is there: looks, and where it is allowed lets the server fetch it.
//!
//! Calls wait while it is fetched, and hold neither a permit nor a connection. A fetch goes on where an earlier one
//! broke off, so one that failed is simply asked for again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytesize::ByteSize;
use futures_util::future::join_all;
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::call::{self, Clock, Deadlines};
use super::check::Presence;
use super::client::Client;
use super::config::{Provider, Pull};
use super::door::Door;
use super::error::{Cut, Error, Fault, Phase};
use super::lines::Lines;
use super::queue::QueueTime;
use super::{json, ollama_request, refusal};
use crate::retry::Disposition;

/// How often it is looked whether the model is still there.
const REST: Duration = Duration::from_secs(60);
/// How soon it is looked again after the model was missing, or nobody could say.
const AGAIN: Duration = Duration::from_secs(5);
/// The shortest wait between two looks at an endpoint that is away.
const SOONEST: Duration = Duration::from_millis(100);
/// The longest wait between two tries at a fetch.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// How many tries in a row may fail before calls go on and fail by themselves.
const TRIES_MAX: u32 = 5;
/// How long a fetch may be silent: the server says nothing while it checks what it has, which takes minutes for
/// the largest models.
const SILENCE_MAX: Duration = Duration::from_mins(10);
/// How long a fetch may take.
pub(super) const TOTAL_MAX: Duration = Duration::from_hours(24);
/// The longest line of a report.
const LINE_MAX: usize = 64 * 1024;
/// How many parts of a model are told apart; it has five or so.
const PARTS_MAX: usize = 256;

/// Whether the model is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Availability {
    /// It is, at one endpoint at least, or no server tells.
    Ready,
    /// It is being fetched, and this is how far.
    Pulling(String),
    /// It is not, for this reason.
    Missing(String),
}

/// Whether calls have to wait for the model to be fetched.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    /// Since when.
    awaited: watch::Sender<Option<Instant>>,
    /// Whether somebody cares for the model, and fetches it where it turns out to be missing.
    cared: AtomicBool,
}

impl Delivery {
    /// Waits while the model is fetched, but for no fetch that takes longer than `limit`. Returns for how long: it counts
    /// as time in line.
    pub(super) async fn wait(&self, limit: Duration, queue: &QueueTime) -> Duration {
        let Some(since) = *self.awaited.borrow() else { return Duration::ZERO };
        let arrived = Instant::now();
        let _waiting = queue.wait();
        let mut awaited = self.awaited.subscribe();
        // Whatever lets the call through, the endpoints themselves tell what is wrong with them.
        drop(timeout_at(since + limit, awaited.wait_for(Option::is_none)).await);
        arrived.elapsed()
    }

    /// Returns whether the model has been waited for.
    pub(super) fn is_awaited(&self) -> bool {
        self.awaited.borrow().is_some()
    }

    /// Takes note of a call that was told by this endpoint that it does not have the model, though it had. Returns
    /// whether it is worth waiting for: then calls wait until it has been looked for, and fetched.
    pub(super) fn miss(&self, door: &Door) -> bool {
        if !self.cared.load(Ordering::SeqCst) {
            return false;
        }
        self.set(true);
        door.missed().notify_one();
        // Whoever cared may have gone meanwhile.
        let is_cared = self.cared.load(Ordering::SeqCst);
        self.set(is_cared);
        is_cared
    }

    fn set(&self, awaited: bool) {
        self.awaited.send_if_modified(|since| {
            let is_new = since.is_some() != awaited;
            if is_new {
                *since = awaited.then(Instant::now);
            }
            is_new
        });
    }
}

/// How the fetches of one endpoint went since it last had the model.
#[derive(Debug, Default)]
struct Tries {
    failed: u32,
    /// Whether the last one went well.
    fetched: bool,
}

/// What is known of the model at one endpoint.
#[derive(Debug, Clone)]
struct Standing {
    state: Option<Availability>,
    /// Whether it is worth waiting for.
    awaited: bool,
}

impl Client {
    /// Returns a task that looks whether the model is there, fetches it where `OLLAMA_PULL` allows that, and tells
    /// `on_state` each time, until `cancel`.
    ///
    /// From this call on, and where the model may be fetched, calls wait until one endpoint has it, until fetching
    /// it has failed for good, or until the endpoints have not said for `LLM_START_TIMEOUT` what they have.
    pub fn care<F>(
        &self,
        cancel: CancellationToken,
        on_state: F,
    ) -> impl Future<Output = ()> + Send + 'static
    where
        F: FnMut(Availability) + Send + 'static,
    {
        let may_pull = self.provider() == Provider::Ollama && self.pull() == Pull::Missing;
        let keeper = Keeper::new(self.clone(), may_pull);
        async move {
            let views = keeper.0.main_endpoints();
            let all = vec![Standing { state: None, awaited: may_pull }; views.len()];
            let delivery = keeper.0.delivery();
            let news = Mutex::new(News { all, on_state, delivery, may_pull });
            let news = &news;
            let caring = views.iter().enumerate().map(|(number, view)| {
                let tell = move |state, awaited| {
                    let mut news = news.lock().unwrap_or_else(PoisonError::into_inner);
                    news.take(number, Standing { state, awaited });
                };
                view.care_for(may_pull, tell)
            });
            cancel.run_until_cancelled(join_all(caring)).await;
        }
    }

    /// Cares for the model at the endpoint that this handle looks at, for ever.
    async fn care_for(&self, may_pull: bool, tell: impl Fn(Option<Availability>, bool)) {
        let mut tries = Tries::default();
        loop {
            let pause = match self.check().await {
                Ok(report) if report.presence == Presence::Missing && may_pull => {
                    self.have_fetched(&mut tries, &tell).await
                }
                Ok(report) if report.presence == Presence::Missing => {
                    tell(Some(self.missing()), false);
                    AGAIN
                }
                // Whoever watches the endpoints tells that. Calls fail by themselves when it had its time.
                Err(Error { fault, .. }) if is_away(&fault) => {
                    tell(None, may_pull && Instant::now() < self.opens());
                    AGAIN.min(self.opens().saturating_duration_since(Instant::now())).max(SOONEST)
                }
                // Also an endpoint that answers this with an error: a gateway may know no more than to ask.
                Ok(_) | Err(_) => {
                    tries = Tries::default();
                    tell(Some(Availability::Ready), false);
                    drop(timeout(REST, self.door().missed().notified()).await);
                    continue;
                }
            };
            sleep(pause).await;
        }
    }

    fn missing(&self) -> Availability {
        let (model, endpoint) = (self.model(), self.endpoint());
        let remedy = match self.provider() {
            Provider::Ollama => format!("; run `ollama pull {model}` there, or see OLLAMA_PULL"),
            Provider::OpenAi => String::new(),
        };
        Availability::Missing(format!("{model} is not at {endpoint}{remedy}"))
    }

    /// Fetches once, and returns when to look again.
    async fn have_fetched(
        &self,
        Tries { failed, fetched }: &mut Tries,
        tell: impl Fn(Option<Availability>, bool),
    ) -> Duration {
        let (model, awaited) = (self.model(), *failed < TRIES_MAX);
        let told = |progress: &Progress| {
            tell(Some(Availability::Pulling(progress.tell(model))), awaited);
        };
        let ended = if std::mem::take(fetched) {
            let reason = "the server says that it has fetched it, and that it is not there";
            Err(self.fail(Fault::BadOutput { reason: reason.to_owned() }))
        } else {
            self.fetch_model(told).await
        };
        let Err(error) = ended else {
            *fetched = true;
            return Duration::ZERO;
        };
        *failed = match error.disposition() {
            Disposition::Retry { .. } | Disposition::Elsewhere => failed.saturating_add(1),
            Disposition::Reject | Disposition::Stop => TRIES_MAX,
        };
        let reason = format!("{model} can't be fetched: {error}");
        tell(Some(Availability::Missing(reason)), *failed < TRIES_MAX);
        (Duration::from_secs(1) * 2_u32.saturating_pow(*failed)).min(RETRY_MAX)
    }
}

/// What the endpoints last said.
struct News<'a, F> {
    all: Vec<Standing>,
    on_state: F,
    delivery: &'a Delivery,
    may_pull: bool,
}

impl<F> News<'_, F>
where
    F: FnMut(Availability),
{
    fn take(&mut self, number: usize, standing: Standing) {
        if let Some(last) = self.all.get_mut(number) {
            *last = standing;
        }
        let said = || self.all.iter().filter_map(|standing| standing.state.as_ref());
        let is_ready = said().any(|state| *state == Availability::Ready);
        let is_awaited = !is_ready && self.all.iter().any(|standing| standing.awaited);
        self.delivery.cared.store(self.may_pull && (is_ready || is_awaited), Ordering::SeqCst);
        self.delivery.set(is_awaited);
        let pulling = said().find(|state| matches!(state, Availability::Pulling(_)));
        let missing: Vec<&str> = said().filter_map(Availability::lack).collect();
        let state = match pulling {
            _ if is_ready => Availability::Ready,
            Some(pulling) => pulling.clone(),
            None if missing.is_empty() => return,
            None => Availability::Missing(missing.join("; ")),
        };
        (self.on_state)(state);
    }
}

impl Availability {
    fn lack(&self) -> Option<&str> {
        match self {
            Self::Missing(reason) => Some(reason),
            Self::Ready | Self::Pulling(_) => None,
        }
    }
}

/// Lets calls through when nobody cares any more.
struct Keeper(Client);

impl Keeper {
    fn new(client: Client, may_pull: bool) -> Self {
        client.delivery().set(may_pull);
        Self(client)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.delivery().cared.store(false, Ordering::SeqCst);
        self.0.delivery().set(false);
    }
}

/// Returns whether the endpoint said nothing at all.
fn is_away(fault: &Fault) -> bool {
    matches!(fault, Fault::Unreachable { .. } | Fault::Reset { .. } | Fault::Timeout { .. })
}

impl Client {
    /// Lets the server fetch the model, and tells `told` of every step.
    async fn fetch_model<F>(&self, told: F) -> Result<(), Error>
    where
        F: FnMut(&Progress),
    {
        self.read_progress(told).await.map_err(|fault| self.fail(fault))
    }

    async fn read_progress<F>(&self, mut told: F) -> Result<(), Fault>
    where
        F: FnMut(&Progress),
    {
        let mut post = self.request(Method::POST, ollama_request::PULL);
        post.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let question = serde_json::json!({ "model": &**self.model(), "stream": true });
        *post.body_mut() = Some(question.to_string().into());
        let clock = Clock::start(Deadlines {
            connect: self.deadlines().connect,
            first_byte: SILENCE_MAX,
            idle: SILENCE_MAX,
            total: TOTAL_MAX,
        });
        let mut response = clock.send(self.http(), post).await?;
        if !response.status().is_success() {
            return Err(call::refuse(&clock, response).await);
        }
        let mut progress = Progress::default();
        let mut lines = Lines::new(LINE_MAX);
        while let Some(bytes) = clock.chunk(Phase::Idle, &mut response).await? {
            lines.push(&bytes, |line| progress.take(line))?;
            told(&progress);
        }
        progress.take(&lines.finish())?;
        progress.finish()
    }
}

/// How far a fetch is.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Bytes there and bytes in all, by the part's digest.
    parts: BTreeMap<String, (u64, u64)>,
    done: bool,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(default)]
    status: String,
    digest: Option<String>,
    total: Option<u64>,
    completed: Option<u64>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

impl Progress {
    pub(super) fn take(&mut self, line: &[u8]) -> Result<(), Fault> {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let mut store = String::new();
        let line: Line<'_> = json::parse(line, &mut store).map_err(|error| Fault::BadOutput {
            reason: format!("a report of a fetch: {error}"),
        })?;
        if let Some(error) = line.error.filter(|error| json::is_truthy(error)) {
            let fault = refusal::in_stream(error);
            // The registry's way to say that it has no such model.
            if let Fault::ServerError { message, .. } = &fault
                && message.contains("file does not exist")
            {
                return Err(Fault::ModelMissing { message: message.clone() });
            }
            return Err(fault);
        }
        self.done |= line.status == "success";
        if let (Some(digest), Some(total)) = (line.digest, line.total)
            && (self.parts.len() < PARTS_MAX || self.parts.contains_key(&digest))
        {
            self.parts.insert(digest, (line.completed.unwrap_or_default(), total));
        }
        Ok(())
    }

    pub(super) fn finish(&self) -> Result<(), Fault> {
        if self.done {
            return Ok(());
        }
        let reason = "the report of a fetch ends without `success`".to_owned();
        Err(Fault::Truncated { reason, cut: Cut::Broken })
    }

    pub(super) fn tell(&self, model: &str) -> String {
        let sum = |(there, all): (u64, u64), part: &(u64, u64)| {
            (there.saturating_add(part.0), all.saturating_add(part.1))
        };
        let (there, all) = self.parts.values().fold((0, 0), sum);
        if all == 0 {
            return format!("pulling {model}");
        }
        let (there, all) = (ByteSize::b(there), ByteSize::b(all));
        format!("pulling {model}: {} of {}", there.display().si(), all.display().si())
    }
}
