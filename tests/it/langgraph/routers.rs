//! The conditionals of a row: what their routers answer, and where that leads.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use weir::graph::{END, START, Targets};

use super::neutral::{Channels, text};
use super::python::{hashed, printed};

/// What a router answers where its key is absent: the name of no node, and no JSON text.
const ABSENT: &str = "|absent";

/// The mapping of a conditional, by the JSON texts of its keys. Of keys that are equal to Python,
/// the last one's target counts.
fn mapping(op: &Value) -> BTreeMap<String, String> {
    let key = |key: &str| match op["json_keys"] == json!(true) {
        true => hashed(&serde_json::from_str(key).unwrap_or_default()),
        false => json!(key).to_string(),
    };
    match &op["mapping"] {
        Value::Object(map) => map.iter().map(|(from, to)| (key(from), text(to))).collect(),
        Value::Array(list) => list.iter().map(|to| (to.to_string(), text(to))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => BTreeMap::new(),
    }
}

/// The targets of a conditional. An empty mapping counts as none.
pub(crate) fn targets(op: &Value) -> Targets {
    let pairs: Vec<(String, String)> = mapping(op).into_iter().collect();
    if pairs.is_empty() { Targets::any() } else { pairs.into() }
}

/// What a router answers: with a mapping the JSON texts of the values, without one (`free`) node
/// names.
pub(crate) fn route(value: Option<&Value>, free: Option<&[String]>) -> Vec<String> {
    let Some(value) = value else {
        return vec![ABSENT.to_owned()];
    };
    let Some(nodes) = free else {
        return values(value).iter().map(hashed).collect();
    };
    let names = named(value).unwrap_or_else(|| vec![START.to_owned()]);
    let known = |name: &String| matches!(name.as_str(), START | END) || nodes.contains(name);
    names.into_iter().filter(known).collect()
}

/// Where the router that `op` declares leads, if anywhere.
pub(crate) fn leads(op: &Value, seen: &Channels) -> Option<Vec<String>> {
    let value = seen.view(op["key"].as_str()?)?;
    let mapping = mapping(op);
    if mapping.is_empty() {
        return named(value);
    }
    route(Some(value), None).iter().map(|name| mapping.get(name).cloned()).collect()
}

/// The class of the error when a router answers with `target`, which stands for nothing.
pub(crate) fn lost(target: &str) -> &'static str {
    match target {
        START => "ValueError",
        unhashable if unhashable.starts_with(['[', '{']) => "TypeError",
        _ => "KeyError",
    }
}

/// The names that a value stands for where there is no mapping.
fn named(value: &Value) -> Option<Vec<String>> {
    let name = |value: &Value| (!value.is_null() && *value != json!(START)).then(|| printed(value));
    values(value).iter().map(name).collect()
}

fn values(value: &Value) -> &[Value] {
    value.as_array().map_or_else(|| std::slice::from_ref(value), Vec::as_slice)
}
