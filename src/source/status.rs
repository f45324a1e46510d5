//! What the group's health says: whether we are a member, what is being recovered, and which partitions are stopped.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::error;

use crate::{record::PartitionId, telemetry::Component};

#[derive(Debug)]
pub(super) struct Status {
    group: String,
    health: Component,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    member: bool,
    recovering: BTreeMap<PartitionId, Recovering>,
    stopped: BTreeMap<PartitionId, String>,
}

#[derive(Debug)]
enum Recovering {
    /// Nothing is wrong.
    Underway(String),
    /// Something is.
    Held(String),
}

impl Status {
    pub(super) fn new(group: &str, health: Component) -> Self {
        let status = Self { group: group.to_owned(), health, state: Mutex::default() };
        status.change(|_| {});
        status
    }

    pub(super) fn member(&self, member: bool) {
        self.change(|state| state.member = member);
    }

    /// Notes how far the recovery of a partition is.
    pub(super) fn underway(&self, partition: PartitionId, progress: impl Into<String>) {
        let progress = progress.into();
        self.change(|state| {
            state.recovering.insert(partition, Recovering::Underway(progress));
        });
    }

    /// Notes why the recovery of a partition does not go on.
    pub(super) fn held(&self, partition: PartitionId, reason: impl Into<String>) {
        let reason = reason.into();
        self.change(|state| {
            state.recovering.insert(partition, Recovering::Held(reason));
        });
    }

    /// Notes why a partition is not read at all, until an operator has done something about it.
    pub(super) fn stopped(&self, partition: PartitionId, reason: &str) {
        error!(%partition, reason, "stopped partition");
        self.change(|state| {
            state.recovering.remove(&partition);
            state.stopped.insert(partition, reason.to_owned());
        });
    }

    /// Forgets a partition: it is being read, or not ours.
    pub(super) fn forget(&self, partition: PartitionId) {
        self.change(|state| {
            state.recovering.remove(&partition);
            state.stopped.remove(&partition);
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        if let Some((partition, reason)) = state.stopped.first_key_value() {
            let more = match state.stopped.len() - 1 {
                0 => String::new(),
                more => format!(" (and {more} more)"),
            };
            self.health.waiting(format!("partition {partition} is stopped{more}: {reason}"));
        } else if !state.member {
            self.health.progress(format!("joining the group {}", self.group));
        } else if let Some((partition, reason)) = state.held() {
            self.health.waiting(format!("partition {partition} can't be recovered yet: {reason}"));
        } else if let Some((partition, Recovering::Underway(progress))) =
            state.recovering.first_key_value()
        {
            self.health.progress(format!("recovering partition {partition}: {progress}"));
        } else {
            self.health.ready();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn held(&self) -> Option<(PartitionId, &str)> {
        self.recovering.iter().find_map(|(partition, recovering)| match recovering {
            Recovering::Held(reason) => Some((*partition, reason.as_str())),
            Recovering::Underway(_) => None,
        })
    }
}
