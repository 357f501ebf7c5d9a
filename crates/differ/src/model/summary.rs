//! What a job did and found, in numbers. Its size does not depend on how much differs.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::node::NodeName;
use super::verdict::Verdict;
use crate::range::KeyRange;

/// What was counted on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSummary {
    /// The node.
    pub node: NodeName,
    /// Rows of it that were compared: counted by the server, not estimated.
    pub rows: u64,
    /// Confirmed differences in which it has no row.
    pub missing: u64,
}

/// A part of the key space about which nothing is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnknownRange {
    /// Which.
    #[serde(flatten)]
    pub range: KeyRange,
    /// Why, in words, with the node's name.
    pub reason: String,
}

/// The foot of a report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobSummary {
    /// The outcome.
    pub verdict: Verdict,
    /// When the job ended.
    pub ended: Timestamp,
    /// Per node, in the job's order.
    pub nodes: Vec<NodeSummary>,
    /// Ranges that were cut out of the table at first.
    pub ranges: u64,
    /// Of these, how many did not match at once.
    pub mismatched_ranges: u64,
    /// Confirmed differences: keys, not pairs of nodes.
    pub confirmed: u64,
    /// Confirmed differences by pair of nodes, for each pair `(a, b)` with `a < b` in the job's order that has any.
    pub confirmed_by_pair: Vec<(usize, usize, u64)>,
    /// Rows in flight.
    pub in_flight: u64,
    /// Rows that differed when first seen and were the same when looked at again.
    pub settled: u64,
    /// How many ranges are unknown.
    pub unknown: u64,
    /// The first of them; no more than [`JobSummary::SHOWN_UNKNOWN`].
    pub unknown_ranges: Vec<UnknownRange>,
    /// Whether the job stopped early because of `--max-diff-rows` or `--fail-fast`.
    pub limit_reached: bool,
    /// Whether the job was cancelled before it had come to an end: what it had not compared then is unknown.
    #[serde(default)]
    pub cancelled: bool,
    /// The share of ranges that was looked at, if it was a sample; such a job never says `match`.
    pub sampled: Option<f64>,
    /// What the operator should know: types that differ, a slower way that had to be taken.
    pub notes: Vec<String>,
}

impl JobSummary {
    /// Why the job was not about every row of the table, if it was not.
    #[must_use]
    pub fn shortfall(&self) -> Option<String> {
        if self.cancelled {
            return Some("the report is of a comparison that was cancelled; there may be more".into());
        }
        if self.unknown > 0 {
            return Some(format!(
                "the report left {} ranges of the table unknown",
                self.unknown
            ));
        }
        if self.limit_reached {
            return Some("the report ends at its limit of differences; there may be more".into());
        }
        self.sampled
            .map(|_| "the report is about a sample of the table".into())
    }

    /// Unknown ranges that are listed one by one: enough to see a pattern, few enough for a screen.
    pub const SHOWN_UNKNOWN: usize = 100;
}
