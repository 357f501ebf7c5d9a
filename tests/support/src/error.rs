//! What can go wrong while a server is looked for, started or stopped, and what to do about it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::source::SourceKind;

/// Result of everything in this crate.
pub type Result<T, E = SupportError> = std::result::Result<T, E>;

/// An error of the harness. Messages say what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SupportError {
    /// None of the ways to a server works here; a test counts this as a skip, see [`crate::skip`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),

    /// The table of a load could not be created, filled or read.
    #[error("the load on {0}")]
    Load(String),

    /// A file or directory could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was being done, as a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },

    /// A program could not be run.
    #[error("cannot run `{command}`: {source}; is it installed and on the PATH?")]
    Spawn {
        /// The command line.
        command: String,
        /// The operating system's answer.
        source: std::io::Error,
    },

    /// A program ran and failed, or ran longer than it may.
    #[error("`{command}` failed ({outcome}):\n{output}")]
    Command {
        /// The command line.
        command: String,
        /// Exit status, or "timed out".
        outcome: String,
        /// The last lines it wrote.
        output: String,
    },

    /// The server ended by itself before it answered, most often because of an option it does not know.
    #[error("{server} ended while starting ({outcome}); its log ends with:\n{log}")]
    Exited {
        /// Flavor and version.
        server: String,
        /// Exit status.
        outcome: String,
        /// The end of the server's error log.
        log: String,
    },

    /// The server runs but does not answer.
    #[error("{server} did not answer within {} s (last: {last}); its log ends with:\n{log}", waited.as_secs())]
    NotReady {
        /// Flavor and version.
        server: String,
        /// How long was waited.
        waited: Duration,
        /// The last error of a connection.
        last: String,
        /// The end of the server's error log.
        log: String,
    },

    /// The operation needs a server of the test's own, but the server came from the environment.
    #[error(
        "cannot {operation} a server given by an address: ask for ServerSpec::dedicated(), or unset {variable}"
    )]
    SharedServer {
        /// What was asked for.
        operation: &'static str,
        /// The variable that names the server.
        variable: &'static str,
    },

    /// A replica did not reach the primary's position in time.
    #[error("the replica did not catch up within {} s; its state: {state}", waited.as_secs())]
    NotCaughtUp {
        /// How long was waited.
        waited: Duration,
        /// Threads and last errors, as the replica shows them.
        state: String,
    },

    /// The address in the environment is not a URL of the expected kind.
    #[error("{variable} is not usable: {reason}; expected for example {example}")]
    Address {
        /// The variable.
        variable: &'static str,
        /// What is wrong.
        reason: String,
        /// A correct value.
        example: &'static str,
    },

    /// What was asked for does not exist for this kind of server.
    #[error("{0}")]
    Unsupported(String),

    /// A MySQL or MariaDB server refused something.
    #[error("the server refused a command of the harness: {0}")]
    Mysql(#[from] mysql_async::Error),

    /// A PostgreSQL server refused something.
    #[error("the server refused a command of the harness: {0}")]
    Postgres(#[from] tokio_postgres::Error),
}

impl SupportError {
    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}

/// Every way to a server that was tried, and why it did not work.
#[derive(Debug, Clone)]
pub struct Unavailable {
    /// Flavor and version that was asked for.
    pub wanted: String,
    /// One entry a way, in the order they were tried.
    pub reasons: Vec<(SourceKind, String)>,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "no {} server can be had here:", self.wanted)?;
        for (source, reason) in &self.reasons {
            writeln!(out, "  {source}: {reason}")?;
        }
        write!(
            out,
            "ways out: start Docker and load the image named in tests/support/compose.yaml, install the server, \
             or give an address in CHANGELING_TEST_MYSQL, CHANGELING_TEST_MARIADB or CHANGELING_TEST_POSTGRES"
        )
    }
}

impl std::error::Error for Unavailable {}
