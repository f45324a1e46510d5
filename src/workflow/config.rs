//! The limits of one run, and what becomes of its effects.
//!
//! One variable per field: `WORKFLOW_` and the field's name in upper case, but for `LLM_ON_ERROR`.

use std::time::Duration;

use serde::Deserialize;

/// How one event is run.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Config {
    /// How long one attempt may take, the time in queues not counted. Default `300s`, as the original;
    /// from 1 s to 24 h, and a bare number means seconds.
    ///
    /// At its end the run is dropped and its call to the model is closed. Too short, and long answers
    /// are paid for and thrown away; too long, and a stuck model holds its permit.
    #[serde(with = "humantime_serde")]
    pub execution_timeout: Duration,
    /// Whether answers that a run has paid for are kept until its result is there. Default `sync`.
    pub durability: Durability,
    /// The most supersteps of one run. Default `25`, as the graph engine's users know it; from 1 to
    /// 10,000.
    ///
    /// The multi-agent graph takes seven. A graph that circles ends here with a `failure`.
    pub recursion_limit: u32,
    /// The most calls of a model that one run may make, over all of its attempts. Default `0`, no limit;
    /// at most 1,000,000.
    ///
    /// An answer from the journal counts as the call that it was. A run that may make no more ends as
    /// `failure`; for one that asks once, a number below `WORKFLOW_MAX_ATTEMPTS` is the stricter limit.
    pub budget_calls: u64,
    /// The most tokens that one run may use, of prompts and answers together. Default `0`, no limit.
    ///
    /// As the model counted them: where a server does not, or a call brought no answer, it is 0. What is
    /// used is known when a call ends, so the last one may go beyond the limit.
    pub budget_tokens: u64,
    /// The most time that one run may spend in calls, over all of its attempts. Default `0s`, no limit; at
    /// most 24 h.
    ///
    /// It is the models' time: from a call's beginning to its end, failed calls included, time in line not.
    /// [`execution_timeout`](Self::execution_timeout) limits one attempt and starts anew with the next; a
    /// call that has begun is cut off by that, never by this.
    #[serde(with = "humantime_serde")]
    pub budget_time: Duration,
    /// What an error of the model does to its run (`LLM_ON_ERROR`). Default `fail`.
    #[serde(rename = "llm_on_error")]
    pub on_error: OnError,
}

/// What waits until a node's effect, which changes the world or costs money, is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// The run's next effect waits until this one is committed, and its result is committed with it or after it: a crash
    /// never repeats what was committed.
    Sync,
    /// Nothing waits while the journal is written: a crash may repeat the last ones.
    Async,
    /// Nothing is written: a crash repeats all effects of the run.
    Off,
}

/// What an error of the model does to its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// The run fails: it is tried again, then ends with a dead letter and a result that says so.
    Fail,
    /// The error is written into the agent's results and the run goes on to `success`, as the original.
    Degrade,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            execution_timeout: Duration::from_secs(300),
            durability: Durability::Sync,
            recursion_limit: 25,
            budget_calls: 0,
            budget_tokens: 0,
            budget_time: Duration::ZERO,
            on_error: OnError::Fail,
        }
    }
}
