//! `weir dev` from end to end, and the scripted model that it can ask.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::ChildStdout;
use weir::config;
use weir::llm::{ChatModel as _, Client, DoneReason, Presence, QueueTime, Request};

use super::*;

fn statuses(results: &[Value]) -> Vec<&str> {
    results.iter().map(|result| result["status"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn dev_once_needs_nothing_and_prints_a_result_for_each_sample() {
    let ended = weir(&["dev", "--once"], [("OLLAMA_BASE_URL", NOBODY)]).await;

    assert_eq!(ended.code, 0, "{}", ended.err);
    let results = ended.json();
    assert_eq!(statuses(&results), ["success", "success", "failure", "error"], "{}", ended.err);
    assert!(answer(&results[1]).starts_with(LABEL), "{}", results[1]);
    assert_eq!(results[2]["result"]["agent_results"]["data"]["result"], "data_processed");
    assert!(ended.err.contains("at least once"), "{}", ended.err);
    assert!(ended.err.contains("scripted, and every answer says so"), "{}", ended.err);
    for step in [
        "1    orchestrator",
        "2    data_agent",
        "4    analysis_agent",
        "6    llm_analysis",
        "7    orchestrator",
    ] {
        assert!(ended.err.contains(step), "{step} is not shown:\n{}", ended.err);
    }
    for class in ["agent.task_not_text", "event.schema"] {
        assert!(
            ended.err.contains(&format!("letter    {class}")),
            "{class} is not shown:\n{}",
            ended.err
        );
    }
    assert!(!ended.err.contains('\x1b'), "colours, though nobody can see them: {}", ended.err);
}

#[tokio::test]
async fn dev_asks_the_model_that_is_there() {
    let (url, model) = a_scripted_model().await;
    let compatible = format!("{url}/v1");
    let ollama = [("OLLAMA_BASE_URL", url.as_str())];
    let openai = [("LLM_PROVIDER", "openai"), ("OPENAI_BASE_URL", compatible.as_str())];

    let (ollama, openai) =
        tokio::join!(weir(&["dev", "--once"], ollama), weir(&["dev", "--once"], openai));

    for (ended, model) in [(ollama, "llama3.2:latest"), (openai, "gpt-4o-mini")] {
        assert_eq!(ended.code, 0, "{}", ended.err);
        assert!(ended.err.contains(&format!("{model} at http://")), "{}", ended.err);
        let results = ended.json();
        assert_eq!(statuses(&results), ["success", "success", "failure", "error"]);
        assert!(answer(&results[1]).starts_with(LABEL), "{}", results[1]);
        assert_eq!(results[1]["result"]["metadata"]["llm_metadata"]["model"], model);
    }
    assert_eq!(model.terminate().await, Some(0));
}

#[tokio::test]
async fn dev_once_says_which_sample_has_no_result_in_time() {
    let ended = weir(&["dev", "--once", "--timeout", "0s"], [("OLLAMA_BASE_URL", NOBODY)]).await;

    assert_eq!((ended.code, ended.out.as_str()), (1, ""));
    assert!(ended.err.contains("has no result"), "{}", ended.err);
}

fn dev(address: &str) -> Up<ChildStdout> {
    let variables = [("OLLAMA_BASE_URL", NOBODY), ("HTTP_ADDR", address)];
    let mut command = command(&["dev", "--port", "0"], variables);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    Up { child, lines }
}

#[tokio::test]
async fn dev_stays_up_for_events_of_others_until_it_is_told_to_end() {
    let address = free_address().to_string();
    let mut dev = dev(&address);
    dev.says("Up until Ctrl-C").await;
    let line = dev.says("KAFKA_BOOTSTRAP_SERVERS=").await;
    let servers = line.split(['=', ' ']).find(|word| word.contains("127.0.0.1:")).unwrap();

    let health = weir(&["healthcheck"], [("HTTP_ADDR", address.as_str())]).await;
    let task = ["publish", "--task", "Recommend a supplier", "--wait", "--timeout", "30s"];
    let published = weir(&task, [("KAFKA_BOOTSTRAP_SERVERS", servers)]).await;

    assert_eq!((health.code, health.err.as_str()), (0, ""));
    assert_eq!(published.code, 0, "{}", published.err);
    let result = &published.json()[0];
    assert!(answer(result).starts_with(LABEL), "{result}");
    assert!(
        published.err.contains(result["correlation_id"].as_str().unwrap()),
        "{}",
        published.err
    );
    dev.says("\"Recommend a supplier\"").await;
    dev.says("llm_analysis").await;
    assert_eq!(dev.terminate().await, Some(0));
}

/// Sends a request and returns the body of its answer.
async fn post(url: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).await.unwrap();
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[tokio::test]
async fn the_scripted_model_speaks_both_dialects_and_says_what_it_is() {
    let (url, model) = a_scripted_model().await;
    let compatible = format!("{url}/v1");
    for variables in [
        vec![("OLLAMA_BASE_URL", url.as_str())],
        vec![("LLM_PROVIDER", "openai"), ("OPENAI_BASE_URL", compatible.as_str())],
    ] {
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        let (config, _) = config::load(variables).unwrap();
        let client = Client::new(&config.llm, Arc::new(|_| ())).unwrap();

        let report = client.check().await.unwrap();
        let queue = QueueTime::default();
        let answer = client.ask(Request::prompt("Why is that?", &queue)).await.unwrap();

        assert_eq!(report.presence, Presence::Present);
        assert!(
            answer.text.starts_with(LABEL) && answer.text.ends_with("Why is that?"),
            "{}",
            answer.text
        );
        assert_eq!(answer.done_reason, DoneReason::Stop);
        assert!(answer.usage.unwrap().output_tokens > 5);
    }

    let whole = |body: &str| serde_json::from_str::<Value>(body).unwrap();
    let question = r#"{"model":"m","stream":false,"messages":[{"role":"user","content":"Why?"}]}"#;
    let chat = whole(&post(&url, "/api/chat", question).await);
    let completion = whole(&post(&url, "/v1/chat/completions", question).await);
    let nonsense = whole(&post(&url, "/api/generate", r#"{"model":""}"#).await);
    assert!(chat["message"]["content"].as_str().unwrap().starts_with(LABEL), "{chat}");
    assert_eq!((&chat["done"], &chat["done_reason"]), (&Value::from(true), &Value::from("stop")));
    assert!(
        completion["choices"][0]["message"]["content"].as_str().unwrap().starts_with(LABEL),
        "{completion}"
    );
    assert_eq!(nonsense["error"], "model is required");
    assert_eq!(model.terminate().await, Some(0));
}
