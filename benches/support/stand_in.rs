//! A model's stand-in: answers Ollama's `/api/generate` after a delay, with as little work as there can be.
//!
//! It is a process of its own (this program, started again), so that its CPU is nobody else's. A prompt that holds
//! "hang" is never answered.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream as BlockingStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// The first argument that makes this program a stand-in; the others are the delay and the work of an answer, in
/// microseconds.
pub(crate) const ARGUMENT: &str = "--stand-in";

/// What makes a stand-in no faster than a small server: 15,000 answers a second, if it has a core to itself.
pub(crate) const SMALL: Duration = Duration::from_micros(55);

/// Two lines of a stream, as Ollama sends them.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n\
6f\r\n{\"model\":\"llama3.2:latest\",\"created_at\":\"2025-01-27T10:00:00Z\",\"response\":\"Sales rose. Reorder.\",\"done\":false}\n\r\n\
c6\r\n{\"model\":\"llama3.2:latest\",\"created_at\":\"2025-01-27T10:00:00Z\",\"response\":\"\",\"done\":true,\"done_reason\":\"stop\",\"total_duration\":1000000,\"prompt_eval_count\":120,\"eval_count\":6,\"eval_duration\":900000}\n\r\n\
0\r\n\r\n";

static ANSWERED: AtomicU64 = AtomicU64::new(0);

/// A running stand-in; killed when dropped.
pub(crate) struct StandIn {
    child: Child,
    pub(crate) url: String,
}

impl StandIn {
    /// Starts one that answers after `delay`.
    pub(crate) fn start(delay: Duration) -> Self {
        Self::working(delay, Duration::ZERO)
    }

    /// Starts one that answers after `delay`, and is busy with each answer for as long as `work`.
    pub(crate) fn working(delay: Duration, work: Duration) -> Self {
        let times = [delay, work].map(|time| time.as_micros().to_string());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg(ARGUMENT)
            .args(times)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, url: format!("http://{}", line.trim()) }
    }

    /// Returns how many calls it has answered.
    pub(crate) fn answered(&self) -> u64 {
        let mut stream = BlockingStream::connect(self.url.trim_start_matches("http://")).unwrap();
        stream.write_all(b"GET /answered HTTP/1.1\r\nHost: stand-in\r\n\r\n").unwrap();
        let mut answer = [0; 512];
        let length = stream.read(&mut answer).unwrap();
        let text = String::from_utf8_lossy(&answer[..length]).into_owned();
        text.rsplit("\r\n\r\n").next().unwrap().trim().parse().unwrap()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Is the stand-in, until it is killed.
#[expect(clippy::print_stdout, reason = "its address goes to whoever started it")]
pub(crate) fn serve(times: impl Iterator<Item = String>) {
    let mut times = times.map(|time| Duration::from_micros(time.parse().unwrap()));
    let (delay, work) = (times.next().unwrap(), times.next().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap());
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            connections.spawn(connection(stream, delay, work));
            while connections.try_join_next().is_some() {}
        }
    });
}

async fn connection(mut stream: TcpStream, delay: Duration, work: Duration) -> Option<()> {
    let mut buffer = Vec::with_capacity(4096);
    loop {
        let length = request(&mut stream, &mut buffer).await?;
        let asked = &buffer[..length];
        if asked.starts_with(b"POST /api/generate") {
            if contains(asked, b"hang") {
                // Nothing more is to come but the end of the connection.
                stream.read_u8().await.ok()?;
                return None;
            }
            if !delay.is_zero() {
                sleep(delay).await;
            }
            let until = Instant::now() + work;
            while Instant::now() < until {
                std::hint::spin_loop();
            }
            stream.write_all(ANSWER).await.ok()?;
            ANSWERED.fetch_add(1, Ordering::Relaxed);
        } else {
            let body = if asked.starts_with(b"GET /answered") {
                ANSWERED.load(Ordering::Relaxed).to_string()
            } else if asked.starts_with(b"GET /api/version") {
                r#"{"version":"0.17.4"}"#.to_owned()
            } else {
                r#"{"models":[],"model_info":{}}"#.to_owned()
            };
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.ok()?;
        }
        buffer.drain(..length);
    }
}

/// Reads until a whole request is there, and returns its length; `None` when the client has closed.
async fn request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<usize> {
    loop {
        if let Some(head) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let length = head + 4 + body_length(&buffer[..head]);
            if buffer.len() >= length {
                return Some(length);
            }
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

fn body_length(head: &[u8]) -> usize {
    let head = String::from_utf8_lossy(head);
    let mut lines = head.split("\r\n").filter_map(|line| line.split_once(':'));
    let length = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    length.map_or(0, |(_, value)| value.trim().parse().unwrap())
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|bytes| bytes == word)
}
