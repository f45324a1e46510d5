//! What is told of every call: to figures and logs, and to whoever watches.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::call::Exchange;
use super::config::Provider;
use super::error::Fault;
use super::model::Usage;
use super::pool::BreakerState;

/// Is told what calls do. Called in the middle of a call: it must not block.
pub type Observer = Arc<dyn Fn(&Observation<'_>) + Send + Sync>;

/// What a call does.
#[derive(Debug, Clone, Copy)]
pub enum Observation<'a> {
    /// It got its turn after this time in line.
    Admitted(Duration),
    /// It is about to be sent to this endpoint, by its name in figures.
    Began(&'a str),
    /// It ended, one way or another; comes exactly once after each `Began`.
    Ended(CallReport<'a>),
    /// An endpoint rests from a model, is tried, or is asked again.
    Breaker {
        /// The endpoint's host and port.
        endpoint: &'a str,
        /// The model.
        model: &'a str,
        /// Where its breaker stands now.
        state: BreakerState,
    },
}

/// How a call ended.
#[derive(Debug, Clone, Copy)]
pub struct CallReport<'a> {
    /// The endpoint's host and port.
    pub endpoint: &'a str,
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

/// A call between `Began` and `Ended`; dropped on the way, it was cancelled.
pub(super) struct Running<'a> {
    observer: &'a Observer,
    call: Call<'a>,
    begun: Instant,
    ended: bool,
}

/// Which call it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) endpoint: &'a str,
    pub(super) provider: Provider,
    pub(super) model: &'a str,
}

impl<'a> Running<'a> {
    pub(super) fn begin(observer: &'a Observer, call: Call<'a>) -> Self {
        observer(&Observation::Began(call.endpoint));
        Self { observer, call, begun: Instant::now(), ended: false }
    }

    pub(super) fn end(&mut self, outcome: Result<&Exchange, &Fault>) {
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
        let Call { endpoint, provider, model } = self.call;
        let (provider, total) = (provider.as_str(), self.begun.elapsed());
        let report = CallReport { endpoint, provider, model, outcome, total, first_byte, usage };
        (self.observer)(&Observation::Ended(report));
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.report("cancelled", None, None);
        }
    }
}
