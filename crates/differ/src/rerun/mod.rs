//! Rerun: what has become of the differences that a report lists?
//!
//! The keys are taken as the report writes them and compared by the servers, as values of their columns' types: a UUID, a
//! number or a time stamp finds its row however it was written. A row that is gone on every node does not differ any more.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::engine::{DiffSettings, DiffSubject, KeySource, LookError, look_at_keys};
use crate::model::{Dialect, DifferenceSink, JobSummary, Key, NodeName};
use crate::report::ReportError;
use crate::report::recorded::RecordedReport;

/// A rerun that ended without a summary.
#[derive(Debug, thiserror::Error)]
pub enum RerunError {
    /// A report cannot be read or written.
    #[error(transparent)]
    Look(#[from] LookError<ReportError>),
    /// The sides are not those of the report.
    #[error("the report is about {report}, and {given} were given")]
    Nodes {
        /// Their names.
        report: String,
        /// Their names.
        given: String,
    },
    /// Rows are identified otherwise by now.
    #[error("the report identifies rows by ({report}), the table by ({table}); run table-diff again")]
    Key {
        /// Columns.
        report: String,
        /// Columns.
        table: String,
    },
}

/// Looks again at every key that the report lists, in flight or not, and hands what still differs to `sink`.
///
/// `subject` holds the report's nodes in the report's order. The verdict is about the listed keys; it is no match if the
/// report itself was not about the whole table, or compared a column that is not compared now.
///
/// # Errors
/// [`RerunError`]; what happens to a node is in the summary.
pub async fn rerun(
    report: RecordedReport,
    subject: &DiffSubject,
    settings: &DiffSettings,
    sink: Box<dyn DifferenceSink>,
    cancel: &CancellationToken,
) -> Result<JobSummary, RerunError> {
    let given: Vec<&str> = subject.sides.iter().map(|side| side.node().as_str()).collect();
    let listed: Vec<&str> = report.nodes.iter().map(NodeName::as_str).collect();
    if given != listed {
        return Err(RerunError::Nodes {
            report: listed.join(", "),
            given: given.join(", "),
        });
    }
    let key: Vec<&str> = subject
        .shape
        .key_columns()
        .map(|column| column.name.as_str())
        .collect();
    if key != report.key {
        return Err(RerunError::Key {
            report: report.key.join(", "),
            table: key.join(", "),
        });
    }
    let gone = gone(&report, subject);
    let mut keys = ReportKeys {
        report: report.with_in_flight(),
        gone,
    };
    Ok(look_at_keys(subject, settings, &mut keys, sink, cancel).await?)
}

/// What to say of columns that the report compared and this look does not: whether the rows differ in them is not known.
fn gone(report: &RecordedReport, subject: &DiffSubject) -> Option<String> {
    let there = |name: &&String| {
        let mut columns = subject.shape.columns.iter();
        match subject.shape.dialect {
            Dialect::Postgres => columns.any(|column| column.name == **name),
            Dialect::MySql | Dialect::MariaDb => {
                columns.any(|column| column.name.to_lowercase() == name.to_lowercase())
            }
        }
    };
    let gone: Vec<String> = report
        .columns
        .iter()
        .filter(|name| !there(name))
        .map(|name| format!("{name:?}"))
        .collect();
    (!gone.is_empty()).then(|| {
        format!(
            "not every node has or shows column {} any more, which the report compared: it was not compared now, and whether \
             the rows differ in it is not known",
            gone.join(", ")
        )
    })
}

struct ReportKeys {
    report: RecordedReport,
    gone: Option<String>,
}

impl KeySource for ReportKeys {
    type Error = ReportError;

    fn next_keys(&mut self, most: usize) -> BoxFuture<'_, Result<Vec<Key>, ReportError>> {
        async move {
            let mut keys = Vec::new();
            while keys.len() < most
                && let Some(difference) = self.report.next_difference()?
            {
                keys.push(difference.key);
            }
            Ok(keys)
        }
        .boxed()
    }

    fn shortfall(&self) -> Option<String> {
        let parts = [self.report.shortfall(), self.gone.clone()];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}
