//! Schemas of one server as nodes, and what a repair of them did.

use std::collections::HashMap;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, mpsc};
use std::time::Duration;

use changeling_core::ident::TableName;
use changeling_differ::engine::{DiffJob, DiffSettings, DiffSubject};
use changeling_differ::model::{Comparison, JobSummary, NodeName, Verdict};
use changeling_differ::mysql::side::{MySqlCluster, MySqlNode, MySqlServer, MySqlTerms};
use changeling_differ::repair::{Policy, RepairError, RepairNodes, RepairOptions};
use changeling_differ::report::ndjson::NdjsonSink;
use changeling_differ::report::recorded::RecordedReport;
use changeling_differ::report::{ace, sort::SortedReport};
use changeling_support::{Flavor, ServerSpec, SupportError};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts};
use tokio_util::sync::CancellationToken;

use crate::round::{Format, Repaired, mended, options};
use crate::world::host;

/// One server of a kind for the whole binary: each test has schemas of its own. It lives on a thread of its own, because a
/// test's runtime ends with the test.
fn address(flavor: Flavor) -> Result<Opts, String> {
    static ADDRESSES: OnceLock<Mutex<HashMap<Flavor, Result<Opts, String>>>> = OnceLock::new();
    let mut known = ADDRESSES.get_or_init(Mutex::default).lock().unwrap();
    let start = || {
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let spec = match flavor {
                    Flavor::MariaDb => ServerSpec::mariadb(),
                    _ => ServerSpec::mysql(),
                };
                match spec.start().await {
                    Ok(server) => {
                        tell.send(Ok(server.mysql_opts().into())).unwrap();
                        std::future::pending::<()>().await;
                    }
                    Err(SupportError::Unavailable(why)) => tell.send(Err(why.to_string())).unwrap(),
                    Err(error) => panic!("{error}"),
                }
            });
        });
        told.recv().expect("the server's thread")
    };
    known.entry(flavor).or_insert_with(start).clone()
}

/// Nodes `n1`, `n2`, … each with a table `t` in a schema of its own.
pub(crate) struct Stage {
    pub(crate) flavor: Flavor,
    pub(crate) opts: Opts,
    pub(crate) schemas: Vec<String>,
    pub(crate) connections: Vec<Conn>,
    /// Other nodes than the schemas.
    pub(crate) others: Option<Vec<MySqlNode>>,
    directory: tempfile::TempDir,
}

/// The nodes, or `return` from the test after a counted skip.
macro_rules! stage_or_skip {
    ($flavor:expr, $nodes:expr) => {{
        fn here() {}
        let test = ::std::any::type_name_of_val(&here).trim_end_matches("::here");
        match $crate::mysql::stage::Stage::new($flavor, $nodes).await {
            Ok(stage) => stage,
            Err(why) => {
                changeling_support::skip::count(test.trim_end_matches("::{{closure}}"), &why);
                return;
            }
        }
    }};
}
pub(crate) use stage_or_skip;

impl Stage {
    pub(crate) async fn new(flavor: Flavor, nodes: usize) -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let opts = tokio::task::spawn_blocking(move || address(flavor))
            .await
            .unwrap()?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let (mut schemas, mut connections) = (Vec::new(), Vec::new());
        for node in 1..=nodes {
            let schema = format!("r{}_{number}_n{node}", std::process::id());
            let mut connection = Conn::new(opts.clone()).await.unwrap();
            let rows = match flavor {
                Flavor::MariaDb => "max_recursive_iterations",
                _ => "cte_max_recursion_depth",
            };
            connection
                .query_drop(format!(
                    "CREATE DATABASE {schema} CHARACTER SET utf8mb4; USE {schema}; SET NAMES utf8mb4; \
                     SET SESSION sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+00:00', {rows} = 1000000"
                ))
                .await
                .unwrap();
            schemas.push(schema);
            connections.push(connection);
        }
        Ok(Self {
            flavor,
            opts,
            schemas,
            connections,
            others: None,
            directory: tempfile::tempdir().unwrap(),
        })
    }

    pub(crate) async fn all(&mut self, sql: &str) {
        for node in 1..=self.connections.len() {
            self.on(node, sql).await;
        }
    }

    /// Runs it on one node, counted from 1 as the names are.
    pub(crate) async fn on(&mut self, node: usize, sql: &str) {
        let done = self.connections[node - 1].query_drop(sql).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// A column of a query on one node.
    pub(crate) async fn texts(&mut self, node: usize, sql: &str) -> Vec<String> {
        let rows: Result<Vec<Option<String>>, _> = self.connections[node - 1].query(sql).await;
        let rows = rows.unwrap_or_else(|error| panic!("{sql}: {error}"));
        rows.into_iter()
            .map(|text| text.unwrap_or_else(|| "NULL".into()))
            .collect()
    }

    /// The table's rows: `one` and `other` on the nodes, of columns that a select over the numbers 1 to `rows` gives.
    pub(crate) fn numbers(from: u64, to: u64, select: &str) -> String {
        format!(
            "INSERT INTO t WITH RECURSIVE n AS (SELECT {from} AS i UNION ALL SELECT i + 1 FROM n WHERE i < {to}) \
             SELECT {select} FROM n"
        )
    }

    fn nodes(&self) -> Vec<MySqlNode> {
        self.others.clone().unwrap_or_else(|| self.nodes_as(&self.opts))
    }

    /// The nodes, reached otherwise.
    pub(crate) fn nodes_as(&self, opts: &Opts) -> Vec<MySqlNode> {
        let node = |(index, schema): (usize, &String)| MySqlNode {
            server: MySqlServer::new(
                NodeName::new(format!("n{}", index + 1)),
                opts.clone(),
                Duration::from_secs(60),
            ),
            table: TableName::new(schema.as_str(), "t"),
        };
        self.schemas.iter().enumerate().map(node).collect()
    }

    pub(crate) async fn subject(&self) -> DiffSubject {
        let cluster = MySqlCluster::prepare(&self.nodes(), MySqlTerms::default())
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        DiffSubject {
            sides: cluster.sides,
            shape: cluster.shape,
            comparison: Comparison::Exact,
            table_filter: None,
            concurrency_factor: 0.5,
            notes: cluster.notes,
        }
    }

    async fn job(&self, path: &Path) -> JobSummary {
        let settings = DiffSettings {
            children: NonZeroU32::new(2).unwrap(),
            block_size: NonZeroU64::new(5000).unwrap(),
            compare_unit_size: NonZeroU64::new(500).unwrap(),
            ..DiffSettings::default()
        };
        let host = host();
        let job = DiffJob::start(
            &host,
            self.subject().await,
            settings,
            Box::new(NdjsonSink::new(path)),
            CancellationToken::new(),
        );
        job.finished().await.unwrap()
    }

    /// Compares and writes the report; the verdict and the file.
    pub(crate) async fn diff(&self, format: Format) -> (Verdict, PathBuf) {
        let path = self.directory.path().join("report.ndjson");
        let summary = self.job(&path).await;
        if format == Format::Ndjson {
            return (summary.verdict, path);
        }
        let json = self.directory.path().join("report.json");
        let mut file = std::fs::File::create(&json).unwrap();
        ace::write(&mut SortedReport::of(&path).unwrap(), &mut file).unwrap();
        (summary.verdict, json)
    }

    /// Compares only: the report of the last [`Stage::diff`] stays what it was.
    pub(crate) async fn left(&self) -> (Verdict, u64) {
        let summary = self.job(&self.directory.path().join("other.ndjson")).await;
        (summary.verdict, summary.confirmed)
    }

    /// The keys of a report in its order, which is that of the repair.
    pub(crate) fn keys(report: &Path) -> Vec<String> {
        let mut report = RecordedReport::open(report).unwrap();
        std::iter::from_fn(|| report.next_difference().unwrap())
            .map(|difference| difference.key.0.join(","))
            .collect()
    }

    pub(crate) async fn repair(&self, report: &Path, policy: Policy) -> Repaired {
        self.repair_with(report, options(policy))
            .await
            .unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) async fn repair_with(
        &self,
        report: &Path,
        options: RepairOptions,
    ) -> Result<Repaired, RepairError> {
        mended(report, RepairNodes::MySql(self.nodes()), options).await
    }
}
