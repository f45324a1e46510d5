//! What an error of librdkafka means to weir: one match from its codes to a kind, and from there to a class and a
//! disposition.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::retry::Disposition;

use super::Config;

/// What kind of thing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A property that librdkafka refuses: no broker was asked.
    Configuration,
    /// No connection, or one that broke.
    Unreachable,
    /// A host name that has no address.
    Resolve,
    /// The encrypted connection could not be made.
    Tls,
    /// The broker does not believe who we are.
    Authentication,
    /// The broker knows who we are, and we may not.
    Permission,
    /// A topic or partition that is not there.
    UnknownTopic,
    /// Nothing wrong, but not in time.
    TimedOut,
    /// An offset outside of the log.
    OutOfRange,
    /// Offsets of a transaction that has not ended.
    Unstable,
    /// The group went on without this member.
    Replaced,
    /// A producer with the same identity took over, or the broker gave a transaction up.
    Fenced,
    /// A record, or a batch of records, larger than the topic takes.
    TooLarge,
    /// More metadata with an offset than the broker takes.
    Metadata,
    /// Any other answer of the broker or of librdkafka.
    Other,
}

/// An error of Kafka, told so that it can be shown: no value of a secret property is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Error {
    /// What went wrong.
    pub kind: Kind,
    /// What Kafka said, in one line.
    pub reason: String,
}

impl Kind {
    /// Returns the stable code that docs/errors.md explains.
    #[must_use]
    pub fn class(self) -> &'static str {
        match self {
            Self::Configuration => "kafka.configuration",
            Self::Unreachable => "kafka.unreachable",
            Self::Resolve => "kafka.resolve",
            Self::Tls => "kafka.tls",
            Self::Authentication => "kafka.authentication",
            Self::Permission => "kafka.permission",
            Self::UnknownTopic => "kafka.unknown_topic",
            Self::TimedOut => "kafka.timed_out",
            Self::OutOfRange => "kafka.out_of_range",
            Self::Unstable => "kafka.unstable",
            Self::Replaced => "kafka.replaced",
            Self::Fenced => "kafka.fenced",
            Self::TooLarge => "kafka.too_large",
            Self::Metadata => "kafka.metadata",
            Self::Other => "kafka.other",
        }
    }

    /// Returns what to do about it: all that an operator can heal from outside is waited for.
    #[must_use]
    pub fn disposition(self) -> Disposition {
        match self {
            Self::Configuration => Disposition::Stop,
            Self::TooLarge => Disposition::Reject,
            Self::Unreachable
            | Self::Resolve
            | Self::Tls
            | Self::Authentication
            | Self::Permission
            | Self::UnknownTopic
            | Self::TimedOut
            | Self::OutOfRange
            | Self::Unstable
            | Self::Replaced
            | Self::Fenced
            | Self::Metadata
            | Self::Other => Disposition::Retry { after: None },
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "librdkafka has 190 codes, and new ones with each release"
    )]
    pub(crate) fn of(code: Code) -> Self {
        match code {
            Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::NetworkException
            | Code::BrokerNotAvailable
            | Code::LeaderNotAvailable
            | Code::CoordinatorNotAvailable
            | Code::CoordinatorLoadInProgress
            | Code::NotCoordinator
            | Code::WaitingForCoordinator => Self::Unreachable,
            Code::Resolve => Self::Resolve,
            Code::SSL => Self::Tls,
            Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::IllegalSASLState => Self::Authentication,
            Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed => Self::Permission,
            Code::UnknownTopicOrPartition
            | Code::UnknownTopic
            | Code::UnknownPartition
            | Code::UnknownTopicId => Self::UnknownTopic,
            Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::MessageTimedOut
            | Code::TimedOutQueue => Self::TimedOut,
            Code::OffsetOutOfRange | Code::AutoOffsetReset => Self::OutOfRange,
            Code::UnstableOffsetCommit => Self::Unstable,
            Code::IllegalGeneration
            | Code::UnknownMemberId
            | Code::FencedInstanceId
            | Code::UnreleasedInstanceId
            | Code::FencedMemberEpoch
            | Code::StaleMemberEpoch
            | Code::AssignmentLost
            | Code::RebalanceInProgress => Self::Replaced,
            Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch => Self::Fenced,
            Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize => {
                Self::TooLarge
            }
            Code::OffsetMetadataTooLarge | Code::InvalidCommitOffsetSize => Self::Metadata,
            _ => Self::Other,
        }
    }
}

impl Error {
    pub(crate) fn new(kind: Kind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into() }
    }

    /// Tells what was being done when it happened.
    pub(crate) fn during(mut self, what: &str) -> Self {
        self.reason = format!("{what}: {}", self.reason);
        self
    }
}

impl From<Code> for Error {
    fn from(code: Code) -> Self {
        Self::new(Kind::of(code), code.to_string())
    }
}

impl From<KafkaError> for Error {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "rdkafka has a variant per call that failed, and what they have in common is the code"
    )]
    fn from(error: KafkaError) -> Self {
        match &error {
            // Its display holds the value that was refused, a password perhaps.
            KafkaError::ClientConfig(_, reason, name, _) => {
                let text = if Config::is_secret_property(name) {
                    format!("librdkafka refuses the value of {name}")
                } else {
                    format!("librdkafka refuses {name}: {reason}")
                };
                Self::new(Kind::Configuration, text)
            }
            KafkaError::ClientCreation(reason) => Self::new(Kind::Configuration, reason.clone()),
            KafkaError::AdminOp(code) => Self::from(*code),
            KafkaError::Transaction(inner) => {
                Self::new(Kind::of(inner.code()), format!("{} ({})", inner.string(), inner.name()))
            }
            other => match other.rdkafka_error_code() {
                Some(code) => Self::from(code),
                None => Self::new(Kind::Other, other.to_string()),
            },
        }
    }
}
