//! What a comparison is at, for screens and tests.

use std::sync::Arc;

use serde::Serialize;

use crate::model::UnknownRange;

use super::collector::Tally;

/// What the supervisor says of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DiffState {
    /// Rows compared so far on each node.
    pub rows: Vec<u64>,
    /// Blocks that were cut out of the table.
    pub ranges: u64,
    /// Blocks that are done.
    pub ranges_done: u64,
    /// Blocks that earlier runs had done, which this one does not look at again.
    pub ranges_before: u64,
    /// Blocks that did not match at once.
    pub mismatched_ranges: u64,
    /// Ranges waiting for a child.
    pub pending: usize,
    /// Most that ever waited.
    pub most_pending: usize,
    /// Children that are at work.
    pub running: usize,
    /// Most that ever were.
    pub most_running: usize,
    /// Children that were made, replacements for lost ones among them.
    pub children_made: u64,
    /// Ranges that were tried again.
    pub retries: u64,
    /// Ranges that are unknown.
    pub unknown: u64,
    /// The first of them.
    #[serde(skip)]
    pub unknown_ranges: Vec<UnknownRange>,
    /// Ranges left out because the job is a sample.
    pub skipped: u64,
    /// Whether the whole table was cut into blocks.
    pub walked: bool,
    /// Ranges that were given up because the job was to end.
    pub abandoned: u64,
    /// Why no range is given out now.
    pub throttled: Option<Arc<str>>,
    /// The load for which the job ended itself.
    pub critical: Option<Arc<str>>,
    /// What was found.
    pub found: Tally,
    /// Bytes of findings on their way to the report.
    pub bytes_under_way: usize,
    /// Whether nothing more will be done.
    pub done: bool,
}
