//! Named points at which a test's build dies, and mechanisms that it can do without.
//!
//! `WEIR_FAILPOINT=commit.offsets:3` kills the process when it comes there for the third time; `WEIR_BREAK=map` leaves
//! the map out of what is committed. So tests can show that no point is a bad one to die at, and that they would notice
//! a mechanism that does not work. Only the cargo feature `failpoints` makes anything of it, and a release refuses that
//! feature; without it every call here is empty.

#[cfg(all(feature = "failpoints", not(debug_assertions)))]
compile_error!("the feature `failpoints` is for tests and must not get into a release");

#[cfg(feature = "failpoints")]
mod armed;

#[cfg(feature = "failpoints")]
pub(crate) use armed::{arm, fails, is_off, reach};

/// Declares an enum whose variants have a name each, which is there only where the feature is.
macro_rules! named {
    ($(#[$about:meta])* $kind:ident { $($(#[$doc:meta])* $variant:ident = $name:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub enum $kind {
            $($(#[$doc])* $variant,)+
        }

        #[cfg(feature = "failpoints")]
        impl $kind {
            /// All of them, in order.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Returns the name that the environment calls it by.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

named! {
    /// A point in the way of an event at which the process may die, in the order of that way.
    Point {
        /// A record was taken from librdkafka, and nobody else knows of it.
        ReceiveRead = "receive.read",
        /// The dispatch has the record, and its tracker does not know of it.
        ReceiveTaken = "receive.taken",
        /// The tracker knows of it.
        ReceiveTracked = "receive.tracked",
        /// A model has answered, and the dispatch is asked to have that journaled.
        JournalAsked = "journal.asked",
        /// The broker has the journal record, in a transaction that is open.
        JournalProduced = "journal.produced",
        /// The journal record is committed, and whoever waits for it does not know.
        JournalCommitted = "journal.committed",
        /// A run has ended, and its settlement is not queued.
        SettleEnded = "settle.ended",
        /// Its settlement is queued.
        SettleQueued = "settle.queued",
        /// A transaction has begun, and nothing is in it.
        CommitBegun = "commit.begun",
        /// The broker has its records, and no offsets.
        CommitProduced = "commit.produced",
        /// The broker has its offsets, and is not asked to commit it.
        CommitOffsets = "commit.offsets",
        /// It is committed, and the answer is not looked at.
        CommitDone = "commit.done",
        /// The dispatch has the answer, and its tracker still holds what was settled.
        CommitAnswered = "commit.answered",
        /// The group takes partitions away, and nobody but librdkafka's callback knows.
        RevokeCalled = "revoke.called",
        /// The callback has handed them over.
        RevokeHanded = "revoke.handed",
        /// Their readers have ended, and their runs are within the grace.
        RevokeGrace = "revoke.grace",
        /// The dispatch has given them up, and nobody has acknowledged that.
        RevokeGiven = "revoke.given",
        /// The revocation is acknowledged.
        RevokeAcknowledged = "revoke.acknowledged",
        /// Recovery has the committed offsets and their metadata.
        RecoveryAsked = "recovery.asked",
        /// It reads a record of the journal.
        RecoveryReading = "recovery.reading",
        /// It has read the journal.
        RecoveryRead = "recovery.read",
        /// The dispatch has what was found, and has not taken the partition over.
        RecoveryTold = "recovery.told",
        /// It has taken the partition over, and nothing is read of it.
        RecoveryDone = "recovery.done",
    }
}

named! {
    /// A mechanism of which a guarantee hangs.
    Mechanism {
        /// Offsets go with the transaction that makes their results visible. Without: they are committed after it.
        OffsetsInTransaction = "offsets-in-transaction",
        /// The committed metadata holds what is not settled. Without: there is no metadata.
        Map = "map",
        /// Recovery reads the journal to its high watermark. Without: to the last stable offset.
        JournalToItsEnd = "journal-to-its-end",
        /// A revocation is acknowledged when its partitions are given up. Without: at once.
        LateAcknowledgement = "late-acknowledgement",
        /// A transaction carries the membership of its snapshot. Without: that of a client that never joined.
        Membership = "membership",
        /// What we hold came to us as the member that we are now. Without: as whichever.
        SameMember = "same-member",
        /// Who stood still starts nothing before a transaction confirms the membership. Without: at once.
        Doubt = "doubt",
        /// An outcome whose answer was lost is read back. Without: it is taken for an abort.
        ReadBack = "read-back",
        /// The transactional id outlives the process. Without: each life has its own.
        StableId = "stable-id",
        /// A client that has lost all of its brokers is named them again. Without: it is left to librdkafka.
        Rebootstrap = "rebootstrap",
    }
}

/// Dies here, or waits, if the environment said so.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub(crate) const fn reach(_: Point) {}

/// Does what [`reach`] does, and says whether the environment wants what was done here to look as if it had failed.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub(crate) const fn fails(_: Point) -> bool {
    false
}

/// Says whether the environment wants to do without a mechanism.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub(crate) const fn is_off(_: Mechanism) -> bool {
    false
}
