//! Agreement with recorded LangGraph runs: each row declares a graph in a neutral form, runs it,
//! and says what LangGraph did. The form is translated to the public API here; the engine does the
//! rest.
//!
//! Where the engine does better than LangGraph, the row's way is asked for explicitly: a router's
//! error is settled before a resume, and a router without mapping drops unknown names itself. A
//! join without sources is refused, whatever the row says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};
use weir::graph::{END, Error, Options, START, State as _, Status, Thread};

#[path = "langgraph/building.rs"]
mod building;
#[path = "langgraph/neutral.rs"]
mod neutral;
#[path = "langgraph/python.rs"]
mod python;
#[path = "langgraph/routers.rs"]
mod routers;

use crate::support::vectors::rows;
use building::{build, channels, is_better, is_reserved, refusal};
use neutral::{Channels, Raised, SharedLog, Watch, items, text, with_log};
use routers::{leads, lost};

#[test]
fn langgraph_vectors_agree_through_the_public_api() {
    agree("langgraph_semantics.jsonl");
}

#[test]
fn langgraph_vectors_of_rare_shapes_agree_too() {
    agree("langgraph_shapes.jsonl");
}

fn agree(file: &str) {
    let mut rows = rows(file);
    rows.retain(|row| row["meta"] != json!(true));

    let differing: Vec<String> = rows.iter().filter_map(|row| check(row).err()).collect();

    assert!(!rows.is_empty());
    let (count, all) = (differing.len(), rows.len());
    assert!(differing.is_empty(), "{count} of {all} rows differ:\n{}", differing.join("\n"));
}

/// Compares one row.
fn check(row: &Value) -> Result<(), String> {
    let (spec, expect) = (&row["graph"], &row["expect"]);
    let differs = |what: &str, ours: &Value, theirs: &Value| {
        Err(format!("{}: {what}\n  ours   {ours}\n  theirs {theirs}", row["name"]))
    };
    let agree = |what: &str, ours: &Value, theirs: &Value| {
        if ours == theirs { Ok(()) } else { differs(what, ours, theirs) }
    };
    let log = SharedLog::default();
    let (graph, refused) = match build(spec, &log) {
        Err(error) if is_better(&error, &expect["build_error"]) => return Ok(()),
        Err(error) => (None, refusal(spec, error.call())),
        // The engine has no channels by name.
        Ok(_) if channels(spec).any(|name| is_reserved(name)) => (None, refusal(spec, None)),
        Ok(graph) => (Some(graph), Value::Null),
    };
    agree("build", &refused, &expect["build_error"])?;
    let Some(graph) = graph else {
        return Ok(());
    };
    let count = |of: &Value| json!(items(&of["runs"]).count());
    agree("number of runs", &count(spec), &count(expect))?;
    let mut thread = graph.thread(Channels::new(&spec["channels"]));
    let mut row = Row { spec, log: &log, failed: BTreeSet::new() };
    for (at, (run, theirs)) in items(&spec["runs"]).zip(items(&expect["runs"])).enumerate() {
        if spec["checkpointer"] != json!(true) {
            thread = graph.thread(Channels::new(&spec["channels"]));
        }
        let ours = row.run(&mut thread, run);
        let racy = expect["racy_failure"] == json!(true) && !theirs["error"].is_null();
        for (what, theirs) in theirs.as_object().into_iter().flatten() {
            let (ours, what) = (ours.get(what).unwrap_or(&Value::Null), what.as_str());
            let agrees = match what {
                "executions" if racy => same_but_last(ours, theirs),
                "checkpoints" => without_unknown_next(ours, theirs) == *theirs,
                "error" => same_error(ours, theirs, racy),
                "state_after" | "next_after" | "pending_tasks" if racy => true,
                _ => ours == theirs,
            };
            if !agrees {
                return differs(&format!("run {at}, {what}"), ours, theirs);
            }
        }
    }
    Ok(())
}

/// The step is recorded where a node's body ran in it. Of siblings that fail together, LangGraph
/// takes the next best of a set, so that the same row gives now this and now that error.
fn same_error(ours: &Value, theirs: &Value, racy: bool) -> bool {
    let (class, step) = (&theirs["class"], &theirs["at_step"]);
    let same = ours["class"] == *class || racy && items(&ours["all"]).any(|ours| ours == class);
    same && (step.is_null() || ours["at_step"] == *step)
}

/// Siblings that fail together: in the last superstep, LangGraph may have missed some.
fn same_but_last(ours: &Value, theirs: &Value) -> bool {
    let step = |(ours, theirs): (&Value, &Value)| {
        let all: BTreeSet<String> = items(&ours["nodes"]).map(text).collect();
        ours["step"] == theirs["step"]
            && items(&theirs["nodes"]).all(|node| all.contains(&text(node)))
    };
    let pairs: Vec<(&Value, &Value)> = items(ours).zip(items(theirs)).collect();
    let earlier = pairs.len().saturating_sub(1);
    items(ours).count() == items(theirs).count()
        && pairs.iter().take(earlier).all(|(ours, theirs)| ours == theirs)
        && pairs.into_iter().all(step)
}

/// Our checkpoints, where theirs recorded what is next.
fn without_unknown_next(ours: &Value, theirs: &Value) -> Value {
    let mut ours = ours.clone();
    for (ours, theirs) in ours.as_array_mut().into_iter().flatten().zip(items(theirs)) {
        if theirs["next"].is_null() {
            ours["next"] = Value::Null;
        }
    }
    ours
}

struct Row<'a> {
    spec: &'a Value,
    log: &'a SharedLog,
    /// Nodes that have failed, with the superstep that was complete then. LangGraph keeps the mark
    /// when a later attempt succeeds, until the superstep is complete.
    failed: BTreeSet<(i64, String)>,
}

impl Row<'_> {
    /// Runs once on the thread and reports as the row does.
    fn run(&mut self, thread: &mut Thread<'_, Channels>, run: &Value) -> Value {
        with_log(self.log, |log| {
            log.executions.clear();
            log.checkpoints.clear();
            if !run["input"].is_null() {
                log.answers.insert(START.to_owned(), run["input"].clone());
            }
        });
        let watch = Watch(Arc::clone(self.log));
        let limit = run["recursion_limit"].as_i64().unwrap_or(10_007);
        let options =
            Options::new().recursion_limit(u32::try_from(limit).unwrap_or(0)).observer(&watch);
        let before = thread.state().writes;
        let resumes = run["input"].is_null();
        if resumes && limit > 0 {
            self.go_on_as_langgraph(thread);
        }
        let result = block_on(async {
            match resumes {
                true => thread.resume(&options).await,
                false => thread.start(run["input"].clone(), &options).await,
            }
        });
        let wrote = resumes || thread.state().writes > before;
        let values = || json!(thread.state().values);
        let (mut state_after, mut state_unreadable) = (Value::Null, Value::Null);
        match thread.preview() {
            _ if thread.step() < -1 => state_after = json!({}),
            Ok(state) => state_after = json!(state.values),
            // Input that is no object is refused before it is written.
            Err(Error::Invalid { field, .. }) if field.is_empty() => state_after = values(),
            Err(error) => state_unreadable = json!(self.class(thread, &error)),
        }
        let tasks = self.tasks(thread, result.is_err());
        let unfinished = tasks.iter().filter(|task| task["has_result"] == json!(false));
        json!({
            "executions": self.executions(),
            "checkpoints": with_log(self.log, |log| log.checkpoints.clone()),
            "final": if result.is_ok() && wrote { values() } else { Value::Null },
            "error": result.as_ref().err().map(|error| self.first(thread, error)),
            "state_after": state_after,
            // Their history shows what is stored as it is stored.
            "history_unreadable": Value::Null,
            "state_unreadable": state_unreadable,
            "next_after": unfinished.map(|task| &task["name"]).collect::<Vec<_>>(),
            "pending_tasks": tasks,
        })
    }

    /// Takes a node whose router failed as done if it wrote anything, and runs it again if not.
    fn go_on_as_langgraph(&mut self, thread: &mut Thread<'_, Channels>) {
        for pending in thread.pending() {
            if pending.status == Status::Unrouted {
                let found = if self.wrote(thread, &pending.node) {
                    thread.settle(&pending.node)
                } else {
                    // The start has no body to run again: its routers are asked in any case.
                    *pending.node == *START || thread.rerun(&pending.node)
                };
                assert!(found, "{} is unrouted", pending.node);
            }
        }
    }

    fn executions(&self) -> Value {
        let mut steps = BTreeMap::<i64, Vec<String>>::new();
        for (step, node) in with_log(self.log, |log| log.executions.clone()) {
            steps.entry(step).or_default().push(node);
        }
        let step = |(step, mut nodes): (i64, Vec<String>)| {
            nodes.sort_unstable();
            json!({ "step": step, "nodes": nodes })
        };
        steps.into_iter().map(step).collect()
    }

    fn tasks(&mut self, thread: &Thread<'_, Channels>, failed: bool) -> Vec<Value> {
        let mut tasks = Vec::new();
        for pending in thread.pending() {
            let (has_error, has_result) = match pending.status {
                // Input that could not be taken fails as the start's own error.
                Status::Waiting => (failed && *pending.node == *START, false),
                Status::Done => (false, true),
                Status::Failed => (true, false),
                Status::Unrouted => (true, self.wrote(thread, &pending.node)),
            };
            let place = (thread.step(), pending.node.to_string());
            let has_error = has_error || self.failed.contains(&place);
            tasks
                .push(json!({ "name": place.1, "has_error": has_error, "has_result": has_result }));
            if has_error {
                self.failed.insert(place);
            }
        }
        tasks
    }

    /// The error of the node that failed first, where we report the first in name order; and all.
    fn first(&self, thread: &Thread<'_, Channels>, error: &Error<Raised>) -> Value {
        let finished = with_log(self.log, |log| log.finished.clone());
        let when = |error: &&Error<Raised>| error.node().and_then(|node| finished.get(node));
        let mut errors: Vec<&Error<Raised>> = std::iter::once(error).chain(thread.also()).collect();
        errors.sort_by_key(when);
        let pending = thread.pending();
        let is_own = |error: &Error<Raised>| {
            let mut unrouted = pending.iter().filter(|of| of.status == Status::Unrouted);
            unrouted.any(|of| error.node() == Some(&*of.node))
        };
        let named = |error: &&Error<Raised>| {
            if is_own(error) { class(error) } else { self.class(thread, error) }
        };
        let classes: Vec<String> = errors.iter().map(named).collect();
        json!({ "class": classes.first(), "all": classes, "at_step": thread.step() + 1 })
    }

    /// The class of an error where all that was answered is applied. LangGraph goes channel by
    /// channel, we go node by node; so of several errors it may meet another one first.
    fn class(&self, thread: &Thread<'_, Channels>, error: &Error<Raised>) -> String {
        let (Error::Conflict { .. } | Error::Invalid { .. }) = error else {
            return class(error);
        };
        let unanswered = [Status::Waiting, Status::Failed];
        let updates: Vec<Value> = with_log(self.log, |log| {
            let pending = thread.pending().into_iter();
            let answered = pending.filter(|pending| !unanswered.contains(&pending.status));
            answered.filter_map(|pending| log.answers.get(&*pending.node).cloned()).collect()
        });
        let met = thread.state().first_error(&updates);
        met.map_or_else(|| class(error), str::to_owned)
    }

    /// Whether a node whose router failed had written something before: to a channel, along an
    /// edge, or where an earlier router of it led.
    fn wrote(&self, thread: &Thread<'_, Channels>, node: &str) -> bool {
        let channels = &self.spec["channels"];
        let channel = |key: &String| channels.get(key).is_some();
        let answer = with_log(self.log, |log| log.answers.get(node).cloned().unwrap_or_default());
        if answer.as_object().is_some_and(|answer| answer.keys().any(channel)) {
            return true;
        }
        // Nothing was written to a channel, so the routers saw the state as it is.
        let mut seen = thread.state().clone();
        seen.apply(answer);
        let mut ways = Vec::new();
        for op in items(&self.spec["ops"]) {
            let from = op["from"].as_str().unwrap_or(START);
            match text(&op["op"]).as_str() {
                "add_edge" | "set_entry_point" if from == node => ways.push(text(&op["to"])),
                "add_join" if items(&op["from"]).any(|from| *from == json!(node)) => {
                    ways.push(text(&op["to"]));
                }
                _ => {}
            }
        }
        let routers = items(&self.spec["ops"])
            .filter(|op| op["op"] == "add_conditional" && op["from"] == node);
        ways.extend(routers.map_while(|op| leads(op, &seen)).flatten());
        ways.iter().any(|to| to != END)
    }
}

/// The Python class that stands for one of our errors.
fn class(error: &Error<Raised>) -> String {
    let class = match error {
        // It can't leave the generator that waits for the node.
        Error::Node { source: Raised(class), .. } if class == "StopIteration" => "RuntimeError",
        Error::Node { source: Raised(class), .. } => class,
        Error::Invalid { reason, .. } => reason,
        Error::Conflict { .. } => "InvalidUpdateError",
        Error::RecursionLimit { limit: 0, .. } => "ValueError",
        Error::RecursionLimit { .. } => "GraphRecursionError",
        Error::NothingToResume => "EmptyInputError",
        Error::Route { target, .. } => lost(target),
        Error::Panic { .. }
        | Error::Timeout { .. }
        | Error::Cancelled { .. }
        | Error::Deadline { .. }
        | Error::Effects { .. } => "none of theirs",
    };
    class.to_owned()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    #[expect(clippy::expect_used, reason = "a test that gets no runtime has nothing to say")]
    runtime.enable_time().start_paused(true).build().expect("a runtime").block_on(future)
}
