//! What an endpoint said about which weights stand behind its models' names.
//!
//! Learned from lists that are asked for anyway; no call asks for it. Bounded: the names are a server's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::context::bare;

/// How many models are known.
const MODELS_MAX: usize = 64;

/// The digests of an endpoint's models, by their names without `:latest`.
#[derive(Debug, Default)]
pub(super) struct Digests(Mutex<BTreeMap<String, Arc<str>>>);

impl Digests {
    /// Takes note of the digest of a model; the latest counts.
    pub(super) fn learn(&self, model: &str, digest: &str) {
        let (name, mut known) = (bare(model), self.lock());
        if known.get(&name).is_some_and(|known| **known == *digest) {
            return;
        }
        if known.len() < MODELS_MAX || known.contains_key(&name) {
            known.insert(name, digest.into());
        }
    }

    /// Returns the digest of a model, as far as it is known.
    pub(super) fn of(&self, model: &str) -> Option<Arc<str>> {
        self.lock().get(&bare(model)).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<str>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
