//! Where differences go.

use futures_util::future::BoxFuture;

use super::difference::Finding;
use super::job::JobHeader;
use super::summary::JobSummary;

/// A report could not be written.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot write the report: {message}; nothing after it was recorded, so the job ends as unknown. Make room or \
         choose another place, then run it again"
)]
pub struct SinkError {
    /// What happened, with the file's name.
    pub message: String,
    /// The system's error.
    #[source]
    pub source: Option<std::io::Error>,
}

/// Takes differences, one at a time, in no particular order of keys.
///
/// The engine calls `begin` once, `take` for each finding, `finish` once, never two at a time. It waits for each
/// call: that is the backpressure, and how a job of a million differences stays within its byte budget. A sink keeps
/// no finding in memory after `take` has returned. A key is taken at most once.
///
/// A future that is dropped, because the job was cancelled, must leave nothing worse than a report without its end.
pub trait DifferenceSink: Send + 'static {
    /// The job begins.
    ///
    /// # Errors
    /// The report cannot be written; the job does not start.
    fn begin<'a>(&'a mut self, header: &'a JobHeader) -> BoxFuture<'a, Result<(), SinkError>>;

    /// A difference was found.
    ///
    /// # Errors
    /// The report cannot be written; the job ends as unknown.
    fn take<'a>(&'a mut self, finding: Finding) -> BoxFuture<'a, Result<(), SinkError>>;

    /// The job is over. Not called if it failed before any range was compared.
    ///
    /// # Errors
    /// The report cannot be written; the job ends as unknown.
    fn finish<'a>(&'a mut self, summary: &'a JobSummary) -> BoxFuture<'a, Result<(), SinkError>>;
}
