//! The report proper: one JSON document a line.
//!
//! The first line is `{"header": …}`, every other but the last `{"finding": …}`, the last `{"summary": …}`. A file without
//! the last line is of a job that did not end: what it lists was found, nothing is known about the rest.

use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::ReportError;
use crate::model::{DifferenceSink, Finding, Image, JobHeader, JobSummary, SinkError};

/// Bytes gathered before they are written: a few hundred rows.
const BUFFER: usize = 256 * 1024;

/// A line of the report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// The first.
    Header(Box<JobHeader>),
    /// What was found under one key.
    Finding(Finding),
    /// The last.
    Summary(Box<JobSummary>),
}

/// A [`Record`] that is written, not owned.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum RecordRef<'a> {
    Header(&'a JobHeader),
    Finding(&'a Finding),
    Summary(&'a JobSummary),
}

/// A line of which only the kind matters.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Outline {
    Header(IgnoredAny),
    Finding(OutlinedFinding),
    Summary(Box<JobSummary>),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum OutlinedFinding {
    Confirmed(IgnoredAny),
    InFlight(IgnoredAny),
}

/// How many findings were listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Listed {
    confirmed: u64,
    in_flight: u64,
}

impl Listed {
    fn count(&mut self, finding: &Finding) {
        match finding {
            Finding::Confirmed(_) => self.confirmed += 1,
            Finding::InFlight(..) => self.in_flight += 1,
        }
    }

    /// A line that is lost is a difference that nobody would look at again.
    fn check(self, path: &Path, summary: &JobSummary) -> Result<(), ReportError> {
        let counted = Self {
            confirmed: summary.confirmed,
            in_flight: summary.in_flight,
        };
        if self == counted {
            return Ok(());
        }
        let words = |counts: Self| {
            format!(
                "{} confirmed differences and {} in flight",
                counts.confirmed, counts.in_flight
            )
        };
        Err(ReportError::Incomplete {
            path: path.to_owned(),
            counted: words(counted),
            listed: words(self),
        })
    }
}

/// Checks that a report lists what its summary counts, before anything is done that a line found missing only at the
/// end could not undo.
///
/// # Errors
/// It does not, has no end, or cannot be read.
pub fn check_counts(path: &Path) -> Result<(), ReportError> {
    let file = File::open(path).map_err(ReportError::file("open", path))?;
    let mut file = BufReader::with_capacity(BUFFER, file);
    let (mut text, mut line, mut listed) = (String::new(), 0, Listed::default());
    loop {
        line += 1;
        match next_line(path, &mut file, &mut text, line)? {
            Some(Outline::Header(_)) => {}
            Some(Outline::Finding(OutlinedFinding::Confirmed(_))) => listed.confirmed += 1,
            Some(Outline::Finding(OutlinedFinding::InFlight(_))) => listed.in_flight += 1,
            Some(Outline::Summary(summary)) => return listed.check(path, &summary),
            None => {
                return Err(ReportError::Unfinished {
                    path: path.to_owned(),
                });
            }
        }
    }
}

/// Writes findings to a file as they come.
#[derive(Debug)]
pub struct NdjsonSink {
    path: PathBuf,
    file: Option<BufWriter<File>>,
}

impl NdjsonSink {
    /// A sink that creates `path` when the job begins, and replaces what is there.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            file: None,
        }
    }

    /// Where it writes to.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn write(&mut self, record: &RecordRef<'_>) -> Result<(), ReportError> {
        let Some(file) = &mut self.file else {
            return Err(ReportError::unfit(
                &self.path,
                "a finding came before the job began",
            ));
        };
        let written = serde_json::to_writer(&mut *file, record)
            .map_err(std::io::Error::from)
            .and_then(|()| file.write_all(b"\n"));
        written.map_err(ReportError::file("write", &self.path))
    }

    fn open(&mut self, header: &JobHeader) -> Result<(), ReportError> {
        let file = File::create(&self.path).map_err(ReportError::file("create", &self.path))?;
        self.file = Some(BufWriter::with_capacity(BUFFER, file));
        self.write(&RecordRef::Header(header))
    }

    fn close(&mut self, summary: &JobSummary) -> Result<(), ReportError> {
        self.write(&RecordRef::Summary(summary))?;
        let file = self.file.take().map(BufWriter::into_inner);
        let flushed = match file {
            Some(Ok(file)) => file.sync_all(),
            Some(Err(error)) => Err(error.into_error()),
            None => Ok(()),
        };
        flushed.map_err(ReportError::file("write", &self.path))
    }
}

/// Writing a line is a copy into a buffer, now and then a write of 256 KiB: not worth a thread.
impl DifferenceSink for NdjsonSink {
    fn begin<'a>(&'a mut self, header: &'a JobHeader) -> BoxFuture<'a, Result<(), SinkError>> {
        async move { self.open(header).map_err(SinkError::from) }.boxed()
    }

    fn take<'a>(&'a mut self, finding: Finding) -> BoxFuture<'a, Result<(), SinkError>> {
        async move { self.write(&RecordRef::Finding(&finding)).map_err(SinkError::from) }.boxed()
    }

    fn finish<'a>(&'a mut self, summary: &'a JobSummary) -> BoxFuture<'a, Result<(), SinkError>> {
        async move { self.close(summary).map_err(SinkError::from) }.boxed()
    }
}

/// Reads a report line by line.
#[derive(Debug)]
pub struct NdjsonReader {
    path: PathBuf,
    file: BufReader<File>,
    line: usize,
    text: String,
    /// What the first line says.
    pub header: JobHeader,
    summary: Option<JobSummary>,
    listed: Listed,
}

impl NdjsonReader {
    /// Opens a report and reads its first line.
    ///
    /// # Errors
    /// The file cannot be read, or begins otherwise.
    pub fn open(path: &Path) -> Result<Self, ReportError> {
        let file = File::open(path).map_err(ReportError::file("open", path))?;
        let mut file = BufReader::with_capacity(BUFFER, file);
        let mut text = String::new();
        let record = next_line(path, &mut file, &mut text, 1)?;
        match record {
            Some(Record::Header(header)) if !is_sound(&header) => Err(ReportError::Malformed {
                path: path.to_owned(),
                line: 1,
                message: "the header does not fit together".into(),
            }),
            Some(Record::Header(header)) => Ok(Self {
                path: path.to_owned(),
                file,
                line: 1,
                text,
                header: *header,
                summary: None,
                listed: Listed::default(),
            }),
            _ => Err(ReportError::Malformed {
                path: path.to_owned(),
                line: 1,
                message: "there is no header".into(),
            }),
        }
    }

    /// The next finding; `None` after the last.
    ///
    /// # Errors
    /// The file cannot be read, a line is none of a report's, or the file ends without a summary, or with one that counts
    /// other findings than there were.
    pub fn next_finding(&mut self) -> Result<Option<Finding>, ReportError> {
        if self.summary.is_some() {
            return Ok(None);
        }
        self.line += 1;
        match next_line(&self.path, &mut self.file, &mut self.text, self.line)? {
            Some(Record::Finding(finding)) if !fits(&finding, &self.header) => Err(ReportError::Malformed {
                path: self.path.clone(),
                line: self.line,
                message: "the finding is not one of this table's and these nodes'".into(),
            }),
            Some(Record::Finding(finding)) => {
                self.listed.count(&finding);
                Ok(Some(finding))
            }
            Some(Record::Summary(summary)) => {
                self.listed.check(&self.path, &summary)?;
                self.summary = Some(*summary);
                Ok(None)
            }
            Some(Record::Header(_)) => Err(ReportError::Malformed {
                path: self.path.clone(),
                line: self.line,
                message: "there is a second header".into(),
            }),
            None => Err(ReportError::Unfinished {
                path: self.path.clone(),
            }),
        }
    }

    /// What the last line says, once it was reached.
    #[must_use]
    pub fn summary(&self) -> Option<&JobSummary> {
        self.summary.as_ref()
    }
}

/// Whether what a header says of the table can be true: a file may have been edited.
fn is_sound(header: &JobHeader) -> bool {
    let shape = &header.shape;
    header.nodes.len() >= 2
        && [0, header.nodes.len()].contains(&header.tables.len())
        && !shape.key.is_empty()
        && shape.key.iter().all(|&position| position < shape.columns.len())
}

/// Whether a finding is about a row of the table, on the nodes that the header names.
fn fits(finding: &Finding, header: &JobHeader) -> bool {
    let difference = finding.difference();
    let rows = || difference.images.iter().filter_map(Image::row);
    difference.key.0.len() == header.shape.key.len()
        && difference.images.len() == header.nodes.len()
        && rows().count() > 0
        && rows().all(|row| row.0.len() == header.shape.columns.len())
}

fn next_line<'t, R: Deserialize<'t>>(
    path: &Path,
    file: &mut BufReader<File>,
    text: &'t mut String,
    line: usize,
) -> Result<Option<R>, ReportError> {
    text.clear();
    let bytes = file.read_line(text).map_err(ReportError::file("read", path))?;
    if bytes == 0 {
        return Ok(None);
    }
    if !text.ends_with('\n') {
        // Cut off in the middle of a line.
        return Err(ReportError::Unfinished {
            path: path.to_owned(),
        });
    }
    let record = serde_json::from_str(text).map_err(|error| ReportError::Malformed {
        path: path.to_owned(),
        line,
        message: error.to_string(),
    })?;
    Ok(Some(record))
}
