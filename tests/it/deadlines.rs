//! The whole program on a real broker: what is too late is answered, and costs nothing.

use std::time::Duration;

use jiff::Timestamp;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::Value;
use tokio::time::Instant;

use crate::service::{event, results, started, until_answered, world_with};
use crate::support::kafka::{broker, seen, until};

/// Writes records of one time with one header, where there is one.
async fn produce(topic: &str, values: &[String], stamp: Timestamp, header: Option<(&str, &str)>) {
    let producer: FutureProducer =
        ClientConfig::new().set("bootstrap.servers", broker()).create().unwrap();
    let mut sent = Vec::new();
    for value in values {
        let mut record: FutureRecord<'_, (), [u8]> =
            FutureRecord::to(topic).payload(value.as_bytes()).timestamp(stamp.as_millisecond());
        record.headers = header
            .map(|(key, value)| OwnedHeaders::new().insert(Header { key, value: Some(value) }));
        sent.push(producer.send_result(record).map_err(|(error, _)| error).unwrap());
    }
    for sent in sent {
        sent.await.unwrap().map_err(|(error, _)| error).unwrap();
    }
}

#[tokio::test]
async fn a_backlog_that_is_too_old_is_answered_without_a_call() {
    let (world, environment, model) = world_with("ttl", Duration::ZERO).await;
    let (ids, events): (Vec<_>, Vec<_>) =
        (0..300).map(|number| event(&format!("analyze #{number}"))).unzip();
    let (fresh, fresh_event) = event("analyze now");
    let now = Timestamp::now();
    produce(world.events(), &events, now - Duration::from_secs(3600), None).await;
    produce(world.events(), &[fresh_event], now, None).await;

    let weir = started(&environment.set("WORKFLOW_EVENT_TTL", "30m")).await;
    until_answered(&world, &ids).await;
    until_answered(&world, std::slice::from_ref(&fresh)).await;

    let results = results(&world);
    assert!(results.values().all(|results| results.len() == 1), "an event has two results");
    assert_eq!(results[&fresh][0]["status"], "success");
    for id in &ids {
        assert_eq!(results[id][0]["status"], "error");
        assert_eq!(results[id][0]["error"], "too late: it is older than WORKFLOW_EVENT_TTL=30m");
    }
    assert_eq!(model.requests().len(), 1, "only what is fresh is asked");
    until("300 dead letters", || seen(&world.config.dlq_topic).len() == 300).await;
    let (_, metrics) = weir.page("/metrics").await.unwrap();
    let line = "weir_dead_letters_total{class=\"event.expired\"} 300";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn at_its_deadline_an_event_is_answered_and_its_call_is_closed() {
    let (world, environment, model) = world_with("deadline", Duration::from_secs(5)).await;
    let _weir = started(&environment).await;
    // Connections, topics: all that only the first event waits for.
    let (warm, warm_event) = event("list");
    produce(world.events(), &[warm_event], Timestamp::now(), None).await;
    until_answered(&world, &[warm]).await;
    let (id, event) = event("analyze slowly");

    let (now, since) = (Timestamp::now(), Instant::now());
    let at = now + Duration::from_secs(1);
    let header = ("weir-deadline", &*at.to_string());
    produce(world.events(), &[event], now, Some(header)).await;
    let counts = model.until(|counts| counts.requests == 1).await;
    assert_eq!(counts.in_flight, 1, "the model is being asked");
    model.until(|counts| counts.in_flight == 0 && counts.closed >= 1).await;

    assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
    until_answered(&world, std::slice::from_ref(&id)).await;
    let result = results(&world)[&id][0].clone();
    assert_eq!(result["status"], "error", "{result}");
    assert_eq!(result["error"], format!("too late: its header weir-deadline said {at}"));
    let answered: Timestamp = result["timestamp"].as_str().unwrap().parse().unwrap();
    assert!((at..at + Duration::from_millis(500)).contains(&answered), "{at}, {answered}");
    let [letter] = seen(&world.config.dlq_topic).try_into().unwrap();
    let letter: Value = serde_json::from_str(&letter.value).unwrap();
    assert_eq!(letter["error"]["type"], "event.expired");
    assert_eq!(model.requests().len(), 1);
}
