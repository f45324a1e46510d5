//! How partitions are given up and how the process drains: nothing new starts, what runs may finish for a while,
//! what finished is committed, the rest is cancelled and left to the next owner.

use std::time::Duration;

use tokio::time::Instant;

use crate::record::{Offset, PartitionId, Position};

use super::{Action, Machine, Stage};

/// How long what settled may still wait for its last commit after the grace is over.
const LAST_COMMIT: Duration = Duration::from_secs(3);

/// Partitions on their way out.
#[derive(Debug)]
pub(super) struct Revocation {
    partitions: Vec<PartitionId>,
    lost: bool,
    grace_until: Instant,
    stage: Leaving,
}

/// The process on its way out.
#[derive(Debug)]
pub(super) struct Drain {
    grace_until: Instant,
    stage: Leaving,
    announced: bool,
}

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    /// Runs may finish.
    Grace,
    /// Runs were cancelled; what finished may still be committed.
    Cancelled,
    /// Nothing more is waited for but the end of what was cancelled.
    Overdue,
}

impl Leaving {
    /// Returns when the next stage is due, of a grace that ends at `grace_until`.
    fn due(self, grace_until: Instant) -> Option<Instant> {
        match self {
            Self::Grace => Some(grace_until),
            Self::Cancelled => Some(grace_until + LAST_COMMIT),
            Self::Overdue => None,
        }
    }

    /// Moves on as far as `now` allows, and says whether the runs are to be cancelled by that.
    fn advance(&mut self, grace_until: Instant, now: Instant) -> bool {
        let before = *self;
        while self.due(grace_until).is_some_and(|due| due <= now) {
            *self = if *self == Self::Grace { Self::Cancelled } else { Self::Overdue };
        }
        before == Self::Grace && *self != Self::Grace
    }
}

impl Revocation {
    pub(super) fn due(&self) -> Option<Instant> {
        self.stage.due(self.grace_until)
    }
}

impl Drain {
    pub(super) fn due(&self) -> Option<Instant> {
        self.stage.due(self.grace_until)
    }
}

impl<J: Clone> Machine<J> {
    /// Begins to give partitions up. Runs may finish until `grace_until`, which is now for `lost` partitions: nothing
    /// may be committed for them any more. Ends in [`Action::Revoked`].
    pub fn revoke(&mut self, partitions: Vec<PartitionId>, lost: bool, grace_until: Instant) {
        self.revocation = Some(Revocation { partitions, lost, grace_until, stage: Leaving::Grace });
    }

    /// Begins to drain: nothing new starts, runs may finish until `grace_until`. Ends in [`Action::Drained`].
    pub fn drain(&mut self, grace_until: Instant) {
        self.drain.get_or_insert(Drain { grace_until, stage: Leaving::Grace, announced: false });
    }

    pub(super) fn is_leaving(&self, partition: PartitionId) -> bool {
        self.revocation
            .as_ref()
            .is_some_and(|revocation| revocation.partitions.contains(&partition))
    }

    /// Drops what waits for a commit but may not be committed any more.
    pub(super) fn forget_lost(&mut self) {
        let lost = self.revocation.iter().filter(|revocation| revocation.lost);
        for id in lost.flat_map(|revocation| &revocation.partitions) {
            self.queue.forget(*id);
        }
    }

    /// Cancels what outlived its grace.
    pub(super) fn leave(&mut self, now: Instant) {
        let mut cancel = Vec::new();
        if let Some(revocation) = &mut self.revocation
            && revocation.stage.advance(revocation.grace_until, now)
        {
            cancel.extend(revocation.partitions.iter().copied());
        }
        if let Some(drain) = &mut self.drain
            && drain.stage.advance(drain.grace_until, now)
        {
            cancel.extend(self.partitions.keys().copied());
        }
        for id in cancel {
            self.cancel_runs(id);
        }
    }

    /// Lets what waits for a commit of partitions on their way out go before all else.
    pub(super) fn hasten(&mut self) {
        if let Some(revocation) = &self.revocation {
            self.queue.hasten(&revocation.partitions);
        }
    }

    /// Gives partitions up when nothing is done for them any more; never before the outcome in flight.
    pub(super) fn given_up(&mut self) -> Option<Action<J>> {
        if self.load.is_some() {
            return None;
        }
        let revocation = self.revocation.take()?;
        if !self.may_go(&revocation) {
            self.revocation = Some(revocation);
            return None;
        }
        for id in &revocation.partitions {
            self.forget(*id);
        }
        self.outbox.push_back(Action::Revoked(revocation.partitions));
        self.outbox.pop_front()
    }

    /// Says that nothing runs and nothing waits for a commit any more.
    pub(super) fn drained(&mut self) -> Option<Action<J>> {
        if self.load.is_some() {
            return None;
        }
        let idle = self.running == 0 && self.queue.is_empty();
        let drain = self.drain.as_mut().filter(|drain| idle && !drain.announced)?;
        if self.held > 0 && drain.stage == Leaving::Grace {
            return None;
        }
        drain.announced = true;
        Some(Action::Drained)
    }

    fn may_go(&self, revocation: &Revocation) -> bool {
        let partitions = || revocation.partitions.iter().filter_map(|id| self.partitions.get(id));
        if partitions().any(|partition| partition.running > 0) {
            return false;
        }
        if revocation.lost || revocation.stage == Leaving::Overdue {
            return true;
        }
        // Held results may go out during the grace; after it they are left to the next owner, who repeats
        // nothing that was journaled.
        let held =
            revocation.stage == Leaving::Grace && partitions().any(|partition| partition.held > 0);
        !held && !revocation.partitions.iter().any(|id| self.queue.holds(*id))
    }

    fn cancel_runs(&mut self, id: PartitionId) {
        let Some(partition) = self.partitions.get(&id) else { return };
        let running =
            partition.events.iter().filter(|(_, event)| matches!(event.stage, Stage::Running));
        let position =
            |offset: &Offset| Position { partition: id, offset: *offset, epoch: partition.epoch };
        self.outbox.extend(running.map(|(offset, _)| Action::Cancel(position(offset))));
    }
}
