//! `changeling table-rerun` and `changeling table-repair`: what is done with a report.

mod repair;
mod rerun;

use std::process::ExitCode;

use anyhow::Context as _;
use changeling_differ::postgres::PgServer;
use changeling_differ::report::recorded::RecordedReport;

use crate::args::diff::NodeArgs;
use crate::args::mend::ReportArgs;
use crate::diff::{DiffError, nodes};

pub use repair::run as repair;
pub use rerun::run as rerun;

/// A report and the servers that it is about.
struct Subject {
    report: RecordedReport,
    servers: Vec<PgServer>,
}

impl Subject {
    fn open(arguments: &ReportArgs, given: &NodeArgs) -> Result<Self, DiffError> {
        let (cluster, table) = arguments.subject(given).map_err(DiffError::Usage)?;
        let path = &arguments.diff_file;
        let report = RecordedReport::open(path).with_context(|| format!("cannot use {}", path.display()))?;
        let of_report = format!("{}.{}", report.table.schema, report.table.table);
        if let Some(table) = table
            && table != of_report
        {
            return Err(DiffError::Usage(format!(
                "{} is about {of_report}, not {table}",
                path.display()
            )));
        }
        let servers = nodes(given, cluster, &report.table, arguments.statement_timeout)?
            .into_iter()
            .map(|node| node.server)
            .collect();
        Ok(Self { report, servers })
    }
}

/// Ends with this status.
fn status(code: u8) -> ExitCode {
    ExitCode::from(code)
}
