//! Why a migration cannot go on.

use std::sync::Arc;

use changeling_core::actor::ExitStatus;
use changeling_core::key::NotAKey;

use crate::server::ServerError;

/// A failure while rows are moved, proven or swapped. The original table is in charge whenever one is
/// reported, except where it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A server said no, and trying again did not help.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A key that cannot be looked up came through the stream or from the table.
    #[error(transparent)]
    Key(#[from] NotAKey),
    /// Copying changed or lost a value.
    #[error(
        "copying {table} changed a value: {warning}{row}; the original table is untouched. Correct the rows \
         or the ALTER, or accept such changes with --panic-on-warnings=false"
    )]
    Conversion {
        /// The original table.
        table: String,
        /// The server's words.
        warning: String,
        /// `(row id=7)`, as far as it could be found.
        row: String,
    },
    /// Two rows of the original have the same value of a unique key that only the new table has.
    #[error(
        "rows {keys} of {table} cannot both be in the new table: {duplicate}; the original table is \
         untouched. Remove the duplicate or the unique key from the ALTER"
    )]
    Duplicate {
        /// The original table.
        table: String,
        /// The rows' keys.
        keys: String,
        /// The server's words.
        duplicate: String,
    },
    /// The ghost table differs from the original although every change was synchronised.
    #[error(
        "the proof failed: {details}. Unless the command line allows for it, this is a defect of this tool or of the server; \
         the original table is in charge and untouched, the ghost table is left for inspection"
    )]
    Unequal {
        /// Tables, keys and columns.
        details: String,
    },
    /// The proof could not be made.
    #[error("the proof could not be made: {0}")]
    Unproven(String),
    /// The definition of the table was changed by somebody else.
    #[error("{0}")]
    Statement(String),
    /// The stream ended.
    #[error("{0}")]
    Stream(Arc<str>),
    /// The operator, a flag file or a load limit said stop.
    #[error("{0}")]
    Aborted(String),
    /// An actor or pump is gone that should not be.
    #[error("{what} ended: {status}")]
    Ended {
        /// Which.
        what: &'static str,
        /// How.
        status: ExitStatus,
    },
}

impl ApplyError {
    /// What the failure of an actor or a pump says, and the kind of failure where it was one of these.
    #[must_use]
    pub fn of_failure(failure: &(dyn std::error::Error + Send + Sync + 'static)) -> Self {
        match failure.downcast_ref::<Self>() {
            Some(Self::Conversion { table, warning, row }) => Self::Conversion {
                table: table.clone(),
                warning: warning.clone(),
                row: row.clone(),
            },
            Some(Self::Duplicate {
                table,
                keys,
                duplicate,
            }) => Self::Duplicate {
                table: table.clone(),
                keys: keys.clone(),
                duplicate: duplicate.clone(),
            },
            Some(Self::Unequal { details }) => Self::Unequal {
                details: details.clone(),
            },
            Some(Self::Unproven(why)) => Self::Unproven(why.clone()),
            Some(Self::Statement(why)) => Self::Statement(why.clone()),
            Some(Self::Aborted(why)) => Self::Aborted(why.clone()),
            _ => Self::Stream(failure.to_string().into()),
        }
    }
}
