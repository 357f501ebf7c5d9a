//! `changeling table-diff`.

mod journal;
mod nodes;
mod output;
mod progress;
mod schedule;

use std::num::NonZeroU64;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use changeling_core::actor::{ActorHost, HostOptions};
use changeling_core::ident::TableName;
use changeling_differ::engine::{Care, DiffJob, DiffSettings, DiffSubject, Recheck};
use changeling_differ::journal::{JobIdentity, Journal};
use changeling_differ::model::{Comparison, JobSummary, NodeName, TableShape};
use changeling_differ::mysql::side::{MySqlCluster, MySqlTerms};
use changeling_differ::postgres::{ColumnChoice, PgCluster, PgTerms, SnapshotMode};
use changeling_differ::side::Side;
use changeling_differ::throttle::Throttle;
use tokio_util::sync::CancellationToken;

use crate::args::diff::{Compare, Progress, Snapshot, TableDiffArgs};
use crate::render::screen::{ProgressMode, Screen};
use crate::signal::Signals;

pub use nodes::{Nodes, nodes_of_any_kind};

/// Exit status for a mistake in the arguments.
pub const USAGE: u8 = 3;
/// Exit status if nothing could be established.
pub const FAILED: u8 = 2;

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    /// A mistake in the arguments.
    #[error("{0}")]
    Usage(String),
    /// Anything else.
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

impl DiffError {
    /// The program's exit status.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE,
            Self::Failed(_) => FAILED,
        }
    }
}

/// Compares, writes the report, says what came out.
///
/// # Errors
/// There is no verdict.
pub async fn run(arguments: &TableDiffArgs, screen: &Screen) -> Result<ExitCode, DiffError> {
    let status = match arguments.every {
        Some(every) => schedule::repeat(every, arguments, screen).await?,
        None => once(arguments, screen).await?.status,
    };
    Ok(ExitCode::from(status))
}

/// How a run ended.
struct Ended {
    /// The program's exit status.
    status: u8,
    /// Whether it was told to.
    cancelled: bool,
}

async fn once(arguments: &TableDiffArgs, screen: &Screen) -> Result<Ended, DiffError> {
    let (cluster, schema, table) = arguments.subject().map_err(DiffError::Usage)?;
    let table = TableName::new(schema, table);
    let table_of = |node: &NodeName| arguments.nodes.table_on(node.as_str()).unwrap_or(&table).clone();
    let nodes = nodes_of_any_kind(&arguments.nodes, cluster, &table_of, arguments.statement_timeout)?;
    let prepared = prepare(arguments, nodes).await?;
    if arguments.explain {
        screen.print(&output::explanation(&prepared, arguments).await?);
        return Ok(Ended {
            status: 0,
            cancelled: false,
        });
    }
    if arguments.ensure_pgcrypto {
        screen.complain("note: --ensure-pgcrypto: no extension is needed, and none was created\n");
    }
    for note in prepared.notes.iter().filter(|_| !arguments.talk.quiet) {
        screen.complain(&format!("note: {note}\n"));
    }
    let summary = compare(arguments, prepared, &table, screen).await?;
    Ok(Ended {
        status: summary.verdict.exit_code(),
        cancelled: summary.cancelled,
    })
}

async fn compare(
    arguments: &TableDiffArgs,
    prepared: Prepared,
    table: &TableName,
    screen: &Screen,
) -> anyhow::Result<JobSummary> {
    let stop = CancellationToken::new();
    let signals = Signals::listen().context("cannot listen for signals")?;
    let mut watching = tokio::spawn(signals.watch(stop.clone()));
    let host = ActorHost::start(HostOptions {
        runtime: Some(tokio::runtime::Handle::current()),
        ..HostOptions::default()
    })
    .context("cannot start the actors' thread")?;
    let estimate = prepared
        .sides
        .iter()
        .map(|side| side.estimate())
        .fold(0.0, f64::max);
    let told = prepared.notes.len();
    let terms = arguments.kindness.terms();
    let throttle = match terms.is_off() {
        true => None,
        false => Some(
            Throttle::start(&prepared.sides, &terms)
                .await
                .context("load or lag cannot be read")?,
        ),
    };
    let (subject, settings) = (subject(prepared, arguments), settings(arguments));
    let opened = journal::open(arguments, table, &JobIdentity::of(&subject, &settings))?;
    if let Some(finished) = opened.journal.as_ref().map(Journal::finished_ranges)
        && arguments.resume.is_some()
    {
        screen.complain(&format!("note: resumed; {finished} ranges are done already\n"));
    }
    let kept = opened.journal.as_ref().map(|journal| journal.path().to_owned());
    let report = opened.report;
    let care = Care {
        journal: opened.journal,
        throttle,
    };
    let job = DiffJob::start_with(&host, subject, settings, report.sink(), care, stop);
    screen.show_bar(mode(arguments));
    let shown = tokio::spawn(progress::show(job.state(), estimate, screen.clone()));
    let summary = tokio::select! {
        summary = job.finished() => summary,
        // The second signal: at once.
        status = &mut watching => {
            screen.hide_bar();
            std::process::exit(status.map_or(i32::from(FAILED), i32::from));
        }
    };
    shown.abort();
    watching.abort();
    screen.hide_bar();
    let summary = match (summary, &kept) {
        (Err(error), Some(kept)) => {
            return Err(anyhow::Error::new(error).context(journal::how_to_go_on(kept)));
        }
        (summary, _) => summary?,
    };
    let written = tokio::task::spawn_blocking({
        let summary = summary.clone();
        move || report.write(&summary)
    });
    let files = written.await.context("the report was not written")??;
    // Not before: until here the journal is the only thing that a crash leaves whole.
    let left = kept.filter(|kept| !journal::conclude(kept, &summary, arguments.fail_fast, screen));
    if !arguments.talk.quiet || summary.verdict.exit_code() != 0 {
        let notes = summary.notes.get(told..).unwrap_or_default();
        screen.print(&output::outcome(&summary, table, &files, notes));
        if let Some(left) = &left {
            screen.print(&format!("  {}\n", journal::how_to_go_on(left)));
        }
    }
    Ok(summary)
}

/// Nodes that agreed, of whatever kind.
struct Prepared {
    shape: TableShape,
    sides: Vec<Arc<dyn Side>>,
    notes: Vec<String>,
}

async fn prepare(arguments: &TableDiffArgs, nodes: Nodes) -> Result<Prepared, DiffError> {
    const WHAT: &str = "the comparison cannot be made";
    match nodes {
        Nodes::Postgres(nodes) => {
            let cluster = PgCluster::prepare(&nodes, terms(arguments)).await.context(WHAT)?;
            Ok(Prepared {
                shape: cluster.shape,
                sides: cluster.sides,
                notes: cluster.notes,
            })
        }
        Nodes::MySql(nodes) => {
            let cluster = MySqlCluster::prepare(&nodes, mysql_terms(arguments)?)
                .await
                .context(WHAT)?;
            Ok(Prepared {
                shape: cluster.shape,
                sides: cluster.sides,
                notes: cluster.notes,
            })
        }
    }
}

/// MySQL and MariaDB keep no commit times and give no snapshots to share.
fn mysql_terms(arguments: &TableDiffArgs) -> Result<MySqlTerms, DiffError> {
    let PgTerms {
        columns,
        comparison,
        filter,
        needs_commit_times,
        ..
    } = terms(arguments);
    if needs_commit_times || arguments.snapshot != Snapshot::None {
        return Err(DiffError::Usage(
            "--until, --against-origin and --snapshot need PostgreSQL".into(),
        ));
    }
    Ok(MySqlTerms {
        columns,
        comparison,
        filter,
    })
}

fn terms(arguments: &TableDiffArgs) -> PgTerms {
    PgTerms {
        columns: if !arguments.columns.is_empty() {
            ColumnChoice::Only(arguments.columns.clone())
        } else if !arguments.ignore_columns.is_empty() {
            ColumnChoice::Except(arguments.ignore_columns.clone())
        } else {
            ColumnChoice::All
        },
        comparison: comparison(arguments),
        filter: arguments.table_filter.clone(),
        needs_commit_times: arguments.until.is_some() || arguments.against_origin.is_some(),
        // An explanation holds no snapshot and waits for nobody.
        snapshot: match arguments.snapshot {
            _ if arguments.explain => SnapshotMode::None,
            Snapshot::None => SnapshotMode::None,
            Snapshot::Node => SnapshotMode::Node,
            Snapshot::Fenced => SnapshotMode::Fenced,
        },
        replay_timeout: arguments.replay_timeout,
    }
}

fn comparison(arguments: &TableDiffArgs) -> Comparison {
    match arguments.compare {
        Compare::Exact => Comparison::Exact,
        Compare::Semantic => Comparison::Semantic,
    }
}

fn subject(prepared: Prepared, arguments: &TableDiffArgs) -> DiffSubject {
    DiffSubject {
        sides: prepared.sides,
        shape: prepared.shape,
        comparison: comparison(arguments),
        table_filter: arguments.table_filter.clone(),
        concurrency_factor: arguments.concurrency_factor,
        notes: prepared.notes,
    }
}

fn settings(arguments: &TableDiffArgs) -> DiffSettings {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    DiffSettings {
        children: arguments.children(processors),
        block_size: arguments.block_size,
        compare_unit_size: arguments.compare_unit_size,
        block_time: arguments.kindness.block_time,
        nice_ratio: arguments.kindness.nice_ratio,
        stop_after: if arguments.fail_fast {
            Some(NonZeroU64::MIN)
        } else {
            NonZeroU64::new(arguments.max_diff_rows)
        },
        recheck: Recheck {
            rounds: arguments.recheck_rounds,
            replay_timeout: arguments.replay_timeout,
            ..Recheck::default()
        },
        sample: arguments.sample,
        until: arguments.until,
        against_origin: arguments.against_origin.clone(),
        ..DiffSettings::default()
    }
}

fn mode(arguments: &TableDiffArgs) -> ProgressMode {
    match arguments.talk.progress {
        _ if arguments.talk.quiet => ProgressMode::Never,
        Progress::Auto => ProgressMode::Auto,
        Progress::Always => ProgressMode::Always,
        Progress::Never => ProgressMode::Never,
    }
}
