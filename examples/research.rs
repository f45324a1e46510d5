//! Parallel research, then a summary: a graph of its own on weir's engine, asking a real model.
//!
//! Three researchers look at one question at once, each from its own side. When all three have
//! answered, an editor makes one text of it. What happens goes to standard error as it happens, the
//! text to standard output.
//!
//! ```console
//! $ cargo run --example research -- 'Should a village bakery open on Sundays?'
//! $ cargo run --example research -- --record answers.jsonl 'Should a village bakery open on Sundays?'
//! $ cargo run --example research -- --mermaid
//! ```
//!
//! The second line can be killed at any time and started again: what was answered is not asked
//! again. The third draws the graph and asks nobody.
//!
//! The model is the one that weir would ask: `OLLAMA_BASE_URL` (http://localhost:11434),
//! `OLLAMA_MODEL` (llama3.2:latest), or what else docs/configuration.md says of `LLM_*` and
//! `OPENAI_*`. docs/graph.md explains the engine.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it talks to a terminal")]

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use futures_util::future::BoxFuture;
use weir::graph::{
    self, BuildError, Context, Effects, EffectsError, Event, Graph, Node, NodeFuture, NodeOptions,
    Observer, Options, Retry,
};
use weir::llm::{self, ChatModel, QueueTime, Request};
use weir::{config, retry};

// What the nodes share, and how each field takes what they write.
graph::state! {
    /// A question on its way to an answer.
    #[derive(Debug, Clone, Default)]
    pub struct Report {
        /// What is asked.
        pub question: String => overwrite,
        /// What each researcher found, by its name.
        pub findings: BTreeMap<String, String> => merge,
        /// What it comes to. There is one editor; a second one would be an error.
        pub summary: String => last_value,
        /// Tokens of all answers together.
        pub tokens: u64 => add,
    }
    /// What one node adds to the report.
    pub update Note;
    error llm::Error;
}

/// The researchers, and the side from which each looks.
const SIDES: [(&str, &str); 3] = [
    ("economist", "what it costs and what it brings in"),
    ("neighbour", "what it means for the people around"),
    ("sceptic", "what speaks against it and what nobody knows yet"),
];

/// Looks at the question from one side.
struct Researcher {
    side: &'static str,
    model: Arc<dyn ChatModel>,
}

impl Node<Report> for Researcher {
    fn run<'a>(&'a self, report: &'a Report, context: Context<'a>) -> NodeFuture<'a, Report> {
        NodeFuture::new(async move {
            let (side, question) = (self.side, &report.question);
            let prompt = format!("In three sentences, say {side}.\n\nQuestion: {question}");
            let (text, tokens) = ask(&*self.model, &prompt).await?;
            Ok(Note::default().findings([(context.node.to_owned(), text)].into()).tokens(tokens))
        })
    }
}

/// Makes one text of all findings.
struct Editor {
    model: Arc<dyn ChatModel>,
}

impl Node<Report> for Editor {
    fn run<'a>(&'a self, report: &'a Report, _: Context<'a>) -> NodeFuture<'a, Report> {
        NodeFuture::new(async move {
            let finding = |(name, text): (&String, &String)| format!("The {name}: {text}\n\n");
            let findings: String = report.findings.iter().map(finding).collect();
            let question = &report.question;
            let prompt = format!("{findings}Weigh this, and answer briefly: {question}");
            let (summary, tokens) = ask(&*self.model, &prompt).await?;
            Ok(Note::default().summary(summary).tokens(tokens))
        })
    }
}

async fn ask(model: &dyn ChatModel, prompt: &str) -> Result<(String, u64), llm::Error> {
    let answer = model.ask(Request::prompt(prompt, &QueueTime::default())).await?;
    Ok((answer.text, answer.usage.map_or(0, |usage| usage.output_tokens)))
}

/// All researchers at once, then the editor. `build` checks it as a whole.
fn research(model: &Arc<dyn ChatModel>) -> Result<Graph<Report>, BuildError> {
    let worth = |error: &llm::Error| match error.disposition() {
        retry::Disposition::Retry { .. } | retry::Disposition::Elsewhere => true,
        retry::Disposition::Reject | retry::Disposition::Stop => false,
    };
    let (first, longest) = (Duration::from_millis(500), Duration::from_secs(10));
    let asking = || {
        let retry = Retry::exponential(3, first, longest).when(worth);
        NodeOptions::new().durable().timeout(Duration::from_mins(5)).retry(retry)
    };
    let mut graph = Graph::builder();
    for (name, side) in SIDES {
        let researcher = Researcher { side, model: Arc::clone(model) };
        graph = graph.node_with(name, researcher, asking()).entry(name);
    }
    graph
        .node_with("editor", Editor { model: Arc::clone(model) }, asking())
        .join(SIDES.map(|(name, _)| name), "editor")
        .finish("editor")
        .build()
}

/// Tells on standard error what happens, while it happens.
struct Teller;

impl Observer<Report> for Teller {
    fn on(&self, event: &Event<'_, Report>) {
        match event {
            Event::Planned { step, nodes } => eprintln!("superstep {step}: {nodes}"),
            Event::Started { node, attempt, .. } => eprintln!("  {node} asks, attempt {attempt}"),
            Event::Updated { node, replayed: true, .. } => {
                eprintln!("  {node} has answered before")
            }
            Event::Updated { node, took, .. } => eprintln!("  {node} answered in {took:.1?}"),
            Event::Failed { node, fault, .. } => eprintln!("  {node} failed: {fault}"),
            Event::Retried { node, delay, .. } => eprintln!("  {node} asks again in {delay:?}"),
            Event::Done { state, .. } => eprintln!("done, {} tokens\n", state.tokens),
            Event::Input { .. } | Event::Applied { .. } | Event::Aborted { .. } => {}
        }
    }
}

/// What was paid for, in a file of lines: whose answer, the how many-th, to which question.
struct Record<'q> {
    question: &'q str,
    answers: HashMap<(String, u32), Note>,
    file: File,
}

impl<'q> Record<'q> {
    fn open(path: &Path, question: &'q str) -> io::Result<Self> {
        let file = File::options().create(true).read(true).append(true).open(path)?;
        let mut answers = HashMap::new();
        for line in BufReader::new(&file).lines() {
            // A line that a crash cut short is no answer.
            let Ok((asked, node, visit, note)) =
                serde_json::from_str::<(String, String, u32, Note)>(&line?)
            else {
                continue;
            };
            if asked == question {
                answers.insert((node, visit), note);
            }
        }
        Ok(Self { question, answers, file })
    }
}

impl Effects<Report> for Record<'_> {
    fn recorded(&self, node: &str, visit: u32) -> Result<Option<Note>, EffectsError> {
        Ok(self.answers.get(&(node.to_owned(), visit)).cloned())
    }

    fn record<'a>(
        &'a self,
        node: &'a str,
        visit: u32,
        note: &'a Note,
    ) -> BoxFuture<'a, Result<(), EffectsError>> {
        Box::pin(async move {
            // It begins with the line's end, so that whatever a crash left stays on a line of its own.
            let line = serde_json::to_string(&(self.question, node, visit, note))?;
            (&self.file).write_all(format!("\n{line}").as_bytes())?;
            Ok(self.file.sync_data()?)
        })
    }
}

/// Researches a question from several sides at once, and sums up.
#[derive(Parser)]
struct Arguments {
    /// What is asked.
    #[arg(default_value = "Should a village bakery open on Sundays?")]
    question: String,
    /// Keeps answers in this file, and asks for none of those that are there.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Draws the graph in Mermaid, and asks nobody.
    #[arg(long)]
    mermaid: bool,
}

async fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let (config, _) = config::load(std::env::vars_os())?;
    let model = llm::Client::new(&config.llm, Arc::new(|_| ()))?;
    let graph = research(&(Arc::new(model) as Arc<dyn ChatModel>))?;
    if arguments.mermaid {
        print!("{}", graph.mermaid());
        return Ok(());
    }
    let question = arguments.question;
    let record = arguments.record.map(|path| Record::open(&path, &question)).transpose()?;
    let mut options = Options::new().observer(&Teller);
    if let Some(record) = &record {
        options = options.effects(record);
    }

    let report = Report { question: question.clone(), ..Report::default() };
    let report = graph.run(report, &options).await?;

    println!("{}", report.summary);
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Err(error) = run(Arguments::parse()).await else {
        return ExitCode::SUCCESS;
    };
    // What went wrong, and why, down to the first cause.
    let causes = std::iter::successors(Some(&*error), |&error| error.source());
    let text: Vec<String> = causes.map(ToString::to_string).collect();
    eprintln!("research: {}", text.join(": "));
    ExitCode::FAILURE
}
