//! `weir publish`: one event in, and its result out for whoever waits.
//!
//! The reader of the results stands at their end before the event is published, so that no answer is too fast for it.

use std::time::Duration;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;
use uuid::Uuid;

use crate::config::Config;
use crate::kafka::{self, Outside, Tail};
use crate::record::DEADLINE_HEADER;

use super::draft::Draft;
use super::exit::Exit;
use super::terminal::{fail, print, say};
use super::{Vars, block_on, load};

const EXAMPLES: &str = "\
Examples:
  weir publish --task 'Analyze the sales of last week' --wait
  weir publish --task 'Recommend a supplier' --wait --timeout 60s | jq .result
  weir publish --task 'Recommend a supplier' --wait --deadline 30s
  weir publish --task 'Close the books' --data '{\"year\":2026}' --key ledger
  KAFKA_BOOTSTRAP_SERVERS=kafka:9092 weir publish --task 'Close the books'

Without --wait the event's id is printed: its result's correlation id.

Exit codes: 0 published, and with --wait the result is a success; 1 the result
is none; 64 usage; 65 the event is larger than the topic takes; 69 no broker,
no topic, or no result in time; 77 Kafka refuses us; 78 wrong configuration.";

/// How long a broker may take to be there.
const PATIENCE: Duration = Duration::from_secs(5);

/// What to publish.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// What is to be done; words such as analyze or recommend send it to the model
    #[arg(long, value_name = "TEXT")]
    task: String,
    /// What else is handed over, as JSON: payload.data.data
    #[arg(long, value_name = "JSON", value_parser = json)]
    data: Option<Value>,
    /// The workflow, as you name it
    #[arg(long, value_name = "ID", default_value = "weir-publish")]
    workflow_id: String,
    /// The run of the workflow; the default is the event's id
    #[arg(long, value_name = "ID")]
    run_id: Option<String>,
    /// The event's id, a UUID; the default is a random one
    #[arg(long, value_name = "UUID")]
    event_id: Option<Uuid>,
    /// The Kafka key: with WORKFLOW_ORDERING=key events of one key run one after another
    #[arg(long)]
    key: Option<String>,
    /// Which system asks
    #[arg(long, value_enum, default_value_t = Source::Airflow)]
    source: Source,
    /// The environment that the event belongs to
    #[arg(long, value_enum, default_value_t = Environment::Dev)]
    environment: Environment,
    /// How long the result is of use: later than that, weir does not work on the event
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    deadline: Option<Duration>,
    /// Wait for the result and print it
    #[arg(long)]
    wait: bool,
    /// How long to wait for it
    #[arg(long, default_value = "300s", value_parser = humantime::parse_duration, requires = "wait")]
    timeout: Duration,
}

/// The systems that may ask.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Source {
    Airflow,
    Langgraph,
    Fastapi,
}

/// The environments that there are.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Environment {
    Dev,
    Staging,
    Prod,
}

/// What of a result matters here; whatever else a record holds, it is somebody else's.
#[derive(Debug, Deserialize)]
struct Answer {
    correlation_id: String,
    status: String,
}

pub(super) fn run(arguments: &Arguments, vars: Vars) -> Exit {
    if arguments.data.as_ref().is_some_and(|data| data.get("task").is_some()) {
        fail("--data has a task of its own, which would win over --task; leave one of them out");
        return Exit::Usage;
    }
    match load(vars) {
        Ok(config) => {
            block_on(1, async { publish(arguments, &config, &draft(arguments)).await.into() })
        }
        Err(exit) => exit,
    }
}

fn draft(arguments: &Arguments) -> Draft {
    Draft {
        event_id: arguments.event_id.unwrap_or_else(Uuid::new_v4),
        workflow_id: arguments.workflow_id.clone(),
        run_id: arguments.run_id.clone(),
        task: arguments.task.clone().into(),
        data: arguments.data.clone(),
        source: match arguments.source {
            Source::Airflow => "airflow",
            Source::Langgraph => "langgraph",
            Source::Fastapi => "fastapi",
        },
        environment: match arguments.environment {
            Environment::Dev => "dev",
            Environment::Staging => "staging",
            Environment::Prod => "prod",
        },
    }
}

async fn publish(arguments: &Arguments, config: &Config, draft: &Draft) -> Result<(), Exit> {
    let (events, results) =
        (&config.kafka.workflow_events_topic, &config.kafka.workflow_results_topic);
    let outside = Outside::new(&config.kafka, "publish").map_err(refused)?;
    let wanted: &[&str] = if arguments.wait { &[events, results] } else { &[events] };
    let found = outside.find(wanted, PATIENCE).await.map_err(refused)?;
    if let Some((topic, _)) = wanted.iter().zip(found).find(|(_, is_there)| !is_there) {
        return Err(missing(topic, topic == results));
    }
    let tail = match arguments.wait {
        true => Some(outside.tail(&[results]).await.map_err(refused)?),
        false => None,
    };
    let now = Timestamp::now();
    let event = draft.write(now);
    // The clock's own precision is more than anybody waits by.
    let deadline = arguments.deadline.and_then(|time| now.checked_add(time).ok());
    let deadline = deadline.map(|at| format!("{at:.3}"));
    let headers: Vec<_> = deadline.iter().map(|at| (DEADLINE_HEADER, at.as_str())).collect();
    let key = arguments.key.as_deref();
    let published = outside.publish(events, key, event.as_bytes(), &headers).await;
    let (partition, offset) = published.map_err(refused)?;
    let id = draft.event_id.to_string();
    say(format_args!("published {id} to {events}, partition {partition}, offset {offset}"));
    let Some(tail) = tail else { return print(&format!("{id}\n")) };
    match timeout(arguments.timeout, result_of(&id, &tail)).await {
        Ok(result) => {
            let (status, value) = result.map_err(refused)?;
            print(&format!("{}\n", String::from_utf8_lossy(&value)))?;
            if status == "success" { Ok(()) } else { Err(Exit::Failed) }
        }
        Err(_) => {
            let waited = humantime::format_duration(arguments.timeout);
            fail(format_args!(
                "no result of event {id} within {waited}; the event is published, and its result will come when weir \
                 gets to it"
            ));
            Err(Exit::Unavailable)
        }
    }
}

/// Waits for the first result of the event; returns its status, and the record as it is.
async fn result_of(id: &str, tail: &Tail) -> Result<(String, Bytes), kafka::Error> {
    loop {
        let value = tail.next().await?.value;
        match serde_json::from_slice(&value) {
            Ok(Answer { correlation_id, status }) if correlation_id == id => {
                return Ok((status, value));
            }
            // Somebody else's, or no result at all.
            Ok(_) | Err(_) => {}
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "maps an error that has served its time")]
fn refused(error: kafka::Error) -> Exit {
    fail(&error);
    error.kind.into()
}

fn missing(topic: &str, is_results: bool) -> Exit {
    let remedy = if is_results {
        "weir creates it when it starts, or see KAFKA_WORKFLOW_RESULTS_TOPIC"
    } else {
        "create it, or see KAFKA_WORKFLOW_EVENTS_TOPIC"
    };
    fail(format_args!("topic {topic} does not exist; {remedy}"));
    Exit::Unavailable
}

fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| format!("is no JSON: {error}"))
}
