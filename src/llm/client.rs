//! The client of one endpoint and its model: permits, gate, and one call at a time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue,
};
use reqwest::{Method, redirect};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::call::{self, Deadlines, Exchange};
use super::config::{Config, Provider};
use super::endpoint::Endpoint;
use super::error::{Error, Fault};
use super::gate::Gate;
use super::model::{Answer, ChatModel, Request, Timings, Usage};
use super::queue::QueueTime;
use super::reader::{Bounds, Reader};
use super::{ollama, openai};

/// How many redirects are followed, all on the same origin.
const REDIRECTS_MAX: usize = 3;

/// How long a connection may lie idle in the pool: shorter than the idle time-outs of common gateways, so that they
/// rarely close one just when it is taken.
const POOL_IDLE: Duration = Duration::from_secs(50);

/// How often the kernel asks a silent server whether it still lives; also keeps NAT from forgetting the connection.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Is told what calls do. Called in the middle of a call: it must not block.
pub type Observer = Arc<dyn Fn(&Observation<'_>) + Send + Sync>;

/// What a call does.
#[derive(Debug, Clone, Copy)]
pub enum Observation<'a> {
    /// It got its turn after this time in line.
    Admitted(Duration),
    /// It is about to be sent.
    Began,
    /// It ended, one way or another; comes exactly once after each `Began`.
    Ended(CallReport<'a>),
}

/// How a call ended.
#[derive(Debug, Clone, Copy)]
pub struct CallReport<'a> {
    /// `ollama` or `openai`.
    pub provider: &'static str,
    /// The model that was asked.
    pub model: &'a str,
    /// `ok`, the class of the error, or `cancelled` when it was dropped.
    pub outcome: &'static str,
    /// From the request to the end.
    pub total: Duration,
    /// From the request to the first byte of an answer that became complete.
    pub first_byte: Option<Duration>,
    /// The tokens, where the server counted them.
    pub usage: Option<Usage>,
}

/// A model behind an HTTP endpoint. Cheap to clone; clones share permits and connections.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    http: reqwest::Client,
    endpoint: Endpoint,
    provider: Provider,
    model: Arc<str>,
    temperature: f64,
    deadlines: Deadlines,
    bounds: Bounds,
    permits: Semaphore,
    gate: Gate,
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
    /// Makes the client of the configured endpoint. Connects to nothing.
    ///
    /// # Errors
    /// When the key is no header, or TLS can't be set up for an `https` endpoint.
    pub fn new(config: &Config, observer: Observer) -> Result<Self, SetupError> {
        let (base, key, model) = match config.provider {
            Provider::Ollama => {
                (&config.ollama.base_url, &config.ollama.api_key, &config.ollama.model)
            }
            Provider::OpenAi => {
                (&config.openai.base_url, &config.openai.api_key, &config.openai.model)
            }
        };
        let endpoint = Endpoint::new(base, key.as_ref())?;
        let permits = config.ollama.max_concurrency.clamp(1, Semaphore::MAX_PERMITS);
        Ok(Self(Arc::new(Inner {
            http: http(&endpoint, config, permits)?,
            endpoint,
            provider: config.provider,
            model: model.as_str().into(),
            temperature: config.ollama.temperature,
            deadlines: Deadlines::of(config),
            bounds: Bounds {
                answer: bytes(config.max_answer.as_u64()),
                line: bytes(config.max_line.as_u64()),
            },
            permits: Semaphore::new(permits),
            gate: Gate::new(config.start_timeout),
            observer,
        })))
    }

    /// Returns who is asked.
    #[must_use]
    pub fn provider(&self) -> Provider {
        self.0.provider
    }

    /// Returns the base URL, without credentials.
    #[must_use]
    pub fn endpoint(&self) -> &Arc<str> {
        self.0.endpoint.label()
    }

    /// Returns the model that is asked.
    #[must_use]
    pub fn model(&self) -> &Arc<str> {
        &self.0.model
    }

    pub(super) fn http(&self) -> &reqwest::Client {
        &self.0.http
    }

    pub(super) fn gate(&self) -> &Gate {
        &self.0.gate
    }

    pub(super) fn deadlines(&self) -> Deadlines {
        self.0.deadlines
    }

    pub(super) fn request(&self, method: Method, path: &str) -> reqwest::Request {
        reqwest::Request::new(method, self.0.endpoint.url(path))
    }

    pub(super) fn fail(&self, fault: Fault) -> Error {
        self.0.endpoint.fail(fault)
    }

    async fn call(&self, request: Request<'_>) -> Result<Answer, Error> {
        let (_permit, queued) = self.admit(request.queue).await;
        (self.0.observer)(&Observation::Admitted(queued));
        let mut running = Running::begin(&self.0);
        let exchanged = self.exchange(&request).await;
        running.end(exchanged.as_ref());
        let Exchange { draft, first_byte, total } = exchanged.map_err(|fault| self.fail(fault))?;
        Ok(Answer {
            text: draft.text,
            model: Arc::clone(&self.0.model),
            usage: draft.usage,
            done_reason: draft.done_reason,
            timings: Timings { queued, first_byte, total, server: draft.server },
        })
    }

    /// Waits for a permit, in the order of arrival, and then for the gate: whoever waits there holds a permit, so
    /// the order stays. Returns the permit and the time that this took.
    async fn admit(&self, queue: &QueueTime) -> (Option<SemaphorePermit<'_>>, Duration) {
        let Inner { permits, gate, .. } = &*self.0;
        // A free permit means that nobody waits: the semaphore gives a returned one to the first in line.
        if let Ok(permit) = permits.try_acquire()
            && !gate.is_shut()
        {
            return (Some(permit), Duration::ZERO);
        }
        let arrived = Instant::now();
        let _waiting = queue.wait();
        // Never closed, so there is always a permit in the end.
        let permit = permits.acquire().await.ok();
        if gate.is_shut() {
            gate.pass().await;
        }
        (permit, arrived.elapsed())
    }

    async fn exchange(&self, request: &Request<'_>) -> Result<Exchange, Fault> {
        let Inner { http, provider, model, temperature, bounds, deadlines, .. } = &*self.0;
        let (path, body, reader, accept) = match provider {
            Provider::Ollama => (
                ollama::GENERATE,
                ollama::body(model, *temperature, request),
                Reader::Ollama(ollama::Reader::new(*bounds)),
                "application/json",
            ),
            Provider::OpenAi => (
                openai::COMPLETIONS,
                openai::body(model, *temperature, request),
                Reader::OpenAi(openai::Reader::new(*bounds)),
                "text/event-stream, application/json",
            ),
        };
        let mut post = self.request(Method::POST, path);
        post.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        post.headers_mut().insert(ACCEPT, HeaderValue::from_static(accept));
        *post.body_mut() = Some(body.into());
        call::exchange(http, post, reader, *deadlines).await
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

/// Makes the one HTTP client.
fn http(
    endpoint: &Endpoint,
    config: &Config,
    connections: usize,
) -> Result<reqwest::Client, SetupError> {
    // It is an error to install it twice, and no harm: another client of this process was first.
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut headers = HeaderMap::new();
    // A compressed stream reaches us when the compressor's buffer is full, not when the model speaks.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Some(credentials) = endpoint.credentials() {
        headers.insert(AUTHORIZATION, credentials.clone());
    }
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers)
        .http1_only()
        .tcp_nodelay(true)
        .tcp_keepalive(KEEPALIVE)
        .connect_timeout(config.connect_timeout)
        .pool_max_idle_per_host(connections)
        .pool_idle_timeout(POOL_IDLE)
        .redirect(redirect::Policy::custom(follow));
    if endpoint.is_loopback() {
        builder = builder.no_proxy();
    }
    if !endpoint.is_secure() {
        // A host without CA certificates can still speak plain HTTP; redirects never leave the origin.
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(|error| SetupError::Http {
        endpoint: Arc::clone(endpoint.label()),
        reason: call::root(&error),
    })
}

/// Follows a redirect that stays at the endpoint; any other is handed back as the reply it is.
fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let from = attempt.previous().first().map(reqwest::Url::origin);
    if attempt.previous().len() <= REDIRECTS_MAX && from == Some(attempt.url().origin()) {
        attempt.follow()
    } else {
        attempt.stop()
    }
}

fn bytes(limit: u64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// A call between `Began` and `Ended`; dropped on the way, it was cancelled.
struct Running<'a> {
    inner: &'a Inner,
    begun: Instant,
    ended: bool,
}

impl<'a> Running<'a> {
    fn begin(inner: &'a Inner) -> Self {
        (inner.observer)(&Observation::Began);
        Self { inner, begun: Instant::now(), ended: false }
    }

    fn end(&mut self, outcome: Result<&Exchange, &Fault>) {
        match outcome {
            Ok(exchange) => self.report("ok", Some(exchange.first_byte), exchange.draft.usage),
            Err(fault) => self.report(fault.class(), None, None),
        }
    }

    fn report(
        &mut self,
        outcome: &'static str,
        first_byte: Option<Duration>,
        usage: Option<Usage>,
    ) {
        self.ended = true;
        let provider = self.inner.provider.as_str();
        let model = &*self.inner.model;
        let total = self.begun.elapsed();
        let report = CallReport { provider, model, outcome, total, first_byte, usage };
        (self.inner.observer)(&Observation::Ended(report));
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.report("cancelled", None, None);
        }
    }
}
