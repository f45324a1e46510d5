//! The engine's specification, by its public face.

mod building;
mod durable;
mod examples;
mod failing;
mod model;
mod properties;
mod retrying;
mod room;
mod running;
mod stopping;
mod threads;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::*;

state! {
    /// What the nodes of these tests share.
    #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
    pub(crate) struct Tally {
        /// Who ran, in order.
        pub(crate) log: Vec<String> => append,
        /// A sum.
        pub(crate) total: i64 => add,
        /// A maximum.
        pub(crate) best: i64 => max,
        /// Who wrote last in name order.
        pub(crate) last: String => overwrite,
        /// Written by one node per superstep.
        pub(crate) verdict: Option<String> => last_value,
        /// Marks by name.
        pub(crate) marks: std::collections::BTreeMap<String, i64> => merge,
        /// Longest names.
        pub(crate) longest: String => with(String, keep_longest),
    }
    /// What one node says.
    pub(crate) update Said;
    error Broken;
}

/// What a node of these tests fails with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("broken: {0}")]
pub(crate) struct Broken(pub(crate) u32);

fn keep_longest(longest: &mut String, name: String) {
    assert_ne!(name, "!", "a reducer that panics");
    if name.len() > longest.len() {
        *longest = name;
    }
}

/// A node that logs its name and counts.
fn says(name: &'static str) -> impl Fn(&Tally) -> Result<Said, Broken> + Send + Sync + 'static {
    move |_| Ok(Said::default().log(vec![name.to_owned()]).total(1).last(name.to_owned()))
}

/// A node that answers after a while, in paused time.
fn says_after(
    name: &'static str,
    wait: Duration,
) -> impl Fn(&Tally) -> futures_util::future::BoxFuture<'static, Result<Said, Broken>> {
    move |_| {
        Box::pin(async move {
            tokio::time::sleep(wait).await;
            Ok(Said::default().log(vec![name.to_owned()]))
        })
    }
}

/// A node that fails its first executions.
struct Flaky {
    failures: u32,
    executed: AtomicU32,
}

impl Flaky {
    fn new(failures: u32) -> Self {
        Self { failures, executed: AtomicU32::new(0) }
    }
}

impl Node<Tally> for Flaky {
    fn run<'a>(&'a self, _: &'a Tally, context: Context<'a>) -> NodeFuture<'a, Tally> {
        let before = self.executed.fetch_add(1, Ordering::Relaxed);
        NodeFuture::ready(if before < self.failures {
            Err(Broken(before))
        } else {
            Ok(Said::default().log(vec![format!("{}#{}", context.node, context.attempt)]))
        })
    }
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Runs on an empty state without options.
async fn run(graph: &Graph<Tally>) -> Result<Tally, Box<Failure<Tally>>> {
    graph.run(Tally::default(), &Options::new()).await
}
