//! The whole program on a real broker: events in, results out, signals, kills, twins.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Command;
use uuid::Uuid;

use crate::support::counting_model::CountingModel;
use crate::support::kafka::{PATIENCE, World, broker, produce, seen, until};
use crate::support::model_server::{Chunk, ModelServer, Reply};
use crate::support::ollama::real_model;
use crate::support::process::{Environment, Weir};

/// An event that asks for `task`, and its id.
pub(crate) fn event(task: &str) -> (String, String) {
    let id = Uuid::new_v4().to_string();
    let event = json!({
        "event_id": id, "event_type": "workflow.triggered", "source": "airflow", "workflow_id": "w",
        "workflow_run_id": "r", "payload": {"data": {"task": task}}, "metadata": {"environment": "dev"},
    });
    (id, event.to_string())
}

/// A model that answers after `delay`.
async fn model(delay: Duration) -> (String, ModelServer) {
    let line =
        r#"{"model":"m","response":"an answer","done":true,"done_reason":"stop","eval_count":3}"#;
    let chunk = Chunk {
        delay_ms: Some(delay.as_millis().try_into().unwrap()),
        text: Some(format!("{line}\n")),
        b64: None,
    };
    ModelServer::start(vec![Reply {
        chunks: vec![chunk],
        ..serde_json::from_value(json!({})).unwrap()
    }])
    .await
}

async fn world(name: &str) -> (World, Environment, ModelServer) {
    world_with(name, Duration::ZERO).await
}

pub(crate) async fn world_with(name: &str, latency: Duration) -> (World, Environment, ModelServer) {
    let world = World::new(name, 2).await;
    let (url, server) = model(latency).await;
    let environment = Environment::of(&world).set("OLLAMA_BASE_URL", &url);
    (world, environment, server)
}

pub(crate) fn results(world: &World) -> BTreeMap<String, Vec<Value>> {
    let mut results: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for record in seen(&world.config.workflow_results_topic) {
        results.entry(record.key).or_default().push(serde_json::from_str(&record.value).unwrap());
    }
    results
}

pub(crate) async fn until_answered(world: &World, ids: &[String]) {
    until("every event has a result", || {
        let results = results(world);
        ids.iter().all(|id| results.contains_key(id))
    })
    .await;
}

pub(crate) async fn started(environment: &Environment) -> Weir {
    let mut weir = environment.start();
    weir.ready().await;
    weir
}

#[tokio::test]
async fn an_event_ends_in_one_result_that_can_also_be_asked_for() {
    let (world, environment, _model) = world("plain").await;
    let weir = started(&environment).await;
    let (id, event) = event("analyze the sales");

    produce(world.events(), 0, &event).await;
    until_answered(&world, std::slice::from_ref(&id)).await;

    let results = results(&world);
    let [result] = &results[&id][..] else { panic!("{results:?}") };
    assert_eq!(result["status"], "success");
    assert_eq!(result["result"]["agent_results"]["llm_analysis"]["result"], "an answer");
    let (status, page) = weir.page(&format!("/v1/results/{id}")).await.unwrap();
    assert_eq!((status, serde_json::from_str::<Value>(&page).unwrap()), (200, result.clone()));
    let (_, metrics) = weir.page("/metrics").await.unwrap();
    assert!(metrics.contains("weir_results_total{status=\"success\"} 1"), "{metrics}");
}

#[tokio::test]
async fn a_real_model_answers() {
    let Some((url, model)) = real_model() else {
        return;
    };
    let world = World::new("real-model", 1).await;
    let environment =
        Environment::of(&world).set("OLLAMA_BASE_URL", &url).set("OLLAMA_MODEL", &model);
    let _weir = started(&environment).await;
    let (id, event) = event("Analyze: is water wet?");

    produce(world.events(), 0, &event).await;
    let until = tokio::time::Instant::now() + 3 * PATIENCE;
    while results(&world).is_empty() && tokio::time::Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    let result = results(&world)[&id][0].clone();
    assert_eq!(result["status"], "success", "{result}");
    assert_eq!(result["result"]["agent_results"]["llm_analysis"]["status"], "completed");
}

#[tokio::test]
async fn a_record_that_is_no_event_stops_nothing() {
    let (world, environment, _model) = world("poison").await;
    let _weir = started(&environment).await;
    let deep = format!("{}1{}", "[".repeat(3000), "]".repeat(3000));
    let huge = format!("{{\"x\": {}}}", "7".repeat(4301));
    let large = "x".repeat(900_000);
    let (id, good) = event("list");

    for garbage in ["{", "\u{feff}{}", &deep, &huge, &large, r#"{"event_id": "nobody"}"#] {
        produce(world.events(), 0, garbage).await;
    }
    produce(world.events(), 0, &good).await;
    until_answered(&world, &[id]).await;

    until("six dead letters", || seen(&world.config.dlq_topic).len() == 6).await;
}

#[tokio::test]
async fn a_kill_loses_nothing_and_pays_for_no_committed_answer_twice() {
    let (world, environment, model) = world_with("kill", Duration::from_millis(150)).await;
    let mut ids = Vec::new();
    for number in 0..120 {
        let (id, event) = event(&format!("analyze #{number}"));
        produce(world.events(), number % 2, &event).await;
        ids.push(id);
    }

    for pause in [900, 1500, 1200] {
        let mut weir = environment.start();
        weir.ready().await;
        tokio::time::sleep(Duration::from_millis(pause)).await;
        weir.kill().await;
    }
    let mut weir = started(&environment).await;
    until_answered(&world, &ids).await;
    weir.signal("TERM").await;

    assert_eq!(weir.ended().await.0, Some(0), "{}", weir.log());
    let results = results(&world);
    assert!(results.values().all(|results| results.len() == 1), "an event has two results");
    assert_eq!(results.len(), ids.len());
    // Each answer is committed in the moment in which it is there; what was cut off is asked for again.
    let cut_off = 3 * 32;
    assert!(model.requests().len() <= ids.len() + cut_off, "{} calls", model.requests().len());
}

#[tokio::test]
async fn a_drain_finishes_what_runs_and_ends_well() {
    let (world, environment, _model) = world_with("drain", Duration::from_secs(2)).await;
    let mut weir = started(&environment).await;
    let mut ids = Vec::new();
    for number in 0..20 {
        let (id, event) = event(&format!("analyze #{number}"));
        produce(world.events(), number % 2, &event).await;
        ids.push(id);
    }
    tokio::time::sleep(Duration::from_millis(800)).await;

    weir.signal("TERM").await;

    weir.waits_for("draining").await;
    let (code, took) = weir.ended().await;
    assert_eq!(code, Some(0), "{}", weir.log());
    assert!(took < Duration::from_secs(10), "{took:?}");
    until_answered(&world, &ids).await;
}

/// Ends a process whose one run has its answer and holds its result back, and whose other waits for its answer; returns
/// how often each was asked for until both had a result of the next life.
async fn asked_across_a_hand_over(durability: &str) -> [usize; 2] {
    let world = World::new("handover", 1).await;
    let latency = |number| Duration::from_secs(if number == 2 { 20 } else { 0 });
    let model = CountingModel::start(latency).await;
    let environment = Environment::of(&world)
        .set("OLLAMA_BASE_URL", &model.url)
        .set("WORKFLOW_DURABILITY", durability);
    let first = environment.clone().set("SHUTDOWN_GRACE", "500ms");
    let mut weir = started(&first.set("WORKFLOW_RESULT_MIN_AGE", "60s")).await;
    let (answered, event_answered) = event("analyze first");
    let (cut_off, event_cut_off) = event("analyze second");
    produce(world.events(), 0, &event_answered).await;
    while !weir.page("/metrics").await.unwrap().1.contains("weir_results_held 1") {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    produce(world.events(), 0, &event_cut_off).await;
    until("the second is asked for", || model.asked().len() == 2).await;

    weir.signal("INT").await;
    let (code, took) = weir.ended().await;
    assert_eq!(code, Some(0), "{}", weir.log());
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert!(results(&world).is_empty());

    let _weir = started(&environment).await;
    until_answered(&world, &[answered, cut_off]).await;
    let asked = model.asked();
    ["analyze first", "analyze second"].map(|task| asked[task].len())
}

#[tokio::test]
async fn what_outlives_the_grace_goes_on_in_the_next_life() {
    assert_eq!(asked_across_a_hand_over("sync").await, [1, 2]);
    // The control: without the journal nothing is handed over.
    assert_eq!(asked_across_a_hand_over("off").await, [2, 2]);
}

/// Resets the group's offsets as an operator does, with Kafka's own tool.
async fn reset_to_earliest(world: &World) {
    let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/env/kafka"))
        .args(["java", "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"])
        .args(["--bootstrap-server", &broker(), "--group", &world.config.consumer_group_id])
        .args(["--topic", world.events(), "--reset-offsets", "--to-earliest", "--execute"])
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test]
async fn an_operators_reset_repeats_runs_and_takes_no_answer_of_before() {
    let world = World::new("reset", 2).await;
    let model = CountingModel::start(|_| Duration::ZERO).await;
    let environment = Environment::of(&world)
        .set("OLLAMA_BASE_URL", &model.url)
        .set("WORKFLOW_RESULT_MIN_AGE", "3s");
    let mut weir = started(&environment).await;
    let mut ids = Vec::new();
    for number in 0..6 {
        let (id, event) = event(&format!("analyze #{number}"));
        produce(world.events(), number % 2, &event).await;
        ids.push(id);
    }
    until_answered(&world, &ids).await;
    weir.signal("TERM").await;
    assert_eq!(weir.ended().await.0, Some(0), "{}", weir.log());
    assert_eq!(seen(&world.config.journal_topic).len(), 6);

    reset_to_earliest(&world).await;
    assert_eq!(world.committed(0), Some((0, String::new())));
    let _weir = started(&environment).await;

    until("a second result each", || results(&world).values().all(|found| found.len() == 2)).await;
    assert!(model.asked().values().all(|asked| asked.len() == 2), "{:?}", model.asked());
    for found in results(&world).values() {
        let answer = |at: usize| &found[at]["result"]["agent_results"]["llm_analysis"]["result"];
        assert_ne!(answer(0), answer(1));
    }
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let (world, environment, _model) = world_with("abort", Duration::from_secs(20)).await;
    let mut weir = started(&environment).await;
    produce(world.events(), 0, &event("analyze for ever").1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;

    weir.signal("TERM").await;
    weir.waits_for("draining").await;
    weir.signal("TERM").await;

    let (code, took) = weir.ended().await;
    assert_eq!(code, Some(75), "{}", weir.log());
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn a_signal_ends_it_within_two_seconds_wherever_its_start_has_come() {
    let (world, environment, _model) = world("early").await;
    let unreachable = Environment::of(&world).set("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1");

    for environment in [environment, unreachable] {
        for pause in [100, 300, 600, 1200] {
            let mut weir = environment.start();
            tokio::time::sleep(Duration::from_millis(pause)).await;
            weir.signal("TERM").await;

            let (code, took) = weir.ended().await;
            // In the first moments the process has not heard of signals yet.
            let unheard = pause == 100 && code.is_none();
            assert!(code == Some(0) || unheard, "{code:?} after {pause} ms\n{}", weir.log());
            assert!(took < Duration::from_secs(2), "{took:?} after {pause} ms\n{}", weir.log());
        }
    }
}

#[tokio::test]
async fn it_starts_without_its_world_and_says_what_it_waits_for() {
    let world = World::nowhere("waits");
    let environment = Environment::of(&world).set("OLLAMA_BASE_URL", "http://127.0.0.1:1");
    let mut weir = environment.start();

    weir.waits_for(&format!("events topic {} does not exist", world.events())).await;
    weir.waits_for("http://127.0.0.1:1").await;
    assert_eq!(weir.page("/livez").await.unwrap().0, 200);

    crate::support::kafka::create(world.events(), 1, &[]).await;
    let (id, event) = event("list");
    produce(world.events(), 0, &event).await;
    until_answered(&world, &[id]).await;
}

#[tokio::test]
async fn of_twins_one_ends_and_names_the_cause_and_the_other_goes_on() {
    let (world, environment, _model) = world("twins").await;
    let environment = environment.set("INSTANCE_ID", "one");
    let mut first = started(&environment).await;
    let mut second = environment.start();
    let mut ids = Vec::new();

    let loser = loop {
        let (id, event) = event("list");
        produce(world.events(), i32::try_from(ids.len() % 2).unwrap(), &event).await;
        ids.push(id);
        tokio::select! {
            (code, _) = first.ended() => break (code, first.log()),
            (code, _) = second.ended() => break (code, second.log()),
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
        }
    };

    assert_eq!(loser.0, Some(75), "{}", loser.1);
    assert!(loser.1.contains("INSTANCE_ID"), "{}", loser.1);
    until_answered(&world, &ids).await;
    let results = results(&world);
    assert!(results.values().all(|results| results.len() == 1));
}

#[tokio::test]
async fn a_result_that_its_topic_takes_no_longer_becomes_a_failure_that_it_takes() {
    let (world, environment, _model) = world("lowered-limit").await;
    let _weir = started(&environment).await;
    let topic = &world.config.workflow_results_topic;
    crate::support::kafka::alter(topic, "max.message.bytes", "20000").await;
    let (large, event_large) = event(&"list ".repeat(3_000));
    let (small, event_small) = event("list");

    produce(world.events(), 0, &event_large).await;
    produce(world.events(), 1, &event_small).await;
    until_answered(&world, &[large.clone(), small.clone()]).await;

    let results = results(&world);
    assert_eq!(results[&large][0]["status"], "failure", "{:?}", results[&large]);
    assert_eq!(results[&small][0]["status"], "success");
    assert!(results.values().all(|results| results.len() == 1));
    until("a dead letter", || seen(&world.config.dlq_topic).len() == 1).await;
}
