//! What the group's health says: whether we are a member, what is being recovered, and which partitions are stopped.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tracing::error;

use crate::{
    record::{Epoch, PartitionId},
    telemetry::{Component, Metrics},
};

#[derive(Debug)]
pub(super) struct Status {
    group: String,
    health: Component,
    metrics: Metrics,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    member: bool,
    refused: Option<String>,
    recovering: BTreeMap<PartitionId, (Epoch, Recovering)>,
    stopped: BTreeMap<PartitionId, String>,
}

#[derive(Debug)]
enum Recovering {
    /// Nothing is wrong.
    Underway(String),
    /// Something is.
    Held(String),
    /// It waits for a transaction that nobody is going to end.
    Hanging(String),
}

impl Status {
    pub(super) fn new(group: &str, health: Component, metrics: Metrics) -> Self {
        let status = Self { group: group.to_owned(), health, metrics, state: Mutex::default() };
        status.change(|_| {});
        status
    }

    /// Notes whether the group counts us as a member.
    pub(super) fn member(&self, member: bool) {
        self.change(|state| {
            state.member = member;
            if member {
                state.refused = None;
            }
        });
    }

    /// Notes why the group does not take us.
    pub(super) fn refused(&self, reason: impl Into<String>) {
        let reason = reason.into();
        self.change(|state| state.refused = Some(reason));
    }

    /// Notes that a recovery begins. What it says later counts until the partition is forgotten.
    pub(super) fn begin(&self, partition: PartitionId, epoch: Epoch) {
        let begun = Recovering::Underway("reading the committed offset".to_owned());
        self.change(|state| {
            state.recovering.insert(partition, (epoch, begun));
        });
    }

    /// Notes how far a recovery is.
    pub(super) fn underway(&self, partition: PartitionId, epoch: Epoch, progress: String) {
        self.tell(partition, epoch, Recovering::Underway(progress));
    }

    /// Notes why a recovery does not go on.
    pub(super) fn held(&self, partition: PartitionId, epoch: Epoch, reason: String) {
        self.tell(partition, epoch, Recovering::Held(reason));
    }

    /// Notes that a recovery waits for a transaction that hangs: an operator has to end it.
    pub(super) fn hanging(&self, partition: PartitionId, epoch: Epoch, reason: &str) {
        if self.tell(partition, epoch, Recovering::Hanging(reason.to_owned())) {
            error!(partition = partition.0, reason, "a transaction hangs");
        }
    }

    /// Returns whether it is the first time that the recovery hangs.
    fn tell(&self, partition: PartitionId, epoch: Epoch, news: Recovering) -> bool {
        let mut begins_to_hang = false;
        self.change(|state| {
            // A recovery may be told of its end later than we are.
            if let Some((current, told)) = state.recovering.get_mut(&partition)
                && *current == epoch
            {
                begins_to_hang = news.hangs() && !told.hangs();
                *told = news;
            }
        });
        begins_to_hang
    }

    /// Notes why a partition is not read at all, until an operator has done something about it.
    pub(super) fn stopped(&self, partition: PartitionId, reason: &str) {
        error!(partition = partition.0, reason, "stopped partition");
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
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = state.hanging();
        change(&mut state);
        self.metrics.hanging(state.hanging() - before);
        let member = state.member;
        if let Some((partition, reason)) = state.stopped.first_key_value() {
            let more = match state.stopped.len() - 1 {
                0 => String::new(),
                more => format!(" (and {more} more)"),
            };
            self.health.waiting(format!("partition {partition} is stopped{more}: {reason}"));
        } else if let Some(reason) = state.refused.as_ref().filter(|_| !member) {
            self.health.waiting(reason.clone());
        } else if !member {
            self.health.progress(format!("joining the group {}", self.group));
        } else if let Some((partition, reason)) = state.held() {
            self.health.waiting(format!("partition {partition} can't be recovered yet: {reason}"));
        } else if let Some((partition, progress)) = state.underway() {
            self.health.progress(format!("recovering partition {partition}: {progress}"));
        } else {
            self.health.ready();
        }
    }
}

impl Recovering {
    fn hangs(&self) -> bool {
        match self {
            Self::Hanging(_) => true,
            Self::Underway(_) | Self::Held(_) => false,
        }
    }
}

impl State {
    /// Returns how many recoveries wait for a transaction that hangs.
    fn hanging(&self) -> i64 {
        let hanging = self.recovering.values().filter(|(_, recovering)| recovering.hangs());
        i64::try_from(hanging.count()).unwrap_or(i64::MAX)
    }

    fn held(&self) -> Option<(PartitionId, &str)> {
        self.recovering.iter().find_map(|(partition, (_, recovering))| match recovering {
            Recovering::Held(reason) | Recovering::Hanging(reason) => {
                Some((*partition, reason.as_str()))
            }
            Recovering::Underway(_) => None,
        })
    }

    fn underway(&self) -> Option<(PartitionId, &str)> {
        self.recovering.iter().find_map(|(partition, (_, recovering))| match recovering {
            Recovering::Underway(progress) => Some((*partition, progress.as_str())),
            Recovering::Held(_) | Recovering::Hanging(_) => None,
        })
    }
}
