//! Reading a journal back.

use std::collections::BTreeMap;
use std::io::{self, BufRead};

use jiff::Timestamp;

use super::entry::{Chain, DoneBlock, Entry, Frame, Head};
use super::tiling::{Gap, Tiling};
use crate::model::Finding;

/// What was read of a sitting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sitting {
    pub(crate) began: Timestamp,
    /// When its last block was done.
    pub(crate) last: Option<Timestamp>,
    /// Blocks that it finished.
    pub(crate) ranges: u64,
    settled: u64,
    /// Numbers of finished blocks, first to last.
    finished: BTreeMap<u64, u64>,
}

impl Sitting {
    fn new(began: Timestamp) -> Self {
        Self {
            began,
            last: None,
            ranges: 0,
            settled: 0,
            finished: BTreeMap::new(),
        }
    }

    fn finish(&mut self, done: &DoneBlock) {
        self.last = Some(done.at);
        self.ranges += 1;
        self.settled = self.settled.max(done.settled);
        let (mut first, mut last) = (done.block, done.block);
        if let Some((&before, &end)) = self.finished.range(..first).next_back()
            && end.checked_add(1) == Some(first)
        {
            first = before;
        }
        if let Some(end) = last.checked_add(1).and_then(|next| self.finished.remove(&next)) {
            last = end;
        }
        self.finished.insert(first, last);
    }

    fn has_finished(&self, block: u64) -> bool {
        let before = self.finished.range(..=block).next_back();
        before.is_some_and(|(_, &last)| block <= last)
    }
}

/// What earlier sittings have established. Its size follows how torn the work is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prior {
    pub(crate) sittings: Vec<Sitting>,
    /// What is left, in the order of keys.
    pub(crate) gaps: Vec<Gap>,
    /// Blocks that are done.
    pub(crate) ranges: u64,
    /// Of these, how many did not match at once.
    pub(crate) mismatched: u64,
    /// Of these, how many were left out of a sample.
    pub(crate) left_out: u64,
    /// Rows compared on each node.
    pub(crate) rows: Vec<u64>,
    pub(super) tiling: Tiling,
}

impl Prior {
    /// Rows that had differed and did not when looked at again.
    pub(crate) fn settled(&self) -> u64 {
        self.sittings.iter().map(|sitting| sitting.settled).sum()
    }

    /// For the report: what was compared before. `all` are the ranges of the whole job.
    pub(crate) fn note(&self, all: u64) -> Option<String> {
        let first = self.sittings.iter().find(|sitting| sitting.ranges > 0)?;
        let last = self.sittings.iter().filter_map(|sitting| sitting.last).max()?;
        let runs = self.sittings.iter().filter(|sitting| sitting.ranges > 0).count();
        let runs = match runs {
            1 => "an earlier run".to_owned(),
            runs => format!("{runs} earlier runs"),
        };
        Some(format!(
            "resumed: {} of {all} ranges were compared by {runs}, between {} and {last}, and not again; what has \
             changed in them since is not in this report",
            self.ranges, first.began
        ))
    }

    fn sit(&mut self, began: Timestamp) {
        self.tiling.fold();
        self.sittings.push(Sitting::new(began));
    }

    /// False if it cannot be.
    fn finish(&mut self, done: &DoneBlock) -> bool {
        let Some(sitting) = self.sittings.last_mut() else {
            return false;
        };
        if sitting.has_finished(done.block) || !self.tiling.add(done.gap, done.block, &done.range) {
            return false;
        }
        sitting.finish(done);
        self.ranges += 1;
        self.mismatched += u64::from(done.mismatch);
        self.left_out += u64::from(done.left_out);
        self.rows.resize(self.rows.len().max(done.rows.len()), 0);
        for (sum, rows) in self.rows.iter_mut().zip(&done.rows) {
            *sum += rows;
        }
        true
    }
}

/// A journal that was read.
#[derive(Debug)]
pub(super) struct Scanned {
    pub(super) head: Head,
    pub(super) prior: Prior,
    /// Bytes that count; what follows is what a crash left.
    pub(super) bytes: u64,
    /// For the next line.
    pub(super) chain: Chain,
    /// Lines, or pieces of them, that follow and do not count.
    pub(super) dropped: u64,
}

/// Why a journal cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ScanError {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It has no first line that counts.
    #[error("it is not a journal of a comparison, or not even its first line was written")]
    NoHead,
    /// A line is whole and says what we do not understand.
    #[error("line {line} is not understood ({message}); it may be of another version")]
    Foreign { line: u64, message: String },
}

/// Reads a journal up to the first line that does not count.
pub(super) fn scan(mut input: impl BufRead) -> Result<Scanned, ScanError> {
    let mut chain = Chain::default();
    let (mut text, mut line, mut bytes) = (Vec::new(), 0, 0);
    let mut head = None;
    let mut prior = Prior::default();
    loop {
        text.clear();
        if input.read_until(b'\n', &mut text)? == 0 {
            break;
        }
        line += 1;
        let mut next = chain;
        let Some(document) = next.read(&text) else {
            break;
        };
        let foreign = |message: String| ScanError::Foreign { line, message };
        let entry: Frame = serde_json::from_slice(document).map_err(|error| foreign(error.to_string()))?;
        match (entry, head.is_some()) {
            (Entry::Head(first), false) => {
                prior.tiling = Tiling::of(&first.identity.shape.partitions);
                head = Some(*first);
            }
            (Entry::Sitting { began }, true) => prior.sit(began),
            (Entry::Finding { .. }, true) => {}
            (Entry::Done(done), true) => {
                if !prior.finish(&done) {
                    return Err(foreign(format!("block {} cannot be done there", done.block)));
                }
            }
            _ => return Err(foreign("it does not belong there".into())),
        }
        chain = next;
        bytes += text.len() as u64;
    }
    let head = head.ok_or(ScanError::NoHead)?;
    let mut dropped = u64::from(!text.is_empty());
    while dropped > 0 {
        text.clear();
        if input.read_until(b'\n', &mut text)? == 0 {
            break;
        }
        dropped += 1;
    }
    prior.tiling.fold();
    prior.gaps = prior.tiling.gaps();
    Ok(Scanned {
        head,
        prior,
        bytes,
        chain,
        dropped,
    })
}

/// The differences of finished blocks, one after the other. Those of blocks that were not finished are passed over.
#[derive(Debug)]
pub(super) struct Replay<R> {
    input: R,
    text: Vec<u8>,
    chain: Chain,
    sitting: usize,
}

impl<R: BufRead> Replay<R> {
    /// `input` ends where the journal's [`Scanned::bytes`] do.
    pub(super) fn of(input: R) -> Self {
        Self {
            input,
            text: Vec::new(),
            chain: Chain::default(),
            sitting: 0,
        }
    }

    /// The next; `None` after the last.
    pub(super) fn next(&mut self, prior: &Prior) -> io::Result<Option<Finding>> {
        loop {
            self.text.clear();
            if self.input.read_until(b'\n', &mut self.text)? == 0 {
                return Ok(None);
            }
            let document = self
                .chain
                .read(&self.text)
                .ok_or_else(|| io::Error::other("it changed while it was read"))?;
            match serde_json::from_slice::<Frame>(document)? {
                Entry::Sitting { .. } => self.sitting += 1,
                Entry::Finding { block, .. } => {
                    let finished = self
                        .sitting
                        .checked_sub(1)
                        .and_then(|sitting| prior.sittings.get(sitting))
                        .is_some_and(|sitting| sitting.has_finished(block));
                    if finished && let Entry::Finding { finding, .. } = serde_json::from_slice(document)? {
                        return Ok(Some(finding));
                    }
                }
                Entry::Head(_) | Entry::Done(_) => {}
            }
        }
    }
}
