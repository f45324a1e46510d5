use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::connection::{Connection, EXCHANGE_MAX, IDLE_MAX};
use super::*;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const SOON: Duration = Duration::from_secs(5);

/// A server on a port of its own.
struct Server {
    addr: SocketAddr,
    site: Site,
    end: CancellationToken,
    tasks: JoinSet<Result<(), Error>>,
}

async fn server() -> Server {
    let listener = bind(LOOPBACK).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (site, end, mut tasks) = (Site::default(), CancellationToken::new(), JoinSet::new());
    tasks.spawn(serve(listener, site.clone(), end.clone().cancelled_owned()));
    Server { addr, site, end, tasks }
}

impl Server {
    async fn probe(&self, path: &'static str) -> (u16, String) {
        let addr = self.addr;
        spawn_blocking(move || probe(addr, path, SOON)).await.unwrap().unwrap()
    }

    /// Sends a request line and headers; returns the whole answer.
    async fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        let request = format!("{request}\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(SOON, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        answer
    }
}

#[tokio::test]
async fn probes_tell_life_from_readiness() {
    let server = server().await;
    let kafka = server.site.health.component("kafka");

    kafka.waiting("no broker answers at localhost:9092");

    let ok = || (200, "ok\n".to_owned());
    assert_eq!(server.probe("/livez").await, ok());
    assert_eq!(server.probe("/healthz").await, ok());
    let lines = "[-]kafka failed: no broker answers at localhost:9092\n[+]shutdown ok\nreadyz check failed\n";
    assert_eq!(server.probe("/readyz").await, (503, lines.to_owned()));
    assert_eq!(server.probe("/readyz?exclude=kafka").await, ok());
    assert_eq!(server.probe("/readyz/shutdown").await, ok());
    assert_eq!(server.probe("/readyz/kafka").await.0, 503);
    assert_eq!(server.probe("/readyz/nothing").await.0, 404);

    kafka.ready();
    assert_eq!(server.probe("/readyz").await, ok());
    let lines = "[+]kafka ok\n[+]shutdown ok\nreadyz check passed\n";
    assert_eq!(server.probe("/readyz?verbose").await, (200, lines.to_owned()));
    let lines = "[+]heartbeat ok\nlivez check passed\n";
    assert_eq!(server.probe("/livez?verbose=1&exclude=x").await, (200, lines.to_owned()));

    server.site.health.draining();
    assert_eq!(server.probe("/readyz").await.0, 503);
    assert_eq!(server.probe("/livez").await, ok());
}

#[tokio::test]
async fn a_probe_answers_in_json_where_asked() {
    let server = server().await;
    server.site.health.component("llm").waiting("model \"x\" is missing");

    let answer = server.ask("GET /readyz HTTP/1.1\r\nAccept: application/json, */*").await;

    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert!(head.contains("content-type: application/json"), "{head}");
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(body).unwrap(),
        serde_json::json!({ "ok": false, "checks": [
            { "name": "llm", "ok": false, "reason": "model \"x\" is missing" },
            { "name": "shutdown", "ok": true },
        ]})
    );
}

#[tokio::test]
async fn metrics_are_open_metrics() {
    let server = server().await;
    server.site.metrics.records_consumed(3);

    let answer = server.ask("GET /metrics HTTP/1.1").await;

    assert!(
        answer.contains(
            "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"
        )
    );
    assert!(answer.contains("\nweir_records_consumed_total 3\n"));
    assert!(answer.ends_with("# EOF\n"));
}

#[tokio::test]
async fn a_recent_result_is_answered_as_it_was_published() {
    let server = server().await;
    let id = Uuid::from_u128(7);
    let json = r#"{"correlation_id":"…","status":"success"}"#;
    server.site.results.keep([(id.to_string().into(), Bytes::from(json))]);

    let known = server.ask(&format!("GET /v1/results/{id} HTTP/1.1")).await;
    let unknown = server.ask(&format!("GET /v1/results/{} HTTP/1.1", Uuid::from_u128(8))).await;
    let nonsense = server.ask("GET /v1/results/7 HTTP/1.1").await;

    assert!(known.starts_with("HTTP/1.1 200 ") && known.ends_with(json), "{known}");
    assert!(known.contains("content-type: application/json\r\n"));
    assert!(unknown.starts_with("HTTP/1.1 404 "), "{unknown}");
    let (_, body) = unknown.split_once("\r\n\r\n").unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["error"]["code"], "results.unknown");
    assert!(body["error"]["message"].as_str().unwrap().contains("this instance"));
    assert!(nonsense.starts_with("HTTP/1.1 400 "), "{nonsense}");
}

#[tokio::test]
async fn the_index_lists_what_there_is() {
    let server = server().await;

    let (status, index) = server.probe("/").await;

    assert_eq!(status, 200);
    for path in ["/livez", "/healthz", "/readyz", "/metrics", "/v1/results/"] {
        assert!(index.contains(path), "{path}");
    }
    assert_eq!(server.probe("/nothing").await.0, 404);
    assert!(server.ask("POST /livez HTTP/1.1").await.starts_with("HTTP/1.1 405 "));
    assert!(server.ask("HEAD /livez HTTP/1.1").await.starts_with("HTTP/1.1 200 "));
    assert!(server.ask("nonsense").await.starts_with("HTTP/1.1 400 "));
}

#[tokio::test]
async fn the_server_ends_though_a_request_is_never_finished() {
    let mut server = server().await;
    let mut stuck = TcpStream::connect(server.addr).await.unwrap();
    stuck.write_all(b"GET /livez HTTP/1.1\r\nHost:").await.unwrap();
    server.probe("/livez").await;

    server.end.cancel();

    let ended = timeout(SOON, server.tasks.join_next()).await.unwrap().unwrap().unwrap();
    assert!(ended.is_ok());
    let mut rest = Vec::new();
    // The server's end of the connection is gone, whether by a close or by a reset.
    drop(timeout(SOON, stuck.read_to_end(&mut rest)).await.unwrap());
    assert!(TcpStream::connect(server.addr).await.is_err());
}

#[tokio::test]
async fn a_taken_port_names_the_variable_and_the_remedy() {
    let taken = TcpListener::bind(LOOPBACK).await.unwrap();

    let error = bind(taken.local_addr().unwrap()).await.unwrap_err();

    let text = error.to_string();
    assert!(matches!(error, Error::Bind { .. }));
    assert!(text.starts_with("listen on HTTP_ADDR=127.0.0.1:"), "{text}");
    assert!(text.contains("choose another port"), "{text}");
}

#[tokio::test]
async fn a_probe_of_what_does_not_answer_says_so() {
    let silent = TcpListener::bind(LOOPBACK).await.unwrap();
    let addr = silent.local_addr().unwrap();
    let ask = move || probe(addr, "/livez", Duration::from_millis(50));

    let late = spawn_blocking(ask).await.unwrap().unwrap_err();
    let other = spawn_blocking(move || probe(addr, "/livez", SOON));
    drop(silent.accept().await.unwrap());
    let (mut stream, _) = silent.accept().await.unwrap();
    stream.write_all(b"SSH-2.0-OpenSSH\r\n").await.unwrap();
    stream.read_exact(&mut [0; 64]).await.unwrap();
    drop(stream);
    let other = other.await.unwrap().unwrap_err();
    drop(silent);
    let nobody = spawn_blocking(ask).await.unwrap().unwrap_err();

    assert!(
        matches!(&late, Error::Exchange { source, .. } if source.kind() == io::ErrorKind::TimedOut),
        "{late:?}"
    );
    assert!(matches!(other, Error::NotHttp { .. } | Error::Exchange { .. }), "{other:?}");
    assert!(matches!(nobody, Error::Connect { .. }), "{nobody:?}");
}

#[tokio::test]
async fn a_server_on_every_interface_is_probed_on_loopback() {
    let listener = bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(listener, Site::default(), std::future::pending()));

    let answer = spawn_blocking(move || probe(addr, "/livez", SOON)).await.unwrap();

    assert_eq!(answer.unwrap(), (200, "ok\n".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_request_has_ten_seconds_and_a_pause_seventy_five() {
    let (mut client, server) = duplex(64);
    let mut server = Connection::new(server, CancellationToken::new(), None);
    let begun = Instant::now();

    // A byte every nine seconds helps nobody over the limit.
    client.write_all(b"G").await.unwrap();
    server.read_u8().await.unwrap();
    let error = server.read_u8().await.unwrap_err();
    assert_eq!((error.kind(), begun.elapsed()), (io::ErrorKind::TimedOut, EXCHANGE_MAX));

    let (mut client, server) = duplex(64);
    let mut server = Connection::new(server, CancellationToken::new(), None);
    client.write_all(b"G").await.unwrap();
    server.read_u8().await.unwrap();
    server.write_all(b"ok").await.unwrap();
    let begun = Instant::now();
    let error = server.read_u8().await.unwrap_err();
    assert_eq!((error.kind(), begun.elapsed()), (io::ErrorKind::TimedOut, IDLE_MAX));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_reads_does_not_hold_the_connection() {
    let (_client, server) = duplex(4);
    let mut server = Connection::new(server, CancellationToken::new(), None);
    let begun = Instant::now();

    let error = server.write_all(&[0; 100]).await.unwrap_err();

    assert_eq!((error.kind(), begun.elapsed()), (io::ErrorKind::TimedOut, IDLE_MAX));
}

#[test]
fn results_are_bounded_in_number_and_the_oldest_goes_first() {
    let results = Results::new(2, 1_000_000);

    results.keep((1..=3).map(|id| result(id, 10)));

    let known = |id| results.get(&Uuid::from_u128(id)).is_some();
    assert_eq!([known(1), known(2), known(3)], [false, true, true]);
}

#[test]
fn results_are_bounded_in_bytes() {
    let results = Results::new(1000, 3 * (100 + 128));
    let known = |id| results.get(&Uuid::from_u128(id)).is_some();

    results.keep((1..=4).map(|id| result(id, 100)));
    assert_eq!([known(1), known(2), known(3), known(4)], [false, true, true, true]);

    results.keep([result(5, 10_000)]);
    assert_eq!([known(2), known(5)], [true, false], "one that fits never is no reason to forget");
    results.keep([result(6, 300)]);
    assert_eq!([known(2), known(3), known(4), known(6)], [false, false, true, true]);
}

#[test]
fn of_results_with_one_id_the_latest_is_told() {
    let results = Results::new(3, 1_000_000);
    let told = |id| results.get(&Uuid::from_u128(id)).map(|result| result.len());

    results.keep([result(1, 10), result(1, 11), result(2, 12)]);
    assert_eq!([told(1), told(2)], [Some(11), Some(12)]);

    results.keep((10..1000).map(|size| result(1, size)));
    assert_eq!([told(1), told(2)], [Some(999), None]);
    assert_eq!(
        format!("{results:?}"),
        format!("Results {{ records: 3, bytes: {} }}", 997 + 998 + 999 + 3 * 128)
    );

    results.keep([result(1, 2_000_000)]);
    assert_eq!(told(1), None, "what is older than the latest is never told");
}

#[test]
fn a_store_without_room_keeps_nothing() {
    let results = Results::new(0, 0);

    results.keep([result(1, 10)]);

    assert!(results.get(&Uuid::from_u128(1)).is_none());
}

/// Returns a result of so many bytes under its key.
fn result(id: u128, size: usize) -> (Bytes, Bytes) {
    (Uuid::from_u128(id).to_string().into(), vec![b'x'; size].into())
}
