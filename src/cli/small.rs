//! The commands that ask for little: the health of a running weir, the graph, the schemas.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::event;
use crate::llm::Scripted;
use crate::workflow;
use crate::{admin, cli::SchemaName};

use super::exit::Exit;
use super::{Vars, load};

/// How to ask for the health.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  weir healthcheck\n  weir healthcheck --live --timeout 1s\n\nExit codes: 0 healthy; 1 not; 69 nobody answers.")]
pub(super) struct Healthcheck {
    /// Ask whether it lives, not whether it is ready
    #[arg(long)]
    live: bool,
    /// Where it listens; the default is `HTTP_ADDR`
    #[arg(long, value_name = "HOST:PORT")]
    addr: Option<SocketAddr>,
    /// How long to wait for the answer
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// How to print the graph.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  weir graph                            for a Markdown page\n  weir graph --format dot | dot -Tsvg   for a picture")]
pub(super) struct GraphArguments {
    /// The language to print it in
    #[arg(long, value_enum, default_value_t = GraphFormat::Mermaid)]
    format: GraphFormat,
}

/// The languages that a graph is printed in.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum GraphFormat {
    /// What Markdown pages draw.
    Mermaid,
    /// What Graphviz draws.
    Dot,
}

pub(super) fn healthcheck(arguments: &Healthcheck, vars: Vars) -> Exit {
    let addr = match arguments.addr {
        Some(addr) => addr,
        None => match load(vars).map(|config| config.admin.addr) {
            Ok(Some(addr)) => addr,
            Ok(None) => {
                eprintln!("error: HTTP_ADDR=off: there is nobody to ask; set it, or give --addr");
                return Exit::Unavailable;
            }
            Err(exit) => return exit,
        },
    };
    let path = if arguments.live { "/livez?verbose" } else { "/readyz?verbose" };
    match admin::probe(addr, path, arguments.timeout) {
        Ok((200, _)) => Exit::Ok,
        Ok((_, report)) => {
            eprint!("{report}");
            Exit::Failed
        }
        Err(error) => {
            eprintln!("error: {error}");
            Exit::Unavailable
        }
    }
}

pub(super) fn graph(arguments: &GraphArguments) -> Exit {
    // The graph's shape does not depend on who answers.
    match workflow::agents_graph(Arc::new(Scripted::labelled())) {
        Ok(graph) => {
            match arguments.format {
                GraphFormat::Mermaid => print!("{}", graph.mermaid()),
                GraphFormat::Dot => print!("{}", graph.dot()),
            }
            Exit::Ok
        }
        Err(error) => {
            eprintln!("error: {error}");
            Exit::Internal
        }
    }
}

pub(super) fn schema(what: SchemaName) -> Exit {
    print!("{}", match what {
        SchemaName::Event => event::EVENT_SCHEMA,
        SchemaName::Result => event::RESULT_SCHEMA,
        SchemaName::DeadLetter => event::DEAD_LETTER_SCHEMA,
    });
    Exit::Ok
}
