//! What a person sees: one line per thing that happens, the event's id in front.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

use crate::cli::terminal::{Ink, Style, write};
use crate::kafka::Seen;

use super::Model;
use super::watch::{Told, What, cut};

/// The longest result that is shown, in characters, where no model has answered.
const RESULT_MAX: usize = 160;

/// How many lines of a model's answer are shown.
const ANSWER_LINES_MAX: usize = 40;

/// Where the model's answer is in a result.
const ANSWER: &str = "/result/agent_results/llm_analysis/result";

/// Which stream the show goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The show is what was asked for.
    Stdout,
    /// Results are what was asked for.
    Stderr,
}

/// Where lines go.
#[derive(Debug)]
pub(super) struct Screen {
    side: Side,
    style: Style,
    /// Nobody reads any more.
    gone: bool,
}

impl Screen {
    pub(super) fn new(side: Side, style: Style) -> Self {
        Self { side, style, gone: false }
    }

    /// Says whether nobody reads any more.
    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Says what this is.
    pub(super) fn introduce(&mut self, bootstrap: &str, model: &Model, http: Option<SocketAddr>) {
        self.line(&format!("weir {}, on trial", env!("CARGO_PKG_VERSION")));
        self.fact("broker", &format!("{bootstrap}, in memory: at least once, gone when this ends"));
        match model {
            Model::Configured(model) => self.fact("model", model),
            Model::Scripted(reason) => {
                self.fact("model", &format!("scripted, and every answer says so: {reason}"));
            }
        }
        if let Some(addr) = http {
            self.fact("http", &format!("http://{addr}"));
        }
    }

    fn fact(&mut self, name: &str, text: &str) {
        let name = self.style.paint(Ink::Dim, format_args!("{name:<8}"));
        self.line(&format!("  {name}  {text}"));
    }

    /// Says what can be done from another terminal.
    pub(super) fn invite(&mut self, (servers, http): (&str, Option<SocketAddr>), results: &str) {
        let environment = match servers.rsplit_once(':') {
            Some((_, "9092")) => String::new(),
            Some(_) | None => format!("KAFKA_BOOTSTRAP_SERVERS={servers} "),
        };
        self.line("");
        self.line("Up until Ctrl-C. From another terminal:");
        self.line(&format!("  {environment}weir publish --task 'Recommend a supplier' --wait"));
        self.line(&format!("  kcat -b {servers} -t {results} -C"));
        if let Some(addr) = http {
            self.line(&format!("  curl http://{addr}/readyz?verbose"));
        }
    }

    /// Says that a sample is published.
    pub(super) fn published(&mut self, id: Uuid, about: &str) {
        self.line("");
        let about = self.style.paint(Ink::Dim, about);
        self.about(id, &format!("sample    {about}"));
    }

    /// Shows a step of a run.
    pub(super) fn told(&mut self, told: &Told) {
        let style = self.style;
        let text = match &told.what {
            What::Began { at, attempt, task } => {
                let again =
                    if *attempt > 1 { format!("attempt {attempt}, ") } else { String::new() };
                let place = style.paint(
                    Ink::Dim,
                    format_args!("partition {}, offset {}", at.partition, at.offset),
                );
                format!("run       {again}{task} {place}")
            }
            What::Answered { step, node, wrote, took } => {
                let took = took.map_or_else(|| "journal".to_owned(), |took| format!("{took:.1?}"));
                let node = style.paint(Ink::Cyan, format_args!("{node:<15}"));
                let took = style.paint(Ink::Dim, format_args!("{took:>8}"));
                format!("{step:>6}    {node} {took}  {wrote}")
            }
            What::Failed { step, node, why, took } => {
                let node = style.paint(Ink::Cyan, format_args!("{node:<15}"));
                let took = style.paint(Ink::Dim, format_args!("{:>8}", format!("{took:.1?}")));
                format!(
                    "{step:>6}    {node} {took}  {}",
                    style.paint(Ink::Red, format_args!("failed: {why}"))
                )
            }
        };
        self.about(told.run, &text);
    }

    /// Shows a result.
    pub(super) fn result(
        &mut self,
        id: Uuid,
        result: &Value,
        (seen, took): (&Seen, Option<Duration>),
    ) {
        let status = result.get("status").and_then(Value::as_str).unwrap_or("?");
        let ink = match status {
            "success" => Ink::Green,
            "failure" => Ink::Yellow,
            _ => Ink::Red,
        };
        let status = self.style.paint(ink, format_args!("{status:<8}"));
        let took = took.map_or_else(String::new, |took| format!("after {took:.0?} "));
        self.about(id, &format!("{status}  {took}{}", self.place(seen)));
        let texts =
            [result.get("error"), result.pointer(ANSWER)].map(|text| text.and_then(Value::as_str));
        let nothing = texts.iter().all(Option::is_none);
        for line in texts.into_iter().flatten().flat_map(str::lines).take(ANSWER_LINES_MAX) {
            self.line(&format!("{:20}{line}", ""));
        }
        if let Some(result) = result.get("result").filter(|_| nothing) {
            self.line(&format!("{:20}{}", "", cut(&result.to_string(), RESULT_MAX)));
        }
    }

    /// Shows a dead letter.
    pub(super) fn letter(&mut self, id: Option<Uuid>, letter: &Value, seen: &Seen) {
        let class = letter.pointer("/error/type").and_then(Value::as_str).unwrap_or("?");
        let text = format!("letter    {class} {}", self.place(seen));
        match id {
            Some(id) => self.about(id, &text),
            None => self.line(&format!("{:8}  {text}", "")),
        }
    }

    fn place(&self, seen: &Seen) -> String {
        let place =
            format_args!("in {}, partition {}, offset {}", seen.topic, seen.partition, seen.offset);
        self.style.paint(Ink::Dim, place)
    }

    fn about(&mut self, id: Uuid, text: &str) {
        let id = id.simple().to_string();
        let id = self.style.paint(Ink::Dim, id.get(..8).unwrap_or_default());
        self.line(&format!("{id}  {text}"));
    }

    fn line(&mut self, text: &str) {
        let line = format!("{text}\n");
        let written = match self.side {
            Side::Stdout => write(&mut io::stdout().lock(), &line),
            Side::Stderr => io::stderr().lock().write_all(line.as_bytes()),
        };
        self.gone |= written.is_err() && self.side == Side::Stdout;
    }
}
