//! `changeling table-rerun` and `changeling table-repair`: ACE's shape and flags, and our own.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::diff::{Compare, NodeArgs, Output, TalkArgs};

/// Look again at the differences of a report.
#[derive(Clone, Debug, PartialEq, Args)]
#[command(
    about = "Look again at the differences that a report of table-diff lists",
    long_about = "Reads the rows of every key that a report of table-diff lists again, on all of its nodes, and reports \
                  those that still differ. Reads only. Ends with 0 if all differences are resolved, 1 if some are not, \
                  2 if something could not be established, 3 for a mistake in these arguments.",
    after_help = "changeling table-rerun demo public.orders --diff-file public_orders_diffs-20260701100000.json"
)]
pub struct TableRerunArgs {
    /// Which report.
    #[command(flatten)]
    pub report: ReportArgs,
    /// Which nodes.
    #[command(flatten)]
    pub nodes: NodeArgs,
    /// The new report's form. The differences are also kept as NDJSON.
    #[arg(short, long, value_enum, default_value_t = Output::Json)]
    pub output: Output,
    /// When values are the same.
    #[arg(long, value_enum, default_value_t = Compare::Exact)]
    pub compare: Compare,
    /// How much is said.
    #[command(flatten)]
    pub talk: TalkArgs,
}

/// Make the rows of a report equal.
#[derive(Clone, Debug, PartialEq, Args)]
#[command(
    about = "Make the rows equal that a report of table-diff lists",
    long_about = "Makes the rows equal that a report of table-diff lists. A row is written only if it still is what the \
                  report says, with values that were just read from the other node; every other one is left alone and \
                  reported. At the end every row that was touched is read again. Ends with 0 if nothing is left to do, 1 \
                  if rows were left alone or refused by the server, 2 if the repair failed, 3 for a mistake in these \
                  arguments.",
    after_help = "changeling table-repair demo public.orders -f DIFFS.json --source-of-truth n1 --dry-run\n\
                  changeling table-repair demo public.orders -f DIFFS.json --repair-plan plan.yaml"
)]
pub struct TableRepairArgs {
    /// Which report.
    #[command(flatten)]
    pub report: ReportArgs,
    /// Which nodes.
    #[command(flatten)]
    pub nodes: NodeArgs,
    /// The node that is right.
    #[arg(short = 'r', long, value_name = "NODE", conflicts_with_all = ["repair_plan", "fix_nulls", "bidirectional"])]
    pub source_of_truth: Option<String>,
    /// File of a repair plan, YAML or JSON, that says row by row who is right.
    #[arg(short = 'p', long, value_name = "FILE", conflicts_with_all = ["fix_nulls", "bidirectional", "insert_only", "upsert_only", "recovery_mode"])]
    pub repair_plan: Option<PathBuf>,
    /// Do everything, and roll it back.
    #[arg(short = 'y', long)]
    pub dry_run: bool,
    /// Write reports/DATE/repair_report_TIME.json (dry_run_report_… with --dry-run).
    #[arg(short = 'g', long)]
    pub generate_report: bool,
    /// Write the repair as SQL, one file for each node, into this directory.
    #[arg(long, value_name = "DIRECTORY")]
    pub emit_sql: Option<PathBuf>,
    /// Only insert rows that are missing.
    #[arg(short, long, conflicts_with_all = ["upsert_only", "fix_nulls"])]
    pub insert_only: bool,
    /// Insert and update rows, delete none.
    #[arg(short = 'P', long, conflicts_with_all = ["bidirectional", "fix_nulls"])]
    pub upsert_only: bool,
    /// Let the table's triggers fire. MySQL and MariaDB cannot keep them from it: there a table with triggers needs this.
    #[arg(short = 't', long)]
    pub fire_triggers: bool,
    /// Copy rows that one node misses from the other, both ways.
    #[arg(short = 'Z', long, conflicts_with = "fix_nulls")]
    pub bidirectional: bool,
    /// Repair from a report of --against-origin after that node failed: the node that has most of what it sent is right
    /// (PostgreSQL).
    #[arg(long, conflicts_with_all = ["fix_nulls", "bidirectional"])]
    pub recovery_mode: bool,
    /// Give repaired rows the commit time and origin of the rows that they are copied from; one transaction a row
    /// (PostgreSQL).
    #[arg(long)]
    pub preserve_origin: bool,
    /// Keep the repair out of the binary log, so that nobody replays it (MySQL and MariaDB).
    #[arg(long)]
    pub no_binlog: bool,
    /// Fill values that are NULL on one node and not on the other.
    #[arg(short = 'X', long)]
    pub fix_nulls: bool,
    /// How much is said.
    #[command(flatten)]
    pub talk: TalkArgs,
}

/// Which report.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct ReportArgs {
    /// `[CLUSTER] [SCHEMA.TABLE]`; no cluster with --node. The table is the report's; naming it guards against mistakes.
    #[arg(value_name = "CLUSTER] [SCHEMA.TABLE", num_args = 0..=2)]
    pub subject: Vec<String>,
    /// The report of table-diff: its NDJSON, or ACE's JSON, whoever wrote it.
    #[arg(short = 'f', long, value_name = "FILE", required = true)]
    pub diff_file: PathBuf,
    /// How long one statement may take on a server.
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = super::diff::duration)]
    pub statement_timeout: Duration,
}

impl ReportArgs {
    /// The cluster and the table, as far as they are named.
    ///
    /// # Errors
    /// What is wrong with the arguments.
    pub fn subject(&self, nodes: &NodeArgs) -> Result<(Option<&str>, Option<&str>), String> {
        let given = !nodes.given.is_empty();
        match &self.subject[..] {
            [] if given => Ok((None, None)),
            [table] if given => Ok((None, Some(table))),
            [cluster] => Ok((Some(cluster), None)),
            [cluster, table] if !given => Ok((Some(cluster), Some(table))),
            [] => Err("name a cluster, or give the nodes with --node NAME=DSN".into()),
            _ => Err("a cluster and --node exclude each other".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command, FromArgMatches as _};
    use rstest::rstest;

    use super::*;

    fn repair(words: &str) -> Result<TableRepairArgs, clap::Error> {
        let words = ["table-repair", "demo", "public.t", "-f", "x.json"]
            .into_iter()
            .chain(words.split_whitespace());
        let matches =
            TableRepairArgs::augment_args(Command::new("table-repair")).try_get_matches_from(words)?;
        TableRepairArgs::from_arg_matches(&matches)
    }

    #[rstest]
    #[case("-r n1")]
    #[case("--source-of-truth n1 --dry-run --generate-report --insert-only")]
    #[case("-r n1 -P -t --preserve-origin")]
    #[case("-Z -i")]
    #[case("-Z")]
    #[case("-X -y")]
    #[case("-p plan.yaml -y -g")]
    #[case("--recovery-mode --preserve-origin")]
    #[case("--recovery-mode -r n2")]
    fn these_go_together(#[case] words: &str) {
        repair(words).unwrap();
    }

    #[rstest]
    #[case("-Z -P")]
    #[case("-Z -X")]
    #[case("-X -i")]
    #[case("-X -P")]
    #[case("-i -P -r n1")]
    #[case("-p plan.yaml -X")]
    #[case("-p plan.yaml -Z")]
    #[case("-p plan.yaml -r n1")]
    #[case("-p plan.yaml -i")]
    fn these_do_not(#[case] words: &str) {
        assert!(repair(words).is_err(), "{words}");
    }
}
