//! Diff, report, repair, diff.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use changeling_differ::engine::DiffJob;
use changeling_differ::model::Verdict;
use changeling_differ::repair::{
    Apply, BinaryLog, Entry, Event, OriginKeeping, Policy, Repair, RepairError, RepairLog, RepairNodes,
    RepairOptions, RepairOutcome, RepairReport, Script, Triggers,
};
use changeling_differ::report::ndjson::NdjsonSink;
use changeling_differ::report::recorded::RecordedReport;
use changeling_differ::report::{ace, sort::SortedReport};
use tokio_util::sync::CancellationToken;

use crate::world::{World, host, subject};

/// Which file a repair reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Ndjson,
    Ace,
}

/// A world with a directory for reports.
pub(crate) struct Round {
    pub(crate) world: World,
    pub(crate) directory: tempfile::TempDir,
}

/// What a repair did and said.
pub(crate) struct Repaired {
    pub(crate) outcome: RepairOutcome,
    /// `n2 written (7) by keep_n1`, `n2 skipped (7): …`
    pub(crate) told: Vec<String>,
    /// The repair as SQL, by node.
    pub(crate) scripts: Vec<String>,
    /// The report of the repair.
    pub(crate) report: serde_json::Value,
}

impl Repaired {
    /// `inserted/updated/deleted/skipped/failed` of a node, counted from 1.
    pub(crate) fn counts(&self, node: usize) -> String {
        let node = &self.outcome.nodes[node - 1];
        format!(
            "{}/{}/{}/{}/{}",
            node.inserted, node.updated, node.deleted, node.skipped, node.failed
        )
    }
}

impl Round {
    pub(crate) fn new(world: World) -> Self {
        Self {
            world,
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// Compares and writes the report; the verdict and the file.
    pub(crate) async fn diff(&self, format: Format) -> (Verdict, PathBuf) {
        let cluster = self
            .world
            .prepare()
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        let path = self.directory.path().join("report.ndjson");
        let host = host();
        let job = DiffJob::start(
            &host,
            subject(cluster, &self.world.terms),
            self.world.settings.clone(),
            Box::new(NdjsonSink::new(&path)),
            CancellationToken::new(),
        );
        let summary = job.finished().await.unwrap();
        if format == Format::Ndjson {
            return (summary.verdict, path);
        }
        let json = self.directory.path().join("report.json");
        let mut file = std::fs::File::create(&json).unwrap();
        ace::write(&mut SortedReport::of(&path).unwrap(), &mut file).unwrap();
        file.flush().unwrap();
        (summary.verdict, json)
    }

    /// Compares only: the report of the last [`Round::diff`] stays what it was.
    pub(crate) async fn verdict(&self) -> Verdict {
        self.world.diff().await.summary.verdict
    }

    pub(crate) async fn repair(&self, report: &std::path::Path, policy: Policy) -> Repaired {
        self.repair_with(report, options(policy))
            .await
            .unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) async fn repair_with(
        &self,
        report: &std::path::Path,
        options: RepairOptions,
    ) -> Result<Repaired, RepairError> {
        let nodes = RepairNodes::Postgres(self.world.nodes());
        mended(report, nodes, options).await
    }

    /// A column of a query on one node, counted from 1.
    pub(crate) async fn texts(&self, node: usize, sql: &str) -> Vec<String> {
        let rows = self.world.clients[node - 1].query(sql, &[]).await;
        let rows = rows.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        rows.iter().map(|row| row.get::<_, String>(0)).collect()
    }
}

/// Repairs, and keeps what was said.
pub(crate) async fn mended(
    report: &std::path::Path,
    nodes: RepairNodes,
    options: RepairOptions,
) -> Result<Repaired, RepairError> {
    let repair = Repair::connect(RecordedReport::open(report)?, nodes, options).await?;
    let nodes = repair.nodes().len();
    let told = Told::default();
    let outputs: Vec<Output> = (0..nodes).map(|_| Output::default()).collect();
    let mut script = repair.script(
        outputs
            .iter()
            .cloned()
            .map(|output| Box::new(output) as _)
            .collect(),
    );
    let mut report = RepairReport::new(nodes).unwrap();
    let outcome = {
        let mut logs = Logs(told.clone(), &mut script, &mut report);
        repair.run(&mut logs, &CancellationToken::new()).await?
    };
    script.finish().unwrap();
    let mut written = Vec::new();
    let head = serde_json::json!({"operation_type": "table-repair"});
    report
        .write(head.as_object().unwrap(), &outcome, &mut written)
        .unwrap();
    Ok(Repaired {
        outcome,
        told: told.0.lock().unwrap().clone(),
        scripts: outputs
            .iter()
            .map(|output| String::from_utf8(output.0.lock().unwrap().clone()).unwrap())
            .collect(),
        report: serde_json::from_slice(&written).unwrap(),
    })
}

pub(crate) fn options(policy: Policy) -> RepairOptions {
    RepairOptions {
        policy,
        apply: Apply::Commit,
        triggers: Triggers::Quiet,
        origin: OriginKeeping::Local,
        binary_log: BinaryLog::Written,
    }
}

#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Logs<'a>(Told, &'a mut Script, &'a mut RepairReport);

impl RepairLog for Logs<'_> {
    fn take(&mut self, entry: &Entry<'_>) -> std::io::Result<()> {
        let (name, key) = (entry.name, entry.key);
        let line = match &entry.event {
            Event::Written { by, .. } => format!("{name} written {key} by {by}"),
            Event::Skipped { reason } => format!("{name} skipped {key}: {reason}"),
            Event::Failed { reason } => format!("{name} failed {key}: {reason}"),
        };
        self.0.0.lock().unwrap().push(line);
        self.1.take(entry)?;
        self.2.take(entry)
    }
}
