//! Why a report cannot be read or written.

use std::io;
use std::path::{Path, PathBuf};

use crate::model::SinkError;

/// A failure of reading or writing a report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The system said no.
    #[error("cannot {doing} {path}: {source}")]
    File {
        /// A verb.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The text is no report.
    #[error("{path}, line {line}: {message}; is this a report of table-diff (NDJSON or ACE's JSON)?")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// The report ends before its end.
    #[error(
        "{path} has no summary: the job that wrote it was stopped or failed. What it lists does differ, but nothing is \
         known about the rest; run table-diff again, or --resume it"
    )]
    Unfinished {
        /// Which file.
        path: PathBuf,
    },
    /// The report does not list what its summary counts.
    #[error(
        "{path}: its summary counts {counted}, and it lists {listed}. Something of it is missing or was added since it was \
         written; nothing can be concluded from it. Run table-diff again"
    )]
    Incomplete {
        /// Which file.
        path: PathBuf,
        /// What the summary says.
        counted: String,
        /// What there is.
        listed: String,
    },
    /// The report is sound, but not what is needed.
    #[error("{path}: {message}")]
    Unfit {
        /// Which file.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
}

impl ReportError {
    pub(crate) fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { doing, path, source }
    }

    pub(crate) fn unfit(path: &Path, message: impl Into<String>) -> Self {
        Self::Unfit {
            path: path.to_owned(),
            message: message.into(),
        }
    }
}

impl From<ReportError> for SinkError {
    fn from(error: ReportError) -> Self {
        let message = error.to_string();
        let source = match error {
            ReportError::File { source, .. } => Some(source),
            _ => None,
        };
        Self { message, source }
    }
}
