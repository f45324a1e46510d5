//! A model's server that falls ill while a test runs, and recovers, at one address all the time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Duration, sleep};

use super::model_server::{Recorded, Reply, probe, receive, send};

/// What ails the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    /// It answers.
    Well,
    /// It answers 500.
    Error,
    /// It answers 503.
    Busy,
    /// Its runner is frozen: no answer of the model, though it is loaded.
    Frozen,
    /// It answers nothing at all.
    Hung,
    /// It is not there.
    Dead,
    /// It does not have the model.
    Empty,
}

/// The running server.
pub(crate) struct FickleModel {
    pub(crate) url: String,
    pub(crate) name: String,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    health: watch::Sender<Health>,
    latency: Duration,
    answered: AtomicUsize,
}

impl FickleModel {
    pub(crate) fn start(latency: Duration) -> Self {
        let listener = listen("127.0.0.1:0".parse().expect("an address"));
        let address = listener.local_addr().expect("a bound port");
        let health = watch::Sender::new(Health::Well);
        let shared = Arc::new(Shared { health, latency, answered: AtomicUsize::new(0) });
        let mut tasks = JoinSet::new();
        tasks.spawn(run(listener, address, Arc::clone(&shared)));
        Self { url: format!("http://{address}"), name: address.to_string(), shared, _tasks: tasks }
    }

    pub(crate) fn turn(&self, health: Health) {
        self.shared.health.send_replace(health);
    }

    /// Returns how many calls were answered well.
    pub(crate) fn answered(&self) -> usize {
        self.shared.answered.load(Ordering::Relaxed)
    }
}

fn listen(address: SocketAddr) -> TcpListener {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("an option");
    socket.bind(address).expect("the same address");
    socket.listen(1024).expect("a listener")
}

async fn run(mut listener: TcpListener, address: SocketAddr, shared: Arc<Shared>) {
    let mut health = shared.health.subscribe();
    loop {
        let mut connections = JoinSet::new();
        let dies = health.wait_for(|health| *health == Health::Dead);
        let serving = async {
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&shared)));
                while connections.try_join_next().is_some() {}
            }
        };
        tokio::select! {
            _ = dies => {}
            () = serving => return,
        }
        drop((listener, connections));
        if health.wait_for(|health| *health != Health::Dead).await.is_err() {
            return;
        }
        listener = listen(address);
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    let mut buffer = Vec::new();
    let mut health = shared.health.subscribe();
    while let Some(request) = receive(&mut stream, &mut buffer).await {
        let ails = *health.borrow_and_update();
        if ails == Health::Hung || (ails == Health::Frozen && !is_question(&request)) {
            // Until the client hangs up, or it goes on with what it froze with.
            let mut byte = [0];
            tokio::select! {
                _ = stream.peek(&mut byte) => return,
                _ = health.wait_for(|health| *health != ails) => {}
            }
        }
        let ails = *health.borrow_and_update();
        let reply = match probe(&request) {
            // Its model is loaded, and has been for long.
            _ if request.target == "/api/ps" => Reply::json(
                200,
                r#"{"models":[{"name":"llama3.2:latest","expires_at":"2318-01-01T00:00:00Z"}]}"#,
            ),
            Some(reply) => reply,
            None if ails == Health::Error => Reply::json(500, r#"{"error":"boom"}"#),
            None if ails == Health::Busy => Reply::json(503, r#"{"error":"server busy"}"#),
            None if ails == Health::Empty => {
                Reply::json(404, r#"{"error":"model 'llama3.2:latest' not found"}"#)
            }
            None => {
                sleep(shared.latency).await;
                shared.answered.fetch_add(1, Ordering::Relaxed);
                Reply::ollama(request.json()["model"].as_str().unwrap_or_default())
            }
        };
        if !matches!(send(&mut stream, &reply).await, Ok(true)) {
            return;
        }
    }
}

fn is_question(request: &Recorded) -> bool {
    request.method == "GET"
}
