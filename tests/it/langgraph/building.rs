//! The graph of a row, and what a row says of one that is refused.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use weir::graph::{BuildError, Builder, Fault, Graph, NodeOptions, Problem, Retry, Targets};

use super::neutral::{Behaviour, Channels, Raised, SharedLog, items, text};
use super::python::{ancestry, canonical, is_retried_by_default};
use super::routers::{lost, route, targets};

pub(crate) fn build(spec: &Value, log: &SharedLog) -> Result<Graph<Channels>, BuildError> {
    let name = |op: &Value| text(&op["name"]);
    let nodes: Vec<String> =
        items(&spec["ops"]).filter(|op| op["op"] == "add_node").map(name).collect();
    let add = |builder: Builder<Channels>, op: &Value| match text(&op["op"]).as_str() {
        "add_node" => {
            let node = spec["nodes"].get(text(&op["name"])).unwrap_or(&Value::Null);
            builder.node_with(text(&op["name"]), Behaviour::new(node, log), treatment(node))
        }
        "add_edge" => builder.edge(text(&op["from"]), text(&op["to"])),
        "add_join" => builder.join(items(&op["from"]).map(text), text(&op["to"])),
        "set_entry_point" => builder.entry(text(&op["to"])),
        "set_finish_point" => builder.finish(text(&op["from"])),
        _ => {
            let key = text(&op["key"]);
            let label = op["label"].as_str().map_or_else(|| format!("by_{key}"), str::to_owned);
            let targets = targets(op);
            // Without a mapping, names are used as they are, and those of no node are dropped.
            let free = (targets == Targets::any()).then(|| nodes.clone());
            let seen = move |state: &Channels| route(state.view(&key), free.as_deref());
            builder.conditional(text(&op["from"]), label, move |state| seen(state).into(), targets)
        }
    };
    items(&spec["ops"]).fold(Graph::builder(), add).build()
}

fn treatment(node: &Value) -> NodeOptions<Channels> {
    let mut options = NodeOptions::new();
    if node["defer"] == json!(true) {
        options = options.deferred();
    }
    if let Some(policy) = node["retry"].as_object() {
        let attempts = policy.get("max_attempts").map_or(Some(3), Value::as_u64);
        let attempts = attempts.and_then(|attempts| u32::try_from(attempts).ok()).unwrap_or(1);
        let listed: Option<BTreeSet<String>> = policy
            .get("retry_on")
            .filter(|on| !on.is_null())
            .map(|on| items(on).map(|class| canonical(&text(class)).to_owned()).collect());
        let worth = move |class: &str| match &listed {
            Some(listed) => ancestry(class).any(|class| listed.contains(class)),
            None => is_retried_by_default(class),
        };
        let first = policy.get("initial_interval_ms").and_then(Value::as_u64).unwrap_or(1);
        options = options.retry(Retry::by(move |attempt, fault| {
            let class = match fault {
                Fault::Failed(Raised(class)) => class,
                Fault::Refused { reason, .. } => reason,
                Fault::Unrouted { target, .. } => lost(target),
                Fault::Panicked(_) | Fault::TimedOut(_) => return None,
            };
            let wait = Duration::from_millis(first << attempt.saturating_sub(1).min(20));
            (attempt < attempts && worth(class)).then_some(wait)
        }));
    }
    options
}

/// The one thing that is refused here and not there: a join without sources. What LangGraph finds
/// wrong before it, we find too.
pub(crate) fn is_better(error: &BuildError, theirs: &Value) -> bool {
    let later =
        theirs["op_index"].as_u64().is_none_or(|at| error.call() < usize::try_from(at).ok());
    matches!(error.problem(), Problem::EmptyJoin { .. }) && later
}

/// What a row says of a graph that is refused at an op, or at the end of all.
pub(crate) fn refusal(spec: &Value, call: Option<usize>) -> Value {
    let op = call.and_then(|call| items(&spec["ops"]).nth(call));
    let phase = op.map_or_else(|| "compile".to_owned(), |op| text(&op["op"]));
    json!({ "phase": phase, "op_index": call, "class": "ValueError" })
}

pub(crate) fn channels(spec: &Value) -> impl Iterator<Item = &String> {
    spec["channels"].as_object().into_iter().flatten().map(|(name, _)| name)
}

/// LangGraph reserves the same names for channels as for nodes and one more, but finds that out at
/// the end.
pub(crate) fn is_reserved(name: &str) -> bool {
    let node = |_: &Channels| Ok::<Value, Raised>(Value::Null);
    let error = Graph::builder().node(name, node).entry(name).build().err();
    name == "__pregel_tasks"
        || error.is_some_and(|error| {
            error.call().is_none() && matches!(error.problem(), Problem::ReservedName { .. })
        })
}
