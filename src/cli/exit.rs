//! The exit codes, as sysexits.h numbers them.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// All is well.
    Ok,
    /// A check did not pass, or a result was no success.
    Failed,
    /// The command line is wrong.
    Usage,
    /// Something that must answer does not.
    Unavailable,
    /// A defect of weir.
    Internal,
    /// Start it again: another process has this identity, or a commit is outstanding.
    Temporary,
    /// The configuration is wrong.
    Config,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Ok => 0,
            Exit::Failed => 1,
            Exit::Usage => 64,
            Exit::Unavailable => 69,
            Exit::Internal => 70,
            Exit::Temporary => 75,
            Exit::Config => 78,
        })
    }
}
