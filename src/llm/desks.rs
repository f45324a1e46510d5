//! All providers: who answers for a model, it itself or what stands in for it while it can't be asked.

use std::sync::Arc;
use std::time::Duration;

use super::client::SetupError;
use super::config::Config;
use super::desk::Desk;
use super::door::Door;
use super::error::{Error, Fault};
use super::observe::Observer;
use super::pull::{self, Delivery};
use super::queue::QueueTime;

/// The main provider, and what is asked in its place.
pub(super) struct Desks {
    pub(super) main: Desk,
    /// Another provider, for when the main one can't be asked.
    also: Option<Desk>,
    /// Whether the main model is there.
    pub(super) delivery: Delivery,
}

/// Who answers.
pub(super) struct Who<'a> {
    pub(super) desk: &'a Desk,
    pub(super) model: Arc<str>,
}

impl Who<'_> {
    fn can_answer(&self) -> bool {
        self.desk.pool.serves(&self.model)
    }
}

impl Desks {
    /// Makes the configured ones. Connects to nothing.
    pub(super) fn new(config: &Config, observer: &Observer) -> Result<Self, SetupError> {
        let also = config.fallback_provider.filter(|provider| *provider != config.provider);
        let also = also.map(|provider| Desk::new(provider, config, observer)).transpose()?;
        let main = Desk::new(config.provider, config, observer)?;
        Ok(Self { main, also, delivery: Delivery::default() })
    }

    /// Returns all of them, the main one first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Desk> {
        std::iter::once(&self.main).chain(&self.also)
    }

    /// Returns who answers for a model, and whether there is nobody else.
    pub(super) fn who(&self, wanted: &Arc<str>) -> (Who<'_>, bool) {
        let itself = || Who { desk: &self.main, model: Arc::clone(wanted) };
        let mut stand_ins = self.stand_ins(wanted).peekable();
        if stand_ins.peek().is_none() {
            return (itself(), true);
        }
        // Who still waits for it after all that time does so for want of anything else.
        let is_fetched = *wanted == self.main.model && self.delivery.is_awaited();
        let mut all = (!is_fetched).then(itself).into_iter().chain(stand_ins);
        match all.find(Who::can_answer) {
            Some(who) => (who, false),
            None => (itself(), true),
        }
    }

    /// Returns whether somebody stands in for a model.
    pub(super) fn is_stand_in(&self, who: &Who<'_>, wanted: &Arc<str>) -> bool {
        who.model != *wanted || !self.is_main(who.desk)
    }

    /// Returns whether somebody else is asked now for what `who` has failed at.
    pub(super) fn has_other(&self, who: &Who<'_>, wanted: &Arc<str>) -> bool {
        let (next, is_last) = self.who(wanted);
        !is_last && (next.model != who.model || !std::ptr::eq(next.desk, who.desk))
    }

    /// Waits while the model is fetched, and returns for how long: not long where something else can stand in for it.
    pub(super) async fn wait_for_delivery(&self, wanted: &Arc<str>, queue: &QueueTime) -> Duration {
        if *wanted != self.main.model || !self.delivery.is_awaited() {
            return Duration::ZERO;
        }
        let has_stand_in = self.stand_ins(wanted).any(|who| who.can_answer());
        let limit = if has_stand_in { self.main.pool.patience() } else { pull::TOTAL_MAX };
        self.delivery.wait(limit, queue).await
    }

    /// Returns whether a call was told that the model is gone which weir lets the server fetch: then it waits for that.
    pub(super) fn is_awaited(&self, error: &Error, who: &Who<'_>, door: &Door) -> bool {
        let is_gone = matches!(error.fault, Fault::ModelMissing { .. });
        let is_cared = who.model == self.main.model && self.is_main(who.desk);
        is_gone && is_cared && self.delivery.miss(door)
    }

    /// Returns what stands in for a model, whether it can be asked or not.
    fn stand_ins(&self, wanted: &Arc<str>) -> impl Iterator<Item = Who<'_>> {
        let fallback = self.main.fallback.iter().filter(move |model| *model != wanted);
        let fallback = fallback.map(|model| Who { desk: &self.main, model: Arc::clone(model) });
        fallback.chain(self.also.iter().map(|desk| Who { desk, model: Arc::clone(&desk.model) }))
    }

    fn is_main(&self, desk: &Desk) -> bool {
        std::ptr::eq(desk, &raw const self.main)
    }
}
