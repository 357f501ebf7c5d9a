//! What the supervisor asks of a child, and what comes back.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::Message;

use crate::model::Key;
use crate::range::KeyRange;
use crate::side::SideError;

/// What is to be done with a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Find the end of its first block of so many rows, on this node.
    Walk { rows: u64, node: usize },
    /// Compare it.
    Compare,
    /// Its digests differ: read it by row from these nodes, of which no two had the same digest. So many rows were
    /// digested on each node of the job.
    Read { nodes: Vec<usize>, rows: Vec<u64> },
}

/// The block of the table that a range belongs to, by number; `None` for the walk that cuts out the blocks.
pub(super) type Seed = Option<u64>;

/// A range and what is to be done with it.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<RangeOutcome, ChildLost>")]
pub(super) struct RangeTask {
    pub(super) seed: Seed,
    pub(super) work: Work,
    pub(super) range: KeyRange,
    /// How often it was tried before.
    pub(super) attempt: u32,
    /// How far its differences have been handed over, so that none is reported twice when it is tried again.
    pub(super) reported: Reported,
}

/// The last key, in the order of bytes, up to which a range's differences have been handed over. It survives the child
/// that was at it.
#[derive(Clone, Debug, Default)]
pub(super) struct Reported(Arc<Mutex<Option<Key>>>);

impl Reported {
    pub(super) fn through(&self) -> Option<Key> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn advance(&self, key: &Key) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(key.clone());
    }

    /// The same place, for a range cut out of this one: from here on each goes its own way.
    pub(super) fn fork(&self) -> Self {
        Self(Arc::new(Mutex::new(self.through())))
    }
}

/// What became of a range.
#[derive(Debug)]
pub(super) enum RangeOutcome {
    /// The walk found the end of a block, or that the rest is one.
    Walked { block: KeyRange, rest: Option<KeyRange> },
    /// All nodes have the same rows.
    Match { rows: Vec<u64>, took: Duration },
    /// The nodes' rows differed; each row was looked at and handed over if it still does.
    Compared { rows: Vec<u64>, suspects: u64 },
    /// It is too large to be compared as one, or differs and is large: these parts of it are left to be done.
    Split {
        parts: Vec<(Work, KeyRange)>,
        /// Rows of each node that are done.
        agreed: Vec<u64>,
        mismatch: bool,
    },
    /// A node did not answer.
    Failed(SideError),
    /// The job was cancelled or has enough.
    Stopped,
}

/// The child's pump ended without an outcome: it panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChildLost;
