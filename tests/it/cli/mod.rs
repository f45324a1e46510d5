//! The commands as somebody types them: exit codes, what is data and what is talk.

use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

use crate::support::kafka::PATIENCE;

mod dev;
mod online;
mod plain;

/// What every scripted answer begins with.
const LABEL: &str = "[scripted: no model was asked]";

/// A port that nobody listens on: 9 is reserved for throwing things away, and on no host of tests.
const NOBODY: &str = "127.0.0.1:9";

/// How a command ended.
struct Ended {
    code: i32,
    out: String,
    err: String,
}

impl Ended {
    /// Returns the data as JSON, one value per line.
    fn json(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn command<'v>(
    arguments: &[&str],
    variables: impl IntoIterator<Item = (&'v str, &'v str)>,
) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args(arguments).env_clear().envs(variables).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs a command to its end in an environment that has nothing else.
async fn weir<'v>(
    arguments: &[&str],
    variables: impl IntoIterator<Item = (&'v str, &'v str)>,
) -> Ended {
    let ended = timeout(PATIENCE, command(arguments, variables).output()).await;
    let output = ended.unwrap_or_else(|_| panic!("weir {arguments:?} does not end")).unwrap();
    Ended {
        code: output.status.code().unwrap_or_else(|| panic!("weir {arguments:?} was killed")),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

const NOTHING: [(&str, &str); 0] = [];

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A command that stays up, and what it says on the stream that says when it is up.
struct Up<S> {
    child: Child,
    lines: Lines<BufReader<S>>,
}

impl<S: tokio::io::AsyncRead + Unpin> Up<S> {
    /// Waits for the line that holds `what`.
    async fn says(&mut self, what: &str) -> String {
        let heard = timeout(PATIENCE, async {
            let mut all = String::new();
            while let Some(line) = self.lines.next_line().await.unwrap() {
                if line.contains(what) {
                    return line;
                }
                all.push_str(&line);
                all.push('\n');
            }
            panic!("ended without saying {what:?}:\n{all}")
        });
        heard.await.unwrap_or_else(|_| panic!("never says {what:?}"))
    }

    /// Sends SIGTERM and returns the exit code. What it still says is read, so that it is not stopped by a full pipe.
    async fn terminate(mut self) -> Option<i32> {
        let id = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-s", "TERM", &id]).status().await.unwrap().success());
        let ended = timeout(PATIENCE, async {
            while self.lines.next_line().await.unwrap().is_some() {}
            self.child.wait().await.unwrap().code()
        });
        ended.await.expect("it ends")
    }
}

fn scripted_model(address: SocketAddr) -> Up<ChildStderr> {
    let address = address.to_string();
    let mut command = command(&["scripted-model", "--addr", &address], NOTHING);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    Up { child, lines }
}

/// Starts a scripted model, and returns its base URL with it.
async fn a_scripted_model() -> (String, Up<ChildStderr>) {
    let address = free_address();
    let mut model = scripted_model(address);
    model.says("scripted model at http://").await;
    (format!("http://{address}"), model)
}

fn answer(result: &Value) -> &str {
    result["result"]["agent_results"]["llm_analysis"]["result"].as_str().unwrap_or_default()
}
