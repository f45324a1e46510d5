//! The configuration: one environment in, one [`Config`] or every problem at once out.
//!
//! Each room owns its `Config` and reads nothing else. This one finds their variables, reads them through
//! envy, checks what one room can't see alone, and can say what came from where. All variables stand in
//! one table, and the documentation is written from it. It never reads the process's environment itself:
//! `main` hands that in.

mod check;
mod docs;
mod kind;
mod load;
mod near;
mod problem;
mod property;
mod table;

use std::time::Duration;

use serde::Deserialize;

use crate::{admin, dispatch, kafka, llm, telemetry, workflow};

pub use docs::{env_example, markdown};
pub use load::load;
pub use problem::{Problem, Problems, Warning};

/// Everything that can be configured, checked.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Where Kafka is, who we are there, and the limits of a transaction.
    pub kafka: kafka::Config,
    /// How much work is held at once, in which order it starts, how often it is tried.
    pub dispatch: dispatch::Config,
    /// The limits of one run.
    pub workflow: workflow::Config,
    /// Which model is asked, where, and for how long.
    pub llm: llm::Config,
    /// Where the operator's HTTP server listens.
    pub admin: admin::Config,
    /// How much is logged, and in which form.
    pub telemetry: telemetry::Config,
    /// The life of the process.
    pub service: Service,
    settings: Vec<Setting>,
}

/// The life of the process (`SHUTDOWN_GRACE`, `INSTANCE_ID`, `WORKER_THREADS`).
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Service {
    /// How long runs may go on after SIGTERM or SIGINT. Default `25s`, from 0 to 1 h.
    ///
    /// The default leaves 5 of the 30 seconds that Kubernetes waits for the last transaction and for
    /// leaving the group. Zero cancels at once; what is cancelled goes on elsewhere from the journal.
    #[serde(with = "humantime_serde")]
    pub shutdown_grace: Duration,
    /// The name of this instance, the same after a restart and unlike every other's. Default none: the
    /// host's name and the lowest number that is free on it.
    ///
    /// It names the transactional producer, so two live processes with one name fence each other, and a
    /// name that changes with each start leaves a crashed instance's transaction to its time-out.
    pub instance_id: Option<String>,
    /// How many threads run tasks, besides those of librdkafka. Default `0`, half of the cores; at most
    /// 1024.
    ///
    /// Events are cheap and models slow: one thread does ten thousand calls a second. On a small host
    /// a second one mostly takes turns with librdkafka's and costs a tenth more CPU.
    pub worker_threads: usize,
}

/// One variable as it came out, for an operator's eyes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The environment variable.
    pub variable: String,
    /// Its value, secrets redacted; empty when it has none.
    pub value: String,
    /// Where the value comes from.
    pub origin: Origin,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The table's default.
    Default,
    /// The variable itself.
    Environment,
    /// The file that the variable's `_FILE` names.
    File(String),
    /// Another variable, and why.
    Derived(&'static str),
}

impl Config {
    /// Returns every variable with its value and where that comes from, in the table's order.
    ///
    /// Only what [`load()`] found: a configuration that was put together by hand has none.
    #[must_use]
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }

    /// Returns the settings as lines that an env file takes, with the origin behind each; secrets are
    /// redacted.
    #[must_use]
    pub fn print(&self) -> String {
        let mut text = String::new();
        for Setting { variable, value, origin } in &self.settings {
            let line = match value.is_empty() {
                true => format!("#{variable}="),
                false => format!("{variable}={value}"),
            };
            let origin = match origin {
                Origin::Default if value.is_empty() => "not set".to_owned(),
                Origin::Default => "default".to_owned(),
                Origin::Environment => "environment".to_owned(),
                Origin::File(path) => format!("file {path}"),
                Origin::Derived(reason) => (*reason).to_owned(),
            };
            text.push_str(&format!("{line:<60} # {origin}\n"));
        }
        text
    }
}

impl Service {
    /// Returns how many threads run tasks: as many as are configured, or half of the cores that the process may use.
    #[must_use]
    pub fn threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        if self.worker_threads == 0 { cores().div_ceil(2) } else { self.worker_threads }
    }
}

impl Default for Service {
    fn default() -> Self {
        Self { shutdown_grace: Duration::from_secs(25), instance_id: None, worker_threads: 0 }
    }
}

#[cfg(test)]
mod tests;
