//! The routes, and the server around them.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;
use uuid::Uuid;

use super::connection::Limited;
use super::{Error, Results, probes};
use crate::telemetry::{Health, Metrics, Report};

/// How long open exchanges may go on after the server is told to end.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// The largest request body that a handler may take. None takes any today.
const BODY_MAX: usize = 64 * 1024;

const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const JSON: &str = "application/json";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the pages are made from.
#[derive(Debug, Clone, Default)]
pub struct Site {
    /// For the probes.
    pub health: Health,
    /// For `/metrics`.
    pub metrics: Metrics,
    /// For `/v1/results`.
    pub results: Results,
}

/// Takes the port. Done before anything else starts, so that a taken port is known at once.
///
/// # Errors
/// [`Error::Bind`], which names the variable and the remedy.
pub async fn bind(addr: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(addr).await.map_err(|source| {
        let remedy = remedy(source.kind());
        Error::Bind { addr, remedy, source }
    })
}

fn remedy(kind: io::ErrorKind) -> &'static str {
    use io::ErrorKind::{AddrInUse, AddrNotAvailable, PermissionDenied};
    if kind == AddrInUse {
        "another process listens there: choose another port, port 0 for any free one, or off"
    } else if kind == AddrNotAvailable {
        "no interface of this host has that address: use 127.0.0.1, 0.0.0.0, or off"
    } else if kind == PermissionDenied {
        "ports below 1024 need a privilege: choose a higher one, or off"
    } else {
        "choose another address and port, or off"
    }
}

/// Serves until `shutdown`, then lets open exchanges end within two seconds.
///
/// The probes must be answered while the process drains, so `shutdown` comes after the drain.
///
/// # Errors
/// [`Error::Serve`] when the server ends by itself.
pub async fn serve(
    listener: TcpListener,
    site: Site,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Error> {
    if let Ok(addr) = listener.local_addr() {
        info!(%addr, "answering HTTP");
    }
    let (ending, closing) = (CancellationToken::new(), CancellationToken::new());
    let server = axum::serve(Limited::new(listener, closing.clone()), routes(site));
    let server = server.with_graceful_shutdown({
        let ending = ending.clone();
        async move {
            shutdown.await;
            ending.cancel();
        }
    });
    let close = async {
        ending.cancelled().await;
        tokio::time::sleep(CLOSE_MAX).await;
        closing.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = server.into_future() => ended.map_err(Error::Serve),
        () = close => Ok(()),
    }
}

fn routes(site: Site) -> Router {
    Router::new()
        .route("/", get(async || answer(StatusCode::OK, TEXT, INDEX)))
        .route("/livez", get(livez))
        .route("/healthz", get(livez))
        .route("/readyz", get(readyz))
        .route("/readyz/{check}", get(readyz_check))
        .route("/metrics", get(metrics))
        .route("/v1/results/{correlation_id}", get(result))
        .fallback(async || {
            answer(StatusCode::NOT_FOUND, TEXT, "not found; GET / lists what there is\n")
        })
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(site)
}

const INDEX: &str = concat!(
    "weir ",
    env!("CARGO_PKG_VERSION"),
    "\n\n",
    "GET /livez                         does the process live (also /healthz)\n",
    "GET /readyz                        can it work (also /readyz/NAME for one check)\n",
    "GET /metrics                       OpenMetrics\n",
    "GET /v1/results/{correlation_id}   a recent result of this instance\n",
    "\n",
    "Probes take ?verbose and ?exclude=NAME, and answer in JSON on Accept: application/json.\n",
);

async fn livez(
    State(site): State<Site>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    probe("livez", &site.health.livez(), query.as_deref(), &headers)
}

async fn readyz(
    State(site): State<Site>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    probe("readyz", &site.health.readyz(), query.as_deref(), &headers)
}

async fn readyz_check(
    State(site): State<Site>,
    Path(check): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    match probes::only(site.health.readyz(), &check) {
        Some(report) => probe("readyz", &report, query.as_deref(), &headers),
        None => answer(StatusCode::NOT_FOUND, TEXT, "no check of that name; GET /readyz?verbose\n"),
    }
}

fn probe(name: &str, report: &Report, query: Option<&str>, headers: &HeaderMap) -> Response {
    let query = query.unwrap_or_default();
    let report = probes::without_excluded(report, query);
    let status = if report.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if accept.is_some_and(|accept| accept.contains(JSON)) {
        answer(status, JSON, probes::json(&report))
    } else {
        answer(status, TEXT, probes::text(name, &report, probes::verbose(query)))
    }
}

async fn metrics(State(site): State<Site>) -> Response {
    answer(StatusCode::OK, OPENMETRICS, site.metrics.encode())
}

async fn result(State(site): State<Site>, Path(correlation_id): Path<String>) -> Response {
    let Ok(correlation_id) = correlation_id.parse::<Uuid>() else {
        let body = problem("results.id", "a correlation id is a UUID");
        return answer(StatusCode::BAD_REQUEST, JSON, body);
    };
    match site.results.get(&correlation_id) {
        Some(bytes) => answer(StatusCode::OK, JSON, bytes),
        None => answer(
            StatusCode::NOT_FOUND,
            JSON,
            problem(
                "results.unknown",
                "not among the recent results of this instance: the run may not be over, another \
                 instance may have done it, or it was long ago; the results topic has them all",
            ),
        ),
    }
}

fn problem(code: &str, message: &str) -> String {
    serde_json::json!({ "error": { "code": code, "message": message } }).to_string()
}

fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
