//! A provider: its pool of endpoints, and what is asked there.

use std::sync::Arc;

use super::client::SetupError;
use super::config::{Config, Provider};
use super::door::Door;
use super::observe::Observer;
use super::pool::Pool;

/// A provider, and what is asked there.
pub(super) struct Desk {
    pub(super) pool: Pool,
    pub(super) model: Arc<str>,
    pub(super) fallback: Option<Arc<str>>,
}

/// The endpoint that a handle looks at.
#[derive(Clone)]
pub(super) struct View {
    pub(super) door: Arc<Door>,
    pub(super) provider: Provider,
    pub(super) model: Arc<str>,
}

impl Desk {
    pub(super) fn new(
        provider: Provider,
        config: &Config,
        observer: &Observer,
    ) -> Result<Self, SetupError> {
        let (ollama, openai) = (&config.ollama, &config.openai);
        let (urls, key, model, fallback) = match provider {
            Provider::Ollama => {
                (&ollama.base_url, &ollama.api_key, &ollama.model, ollama.fallback_model.as_deref())
            }
            Provider::OpenAi => (&openai.base_url, &openai.api_key, &openai.model, None),
        };
        let context = match provider {
            Provider::Ollama => ollama.num_ctx,
            Provider::OpenAi => None,
        };
        let doors = urls
            .iter()
            .map(|url| Door::new(url, key.as_ref(), config).map(|door| door.with_context(context)));
        let doors = doors.collect::<Result<Vec<_>, _>>()?;
        let pool = Pool::new(provider, doors, config, Arc::clone(observer));
        Ok(Self { pool, model: model.as_str().into(), fallback: fallback.map(Arc::from) })
    }

    pub(super) fn views(&self) -> impl Iterator<Item = View> {
        self.pool.doors().map(|door| View {
            door: Arc::clone(door),
            provider: self.pool.provider,
            model: Arc::clone(&self.model),
        })
    }
}
