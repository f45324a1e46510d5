//! Asks the endpoint what it is, for `weir check --online` and for the probe.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::call::{self, Clock, Deadlines};
use super::client::Client;
use super::config::Provider;
use super::context::{self, Contexts, Reading, same_model};
use super::error::{Error, Fault};
use super::estimate::Estimate;
use super::model::Usage;
use super::pool;
use super::{ollama_request, openai};

/// How long the server may take to say what it is: it needs no model for that and answers at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest description of a model that is read; licences and templates are in it.
const BODY_MAX: usize = 8 * 1024 * 1024;

/// What stands at the endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckReport {
    /// The base URL, without credentials.
    pub endpoint: Arc<str>,
    /// The server's version, where it tells; `0.0.0` is one built from source.
    pub version: Option<String>,
    /// The model that will be asked.
    pub model: Arc<str>,
    /// Whether it is there.
    pub presence: Presence,
    /// Which weights stand behind its name, where the server tells.
    pub digest: Option<Arc<str>>,
    /// The longest context that the model was made for, in tokens, where the server tells.
    pub context_length: Option<u64>,
}

/// Whether a model is at the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It is.
    Present,
    /// The server does not have it.
    Missing,
    /// The server keeps no list.
    Unknown,
}

impl Client {
    /// Returns what stands at the endpoint, without asking the model anything.
    ///
    /// # Errors
    /// When nothing answers, or not with this API, or the credentials are refused.
    pub async fn check(&self) -> Result<CheckReport, Error> {
        let checked = match self.provider() {
            Provider::Ollama => self.check_ollama().await,
            Provider::OpenAi => self.check_openai().await,
        };
        checked.map_err(|fault| self.fail(fault))
    }

    /// Returns whether the endpoint answers at all: any status will do.
    pub(super) async fn probe(&self) -> Result<(), Error> {
        let path = match self.provider() {
            Provider::Ollama => ollama_request::VERSION,
            Provider::OpenAi => openai::MODELS,
        };
        let clock = self.clock();
        let sent = clock.send(self.http(), self.request(Method::GET, path)).await;
        let mut response = sent.map_err(|fault| self.fail(fault))?;
        // Read to its end, so that the connection can be used again; what it says doesn't matter.
        call::read(&clock, &mut response, BODY_MAX).await.map(drop).unwrap_or_default();
        Ok(())
    }

    /// Refuses the answer to a prompt that the server cut, as far as its count of tokens shows.
    ///
    /// Where that depends on the context, the server is asked for it: right after a call the model is loaded. No
    /// more often than the answer is forgotten, and an answer that does not come leaves the usual sizes to tell.
    pub(super) async fn examine(
        &self,
        estimate: Estimate,
        usage: Option<Usage>,
    ) -> Result<(), Fault> {
        let (guard, model) = (self.door().context(), self.model());
        let reading = match guard.read(model, (estimate, usage), Instant::now()) {
            Reading::Open => {
                guard.learn(model, self.ask_contexts().await, Instant::now());
                guard.read(model, (estimate, usage), Instant::now())
            }
            known @ (Reading::Whole | Reading::Cut) => known,
        };
        match reading {
            Reading::Whole | Reading::Open => Ok(()),
            Reading::Cut => Err(context::cut(usage)),
        }
    }

    async fn ask_contexts(&self) -> Contexts {
        match self.provider() {
            Provider::Ollama => match pool::residents(self.door()).await {
                Ok(loaded) => Contexts::of(&loaded, self.model()),
                Err(_) => Contexts::Unknown,
            },
            Provider::OpenAi => Contexts::Unknown,
        }
    }

    async fn check_ollama(&self) -> Result<CheckReport, Fault> {
        let version = self.fetch(Method::GET, ollama_request::VERSION, None).await?;
        let version: Version = understand(&version)?;
        let question = serde_json::json!({ "model": self.model() }).to_string();
        let shown = match self.fetch(Method::POST, ollama_request::SHOW, Some(question)).await {
            Ok(shown) => Some(shown),
            Err(Fault::ModelMissing { .. }) => None,
            Err(fault) => return Err(fault),
        };
        let presence = match shown {
            Some(_) => {
                self.learn_digest().await;
                Presence::Present
            }
            None => Presence::Missing,
        };
        let context_length = match shown {
            Some(shown) => understand::<Shown>(&shown)?.context_length(),
            None => None,
        };
        Ok(self.report(Some(version.version), presence, context_length))
    }

    /// Learns which weights stand behind the model's name; no list, no digest.
    async fn learn_digest(&self) {
        let listed = self.fetch(Method::GET, ollama_request::TAGS, None).await;
        let tags = listed.and_then(|listed| understand::<Tags>(&listed));
        let tags = tags.map(|tags| tags.models).unwrap_or_default();
        let tag = tags.into_iter().find(|tag| same_model(&tag.name, self.model()));
        if let Some(digest) = tag.and_then(|tag| tag.digest) {
            self.door().digests().learn(self.model(), &digest);
        }
    }

    async fn check_openai(&self) -> Result<CheckReport, Fault> {
        let listed = match self.fetch(Method::GET, openai::MODELS, None).await {
            Ok(listed) => understand::<Models>(&listed)?,
            Err(Fault::WrongUrl { .. } | Fault::InvalidRequest { .. }) => {
                return Ok(self.report(None, Presence::Unknown, None));
            }
            Err(fault) => return Err(fault),
        };
        let presence = match listed.data.iter().any(|entry| same_model(&entry.id, self.model())) {
            true => Presence::Present,
            false => Presence::Missing,
        };
        Ok(self.report(None, presence, None))
    }

    async fn fetch(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<Vec<u8>, Fault> {
        let mut request = self.request(method, path);
        *request.body_mut() = body.map(Into::into);
        let clock = self.clock();
        let mut response = clock.send(self.http(), request).await?;
        if !response.status().is_success() {
            return Err(call::refuse(&clock, response).await);
        }
        call::read(&clock, &mut response, BODY_MAX).await
    }

    fn clock(&self) -> Clock<'static> {
        Clock::start(Deadlines {
            connect: self.deadlines().connect,
            first_byte: PATIENCE,
            idle: PATIENCE,
            total: PATIENCE,
        })
    }

    fn report(
        &self,
        version: Option<String>,
        presence: Presence,
        context_length: Option<u64>,
    ) -> CheckReport {
        CheckReport {
            endpoint: Arc::clone(self.endpoint()),
            version,
            model: Arc::clone(self.model()),
            presence,
            digest: self.door().digests().of(self.model()),
            context_length,
        }
    }
}

fn understand<'a, T>(body: &'a [u8]) -> Result<T, Fault>
where
    T: Deserialize<'a>,
{
    serde_json::from_slice(body)
        .map_err(|error| Fault::BadOutput { reason: format!("a description: {error}") })
}

#[derive(Deserialize)]
struct Version {
    version: String,
}

#[derive(Deserialize)]
struct Shown {
    #[serde(default)]
    model_info: Map<String, Value>,
}

#[derive(Deserialize)]
struct Tags {
    #[serde(default)]
    models: Vec<Tag>,
}

#[derive(Deserialize)]
struct Tag {
    name: String,
    digest: Option<String>,
}

#[derive(Deserialize)]
struct Models {
    data: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
}

impl Shown {
    /// Returns the length under whatever name the model's architecture gives it.
    fn context_length(&self) -> Option<u64> {
        let mut lengths =
            self.model_info.iter().filter(|(name, _)| name.ends_with(".context_length"));
        lengths.next().and_then(|(_, length)| length.as_u64())
    }
}
