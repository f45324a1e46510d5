//! Why a batch was not committed, and what to do about it.

use std::fmt;

use crate::{kafka::Kind, retry::Disposition};

use super::Topic;

/// Why a batch was aborted: nothing of it is visible, nor will be.
///
/// Two reasons leave that open, [`Twin`](Self::Twin) and [`Closed`](Self::Closed): the process ends with them, and its
/// next life reads what was committed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A record is larger than its topic takes. Found before anything was sent.
    #[error("record {index} of {size} bytes exceeds the limit of {limit} of the {topic} topic")]
    TooLarge {
        /// Its index in the batch's records.
        index: usize,
        /// Where it was to go.
        topic: Topic,
        /// Its size in bytes.
        size: usize,
        /// The topic's limit in bytes.
        limit: usize,
    },
    /// The broker refused a record or did not take it in time; with it the whole batch.
    #[error("delivery to the {topic} topic: {reason}")]
    Delivery {
        /// Where it was to go.
        topic: Topic,
        /// What Kafka said.
        reason: String,
    },
    /// The group went on without us: the generation has moved, or this member was replaced.
    #[error("commit as a former member of the group: {reason}")]
    Replaced {
        /// What Kafka said.
        reason: String,
    },
    /// The broker takes less metadata with an offset than the map of unsettled offsets needs.
    #[error("commit of a position's metadata: {reason}")]
    Metadata {
        /// What Kafka said.
        reason: String,
    },
    /// The principal may not do this. An operator has to grant it.
    #[error("permission: {reason}")]
    Permission {
        /// What Kafka said.
        reason: String,
    },
    /// The broker did not do it in time, or the connection broke.
    #[error("transaction: {reason}")]
    Broker {
        /// What Kafka said.
        reason: String,
    },
    /// The producer was fenced, rebuilt, and the batch found not to have been applied.
    #[error("the producer was fenced: {reason}")]
    Fenced {
        /// What Kafka said.
        reason: String,
    },
    /// What had been committed before is not any more: the broker had forgotten to end that transaction, and rolled it
    /// back together with a later one. What this process believes to be done is not.
    #[error("a transaction that was committed has been rolled back: {reason}")]
    RolledBack {
        /// What was read back.
        reason: String,
    },
    /// librdkafka refuses the configuration.
    #[error("configure the producer: {reason}")]
    Configuration {
        /// What librdkafka said; no value of a secret property is in it.
        reason: String,
    },
    /// Another live process uses this process's identity.
    #[error(
        "another live process uses the transactional id {transactional_id}: give each instance its own INSTANCE_ID"
    )]
    Twin {
        /// The identity that two processes share.
        transactional_id: String,
    },
    /// The writer has ended: the process is going down.
    #[error("the writer has ended")]
    Closed,
}

impl Error {
    /// Returns the error's stable code, the one that docs/errors.md explains.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "sink.too_large",
            Self::Delivery { .. } => "sink.delivery",
            Self::Replaced { .. } => "sink.replaced",
            Self::Metadata { .. } => "sink.metadata",
            Self::Permission { .. } => "sink.permission",
            Self::Broker { .. } => "sink.broker",
            Self::Fenced { .. } => "sink.fenced",
            Self::RolledBack { .. } => "sink.rolled_back",
            Self::Configuration { .. } => "sink.configuration",
            Self::Twin { .. } => "sink.twin",
            Self::Closed => "sink.closed",
        }
    }

    /// Returns what to do about it.
    ///
    /// A missing permission is waited for, not died of: it heals when the operator grants it.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::TooLarge { .. } => Disposition::Reject,
            Self::Delivery { .. }
            | Self::Replaced { .. }
            | Self::Metadata { .. }
            | Self::Permission { .. }
            | Self::Broker { .. }
            | Self::Fenced { .. } => Disposition::Retry { after: None },
            Self::RolledBack { .. }
            | Self::Configuration { .. }
            | Self::Twin { .. }
            | Self::Closed => Disposition::Stop,
        }
    }

    /// Sorts what Kafka said about a transaction.
    pub(super) fn of(kind: Kind, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        match kind {
            Kind::Replaced => Self::Replaced { reason },
            Kind::Metadata => Self::Metadata { reason },
            Kind::Permission => Self::Permission { reason },
            Kind::Fenced => Self::Fenced { reason },
            Kind::Configuration => Self::Configuration { reason },
            Kind::Unreachable
            | Kind::Resolve
            | Kind::Tls
            | Kind::Authentication
            | Kind::UnknownTopic
            | Kind::TimedOut
            | Kind::OutOfRange
            | Kind::Unstable
            | Kind::TooLarge
            | Kind::Other => Self::Broker { reason },
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Results => "results",
            Self::DeadLetters => "dead letter",
            Self::Journal => "journal",
        })
    }
}
