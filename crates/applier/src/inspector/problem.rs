//! What stands in the way of a migration: collected, and reported all at once.

use std::fmt;

use crate::alter::AlterError;
use crate::server::ServerError;

/// What a problem is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProblemKind {
    /// The text of the ALTER, or something in it that is not supported.
    Alter,
    /// Settings that contradict each other or the servers.
    Settings,
    /// Who replicates from whom.
    Topology,
    /// The binary log's configuration.
    BinaryLog,
    /// Missing privileges.
    Privileges,
    /// The table itself: missing, a view, another engine, unsupported columns.
    Table,
    /// A name of ours that is taken or too long.
    Names,
    /// Foreign keys.
    ForeignKeys,
    /// Triggers.
    Triggers,
    /// No usable unique key.
    Key,
    /// Columns: renames, conversions that cannot be done safely.
    Columns,
    /// Prepared XA transactions.
    Xa,
    /// Something else is at work on the table.
    Busy,
}

/// One reason not to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What it is about.
    pub kind: ProblemKind,
    /// What is wrong.
    pub message: String,
    /// What to do about it; may be empty.
    pub hint: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if !self.hint.is_empty() {
            write!(f, " ({})", self.hint)?;
        }
        Ok(())
    }
}

/// Every reason not to begin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Adds one.
    pub fn add(&mut self, kind: ProblemKind, message: impl Into<String>, hint: impl Into<String>) {
        let problem = Problem {
            kind,
            message: message.into(),
            hint: hint.into(),
        };
        if !self.0.contains(&problem) {
            self.0.push(problem);
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one is of this kind.
    #[must_use]
    pub fn has(&self, kind: ProblemKind) -> bool {
        self.0.iter().any(|problem| problem.kind == kind)
    }

    /// `Ok` if there is none.
    ///
    /// # Errors
    /// All of them.
    pub fn into_result(self) -> Result<(), Self> {
        if self.is_empty() { Ok(()) } else { Err(self) }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Why an inspection has no result.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// A server could not be reached or asked.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The ALTER cannot be read.
    #[error(transparent)]
    Alter(#[from] AlterError),
    /// The migration cannot be done as things are.
    #[error(transparent)]
    Refused(#[from] Problems),
}

impl InspectError {
    /// The problems, if that is what it is.
    #[must_use]
    pub fn problems(&self) -> Option<&Problems> {
        match self {
            Self::Refused(problems) => Some(problems),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_each_and_none_twice() {
        let mut problems = Problems::default();
        problems.add(ProblemKind::Table, "a", "");
        problems.add(ProblemKind::Key, "b", "do c");
        problems.add(ProblemKind::Table, "a", "");
        assert_eq!(problems.to_string(), "a\nb (do c)");
        assert!(problems.has(ProblemKind::Key) && problems.into_result().is_err());
    }
}
