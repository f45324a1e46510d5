//! Commands that need nothing of the world.

use super::*;

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
