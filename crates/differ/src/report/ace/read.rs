//! Reading ACE's report, whoever wrote it, in bounded memory.
//!
//! The file lists a pair's rows node by node, so the two rows of a key may be gigabytes apart, and says only at its end
//! what the key is. It is therefore read twice: once for the summary, once to deal the rows out to temporary files by
//! their key's hash. One such file at a time is joined in memory.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::io::{self, BufRead as _, BufReader, BufWriter, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use serde::de::DeserializeSeed as _;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::walk::{Document, Fields, RowPlace};
use super::{AceSummary, METADATA};
use crate::model::{Cell, Key, Row};
use crate::report::ReportError;
use crate::report::recorded::{RecordedDifference, RecordedImage};

/// Bytes of the report for each temporary file: about what is joined at once.
const PARTITION_BYTES: u64 = 8 * 1024 * 1024;

/// Temporary files, all open at once. A report beyond 2 GiB needs more memory, one part in 256 of it.
const MAX_PARTITIONS: u64 = 256;

/// Bytes gathered for each temporary file.
const PARTITION_BUFFER: usize = 8 * 1024;

/// ACE's report, ready to be read by key.
#[derive(Debug)]
pub struct AceReport {
    path: PathBuf,
    /// Its summary.
    pub summary: AceSummary,
    /// Names of the rows' columns, in the order of their cells.
    pub columns: Vec<String>,
    partitions: Vec<File>,
    next: usize,
}

impl AceReport {
    /// Reads the report at `path`.
    ///
    /// # Errors
    /// It cannot be read, is no report of ACE's, or its rows do not all have the same columns.
    pub fn open(path: &Path) -> Result<Self, ReportError> {
        let mut summary = None;
        parse(
            path,
            Document {
                rows: &mut |_, _| Ok(()),
                summary: &mut summary,
                skip: true,
            },
        )?;
        let summary: AceSummary = summary.ok_or_else(|| ReportError::unfit(path, "it has no summary"))?;
        if summary.primary_key.is_empty() || summary.nodes.len() < 2 {
            let message = "its summary names no key or less than two nodes";
            return Err(ReportError::unfit(path, message));
        }
        let mut dealer = Dealer::new(path, &summary)?;
        parse(
            path,
            Document {
                rows: &mut |place, row| dealer.deal(place, row),
                summary: &mut None,
                skip: false,
            },
        )?;
        let (columns, partitions) = dealer.finish().map_err(ReportError::file("sort", path))?;
        let mut report = Self {
            path: path.to_owned(),
            summary,
            columns,
            partitions,
            next: 0,
        };
        report.check_counts()?;
        Ok(report)
    }

    /// Checks that as many differences of each pair are listed as the summary counts: one that is lost is one at which
    /// nobody would look again. Where the limit was reached ACE's counts are not exact.
    fn check_counts(&mut self) -> Result<(), ReportError> {
        if self.summary.diff_row_limit_reached || self.summary.diff_rows_count.is_empty() {
            return Ok(());
        }
        let nodes = self.summary.nodes.clone();
        let mut listed: BTreeMap<String, u64> = BTreeMap::new();
        while let Some(part) = self.next_part()? {
            for (a, b) in part.iter().flat_map(|difference| &difference.pairs) {
                *listed.entry(format!("{}/{}", nodes[*a], nodes[*b])).or_default() += 1;
            }
        }
        self.rewind();
        let short = |(pair, count): &(&String, &u64)| listed.get(*pair).unwrap_or(&0) < *count;
        match self.summary.diff_rows_count.iter().find(short) {
            None => Ok(()),
            Some((pair, count)) => Err(ReportError::Incomplete {
                path: self.path.clone(),
                counted: format!("{count} differences of {pair}"),
                listed: listed.get(pair).unwrap_or(&0).to_string(),
            }),
        }
    }

    /// Begins again.
    pub fn rewind(&mut self) {
        self.next = 0;
    }

    /// The differences of the next part of the keys, in no order; `None` after the last.
    ///
    /// # Errors
    /// A temporary file cannot be read.
    pub fn next_part(&mut self) -> Result<Option<Vec<RecordedDifference>>, ReportError> {
        let Some(partition) = self.partitions.get_mut(self.next) else {
            return Ok(None);
        };
        self.next += 1;
        let nodes = self.summary.nodes.len();
        let joined = join(partition, nodes).map_err(ReportError::file("join", &self.path))?;
        Ok(Some(joined))
    }
}

fn parse(path: &Path, document: Document<'_>) -> Result<(), ReportError> {
    let file = File::open(path).map_err(ReportError::file("open", path))?;
    let mut input = serde_json::Deserializer::from_reader(BufReader::with_capacity(256 * 1024, file));
    let parsed = document.deserialize(&mut input).and_then(|()| input.end());
    parsed.map_err(|error| ReportError::Malformed {
        path: path.to_owned(),
        line: error.line(),
        message: error.to_string(),
    })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    commit_ts: Option<Box<RawValue>>,
    node_origin: Option<Box<RawValue>>,
    /// Ours: the key by which the row was found, if that is another text of the same key than the row's own.
    key: Option<Key>,
}

/// A row in a temporary file.
#[derive(Serialize, Deserialize)]
struct Dealt {
    pair: (usize, usize),
    node: usize,
    key: Key,
    row: Row,
    commit_ts: Option<String>,
    origin: Option<String>,
}

/// Deals rows out to temporary files.
struct Dealer {
    nodes: Vec<String>,
    key: Vec<String>,
    columns: Vec<String>,
    files: Vec<BufWriter<File>>,
}

impl Dealer {
    fn new(path: &Path, summary: &AceSummary) -> Result<Self, ReportError> {
        let bytes = std::fs::metadata(path)
            .map_err(ReportError::file("read", path))?
            .len();
        let count = (bytes / PARTITION_BYTES + 1).min(MAX_PARTITIONS);
        let files: io::Result<Vec<_>> = (0..count)
            .map(|_| tempfile::tempfile().map(|file| BufWriter::with_capacity(PARTITION_BUFFER, file)))
            .collect();
        Ok(Self {
            nodes: summary.nodes.clone(),
            key: summary.primary_key.clone(),
            columns: Vec::new(),
            files: files.map_err(ReportError::file("sort", path))?,
        })
    }

    fn deal(&mut self, place: RowPlace<'_>, fields: Fields) -> io::Result<()> {
        let dealt = self.understand(place, fields).map_err(io::Error::other)?;
        // A hash without a seed: where a row goes must not depend on the process.
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(&dealt.key);
        let count = self.files.len() as u64;
        let file = &mut self.files[usize::try_from(hash % count).unwrap_or(0)];
        serde_json::to_writer(&mut *file, &dealt)?;
        file.write_all(b"\n")
    }

    fn understand(&mut self, place: RowPlace<'_>, fields: Fields) -> Result<Dealt, String> {
        let pair = self.pair(place.pair)?;
        let node = self.node(place.node)?;
        let mut metadata = Metadata::default();
        let mut values: Vec<(String, Cell)> = Vec::with_capacity(fields.len());
        for (name, value) in fields {
            if name == METADATA {
                metadata = serde_json::from_str(value.get()).map_err(|error| error.to_string())?;
            } else {
                values.push((name, text(&value)?));
            }
        }
        let row = self.arrange(values)?;
        let part = |name: &String| {
            let place = self.columns.iter().position(|column| column == name);
            let text = place.and_then(|place| row.0[place].text.clone());
            text.ok_or_else(|| format!("a row has no value of the key column {name}"))
        };
        let own = Key(self.key.iter().map(part).collect::<Result<_, _>>()?);
        let key = match metadata.key {
            Some(key) if key.0.len() == own.0.len() => key,
            _ => own,
        };
        let plain = |value: Option<Box<RawValue>>| -> Result<Option<String>, String> {
            let cell = value.as_deref().map(text).transpose()?;
            Ok(cell
                .and_then(|cell| cell.text)
                .map(String::from)
                .filter(|text| !text.is_empty()))
        };
        Ok(Dealt {
            pair,
            node,
            key,
            row,
            commit_ts: plain(metadata.commit_ts)?,
            origin: plain(metadata.node_origin)?,
        })
    }

    /// Puts the values in the order of the first row's.
    fn arrange(&mut self, mut values: Vec<(String, Cell)>) -> Result<Row, String> {
        if self.columns.is_empty() {
            self.columns = values.iter().map(|(name, _)| name.clone()).collect();
        }
        if values.len() != self.columns.len() {
            return Err(format!(
                "a row has {} columns, the first one has {}",
                values.len(),
                self.columns.len()
            ));
        }
        let mut cells = Vec::with_capacity(values.len());
        for column in &self.columns {
            let place = values.iter().position(|(name, _)| name == column);
            let place = place.ok_or_else(|| format!("a row has no column {column}, the first one has"))?;
            cells.push(values.swap_remove(place).1);
        }
        Ok(Row(cells.into()))
    }

    fn node(&self, name: &str) -> Result<usize, String> {
        let place = self.nodes.iter().position(|node| node == name);
        place.ok_or_else(|| format!("the summary does not know a node {name}"))
    }

    fn pair(&self, name: &str) -> Result<(usize, usize), String> {
        // A node's name may have a slash in it.
        for (a, first) in self.nodes.iter().enumerate() {
            let rest = name
                .strip_prefix(first.as_str())
                .and_then(|rest| rest.strip_prefix('/'));
            if let Some(b) = rest.and_then(|rest| self.nodes.iter().position(|node| node == rest)) {
                return Ok((a, b));
            }
        }
        Err(format!("{name} is no pair of the summary's nodes"))
    }

    fn finish(self) -> io::Result<(Vec<String>, Vec<File>)> {
        let files: io::Result<Vec<File>> = self
            .files
            .into_iter()
            .map(|file| file.into_inner().map_err(io::IntoInnerError::into_error))
            .collect();
        Ok((self.columns, files?))
    }
}

/// A JSON value as the server would take it: texts without quotes, everything else as it is written.
fn text(value: &RawValue) -> Result<Cell, String> {
    let written = value.get();
    match written.as_bytes().first() {
        Some(b'"') => serde_json::from_str::<String>(written)
            .map(Cell::of)
            .map_err(|error| error.to_string()),
        _ if written == "null" => Ok(Cell::NULL),
        _ => Ok(Cell::of(written)),
    }
}

/// Puts a key's rows together.
fn join(partition: &mut File, nodes: usize) -> io::Result<Vec<RecordedDifference>> {
    partition.rewind()?;
    let mut found: HashMap<Key, RecordedDifference> = HashMap::new();
    let mut input = BufReader::new(partition);
    let mut line = String::new();
    while input.read_line(&mut line)? > 0 {
        let dealt: Dealt = serde_json::from_str(&line)?;
        line.clear();
        let difference = found
            .entry(dealt.key.clone())
            .or_insert_with(|| RecordedDifference {
                key: dealt.key,
                images: vec![RecordedImage::NotListed; nodes].into(),
                pairs: Vec::new(),
            });
        if !difference.pairs.contains(&dealt.pair) {
            difference.pairs.push(dealt.pair);
        }
        // The pair's other node has no such row, unless it is listed too.
        for node in [dealt.pair.0, dealt.pair.1] {
            if matches!(difference.images[node], RecordedImage::NotListed) {
                difference.images[node] = RecordedImage::Absent;
            }
        }
        difference.images[dealt.node] = RecordedImage::Present {
            row: dealt.row,
            commit_ts: dealt.commit_ts,
            origin: dealt.origin,
        };
    }
    Ok(found.into_values().collect())
}
