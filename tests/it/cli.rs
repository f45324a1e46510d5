//! The commands as somebody types them: exit codes, what is data and what is talk, and `weir dev` from end to end.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "what is not there fails the test that asked for it"
)]

use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::{sleep, timeout};
use weir::config;
use weir::llm::{ChatModel as _, Client, DoneReason, Presence, QueueTime, Request};

use crate::support::kafka::{PATIENCE, World, alter, create};
use crate::support::process::Environment;

/// What every scripted answer begins with.
const LABEL: &str = "[scripted: no model was asked]";

/// A port that nobody listens on: 9 is reserved for throwing things away, and on no host of tests.
const NOBODY: &str = "127.0.0.1:9";

/// How a command ended.
struct Ended {
    code: i32,
    out: String,
    err: String,
}

impl Ended {
    /// Returns the data as JSON, one value per line.
    fn json(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn command<'v>(
    arguments: &[&str],
    variables: impl IntoIterator<Item = (&'v str, &'v str)>,
) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(arguments).env_clear().envs(variables).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs a command to its end in an environment that has nothing else.
async fn weir<'v>(
    arguments: &[&str],
    variables: impl IntoIterator<Item = (&'v str, &'v str)>,
) -> Ended {
    let ended = timeout(PATIENCE, command(arguments, variables).output()).await;
    let output = ended.unwrap_or_else(|_| panic!("weir {arguments:?} does not end")).unwrap();
    Ended {
        code: output.status.code().unwrap_or_else(|| panic!("weir {arguments:?} was killed")),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

const NOTHING: [(&str, &str); 0] = [];

/// Returns the environment of a world, with no model but the one at `model`.
fn world_with<'v>(environment: &'v Environment, model: &'v str) -> Vec<(&'v str, &'v str)> {
    let variables =
        environment.variables().iter().map(|(name, value)| (name.as_str(), value.as_str()));
    variables.chain([("OLLAMA_BASE_URL", model)]).collect()
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A command that stays up, and what it says on the stream that says when it is up.
struct Up<S> {
    child: Child,
    lines: Lines<BufReader<S>>,
}

impl<S: tokio::io::AsyncRead + Unpin> Up<S> {
    /// Waits for the line that holds `what`.
    async fn says(&mut self, what: &str) -> String {
        let heard = timeout(PATIENCE, async {
            let mut all = String::new();
            while let Some(line) = self.lines.next_line().await.unwrap() {
                if line.contains(what) {
                    return line;
                }
                all.push_str(&line);
                all.push('\n');
            }
            panic!("ended without saying {what:?}:\n{all}")
        });
        heard.await.unwrap_or_else(|_| panic!("never says {what:?}"))
    }

    /// Sends SIGTERM and returns the exit code. What it still says is read, so that it is not stopped by a full pipe.
    async fn terminate(mut self) -> Option<i32> {
        let id = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-s", "TERM", &id]).status().await.unwrap().success());
        let ended = timeout(PATIENCE, async {
            while self.lines.next_line().await.unwrap().is_some() {}
            self.child.wait().await.unwrap().code()
        });
        ended.await.expect("it ends")
    }
}

fn scripted_model(address: SocketAddr) -> Up<ChildStderr> {
    let address = address.to_string();
    let mut command = command(&["scripted-model", "--addr", &address], NOTHING);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    Up { child, lines }
}

/// Starts a scripted model, and returns its base URL with it.
async fn a_scripted_model() -> (String, Up<ChildStderr>) {
    let address = free_address();
    let mut model = scripted_model(address);
    model.says("scripted model at http://").await;
    (format!("http://{address}"), model)
}

#[tokio::test]
async fn every_command_explains_itself_by_examples() {
    let commands = [
        &[][..],
        &["run"],
        &["dev"],
        &["check"],
        &["publish"],
        &["healthcheck"],
        &["graph"],
        &["schema"],
        &["scripted-model"],
        &["completions"],
    ];
    for path in commands {
        let help = weir(&[path, &["--help"]].concat(), NOTHING).await;

        assert_eq!((help.code, help.err.as_str()), (0, ""), "{path:?}");
        assert!(help.out.contains("\nExamples:\n  "), "{path:?}: {}", help.out);
    }
    assert!(weir(&["--version"], NOTHING).await.out.starts_with("weir "));
}

#[tokio::test]
async fn what_is_no_command_line_is_told_on_stderr_and_exits_64() {
    let lines = [
        &["rum"][..],
        &["run", "--fast"],
        &["schema"],
        &["schema", "events"],
        &["publish"],
        &["publish", "--task", "x", "--data", "{"],
        &["publish", "--task", "x", "--data", r#"{"task":"y"}"#],
        &["publish", "--task", "x", "--timeout", "1s"],
        &["publish", "--task", "x", "--event-id", "7"],
        &["dev", "--once", "--port", "9092"],
        &["healthcheck", "--timeout", "soon"],
    ];
    for line in lines {
        let ended = weir(line, NOTHING).await;

        assert_eq!((ended.code, ended.out.as_str()), (64, ""), "{line:?}");
        assert!(
            ended.err.starts_with("error: ") || ended.err.contains("Usage: "),
            "{line:?}: {}",
            ended.err
        );
    }
}

const WRONG: [(&str, &str); 3] = [
    ("WORKFLOW_MAX_IN_FLIGHT", "0"),
    ("OLLAMA_BASE_URL", "ftp://models"),
    ("LOG_LEVEL", "verbose"),
];

#[tokio::test]
async fn a_wrong_configuration_exits_78_and_lists_every_problem() {
    for line in [
        &[][..],
        &["run"],
        &["check"],
        &["check", "--online"],
        &["publish", "--task", "x"],
        &["dev"],
    ] {
        let ended = weir(line, WRONG).await;

        assert_eq!((ended.code, ended.out.as_str()), (78, ""), "{line:?}");
        assert!(
            ended.err.starts_with("3 problems in the configuration\n"),
            "{line:?}: {}",
            ended.err
        );
        for (variable, value) in WRONG {
            assert!(
                ended.err.contains(&format!("{variable}={value:?}")),
                "{line:?}: {}",
                ended.err
            );
        }
    }

    let ended = weir(&["check", "--json"], WRONG).await;
    assert_eq!((ended.code, ended.err.as_str()), (78, ""));
    let report = &ended.json()[0];
    assert_eq!(report["ok"], false);
    let problems = report["problems"].as_array().unwrap();
    for (variable, value) in WRONG {
        let told = problems.iter().find(|problem| problem["variable"] == variable).unwrap();
        assert_eq!(told["value"], value);
        assert!(!told["remedy"].as_str().unwrap().is_empty(), "{told}");
    }
}

#[tokio::test]
async fn check_lists_the_settings_with_their_origin_and_without_secrets() {
    let variables = [
        ("OLLAMA_API_KEY", "hush-hush"),
        ("WORKFLOW_ORDERING", "key"),
        ("WORKFLOW_MEMROY", "1GiB"),
    ];

    let text = weir(&["check"], variables).await;
    let json = weir(&["check", "--json"], variables).await;

    assert_eq!((text.code, json.code), (0, 0));
    let line = |name: &str| text.out.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(line("WORKFLOW_ORDERING=key ").ends_with("# environment"), "{}", text.out);
    assert!(line("KAFKA_BOOTSTRAP_SERVERS=localhost:9092 ").ends_with("# default"), "{}", text.out);
    assert!(text.err.starts_with("warning: WORKFLOW_MEMROY"), "{}", text.err);
    assert!(![&text.out, &text.err, &json.out, &json.err].iter().any(|said| said.contains("hush")));
    assert_eq!(json.err, "");
    let report = &json.json()[0];
    assert_eq!(
        (&report["ok"], &report["problems"]),
        (&Value::from(true), &Value::Array(Vec::new()))
    );
    assert_eq!(report["warnings"][0]["variable"], "WORKFLOW_MEMROY");
    let ordering = report["settings"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["variable"] == "WORKFLOW_ORDERING");
    assert_eq!(ordering.unwrap()["origin"], "environment");
}

#[tokio::test]
async fn schemas_graph_and_completions_are_data() {
    for (name, field) in
        [("event", "event_id"), ("result", "correlation_id"), ("dead-letter", "dlq_id")]
    {
        let ended = weir(&["schema", name], NOTHING).await;

        assert_eq!((ended.code, ended.err.as_str()), (0, ""));
        let schema: Value = serde_json::from_str(&ended.out).unwrap();
        assert!(schema["properties"][field].is_object(), "{name}");
    }
    for (format, begin) in [("mermaid", "flowchart"), ("dot", "digraph")] {
        let ended = weir(&["graph", "--format", format], NOTHING).await;

        assert_eq!((ended.code, ended.err.as_str()), (0, ""));
        assert!(ended.out.contains(begin), "{}", ended.out);
        for node in ["orchestrator", "data_agent", "analysis_agent", "llm_analysis"] {
            assert!(ended.out.contains(node), "{format} lacks {node}");
        }
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ended = weir(&["completions", shell], NOTHING).await;

        assert_eq!((ended.code, ended.err.as_str()), (0, ""));
        assert!(ended.out.contains("scripted-model"), "{shell}");
    }
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_a_command_quietly() {
    let mut command = command(&["completions", "bash"], NOTHING);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());

    let output = timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();

    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}

#[tokio::test]
async fn a_health_check_that_nobody_answers_exits_69() {
    let nobody = weir(&["healthcheck", "--addr", NOBODY], NOTHING).await;
    let by_variable = weir(&["healthcheck", "--live"], [("HTTP_ADDR", NOBODY)]).await;
    let off = weir(&["healthcheck"], [("HTTP_ADDR", "off")]).await;

    assert_eq!((nobody.code, by_variable.code, off.code), (69, 69, 69));
    assert_eq!(
        nobody.err,
        format!("error: connect to {NOBODY}: Connection refused (os error 111)\n")
    );
    assert_eq!((nobody.out.as_str(), by_variable.err), ("", nobody.err));
    assert!(off.err.contains("HTTP_ADDR=off"), "{}", off.err);
}

fn statuses(results: &[Value]) -> Vec<&str> {
    results.iter().map(|result| result["status"].as_str().unwrap()).collect()
}

fn answer(result: &Value) -> &str {
    result["result"]["agent_results"]["llm_analysis"]["result"].as_str().unwrap_or_default()
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
        let answer = client
            .ask(Request { system: None, prompt: "Why is that?", queue: &queue })
            .await
            .unwrap();

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

#[tokio::test]
async fn publish_and_check_say_what_does_not_answer_and_exit_69() {
    let variables = [("KAFKA_BOOTSTRAP_SERVERS", NOBODY), ("OLLAMA_BASE_URL", NOBODY)];

    let (publish, check) = tokio::join!(
        weir(&["publish", "--task", "x"], variables),
        weir(&["check", "--online"], variables)
    );

    let reason = format!("no broker reachable at {NOBODY}: Connection refused");
    assert_eq!(
        (publish.code, publish.out.as_str(), publish.err),
        (69, "", format!("error: {reason}\n"))
    );
    assert_eq!(check.code, 69);
    assert!(check.out.contains(&format!("\nfailed  brokers: {reason}; ")), "{}", check.out);
    assert!(
        check.out.contains("\nfailed  model llama3.2:latest: http://127.0.0.1:9: "),
        "{}",
        check.out
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn publish_waits_for_the_result_of_its_own_event() {
    let world = World::new("cli-publish", 2).await;
    let (url, _model) = a_scripted_model().await;
    let environment = Environment::of(&world).set("OLLAMA_BASE_URL", &url);
    let mut weir_runs = environment.start();
    weir_runs.ready().await;
    let variables = world_with(&environment, &url);
    let publish =
        async |more: &[&str]| weir(&[&["publish"], more].concat(), variables.clone()).await;

    let (plain, asked, alone) = tokio::join!(
        publish(&["--task", "Count the stock", "--wait"]),
        publish(&[
            "--task",
            "Analyze sales",
            "--data",
            r#"{"region":"EMEA"}"#,
            "--workflow-id",
            "sales",
            "--run-id",
            "7",
            "--event-id",
            "0b5e8f2a-1c3d-4e5f-8a9b-0c1d2e3f4a5b",
            "--key",
            "k",
            "--wait",
        ]),
        publish(&["--task", "Count the stock"]),
    );

    for ended in [&plain, &asked, &alone] {
        assert_eq!(ended.code, 0, "{}", ended.err);
    }
    let (plain, asked) = (&plain.json()[0], &asked.json()[0]);
    assert_eq!(
        (&plain["status"], &plain["result"]["task"]),
        (&"success".into(), &"Count the stock".into())
    );
    assert_eq!(plain["correlation_id"], plain["workflow_run_id"]);
    assert_eq!(asked["correlation_id"], "0b5e8f2a-1c3d-4e5f-8a9b-0c1d2e3f4a5b");
    assert_eq!((&asked["workflow_id"], &asked["workflow_run_id"]), (&"sales".into(), &"7".into()));
    assert!(answer(asked).starts_with(LABEL), "{asked}");
    uuid::Uuid::parse_str(alone.out.trim_end()).unwrap();
    weir_runs.signal("TERM").await;
    assert_eq!(weir_runs.ended().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn publish_exits_1_for_a_result_that_is_no_success() {
    let world = World::new("cli-failure", 1).await;
    let environment = Environment::of(&world)
        .set("OLLAMA_BASE_URL", NOBODY)
        .set("LLM_START_TIMEOUT", "1s")
        .set("WORKFLOW_MAX_ATTEMPTS", "1");
    let _weir = environment.start();
    let variables = world_with(&environment, NOBODY);
    // The results topic is made by weir when it starts.
    let task = ["publish", "--task", "Analyze sales", "--wait", "--timeout", "30s"];
    let mut ended = weir(&task, variables.clone()).await;
    while ended.code == 69 && ended.err.contains("does not exist") {
        sleep(Duration::from_millis(100)).await;
        ended = weir(&task, variables.clone()).await;
    }

    assert_eq!(ended.code, 1, "{}", ended.err);
    let result = &ended.json()[0];
    assert_ne!(result["status"], "success");
    assert!(result["error"].as_str().unwrap().contains("no connection"), "{result}");
}

#[tokio::test(flavor = "multi_thread")]
async fn publish_that_nobody_answers_exits_69() {
    let world = World::new("cli-unanswered", 1).await;
    let environment = Environment::of(&world);
    let variables = world_with(&environment, NOBODY);
    let task = ["publish", "--task", "x", "--wait", "--timeout", "100ms"];

    let no_results = weir(&task, variables.clone()).await;
    create(&world.config.workflow_results_topic, 1, &[]).await;
    let no_weir = weir(&task, variables.clone()).await;
    let nowhere = World::nowhere("cli-nowhere");
    let environment = Environment::of(&nowhere);
    let no_events = weir(&task, world_with(&environment, NOBODY)).await;

    for ended in [&no_results, &no_weir, &no_events] {
        assert_eq!((ended.code, ended.out.as_str()), (69, ""), "{}", ended.err);
    }
    assert!(no_results.err.contains(&world.config.workflow_results_topic), "{}", no_results.err);
    assert!(no_weir.err.contains("within 100ms; the event is published"), "{}", no_weir.err);
    assert!(no_events.err.contains(nowhere.events()), "{}", no_events.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_online_finds_what_a_run_needs_and_changes_nothing() {
    let world = World::nowhere("cli-check");
    let (url, _model) = a_scripted_model().await;
    let environment = Environment::of(&world);
    let variables = world_with(&environment, &url);
    let check = async || weir(&["check", "--online"], variables.clone()).await;
    let config = &world.config;

    let bare = check().await;
    let again = check().await;
    create(world.events(), 2, &[]).await;
    let fresh = check().await;
    create(&config.journal_topic, 1, &[("cleanup.policy", "compact")]).await;
    create(&config.workflow_results_topic, 2, &[("max.message.bytes", "2000000")]).await;
    let too_small = check().await;

    assert_eq!((bare.code, &bare.out), (69, &again.out), "a check made a difference");
    assert!(
        bare.out.contains(&format!("failed  topic {}: does not exist", world.events())),
        "{}",
        bare.out
    );
    assert_eq!(fresh.code, 0, "{}", fresh.out);
    for line in [
        format!("ok      brokers: {} answers\n", config.bootstrap_servers),
        format!("ok      topic {}: 2 partitions, 1 replica\n", world.events()),
        format!(
            "ok      topic {}: does not exist yet; weir creates it when it starts\n",
            config.dlq_topic
        ),
        "ok      transactions: initialised as ".to_owned(),
        format!("ok      model llama3.2:latest: present at {url}"),
    ] {
        assert!(fresh.out.contains(&line), "{line}is not in\n{}", fresh.out);
    }
    assert_eq!(too_small.code, 69);
    assert!(
        too_small.out.contains("has 1 partitions, the events topic 2: add partitions"),
        "{}",
        too_small.out
    );
    assert!(
        too_small.out.contains("2 partitions, 1 replica, records up to 2000000 bytes"),
        "{}",
        too_small.out
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn check_online_refuses_a_journal_that_loses_effects() {
    let world = World::new("cli-journal", 1).await;
    let (url, _model) = a_scripted_model().await;
    let environment = Environment::of(&world);
    let journal = &world.config.journal_topic;
    create(journal, 1, &[("cleanup.policy", "compact")]).await;

    let compacted = weir(&["check", "--online"], world_with(&environment, &url)).await;
    alter(journal, "cleanup.policy", "delete").await;
    let healed = weir(&["check", "--online"], world_with(&environment, &url)).await;

    assert_eq!((compacted.code, healed.code), (69, 0), "{}", healed.out);
    assert!(
        compacted.out.contains("has cleanup.policy=compact, which loses effects"),
        "{}",
        compacted.out
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn check_online_without_transactions_does_not_ask_for_them() {
    let world = World::new("cli-plain", 1).await;
    let (url, _model) = a_scripted_model().await;
    let environment = Environment::of(&world).set("DELIVERY_GUARANTEE", "at_least_once");

    let ended = weir(&["check", "--online"], world_with(&environment, &url)).await;

    assert_eq!(ended.code, 0, "{}", ended.out);
    assert!(ended.out.contains("ok      transactions: not used"), "{}", ended.out);
}
