//! The commands: what a person or an init system types.
//!
//! Data goes to stdout, talk to stderr; exit codes are those of sysexits. What a command needs of the world it gets from
//! the other rooms: this one parses, shows and counts.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::config::{self, Config, Warning};

mod check;
mod dev;
mod draft;
mod exit;
mod publish;
mod run;
mod scripted_model;
mod small;
mod terminal;

use exit::Exit;
use terminal::{fail, say};

#[cfg(test)]
mod tests;

/// The variables of the process's environment.
type Vars = Vec<(OsString, OsString)>;

const EXAMPLES: &str = "\
Examples:
  weir dev               try it: an embedded broker and sample events
  weir check --online    is everything there that a run needs?
  weir run               run the daemon; settings come from the environment
  weir publish --task 'Analyze the sales of last week' --wait

Settings are environment variables; `weir check` lists them with their values,
docs/configuration.md explains each.";

/// Runs agent workflows from a Kafka topic: every event ends in exactly one committed result
#[derive(Debug, Parser)]
#[command(name = "weir", version, about, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon (the default)
    #[command(after_help = run::EXAMPLES)]
    Run,
    /// Try it without Kafka: an embedded broker and sample events
    Dev(dev::Arguments),
    /// Check the configuration; with --online also brokers, topics, the model
    Check(check::Arguments),
    /// Publish one event, and wait for its result if asked to
    Publish(publish::Arguments),
    /// Ask a running weir whether it is ready; for containers
    Healthcheck(small::Healthcheck),
    /// Print the workflow's graph
    Graph(small::Graph),
    /// Print the JSON Schema of what goes over the wire
    Schema(small::Schema),
    /// Serve a scripted model that speaks Ollama's API
    ScriptedModel(scripted_model::Arguments),
    /// Print a completion script for a shell
    Completions(small::Completions),
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
        Command::Dev(arguments) => dev::run(&arguments, vars),
        Command::Check(arguments) => check::run(&arguments, vars),
        Command::Publish(arguments) => publish::run(&arguments, vars),
        Command::Healthcheck(arguments) => small::healthcheck(&arguments, vars),
        Command::Graph(arguments) => small::graph(&arguments),
        Command::Schema(arguments) => small::schema(&arguments),
        Command::ScriptedModel(arguments) => scripted_model::run(&arguments),
        Command::Completions(arguments) => small::completions(&arguments, Arguments::command()),
    }
    .into()
}

/// Reads the configuration; says everything that is wrong with it at once.
fn read(vars: Vars) -> Result<(Config, Vec<Warning>), Exit> {
    config::load(vars).map_err(|problems| {
        say(problems);
        Exit::Config
    })
}

/// Reads the configuration, and says also what is odd about it.
fn load(vars: Vars) -> Result<Config, Exit> {
    let (config, warnings) = read(vars)?;
    for warning in warnings {
        say(format_args!("warning: {warning}"));
    }
    Ok(config)
}

/// Runs a command's future on a runtime of its own, with so many threads.
fn block_on(threads: usize, command: impl Future<Output = Exit>) -> Exit {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    match runtime.worker_threads(threads).enable_all().build() {
        Ok(runtime) => {
            let exit = runtime.block_on(command);
            // librdkafka may sit in a call that only its own time-out ends: the process does not wait for it.
            runtime.shutdown_background();
            exit
        }
        Err(error) => {
            fail(format_args!("start the runtime: {error}"));
            Exit::System
        }
    }
}
