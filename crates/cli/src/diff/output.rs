//! What `table-diff` writes: report files, and what it says at the end.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use changeling_core::ident::TableName;
use changeling_differ::model::{DifferenceSink, Finding, JobHeader, JobSummary, SinkError, Verdict};
use changeling_differ::report::ndjson::NdjsonSink;
use changeling_differ::report::sort::SortedReport;
use changeling_differ::report::{ace, csv, html};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use jiff::Timestamp;

use crate::args::diff::{Output, TableDiffArgs};
use crate::render::progress::count;

use super::Prepared;

/// Where the report goes.
pub(super) enum Report {
    /// Nowhere.
    None,
    Files {
        /// The report proper.
        lines: PathBuf,
        form: Output,
    },
}

impl Report {
    pub(super) fn new(arguments: &TableDiffArgs, table: &TableName) -> Self {
        if arguments.count_only {
            return Self::None;
        }
        let time = Timestamp::now().strftime("%Y%m%d%H%M%S%6f");
        let name = format!(
            "{}_{}_diffs-{time}.ndjson",
            plain(&table.schema),
            plain(&table.table)
        );
        Self::Files {
            lines: name.into(),
            form: arguments.output,
        }
    }

    pub(super) fn sink(&self) -> Box<dyn DifferenceSink> {
        match self {
            Self::None => Box::new(Nothing),
            Self::Files { lines, .. } => Box::new(NdjsonSink::new(lines)),
        }
    }

    /// Writes the wanted form and returns the files that there are now. Without differences there are none.
    pub(super) fn write(&self, summary: &JobSummary) -> anyhow::Result<Vec<PathBuf>> {
        let Self::Files { lines, form } = self else {
            return Ok(Vec::new());
        };
        if summary.confirmed + summary.in_flight == 0 {
            std::fs::remove_file(lines).with_context(|| format!("cannot remove {}", lines.display()))?;
            return Ok(Vec::new());
        }
        let mut files = vec![lines.clone()];
        let wanted = match form {
            Output::Ndjson => return Ok(files),
            Output::Json => lines.with_extension("json"),
            Output::Csv => lines.with_extension("csv"),
            Output::Html => lines.with_extension("html"),
        };
        self.render(lines, *form, &wanted)
            .with_context(|| format!("cannot write {}", wanted.display()))?;
        files.insert(0, wanted);
        if *form == Output::Html {
            // As ACE does: the page is for people, the JSON for its other commands.
            let json = lines.with_extension("json");
            self.render(lines, Output::Json, &json)
                .with_context(|| format!("cannot write {}", json.display()))?;
            files.insert(1, json);
        }
        Ok(files)
    }

    fn render(&self, lines: &Path, form: Output, path: &Path) -> anyhow::Result<()> {
        let mut sorted = SortedReport::of(lines)?;
        let mut file = BufWriter::new(File::create(path)?);
        match form {
            Output::Csv => csv::write(&mut sorted, &mut file)?,
            Output::Html => html::write(&mut sorted, &mut file)?,
            Output::Json | Output::Ndjson => ace::write(&mut sorted, &mut file)?,
        }
        file.flush()?;
        Ok(())
    }
}

/// A name that is a file name everywhere.
fn plain(name: &str) -> String {
    name.chars()
        .map(|character| {
            if character.is_alphanumeric() || "_-$".contains(character) {
                character
            } else {
                '_'
            }
        })
        .collect()
}

/// Counts happen before a sink; this one has nothing left to do.
struct Nothing;

impl DifferenceSink for Nothing {
    fn begin<'a>(&'a mut self, _: &'a JobHeader) -> BoxFuture<'a, Result<(), SinkError>> {
        async { Ok(()) }.boxed()
    }

    fn take<'a>(&'a mut self, _: Finding) -> BoxFuture<'a, Result<(), SinkError>> {
        async { Ok(()) }.boxed()
    }

    fn finish<'a>(&'a mut self, _: &'a JobSummary) -> BoxFuture<'a, Result<(), SinkError>> {
        async { Ok(()) }.boxed()
    }
}

/// What came out, for people.
pub(super) fn outcome(
    summary: &JobSummary,
    table: &TableName,
    files: &[PathBuf],
    notes: &[String],
) -> String {
    let mut text = String::new();
    let names: Vec<&str> = summary.nodes.iter().map(|node| node.node.as_str()).collect();
    let head = match summary.verdict {
        Verdict::Match => "TABLES MATCH",
        Verdict::Differ => "TABLES DIFFER",
        Verdict::Unknown => "UNKNOWN: not everything could be established",
    };
    let _ = writeln!(
        text,
        "{head}: {}.{} on {}",
        table.schema,
        table.table,
        names.join(", ")
    );
    for node in &summary.nodes {
        let _ = write!(text, "  {}: {} rows compared", node.node, count(node.rows));
        if node.missing > 0 {
            let _ = write!(text, ", {} missing", count(node.missing));
        }
        text.push('\n');
    }
    for &(a, b, rows) in &summary.confirmed_by_pair {
        let _ = writeln!(text, "  {}/{}: {} rows differ", names[a], names[b], count(rows));
    }
    if summary.in_flight > 0 {
        let _ = writeln!(
            text,
            "  {} rows kept changing or were not replayed, and are not judged",
            count(summary.in_flight)
        );
    }
    if summary.limit_reached {
        text.push_str("  stopped there: as many differences as were wanted\n");
    }
    if let Some(share) = summary.sampled {
        let _ = writeln!(text, "  a sample of {share}: the rest is not known");
    }
    unknown(summary, &mut text);
    for note in notes {
        let _ = writeln!(text, "  {note}");
    }
    for file in files {
        let _ = writeln!(text, "  report: {}", file.display());
    }
    text
}

/// The first few unknown ranges: the report has more.
const SHOWN: usize = 5;

fn unknown(summary: &JobSummary, text: &mut String) {
    if summary.unknown == 0 {
        return;
    }
    let _ = writeln!(text, "  {} ranges are unknown:", count(summary.unknown));
    for unknown in summary.unknown_ranges.iter().take(SHOWN) {
        let _ = writeln!(text, "    {}: {}", unknown.range, unknown.reason);
    }
}

/// What would be run.
pub(super) async fn explanation(prepared: &Prepared, arguments: &TableDiffArgs) -> anyhow::Result<String> {
    let shape = &prepared.shape;
    let key: Vec<&str> = shape.key_columns().map(|column| column.name.as_str()).collect();
    let mut text = format!(
        "{}.{}: {} columns, key ({})\n",
        shape.name.schema,
        shape.name.table,
        shape.columns.len(),
        key.join(", ")
    );
    let _ = writeln!(
        text,
        "blocks of at most {} rows, read row by row from {} rows down",
        arguments.block_size, arguments.compare_unit_size
    );
    for note in &prepared.notes {
        let _ = writeln!(text, "note: {note}");
    }
    for side in &prepared.sides {
        let _ = writeln!(
            text,
            "\n{} (about {} rows)",
            side.node(),
            side.estimate().max(0.0)
        );
        for (title, statement) in side.statements() {
            let _ = writeln!(text, "-- {title}\n{statement};");
        }
        let plans = side.plans().await.context("the server gives no plan")?;
        for (title, lines) in plans {
            let _ = writeln!(text, "-- plan: {title}\n{}", lines.join("\n"));
        }
    }
    Ok(text)
}
