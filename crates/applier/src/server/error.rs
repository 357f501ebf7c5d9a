//! What can go wrong between us and a server, and what to do about it.

use std::fmt;

use mysql_async::{DriverError, Error, IoError};

/// What an error means for what to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Account or password refused.
    Auth,
    /// No server answers there.
    Unreachable,
    /// TLS could not be agreed upon.
    Tls,
    /// The account may not do that.
    Privilege,
    /// The connection broke.
    Lost,
    /// Deadlock: the server undid the transaction, try again.
    Deadlock,
    /// A lock was not free in time: try again.
    LockWait,
    /// Someone ended the statement.
    Killed,
    /// No room on disk, or a table is full.
    DiskFull,
    /// The server does not accept writes.
    ReadOnly,
    /// No such schema or table.
    Missing,
    /// Too many connections.
    Crowded,
    /// Anything else: the message of the server says what.
    Other,
}

impl ErrorKind {
    /// Whether the same statement may simply be sent again in the same session.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Deadlock | Self::LockWait)
    }
}

/// The server's error number, if the error came from the server.
#[must_use]
pub fn errno(error: &Error) -> Option<u16> {
    match error {
        Error::Server(error) => Some(error.code),
        _ => None,
    }
}

/// Whether the statement may simply be sent again: deadlock (1213) or lock wait timeout (1205).
#[must_use]
pub fn is_retryable(error: &Error) -> bool {
    kind(error).is_retryable()
}

pub(crate) fn kind(error: &Error) -> ErrorKind {
    match error {
        Error::Server(error) => match error.code {
            1045 | 1698 | 1862 | 1820 | 1251 | 3118 | 4151 => ErrorKind::Auth,
            1044 | 1142 | 1143 | 1227 | 1370 | 1410 => ErrorKind::Privilege,
            1213 => ErrorKind::Deadlock,
            1205 => ErrorKind::LockWait,
            1317 | 3024 | 1969 => ErrorKind::Killed,
            1021 | 1114 | 1041 | 3675 => ErrorKind::DiskFull,
            1290 | 1792 | 1836 | 1874 | 3572 => ErrorKind::ReadOnly,
            1049 | 1051 | 1146 => ErrorKind::Missing,
            1040 | 1203 | 1226 => ErrorKind::Crowded,
            1053 | 1077 | 1078 | 1152 | 1158..=1161 | 1184 | 1927 | 2006 | 2013 | 2055 | 3169 | 4031 => {
                ErrorKind::Lost
            }
            1129 | 1130 => ErrorKind::Unreachable,
            3159 => ErrorKind::Tls,
            _ => ErrorKind::Other,
        },
        Error::Io(IoError::Tls(_))
        | Error::Driver(DriverError::NoClientSslFlagFromServer | DriverError::NoKeyFound) => ErrorKind::Tls,
        Error::Io(IoError::Io(error)) => match error.kind() {
            std::io::ErrorKind::ConnectionRefused
            | std::io::ErrorKind::TimedOut
            | std::io::ErrorKind::NotFound
            | std::io::ErrorKind::HostUnreachable
            | std::io::ErrorKind::NetworkUnreachable
            | std::io::ErrorKind::AddrNotAvailable => ErrorKind::Unreachable,
            _ => ErrorKind::Lost,
        },
        Error::Driver(
            DriverError::ConnectionClosed | DriverError::PoolDisconnected | DriverError::PacketOutOfOrder,
        ) => ErrorKind::Lost,
        Error::Driver(
            DriverError::UnknownAuthPlugin { .. }
            | DriverError::CleartextPluginDisabled
            | DriverError::MysqlOldPasswordDisabled,
        ) => ErrorKind::Auth,
        _ => ErrorKind::Other,
    }
}

/// An error that names the server, what was being done, and what to do next.
#[derive(Debug)]
pub struct ServerError {
    /// What it means.
    pub kind: ErrorKind,
    /// `host:port`.
    pub address: String,
    /// What was being done: completes "cannot …".
    pub doing: String,
    user: Option<String>,
    /// Boxed: errors are returned by every function, and this is the largest part of them.
    source: Box<Error>,
}

impl ServerError {
    /// An error of the driver, with its circumstances.
    pub fn new(address: impl Into<String>, doing: impl Into<String>, source: Error) -> Self {
        Self {
            kind: kind(&source),
            address: address.into(),
            doing: doing.into(),
            user: None,
            source: Box::new(source),
        }
    }

    pub(super) fn with_user(mut self, user: &str) -> Self {
        self.user = Some(user.to_owned());
        // While a connection is being made nothing can be lost yet; and it is rustls that calls data invalid.
        let invalid = |error: &std::io::Error| error.kind() == std::io::ErrorKind::InvalidData;
        if matches!(&*self.source, Error::Io(IoError::Io(error)) if invalid(error)) {
            self.kind = ErrorKind::Tls;
        } else if self.kind == ErrorKind::Lost {
            self.kind = ErrorKind::Unreachable;
        }
        self
    }

    /// The server's error number.
    #[must_use]
    pub fn errno(&self) -> Option<u16> {
        errno(&self.source)
    }

    /// The driver's error.
    #[must_use]
    pub fn cause(&self) -> &Error {
        &self.source
    }

    /// What an operator can do about it; empty where the message says it all.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        const INVALID_DEFAULT: u16 = 1067;
        match self.kind {
            _ if self.errno() == Some(INVALID_DEFAULT) => {
                "for a default such as '0000-00-00' that sql_mode forbids now there is --allow-zero-in-date"
            }
            ErrorKind::Auth => "check --user and --password, and that the account may log in from this host",
            ErrorKind::Unreachable => {
                "check --host and --port, that the server runs, and that no firewall is between"
            }
            ErrorKind::Tls => {
                "check --ssl-ca, --ssl-cert and --ssl-key; --ssl-allow-insecure skips the check of the server's certificate"
            }
            ErrorKind::Privilege => {
                "grant the account what the server misses; docs/privileges.md has the list"
            }
            ErrorKind::Lost => {
                "the original table is untouched; see whether the server restarted, then run again with --resume"
            }
            ErrorKind::Deadlock | ErrorKind::LockWait => "another session holds a lock; it is tried again",
            ErrorKind::Killed => "someone ended the statement on the server",
            ErrorKind::DiskFull => {
                "make room on the server: the ghost table needs about as much as the original"
            }
            ErrorKind::ReadOnly => "writes belong on the primary: check --host or --assume-master-host",
            ErrorKind::Missing => "check --database and --table",
            ErrorKind::Crowded => "raise max_connections or lower --copy-workers and --apply-lanes",
            ErrorKind::Other => "",
        }
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let preposition = if self.doing == "connect" { "to" } else { "on" };
        write!(f, "cannot {} {preposition} {}", self.doing, self.address)?;
        if let Some(user) = &self.user {
            write!(f, " as {user}")?;
        }
        match &*self.source {
            Error::Server(error) => write!(f, ": error {}: {}", error.code, error.message)?,
            Error::Io(IoError::Io(error)) => write!(f, ": {error}")?,
            error => write!(f, ": {error}")?,
        }
        let hint = self.hint();
        if !hint.is_empty() {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}

impl std::error::Error for ServerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn server(code: u16) -> Error {
        Error::Server(mysql_async::ServerError {
            code,
            message: "m".into(),
            state: "HY000".into(),
        })
    }

    #[rstest]
    #[case(1045, ErrorKind::Auth, false)]
    #[case(1213, ErrorKind::Deadlock, true)]
    #[case(1205, ErrorKind::LockWait, true)]
    #[case(1114, ErrorKind::DiskFull, false)]
    #[case(1227, ErrorKind::Privilege, false)]
    #[case(1146, ErrorKind::Missing, false)]
    #[case(2013, ErrorKind::Lost, false)]
    #[case(1064, ErrorKind::Other, false)]
    fn kinds(#[case] code: u16, #[case] expected: ErrorKind, #[case] retry: bool) {
        let error = server(code);
        assert_eq!(kind(&error), expected);
        assert_eq!(is_retryable(&error), retry);
        assert_eq!(errno(&error), Some(code));
    }

    #[test]
    fn the_message_names_server_action_and_next_step() {
        let error = ServerError::new("db:3306", "create the ghost table", server(1114));
        assert_eq!(
            error.to_string(),
            "cannot create the ghost table on db:3306: error 1114: m \
             (make room on the server: the ghost table needs about as much as the original)"
        );
    }
}
