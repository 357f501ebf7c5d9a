//! Sorting a report by key in bounded memory: sorted runs in temporary files, merged.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _, Seek as _};
use std::path::Path;

use super::ReportError;
use super::ndjson::NdjsonReader;
use super::order::sort_bytes;
use crate::model::{Finding, JobHeader, JobSummary};

/// Bytes of a run: what is held at once, about.
const RUN_BYTES: usize = 8 * 1024 * 1024;

/// Runs that are merged at once, each with an open file and a buffer.
const MAX_RUNS: usize = 64;

/// Bytes read ahead of each run while merging: 2 MiB in all.
const MERGE_BUFFER: usize = 32 * 1024;

/// A report whose findings come in the order of their keys.
#[derive(Debug)]
pub struct SortedReport {
    /// The report's first line.
    pub header: JobHeader,
    /// The report's last line.
    pub summary: JobSummary,
    sorted: File,
}

impl SortedReport {
    /// Sorts the report at `path`. Temporary files, about as large as the report, go to the system's directory for them
    /// (`TMPDIR`) and have no name there.
    ///
    /// # Errors
    /// The report cannot be read or has no end, or there is no room.
    pub fn of(path: &Path) -> Result<Self, ReportError> {
        let mut reader = NdjsonReader::open(path)?;
        let mut runs = Runs::default();
        let temporary = || ReportError::file("sort", path);
        while let Some(finding) = reader.next_finding()? {
            let key = sort_bytes(&finding.difference().key, &reader.header.shape);
            let text = serde_json::to_vec(&finding).map_err(|error| temporary()(error.into()))?;
            runs.add(Line { key, text }).map_err(temporary())?;
        }
        let summary = reader.summary().cloned().ok_or_else(|| ReportError::Unfinished {
            path: path.to_owned(),
        })?;
        Ok(Self {
            sorted: runs.finish().map_err(temporary())?,
            header: reader.header,
            summary,
        })
    }

    /// Calls `with` for every finding in the order of keys. May be called again.
    ///
    /// # Errors
    /// The temporary file cannot be read; what `with` says.
    pub fn for_each(
        &mut self,
        mut with: impl FnMut(&JobHeader, Finding) -> io::Result<()>,
    ) -> io::Result<()> {
        self.sorted.rewind()?;
        let mut input = BufReader::with_capacity(MERGE_BUFFER, &self.sorted);
        while let Some(line) = Line::read(&mut input)? {
            with(&self.header, serde_json::from_slice(&line.text)?)?;
        }
        Ok(())
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    key: Vec<u8>,
    text: Vec<u8>,
}

impl Line {
    fn weight(&self) -> usize {
        self.key.len() + self.text.len() + size_of::<Self>()
    }

    fn write(&self, output: &mut impl io::Write) -> io::Result<()> {
        for part in [&self.key, &self.text] {
            output.write_all(&(part.len() as u64).to_be_bytes())?;
            output.write_all(part)?;
        }
        Ok(())
    }

    fn read(input: &mut impl io::BufRead) -> io::Result<Option<Self>> {
        if input.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let mut part = || -> io::Result<Vec<u8>> {
            let mut length = [0; 8];
            input.read_exact(&mut length)?;
            let length = u64::from_be_bytes(length);
            let mut bytes = Vec::new();
            input.by_ref().take(length).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        Ok(Some(Self {
            key: part()?,
            text: part()?,
        }))
    }
}

/// Sorted runs; those of a level are about equally long, and are merged into one of the next level when there are many.
#[derive(Default)]
struct Runs {
    lines: Vec<Line>,
    bytes: usize,
    levels: Vec<Vec<File>>,
}

impl Runs {
    fn add(&mut self, line: Line) -> io::Result<()> {
        self.bytes += line.weight();
        self.lines.push(line);
        if self.bytes >= RUN_BYTES {
            self.spill()
        } else {
            Ok(())
        }
    }

    fn spill(&mut self) -> io::Result<()> {
        self.lines.sort_unstable();
        let mut run = BufWriter::with_capacity(MERGE_BUFFER, tempfile::tempfile()?);
        for line in self.lines.drain(..) {
            line.write(&mut run)?;
        }
        self.bytes = 0;
        let mut run = run.into_inner().map_err(io::IntoInnerError::into_error)?;
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            self.levels[level].push(run);
            if self.levels[level].len() < MAX_RUNS {
                break;
            }
            run = merge(std::mem::take(&mut self.levels[level]))?;
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<File> {
        self.spill()?;
        let mut all: Vec<File> = self.levels.into_iter().flatten().collect();
        while all.len() > 1 {
            let rest = all.split_off(all.len().min(MAX_RUNS));
            let merged = merge(all)?;
            all = rest;
            all.push(merged);
        }
        Ok(all.remove(0))
    }
}

fn merge(runs: Vec<File>) -> io::Result<File> {
    let mut inputs = Vec::with_capacity(runs.len());
    for mut run in runs {
        run.rewind()?;
        inputs.push(BufReader::with_capacity(MERGE_BUFFER, run));
    }
    let mut heads = BinaryHeap::new();
    for (index, input) in inputs.iter_mut().enumerate() {
        heads.extend(Line::read(input)?.map(|line| Reverse((line, index))));
    }
    let mut output = BufWriter::with_capacity(MERGE_BUFFER, tempfile::tempfile()?);
    while let Some(Reverse((line, index))) = heads.pop() {
        line.write(&mut output)?;
        heads.extend(Line::read(&mut inputs[index])?.map(|line| Reverse((line, index))));
    }
    output.into_inner().map_err(io::IntoInnerError::into_error)
}
