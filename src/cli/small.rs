//! The commands that ask for little: the health of a running weir, the graph, the schemas, completions.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::llm::Scripted;
use crate::{admin, event, workflow};

use super::exit::Exit;
use super::terminal::{chain, fail, print, say};
use super::{Vars, read};

const HEALTH_EXAMPLES: &str = "\
Examples:
  weir healthcheck
  weir healthcheck --live --timeout 1s

Exit codes: 0 healthy; 1 not, and stderr says why; 69 nobody answers;
78 wrong configuration.";

const GRAPH_EXAMPLES: &str = "\
Examples:
  weir graph                            as Mermaid, for a page in Markdown
  weir graph --format dot | dot -Tsvg   as a picture, by Graphviz";

const SCHEMA_EXAMPLES: &str = "\
Examples:
  weir schema event
  weir schema result > result.schema.json";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  weir completions bash > /etc/bash_completion.d/weir
  weir completions zsh > \"${fpath[1]}/_weir\"
  weir completions fish > ~/.config/fish/completions/weir.fish";

/// How to ask for the health.
#[derive(Debug, Args)]
#[command(after_help = HEALTH_EXAMPLES)]
pub(super) struct Healthcheck {
    /// Ask whether it lives, not whether it is ready
    #[arg(long)]
    live: bool,
    /// Where it listens; the default is HTTP_ADDR
    #[arg(long, value_name = "HOST:PORT")]
    addr: Option<SocketAddr>,
    /// How long to wait for the answer
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// How to print the graph.
#[derive(Debug, Args)]
#[command(after_help = GRAPH_EXAMPLES)]
pub(super) struct Graph {
    /// The language to print it in
    #[arg(long, value_enum, default_value_t = GraphFormat::Mermaid)]
    format: GraphFormat,
}

/// The languages that a graph is printed in.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum GraphFormat {
    /// What pages in Markdown draw
    Mermaid,
    /// What Graphviz draws
    Dot,
}

/// Which schema to print.
#[derive(Debug, Args)]
#[command(after_help = SCHEMA_EXAMPLES)]
pub(super) struct Schema {
    /// Which one
    what: SchemaName,
}

/// What has a schema.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum SchemaName {
    /// What comes in
    Event,
    /// What goes out
    Result,
    /// What did not succeed
    DeadLetter,
}

/// Which completions to print.
#[derive(Debug, Args)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub(super) struct Completions {
    /// Which shell
    shell: clap_complete::Shell,
}

pub(super) fn healthcheck(arguments: &Healthcheck, vars: Vars) -> Exit {
    let addr = match arguments.addr {
        Some(addr) => addr,
        // Warnings are for whoever starts weir, not for every probe.
        None => match read(vars).map(|(config, _)| config.admin.addr) {
            Ok(Some(addr)) => addr,
            Ok(None) => {
                fail("HTTP_ADDR=off: there is nobody to ask; set it, or give --addr");
                return Exit::Unavailable;
            }
            Err(exit) => return exit,
        },
    };
    let path = if arguments.live { "/livez?verbose" } else { "/readyz?verbose" };
    match admin::probe(addr, path, arguments.timeout) {
        Ok((200, _)) => Exit::Ok,
        Ok((_, report)) => {
            say(report.trim_end());
            Exit::Failed
        }
        Err(error) => {
            fail(chain(&error));
            Exit::Unavailable
        }
    }
}

pub(super) fn graph(arguments: &Graph) -> Exit {
    // The graph's shape does not depend on who answers.
    match workflow::agents_graph(Arc::new(Scripted::labelled())) {
        Ok(graph) => print(&match arguments.format {
            GraphFormat::Mermaid => graph.mermaid(),
            GraphFormat::Dot => graph.dot(),
        })
        .into(),
        Err(error) => {
            fail(chain(&error));
            Exit::Internal
        }
    }
}

pub(super) fn schema(arguments: &Schema) -> Exit {
    print(match arguments.what {
        SchemaName::Event => event::EVENT_SCHEMA,
        SchemaName::Result => event::RESULT_SCHEMA,
        SchemaName::DeadLetter => event::DEAD_LETTER_SCHEMA,
    })
    .into()
}

pub(super) fn completions(arguments: &Completions, mut command: clap::Command) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "weir", &mut script);
    print(&String::from_utf8_lossy(&script)).into()
}
