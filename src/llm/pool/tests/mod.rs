mod breaker;
mod busy;
mod lines;
mod rests;
mod silence;
mod swaps;

use std::sync::Arc;
use std::time::Duration;

use crate::llm::config::{Config, Ollama, Provider};
use crate::llm::door::Door;
use crate::llm::error::{Fault, Phase};

use super::*;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A pool of so many endpoints, which nobody asks anything.
fn pool(endpoints: usize, permits: usize, set: impl FnOnce(&mut Config)) -> Pool {
    let urls: Vec<_> = (0..endpoints).map(|n| format!("http://127.0.0.1:{}", 1 + n)).collect();
    let ollama = serde_json::json!({ "base_url": urls.join(","), "max_concurrency": permits });
    let ollama: Ollama = serde_json::from_value(ollama).unwrap();
    let mut config = Config { ollama, ..Config::default() };
    set(&mut config);
    let doors = config.ollama.base_url.iter().map(|url| Door::new(url, None, &config).unwrap());
    Pool::new(Provider::Ollama, doors.collect(), &config, Arc::new(|_| ()))
}

/// A pool of which it is told when an endpoint begins or ends to rest.
fn observed(endpoints: usize, told: impl Fn(BreakerState) + Send + Sync + 'static) -> Pool {
    let observer = move |seen: &Observation<'_>| {
        if let Observation::Breaker { state, .. } = seen {
            told(*state);
        }
    };
    Pool { observer: Arc::new(observer), ..pool(endpoints, 4, |_| ()) }
}

fn caller(stays: bool) -> Caller {
    Caller { stays, prompt: 0, turn: None }
}

async fn enter<'a>(pool: &'a Pool, model: &str) -> Permit<'a> {
    match pool.enter(&model.into(), caller(true), &QueueTime::default()).await {
        Ok(permit) => permit,
        Err(_) => panic!("no permit for {model}"),
    }
}

fn broken() -> Fault {
    Fault::ServerError { status: 500, after: None, message: "broken".to_owned() }
}

fn full() -> Fault {
    Fault::Overloaded { after: None, message: "full".to_owned() }
}

fn refused() -> Fault {
    Fault::Unreachable { reason: "refused".to_owned() }
}

fn place(permit: &Permit<'_>) -> usize {
    permit.grant.place
}
