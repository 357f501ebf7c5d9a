//! What can go wrong with a stream, and what follows from it.

use std::fmt;

use changeling_core::change_source::SourceError;

/// The sort of a failure: it decides whether the stream tries again and what an operator can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The server cannot be reached, or the connection broke.
    Unreachable,
    /// The server was silent for longer than its heartbeats allow.
    Silent,
    /// The server refused the account or the request.
    Refused,
    /// The server no longer has the asked-for part of its binary log, or never had it.
    Purged,
    /// Another server than before answers at the address.
    OtherServer,
    /// Bytes contradict themselves or their checksum.
    Corrupt,
    /// The log holds something this version does not know.
    Unknown,
    /// The log holds something known that cannot be followed without losing changes.
    Unsupported,
    /// The server itself says that its log has a gap.
    Incident,
    /// A table's row events do not agree with the table as it was inspected.
    TableChanged,
    /// A row event lacks a column that was asked for.
    IncompleteImage,
    /// A prepared XA transaction was decided whose rows this stream never saw.
    UnseenXa,
    /// A bound of the settings is exceeded.
    Limit,
    /// The settings or the watch list are unusable.
    Settings,
}

/// Whether a failed stream connects again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Connect again, after a pause.
    Reconnect,
    /// Stop: trying again would fail in the same way, or skip something.
    Stop,
}

impl ErrorKind {
    /// Whether the stream connects again after this.
    #[must_use]
    pub fn retry(self) -> Retry {
        match self {
            Self::Unreachable | Self::Silent => Retry::Reconnect,
            _ => Retry::Stop,
        }
    }

    /// What an operator can do.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            Self::Unreachable => "check that the server runs and can be reached",
            Self::Silent => "check the network and the server's load",
            Self::Refused => {
                "the account needs REPLICATION SLAVE and REPLICATION CLIENT (MariaDB: BINLOG MONITOR too), and \
                 the stream a server id of its own"
            }
            Self::Purged => {
                "the stream cannot be continued without a gap: start anew, and keep binary logs for longer \
                 (binlog_expire_logs_seconds)"
            }
            Self::OtherServer => {
                "start anew on the present server, or use GTIDs so that positions carry over"
            }
            Self::Corrupt => {
                "look at the place with mysqlbinlog --verify-binlog-checksum; if the file is sound, suspect the \
                 network"
            }
            Self::Unknown => "this event needs a newer version of the tool",
            Self::Unsupported => "see the limits in docs/binlog.md",
            Self::Incident => "changes are missing from the server's binary log: start anew",
            Self::TableChanged => {
                "somebody changed the table while it was being watched: inspect it and start anew"
            }
            Self::IncompleteImage => "set binlog_row_image=FULL for the sessions that write, and start anew",
            Self::UnseenXa => {
                "end the prepared transactions (XA RECOVER) before the stream starts, then start anew"
            }
            Self::Limit => "raise the named setting if the machine can bear it",
            Self::Settings => "correct the setting",
        }
    }
}

/// A failure of a stream.
#[derive(Clone, Debug, thiserror::Error)]
pub struct StreamError {
    kind: ErrorKind,
    what: String,
    place: Option<String>,
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(place) = &self.place {
            write!(f, " ({place})")?;
        }
        write!(f, "; {}", self.kind.hint())
    }
}

impl StreamError {
    pub(crate) fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Self {
            kind,
            what: what.into(),
            place: None,
        }
    }

    /// The same failure, with the place where it happened. The innermost place is kept.
    pub(crate) fn at(mut self, place: impl FnOnce() -> String) -> Self {
        if self.place.is_none() {
            self.place = Some(place());
        }
        self
    }

    /// The same failure, with how many in a row there were.
    pub(crate) fn after(mut self, failures: u32) -> Self {
        self.what = format!(
            "{} ({failures} failures in a row, max_reconnects is exhausted)",
            self.what
        );
        self
    }

    /// The same failure, with the table it is about.
    pub(crate) fn about(mut self, table: &str) -> Self {
        self.what = format!("{table}: {}", self.what);
        self
    }

    /// What happened, without what to do.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    /// What sort of failure it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl From<StreamError> for SourceError {
    fn from(error: StreamError) -> Self {
        Self::new(error.to_string())
    }
}
