//! `weir run`: the daemon.

use std::pin::pin;

use tracing::{error, warn};

use crate::config::Warning;
use crate::dispatch::End;
use crate::kafka::Kind;
use crate::service::{self, Service};
use crate::shutdown::Shutdown;
use crate::telemetry::logs::{self, Output};
use crate::{sink, source};

use super::exit::Exit;
use super::terminal::{chain, fail};
use super::{Vars, block_on, read};

pub(super) const EXAMPLES: &str = "\
Examples:
  KAFKA_BOOTSTRAP_SERVERS=kafka:9092 weir run
  LOG_FORMAT=json LOG_LEVEL=debug weir run

SIGTERM and SIGINT drain: running work may finish within SHUTDOWN_GRACE.
A second signal aborts.

Exit codes: 0 drained, everything committed; 70 internal error; 75 start it
again: another process has this identity, or the last transaction could not be
committed; 78 wrong configuration.";

pub(super) fn run(vars: Vars) -> Exit {
    #[cfg(feature = "failpoints")]
    if let Err(reason) = crate::failpoint::arm(&vars) {
        fail(reason);
        return Exit::Config;
    }
    let (config, warnings) = match read(vars) {
        Ok(read) => read,
        Err(exit) => return exit,
    };
    let (telemetry, threads) = (config.telemetry.clone(), config.service.threads());
    let service = Service::new(config);
    if let Err(error) = logs::init(&telemetry, Output::Stdout, service.metrics()) {
        fail(chain(&error));
        return Exit::Config;
    }
    for Warning { variable, message } in warnings {
        warn!(variable, reason = message, "the configuration may not be what was meant");
    }
    block_on(threads, async {
        match until_signalled(service, Shutdown::default()).await {
            Ok(End::Drained) => Exit::Ok,
            Ok(End::Unfinished) => Exit::Temporary,
            Err(ended) => {
                error!(error = chain(&ended), "ended");
                exit_of(&ended)
            }
        }
    })
}

/// Runs the service; signals drain and abort it.
pub(super) async fn until_signalled(
    service: Service,
    shutdown: Shutdown,
) -> Result<End, service::Error> {
    let mut running = pin!(service.run(shutdown.clone()));
    // Biased: the signals' handlers are in place before anything of the service runs.
    tokio::select! {
        biased;
        heard = shutdown.on_signals() => {
            if let Err(error) = heard {
                error!(%error, "signals can't be heard: only SIGKILL ends this process");
            }
            running.await
        }
        ended = &mut running => ended,
    }
}

pub(super) fn exit_of(error: &service::Error) -> Exit {
    match error {
        service::Error::Http(_) | service::Error::Llm(_) | service::Error::Topics(_) => {
            Exit::Config
        }
        service::Error::Identity(_) => Exit::Temporary,
        service::Error::Kafka(error) if error.kind == Kind::Configuration => Exit::Config,
        service::Error::Sink(sink::Error::Twin { .. } | sink::Error::RolledBack { .. })
        | service::Error::Source(source::Error::Twin { .. }) => Exit::Temporary,
        service::Error::Sink(sink::Error::Configuration { .. }) => Exit::Config,
        service::Error::Source(source::Error::Join(error)) if error.kind == Kind::Configuration => {
            Exit::Config
        }
        service::Error::Kafka(_)
        | service::Error::Sink(_)
        | service::Error::Source(_)
        | service::Error::Graph(_)
        | service::Error::Core(_) => Exit::Internal,
    }
}
