//! What makes a durable node durable: its updates, recorded and taken from the record.

use futures_util::future::BoxFuture;

use super::state::State;

/// Why a record can't be read or written, in the recorder's own words.
pub type EffectsError = Box<dyn std::error::Error + Send + Sync>;

/// The record of what durable nodes did in a run.
///
/// A run that is repeated with the same record executes none of the recorded nodes again, and since
/// all else is a function of the state, it ends where the first would have ended.
pub trait Effects<S: State>: Send + Sync {
    /// The recorded update of execution `visit` of `node`, which is then not executed.
    ///
    /// `visit` counts the executions of the node in this run, from 0, replayed ones included.
    ///
    /// # Errors
    /// When there is a record that can't be read; the run ends with it.
    fn recorded(&self, node: &str, visit: u32) -> Result<Option<S::Update>, EffectsError>;

    /// Records what execution `visit` of `node` answered; the run goes on when that is done.
    ///
    /// # Errors
    /// When it can't be recorded; the run ends with it.
    fn record<'a>(
        &'a self,
        node: &'a str,
        visit: u32,
        update: &'a S::Update,
    ) -> BoxFuture<'a, Result<(), EffectsError>>;
}
