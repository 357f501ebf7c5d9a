//! A repair: what it is asked, whom it talks to, what it comes to.

use std::io::Write;
use std::sync::Arc;

use changeling_core::ident::TableName;
use futures_util::future::try_join_all;
use tokio_util::sync::CancellationToken;

use super::batch::Run;
use super::decision::Decider;
use super::journal::RepairLog;
use super::mysql::MySqlTarget;
use super::postgres::PgTarget;
use super::script::Script;
use super::target::{Role, Target};
use super::touched::Touched;
use super::{Policy, RepairError, RepairOutcome};
use crate::model::{Dialect, NodeName, TableShape};
use crate::mysql::side::{MySqlCluster, MySqlNode, MySqlTerms};
use crate::postgres::{ColumnChoice, PgCluster, PgNode, PgTerms, PrepareError};
use crate::report::recorded::RecordedReport;

/// Whether anything is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Apply {
    /// Batches are committed.
    Commit,
    /// Batches are rolled back: everything else is the same.
    DryRun,
}

/// Whether the table's triggers fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Triggers {
    /// They do not.
    Quiet,
    /// They do, as for any client.
    Fire,
}

/// What a repaired row's commit time and origin are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginKeeping {
    /// Those of the repair.
    Local,
    /// Those of the row that was copied. Every row is a transaction of its own then, and the role must be allowed to use
    /// `pg_replication_origin_*`.
    Preserve,
}

/// Whether the binary log of MySQL and MariaDB gets the repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryLog {
    /// As it gets every client's changes; replicas replay them.
    Written,
    /// It does not. The account must be allowed to set `sql_log_bin`.
    Spared,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub struct RepairOptions {
    /// Which side is right.
    pub policy: Policy,
    /// Whether anything is changed.
    pub apply: Apply,
    /// Whether triggers fire.
    pub triggers: Triggers,
    /// Whose commit time and origin the rows get.
    pub origin: OriginKeeping,
    /// Whether replicas of a node get its repair.
    pub binary_log: BinaryLog,
}

/// The nodes of a repair, all of one kind. They may be more than the report's, in any order.
#[derive(Clone, Debug)]
pub enum RepairNodes {
    /// PostgreSQL.
    Postgres(Vec<PgNode>),
    /// MySQL and MariaDB.
    MySql(Vec<MySqlNode>),
}

/// A repair that is ready to run.
pub struct Repair {
    report: RecordedReport,
    shape: Arc<TableShape>,
    targets: Vec<Box<dyn Target>>,
    options: RepairOptions,
    /// What the operator should know.
    pub notes: Vec<String>,
}

/// Nodes that are ready to be written.
struct Connected {
    shape: Arc<TableShape>,
    targets: Vec<Box<dyn Target>>,
    notes: Vec<String>,
}

impl Repair {
    /// Connects to the nodes of a report.
    ///
    /// # Errors
    /// A node is not given or cannot be reached, or is given with another table than the report's; the tables have too
    /// little in common; the role may not do what is needed; the server knows nothing of what is asked for.
    pub async fn connect(
        report: RecordedReport,
        nodes: RepairNodes,
        options: RepairOptions,
    ) -> Result<Self, RepairError> {
        let connected = match nodes {
            RepairNodes::Postgres(nodes) => {
                let nodes = arranged(&report, &nodes, |node| (node.server.node(), &node.table))?;
                connect_postgres(&report, &nodes, &options).await?
            }
            RepairNodes::MySql(nodes) => {
                let nodes = arranged(&report, &nodes, |node| (node.server.node(), &node.table))?;
                connect_mysql(&report, &nodes, &options).await?
            }
        };
        let Connected {
            shape,
            targets,
            notes,
        } = connected;
        Ok(Self {
            report,
            shape,
            targets,
            options,
            notes,
        })
    }

    /// Where the repair is written as SQL while it runs, one output for each node in the report's order.
    #[must_use]
    pub fn script(&self, outputs: Vec<Box<dyn Write + Send>>) -> Script {
        let scribes = self.targets.iter().map(|target| target.scribe());
        Script::new(outputs.into_iter().zip(scribes))
    }

    /// The node, among those of the report, that has replayed most of what `origin` sent: the one to recover from.
    ///
    /// # Errors
    /// Two nodes are equally far, or none received anything.
    pub async fn furthest(&mut self, origin: &str) -> Result<usize, RepairError> {
        let replayed = try_join_all(self.targets.iter_mut().map(|target| target.replayed(origin))).await?;
        let best = replayed.iter().flatten().max().copied();
        let Some(best) = best else {
            return Err(RepairError::Refused(format!(
                "no node knows how far it has replayed {origin}; name the node to recover from with --source-of-truth"
            )));
        };
        let furthest: Vec<usize> = (0..replayed.len())
            .filter(|node| replayed[*node] == Some(best))
            .collect();
        match furthest[..] {
            [node] => Ok(node),
            _ => Err(RepairError::Refused(format!(
                "{} have replayed {origin} equally far; name the node to recover from with --source-of-truth",
                furthest
                    .iter()
                    .map(|node| self.report.nodes[*node].to_string())
                    .collect::<Vec<_>>()
                    .join(" and ")
            ))),
        }
    }

    /// The same repair under another policy.
    #[must_use]
    pub fn with_policy(mut self, policy: Policy) -> Self {
        self.options.policy = policy;
        self
    }

    /// The table.
    #[must_use]
    pub fn shape(&self) -> &TableShape {
        &self.shape
    }

    /// The nodes, in the report's order.
    #[must_use]
    pub fn nodes(&self) -> &[NodeName] {
        &self.report.nodes
    }

    /// Repairs. Events go to `log` after the commit of what they tell.
    ///
    /// Cancelled, it ends between two batches; what was committed stays.
    ///
    /// # Errors
    /// A node is lost or may not be written, the report cannot be read to its end, the plan does not fit the table.
    pub async fn run(
        mut self,
        log: &mut dyn RepairLog,
        cancel: &CancellationToken,
    ) -> Result<RepairOutcome, RepairError> {
        let policy = self.options.policy.clone();
        let table = format!("{}.{}", self.shape.name.schema, self.shape.name.table);
        let shape = Arc::clone(&self.shape);
        let key: Vec<String> = shape.key_columns().map(|column| column.name.clone()).collect();
        let columns: Vec<String> = shape.columns.iter().map(|column| column.name.clone()).collect();
        let decisions = match &policy {
            Policy::Plan(plan) => Some(plan.for_table(&table)?),
            _ => None,
        };
        if let Some(decisions) = &decisions {
            decisions.check(&key, &columns)?;
            if shape.dialect != Dialect::Postgres {
                decisions.check_without_commit_times(&columns)?;
            }
        }
        let decider = Decider {
            shape: &shape,
            policy: &policy,
            decisions,
            key,
            columns,
            comparison: self.report.comparison,
        };
        for (node, target) in self.targets.iter_mut().enumerate() {
            if policy.may_write(node) {
                target.prepare_to_write().await?;
            }
        }
        let mut run = Run {
            decider,
            outcome: RepairOutcome::new(&self.report.nodes, self.options.apply == Apply::DryRun),
            touched: Touched::new()?,
            waiting: Vec::new(),
            waiting_bytes: 0,
            positions: positions(&self.report, &shape),
            targets: &mut self.targets,
            options: &self.options,
            log,
        };
        run.all(&mut self.report, cancel).await?;
        run.those_that_wait(cancel).await?;
        if self.options.apply == Apply::Commit {
            run.look_back(cancel).await?;
        }
        let mut outcome = run.outcome;
        outcome.in_flight = self.report.in_flight;
        Ok(outcome)
    }
}

/// The report's nodes among those given, in its order, each with the report's table.
fn arranged<N: Clone>(
    report: &RecordedReport,
    nodes: &[N],
    told: impl Fn(&N) -> (&NodeName, &TableName),
) -> Result<Vec<N>, RepairError> {
    let mut arranged = Vec::with_capacity(report.nodes.len());
    for (name, table) in report.nodes.iter().zip(&report.tables) {
        let node = nodes.iter().find(|node| told(node).0 == name).ok_or_else(|| {
            RepairError::Refused(format!(
                "the report is about node {name}, of which no address was given"
            ))
        })?;
        let given = told(node).1;
        if given != table {
            return Err(RepairError::Refused(format!(
                "the report is about {}.{} on {name}, not {}.{}",
                table.schema, table.table, given.schema, given.table
            )));
        }
        arranged.push(node.clone());
    }
    Ok(arranged)
}

fn prepared(error: PrepareError) -> RepairError {
    match error {
        PrepareError::Side(error) => RepairError::Side(error),
        other => RepairError::Refused(other.to_string()),
    }
}

async fn connect_postgres(
    report: &RecordedReport,
    nodes: &[PgNode],
    options: &RepairOptions,
) -> Result<Connected, RepairError> {
    if options.binary_log == BinaryLog::Spared {
        return Err(RepairError::Refused(
            "there is no binary log to spare on PostgreSQL".into(),
        ));
    }
    let terms = PgTerms {
        columns: compared(report),
        ..PgTerms::default()
    };
    let cluster = PgCluster::prepare(nodes, terms).await.map_err(prepared)?;
    let shape = Arc::new(cluster.shape);
    check_key(report, &shape)?;
    let mut targets: Vec<Box<dyn Target>> = Vec::with_capacity(nodes.len());
    for ((node, origins), path) in nodes.iter().zip(&cluster.origins).zip(&cluster.search_paths) {
        let (shape, origins) = (Arc::clone(&shape), Arc::clone(origins));
        let target = PgTarget::connect(node, shape, origins, path, options.triggers).await?;
        targets.push(Box::new(target));
    }
    Ok(Connected {
        shape,
        targets,
        notes: cluster.notes,
    })
}

async fn connect_mysql(
    report: &RecordedReport,
    nodes: &[MySqlNode],
    options: &RepairOptions,
) -> Result<Connected, RepairError> {
    if options.origin == OriginKeeping::Preserve {
        return Err(RepairError::Refused(
            "commit times and origins can be preserved on PostgreSQL only: MySQL and MariaDB keep none"
                .into(),
        ));
    }
    let terms = MySqlTerms {
        columns: compared(report),
        ..MySqlTerms::default()
    };
    let cluster = MySqlCluster::prepare(nodes, terms).await.map_err(prepared)?;
    let shape = Arc::new(cluster.shape);
    check_key(report, &shape)?;
    let mut targets: Vec<Box<dyn Target>> = Vec::with_capacity(nodes.len());
    for (index, (node, plan)) in nodes.iter().zip(cluster.plans).enumerate() {
        let role = match options.policy.may_write(index) {
            true => Role::Written,
            false => Role::Read,
        };
        let target = MySqlTarget::connect(node, Arc::clone(&shape), plan, role, options).await?;
        targets.push(Box::new(target));
    }
    Ok(Connected {
        shape,
        targets,
        notes: cluster.notes,
    })
}

/// What was not compared is not written.
fn compared(report: &RecordedReport) -> ColumnChoice {
    if report.columns.is_empty() {
        ColumnChoice::All
    } else {
        ColumnChoice::Only(report.columns.clone())
    }
}

fn check_key(report: &RecordedReport, shape: &TableShape) -> Result<(), RepairError> {
    let key: Vec<&str> = shape.key_columns().map(|column| column.name.as_str()).collect();
    if key != report.key {
        return Err(RepairError::Refused(format!(
            "the report identifies rows by ({}), the table by ({}); run table-diff again",
            report.key.join(", "),
            key.join(", ")
        )));
    }
    let unknown = report
        .columns
        .iter()
        .find(|column| shape.position(column).is_none());
    if let (Some(column), false) = (unknown, report.columns.is_empty()) {
        return Err(RepairError::Refused(format!(
            "the report has a column {column}, which not all of the tables have; run table-diff again"
        )));
    }
    Ok(())
}

/// For each column of the table its place in the report's rows.
fn positions(report: &RecordedReport, shape: &TableShape) -> Vec<Option<usize>> {
    let place = |name: &String| report.columns.iter().position(|column| column == name);
    shape.columns.iter().map(|column| place(&column.name)).collect()
}
