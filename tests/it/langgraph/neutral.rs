//! The state and the nodes of a row in the neutral form: channels with Python's reducers, nodes
//! with rules.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering as Atomically};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};
use weir::graph::{Claims, Context, Event, Node, NodeFuture, Observer, Refusal, START, State};

use super::python::{canonical, contains, equal, is_number, is_true, order, sum};

/// A state whose channels a row declares.
#[derive(Debug, Clone)]
pub(crate) struct Channels {
    reducers: Arc<BTreeMap<String, String>>,
    /// The channels that are set.
    pub(crate) values: Map<String, Value>,
    /// What the last update had besides channels: seen by the routers of its node alone.
    besides: Map<String, Value>,
    /// How many channel writes there were.
    pub(crate) writes: usize,
}

/// A node's error, by the name of its Python class.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Raised(pub(crate) String);

impl Channels {
    /// The start values of the channels that a row declares.
    pub(crate) fn new(channels: &Value) -> Self {
        let reducer = |(name, spec): (&String, &Value)| (name.clone(), text(&spec["reducer"]));
        let reducers: BTreeMap<String, String> =
            channels.as_object().into_iter().flatten().map(reducer).collect();
        let start = |(name, reducer): (&String, &String)| {
            let value = match reducer.as_str() {
                "overwrite" => json!(""),
                "overwrite_false" => json!(false),
                "merge_dict" => json!({}),
                "append_list" => json!([]),
                "add_int" | "max_int" => json!(0),
                _ => return None,
            };
            Some((name.clone(), value))
        };
        let values = reducers.iter().filter_map(start).collect();
        Self { reducers: Arc::new(reducers), values, besides: Map::new(), writes: 0 }
    }

    /// The class of the error that LangGraph meets first when it applies `updates`: it goes channel
    /// by channel, in the order of their first writes.
    pub(crate) fn first_error(&self, updates: &[Value]) -> Option<&'static str> {
        let mut channels = Map::<String, Value>::new();
        let writes = updates.iter().filter_map(Value::as_object).flatten();
        for (name, value) in writes.filter(|(name, _)| self.reducers.contains_key(*name)) {
            let written = channels.entry(name).or_insert_with(|| json!([]));
            written.as_array_mut()?.push(value.clone());
        }
        let error = |(name, written): (&String, &Value)| match self.reducers.get(name)?.as_str() {
            "last_value" => (items(written).count() > 1).then_some("InvalidUpdateError"),
            reducer => items(written).any(|value| !fits(reducer, value)).then_some("TypeError"),
        };
        channels.iter().find_map(error)
    }

    /// What a router sees under `key`.
    pub(crate) fn view(&self, key: &str) -> Option<&Value> {
        self.values.get(key).or_else(|| self.besides.get(key))
    }
}

impl State for Channels {
    type Update = Value;
    type Error = Raised;

    fn check(&self, update: &Value, claims: &mut Claims<'_>) -> Result<(), Refusal> {
        let Some(update) = update.as_object() else {
            let refusal = || Err(Refusal::invalid("", "InvalidUpdateError"));
            return if update.is_null() { Ok(()) } else { refusal() };
        };
        for (name, value) in update {
            let reducer = self.reducers.get(name).map_or("", String::as_str);
            if reducer == "last_value" {
                claims.claim(name.clone())?;
            }
            if !fits(reducer, value) {
                return Err(Refusal::invalid(name, "TypeError"));
            }
        }
        Ok(())
    }

    fn apply(&mut self, update: Value) {
        self.besides.clear();
        let Value::Object(update) = update else {
            return;
        };
        for (name, value) in update {
            let Some(reducer) = self.reducers.get(&name) else {
                self.besides.insert(name, value);
                continue;
            };
            self.writes += 1;
            let old = self.values.entry(name).or_insert(Value::Null);
            match (reducer.as_str(), old, value) {
                ("merge_dict", Value::Object(old), Value::Object(new)) => old.extend(new),
                ("append_list", Value::Array(old), Value::Array(new)) => old.extend(new),
                ("add_int", old, new) => *old = sum(old, &new),
                ("max_int", old, new) if order(&new, old).is_none_or(Ordering::is_le) => {}
                (_, old, new) => *old = new,
            }
        }
    }
}

/// Whether a reducer takes a value, whatever it is reduced with.
fn fits(reducer: &str, value: &Value) -> bool {
    match reducer {
        "merge_dict" => value.is_object(),
        "append_list" => value.is_array(),
        "add_int" | "max_int" => is_number(value),
        _ => true,
    }
}

/// A JSON string's text.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A JSON array's values.
pub(crate) fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// What happened in one row, by superstep.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Node bodies, in the order in which they began.
    pub(crate) executions: Vec<(i64, String)>,
    /// Inputs and supersteps.
    pub(crate) checkpoints: Vec<Value>,
    /// The last event of each node: how many there were before it.
    pub(crate) finished: BTreeMap<String, usize>,
    events: usize,
    /// The last answer of each node.
    pub(crate) answers: BTreeMap<String, Value>,
}

impl Log {
    fn finish(&mut self, node: &str) {
        self.events += 1;
        self.finished.insert(node.to_owned(), self.events);
    }
}

/// The log of a row, for its nodes and its observer.
pub(crate) type SharedLog = Arc<Mutex<Log>>;

/// Reads or changes the log.
pub(crate) fn with_log<T>(log: &SharedLog, change: impl FnOnce(&mut Log) -> T) -> T {
    change(&mut log.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Writes down what the engine says.
pub(crate) struct Watch(pub(crate) SharedLog);

impl Observer<Channels> for Watch {
    fn on(&self, event: &Event<'_, Channels>) {
        with_log(&self.0, |log| match event {
            Event::Input { step, state } => log.checkpoints.push(json!({
                "step": step, "source": "input", "values": state.values, "next": [START],
            })),
            Event::Applied { step, state, next } => log.checkpoints.push(json!({
                "step": step, "source": "loop", "values": state.values,
                "next": next.iter().collect::<Vec<_>>(),
            })),
            Event::Updated { node, update, .. } => {
                log.answers.insert((*node).to_owned(), (*update).clone());
                log.finish(node);
            }
            Event::Failed { node, .. } => log.finish(node),
            Event::Planned { .. }
            | Event::Started { .. }
            | Event::Retried { .. }
            | Event::Done { .. }
            | Event::Aborted { .. } => {}
        });
    }
}

/// A node that does what its row says.
pub(crate) struct Behaviour {
    spec: Value,
    executed: AtomicU32,
    log: SharedLog,
}

impl Node<Channels> for Behaviour {
    fn run<'a>(&'a self, state: &'a Channels, context: Context<'a>) -> NodeFuture<'a, Channels> {
        NodeFuture::new(async move {
            let entry = (context.step, context.node.to_owned());
            with_log(&self.log, |log| log.executions.push(entry));
            let before = u64::from(self.executed.fetch_add(1, Atomically::Relaxed));
            let fail = self.spec.get("fail").unwrap_or(&Value::Null);
            tokio::time::sleep(Duration::from_millis(fail["delay_ms"].as_u64().unwrap_or(0))).await;
            let fails =
                fail["always"] == json!(true) || before < fail["first"].as_u64().unwrap_or(0);
            if fail.is_object() && fails {
                let class = fail["error"].as_str().unwrap_or("NodeFailure");
                return Err(Raised(canonical(class).to_owned()));
            }
            let answer = self.answer(state);
            if answer.is_null() || answer.is_object() {
                return Ok(answer);
            }
            Err(Raised("InvalidUpdateError".to_owned()))
        })
    }
}

impl Behaviour {
    /// The node that `spec` describes.
    pub(crate) fn new(spec: &Value, log: &SharedLog) -> Self {
        Self { spec: spec.clone(), executed: AtomicU32::new(0), log: Arc::clone(log) }
    }

    fn answer(&self, state: &Channels) -> Value {
        if let Some(raw) = self.spec.get("raw_return") {
            return raw.clone();
        }
        let fits = |rule: &&Value| items(&rule["if"]).all(|condition| holds(condition, state));
        let rules = self.spec.get("rules").unwrap_or(&Value::Null);
        let rule = items(rules).find(fits);
        rule.map_or(Value::Null, |rule| referred(&rule["update"], state))
    }
}

fn holds(condition: &Value, state: &Channels) -> bool {
    let (value, operator) = (&condition["value"], condition["op"].as_str().unwrap_or_default());
    let found = state.values.get(condition["key"].as_str().unwrap_or_default());
    if operator == "exists" {
        return found.is_some() == is_true(value);
    }
    let Some(found) = found else { return false };
    let ordered = |fits: fn(Ordering) -> bool| order(found, value).is_some_and(fits);
    let length = match found {
        Value::String(text) => Some(text.chars().count()),
        Value::Array(list) => Some(list.len()),
        Value::Object(map) => Some(map.len()),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    };
    match operator {
        "==" => equal(found, value),
        "!=" => !equal(found, value),
        "<" => ordered(Ordering::is_lt),
        "<=" => ordered(Ordering::is_le),
        ">" => ordered(Ordering::is_gt),
        ">=" => ordered(Ordering::is_ge),
        "has_key" => contains(found, value),
        "len<" => length.is_some_and(|length| order(&json!(length), value) == Some(Ordering::Less)),
        _ => false,
    }
}

fn referred(value: &Value, state: &Channels) -> Value {
    match value {
        Value::Object(map) => match map.get("$ref") {
            Some(name) if map.len() == 1 => {
                state.values.get(name.as_str().unwrap_or_default()).cloned().unwrap_or_default()
            }
            _ => map.iter().map(|(key, value)| (key.clone(), referred(value, state))).collect(),
        },
        Value::Array(list) => list.iter().map(|value| referred(value, state)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}
