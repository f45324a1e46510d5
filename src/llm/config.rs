//! Which model is asked, where, and how long weir waits for it.
//!
//! Variables: `LLM_*`, `OLLAMA_*` and `OPENAI_*`, each the prefix and the field's name in upper case.

use std::time::Duration;

use bytesize::ByteSize;
use secrecy::SecretString;
use serde::Deserialize;

use super::base_url::BaseUrl;
use super::base_urls::{self, BaseUrls};
use super::keep_alive::KeepAlive;

/// The model and the limits of a call to it.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Who is asked. Default `ollama`.
    ///
    /// `openai` and `auto` without a key and without a base URL mean Ollama, as the original, with a
    /// warning; what stands here is the outcome.
    pub provider: Provider,
    /// How long the connection may take, TLS included. Default `5s`, from 100 ms to 1 min. More only
    /// delays the news that the endpoint is down.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// How long the first byte of an answer may take, from the end of the request on. Default `2m`, from
    /// 1 s to 1 h.
    ///
    /// A long prompt is read in silence: below that time every long call fails. At Ollama the time begins anew with
    /// each byte that any call of the model gets there, since the server may answer in an order of its own, and while
    /// it says that it loads the model.
    #[serde(with = "humantime_serde")]
    pub first_byte_timeout: Duration,
    /// How long every call of a model at an endpoint may be silent while the endpoint says that the model is
    /// loaded: then its runner is frozen. Default `20s`, from 1 s to 1 h; a second more for each 200 bytes of
    /// the longest prompt that is waited for.
    ///
    /// Each time that a model is found frozen the limit doubles, up to `LLM_FIRST_BYTE_TIMEOUT`, until it gives a byte:
    /// where others keep the server busy, a healthy call in its queue looks the same. Too short, such calls are cut
    /// once or twice before that; too long, and a frozen runner holds its calls up for as long.
    #[serde(with = "humantime_serde")]
    pub resident_first_byte_timeout: Duration,
    /// How long a begun answer may fall silent. Default `60s`, from 1 s to 1 h. A frozen runner is found
    /// by nothing else; a slow machine needs seconds per token.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    /// How long a call may take in all. Default `10m`, from 1 s to 24 h. What is left of
    /// `WORKFLOW_EXECUTION_TIMEOUT` ends it earlier.
    #[serde(with = "humantime_serde")]
    pub total_timeout: Duration,
    /// The longest answer taken. Default `1MiB`, from 1 KiB to 64 MiB. A model that repeats itself for
    /// ever ends here; the result's topic takes no more than 1 MiB by default either.
    pub max_answer: ByteSize,
    /// The longest line of a stream, or whole body where nothing is streamed. Default `8MiB`, from 4 KiB
    /// to 256 MiB. It bounds what a broken proxy can make weir hold.
    pub max_line: ByteSize,
    /// How long calls wait where nothing can answer them: at start, from the process's own, for an endpoint that
    /// has not answered yet; later for one of the endpoints that all rest or are overloaded. Default `30s`, from 1 s to 1 h. The
    /// time does not count against a run's limit; after it calls fail and are retried like any others.
    #[serde(with = "humantime_serde")]
    pub start_timeout: Duration,
    /// After how many faults of its own in a row an endpoint rests from a model. Default `3`, from 1 to 1,000.
    ///
    /// One is rash: a single broken connection takes an endpoint out. Many let as many calls fail first.
    pub breaker_faults: u32,
    /// How long an endpoint rests at first, before one call tries it again; doubled by each that fails. Default
    /// `1s`, from 100 ms to 10 min. One that refuses calls because it has too much to do rests by the same rule, and
    /// no shorter than it asks.
    #[serde(with = "humantime_serde")]
    pub breaker_rest: Duration,
    /// The longest rest. Default `4s`, from 100 ms to 10 min; not below `LLM_BREAKER_REST`. After an endpoint has
    /// recovered it is unused for as long; each trial before costs a run an attempt.
    #[serde(with = "humantime_serde")]
    pub breaker_rest_max: Duration,
    /// How long a call waits at most for an endpoint to change to its model while the endpoint's other model
    /// has work. Default `30s`, from 1 s to 1 h. Short, and endpoints load models instead of answering; long, and
    /// the rarer model waits.
    #[serde(with = "humantime_serde")]
    pub swap_patience: Duration,
    /// Who is asked where no endpoint of `LLM_PROVIDER` can serve. Default none. Its model is its own.
    pub fallback_provider: Option<Provider>,
    /// Ollama (`OLLAMA_*`).
    #[serde(skip)]
    pub ollama: Ollama,
    /// An OpenAI-compatible server (`OPENAI_*`).
    #[serde(skip)]
    pub openai: OpenAi,
}

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// Ollama's own API.
    Ollama,
    /// Any server with `/chat/completions`.
    #[serde(rename = "openai", alias = "auto")]
    OpenAi,
}

impl Provider {
    /// Returns its name, as metrics and logs have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ollama => "ollama",
            Self::OpenAi => "openai",
        }
    }
}

/// An Ollama server.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Ollama {
    /// Where it is: one URL, or several separated by commas, at most 64. Default `http://localhost:11434`, or
    /// `http://ollama:11434` where `DOCKER_ENV` is `true`.
    ///
    /// Without a scheme it is `http`, and then without a port 11434; a path is kept. Credentials are the
    /// endpoint's own: `https://user:password@host`, or `https://:token@host` for a bearer token. A comma in
    /// them is written `%2C`. Unlike the original, what is no URL is refused.
    #[serde(deserialize_with = "base_urls::ollama")]
    pub base_url: BaseUrls,
    /// The model, as `ollama list` names it. Default `llama3.2:latest`.
    pub model: String,
    /// The model that is asked where no endpoint can serve the other: all of them rest, or none has it. Default
    /// none. Its answers name it.
    pub fallback_model: Option<String>,
    /// Sent as a bearer token to every endpoint without credentials of its own, for servers behind a proxy
    /// that asks for one. Default none.
    pub api_key: Option<SecretString>,
    /// How freely the model chooses its words. Default `0.7`, as the original; from 0, always the
    /// likeliest, to 2, hardly readable.
    pub temperature: f64,
    /// The most calls at once of one model at one endpoint. Default `32`, from 1 to 10,000.
    ///
    /// Ollama queues without a bound and says nothing while it does, so weir holds the line. Below
    /// `OLLAMA_NUM_PARALLEL` of the server its slots stay empty; far above it calls run into
    /// `LLM_FIRST_BYTE_TIMEOUT` while they wait there.
    pub max_concurrency: usize,
    /// The context that the model is loaded with, in tokens. Default what the server is set to, from 512 to
    /// 10,000,000.
    ///
    /// Where it is set, it goes with every call, and no call is cut or shifted by the server. A small one
    /// refuses long tasks; a large one takes memory from the model, down to running on the CPU. Of what the
    /// model was not made for, the server cuts it down.
    pub num_ctx: Option<u64>,
    /// How long the server keeps the model loaded after a call, `-1` for ever. Default what the server is
    /// set to, from 0 s to 720 h. Short of the pause between two runs each run waits for a load.
    pub keep_alive: Option<KeepAlive>,
    /// What to do where the server does not have the model. Default `never`.
    pub pull: Pull,
}

/// What to do where a server does not have the model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pull {
    /// Say so: its operator decides what lies on its disk.
    #[default]
    Never,
    /// Let the server fetch it; calls wait for it meanwhile.
    Missing,
}

/// A server that speaks OpenAI's chat completions.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct OpenAi {
    /// Where it is, with its version path: one URL, or several separated by commas. Default
    /// `https://api.openai.com/v1`.
    #[serde(deserialize_with = "base_urls::openai")]
    pub base_url: BaseUrls,
    /// Sent as a bearer token to every endpoint without credentials of its own. Default none, which a local
    /// server takes.
    pub api_key: Option<SecretString>,
    /// The model. Default `gpt-4o-mini`, as the original.
    pub model: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            provider: Provider::Ollama,
            connect_timeout: Duration::from_secs(5),
            first_byte_timeout: Duration::from_mins(2),
            resident_first_byte_timeout: Duration::from_secs(20),
            idle_timeout: Duration::from_secs(60),
            total_timeout: Duration::from_mins(10),
            max_answer: ByteSize::mib(1),
            max_line: ByteSize::mib(8),
            start_timeout: Duration::from_secs(30),
            breaker_faults: 3,
            breaker_rest: Duration::from_secs(1),
            breaker_rest_max: Duration::from_secs(4),
            swap_patience: Duration::from_secs(30),
            fallback_provider: None,
            ollama: Ollama::default(),
            openai: OpenAi::default(),
        }
    }
}

impl Default for Ollama {
    fn default() -> Self {
        Self {
            base_url: BaseUrl::default_of_ollama().into(),
            fallback_model: None,
            model: "llama3.2:latest".to_owned(),
            api_key: None,
            temperature: 0.7,
            max_concurrency: 32,
            num_ctx: None,
            keep_alive: None,
            pull: Pull::Never,
        }
    }
}

impl Default for OpenAi {
    fn default() -> Self {
        Self {
            base_url: BaseUrl::default_of_openai().into(),
            api_key: None,
            model: "gpt-4o-mini".to_owned(),
        }
    }
}
