//! `changeling table-rerun`.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use changeling_core::ident::TableName;
use changeling_differ::engine::{DiffSettings, DiffSubject};
use changeling_differ::model::{Comparison, JobSummary, Verdict};
use changeling_differ::mysql::side::{MySqlCluster, MySqlTerms};
use changeling_differ::postgres::{ColumnChoice, PgCluster, PgTerms};
use changeling_differ::report::ndjson::NdjsonSink;
use changeling_differ::report::recorded::RecordedReport;
use changeling_differ::report::sort::SortedReport;
use changeling_differ::report::{ace, csv, html};
use changeling_differ::rerun::rerun;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::args::diff::{Compare, Output};
use crate::args::mend::TableRerunArgs;
use crate::diff::{DiffError, Nodes};
use crate::render::progress::count;
use crate::render::screen::Screen;
use crate::signal::Signals;

use super::{Subject, status};

/// Looks again, writes the new report, says what came out.
///
/// # Errors
/// There is no verdict.
pub async fn run(arguments: &TableRerunArgs, screen: &Screen) -> Result<ExitCode, DiffError> {
    let subject = Subject::open(&arguments.report, &arguments.nodes)?;
    let stop = CancellationToken::new();
    let signals = Signals::listen().context("cannot listen for signals")?;
    let watching = tokio::spawn(signals.watch(stop.clone()));
    let comparison = match arguments.compare {
        Compare::Exact => Comparison::Exact,
        Compare::Semantic => Comparison::Semantic,
    };
    let lines = file(&subject.report.table, "ndjson");
    let sink = Box::new(NdjsonSink::new(&lines));
    let settings = DiffSettings::default();
    let prepared = prepare(subject.nodes, comparison, &subject.report)
        .await
        .context("the rows cannot be looked at")?;
    let looking = rerun(subject.report, &prepared, &settings, sink, &stop);
    let summary = tokio::select! {
        summary = looking => summary.context("the rerun failed")?,
        // The second signal: at once.
        ended = watching => std::process::exit(ended.map_or(i32::from(crate::diff::FAILED), i32::from)),
    };
    let files = keep(&lines, arguments.output, &summary)?;
    if !arguments.talk.quiet || summary.verdict != Verdict::Match {
        screen.print(&outcome(&summary, &files));
    }
    Ok(status(summary.verdict.exit_code()))
}

/// The tables as they are compared.
async fn prepare(
    nodes: Nodes,
    comparison: Comparison,
    report: &RecordedReport,
) -> anyhow::Result<DiffSubject> {
    // What the report did not compare is not compared now either.
    let columns = match report.columns.is_empty() {
        true => ColumnChoice::All,
        false => ColumnChoice::Still(report.columns.clone()),
    };
    let (sides, shape, mut notes) = match nodes {
        Nodes::Postgres(nodes) => {
            let terms = PgTerms {
                columns,
                comparison,
                ..PgTerms::default()
            };
            let cluster = PgCluster::prepare(&nodes, terms).await?;
            (cluster.sides, cluster.shape, cluster.notes)
        }
        Nodes::MySql(nodes) => {
            let terms = MySqlTerms {
                columns,
                comparison,
                ..MySqlTerms::default()
            };
            let cluster = MySqlCluster::prepare(&nodes, terms).await?;
            (cluster.sides, cluster.shape, cluster.notes)
        }
    };
    if !shape.ignored.is_empty() {
        notes.push(format!("not compared: {}", shape.ignored.join(", ")));
    }
    Ok(DiffSubject {
        sides,
        shape,
        comparison,
        table_filter: report.table_filter.clone(),
        concurrency_factor: 0.0,
        notes,
    })
}

fn file(table: &TableName, extension: &str) -> PathBuf {
    let plain = |name: &str| -> String {
        let plain = |c: char| {
            if c.is_alphanumeric() || "_-$".contains(c) {
                c
            } else {
                '_'
            }
        };
        name.chars().map(plain).collect()
    };
    let time = Timestamp::now().strftime("%Y%m%d%H%M%S%6f");
    format!(
        "{}_{}_rerun-diffs-{time}.{extension}",
        plain(&table.schema),
        plain(&table.table)
    )
    .into()
}

/// The files that there are now; none without differences.
fn keep(lines: &Path, form: Output, summary: &JobSummary) -> anyhow::Result<Vec<PathBuf>> {
    if summary.confirmed + summary.in_flight == 0 {
        std::fs::remove_file(lines).with_context(|| format!("cannot remove {}", lines.display()))?;
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    let mut written =
        |extension: &str, write: &dyn Fn(&mut SortedReport, &mut BufWriter<File>) -> std::io::Result<()>| {
            let path = lines.with_extension(extension);
            let render = || -> anyhow::Result<()> {
                let mut file = BufWriter::new(File::create(&path)?);
                write(&mut SortedReport::of(lines)?, &mut file)?;
                Ok(file.flush()?)
            };
            render().with_context(|| format!("cannot write {}", path.display()))?;
            files.push(path);
            anyhow::Ok(())
        };
    match form {
        Output::Ndjson => {}
        Output::Csv => written("csv", &|report, file| csv::write(report, file))?,
        Output::Json => written("json", &|report, file| ace::write(report, file))?,
        Output::Html => {
            written("json", &|report, file| ace::write(report, file))?;
            written("html", &|report, file| html::write(report, file))?;
        }
    }
    files.push(lines.to_owned());
    Ok(files)
}

fn outcome(summary: &JobSummary, files: &[PathBuf]) -> String {
    let mut text = match summary.verdict {
        Verdict::Match => "All previously reported differences have been resolved\n".to_owned(),
        Verdict::Differ => format!("{} of the reported keys still differ\n", count(summary.confirmed)),
        Verdict::Unknown => "UNKNOWN: not everything could be established\n".to_owned(),
    };
    if summary.in_flight > 0 {
        text.push_str(&format!(
            "  {} keys kept changing and are not judged\n",
            count(summary.in_flight)
        ));
    }
    for range in &summary.unknown_ranges {
        text.push_str(&format!("  unknown: {}\n", range.reason));
    }
    for note in &summary.notes {
        text.push_str(&format!("  note: {note}\n"));
    }
    for file in files {
        text.push_str(&format!("  report: {}\n", file.display()));
    }
    text
}
