//! A model that numbers its answers and remembers whom it gave which: what was asked again can be told from that.
//!
//! An answer is `answer <number> to <task>`. Numbers rise in the order in which the requests arrived.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::model_server::{Abort, Chunk, Recorded, Reply, probe, receive, send};

/// By how much an answer of a slow model takes longer.
const SLOWER: Duration = Duration::from_secs(3);

/// What ails the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ailment {
    /// It answers.
    None,
    /// It answers 503.
    Unavailable,
    /// It answers 500.
    Broken,
    /// Its stream breaks in the middle.
    Cut,
    /// It says nothing; whoever waits is cut off when it is well again.
    Hang,
    /// Each answer takes 3 s more.
    Slow,
}

/// A request for a task's answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    /// The number of the answer.
    pub(crate) number: u64,
    /// When it came.
    pub(crate) at: Instant,
    /// When all of the answer was written to the connection; whoever asked may have died before reading it.
    pub(crate) given: Option<Instant>,
}

/// The running model; dropped, it stops and its connections break.
pub(crate) struct CountingModel {
    pub(crate) url: String,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    latency: Box<dyn Fn(u64) -> Duration + Send + Sync>,
    ailment: watch::Sender<Ailment>,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    last: u64,
    tasks: BTreeMap<String, Vec<Asked>>,
}

impl CountingModel {
    /// Starts a model that takes `latency` for the answer of a number.
    pub(crate) async fn start<F>(latency: F) -> Self
    where
        F: Fn(u64) -> Duration + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("a bound port"));
        let ailment = watch::Sender::new(Ailment::None);
        let shared =
            Arc::new(Shared { latency: Box::new(latency), ailment, book: Mutex::default() });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared)));
        Self { url, shared, _tasks: tasks }
    }

    pub(crate) fn suffer(&self, ailment: Ailment) {
        self.shared.ailment.send_replace(ailment);
    }

    /// Returns all requests by task, in the order of their arrival. What it refused is not among them.
    pub(crate) fn asked(&self) -> BTreeMap<String, Vec<Asked>> {
        self.shared.book.lock().unwrap().tasks.clone()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, Arc::clone(&shared)));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    let mut buffer = Vec::new();
    while let Some(request) = receive(&mut stream, &mut buffer).await {
        let ailment = *shared.ailment.borrow();
        let (reply, entry) = match (probe(&request).or_else(|| loaded(&request)), ailment) {
            (Some(reply), _) => (reply, None),
            (None, Ailment::Unavailable) => (Reply::json(503, r#"{"error":"unwell"}"#), None),
            (None, Ailment::Broken) => (Reply::json(500, r#"{"error":"llama runner died"}"#), None),
            (None, Ailment::Hang) => {
                shared.ask(&task_of(&request));
                shared.well_again().await;
                return;
            }
            (None, Ailment::None | Ailment::Cut | Ailment::Slow) => {
                shared.answer(&request, ailment)
            }
        };
        let sent = send(&mut stream, &reply).await;
        if let (Ok(_), None, Some((task, number))) = (&sent, reply.abort, entry) {
            shared.given(&task, number);
        }
        if !matches!(sent, Ok(true)) {
            return;
        }
    }
}

impl Shared {
    async fn well_again(&self) {
        // Fails only once the model is gone.
        drop(self.ailment.subscribe().wait_for(|ailment| *ailment != Ailment::Hang).await);
    }

    fn answer(&self, request: &Recorded, ailment: Ailment) -> (Reply, Option<(String, u64)>) {
        let task = task_of(request);
        let number = self.ask(&task);
        let more = if ailment == Ailment::Slow { SLOWER } else { Duration::ZERO };
        let delay = ((self.latency)(number) + more).as_millis();
        let done = json!({
            "model": "m", "response": format!("answer {number} to {task}"),
            "done": true, "done_reason": "stop", "eval_count": 3,
        });
        let mut reply = Reply::stream([]);
        reply.chunks.push(Chunk { delay_ms: delay.try_into().ok(), ..Chunk::default() });
        if ailment == Ailment::Cut {
            reply.chunks.push(Chunk::text(r#"{"model":"m","response":"ans"#));
            reply.abort = Some(Abort::MidChunk);
        } else {
            reply.chunks.push(Chunk::text(&format!("{done}\n")));
        }
        (reply, Some((task, number)))
    }

    fn ask(&self, task: &str) -> u64 {
        let mut book = self.book.lock().unwrap();
        book.last += 1;
        let number = book.last;
        let asked = Asked { number, at: Instant::now(), given: None };
        book.tasks.entry(task.to_owned()).or_default().push(asked);
        number
    }

    fn given(&self, task: &str, number: u64) {
        let mut book = self.book.lock().unwrap();
        let asked = book.tasks.get_mut(task).into_iter().flatten();
        for asked in asked.filter(|asked| asked.number == number) {
            asked.given = Some(Instant::now());
        }
    }
}

/// Says that no model is loaded: so its silence is that of one that loads.
fn loaded(request: &Recorded) -> Option<Reply> {
    (request.target == "/api/ps").then(|| Reply::json(200, r#"{"models":[]}"#))
}

fn task_of(request: &Recorded) -> String {
    let body = request.json();
    let prompt = body["prompt"].as_str().unwrap_or_default();
    let mut lines = prompt.lines().filter_map(|line| line.strip_prefix("Task: "));
    lines.next().expect("a prompt that names its task").to_owned()
}
