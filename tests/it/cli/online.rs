//! Commands that ask a real broker.

use std::time::Duration;

use tokio::time::sleep;

use crate::security::{secured, variable};
use crate::support::kafka::{World, alter, create};
use crate::support::model_server::{ModelServer, Reply};
use crate::support::process::Environment;

use super::*;

/// Returns the environment of a world, with no model but the one at `model`.
fn world_with<'v>(environment: &'v Environment, model: &'v str) -> Vec<(&'v str, &'v str)> {
    let variables =
        environment.variables().iter().map(|(name, value)| (name.as_str(), value.as_str()));
    variables.chain([("OLLAMA_BASE_URL", model)]).collect()
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

    let late = weir(&[&task[..], &["--deadline", "0s"]].concat(), variables).await;
    assert_eq!(late.code, 1, "{}", late.err);
    assert!(late.out.contains("its header weir-deadline said"), "{}", late.out);
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
    alter(journal, "retention.bytes", "1000000").await;
    let cut = weir(&["check", "--online"], world_with(&environment, &url)).await;

    assert_eq!((compacted.code, healed.code, cut.code), (69, 0, 0), "{}", healed.out);
    assert!(!healed.out.contains("retention.bytes"), "{}", healed.out);
    assert!(cut.out.contains("set retention.bytes=-1"), "{}", cut.out);
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

#[tokio::test(flavor = "multi_thread")]
async fn check_online_looks_for_the_fallback_model_as_well() {
    let world = World::new("cli-fallback", 1).await;
    let (url, server) = ModelServer::start(Vec::new()).await;
    let missing = Reply::json(404, r#"{"error":"no such model"}"#);
    server.page("/api/show", [missing]);
    let environment = Environment::of(&world).set("OLLAMA_FALLBACK_MODEL", "small");

    let ended = weir(&["check", "--online"], world_with(&environment, &url)).await;

    assert_eq!(ended.code, 69, "{}", ended.out);
    for (model, variable) in
        [("llama3.2:latest", "OLLAMA_MODEL"), ("small", "OLLAMA_FALLBACK_MODEL")]
    {
        let line = format!(
            "failed  model {model}: is not at {url}, version 0.17.4; run `ollama pull {model}` there, \
             or set {variable}\n"
        );
        assert!(ended.out.contains(&line), "{line}is not in\n{}", ended.out);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_is_told_why_and_exits_77() {
    let world = World::new("cli-refused", 1).await;
    let (wrong, denied) = (
        secured(&world).set("KAFKA_SASL_PASSWORD", "wrong-secret"),
        secured(&world)
            .set("KAFKA_SASL_USERNAME", &variable("WEIR_TEST_KAFKA_DENIED_USER"))
            .set("KAFKA_SASL_PASSWORD", &variable("WEIR_TEST_KAFKA_DENIED_PASSWORD")),
    );
    let run = async |line: &[&str], environment: &Environment| {
        weir(line, world_with(environment, NOBODY)).await
    };
    let publish = ["publish", "--task", "x"];
    let check = ["check", "--online"];

    let secure = run(&publish, &secured(&world)).await;
    let (publish_wrong, publish_denied) =
        tokio::join!(run(&publish, &wrong), run(&publish, &denied));
    let (check_wrong, check_denied) = tokio::join!(run(&check, &wrong), run(&check, &denied));

    assert_eq!(secure.code, 0, "{}", secure.err);
    assert_eq!((publish_wrong.code, publish_denied.code), (77, 77));
    assert!(publish_wrong.err.contains("KAFKA_SASL_PASSWORD"), "{}", publish_wrong.err);
    assert!(publish_denied.err.contains(world.events()), "{}", publish_denied.err);
    assert_eq!((check_wrong.code, check_denied.code), (69, 69));
    assert!(
        check_wrong.out.contains("\nfailed  brokers: authentication refused"),
        "{}",
        check_wrong.out
    );
    let refused = format!("\nfailed  topic {}: ", world.events());
    let line = check_denied.out.split_once(&refused).map(|(_, rest)| rest.lines().next());
    assert!(line.flatten().is_some_and(|line| line.contains("grant")), "{}", check_denied.out);
    assert!(check_denied.out.contains("\nfailed  transactions: "), "{}", check_denied.out);
    for ended in [&publish_wrong, &check_wrong] {
        assert!(!ended.err.contains("wrong-secret") && !ended.out.contains("wrong-secret"));
    }
}
