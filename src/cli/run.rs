//! `weir run`: the daemon.

use crate::dispatch::End;
use crate::retry::Disposition;
use crate::service::{self, Service};
use crate::shutdown::Shutdown;
use crate::telemetry::logs;

use super::exit::Exit;
use super::{Vars, block_on, load};

pub(super) fn run(vars: Vars) -> Exit {
    let rust_log = vars.iter().find(|(name, _)| name == "RUST_LOG").map(|(_, value)| value.clone());
    let config = match load(vars) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    if let Err(error) = logs::init(&config.telemetry, rust_log) {
        eprintln!("error: {error}");
        return Exit::Config;
    }
    block_on(async {
        let shutdown = Shutdown::default();
        match Service::new(config).run(shutdown).await {
            Ok(End::Drained) => Exit::Ok,
            Ok(End::Unfinished) => Exit::Temporary,
            Err(error) => {
                tracing::error!(error = %error, "ended");
                exit_of(&error)
            }
        }
    })
}

fn exit_of(error: &service::Error) -> Exit {
    match error {
        service::Error::Sink(error) if error.disposition() == Disposition::Stop => Exit::Temporary,
        service::Error::Sink(_) => Exit::Internal,
        service::Error::Http(_) | service::Error::Llm(_) => Exit::Config,
        service::Error::Signals(_) | service::Error::Graph(_) => Exit::Internal,
        service::Error::Kafka(_) => Exit::Config,
    }
}
