//! What makes a durable node durable: its updates, recorded and taken from the record.

use std::future::ready;

use futures_util::future::BoxFuture;

use super::state::State;

/// Why a record can't be read or written, in the recorder's own words. See the example at
/// [`Effects`].
pub type EffectsError = Box<dyn std::error::Error + Send + Sync>;

/// The record of what durable nodes did in a run.
///
/// A run that is repeated with the same record executes none of the recorded nodes again, and since
/// all else is a function of the state, it ends where the first would have ended.
///
/// Each run has a record of its own, and so has each input of a thread: executions are counted from
/// 0 again, so that a second input with the first one's record would be given the first one's
/// answers. A panic in a record unwinds through the run to whoever polls it.
///
/// ```
/// # use std::collections::HashMap;
/// # use std::sync::Mutex;
/// # use futures_util::future::{BoxFuture, FutureExt};
/// # use weir::graph::{self, Effects, EffectsError};
/// # graph::state! {
/// #     #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
/// #     pub struct Log { pub lines: Vec<String> => append }
/// #     pub update Line;
/// #     error std::io::Error;
/// # }
/// # fn line(text: &str) -> Line { Line::default().lines(vec![text.to_owned()]) }
/// /// Keeps updates in memory; a real one writes them where they survive.
/// #[derive(Default)]
/// struct Record(Mutex<HashMap<(String, u32), Line>>);
///
/// impl Effects<Log> for Record {
///     fn recorded(&self, node: &str, visit: u32) -> Result<Option<Line>, EffectsError> {
///         Ok(self.0.lock().unwrap().get(&(node.to_owned(), visit)).cloned())
///     }
///
///     fn record<'a>(&'a self, node: &'a str, visit: u32, line: &'a Line) -> BoxFuture<'a, Result<(), EffectsError>> {
///         async move {
///             self.0.lock().unwrap().insert((node.to_owned(), visit), line.clone());
///             Ok(())
///         }
///         .boxed()
///     }
/// }
///
/// let record = Record::default();
/// record.record("ask", 0, &line("42")).now_or_never().unwrap()?;
/// assert!(record.recorded("ask", 0)?.is_some() && record.recorded("ask", 1)?.is_none());
/// # Ok::<(), EffectsError>(())
/// ```
pub trait Effects<S: State>: Send + Sync {
    /// The recorded update of execution `visit` of `node`, which is then not executed.
    ///
    /// `visit` counts the executions of the node in this run, from 0, replayed ones included.
    ///
    /// # Errors
    /// When there is a record that can't be read; the run ends with it.
    fn recorded(&self, node: &str, visit: u32) -> Result<Option<S::Update>, EffectsError>;

    /// Holds back the execution of `node` that follows on [`recorded`](Self::recorded) without an update: until what was
    /// recorded earlier in the run is safe, say. At once, if it is not said otherwise.
    ///
    /// # Errors
    /// When the node is not to be executed; the run ends with it.
    fn ready<'a>(&'a self, _node: &'a str) -> BoxFuture<'a, Result<(), EffectsError>> {
        Box::pin(ready(Ok(())))
    }

    /// Records what execution `visit` of `node` answered; the run goes on when the future ends.
    ///
    /// The future may be dropped at any await, with the run: a record that is half written must not be found later.
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
