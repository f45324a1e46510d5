//! TLS, SASL and permissions on the real broker: what works, and one clear line for each thing that doesn't.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use uuid::Uuid;

use crate::support::kafka::{World, produce, seen, seen_uncommitted, until};
use crate::support::model_server::{ModelServer, Reply};
use crate::support::process::Environment;

pub(crate) fn variable(name: &str) -> String {
    std::env::var_os(name)
        .and_then(|value| value.into_string().ok())
        .unwrap_or_else(|| panic!("{name} is not set: run the tests by tests/run"))
}

pub(crate) fn secured(world: &World) -> Environment {
    Environment::of(world)
        .set("KAFKA_BOOTSTRAP_SERVERS", &variable("WEIR_TEST_KAFKA_SASL"))
        .set("KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
        .set("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512")
        .set("KAFKA_SASL_USERNAME", &variable("WEIR_TEST_KAFKA_USER"))
        .set("KAFKA_SASL_PASSWORD", &variable("WEIR_TEST_KAFKA_PASSWORD"))
        .set("KAFKA_SSL_CA_LOCATION", &variable("WEIR_TEST_KAFKA_CA"))
        .set("OLLAMA_BASE_URL", "http://127.0.0.1:1")
        .set("LLM_START_TIMEOUT", "1s")
}

#[tokio::test]
async fn events_are_answered_over_sasl_ssl() {
    let world = World::new("secured", 1).await;
    let mut weir = secured(&world).start();
    weir.waits_for("llm").await;
    let event = json!({
        "event_id": Uuid::new_v4(), "event_type": "workflow.triggered", "source": "airflow", "workflow_id": "w",
        "workflow_run_id": "r", "payload": {"data": {"task": "list"}}, "metadata": {"environment": "dev"},
    });

    produce(world.events(), 0, &event.to_string()).await;

    until("a result", || seen(&world.config.workflow_results_topic).len() == 1).await;
}

/// Starts with `name` set to `value` and waits for the reason; it stands in one line of the log, without the secret.
async fn check(world: &World, (name, value): (&str, &str), reason: &str) {
    let mut weir = secured(world).set(name, value).start();

    weir.waits_for(reason).await;

    let log = weir.log();
    let lines = log.lines().filter(|line| line.contains(reason)).count();
    assert!((1..=2).contains(&lines), "{lines} lines say {reason:?}:\n{log}");
    assert!(!log.contains(&variable("WEIR_TEST_KAFKA_PASSWORD")), "the password is in the log");
}

#[tokio::test]
async fn a_wrong_password_is_named() {
    let world = World::new("password", 1).await;

    check(&world, ("KAFKA_SASL_PASSWORD", "wrong-secret"), "KAFKA_SASL_PASSWORD").await;
}

/// Runs an event against a model server that refuses its credentials and repeats them, and looks for them in all that
/// weir shows.
async fn leaks_nothing(
    name: &str,
    set: impl Fn(Environment, &str) -> Environment,
    hidden: &[&str],
) {
    let repeated = format!("denied: {}", hidden.join(" and "));
    let refusal = Reply::json(401, &json!({ "error": repeated }).to_string());
    let (url, server) = ModelServer::start(vec![refusal]).await;
    let world = World::new(name, 1).await;
    let environment = Environment::of(&world).set("LOG_LEVEL", "debug");
    let mut weir = set(environment, &url).start();
    weir.ready().await;
    let event = json!({
        "event_id": Uuid::new_v4(), "event_type": "workflow.triggered", "source": "airflow", "workflow_id": "w",
        "workflow_run_id": "r", "payload": {"data": {"task": "analyze it"}}, "metadata": {"environment": "dev"},
    });

    produce(world.events(), 0, &event.to_string()).await;

    let config = &world.config;
    let topics = [&config.workflow_results_topic, &config.dlq_topic].map(|topic| topic.as_str());
    until("a result and a dead letter", || topics.iter().all(|t| seen(t).len() == 1)).await;
    let sent = server.requests()[0].headers["authorization"].clone();
    assert!(hidden.iter().any(|secret| sent.contains(secret)), "the server got the credentials");
    let mut shown: Vec<_> = topics.iter().map(|topic| seen(topic)[0].value.clone()).collect();
    assert!(shown.iter().all(|value| value.contains("denied: [redacted]")), "{shown:?}");
    shown.extend(seen_uncommitted(&config.journal_topic).into_iter().map(|seen| seen.value));
    for page in ["/metrics", "/readyz?verbose", "/livez"] {
        shown.push(weir.page(page).await.unwrap().1);
    }
    let (code, _) = {
        weir.signal("TERM").await;
        weir.ended().await
    };
    assert_eq!(code, Some(0), "{}", weir.log());
    shown.push(weir.log());
    for secret in hidden {
        let leak = shown.iter().find(|text| text.contains(secret));
        assert!(leak.is_none(), "{secret} is in {leak:?}");
    }
}

#[tokio::test]
async fn a_models_key_is_shown_nowhere() {
    let set = |weir: Environment, url: &str| {
        weir.set("OLLAMA_BASE_URL", url).set("OLLAMA_API_KEY", "key-hunter2-key")
    };
    leaks_nothing("key", set, &["key-hunter2-key"]).await;
}

#[tokio::test]
async fn credentials_in_a_models_url_are_shown_nowhere() {
    let with = |weir: Environment, url: &str, login: &str| {
        weir.set("OLLAMA_BASE_URL", &url.replace("://", &format!("://{login}@")))
    };
    let basic = |weir: Environment, url: &str| with(weir, url, "ada:hunter2-password");
    let token = |weir: Environment, url: &str| with(weir, url, ":hunter2-bearer");
    let user = |weir: Environment, url: &str| with(weir, url, "hunter2-user");
    let encoded = |login: &str| BASE64_STANDARD.encode(login);

    let hidden = encoded("ada:hunter2-password");
    leaks_nothing("basic", basic, &[&hidden, "hunter2-password"]).await;
    leaks_nothing("bearer", token, &["hunter2-bearer"]).await;
    leaks_nothing("user", user, &[&encoded("hunter2-user:"), "hunter2-user"]).await;
}

#[tokio::test]
async fn a_wrong_ca_is_named() {
    let world = World::new("ca", 1).await;

    check(
        &world,
        ("KAFKA_SSL_CA_LOCATION", &variable("WEIR_TEST_KAFKA_OTHER_CA")),
        "KAFKA_SSL_CA_LOCATION",
    )
    .await;
}

#[tokio::test]
async fn an_unknown_topic_is_named() {
    let world = World::new("topic", 1).await;

    check(&world, ("KAFKA_WORKFLOW_EVENTS_TOPIC", "nobody-made-this"), "nobody-made-this").await;
}

#[tokio::test]
async fn a_missing_permission_is_named() {
    let world = World::new("denied", 1).await;
    let mut weir = secured(&world)
        .set("KAFKA_SASL_USERNAME", &variable("WEIR_TEST_KAFKA_DENIED_USER"))
        .set("KAFKA_SASL_PASSWORD", &variable("WEIR_TEST_KAFKA_DENIED_PASSWORD"))
        .start();

    weir.waits_for("permission denied").await;

    assert!(weir.log().contains(world.events()), "{}", weir.log());
}
