//! A broker that one test has to itself, to kill and to stop: `tests/env/kafka` under a name of its own.

#![expect(clippy::print_stderr, reason = "a broker that does not come up has to say why")]

use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;

use super::kafka::unique;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/env/kafka");

/// What a broker says when, at its start, it ends a transaction without the markers of these partitions.
const LOST_MARKERS: &str = "Couldn't find leader endpoint for partitions";

/// What a broker says that has loaded the group's offsets twice at its start: it forgot to time the sessions of the
/// members that it remembers, and waits for dead ones (Kafka 4.3.1; classic: until the rebalance times out, consumer:
/// until it starts again).
const LOADED_TWICE: &str = "Ignored load completion from __consumer_offsets";

/// The running broker; dropped, it is removed with its data.
pub(crate) struct OwnBroker {
    name: String,
    address: String,
    log: PathBuf,
}

impl OwnBroker {
    pub(crate) async fn start(name: &str) -> Self {
        let name = unique(name);
        // From here on a failure removes what there is.
        let mut broker = Self { name, address: String::new(), log: PathBuf::new() };
        broker.tell("start").await;
        let exports = broker.tell("env").await;
        let value = |variable: &str| {
            let found = exports.lines().find_map(|line| line.split_once(&format!("{variable}=")));
            found.unwrap_or_else(|| panic!("no {variable} in {exports}")).1.to_owned()
        };
        broker.address = value("WEIR_TEST_KAFKA");
        broker.log = PathBuf::from(value("WEIR_TEST_KAFKA_CTL")).with_file_name("broker.log");
        broker
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) async fn kill(&self) {
        self.tell("kill").await;
    }

    /// Starts it again after a kill, with its port and its data.
    pub(crate) async fn start_again(&self) {
        self.tell("start").await;
    }

    pub(crate) async fn pause(&self) {
        self.tell("pause").await;
    }

    pub(crate) async fn resume(&self) {
        self.tell("resume").await;
    }

    /// Returns what the broker, in all its lives, said of transactions that it ended without their markers.
    pub(crate) fn lost_markers(&self) -> Vec<String> {
        let logs = ["earlier.log", "broker.log"].map(|name| self.log.with_file_name(name));
        let text: String =
            logs.iter().filter_map(|log| std::fs::read_to_string(log).ok()).collect();
        let lost = text.lines().filter(|line| line.contains(LOST_MARKERS));
        lost.map(str::to_owned).collect()
    }

    /// Restarts the broker in good order if it may be waiting for members that are dead. Returns what it said.
    pub(crate) async fn forget_dead_members(&self) -> Vec<String> {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let said = log.lines().filter(|line| line.contains(LOADED_TWICE));
        let said: Vec<_> = said
            .map(|line| format!("restarted, as it may wait for dead members: {line}"))
            .collect();
        if !said.is_empty() {
            self.tell("stop").await;
            self.tell("start").await;
        }
        said
    }

    /// Ends the transactions that hang in partitions, rolling them back: what docs/operations.md tells an operator to
    /// do. Returns what was ended.
    pub(crate) async fn end_hanging(&self) -> Vec<String> {
        let found = self
            .transactions(&["find-hanging", "--broker-id", "1", "--max-transaction-timeout", "1"])
            .await;
        let mut ended = Vec::new();
        for line in found.lines().skip(1) {
            let words: Vec<_> = line.split_whitespace().collect();
            let [topic, partition, _, _, _, start, ..] = words[..] else { continue };
            let place = ["--topic", topic, "--partition", partition, "--start-offset", start];
            let arguments: Vec<_> = ["abort"].into_iter().chain(place).collect();
            let said = self.transactions(&arguments).await;
            ended.push(format!("{line}: {said}"));
        }
        ended
    }

    async fn transactions(&self, arguments: &[&str]) -> String {
        let class = ["java", "org.apache.kafka.tools.TransactionsCommand", "--bootstrap-server"];
        let output = Command::new(SCRIPT).args(class).arg(&self.address).args(arguments).output();
        String::from_utf8_lossy(&output.await.unwrap().stdout).into_owned()
    }

    async fn tell(&self, command: &str) -> String {
        let output = Command::new(SCRIPT)
            .args([command, &self.name])
            .stdin(Stdio::null())
            .output()
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kafka {command} {}: {said}", self.name);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for OwnBroker {
    fn drop(&mut self) {
        let removed = std::process::Command::new(SCRIPT).args(["remove", &self.name]).output();
        if !removed.as_ref().is_ok_and(|output| output.status.success()) {
            eprintln!("{}: not removed: {removed:?}", self.name);
        }
    }
}
