//! Rerun: what has become of the differences that a report lists?
//!
//! The keys are taken as the report writes them and compared by the servers, as values of their columns' types: a UUID, a
//! number or a time stamp finds its row however it was written. A row that is gone on every node does not differ any more.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::engine::{DiffSettings, DiffSubject, KeySource, LookError, look_at_keys};
use crate::model::{Comparison, DifferenceSink, JobSummary, Key};
use crate::postgres::{PgCluster, PgNode, PgServer, PgTerms, PrepareError};
use crate::report::ReportError;
use crate::report::recorded::RecordedReport;

/// A rerun that ended without a summary.
#[derive(Debug, thiserror::Error)]
pub enum RerunError {
    /// The tables cannot be compared.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// A report cannot be read or written.
    #[error(transparent)]
    Look(#[from] LookError<ReportError>),
    /// A node of the report has no address.
    #[error("the report is about node {0}, of which no address was given")]
    Node(String),
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
/// The verdict is about these keys. It is no match if the report itself was not about the whole table.
///
/// # Errors
/// [`RerunError`]; what happens to a node later is in the summary.
pub async fn rerun(
    report: RecordedReport,
    servers: &[PgServer],
    comparison: Comparison,
    settings: &DiffSettings,
    sink: Box<dyn DifferenceSink>,
    cancel: &CancellationToken,
) -> Result<JobSummary, RerunError> {
    let mut nodes = Vec::new();
    for name in &report.nodes {
        let server = servers.iter().find(|server| server.node() == name);
        nodes.push(PgNode {
            server: server
                .cloned()
                .ok_or_else(|| RerunError::Node(name.to_string()))?,
            table: report.table.clone(),
        });
    }
    let terms = PgTerms {
        comparison,
        ..PgTerms::default()
    };
    let cluster = PgCluster::prepare(&nodes, terms).await?;
    let key: Vec<&str> = cluster
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
    let subject = DiffSubject {
        sides: cluster.sides,
        shape: cluster.shape,
        comparison,
        table_filter: report.table_filter.clone(),
        concurrency_factor: 0.0,
        notes: cluster.notes,
    };
    let mut keys = ReportKeys(report.with_in_flight());
    Ok(look_at_keys(&subject, settings, &mut keys, sink, cancel).await?)
}

struct ReportKeys(RecordedReport);

impl KeySource for ReportKeys {
    type Error = ReportError;

    fn next_keys(&mut self, most: usize) -> BoxFuture<'_, Result<Vec<Key>, ReportError>> {
        async move {
            let mut keys = Vec::new();
            while keys.len() < most
                && let Some(difference) = self.0.next_difference()?
            {
                keys.push(difference.key);
            }
            Ok(keys)
        }
        .boxed()
    }

    fn shortfall(&self) -> Option<String> {
        self.0.shortfall()
    }
}
