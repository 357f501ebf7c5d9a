//! `changeling table-rerun` and `changeling table-repair`: what is done with a report.

mod repair;
mod rerun;

use std::process::ExitCode;

use anyhow::Context as _;
use changeling_core::ident::TableName;
use changeling_differ::model::NodeName;
use changeling_differ::report::recorded::RecordedReport;

use crate::args::diff::NodeArgs;
use crate::args::mend::ReportArgs;
use crate::diff::{DiffError, Nodes, nodes_of_any_kind};

pub use repair::run as repair;
pub use rerun::run as rerun;

/// A report and the nodes that it is about, in its order.
struct Subject {
    report: RecordedReport,
    nodes: Nodes,
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
        let table_of = |node: &NodeName| of_node(&report, node);
        let found = nodes_of_any_kind(given, cluster, &table_of, arguments.statement_timeout)?;
        for table in &given.tables {
            let known = of_node(&report, &NodeName::new(table.node.as_str()));
            if table.table != known {
                return Err(DiffError::Usage(format!(
                    "--table-on {}: {} is about {}.{} there",
                    table.node,
                    path.display(),
                    known.schema,
                    known.table
                )));
            }
        }
        let nodes = match found {
            Nodes::Postgres(nodes) => Nodes::Postgres(arranged(nodes, &report, |node| node.server.node())?),
            Nodes::MySql(nodes) => Nodes::MySql(arranged(nodes, &report, |node| node.server.node())?),
        };
        Ok(Self { report, nodes })
    }
}

/// A node's table as the report knows it.
fn of_node(report: &RecordedReport, node: &NodeName) -> TableName {
    let place = report.nodes.iter().position(|name| name == node);
    place.map_or_else(|| report.table.clone(), |place| report.tables[place].clone())
}

/// The nodes of the report among those given, in its order.
fn arranged<N>(
    mut nodes: Vec<N>,
    report: &RecordedReport,
    name: impl Fn(&N) -> &NodeName,
) -> Result<Vec<N>, DiffError> {
    let mut arranged = Vec::with_capacity(report.nodes.len());
    for wanted in &report.nodes {
        let place = nodes.iter().position(|node| name(node) == wanted);
        let place = place.ok_or_else(|| {
            DiffError::Usage(format!(
                "the report is about node {wanted}, of which no address was given"
            ))
        })?;
        arranged.push(nodes.swap_remove(place));
    }
    Ok(arranged)
}

/// Ends with this status.
fn status(code: u8) -> ExitCode {
    ExitCode::from(code)
}
