//! How the process is asked to end: the first SIGTERM or SIGINT drains it, the second aborts it.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The two tokens that every long wait looks at.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Finish what runs, start nothing new.
    pub drain: CancellationToken,
    /// Drop everything now. Never cancelled before `drain`.
    pub abort: CancellationToken,
}

impl Shutdown {
    /// Waits for signals and cancels the tokens; returns only after the second signal.
    ///
    /// # Errors
    /// When the process may not install signal handlers.
    pub async fn on_signals(self) -> std::io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        for round in 0..2 {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if round == 0 {
                info!(signal = name, "draining; a second signal aborts");
                self.drain.cancel();
            } else {
                warn!(signal = name, "aborting");
                self.abort.cancel();
            }
        }
        Ok(())
    }
}
