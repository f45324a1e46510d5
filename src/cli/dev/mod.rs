//! `weir dev`: all of weir on a machine that has nothing else.
//!
//! The same service as `weir run`, on a broker in this process's memory and on the configured model where that answers,
//! else on a scripted one that says so in every answer. Sample events are published, and what becomes of them is shown.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::time::timeout;

use crate::config::Config;
use crate::dispatch::DeliveryGuarantee;
use crate::kafka::{self, AutoOffsetReset, Mock, Outside, Reporter};
use crate::llm::{Client, Presence, Scripted};
use crate::service::Service;
use crate::shutdown::Shutdown;
use crate::telemetry::logs::{self, Output};
use crate::telemetry::{Format, Health, Metrics};

use super::exit::Exit;
use super::run::{exit_of, until_signalled};
use super::terminal::{Style, chain, fail};
use super::{Vars, block_on, load};

mod forward;
mod samples;
mod screen;
mod show;
mod watch;

#[cfg(test)]
mod tests;

use screen::{Screen, Side};
use show::Show;

const EXAMPLES: &str = "\
Examples:
  weir dev                            samples, then whatever you publish
  weir publish --task 'Analyze sales' --wait    meanwhile, in another terminal
  OLLAMA_MODEL=qwen3:0.6b weir dev    with a model of yours
  weir dev --once | jq -c '[.status, .error]'

The broker is librdkafka's mock cluster: in memory, at least once (exactly once
takes a real broker), and gone when this ends. Of KAFKA_* only the names of the
topics and of the group are read. The model is the configured one when it is
there within a second, else a script that says so in every answer.

Exit codes: 0 all is well; 1 a sample had no result in time, or --once was
interrupted; 70 internal error; 78 wrong configuration.";

/// The port that clients expect a broker at.
const PORT: u16 = 9092;

/// How long the model's server may take to say that it is there.
const MODEL_PATIENCE: Duration = Duration::from_secs(1);

/// How long runs may go on after Ctrl-C, unless `SHUTDOWN_GRACE` is set: nobody waits for a sample.
const GRACE: Duration = Duration::from_secs(2);

/// The settings of Kafka that mean the same here.
const KEPT: [&str; 5] = [
    "KAFKA_CONSUMER_GROUP_ID",
    "KAFKA_WORKFLOW_EVENTS_TOPIC",
    "KAFKA_WORKFLOW_RESULTS_TOPIC",
    "KAFKA_DLQ_TOPIC",
    "KAFKA_JOURNAL_TOPIC",
];

/// How to try it.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Publish the samples, print their results as JSON lines, and end
    #[arg(long)]
    once: bool,
    /// How long the samples may take with --once
    #[arg(long, default_value = "2m", value_parser = humantime::parse_duration, requires = "once")]
    timeout: Duration,
    /// Where clients reach the broker; a free port when it is taken, or 0
    #[arg(long, default_value_t = PORT, conflicts_with = "once")]
    port: u16,
}

pub(super) fn run(arguments: &Arguments, vars: Vars) -> Exit {
    let side = if arguments.once { Side::Stderr } else { Side::Stdout };
    let style = match side {
        Side::Stdout => Style::of(&std::io::stdout(), &vars),
        Side::Stderr => Style::of(&std::io::stderr(), &vars),
    };
    let config = match settings(arguments, vars) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    if let Err(error) = logs::init(&config.telemetry, Output::Stderr, &Metrics::default()) {
        fail(chain(&error));
        return Exit::Config;
    }
    block_on(config.service.threads(), async {
        match Box::pin(dev(arguments, config, Screen::new(side, style))).await {
            Ok(exit) => exit,
            Err(error) => {
                fail(&error);
                Exit::Internal
            }
        }
    })
}

/// Returns the configuration of a trial: what is set counts, what is not set gets another default where that is kinder.
fn settings(arguments: &Arguments, vars: Vars) -> Result<Config, Exit> {
    let is_set = |name: &str| vars.iter().any(|(known, value)| known == name && !value.is_empty());
    let (min_age, grace, addr) =
        (is_set("WORKFLOW_RESULT_MIN_AGE"), is_set("SHUTDOWN_GRACE"), is_set("HTTP_ADDR"));
    let (level, format) = (is_set("LOG_LEVEL") || is_set("RUST_LOG"), is_set("LOG_FORMAT"));
    let ours = |name: &str| {
        name == "DELIVERY_GUARANTEE" || (name.starts_with("KAFKA_") && !KEPT.contains(&name))
    };
    let vars = vars.into_iter().filter(|(name, _)| !name.to_str().is_some_and(ours));
    let mut config = load(vars.collect())?;
    config.dispatch.delivery_guarantee = DeliveryGuarantee::AtLeastOnce;
    config.kafka.auto_offset_reset = AutoOffsetReset::Earliest;
    // The mock cluster holds a fetch back for as long as it may, whether something comes or not.
    config.kafka.properties.consumer.insert("fetch.wait.max.ms".to_owned(), "20".to_owned());
    if !min_age {
        // Whoever waits here has subscribed first.
        config.dispatch.result_min_age = Duration::ZERO;
    }
    if !grace {
        config.service.shutdown_grace = GRACE;
    }
    if !level {
        // What is worth a warning is shown.
        "error".clone_into(&mut config.telemetry.level);
    }
    if !format {
        config.telemetry.format = Format::Text;
    }
    if !addr {
        config.admin.addr = if arguments.once { None } else { config.admin.addr.and_then(free) };
    }
    Ok(config)
}

/// Returns the address, or one on a free port when that one is taken.
fn free(addr: SocketAddr) -> Option<SocketAddr> {
    let any = SocketAddr::new(addr.ip(), 0);
    [addr, any].into_iter().find_map(|addr| TcpListener::bind(addr).ok()?.local_addr().ok())
}

async fn dev(
    arguments: &Arguments,
    mut config: Config,
    mut screen: Screen,
) -> Result<Exit, kafka::Error> {
    let health = Health::default().component("kafka");
    let mock = Mock::start(&config.kafka, &Reporter::new("weir dev", health))?;
    mock.servers().clone_into(&mut config.kafka.bootstrap_servers);
    let door = if arguments.once || arguments.port == 0 {
        None
    } else {
        forward::open(arguments.port).await
    };
    let bootstrap = match door {
        Some(_) => format!("{}:{}", Ipv4Addr::LOCALHOST, arguments.port),
        None => mock.servers().to_owned(),
    };
    let model = choose(&config).await;
    screen.introduce(&bootstrap, &model, config.admin.addr);

    let outside = Outside::new(&config.kafka, "dev")?;
    let topics = [config.kafka.workflow_results_topic.as_str(), config.kafka.dlq_topic.as_str()];
    let tail = outside.tail(&topics).await?;
    let (watch, told) = watch::channel();
    let (kafka, http) = (config.kafka.clone(), config.admin.addr);
    let service = Service::new(config).with_watch(watch);
    let show = Show::new(&kafka, (outside, tail), told, screen, service.health().clone());
    let service = match model {
        Model::Configured(_) => service,
        Model::Scripted(_) => service.with_model(Arc::new(Scripted::labelled())),
    };
    let shutdown = Shutdown::default();
    let stop = shutdown.drain.clone();
    let mut running = pin!(until_signalled(service, shutdown));
    let limit = arguments.once.then_some(arguments.timeout);
    // Biased: the show learns of a signal before the service has drained, and says how it ends.
    let exit = tokio::select! {
        biased;
        exit = show.run((&bootstrap, http), limit, &stop) => exit,
        ended = &mut running => return Ok(ended.map_or_else(|error| ended_badly(&error), |_| Exit::Internal)),
        () = forward::serve(door, mock.servers()) => Exit::Internal,
    };
    stop.cancel();
    Ok(running.await.map_or_else(|error| ended_badly(&error), |_| exit))
}

fn ended_badly(error: &crate::service::Error) -> Exit {
    fail(chain(error));
    exit_of(error)
}

/// Who answers, and what to say about it.
enum Model {
    Configured(String),
    Scripted(String),
}

/// Takes the configured model when it is there.
async fn choose(config: &Config) -> Model {
    let client = match Client::new(&config.llm, Arc::new(|_| ())) {
        Ok(client) => client,
        Err(error) => return Model::Scripted(error.to_string()),
    };
    let (model, endpoint) = (client.model(), client.endpoint());
    match timeout(MODEL_PATIENCE, client.check()).await {
        Err(_) => Model::Scripted(format!("{endpoint} does not answer within {MODEL_PATIENCE:?}")),
        Ok(Err(error)) => Model::Scripted(error.to_string()),
        Ok(Ok(report)) => match report.presence {
            Presence::Present | Presence::Unknown => {
                Model::Configured(format!("{model} at {endpoint}"))
            }
            Presence::Missing => Model::Scripted(format!("{endpoint} does not have {model}")),
        },
    }
}
