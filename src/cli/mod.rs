//! The commands: what a person or an init system types.
//! Data goes to stdout, talk to stderr; exit codes are those of sysexits.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line talks by these")]

use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

use crate::config::{self, Config};

mod check;
mod dev;
mod exit;
mod publish;
mod run;
mod small;

use exit::Exit;

/// The variables of the process's environment.
type Vars = Vec<(OsString, OsString)>;

const EXAMPLES: &str = "\
Examples:
  weir dev                                    try it: an embedded broker and sample events
  weir check --online                         is everything there that a run needs?
  weir run                                    run the daemon; settings come from the environment
  weir publish --task 'Analyze sales' --wait  publish an event and print its result

Settings are environment variables; `weir check` lists them with their values,
docs/configuration.md explains each.";

const RUN_EXAMPLES: &str = "\
Examples:
  KAFKA_BOOTSTRAP_SERVERS=kafka:9092 OLLAMA_BASE_URL=http://ollama:11434 weir run
  LOG_FORMAT=json LOG_LEVEL=debug weir run

SIGTERM and SIGINT drain: running work may finish within SHUTDOWN_GRACE. A second signal aborts.

Exit codes: 0 drained and everything committed; 70 internal error; 75 another process has this
identity, or the last transaction could not be committed; 78 wrong configuration.";

/// Runs agent workflows from a Kafka topic: every event ends in exactly one committed result.
#[derive(Debug, Parser)]
#[command(name = "weir", version, about, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon (the default)
    #[command(after_help = RUN_EXAMPLES)]
    Run,
    /// Try it without Kafka: an embedded broker, sample events, their way through the graph
    Dev(dev::Arguments),
    /// Check the configuration and list it; with --online also brokers, topics and the model
    Check(check::Arguments),
    /// Publish one event, and wait for its result if asked to
    Publish(publish::Arguments),
    /// Ask a running weir whether it is ready; for containers
    Healthcheck(small::Healthcheck),
    /// Print the workflow's graph
    Graph(small::GraphArguments),
    /// Print the JSON Schema of what goes over the wire
    Schema {
        /// Which one
        what: SchemaName,
    },
    /// Serve a scripted model that speaks Ollama's API; for demonstrations without a model
    ScriptedModel {
        /// Where to listen
        #[arg(long, default_value = "127.0.0.1:11434", value_name = "HOST:PORT")]
        addr: SocketAddr,
    },
    /// Print a completion script for a shell
    #[command(after_help = "Examples:\n  weir completions bash > /etc/bash_completion.d/weir")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// What has a schema.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum SchemaName {
    /// What comes in.
    Event,
    /// What goes out.
    Result,
    /// What did not succeed.
    DeadLetter,
}

/// Runs the command that `args` name, in the environment `vars`.
pub fn main(
    args: impl Iterator<Item = OsString>,
    vars: impl Iterator<Item = (OsString, OsString)>,
) -> ExitCode {
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(told) => {
            let exit = if told.use_stderr() { Exit::Usage } else { Exit::Ok };
            // Nothing can be said about a terminal that takes no text.
            drop(told.print());
            return exit.into();
        }
    };
    let vars: Vars = vars.collect();
    match arguments.command.unwrap_or(Command::Run) {
        Command::Run => run::run(vars),
        Command::Dev(arguments) => dev::run(arguments, vars),
        Command::Check(arguments) => check::run(arguments, vars),
        Command::Publish(arguments) => publish::run(arguments, vars),
        Command::Healthcheck(arguments) => small::healthcheck(arguments, vars),
        Command::Graph(arguments) => small::graph(arguments),
        Command::Schema { what } => small::schema(what),
        Command::ScriptedModel { addr } => small::scripted_model(addr),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "weir", &mut std::io::stdout());
            Exit::Ok
        }
    }
    .into()
}

/// Loads the configuration; says everything that is wrong with it at once.
fn load(vars: Vars) -> Result<Config, Exit> {
    match config::load(vars.into_iter()) {
        Ok((config, warnings)) => {
            for warning in warnings {
                eprintln!("warning: {warning}");
            }
            Ok(config)
        }
        Err(problems) => {
            eprintln!("{problems}");
            Err(Exit::Config)
        }
    }
}

/// Runs a command's future on a runtime of its own.
fn block_on(command: impl Future<Output = Exit>) -> Exit {
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let exit = runtime.block_on(command);
            // librdkafka may sit in a call that only its own time-out ends: the process does not wait for it.
            runtime.shutdown_background();
            exit
        }
        Err(error) => {
            eprintln!("error: start the runtime: {error}");
            Exit::Internal
        }
    }
}
