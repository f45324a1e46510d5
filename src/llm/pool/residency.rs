//! Which models an Ollama says are loaded: `/api/ps`.
//!
//! A hint, not a promise: an entry appears when a load begins, and a runner that died stays listed. While a model loads
//! its `expires_at` moves with the clock, and at each answer it is set anew: one that stands still is of a model that
//! is loaded and finishes nothing.

use std::time::Duration;

use reqwest::Method;
use serde::Deserialize;

use crate::llm::call::{self, Clock, Deadlines};
use crate::llm::door::Door;
use crate::llm::error::Fault;
use crate::llm::ollama_request::PS;

/// How long an Ollama may take to say what is loaded; it needs no model for that and answers at once, whatever it does.
pub(in crate::llm) const PATIENCE: Duration = Duration::from_millis(1200);

/// The longest list that is read.
const BODY_MAX: usize = 1024 * 1024;

/// A model that is loaded, or being loaded.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(in crate::llm) struct Running {
    name: String,
    /// Of its manifest, so that two names of one file of weights have two.
    digest: Option<String>,
    #[serde(default)]
    pub(super) expires_at: String,
    /// In tokens, for each of its slots; older servers don't tell.
    pub(in crate::llm) context_length: Option<u64>,
}

#[derive(Default, Deserialize)]
struct Listed {
    #[serde(default)]
    models: Vec<Running>,
}

impl Running {
    /// Returns whether it is the model of this name; names without a tag mean the latest.
    pub(in crate::llm) fn is(&self, model: &str) -> bool {
        let bare = |name: &str| name.strip_suffix(":latest").unwrap_or(name).to_owned();
        bare(&self.name).eq_ignore_ascii_case(&bare(model))
    }
}

/// Asks what is loaded. An answer that makes no sense lists nothing: the server is there all the same.
///
/// # Errors
/// When nothing answers in time.
pub(in crate::llm) async fn ask(door: &Door) -> Result<Vec<Running>, Fault> {
    let clock = Clock::start(Deadlines {
        connect: PATIENCE,
        first_byte: PATIENCE,
        idle: PATIENCE,
        total: PATIENCE,
    });
    let mut response = clock.send(door.http(), door.request(Method::GET, PS)).await?;
    let body = call::read(&clock, &mut response, BODY_MAX).await?;
    let listed = serde_json::from_slice::<Listed>(&body).unwrap_or_default();
    for Running { name, digest, .. } in &listed.models {
        digest.iter().for_each(|digest| door.digests().learn(name, digest));
    }
    Ok(listed.models)
}
