//! An endpoint that can be asked: its HTTP client, and who it is to requests and errors.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Method, redirect};
use secrecy::SecretString;
use tokio::sync::Notify;

use super::base_url::BaseUrl;
use super::call;
use super::client::SetupError;
use super::config::Config;
use super::context::Guard;
use super::digests::Digests;
use super::endpoint::Endpoint;
use super::error::{Error, Fault};

/// How many redirects are followed, all on the same origin.
const REDIRECTS_MAX: usize = 3;

/// How long a connection may lie idle in the pool: shorter than the idle time-outs of common gateways, so that they
/// rarely close one just when it is taken.
const POOL_IDLE: Duration = Duration::from_secs(50);

/// How often the kernel asks a silent server whether it still lives; also keeps NAT from forgetting the connection.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// An endpoint with its connections.
pub(super) struct Door {
    endpoint: Endpoint,
    name: Arc<str>,
    http: reqwest::Client,
    context: Guard,
    digests: Digests,
    /// Woken when a call was told that the model is not there.
    missed: Notify,
}

impl Door {
    /// Makes the one HTTP client of an endpoint. Connects to nothing.
    pub(super) fn new(
        base: &BaseUrl,
        key: Option<&SecretString>,
        config: &Config,
    ) -> Result<Self, SetupError> {
        let endpoint = Endpoint::new(base, key)?;
        let http = http(&endpoint, config)?;
        let (context, digests, missed) = (Guard::default(), Digests::default(), Notify::new());
        Ok(Self { name: endpoint.name(), endpoint, http, context, digests, missed })
    }

    /// Expects models to be loaded with a context of so many tokens.
    pub(super) fn with_context(self, tokens: Option<u64>) -> Self {
        Self { context: Guard::new(tokens), ..self }
    }

    /// Returns what is known of the contexts of its models.
    pub(super) fn context(&self) -> &Guard {
        &self.context
    }

    /// Returns what is known of the digests of its models.
    pub(super) fn digests(&self) -> &Digests {
        &self.digests
    }

    /// Returns what is woken when a call was told that the model is not there.
    pub(super) fn missed(&self) -> &Notify {
        &self.missed
    }

    pub(super) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Returns the base URL, without credentials.
    pub(super) fn label(&self) -> &Arc<str> {
        self.endpoint.label()
    }

    /// Returns the endpoint's name in figures.
    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(super) fn request(&self, method: Method, path: &str) -> reqwest::Request {
        reqwest::Request::new(method, self.endpoint.url(path))
    }

    pub(super) fn fail(&self, fault: Fault) -> Error {
        self.endpoint.fail(fault)
    }
}

fn http(endpoint: &Endpoint, config: &Config) -> Result<reqwest::Client, SetupError> {
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
        .pool_max_idle_per_host(config.ollama.max_concurrency.max(1))
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
