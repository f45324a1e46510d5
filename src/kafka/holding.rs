//! As which member of the group this process holds its partitions.
//!
//! A static member that the group drops while a revocation is outstanding is not told so: librdkafka 2.12 only forgets
//! its member id, joins anew once the revocation is acknowledged, and keeps its other partitions, which somebody else
//! may have had meanwhile. (A dynamic one is asked to join with an id, and loses them by that.) The new id is all that
//! tells it. So partitions are held by the id under which they came, and under another nothing is committed until all of
//! them are given up. Where the broker assigns, a member keeps its id for good; what it holds is the broker's to say.

use std::collections::BTreeSet;

use crate::{
    failpoint::{self, Mechanism},
    record::PartitionId,
};

/// The partitions that are held, and by whom.
#[derive(Debug, Default)]
pub(super) struct Holding {
    member: String,
    partitions: BTreeSet<PartitionId>,
}

impl Holding {
    /// Notes that `member` was given partitions.
    pub(super) fn take(&mut self, member: &str, partitions: &[PartitionId]) {
        if self.partitions.is_empty() {
            member.clone_into(&mut self.member);
        }
        self.partitions.extend(partitions);
    }

    /// Notes that partitions were given up.
    pub(super) fn give_up(&mut self, partitions: &[PartitionId]) {
        self.partitions.retain(|partition| !partitions.contains(partition));
    }

    /// Says whether all that is held came to us as `member`.
    pub(super) fn is_of(&self, member: &str) -> bool {
        self.partitions.is_empty()
            || self.member == member
            || failpoint::is_off(Mechanism::SameMember)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ZERO: PartitionId = PartitionId(0);
    const ONE: PartitionId = PartitionId(1);

    #[test]
    fn what_one_member_holds_is_not_anothers_until_all_of_it_is_given_up() {
        let mut holding = Holding::default();
        assert!(holding.is_of("first"));
        holding.take("first", &[ZERO, ONE]);
        assert!(holding.is_of("first") && !holding.is_of("second"));

        // The revocation that was outstanding when the member was dropped is acknowledged, and it is in again.
        holding.give_up(&[ZERO]);
        holding.take("second", &[ZERO]);
        assert!(!holding.is_of("second"));
        holding.give_up(&[ZERO, ONE]);
        assert!(holding.is_of("second"));
        holding.take("second", &[ONE]);

        assert!(holding.is_of("second") && !holding.is_of("first"));
    }

    #[test]
    fn who_is_given_nothing_holds_nothing() {
        let mut holding = Holding::default();

        holding.take("first", &[]);
        holding.take("second", &[ZERO]);

        assert!(holding.is_of("second"));
    }
}
