//! Lines of the journal.

use std::io::{self, Write};

use jiff::Timestamp;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::identity::JobIdentity;
use crate::model::Finding;
use crate::range::KeyRange;

/// The only format there is.
pub(super) const FORMAT: u32 = 1;
/// Hexadecimal digits of a checksum, and the space after it.
const CHECK: usize = 9;

/// The first line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) format: u32,
    /// Who wrote it; for people.
    pub(super) tool: String,
    /// The report's file name, without its directory.
    pub(super) report: String,
    pub(super) identity: JobIdentity,
}

/// A block that is done: compared on all nodes and everything in it settled, or left out of a sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct DoneBlock {
    /// Its number within the sitting; numbers follow the order of keys.
    pub(crate) block: u64,
    /// Before which of the joined ranges of earlier sittings it lies; their number if behind all.
    pub(crate) gap: usize,
    pub(crate) range: KeyRange,
    pub(crate) at: Timestamp,
    /// Rows compared on each node.
    pub(crate) rows: Vec<u64>,
    /// Whether it did not match at once.
    pub(crate) mismatch: bool,
    /// Whether it was not looked at, because the job is a sample.
    pub(crate) left_out: bool,
    /// Rows of this sitting, until now, that had differed and did not when looked at again.
    pub(crate) settled: u64,
}

/// A line.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum EntryRef<'a> {
    Head(&'a Head),
    Sitting { began: Timestamp },
    Finding { block: u64, finding: &'a Finding },
    Done(&'a DoneBlock),
}

/// A line that was read; `F` is a finding, or nothing where it is not of interest.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Entry<F> {
    Head(Box<Head>),
    Sitting { began: Timestamp },
    Finding { block: u64, finding: F },
    Done(DoneBlock),
}

/// A line of which only the frame is of interest.
pub(super) type Frame = Entry<IgnoredAny>;

/// A checksum that goes on from line to line, so that a line which is lost, doubled or moved is noticed too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Chain(u32);

impl Chain {
    fn next(self, document: &[u8]) -> Self {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.0.to_le_bytes());
        hasher.update(document);
        Self(hasher.finalize())
    }

    /// Writes a line.
    pub(super) fn write(&mut self, output: &mut impl Write, entry: &EntryRef<'_>) -> io::Result<()> {
        let document = serde_json::to_vec(entry)?;
        *self = self.next(&document);
        write!(output, "{:08x} ", self.0)?;
        output.write_all(&document)?;
        output.write_all(b"\n")
    }

    /// The document of a line, if the line is whole and follows the one before.
    pub(super) fn read<'a>(&mut self, line: &'a [u8]) -> Option<&'a [u8]> {
        let line = line.strip_suffix(b"\n")?;
        let (check, document) = line.split_at_checked(CHECK)?;
        let check = std::str::from_utf8(check).ok()?.strip_suffix(' ')?;
        let next = self.next(document);
        if check != format!("{:08x}", next.0) {
            return None;
        }
        *self = next;
        Some(document)
    }
}
