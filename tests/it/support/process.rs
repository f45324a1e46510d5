//! The real program as a process: started, asked, signalled, killed.

use std::net::TcpListener;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::kafka::{PATIENCE, World};

/// A running weir; killed when dropped.
pub(crate) struct Weir {
    child: Child,
    address: String,
    log: tempfile::NamedTempFile,
}

/// The environment that a weir of `world` gets; more by `set`.
#[derive(Clone)]
pub(crate) struct Environment(Vec<(String, String)>);

impl Environment {
    pub(crate) fn of(world: &World) -> Self {
        let config = &world.config;
        let variables = [
            ("KAFKA_BOOTSTRAP_SERVERS", config.bootstrap_servers.as_str()),
            ("KAFKA_CONSUMER_GROUP_ID", config.consumer_group_id.as_str()),
            ("KAFKA_WORKFLOW_EVENTS_TOPIC", config.workflow_events_topic.as_str()),
            ("KAFKA_WORKFLOW_RESULTS_TOPIC", config.workflow_results_topic.as_str()),
            ("KAFKA_DLQ_TOPIC", config.dlq_topic.as_str()),
            ("KAFKA_JOURNAL_TOPIC", config.journal_topic.as_str()),
            ("KAFKA_AUTO_OFFSET_RESET", "earliest"),
            ("KAFKA_SESSION_TIMEOUT", "6s"),
            ("WORKFLOW_RESULT_MIN_AGE", "0"),
            ("LOG_FORMAT", "text"),
        ];
        Self(variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec())
    }

    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        self.0.retain(|(known, _)| known != name);
        self.0.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn variables(&self) -> &[(String, String)] {
        &self.0
    }

    pub(crate) fn start(&self) -> Weir {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let log = tempfile::NamedTempFile::new().unwrap();
        // One place to write for both: two would write over each other.
        let both = log.reopen().unwrap();
        // Another build than the one that cargo has just made: a release's, or a copy that no rebuild replaces.
        let program = std::env::var_os("WEIR_TEST_BINARY")
            .unwrap_or_else(|| env!("CARGO_BIN_EXE_weir").into());
        let child = Command::new(program)
            .arg("run")
            .env_clear()
            .envs(self.0.iter().map(|(name, value)| (name, value)))
            .env("HTTP_ADDR", &address)
            .stdin(Stdio::null())
            .stdout(both.try_clone().unwrap())
            .stderr(both)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Weir { child, address, log }
    }
}

impl Weir {
    /// Returns the status and the body of a page, or `None` while nobody answers.
    pub(crate) async fn page(&self, path: &str) -> Option<(u16, String)> {
        let exchange = async {
            let mut stream = TcpStream::connect(&self.address).await.ok()?;
            let request = format!("GET {path} HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.ok()?;
            let status = answer.split(' ').nth(1)?.parse().ok()?;
            Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
        };
        timeout(Duration::from_secs(5), exchange).await.ok().flatten()
    }

    /// Waits until `/readyz` is 200.
    pub(crate) async fn ready(&mut self) {
        self.readyz("", |status, _| status == 200).await;
    }

    /// Waits until `/readyz` is 503 for a reason that holds `reason`.
    pub(crate) async fn waits_for(&mut self, reason: &str) {
        self.readyz(reason, |status, body| status == 503 && body.contains(reason)).await;
    }

    async fn readyz(&mut self, what: &str, holds: impl Fn(u16, &str) -> bool) {
        let until = Instant::now() + PATIENCE;
        let mut last = None;
        while Instant::now() < until {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("ended with {status}:\n{}", self.log());
            }
            last = self.page("/readyz?verbose").await;
            if last.as_ref().is_some_and(|(status, body)| holds(*status, body)) {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
        panic!("/readyz never said {what:?}, last {last:?}\n{}", self.log());
    }

    /// Sends a signal by its name, such as `TERM`.
    pub(crate) async fn signal(&self, name: &str) {
        let id = self.child.id().expect("a process that is not waited for").to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().await.unwrap().success());
    }

    /// Returns how it has ended, if it has.
    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Kills it as a crash would.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Waits for its end, and returns the exit code and how long that took.
    pub(crate) async fn ended(&mut self) -> (Option<i32>, Duration) {
        let since = Instant::now();
        let status = timeout(PATIENCE, self.child.wait())
            .await
            .unwrap_or_else(|_| panic!("still runs:\n{}", self.log()));
        (status.unwrap().code(), since.elapsed())
    }

    /// Waits for its end, and returns the signal that ended it, if one did.
    #[cfg(feature = "failpoints")]
    pub(crate) async fn died(&mut self) -> Option<i32> {
        use std::os::unix::process::ExitStatusExt as _;
        let ended = timeout(PATIENCE, self.child.wait()).await;
        ended.unwrap_or_else(|_| panic!("still runs:\n{}", self.log())).unwrap().signal()
    }

    /// Returns all that it has said.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }
}
