//! `changeling table-diff`: ACE's shape and flags, and our own.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

use changeling_applier::control::operand;
use changeling_core::ident::TableName;
use changeling_differ::throttle::{LoadLimits, ThrottleTerms};
use clap::{Args, ValueEnum};
use jiff::Timestamp;

/// Rows of a block that need `--override-block-size`.
const LARGEST_BLOCK: u64 = 1_000_000;

/// Compare a table on several nodes.
#[derive(Clone, Debug, PartialEq, Args)]
#[command(
    about = "Compare a table on several nodes",
    long_about = "Compares a table on two or more nodes (PostgreSQL, or MySQL and MariaDB) and reports every row that is not the same on all of \
                  them. Reads only. Ends with 0 if the tables match, 1 if they differ, 2 if something could not be \
                  established, 3 for a mistake in these arguments.",
    after_help = "The nodes come from a service file (sections [CLUSTER] and [CLUSTER.NODE]), from CLUSTER.json in this \
                  directory, or from --node.\n\n\
                  changeling table-diff demo public.orders\n\
                  changeling table-diff --node a=postgres://u@h1/db --node b=postgres://u@h2/db public.orders\n\
                  changeling table-diff --node p=mysql://u:s@primary/ --node r=mysql://u:s@replica/ shop.orders\n\
                  changeling table-diff --node a=mysql://u@h/ --node b=mysql://u@h/ shop.t --table-on b=old.t"
)]
pub struct TableDiffArgs {
    /// `[CLUSTER] SCHEMA.TABLE`; no cluster with --node.
    #[arg(value_name = "CLUSTER] [SCHEMA.TABLE", num_args = 1..=2, required = true)]
    pub subject: Vec<String>,
    /// Which nodes.
    #[command(flatten)]
    pub nodes: NodeArgs,
    /// Rows of a range that is hashed as one, at most.
    #[arg(short, long, default_value_t = const { NonZeroU64::new(100_000).unwrap() }, value_name = "N")]
    pub block_size: NonZeroU64,
    /// Ranges compared at a time, for each processor of this machine; up to 4. At least two in all, so that no node waits
    /// while another is asked; `--max-connections 1` for one.
    #[arg(short, long, default_value_t = 0.5, value_name = "FACTOR", value_parser = factor)]
    pub concurrency_factor: f64,
    /// Rows of a range that is no longer split but read row by row.
    #[arg(short = 'u', long, default_value_t = const { NonZeroU64::new(10_000).unwrap() }, value_name = "N")]
    pub compare_unit_size: NonZeroU64,
    /// The report's form. The differences are also kept as NDJSON, from which the other forms are made.
    #[arg(short, long, value_enum, default_value_t = Output::Json)]
    pub output: Output,
    /// Allow blocks of more than a million rows.
    #[arg(short = 'B', long)]
    pub override_block_size: bool,
    /// Connections to each node, at most; 0 for as many as ranges are compared at a time.
    #[arg(short = 'M', long, default_value_t = 0, value_name = "N")]
    pub max_connections: u32,
    /// Compare only rows for which this SQL expression is true on some node.
    #[arg(short = 'F', long, value_name = "SQL")]
    pub table_filter: Option<String>,
    /// Report only rows with a version last written by this node: its name, or its number on the node that has the row.
    #[arg(long, value_name = "NODE")]
    pub against_origin: Option<String>,
    /// Do not judge rows with a version committed later than this (RFC 3339).
    #[arg(long, value_name = "TIME")]
    pub until: Option<Timestamp>,
    /// ACE's; no extension is needed here, which is said, and none is created.
    #[arg(long)]
    pub ensure_pgcrypto: bool,
    /// When values are the same.
    #[arg(long, value_enum, default_value_t = Compare::Exact)]
    pub compare: Compare,
    /// Columns that are not compared, with commas between them.
    #[arg(
        long,
        value_name = "COLUMNS",
        value_delimiter = ',',
        conflicts_with = "columns"
    )]
    pub ignore_columns: Vec<String>,
    /// Compare only these columns and the key's.
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    pub columns: Vec<String>,
    /// Stop after so many differing rows; 0 for no limit.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub max_diff_rows: u64,
    /// Stop at the first differing row.
    #[arg(long, conflicts_with = "max_diff_rows")]
    pub fail_fast: bool,
    /// Count differing rows and write no report.
    #[arg(long, conflicts_with = "output")]
    pub count_only: bool,
    /// Look only at this share of the ranges, chosen at random; such a job never says that tables match.
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub sample: Option<f64>,
    /// When to wait, out of kindness to the servers.
    #[command(flatten)]
    pub kindness: KindnessArgs,
    /// Go on with a comparison that was killed, cancelled or left something unknown: the journal that it left beside its
    /// report. Ranges that it has finished are not compared again; everything else about the comparison must be the same.
    #[arg(long, value_name = "JOURNAL", conflicts_with_all = ["count_only", "no_journal"])]
    pub resume: Option<PathBuf>,
    /// Keep no journal: a comparison that is killed cannot be resumed then.
    #[arg(long)]
    pub no_journal: bool,
    /// Compare again and again, in the foreground, until a signal; needs --every. Ends with the status of the last run.
    #[arg(short = 'S', long, requires = "every", conflicts_with_all = ["resume", "explain"])]
    pub schedule: bool,
    /// Time from the beginning of a run to that of the next; a run that takes longer delays the next.
    #[arg(short, long, requires = "schedule", value_name = "TIME", value_parser = duration)]
    pub every: Option<Duration>,
    /// Say what would be run and how the servers would run it, and touch nothing.
    #[arg(long)]
    pub explain: bool,
    /// How long one statement may take on a server.
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = duration)]
    pub statement_timeout: Duration,
    /// At what instants ranges are hashed. Rows that differ are looked at as they are now in any case.
    #[arg(long, value_enum, default_value_t = Snapshot::None)]
    pub snapshot: Snapshot,
    /// How often a row that differs is looked at again while it keeps changing.
    #[arg(long, default_value_t = const { NonZeroU32::new(6).unwrap() }, value_name = "N")]
    pub recheck_rounds: NonZeroU32,
    /// How long to wait for nodes that replay each other's changes to have done so.
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = duration)]
    pub replay_timeout: Duration,
    /// How much is said.
    #[command(flatten)]
    pub talk: TalkArgs,
}

/// When to wait, out of kindness to the servers. Names are those of `migrate`.
#[derive(Clone, Debug, Default, PartialEq, Args)]
#[command(next_help_heading = "Kindness")]
pub struct KindnessArgs {
    /// Give out no range while a replica, standby or subscriber of a node lags more than this many milliseconds, or a
    /// node that is one; 0 does not ask. Needs pg_monitor, or REPLICATION CLIENT (MariaDB: SLAVE MONITOR).
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub max_lag_millis: u64,
    /// Give out no range while a load is at its limit or above on any node: status variables of MySQL, as in
    /// Threads_running=50; active_backends, waiting_backends or backends of PostgreSQL.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "LIMITS", value_parser = loads)]
    pub max_load: Loads,
    /// End when a load is at its limit or above; same format as --max-load.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "LIMITS", value_parser = loads)]
    pub critical_load: Loads,
    /// Give out no range while this file exists; may be given more than once.
    #[arg(long, value_name = "PATH")]
    pub throttle_flag_file: Vec<PathBuf>,
    /// Rest after each range, in durations of that range: 0 is full speed, 1 takes twice as long; up to 100.
    #[arg(long, default_value_t = 0.0, value_name = "RATIO", value_parser = ratio)]
    pub nice_ratio: f64,
    /// How long the hashing of a range should take; ranges grow, up to --block-size, and shrink towards it.
    #[arg(long, default_value = "1s", value_name = "TIME", value_parser = duration)]
    pub block_time: Duration,
}

/// Limits of loads. A type of its own, or clap would take a map for several values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loads(pub LoadLimits);

impl KindnessArgs {
    /// When to wait.
    #[must_use]
    pub fn terms(&self) -> ThrottleTerms {
        let lag = Duration::from_millis(self.max_lag_millis);
        ThrottleTerms {
            max_lag: (!lag.is_zero()).then_some(lag),
            max_load: self.max_load.0.clone(),
            critical_load: self.critical_load.0.clone(),
            flag_files: self.throttle_flag_file.clone(),
        }
    }
}

/// Which nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct NodeArgs {
    /// A node and how it is reached, instead of a cluster's; twice or more.
    #[arg(long = "node", value_name = "NAME=DSN", value_parser = node)]
    pub given: Vec<GivenNode>,
    /// The table's name on a node that has it under another one than the rest; for each such node.
    #[arg(long = "table-on", value_name = "NODE=SCHEMA.TABLE", value_parser = table_on)]
    pub tables: Vec<TableOn>,
    /// Database; the cluster's first where none is given.
    #[arg(short, long, value_name = "NAME")]
    pub dbname: Option<String>,
    /// Nodes of the cluster, with commas between them.
    #[arg(short, long, default_value = "all", value_name = "NAMES")]
    pub nodes: String,
}

/// How much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Args)]
pub struct TalkArgs {
    /// Say only what went wrong.
    #[arg(short, long)]
    pub quiet: bool,
    /// Say everything.
    #[arg(short = 'v', long)]
    pub debug: bool,
    /// When a progress bar is shown.
    #[arg(long, value_enum, default_value_t = Progress::Auto)]
    pub progress: Progress,
}

/// `name=dsn`. The DSN may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub struct GivenNode {
    /// Its name.
    pub name: String,
    /// How it is reached.
    pub dsn: String,
}

impl std::fmt::Debug for GivenNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GivenNode")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A table under the name that one node has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableOn {
    /// The node.
    pub node: String,
    /// The table there.
    pub table: TableName,
}

impl NodeArgs {
    /// The table of a node, if it was named for this node.
    #[must_use]
    pub fn table_on(&self, node: &str) -> Option<&TableName> {
        let given = self.tables.iter().find(|given| given.node == node);
        given.map(|given| &given.table)
    }
}

/// The report's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// ACE's JSON.
    Json,
    /// One difference a line.
    Ndjson,
    /// A table.
    Csv,
    /// A page for a browser, and ACE's JSON.
    Html,
}

/// When values are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Compare {
    /// If their texts are.
    Exact,
    /// 1.0 is 1.00 and -0 is 0, too.
    Semantic,
}

/// At what instants ranges are hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Snapshot {
    /// Each when its turn comes; nothing is held open on the servers.
    None,
    /// All of a node at one instant.
    Node,
    /// As before, after the nodes have replayed each other's changes.
    Fenced,
}

/// When a progress bar is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Progress {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl TableDiffArgs {
    /// The cluster, if one is named, and the table's two parts.
    ///
    /// # Errors
    /// What is wrong with the arguments.
    pub fn subject(&self) -> Result<(Option<&str>, &str, &str), String> {
        let (cluster, table) = match &self.subject[..] {
            [cluster, table] => (Some(cluster.as_str()), table),
            [table] => (None, table),
            _ => return Err("a cluster and a table are expected".into()),
        };
        match (cluster, self.nodes.given.len()) {
            (Some(_), 1..) => return Err("a cluster and --node exclude each other".into()),
            (None, 0) => return Err("name a cluster, or give the nodes with --node NAME=DSN".into()),
            _ => {}
        }
        if self.block_size.get() > LARGEST_BLOCK && !self.override_block_size {
            return Err(format!(
                "--block-size {} is more than {LARGEST_BLOCK}; if that is meant, add --override-block-size",
                self.block_size
            ));
        }
        if (1..=self.kept_connections()).contains(&self.max_connections) {
            return Err(format!(
                "a snapshot takes a connection of its own, limits of load and lag another: --max-connections must be at \
                 least {}",
                self.kept_connections() + 1
            ));
        }
        let (schema, name) = table_parts(table)?;
        Ok((cluster, schema, name))
    }

    /// Ranges compared at a time.
    #[must_use]
    pub fn children(&self, processors: usize) -> NonZeroU32 {
        let wanted = ((processors as f64 * self.concurrency_factor).round() as u32).max(2);
        let wanted = match self.max_connections {
            0 => wanted,
            most => wanted.min(most.saturating_sub(self.kept_connections())),
        };
        NonZeroU32::new(wanted).unwrap_or(NonZeroU32::MIN)
    }

    /// Connections to each node that compare nothing: one keeps a snapshot, one reads load and lag.
    fn kept_connections(&self) -> u32 {
        u32::from(self.snapshot != Snapshot::None) + u32::from(self.kindness.terms().asks_servers())
    }
}

/// `schema.table`. Names are taken as they are; a dot in the schema's name cannot be written.
fn table_parts(table: &str) -> Result<(&str, &str), String> {
    match table.split_once('.') {
        Some((schema, name)) if !schema.is_empty() && !name.is_empty() => Ok((schema, name)),
        _ => Err(format!("{table:?} is not SCHEMA.TABLE")),
    }
}

fn node(text: &str) -> Result<GivenNode, String> {
    match text.split_once('=') {
        Some((name, dsn)) if !name.is_empty() && !name.contains("://") => Ok(GivenNode {
            name: name.into(),
            dsn: dsn.into(),
        }),
        _ => Err("expected NAME=DSN".into()),
    }
}

fn table_on(text: &str) -> Result<TableOn, String> {
    match text.split_once('=') {
        Some((node, table)) if !node.is_empty() => {
            let (schema, table) = table_parts(table)?;
            Ok(TableOn {
                node: node.into(),
                table: TableName::new(schema, table),
            })
        }
        _ => Err("expected NODE=SCHEMA.TABLE".into()),
    }
}

fn loads(text: &str) -> Result<Loads, String> {
    operand::load_limits(text).map(Loads)
}

fn ratio(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(ratio) if (0.0..=100.0).contains(&ratio) => Ok(ratio),
        _ => Err("expected a number from 0 to 100".into()),
    }
}

fn factor(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(factor) if factor > 0.0 && factor <= 4.0 => Ok(factor),
        _ => Err("expected more than 0 and at most 4".into()),
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if share > 0.0 && share < 1.0 => Ok(share),
        _ => Err("expected more than 0 and less than 1".into()),
    }
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let parsed: jiff::SignedDuration = text
        .parse()
        .map_err(|error| format!("{error}; expected 500ms, 30s, 5m"))?;
    match Duration::try_from(parsed) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("expected more than nothing".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command, FromArgMatches as _};
    use rstest::rstest;

    use super::*;

    fn parse(words: &[&str]) -> Result<TableDiffArgs, clap::Error> {
        let words = std::iter::once("table-diff").chain(words.iter().copied());
        let matches = TableDiffArgs::augment_args(Command::new("table-diff")).try_get_matches_from(words)?;
        TableDiffArgs::from_arg_matches(&matches)
    }

    #[test]
    fn ace_command_lines_are_understood() {
        let words = "demo public.orders -d shop -n n1,n2 -b 5000 -c 2 -u 100 -o csv -M 3 -F id>5 --until 2026-01-01T00:00:00Z --against-origin n3 -q";
        let arguments = parse(&words.split(' ').collect::<Vec<_>>()).unwrap();
        assert_eq!(arguments.subject(), Ok((Some("demo"), "public", "orders")));
        assert_eq!(arguments.nodes.nodes, "n1,n2");
        assert_eq!(
            (arguments.block_size.get(), arguments.compare_unit_size.get()),
            (5000, 100)
        );
        assert_eq!(arguments.children(4).get(), 3);
        assert_eq!(arguments.table_filter.as_deref(), Some("id>5"));
        assert!(arguments.talk.quiet);
        let plain = parse(&["demo", "a.b"]).unwrap();
        assert_eq!(plain.children(1).get(), 2, "no node waits while another is asked");
        assert_eq!(parse(&["demo", "a.b", "-M", "1"]).unwrap().children(8).get(), 1);
        let kind =
            "demo a.b -c 4 -M 3 --max-load Threads_running=5,Threads_connected=9 --throttle-flag-file f";
        let kind = parse(&kind.split(' ').collect::<Vec<_>>()).unwrap();
        assert_eq!(kind.children(4).get(), 2, "one connection reads the load");
        assert_eq!(kind.kindness.terms().max_load.len(), 2);
    }

    #[rstest]
    #[case(&["a.b"])]
    #[case(&["demo", "a"])]
    #[case(&["demo", "a.b", "--node", "n=host=x"])]
    #[case(&["demo", "a.b", "-b", "2000000"])]
    #[case(&["demo", "a.b", "-M", "1", "--snapshot", "node"])]
    #[case(&["demo", "a.b", "-M", "1", "--max-lag-millis", "5"])]
    #[case(&["demo", "a.b", "-M", "2", "--max-load", "backends=5", "--snapshot", "node"])]
    fn what_cannot_be_meant_is_refused(#[case] words: &[&str]) {
        assert!(parse(words).unwrap().subject().is_err());
    }

    #[rstest]
    #[case(&["demo", "a.b", "-c", "5"])]
    #[case(&["demo", "a.b", "-b", "0"])]
    #[case(&["demo", "a.b", "--sample", "1"])]
    #[case(&["demo", "a.b", "--schedule"])]
    #[case(&["demo", "a.b", "--every", "5s"])]
    #[case(&["demo", "a.b", "-S", "-e", "5s", "--resume", "j"])]
    #[case(&["demo", "a.b", "--max-load", "backends"])]
    #[case(&["demo", "a.b", "--nice-ratio", "101"])]
    #[case(&["demo", "a.b", "--resume", "j", "--no-journal"])]
    #[case(&["demo", "a.b", "--node", "postgres://x?y=z"])]
    #[case(&["demo", "a.b", "--until", "yesterday"])]
    #[case(&["demo", "a.b", "--statement-timeout", "0s"])]
    #[case(&[])]
    fn what_cannot_be_read_is_refused(#[case] words: &[&str]) {
        assert!(parse(words).is_err());
    }

    #[test]
    fn a_node_may_have_the_table_under_another_name() {
        let words = "a.b --node x=host=h --node y=host=h --table-on y=c.d.e";
        let arguments = parse(&words.split(' ').collect::<Vec<_>>()).unwrap();
        assert_eq!(arguments.nodes.table_on("x"), None);
        assert_eq!(arguments.nodes.table_on("y"), Some(&TableName::new("c", "d.e")));
        for wrong in ["y", "y=t", "=a.b"] {
            assert!(parse(&["a.b", "--table-on", wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let arguments = parse(&["a.b", "--node", "n=postgres://u:secret@h/d"]).unwrap();
        assert!(!format!("{arguments:?}").contains("secret"));
    }
}
