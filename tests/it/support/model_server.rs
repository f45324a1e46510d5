//! An HTTP server that replies as it is told, byte for byte: cut, slow, garbled or in order.
//!
//! Replies are given one after another, whatever connection a request comes on; the last one for ever. What a client
//! asks to see whether the server is there is answered by itself and uses no reply up. Every request is recorded.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

#[path = "model_server/reply.rs"]
mod reply;

pub(crate) use reply::{Abort, Chunk, Framing, Reply};

/// How long a test waits for anything before it fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// The running server; dropped, it stops and its connections break.
pub(crate) struct ModelServer {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    replies: Vec<Reply>,
    /// What is answered at a path, instead of a reply: one after another, the last one for ever.
    pages: Mutex<BTreeMap<String, VecDeque<Reply>>>,
    /// What was asked at a path that is answered by itself.
    probed: Mutex<Vec<Recorded>>,
    requests: Mutex<Vec<Recorded>>,
    counts: watch::Sender<Counts>,
}

/// What the server has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Requests that took a reply.
    pub(crate) requests: usize,
    /// Requests for what the server is.
    pub(crate) probes: usize,
    /// Connections accepted.
    pub(crate) connections: usize,
    /// Connections that the client closed.
    pub(crate) closed: usize,
    /// Requests being answered, and the most that ever were.
    pub(crate) in_flight: usize,
    pub(crate) in_flight_max: usize,
}

impl ModelServer {
    /// Starts on a free port and returns the base URL with the running server.
    pub(crate) async fn start(replies: Vec<Reply>) -> (String, Self) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let server = Self::on(listener, replies);
        (format!("http://{}", server.address), server)
    }

    /// Starts on a port that is already bound.
    pub(crate) fn on(listener: TcpListener, replies: Vec<Reply>) -> Self {
        let address = listener.local_addr().expect("a bound port");
        let shared = Arc::new(Shared { replies, ..Shared::default() });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, _tasks: tasks }
    }

    /// Returns the requests that took a reply, in the order of their arrival.
    pub(crate) fn requests(&self) -> Vec<Recorded> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Answers what comes to `path` with these from now on, and uses no reply up for it.
    pub(crate) fn page(&self, path: &str, replies: impl IntoIterator<Item = Reply>) {
        self.shared.pages.lock().unwrap().insert(path.to_owned(), replies.into_iter().collect());
    }

    /// Returns the requests that were answered by themselves.
    pub(crate) fn probed(&self) -> Vec<Recorded> {
        self.shared.probed.lock().unwrap().clone()
    }

    /// Returns how many replies were not given yet.
    pub(crate) fn replies_left(&self) -> usize {
        self.shared.replies.len().saturating_sub(self.counts().requests)
    }

    pub(crate) fn counts(&self) -> Counts {
        *self.shared.counts.borrow()
    }

    /// Waits until the counts satisfy `condition`.
    pub(crate) async fn until<F>(&self, condition: F) -> Counts
    where
        F: FnMut(&Counts) -> bool,
    {
        let mut counts = self.shared.counts.subscribe();
        let reached = timeout(PATIENCE, counts.wait_for(condition)).await;
        *reached.expect("the counts in time").expect("a running server")
    }
}

impl Recorded {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        shared.counts.send_modify(|counts| counts.connections += 1);
        connections.spawn(serve(stream, Arc::clone(&shared)));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    let mut buffer = Vec::new();
    while let Some(request) = receive(&mut stream, &mut buffer).await {
        let reply = match shared.page(&request).or_else(|| probe(&request)) {
            Some(reply) => {
                shared.probed.lock().unwrap().push(request);
                shared.counts.send_modify(|counts| counts.probes += 1);
                reply
            }
            None => shared.take(request),
        };
        shared.counts.send_modify(|counts| {
            counts.in_flight += 1;
            counts.in_flight_max = counts.in_flight_max.max(counts.in_flight);
        });
        let kept = send(&mut stream, &reply).await;
        shared.counts.send_modify(|counts| counts.in_flight -= 1);
        match kept {
            Ok(true) => {}
            Ok(false) => return,
            Err(_) => break,
        }
    }
    shared.counts.send_modify(|counts| counts.closed += 1);
}

impl Shared {
    fn page(&self, request: &Recorded) -> Option<Reply> {
        let mut pages = self.pages.lock().unwrap();
        let Some(replies) = pages.get_mut(&request.target) else {
            let is_list = request.target == "/api/ps";
            return is_list.then(|| Reply::json(200, r#"{"models":[]}"#));
        };
        if replies.len() > 1 { replies.pop_front() } else { replies.front().cloned() }
    }

    fn take(&self, request: Recorded) -> Reply {
        let mut requests = self.requests.lock().unwrap();
        let next = requests.len().min(self.replies.len().saturating_sub(1));
        let missing = || Reply::json(500, "{\"error\":\"the test gave no reply\"}");
        let reply = self.replies.get(next).cloned().unwrap_or_else(missing);
        requests.push(request);
        self.counts.send_modify(|counts| counts.requests = requests.len());
        reply
    }
}

/// Answers what says nothing about a call.
pub(crate) fn probe(request: &Recorded) -> Option<Reply> {
    let body = match request.target.as_str() {
        "/api/version" => r#"{"version":"0.17.4"}"#,
        "/api/show" => r#"{"model_info":{"llama.context_length":131072}}"#,
        "/api/tags" => r#"{"models":[{"name":"llama3.2:latest","model":"llama3.2:latest"}]}"#,
        "/v1/models" => r#"{"object":"list","data":[{"id":"gpt-4o-mini","object":"model"}]}"#,
        _ => return None,
    };
    Some(Reply::json(200, body))
}

/// Reads one request; `None` when the client has closed.
pub(crate) async fn receive(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Recorded> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let headers: BTreeMap<_, _> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().expect("length"));
    buffer.drain(..end + 4);
    while buffer.len() < length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    let body = buffer.drain(..length).collect();
    Some(Recorded { method, target, headers, body })
}

/// Sends a reply and returns whether the connection may go on. A client that closes ends it with an error at once.
pub(crate) async fn send(stream: &mut TcpStream, reply: &Reply) -> io::Result<bool> {
    let port = stream.local_addr()?.port();
    match reply.abort {
        Some(Abort::BeforeHeaders) => {
            stream.set_zero_linger()?;
            return Ok(false);
        }
        Some(Abort::CloseBeforeHeaders) => return Ok(false),
        Some(Abort::AfterHeaders | Abort::MidChunk | Abort::Unterminated) | None => {}
    }
    // A body that is cut off announces more than it has.
    let is_cut = matches!(reply.abort, Some(Abort::MidChunk | Abort::Unterminated));
    let short = if is_cut { 140 } else { 0 };
    let payloads: Vec<_> =
        reply.chunks.iter().map(|chunk| (chunk.delay_ms, chunk.payload())).collect();
    let length = payloads.iter().map(|(_, payload)| payload.len()).sum::<usize>() + short;
    stream.write_all(reply.head(port, length).as_bytes()).await?;
    if reply.abort == Some(Abort::AfterHeaders) {
        return reset(stream).await;
    }
    for (delay, payload) in payloads {
        pause(stream, Duration::from_millis(delay.unwrap_or_default())).await?;
        if payload.is_empty() {
            continue;
        }
        if reply.framing == Framing::Chunked {
            let mut framed = format!("{:x}\r\n", payload.len()).into_bytes();
            framed.extend_from_slice(&payload);
            framed.extend_from_slice(b"\r\n");
            stream.write_all(&framed).await?;
        } else {
            stream.write_all(&payload).await?;
        }
    }
    if reply.abort == Some(Abort::MidChunk) {
        if reply.framing == Framing::Chunked {
            stream.write_all(b"ff\r\n{\"resp").await?;
        }
        return reset(stream).await;
    }
    if reply.abort == Some(Abort::Unterminated) {
        return Ok(false);
    }
    if reply.framing == Framing::Chunked {
        stream.write_all(b"0\r\n\r\n").await?;
    }
    Ok(reply.framing != Framing::Close)
}

/// Waits, unless the client closes meanwhile.
async fn pause(stream: &mut TcpStream, delay: Duration) -> io::Result<()> {
    if delay.is_zero() {
        return Ok(());
    }
    let mut byte = [0];
    tokio::select! {
        () = sleep(delay) => Ok(()),
        peeked = stream.peek(&mut byte) => match peeked? {
            0 => Err(io::ErrorKind::ConnectionAborted.into()),
            _ => Err(io::Error::other("a second request before the first was answered")),
        },
    }
}

/// Breaks the connection once what was written has had time to arrive.
async fn reset(stream: &mut TcpStream) -> io::Result<bool> {
    sleep(Duration::from_millis(20)).await;
    stream.set_zero_linger()?;
    Ok(false)
}
