//! Writing ACE's report from a sorted one, a row at a time.

use std::io::{self, BufWriter, Seek as _, Write};

use jiff::Timestamp;

use super::{AceSummary, METADATA, cell};
use crate::model::{Finding, JobHeader, Key, PairDifference, Present, TableShape};
use crate::report::csv::origin_word;
use crate::report::sort::SortedReport;

/// The name that ACE gives its report, but with microseconds: two runs in one second do not overwrite each other.
#[must_use]
pub fn file_name(shape: &TableShape, at: Timestamp) -> String {
    format!(
        "{}_{}_diffs-{}.json",
        shape.name.schema,
        shape.name.table,
        at.strftime("%Y%m%d%H%M%S%6f")
    )
}

pub(super) fn pair_name(header: &JobHeader, a: usize, b: usize) -> String {
    format!("{}/{}", header.nodes[a], header.nodes[b])
}

/// Writes the report. The rows of a pair's second node wait in a temporary file until those of the first are written.
///
/// # Errors
/// Reading the sorted report, the temporary file or writing fails.
pub fn write(report: &mut SortedReport, output: &mut impl Write) -> io::Result<()> {
    output.write_all(b"{\n  \"diffs\": {")?;
    let pairs: Vec<_> = report.summary.confirmed_by_pair.clone();
    for (index, (a, b, _)) in pairs.into_iter().enumerate() {
        output.write_all(if index == 0 { b"\n    " } else { b",\n    " })?;
        write_pair(report, a, b, output)?;
    }
    output.write_all(b"\n  },\n  \"summary\": ")?;
    let summary = AceSummary::of(&report.header, &report.summary);
    serde_json::to_writer_pretty(&mut *output, &summary)?;
    output.write_all(b"\n}\n")
}

fn write_pair(report: &mut SortedReport, a: usize, b: usize, output: &mut impl Write) -> io::Result<()> {
    let header = &report.header;
    let (first, second) = (header.nodes[a].to_string(), header.nodes[b].to_string());
    serde_json::to_writer(&mut *output, &pair_name(header, a, b))?;
    output.write_all(b": {\"rows\": {\n      ")?;
    serde_json::to_writer(&mut *output, &first)?;
    output.write_all(b": [")?;
    let mut later = BufWriter::new(tempfile::tempfile()?);
    let mut counts = (0_u64, 0_u64);
    report.for_each(|header, finding| {
        let Finding::Confirmed(difference) = finding else {
            return Ok(());
        };
        let (here, there) = match difference.between(a, b) {
            None => return Ok(()),
            Some(PairDifference::MissingOnA(there)) => (None, Some(there)),
            Some(PairDifference::MissingOnB(here)) => (Some(here), None),
            Some(PairDifference::Modified(here, there)) => (Some(here), Some(there)),
        };
        if let Some(here) = here {
            write_row(here, &difference.key, &header.shape, &mut counts.0, output)?;
        }
        if let Some(there) = there {
            write_row(there, &difference.key, &header.shape, &mut counts.1, &mut later)?;
        }
        Ok(())
    })?;
    let mut later = later.into_inner().map_err(io::IntoInnerError::into_error)?;
    later.rewind()?;
    output.write_all(b"],\n      ")?;
    serde_json::to_writer(&mut *output, &second)?;
    output.write_all(b": [")?;
    io::copy(&mut later, output)?;
    output.write_all(b"]}}")
}

fn write_row(
    row: &Present,
    key: &Key,
    shape: &TableShape,
    count: &mut u64,
    output: &mut impl Write,
) -> io::Result<()> {
    output.write_all(if *count == 0 {
        b"\n        {"
    } else {
        b",\n        {"
    })?;
    *count += 1;
    for (column, value) in shape.columns.iter().zip(&row.row.0) {
        serde_json::to_writer(&mut *output, &column.name)?;
        output.write_all(b": ")?;
        cell::write(value, column, output)?;
        output.write_all(b", ")?;
    }
    let origin = row.origin.as_ref().map(origin_word);
    write!(output, "\"{METADATA}\": {{\"commit_ts\": ")?;
    serde_json::to_writer(&mut *output, &row.commit_ts)?;
    output.write_all(b", \"node_origin\": ")?;
    serde_json::to_writer(&mut *output, &origin)?;
    if row.row.key(shape).as_ref() != Some(key) {
        // The other node has the row under another text of the same key: this holds the two together.
        output.write_all(b", \"key\": ")?;
        serde_json::to_writer(&mut *output, key)?;
    }
    output.write_all(b"}}")
}
