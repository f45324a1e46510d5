//! The recorded runs of the service that weir replaces: the same nodes, the same states, the same results, or better
//! where docs/compatibility.md says so.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use weir::agents::{AgentState, Message, MessageError, add_messages, merge};
use weir::event::{self, Defaults};
use weir::graph::{Event, Observer, Options};
use weir::llm::Client;
use weir::record::{Epoch, Offset, PartitionId, Position, Record};
use weir::sink::{Limits, Topic};
use weir::telemetry::Metrics;
use weir::workflow::{
    Attempt, Config, Durability, Finished, Job, OnError, Outcome, Press, Recorder, Runner,
    agents_graph,
};

use crate::support::model_server::{ModelServer, Reply};
use crate::support::vectors::rows;

#[test]
fn reducer_vectors_agree() {
    let mut checked = 0;
    for row in rows("reducers.jsonl") {
        let name = row["name"].as_str().unwrap();
        let got = match row["reducer"].as_str().unwrap() {
            "merge_dicts" | "merge_agent_results" => merged(&row["left"], &row["right"]),
            "last_value" => Some(row["right"].clone()),
            "add_messages" => folded(&row),
            other => panic!("{name}: no reducer {other}"),
        };
        match (got, row["error"].is_null()) {
            (Some(got), true) => {
                assert_eq!(differences(&row["result"], &got, ""), [""; 0], "{name}")
            }
            (None, false) => {}
            (got, _) => panic!("{name}: expected error {}, got {got:?}", row["error"]),
        }
        checked += 1;
    }
    assert!(checked > 0);
}

fn merged(left: &Value, right: &Value) -> Option<Value> {
    let mut left = left.as_object()?.clone();
    merge(&mut left, right.as_object()?.clone());
    Some(left.into())
}

fn folded(row: &Value) -> Option<Value> {
    let updates = match row.get("updates") {
        Some(updates) => updates.as_array().unwrap().clone(),
        None => vec![row["right"].clone()],
    };
    let mut messages = Vec::new();
    add_messages(&mut messages, read(row.get("seed").unwrap_or_else(|| &row["left"])).ok()?);
    for update in updates {
        add_messages(&mut messages, read(&update).ok()?);
    }
    Some(serde_json::to_value(messages).unwrap())
}

fn read(value: &Value) -> Result<Vec<Message>, MessageError> {
    let mut count = 0;
    let mut new_id = || {
        count += 1;
        format!("generated-{count}-{}", std::ptr::from_ref(value) as usize)
    };
    let removals = |value: &Value| match value.get("$remove") {
        Some(id) => json!({"role": "remove", "content": "", "id": id}),
        None => value.clone(),
    };
    let value = match value.as_array() {
        Some(items) => Value::Array(items.iter().map(removals).collect()),
        None => removals(value),
    };
    Message::read(value, &mut new_id)
}

#[tokio::test(flavor = "multi_thread")]
async fn graph_run_vectors_agree() {
    let mut checked = 0;
    let mut wrong = Vec::new();
    for row in rows("graph_runs.jsonl") {
        // A second run on one thread goes on from the first one's checkpoint in the original: a listed defect.
        let invocation = &row["invocations"][0];
        if let Err(why) = check_run(&row, invocation).await {
            wrong.push(format!("{}: {why}", row["name"].as_str().unwrap()));
        }
        checked += 1;
    }
    assert!(checked > 0);
    assert!(wrong.is_empty(), "{} of {checked} rows differ:\n{}", wrong.len(), wrong.join("\n"));
}

async fn check_run(row: &Value, invocation: &Value) -> Result<(), String> {
    let replies: Vec<Reply> = serde_json::from_value(invocation["replies"].clone()).unwrap();
    let (url, server) = ModelServer::start(replies.clone()).await;
    let llm_error = invocation.pointer("/final_state/agent_results/llm_analysis/status")
        == Some(&json!("error"));
    let Some(client) = client(&row["env"], &url) else {
        // A setting that the original reinterprets is refused; what it then fails at never begins.
        let provider =
            row["env"]["LLM_PROVIDER"].as_str().unwrap_or_default().trim().to_lowercase();
        let refused = !["", "ollama", "openai", "auto"].contains(&provider.as_str());
        return if llm_error || refused { Ok(()) } else { Err("refused to start".into()) };
    };
    let failed = !invocation["exception"].is_null();
    let Some(state) = state(&invocation["input_state"]) else {
        return if failed { Ok(()) } else { Err("refused the input state".into()) };
    };
    let nodes = Nodes::default();
    let graph = agents_graph(Arc::new(client)).unwrap();
    let options = Options::new().recursion_limit(25).observer(&nodes);
    let ended = graph.run(state, &options).await;
    let nodes = nodes.0.into_inner().unwrap();
    let defect = replies.last().and_then(|reply| defect(reply, llm_error));
    let state = match ended {
        Err(_) if failed => return same("nodes", &invocation["nodes"], &json!(nodes)),
        Err(_) if llm_error || defect == Some(Defect::NoDone) => return Ok(()),
        Err(failure) => return Err(format!("failed: {failure}")),
        Ok(_) if failed => return Err("a success where the original fails".into()),
        Ok(_) if llm_error && defect == Some(Defect::Stricter) => return Ok(()),
        // An empty variable counts as unset.
        Ok(_) if llm_error && row["env"]["OLLAMA_MODEL"] == "" => return Ok(()),
        Ok(_) if llm_error => return Err("a success where the model failed".into()),
        Ok(state) => state,
    };
    same("nodes", &invocation["nodes"], &json!(nodes))?;
    same_requests(&invocation["requests"], &server)?;
    let want = &invocation["final_state"];
    let got = written(state);
    // The original stores the representation of an object: its text alone is what was wanted.
    let text = want
        .pointer("/agent_results/llm_analysis/result")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let text =
        text.strip_prefix("content='").and_then(|rest| rest.split("' additional_kwargs").next());
    let text = text.map(str::to_owned);
    if let Some(text) = &text {
        same("answer", &json!(text), &got["agent_results"]["llm_analysis"]["result"])?;
    }
    let mut found = differences(want, &got, "");
    if text.is_some() || defect == Some(Defect::AfterDone) {
        found.retain(|path| {
            !path.contains("llm_analysis/result") && !path.contains("output_length")
        });
    }
    if found.is_empty() { Ok(()) } else { Err(found.join("; ")) }
}

fn client(env: &Value, url: &str) -> Option<Client> {
    let port = url.rsplit(':').next().unwrap();
    let vars = env.as_object().unwrap().iter().map(|(name, value)| {
        (name.clone().into(), value.as_str().unwrap_or_default().replace("{PORT}", port).into())
    });
    let (config, _) = weir::config::load(vars).ok()?;
    Some(Client::new(&config.llm, Arc::new(|_| {})).unwrap())
}

/// Reads a state as the original's graph takes it: absent fields are empty, wrong ones are refused.
fn state(input: &Value) -> Option<AgentState> {
    let object = |name: &str| match input.get(name) {
        None => Some(Map::new()),
        Some(value) => value.as_object().cloned(),
    };
    let messages = match input.get("messages") {
        None => Vec::new(),
        Some(value) => {
            let mut messages = Vec::new();
            add_messages(&mut messages, read(value).ok()?);
            messages
        }
    };
    let completed = match input.get("completed") {
        Some(Value::Bool(done)) => *done,
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        _ => false,
    };
    Some(AgentState {
        messages,
        task: input.get("task").cloned().unwrap_or_else(|| json!("")),
        agent_results: object("agent_results")?,
        current_agent: input
            .get("current_agent")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
            .into(),
        completed,
        metadata: object("metadata")?,
        ..AgentState::default()
    })
}

fn written(state: AgentState) -> Value {
    let messages =
        state.messages.iter().map(|message| json!({"$message": message})).collect::<Vec<_>>();
    let (agent, mut result) = (state.current_agent.clone(), state.into_result());
    result.insert("messages".into(), messages.into());
    result.insert("current_agent".into(), agent.into());
    result.into()
}

#[derive(Default)]
struct Nodes(Mutex<Vec<String>>);

impl Observer<AgentState> for Nodes {
    fn on(&self, event: &Event<'_, AgentState>) {
        if let Event::Updated { node, .. } = event {
            self.0.lock().unwrap().push((*node).to_owned());
        }
    }
}

fn same(what: &str, want: &Value, got: &Value) -> Result<(), String> {
    if want == got { Ok(()) } else { Err(format!("{what}: recorded {want}, got {got}")) }
}

fn same_requests(want: &Value, server: &ModelServer) -> Result<(), String> {
    let got = server.requests();
    let want = want.as_array().unwrap();
    if want.len() != got.len() {
        return Err(format!("{} requests recorded, {} made", want.len(), got.len()));
    }
    for (want, got) in want.iter().zip(&got) {
        // What follows a redirect has no body.
        let mut body: Map<String, Value> = serde_json::from_slice(&got.body).unwrap_or_default();
        body.remove("prompt");
        let path = format!("{} {}", got.method, got.target);
        same(
            "request",
            &json!(format!(
                "{} {}",
                want["method"].as_str().unwrap(),
                want["path"].as_str().unwrap()
            )),
            &path.into(),
        )?;
        if body.remove("messages").is_some() {
            // Streamed where the original is not, so that a hung server is noticed.
            same("model", &want["body"]["model"], &body["model"])?;
        } else {
            let want = want["body"].as_object().cloned().unwrap_or_default();
            same("body", &want.into(), &body.into())?;
        }
    }
    Ok(())
}

/// Where weir reads a reply otherwise than the original, by what the reply looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defect {
    /// The stream is cut off: the original takes it for complete.
    NoDone,
    /// The original appends what comes after the end.
    AfterDone,
    /// The original refuses a stream that is whole.
    Stricter,
}

fn defect(reply: &Reply, llm_error: bool) -> Option<Defect> {
    let body: Vec<u8> = reply.chunks.iter().flat_map(weir_bytes).collect();
    let text = String::from_utf8_lossy(&body);
    if reply.status >= 300 || text.contains("\"choices\"") {
        return None;
    }
    let lines = text
        .lines()
        .map(|line| line.trim_start_matches('\u{feff}'))
        .filter(|line| !line.trim().is_empty());
    // The recorded client's JSON knows NaN.
    let lines = lines.map(|line| line.replace("NaN", "null"));
    let objects: Vec<Value> = lines
        .filter_map(|line| serde_json::from_str(&line).ok())
        .filter(Value::is_object)
        .collect();
    let first_done = objects.iter().position(|line| line["done"] == true);
    match first_done {
        None => Some(Defect::NoDone),
        Some(at) if at + 1 < objects.len() => Some(Defect::AfterDone),
        Some(_) if llm_error => Some(Defect::Stricter),
        Some(_) => None,
    }
}

fn weir_bytes(chunk: &crate::support::model_server::Chunk) -> Vec<u8> {
    use base64::Engine as _;
    match (&chunk.text, &chunk.b64) {
        (Some(text), _) => text.clone().into_bytes(),
        (None, Some(encoded)) => base64::prelude::BASE64_STANDARD.decode(encoded).unwrap(),
        (None, None) => Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn envelope_vectors_agree() {
    let mut checked = 0;
    let mut wrong = Vec::new();
    for row in rows("envelopes.jsonl") {
        let injected = |key: &str| {
            row.get(key).is_some_and(|value| !value.is_null() && *value != json!(false))
        };
        if injected("injected")
            || injected("send_failures_injected")
            || row.get("event_json").is_none()
        {
            continue;
        }
        if let Err(why) = check_envelope(&row).await {
            wrong.push(format!("{}: {why}", row["name"].as_str().unwrap()));
        }
        checked += 1;
    }
    assert!(checked > 0);
    assert!(wrong.is_empty(), "{} of {checked} rows differ:\n{}", wrong.len(), wrong.join("\n"));
}

async fn check_envelope(row: &Value) -> Result<(), String> {
    let replies: Vec<Reply> = row
        .get("replies")
        .map_or_else(Vec::new, |replies| serde_json::from_value(replies.clone()).unwrap());
    let outcome = run_event(row, replies).await;
    let values = row["messages"].as_array().unwrap().iter().map(|message| {
        // A text with a lone surrogate can't be read here: there is nothing to compare but that there is an answer.
        (
            message["kind"].as_str().unwrap(),
            serde_json::from_str(message["value_text"].as_str().unwrap())
                .unwrap_or_else(|_| json!("$NOW")),
        )
    });
    let values: Vec<(&str, Value)> = values.collect();
    let outcome = match (outcome, values.is_empty()) {
        (None, true) => return Ok(()),
        (None, false) => return Err("ignored an event that was answered".into()),
        (Some(_), true) => return Err("answered an event that was ignored".into()),
        (Some(outcome), false) => outcome,
    };
    let published = |topic: Topic| -> Vec<Value> {
        let records = outcome.records.iter().filter(|record| record.topic == topic);
        records
            .map(|record| serde_json::from_slice(&record.value).unwrap_or_else(|_| json!("$NOW")))
            .collect()
    };
    let [result] = published(Topic::Results)
        .try_into()
        .map_err(|all: Vec<_>| format!("{} results", all.len()))?;
    let letters = published(Topic::DeadLetters);
    let success =
        values.iter().rev().find(|(kind, _)| *kind == "result_success").map(|(_, value)| value);
    let llm_error = success
        .and_then(|value| value.pointer("/result/agent_results/llm_analysis/status"))
        == Some(&json!("error"));
    let found = match success {
        Some(_) if llm_error && letters.len() == 1 && result["status"] != "success" => Vec::new(),
        // The original's limit does not stop the work, so that a later attempt finds it done.
        Some(_)
            if row.get("workflow_timeout_s").is_some_and(Value::is_number)
                && result["status"] == "error" =>
        {
            Vec::new()
        }
        Some(want) => differences(want, &result, ""),
        None => {
            let letter = values.iter().find(|(kind, value)| *kind == "dlq" && value.is_object());
            let letter = letter.map(|(_, value)| value);
            let [got] =
                letters.try_into().map_err(|all: Vec<_>| format!("{} dead letters", all.len()))?;
            let same_status =
                if result["status"] == "success" { vec!["/status".to_owned()] } else { Vec::new() };
            let want = letter.map_or_else(|| json!({}), |want| json!({"original_event": want["original_event"], "context": want["context"]}));
            let got = json!({"original_event": got["original_event"], "context": got["context"]});
            let differ = if letter.is_some() { differences(&want, &got, "") } else { Vec::new() };
            [same_status, differ].concat()
        }
    };
    if found.is_empty() { Ok(()) } else { Err(found.join("; ")) }
}

async fn run_event(row: &Value, replies: Vec<Reply>) -> Option<Outcome> {
    let value = row["event_json"].as_str().unwrap().as_bytes().to_vec();
    let position = Position { partition: PartitionId(0), offset: Offset(7), epoch: Epoch(1) };
    let record = Record {
        position,
        timestamp_ms: None,
        key: None,
        value: Some(value.into()),
        deadline: None,
    };
    let limits = Limits { result_max: 1 << 20, dead_letter_max: 1 << 20, journal_max: 1 << 20 };
    let press = Arc::new(Press::new("events".into(), tokio::sync::watch::channel(limits).1));
    let event = match event::decode(record.value.as_deref(), || Defaults::of("events", &record)) {
        Ok(event) if event.event_type != event::EventType::Triggered => return None,
        Ok(event) => event,
        Err(invalid) => return Some(press.refused(&record, &invalid, Timestamp::now())),
    };
    let (url, _server) = ModelServer::start(replies).await;
    let env = json!({"OLLAMA_BASE_URL": url});
    let seconds = row.get("workflow_timeout_s").and_then(Value::as_f64).unwrap_or(300.0);
    let config = Config {
        execution_timeout: Duration::from_secs_f64(seconds),
        durability: Durability::Off,
        on_error: OnError::Fail,
        ..Config::default()
    };
    let (requests, _kept) = mpsc::channel(64);
    let recorder = Recorder::new(requests, config.durability);
    let graph = agents_graph(Arc::new(client(&env, &url).unwrap())).unwrap();
    let runner = Runner::new(graph, config, "model".into(), recorder, (press, Metrics::default()));
    let job =
        Job { event: Arc::new(event), timestamp_ms: None, expiry: None, ledger: runner.ledger() };
    for number in 1.. {
        let attempt = Attempt {
            position,
            job: job.clone(),
            number,
            last: number >= 4,
            may_move: false,
            effects: Default::default(),
        };
        if let Finished::Done { outcome, .. } = runner.attempt(attempt).await {
            return Some(outcome);
        }
    }
    None
}

/// Returns the paths at which `got` is not as recorded. Times, random ids and what depends on the prompt's words are
/// not compared.
fn differences(want: &Value, got: &Value, path: &str) -> Vec<String> {
    if path == "/timestamp" || matches!(want.as_str(), Some("$NOW" | "$generated" | "$UUID4")) {
        return Vec::new();
    }
    match (want, got) {
        (Value::Object(want), Value::Object(got)) => {
            let own = |name: &str| name == "input_length";
            let missing = want.iter().filter(|(name, _)| !own(name)).flat_map(|(name, want)| {
                match got.get(name) {
                    Some(got) => differences(want, got, &format!("{path}/{name}")),
                    None => vec![format!("{path}/{name}: missing")],
                }
            });
            let added = got.keys().filter(|name| !want.contains_key(*name) && !own(name));
            missing.chain(added.map(|name| format!("{path}/{name}: not in the record"))).collect()
        }
        (Value::Array(want), Value::Array(got)) if want.len() == got.len() => {
            let pairs = want.iter().zip(got).enumerate();
            pairs
                .flat_map(|(at, (want, got))| differences(want, got, &format!("{path}/{at}")))
                .collect()
        }
        _ if want == got || truth(want, got) || lone(want, got) => Vec::new(),
        _ => vec![format!("{path}: recorded {want:.80}, got {got:.80}")],
    }
}

/// The original keeps a truthy number where weir keeps `true`.
fn truth(want: &Value, got: &Value) -> bool {
    got.as_bool().is_some_and(|got| want.as_f64().is_some_and(|want| (want != 0.0) == got))
}

/// The rows spell lone surrogates as `$LONE(d800)`; weir keeps U+FFFD in their place.
fn lone(want: &Value, got: &Value) -> bool {
    let (Some(want), Some(got)) = (want.as_str(), got.as_str()) else { return false };
    want.contains("$LONE(") && want.split("$LONE(").next() == got.split(['$', '\u{fffd}']).next()
}
