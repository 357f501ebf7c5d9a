//! `changeling table-repair`.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use changeling_differ::model::NodeName;
use changeling_differ::repair::plan::Plan;
use changeling_differ::repair::{
    Apply, BinaryLog, CopyMode, Entry, Event, OriginKeeping, Policy, Repair, RepairLog, RepairNodes,
    RepairOptions, RepairOutcome, RepairReport, Script, Triggers,
};
use changeling_differ::report::recorded::RecordedReport;
use jiff::Zoned;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::args::mend::TableRepairArgs;
use crate::diff::{DiffError, FAILED, Nodes};
use crate::render::progress::count;
use crate::render::screen::Screen;
use crate::signal::Signals;

use super::{Subject, status};

/// Rows left alone that are named on the screen; the report of the repair has all.
const SHOWN: usize = 20;

/// Repairs, writes what was asked for, says what came out.
///
/// # Errors
/// The repair could not be made, or not to its end.
pub async fn run(arguments: &TableRepairArgs, screen: &Screen) -> Result<ExitCode, DiffError> {
    let began = (Zoned::now(), Instant::now());
    let subject = Subject::open(&arguments.report, &arguments.nodes)?;
    let nodes = match subject.nodes {
        Nodes::Postgres(_) if arguments.no_binlog => {
            return Err(DiffError::Usage(
                "--no-binlog: PostgreSQL has no binary log".into(),
            ));
        }
        Nodes::Postgres(nodes) => RepairNodes::Postgres(nodes),
        Nodes::MySql(nodes) => {
            check_for_mysql(arguments)?;
            RepairNodes::MySql(nodes)
        }
    };
    let policy = policy(arguments, &subject.report)?;
    let stop = CancellationToken::new();
    let signals = Signals::listen().context("cannot listen for signals")?;
    let watching = tokio::spawn(signals.watch(stop.clone()));
    let working = work(arguments, subject.report, nodes, policy, &stop);
    let done = tokio::select! {
        done = working => done?,
        // The second signal: at once. The servers roll back what is not committed.
        ended = watching => std::process::exit(ended.map_or(i32::from(FAILED), i32::from)),
    };
    let report = match done.report {
        Some(report) => Some(write_report(
            report,
            arguments,
            &done.head,
            &done.outcome,
            &began,
        )?),
        None => None,
    };
    if !arguments.talk.quiet || !done.outcome.is_complete() {
        screen.print(&told(&done.outcome, &done.left, report.as_deref(), &done.notes));
    }
    Ok(status(done.outcome.exit_code()))
}

/// Refuses what MySQL and MariaDB have nothing of.
fn check_for_mysql(arguments: &TableRepairArgs) -> Result<(), DiffError> {
    let wanted = [
        (
            arguments.preserve_origin,
            "--preserve-origin: MySQL and MariaDB keep no commit times and origins of rows",
        ),
        (
            arguments.recovery_mode,
            "--recovery-mode: MySQL and MariaDB do not tell which node has received most of what another one sent; \
             name the node that is right with --source-of-truth",
        ),
    ];
    match wanted.into_iter().find(|(given, _)| *given) {
        Some((_, why)) => Err(DiffError::Usage(why.into())),
        None => Ok(()),
    }
}

/// Who decides; `None` if that is known only when the nodes were asked.
fn policy(arguments: &TableRepairArgs, report: &RecordedReport) -> Result<Option<Policy>, DiffError> {
    if report.against_origin.is_some() && !arguments.recovery_mode {
        return Err(DiffError::Usage(
            "the report is about the rows of one origin only; repair from it with --recovery-mode".into(),
        ));
    }
    if report.against_origin.is_none() && arguments.recovery_mode {
        return Err(DiffError::Usage(
            "--recovery-mode needs a report of table-diff --against-origin".into(),
        ));
    }
    if let Some(path) = &arguments.repair_plan {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let plan =
            Plan::read(&text).map_err(|error| DiffError::Usage(format!("{}: {error}", path.display())))?;
        return Ok(Some(Policy::Plan(plan)));
    }
    if arguments.bidirectional {
        return Ok(Some(Policy::Bidirectional));
    }
    if arguments.fix_nulls {
        return Ok(Some(Policy::FixNulls));
    }
    let mode = mode(arguments);
    match &arguments.source_of_truth {
        Some(name) => {
            let source = report.nodes.iter().position(|node| node.as_str() == name);
            let source = source.ok_or_else(|| {
                let known: Vec<_> = report.nodes.iter().map(NodeName::as_str).collect();
                DiffError::Usage(format!(
                    "the report has no node {name}; it has {}",
                    known.join(", ")
                ))
            })?;
            Ok(Some(Policy::SourceOfTruth { source, mode }))
        }
        None if arguments.recovery_mode => Ok(None),
        None => Err(DiffError::Usage(
            "who is right? --source-of-truth NODE, --repair-plan FILE, --bidirectional or --fix-nulls".into(),
        )),
    }
}

fn mode(arguments: &TableRepairArgs) -> CopyMode {
    match (arguments.insert_only, arguments.upsert_only) {
        (true, _) => CopyMode::InsertOnly,
        (false, true) => CopyMode::UpsertOnly,
        (false, false) => CopyMode::Full,
    }
}

/// What a repair left behind.
struct Done {
    outcome: RepairOutcome,
    report: Option<RepairReport>,
    left: Left,
    notes: Vec<String>,
    /// Mode and addresses, for the report.
    head: (String, serde_json::Value),
}

async fn work(
    arguments: &TableRepairArgs,
    report: RecordedReport,
    nodes: RepairNodes,
    policy: Option<Policy>,
    stop: &CancellationToken,
) -> anyhow::Result<Done> {
    let options = RepairOptions {
        policy: policy.clone().unwrap_or(Policy::Bidirectional),
        apply: if arguments.dry_run {
            Apply::DryRun
        } else {
            Apply::Commit
        },
        triggers: if arguments.fire_triggers {
            Triggers::Fire
        } else {
            Triggers::Quiet
        },
        origin: if arguments.preserve_origin {
            OriginKeeping::Preserve
        } else {
            OriginKeeping::Local
        },
        binary_log: if arguments.no_binlog {
            BinaryLog::Spared
        } else {
            BinaryLog::Written
        },
    };
    let origin = report.against_origin.clone();
    let logins = report.nodes.iter().map(|node| json!(node)).collect();
    let mut repair = Repair::connect(report, nodes, options)
        .await
        .context("the repair cannot be made")?;
    let mut notes = repair.notes.clone();
    let policy = match (policy, origin) {
        (Some(policy), _) => policy,
        (None, origin) => {
            let origin = origin.unwrap_or_default();
            let source = repair.furthest(&origin).await?;
            notes.push(format!(
                "{} has replayed most of what {origin} sent",
                repair.nodes()[source]
            ));
            Policy::SourceOfTruth {
                source,
                mode: mode(arguments),
            }
        }
    };
    let word = policy.word().to_owned();
    let repair = repair.with_policy(policy);
    let mut logs = Logs {
        left: Left::default(),
        report: match arguments.generate_report {
            true => Some(
                RepairReport::new(repair.nodes().len()).context("no room for the report of the repair")?,
            ),
            false => None,
        },
        script: match &arguments.emit_sql {
            Some(directory) => Some(script(directory, &repair)?),
            None => None,
        },
    };
    let outcome = repair.run(&mut logs, stop).await.context("the repair failed")?;
    if let Some(script) = &mut logs.script {
        script.finish().context("the SQL could not be written")?;
    }
    Ok(Done {
        outcome,
        report: logs.report,
        left: logs.left,
        notes,
        head: (word, logins),
    })
}

fn script(directory: &Path, repair: &Repair) -> anyhow::Result<Script> {
    std::fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let plain = |name: &str| name.replace(|c: char| !c.is_alphanumeric() && !"_-$".contains(c), "_");
    let table = &repair.shape().name;
    let mut outputs: Vec<Box<dyn Write + Send>> = Vec::new();
    for node in repair.nodes() {
        let name = format!(
            "{}_{}_repair_{}.sql",
            plain(&table.schema),
            plain(&table.table),
            plain(node.as_str())
        );
        let path = directory.join(name);
        let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        outputs.push(Box::new(BufWriter::new(file)));
    }
    Ok(repair.script(outputs))
}

/// The first rows that were left alone.
#[derive(Default)]
struct Left {
    shown: Vec<String>,
    more: u64,
}

impl Left {
    fn add(&mut self, line: String) {
        if self.shown.len() < SHOWN {
            self.shown.push(line);
        } else {
            self.more += 1;
        }
    }
}

struct Logs {
    left: Left,
    report: Option<RepairReport>,
    script: Option<Script>,
}

impl RepairLog for Logs {
    fn take(&mut self, entry: &Entry<'_>) -> std::io::Result<()> {
        let (name, key) = (entry.name, entry.key);
        match &entry.event {
            Event::Written { .. } => {}
            Event::Skipped { reason } => self.left.add(format!("{name} {key}: left alone: {reason}")),
            Event::Failed { reason } => self.left.add(format!("{name} {key}: refused: {reason}")),
        }
        if let Some(report) = &mut self.report {
            report.take(entry)?;
        }
        if let Some(script) = &mut self.script {
            script.take(entry)?;
        }
        Ok(())
    }
}

fn write_report(
    report: RepairReport,
    arguments: &TableRepairArgs,
    (mode, logins): &(String, serde_json::Value),
    outcome: &RepairOutcome,
    (time, began): &(Zoned, Instant),
) -> anyhow::Result<PathBuf> {
    let directory = PathBuf::from("reports").join(time.strftime("%Y-%m-%d").to_string());
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let kind = if arguments.dry_run {
        "dry_run_report"
    } else {
        "repair_report"
    };
    let path = directory.join(format!("{kind}_{}.json", time.strftime("%H%M%S.%3f")));
    let head = json!({
        "operation_type": "table-repair",
        "mode": mode,
        "time_stamp": time.timestamp().to_string(),
        "supplied_args": {
            "diff_file": arguments.report.diff_file,
            "subject": arguments.report.subject,
            "source_of_truth": arguments.source_of_truth,
            "repair_plan": arguments.repair_plan,
            "dry_run": arguments.dry_run,
            "insert_only": arguments.insert_only,
            "upsert_only": arguments.upsert_only,
            "fire_triggers": arguments.fire_triggers,
            "bidirectional": arguments.bidirectional,
            "recovery_mode": arguments.recovery_mode,
            "preserve_origin": arguments.preserve_origin,
            "no_binlog": arguments.no_binlog,
            "fix_nulls": arguments.fix_nulls,
        },
        "database_credentials_used": logins,
        "run_time": format!("{:.3}s", began.elapsed().as_secs_f64()),
    });
    let write = || -> anyhow::Result<()> {
        let mut file = BufWriter::new(File::create(&path)?);
        report.write(
            head.as_object().context("the head is an object")?,
            outcome,
            &mut file,
        )?;
        Ok(file.flush()?)
    };
    write().with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn told(outcome: &RepairOutcome, left: &Left, report: Option<&Path>, notes: &[String]) -> String {
    let mut text = match (outcome.dry_run, outcome.is_complete()) {
        (true, _) => "DRY RUN: everything below was rolled back\n".to_owned(),
        (false, true) if outcome.as_asked > 0 => "REPAIRED as far as was asked for\n".to_owned(),
        (false, true) => "REPAIRED\n".to_owned(),
        (false, false) => "NOT COMPLETE: some rows were left as they are\n".to_owned(),
    };
    for node in &outcome.nodes {
        text.push_str(&format!(
            "  {}: {} inserted, {} updated, {} deleted, {} left alone, {} refused\n",
            node.node,
            count(node.inserted),
            count(node.updated),
            count(node.deleted),
            count(node.skipped),
            count(node.failed)
        ));
    }
    text.push_str(&format!(
        "  {} keys in the report, {} of them equal by now\n",
        count(outcome.keys),
        count(outcome.settled)
    ));
    if outcome.as_asked > 0 {
        text.push_str(&format!(
            "  {} keys differ still and are left as this mode, or the plan, leaves them\n",
            count(outcome.as_asked)
        ));
    }
    if !outcome.dry_run {
        text.push_str(&format!(
            "  {} keys read again, {} of them not as they should be\n",
            count(outcome.rechecked),
            count(outcome.remaining)
        ));
    }
    if outcome.in_flight > 0 {
        text.push_str(&format!(
            "  {} keys were in flight and not touched\n",
            count(outcome.in_flight)
        ));
    }
    if let Some(shortfall) = &outcome.shortfall {
        text.push_str(&format!("  there may be more: {shortfall}\n"));
    }
    for line in &left.shown {
        text.push_str(&format!("  {line}\n"));
    }
    if left.more > 0 {
        text.push_str(&format!(
            "  and {} more; --generate-report names all\n",
            count(left.more)
        ));
    }
    for note in notes {
        text.push_str(&format!("  note: {note}\n"));
    }
    if let Some(report) = report {
        text.push_str(&format!("  report: {}\n", report.display()));
    }
    text
}
