//! A model that isn't one: for `weir dev` where no model answers, and for tests.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::sleep;

use super::error::Error;
use super::model::{Answer, ChatModel, DoneReason, Request, Timings, Usage};

/// What every answer of [`Scripted::labelled`] begins with.
const LABEL: &str = "[scripted: no model was asked]";

/// How much of the question [`Scripted::labelled`] repeats.
const EXCERPT_MAX: usize = 80;

type Reply = dyn Fn(&Request<'_>) -> Result<String, Error> + Send + Sync;

/// Answers by a function. Cheap to clone.
#[derive(Clone)]
pub struct Scripted {
    reply: Arc<Reply>,
    latency: Duration,
}

impl Scripted {
    /// Answers with what `reply` returns.
    pub fn new<F>(reply: F) -> Self
    where
        F: Fn(&Request<'_>) -> Result<String, Error> + Send + Sync + 'static,
    {
        Self { reply: Arc::new(reply), latency: Duration::ZERO }
    }

    /// Answers every question with a text that says, before anything else, that no model was asked.
    #[must_use]
    pub fn labelled() -> Self {
        Self::new(|request| {
            let question = request.question();
            // A prompt begins with who the model is to be; what it is asked comes after that.
            let part = question.split("\n\n").nth(1).unwrap_or(question);
            let excerpt: String = part.trim().chars().take(EXCERPT_MAX).collect();
            Ok(format!("{LABEL} It was asked: {excerpt}"))
        })
    }

    /// Takes this long for each answer.
    #[must_use]
    pub fn with_latency(self, latency: Duration) -> Self {
        Self { latency, ..self }
    }

    async fn answer(&self, request: Request<'_>) -> Result<Answer, Error> {
        if !self.latency.is_zero() {
            sleep(self.latency).await;
        }
        let text = (self.reply)(&request)?;
        let words = |text: &str| text.split_whitespace().count() as u64;
        Ok(Answer {
            model: "scripted".into(),
            instead_of: None,
            digest: None,
            usage: Some(Usage {
                input_tokens: words(request.question()),
                output_tokens: words(&text),
            }),
            done_reason: DoneReason::Stop,
            timings: Timings {
                first_byte: self.latency,
                total: self.latency,
                ..Timings::default()
            },
            text,
        })
    }
}

impl ChatModel for Scripted {
    fn ask<'a>(&'a self, request: Request<'a>) -> BoxFuture<'a, Result<Answer, Error>> {
        Box::pin(self.answer(request))
    }
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scripted").field("latency", &self.latency).finish_non_exhaustive()
    }
}
