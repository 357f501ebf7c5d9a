//! A report read back: what was found once, for rerun and repair.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use changeling_core::ident::TableName;

use super::ReportError;
use super::ace::AceReport;
use super::csv::origin_word;
use super::ndjson::{NdjsonReader, check_counts};
use crate::model::{Comparison, Finding, Image, Key, NodeName, Row};

/// What a node had under a key when the report was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordedImage {
    /// The report does not say: ACE lists a row only beside one that differs from it.
    NotListed,
    /// No row.
    Absent,
    /// This row; its cells are in the order of [`RecordedReport::columns`].
    Present {
        /// Its values, in the words of whoever wrote the report.
        row: Row,
        /// When it was committed: RFC 3339.
        commit_ts: Option<String>,
        /// Who wrote it: `local`, a node's name or an origin's number.
        origin: Option<String>,
    },
}

/// A key under which nodes differed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedDifference {
    /// The key's values, in the words of whoever wrote the report.
    pub key: Key,
    /// In the order of [`RecordedReport::nodes`].
    pub images: Box<[RecordedImage]>,
    /// The pairs of nodes that differed.
    pub pairs: Vec<(usize, usize)>,
}

/// A report, either format.
#[derive(Debug)]
pub struct RecordedReport {
    path: PathBuf,
    /// The table.
    pub table: TableName,
    /// The nodes.
    pub nodes: Vec<NodeName>,
    /// The table of each node; `table` is the first's.
    pub tables: Vec<TableName>,
    /// Names of the key's columns, in key order.
    pub key: Vec<String>,
    /// Names of the columns of every row.
    pub columns: Vec<String>,
    /// When values were the same; exact in reports that ACE wrote.
    pub comparison: Comparison,
    /// The operator's predicate: other rows were not looked at.
    pub table_filter: Option<String>,
    /// The origin, if the report is about one origin's rows only.
    pub against_origin: Option<String>,
    /// Findings that were not confirmed: those that were passed over so far or, in ACE's form, those that it leaves out.
    pub in_flight: u64,
    listing: Listing,
    source: Source,
}

/// Which findings are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listing {
    Confirmed,
    All,
}

#[derive(Debug)]
enum Source {
    Ndjson(Box<NdjsonReader>),
    Ace(Box<AceReport>, VecDeque<RecordedDifference>),
}

impl RecordedReport {
    /// Opens a report of either format.
    ///
    /// # Errors
    /// [`ReportError`].
    pub fn open(path: &Path) -> Result<Self, ReportError> {
        if is_ndjson(path)? {
            let reader = NdjsonReader::open(path)?;
            check_counts(path)?;
            return Ok(Self::of_ndjson(path, reader));
        }
        let report = AceReport::open(path)?;
        let summary = &report.summary;
        let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        Ok(Self {
            path: path.to_owned(),
            table: TableName::new(&*summary.schema, &*summary.table),
            tables: summary.tables(),
            nodes: summary.nodes.iter().map(|node| NodeName::new(&**node)).collect(),
            key: summary.primary_key.clone(),
            columns: report.columns.clone(),
            comparison: summary.comparison,
            table_filter: given(&summary.table_filter),
            against_origin: given(&summary.against_origin).or_else(|| {
                summary
                    .origin_only
                    .then(|| summary.against_origin_resolved.clone())
            }),
            in_flight: summary.in_flight,
            listing: Listing::Confirmed,
            source: Source::Ace(Box::new(report), VecDeque::new()),
        })
    }

    fn of_ndjson(path: &Path, reader: NdjsonReader) -> Self {
        let header = &reader.header;
        Self {
            path: path.to_owned(),
            table: header.shape.name.clone(),
            nodes: header.nodes.clone(),
            tables: header.tables(),
            key: header
                .shape
                .key_columns()
                .map(|column| column.name.clone())
                .collect(),
            columns: header
                .shape
                .columns
                .iter()
                .map(|column| column.name.clone())
                .collect(),
            comparison: header.comparison,
            table_filter: header.table_filter.clone(),
            against_origin: header.against_origin.clone(),
            in_flight: 0,
            listing: Listing::Confirmed,
            source: Source::Ndjson(Box::new(reader)),
        }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The report, with the findings that were in flight told like the others.
    #[must_use]
    pub fn with_in_flight(mut self) -> Self {
        self.listing = Listing::All;
        self
    }

    /// Why the report is not about every row of the table, if it is not. Known once its last difference was read.
    #[must_use]
    pub fn shortfall(&self) -> Option<String> {
        match &self.source {
            Source::Ndjson(reader) => match reader.summary() {
                Some(summary) => summary.shortfall(),
                None => Some("the report was not read to its end".into()),
            },
            Source::Ace(report, _) => {
                let summary = &report.summary;
                if !summary.not_established.is_empty() {
                    return Some(summary.not_established.clone());
                }
                if summary.diff_row_limit_reached {
                    return Some("the report ends at its limit of differences; there may be more".into());
                }
                // Whoever looks again at what is listed does not look at these.
                (summary.in_flight > 0).then(|| {
                    format!(
                        "{} rows were in flight and are not in this form of the report; its NDJSON has them",
                        summary.in_flight
                    )
                })
            }
        }
    }

    /// Begins again.
    ///
    /// # Errors
    /// The file cannot be opened any more.
    pub fn rewind(&mut self) -> Result<(), ReportError> {
        match &mut self.source {
            Source::Ndjson(reader) => {
                self.in_flight = 0;
                **reader = NdjsonReader::open(&self.path)?;
            }
            Source::Ace(report, waiting) => {
                waiting.clear();
                report.rewind();
            }
        }
        Ok(())
    }

    /// The next difference, a confirmed one unless others are wanted; `None` after the last.
    ///
    /// # Errors
    /// The report cannot be read, or ends before its end.
    pub fn next_difference(&mut self) -> Result<Option<RecordedDifference>, ReportError> {
        match &mut self.source {
            Source::Ndjson(reader) => loop {
                match reader.next_finding()? {
                    None => return Ok(None),
                    Some(Finding::Confirmed(difference)) => return Ok(Some(recorded(difference))),
                    Some(Finding::InFlight(difference, _)) => {
                        self.in_flight += 1;
                        if self.listing == Listing::All {
                            return Ok(Some(recorded(difference)));
                        }
                    }
                }
            },
            Source::Ace(report, waiting) => loop {
                if let Some(difference) = waiting.pop_front() {
                    return Ok(Some(difference));
                }
                match report.next_part()? {
                    None => return Ok(None),
                    Some(part) => *waiting = part.into(),
                }
            },
        }
    }
}

fn recorded(difference: crate::model::Difference) -> RecordedDifference {
    let pairs = difference.pairs().map(|(a, b, _)| (a, b)).collect();
    let image = |image: Image| match image {
        Image::Absent => RecordedImage::Absent,
        Image::Present(present) => RecordedImage::Present {
            origin: present.origin.as_ref().map(origin_word),
            commit_ts: present.commit_ts,
            row: std::sync::Arc::unwrap_or_clone(present.row),
        },
    };
    RecordedDifference {
        key: difference.key,
        images: difference.images.into_iter().map(image).collect(),
        pairs,
    }
}

/// Ours begins with its header; ACE's is one document over many lines.
fn is_ndjson(path: &Path) -> Result<bool, ReportError> {
    let file = File::open(path).map_err(ReportError::file("open", path))?;
    // Bytes, for the file may end in the middle of a character.
    let mut bytes = Vec::new();
    file.take(64)
        .read_to_end(&mut bytes)
        .map_err(ReportError::file("read", path))?;
    let start = String::from_utf8_lossy(&bytes);
    Ok(start.trim_start().starts_with("{\"header\":"))
}
