//! The client of all endpoints: picks who answers, and makes one call at a time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use tokio::time::Instant;
use tracing::warn;

use super::call::{self, Deadlines, Exchange};
use super::config::{Config, Provider, Pull};
use super::desk::{Desk, View};
use super::desks::{Desks, Who};
use super::door::Door;
use super::error::{Again, Error, Fault};
use super::estimate::Estimate;
use super::model::{Answer, ChatModel, DoneReason, Request, Timings};
use super::observe::{Call, Observation, Observer, Running};
use super::ollama_request::{self, Terms};
use super::pool::{Blame, Caller, Permit, Turn, Turned};
use super::pull::Delivery;
use super::reader::{Bounds, Reader};
use super::{ollama, openai};
use crate::standing::Standing;

/// Models behind HTTP endpoints. Cheap to clone; clones share permits and connections.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    view: View,
    /// Calls that were in line wait for that too.
    standing: Option<Standing>,
}

struct Shared {
    desks: Desks,
    terms: Terms,
    pull: Pull,
    deadlines: Deadlines,
    bounds: Bounds,
    /// When calls are let through at start though nothing has answered.
    opens: Instant,
    observer: Observer,
}

/// Why a client can't be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// The key holds a character that a header can't carry.
    #[error("the API key for {endpoint} holds a character that no HTTP header can carry")]
    Key {
        /// The base URL.
        endpoint: Arc<str>,
    },
    /// The HTTP client can't be made, most often because the host has no CA certificates.
    #[error("HTTP client for {endpoint}: {reason}")]
    Http {
        /// The base URL.
        endpoint: Arc<str>,
        /// What it says.
        reason: String,
    },
}

impl Client {
    /// Makes the client of the configured endpoints. Connects to nothing.
    ///
    /// # Errors
    /// When a key is no header, or TLS can't be set up for an `https` endpoint.
    pub fn new(config: &Config, observer: Observer) -> Result<Self, SetupError> {
        let desks = Desks::new(config, &observer)?;
        let view = desks.main.views().next().ok_or_else(|| SetupError::Http {
            endpoint: "".into(),
            reason: "no endpoint".to_owned(),
        })?;
        let shared = Shared {
            desks,
            terms: Terms {
                temperature: config.ollama.temperature,
                num_ctx: config.ollama.num_ctx,
                keep_alive: config.ollama.keep_alive,
            },
            pull: config.ollama.pull,
            deadlines: Deadlines::of(config),
            bounds: Bounds {
                answer: bytes(config.max_answer.as_u64()),
                line: bytes(config.max_line.as_u64()),
            },
            opens: Instant::now() + config.start_timeout,
            observer,
        };
        Ok(Self { view, shared: Arc::new(shared), standing: None })
    }

    /// Lets no call out, not even one that was in line, while this process may have been replaced.
    #[must_use]
    pub fn with_standing(self, standing: Standing) -> Self {
        Self { standing: Some(standing), ..self }
    }

    /// Returns who is asked.
    #[must_use]
    pub fn provider(&self) -> Provider {
        self.view.provider
    }

    /// Returns the base URL of the endpoint that this handle looks at, the first one unless it came from
    /// [`endpoints`](Self::endpoints); without credentials.
    #[must_use]
    pub fn endpoint(&self) -> &Arc<str> {
        self.view.door.label()
    }

    /// Returns the model that is asked.
    #[must_use]
    pub fn model(&self) -> &Arc<str> {
        &self.view.model
    }

    /// Returns a handle for each endpoint, those of the fallback provider last. What they say of themselves is said
    /// of that endpoint; calls go wherever the pool sends them.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Self> {
        let views = self.desks().flat_map(Desk::views);
        views.map(|view| self.at(view)).collect()
    }

    /// Returns a handle for each endpoint of the main provider that looks at the model which stands in for the main one;
    /// none where there is none.
    #[must_use]
    pub fn fallbacks(&self) -> Vec<Self> {
        let Desks { main, .. } = &self.shared.desks;
        let all = main.fallback.iter().flat_map(|model| {
            main.views().map(move |view| self.at(View { model: Arc::clone(model), ..view }))
        });
        all.collect()
    }

    pub(super) fn desks(&self) -> impl Iterator<Item = &Desk> {
        self.shared.desks.iter()
    }

    /// Returns when calls are let through at start though nothing has answered.
    pub(super) fn opens(&self) -> Instant {
        self.shared.opens
    }

    /// Returns a handle for each endpoint of the main provider.
    pub(super) fn main_endpoints(&self) -> Vec<Self> {
        self.shared.desks.main.views().map(|view| self.at(view)).collect()
    }

    fn at(&self, view: View) -> Self {
        Self { view, shared: Arc::clone(&self.shared), standing: self.standing.clone() }
    }

    pub(super) fn door(&self) -> &Door {
        &self.view.door
    }

    pub(super) fn pull(&self) -> Pull {
        self.shared.pull
    }

    pub(super) fn delivery(&self) -> &Delivery {
        &self.shared.desks.delivery
    }

    pub(super) fn http(&self) -> &reqwest::Client {
        self.view.door.http()
    }

    pub(super) fn deadlines(&self) -> Deadlines {
        self.shared.deadlines
    }

    pub(super) fn request(&self, method: Method, path: &str) -> reqwest::Request {
        self.view.door.request(method, path)
    }

    pub(super) fn fail(&self, fault: Fault) -> Error {
        self.view.door.fail(fault)
    }

    /// Makes a call. One that cost nothing, since nothing was sent or the endpoint did nothing for it, is made
    /// elsewhere at once where somebody stands ready; one that only tried whether an endpoint has room again gets back
    /// in line, for a while; any other is the caller's to repeat.
    async fn call(&self, request: Request<'_>) -> Result<Answer, Error> {
        let Shared { desks, observer, .. } = &*self.shared;
        let wanted = request.model.map_or_else(|| Arc::clone(&desks.main.model), Arc::from);
        let (estimate, mut queued) = (Estimate::of(&request), Duration::ZERO);
        let mut moves: usize = 2 + desks.iter().map(|desk| desk.pool.doors().len()).sum::<usize>();
        let mut refused = None;
        // Whom an endpoint refused for its load keeps its turn, in the same line.
        let mut kept: Option<(Provider, Turn)> = None;
        loop {
            queued += desks.wait_for_delivery(&wanted, request.queue).await;
            let (who, stays) = desks.who(&wanted);
            let pool = &who.desk.pool;
            pool.admit(&who.model, estimate)?;
            let stays = stays || moves == 0;
            let prompt = request.input.messages().map(|(_, text)| text.len()).sum();
            let turn = kept.take().filter(|(of, _)| *of == pool.provider).map(|(_, turn)| turn);
            let entered =
                pool.enter(&who.model, Caller { stays, prompt, turn }, request.queue).await;
            let mut permit = match entered {
                Ok(permit) => permit,
                Err(Turned::Away) if moves > 0 => {
                    moves -= 1;
                    continue;
                }
                Err(turned) => return Err(self.turned(turned, pool.patience())),
            };
            queued += permit.queued();
            if let Some(standing) = self.standing.as_ref().filter(|it| !it.is_confirmed()) {
                let _waiting = request.queue.wait();
                standing.confirmed().await;
                permit.begin_now();
            }
            let (is_try, door) = (permit.is_try(), Arc::clone(permit.door()));
            let turn = permit.turn();
            observer(&Observation::Admitted(queued));
            // On the heap, so that a call in line is small.
            let made = Box::pin(self.make(&request, (&wanted, estimate), &who, permit)).await;
            match made {
                Ok(Exchange { draft, first_byte, total }) => {
                    if draft.done_reason == DoneReason::Length {
                        warn!(model = %who.model, done_reason = "length", "answer cut at its length limit");
                    }
                    return Ok(Answer {
                        text: draft.text,
                        digest: door.digests().of(&who.model),
                        instead_of: desks.is_stand_in(&who, &wanted).then_some(wanted),
                        model: who.model,
                        usage: draft.usage,
                        done_reason: draft.done_reason,
                        timings: Timings { queued, first_byte, total, server: draft.server },
                    });
                }
                Err(error) => {
                    let blame = Blame::of(&error.fault);
                    let refused = *refused.get_or_insert_with(Instant::now);
                    if is_try && blame == Blame::Load && refused.elapsed() < pool.patience() {
                        kept = Some((pool.provider, turn));
                        continue;
                    }
                    let is_elsewhere = error.again == Again::Elsewhere;
                    let may_move = is_elsewhere || desks.is_awaited(&error, &who, &door);
                    if !may_move || moves == 0 || !blame.is_free() {
                        return Err(error);
                    }
                    moves -= 1;
                }
            }
        }
    }

    /// Makes one call with a permit, and says whether another may be made elsewhere if it fails.
    async fn make(
        &self,
        request: &Request<'_>,
        (wanted, estimate): (&Arc<str>, Estimate),
        who: &Who<'_>,
        permit: Permit<'_>,
    ) -> Result<Exchange, Error> {
        let door = Arc::clone(permit.door());
        let (provider, model) = (who.desk.pool.provider, &*who.model);
        // What is not sent says nothing about the endpoint: the permit is just dropped.
        let admitted = door.context().admit(model, estimate, Instant::now());
        admitted.map_err(|fault| door.fail(fault))?;
        let call = Call { endpoint: door.name(), provider, model };
        let mut running = Running::begin(&self.shared.observer, call);
        let ended = tokio::select! {
            // The answer first: when it has come, silence before it no longer matters.
            biased;
            exchanged = self.exchange(request, estimate, who, &permit) => exchanged,
            fault = permit.listen(&who.model) => Err(fault),
        };
        running.end(ended.as_ref());
        let load = ended.as_ref().ok().map(|exchange| exchange.draft.server.load);
        let is_ready = permit.end(ended.as_ref().err(), load.filter(|load| !load.is_zero()));
        ended.map_err(|fault| {
            let may_move = is_ready || self.shared.desks.has_other(who, wanted);
            let again = if may_move { Again::Elsewhere } else { Again::Here };
            Error { again, ..door.fail(fault) }
        })
    }

    fn turned(&self, turned: Turned, waited: Duration) -> Error {
        match turned {
            // A server that is away most often comes back; one that is there and only fails for so long does not, unless it
            // has asked for more time.
            Turned::Failed(door, fault) => {
                let is_away = !matches!(Blame::of(&fault), Blame::Endpoint | Blame::Load)
                    || fault.after().is_some_and(|after| after >= waited);
                let again = if is_away { Again::Here } else { Again::Nowhere { waited } };
                Error { again, ..door.fail(fault) }
            }
            Turned::Away => {
                self.fail(Fault::Unreachable { reason: "every endpoint rests".to_owned() })
            }
            Turned::TooManyModels => self.fail(Fault::InvalidRequest {
                status: 0,
                message: "more models than one process asks".to_owned(),
            }),
        }
    }

    async fn exchange(
        &self,
        request: &Request<'_>,
        estimate: Estimate,
        who: &Who<'_>,
        permit: &Permit<'_>,
    ) -> Result<Exchange, Fault> {
        let Shared { terms, bounds, deadlines, .. } = &*self.shared;
        let model = &who.model;
        let (path, body, reader, accept) = match who.desk.pool.provider {
            Provider::Ollama => (
                ollama_request::path(request),
                ollama_request::body(model, terms, request, estimate),
                Reader::Ollama(ollama::Reader::new(*bounds)),
                "application/json",
            ),
            Provider::OpenAi => (
                openai::COMPLETIONS,
                openai::body(model, terms.temperature, request),
                Reader::OpenAi(openai::Reader::new(*bounds)),
                "text/event-stream, application/json",
            ),
        };
        let door = permit.door();
        let mut post = door.request(Method::POST, path);
        post.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        post.headers_mut().insert(ACCEPT, HeaderValue::from_static(accept));
        *post.body_mut() = Some(body.into());
        let exchanged = call::exchange(door.http(), post, reader, *deadlines, permit.voice()).await;
        let exchange = exchanged.map_err(|fault| terms.judge(fault))?;
        let provider = who.desk.pool.provider;
        let asked = self.at(View { door: Arc::clone(door), provider, model: Arc::clone(model) });
        asked.examine(estimate, exchange.draft.usage).await?;
        Ok(exchange)
    }
}

impl ChatModel for Client {
    fn ask<'a>(&'a self, request: Request<'a>) -> BoxFuture<'a, Result<Answer, Error>> {
        Box::pin(self.call(request))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("endpoint", self.endpoint())
            .field("model", self.model())
            .finish_non_exhaustive()
    }
}

fn bytes(limit: u64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}
