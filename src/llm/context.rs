//! Whether a prompt fits into the model's context: looked at before it is sent, and again when it was answered.
//!
//! Ollama cuts a prompt that is too long and answers what is left, with status 200. Newer servers refuse it when they
//! are asked to, which a request that may be too long does; the rest is told by the count of tokens that were read:
//! a prompt that was cut fills the context to its last token.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::error::Fault;
use super::estimate::Estimate;
use super::model::Usage;
use super::pool::Resident;

/// How long it is believed what the server said of a context: another client, or a restart, may change it.
const BELIEVED: Duration = Duration::from_secs(60);

/// Fewer tokens than this fill no context that anybody works with, so such a count is not looked into.
const COUNT_MIN: u64 = 256;

/// Contexts are whole numbers of these, where nobody chose otherwise.
const CONTEXT_STEP: u64 = 256;

/// How many loaded models are looked at, and how many that were asked are known.
const MODELS_MAX: usize = 64;

/// What is known of the contexts of the models at one endpoint.
#[derive(Debug, Default)]
pub(super) struct Guard {
    configured: Option<u64>,
    learned: Mutex<BTreeMap<String, Learned>>,
}

#[derive(Debug, Clone)]
struct Learned {
    contexts: Contexts,
    at: Instant,
}

/// What a server says of the contexts of what it has loaded, in tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Contexts {
    /// The model is loaded with this one.
    Named(u64),
    /// The model is not in the list, but others are. Ollama loads a file of weights once and lists it under the
    /// first name that it was asked for by, so that one of these may be the model's.
    Others(Vec<u64>),
    /// It does not tell.
    #[default]
    Unknown,
}

/// What the count of an answered prompt shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// It was read whole.
    Whole,
    /// It depends on the context, which is not known or no longer.
    Open,
    /// It was cut.
    Cut,
}

impl Guard {
    /// Begins with what is configured.
    pub(super) fn new(configured: Option<u64>) -> Self {
        Self { configured, learned: Mutex::default() }
    }

    /// Refuses a prompt that can't fit, whatever the tokenizer.
    ///
    /// # Errors
    /// [`Fault::ContextOverflow`].
    pub(super) fn admit(&self, model: &str, estimate: Estimate, now: Instant) -> Result<(), Fault> {
        let least = estimate.least;
        match self.tokens(model, now) {
            Some(tokens) if least > tokens => {
                let message =
                    format!("at least {least} tokens, and the context holds {tokens}; not sent");
                Err(Fault::ContextOverflow { message })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Returns what the count of an answered prompt shows.
    pub(super) fn read(
        &self,
        model: &str,
        (estimate, usage): (Estimate, Option<Usage>),
        now: Instant,
    ) -> Reading {
        let count = usage.map_or(0, |usage| usage.input_tokens);
        if count < COUNT_MIN {
            return Reading::Whole;
        }
        if self.tokens(model, now).is_some_and(|tokens| count >= tokens) {
            return Reading::Cut;
        }
        let is_short = estimate.least > count;
        let was_cut = match self.learned(model, now) {
            None => return Reading::Open,
            Some(Contexts::Named(_)) => is_short,
            Some(Contexts::Others(others)) => {
                others.contains(&count) || is_usual_cut(is_short, count)
            }
            Some(Contexts::Unknown) => is_usual_cut(is_short, count),
        };
        if was_cut { Reading::Cut } else { Reading::Whole }
    }

    /// Takes in what the server says.
    pub(super) fn learn(&self, model: &str, contexts: Contexts, now: Instant) {
        let mut learned = self.lock();
        if learned.len() >= MODELS_MAX {
            learned.retain(|_, learned| learned.is_believed(now));
        }
        if learned.len() < MODELS_MAX || learned.contains_key(model) {
            learned.insert(model.to_owned(), Learned { contexts, at: now });
        }
    }

    /// Returns the context as far as it is known: a server cuts what is configured to what the model was made for.
    fn tokens(&self, model: &str, now: Instant) -> Option<u64> {
        let named = match self.learned(model, now) {
            Some(Contexts::Named(tokens)) => Some(tokens),
            Some(Contexts::Others(_) | Contexts::Unknown) | None => None,
        };
        named.into_iter().chain(self.configured).min()
    }

    fn learned(&self, model: &str, now: Instant) -> Option<Contexts> {
        let learned = self.lock();
        let believed = learned.get(model).filter(|learned| learned.is_believed(now));
        believed.map(|learned| learned.contexts.clone())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Learned>> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the context is not known: a count that no whole prompt has, and that is a context's usual size.
fn is_usual_cut(is_short: bool, count: u64) -> bool {
    is_short && count.is_multiple_of(CONTEXT_STEP)
}

/// Returns the fault of a prompt that was cut.
pub(super) fn cut(usage: Option<Usage>) -> Fault {
    let read = usage.map_or(0, |usage| usage.input_tokens);
    Fault::ContextOverflow {
        message: format!("the server read {read} tokens of it, all that its context holds"),
    }
}

impl Learned {
    fn is_believed(&self, now: Instant) -> bool {
        now.duration_since(self.at) < BELIEVED
    }
}

impl Contexts {
    /// Returns what a list of loaded models says of the context of `model`.
    pub(super) fn of(loaded: &[Resident], model: &str) -> Self {
        let known = loaded.iter().filter_map(|resident| {
            let tokens = resident.context_length.filter(|tokens| *tokens > 0)?;
            Some((resident.is(model), tokens))
        });
        let known: Vec<_> = known.take(MODELS_MAX).collect();
        match known.iter().find(|(named, _)| *named) {
            Some((_, tokens)) => Self::Named(*tokens),
            None if known.is_empty() => Self::Unknown,
            None => Self::Others(known.into_iter().map(|(_, tokens)| tokens).collect()),
        }
    }
}

/// Returns whether two names mean one model.
pub(super) fn same_model(a: &str, b: &str) -> bool {
    bare(a) == bare(b)
}

/// Returns a model's name as all its forms have it: a name without a tag is the latest.
pub(super) fn bare(name: &str) -> String {
    name.strip_suffix(":latest").unwrap_or(name).to_ascii_lowercase()
}
