use std::borrow::Cow;

use serde_json::json;

use super::*;
use crate::graph::State;

fn state(task: Value, done: &[&str]) -> AgentState {
    let agent_results = done.iter().map(|agent| ((*agent).to_owned(), json!(null))).collect();
    AgentState { task, agent_results, ..AgentState::default() }
}

fn next(state: &AgentState) -> Option<Cow<'static, str>> {
    orchestrator(state).unwrap().current_agent
}

#[test]
fn the_orchestrator_takes_the_first_rule_that_fits() {
    let check = |task: &str, done: &[&str], expected: &str| {
        assert_eq!(
            next(&state(json!(task), done)).as_deref(),
            Some(expected),
            "{task} after {done:?}"
        );
    };

    check("list", &[], "data");
    check("list", &["data"], "analysis");
    check("list", &["data", "analysis"], "end");
    check("ANALYZE it", &["data", "analysis"], "llm_analysis");
    check("an indecision", &["data", "analysis"], "llm_analysis");
    check("analyse it", &["data", "analysis"], "end");
    check("analyze", &["data", "analysis", "llm_analysis"], "end");
}

#[test]
fn a_task_without_words_fails_only_when_its_words_matter() {
    assert!(orchestrator(&state(json!(7), &["data"])).is_ok());

    let error = orchestrator(&state(json!(7), &["data", "analysis"])).unwrap_err();

    assert_eq!(error.class(), "agent.task_not_text");
    assert_eq!(error.to_string(), "the task must be text, found a number");
}

#[test]
fn a_message_of_a_known_id_replaces_the_old_one_in_place() {
    let mut ids = 0;
    let mut new_id = || {
        ids += 1;
        format!("new-{ids}")
    };
    let mut read = |value| Message::read(value, &mut new_id).unwrap();
    let mut state = AgentState::default();
    let first = read(json!([{"role": "user", "content": "a", "id": "1"}, "b"]));
    let second = read(json!([{"role": "user", "content": "c", "id": "1"}, ["system", "d"]]));

    for messages in [first, second] {
        state.apply(AgentUpdate { messages: Some(messages), ..AgentUpdate::default() });
    }

    let said: Vec<_> =
        state.messages.iter().map(|message| message.content.as_str().unwrap()).collect();
    assert_eq!(said, ["c", "b", "d"]);
}
