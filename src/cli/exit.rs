//! The exit codes, as sysexits.h numbers them.

use std::process::ExitCode;

use crate::kafka::Kind;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// All is well.
    Ok,
    /// The answer is no: a result is no success, a probe did not pass.
    Failed,
    /// The command line is wrong.
    Usage,
    /// What was given to work on is wrong.
    Data,
    /// Something that must answer does not.
    Unavailable,
    /// A defect of weir.
    Internal,
    /// The operating system refuses something.
    System,
    /// What is to be written can't be.
    Io,
    /// Start it again: another process has this identity, or a commit is outstanding.
    Temporary,
    /// Kafka knows who we are, and we may not; or it does not believe us.
    Permission,
    /// The configuration is wrong.
    Config,
}

impl From<Result<(), Exit>> for Exit {
    fn from(ended: Result<(), Self>) -> Self {
        ended.map_or_else(|exit| exit, |()| Self::Ok)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Ok => 0,
            Exit::Failed => 1,
            Exit::Usage => 64,
            Exit::Data => 65,
            Exit::Unavailable => 69,
            Exit::Internal => 70,
            Exit::System => 71,
            Exit::Io => 74,
            Exit::Temporary => 75,
            Exit::Permission => 77,
            Exit::Config => 78,
        })
    }
}

impl From<Kind> for Exit {
    /// The code of a command that asked Kafka once and was not served.
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Configuration => Self::Config,
            Kind::Authentication | Kind::Permission => Self::Permission,
            Kind::TooLarge => Self::Data,
            Kind::Unreachable
            | Kind::Resolve
            | Kind::Tls
            | Kind::UnknownTopic
            | Kind::TimedOut
            | Kind::OutOfRange
            | Kind::Unstable
            | Kind::Replaced
            | Kind::Fenced
            | Kind::Metadata
            | Kind::Other => Self::Unavailable,
        }
    }
}
