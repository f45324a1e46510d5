//! What is wrong with a configuration, said so that the reader can put it right.

use std::fmt;

/// Something that keeps weir from starting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The environment variable at fault.
    pub variable: String,
    /// Its value, redacted when it is secret; `None` when it has none or none that can be shown.
    pub value: Option<String>,
    /// What is wrong, as a fragment.
    pub reason: String,
    /// What to do about it, as a fragment.
    pub remedy: String,
}

/// Something that weir starts with, but that may not be what was meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The environment variable that it is about.
    pub variable: String,
    /// What is odd and what follows from it, as a fragment.
    pub message: String,
}

/// Every problem of a configuration, at least one, and the warnings that may explain them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    problems: Vec<Problem>,
    warnings: Vec<Warning>,
}

/// What has been found so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub problems: Vec<Problem>,
    pub warnings: Vec<Warning>,
}

impl Problems {
    /// Returns the exit code that says "wrong configuration": `EX_CONFIG` of sysexits.h.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        78
    }

    /// Returns the problems, in the order of the table and then those between variables.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Returns the warnings: a misspelt variable is often the reason for a problem.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

impl Findings {
    pub(super) fn refuse(&mut self, variable: &str, value: Option<&str>, why: (String, String)) {
        let (reason, remedy) = why;
        let value = value.map(str::to_owned);
        self.problems.push(Problem { variable: variable.to_owned(), value, reason, remedy });
    }

    pub(super) fn warn(&mut self, variable: &str, message: impl Into<String>) {
        self.warnings.push(Warning { variable: variable.to_owned(), message: message.into() });
    }

    /// Returns whether `variable`, or the file that it is read from, has a problem already.
    pub(super) fn has_refused(&self, variable: &str) -> bool {
        let same = |name: &str| name == variable || name.strip_suffix("_FILE") == Some(variable);
        self.problems.iter().any(|problem| same(&problem.variable))
    }

    /// Returns the warnings, or the problems where there are any.
    pub(super) fn into_result(self) -> Result<Vec<Warning>, Problems> {
        match self.problems.is_empty() {
            true => Ok(self.warnings),
            false => Err(Problems { problems: self.problems, warnings: self.warnings }),
        }
    }
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.len() {
            1 => write!(f, "1 problem in the configuration")?,
            n => write!(f, "{n} problems in the configuration")?,
        }
        for problem in &self.problems {
            write!(f, "\n  {problem}")?;
        }
        for warning in &self.warnings {
            write!(f, "\n  warning: {warning}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { variable, value, reason, remedy } = self;
        match value {
            Some(value) => write!(f, "{variable}={value:?} {reason}; {remedy}"),
            None => write!(f, "{variable} {reason}; {remedy}"),
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.variable, self.message)
    }
}
