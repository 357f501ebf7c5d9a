//! What is compared and how: known before the first difference.

use changeling_core::ident::TableName;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::node::NodeName;
use super::shape::TableShape;

/// When two values are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// If their texts are: 1.0 is not 1.00, -0 is not 0.
    #[default]
    Exact,
    /// Trailing zeros of a `numeric` and the sign of a floating-point zero do not count. Cells then hold the
    /// normalised text.
    Semantic,
}

/// The head of a report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobHeader {
    /// The nodes, in the order of every difference's images. At least two.
    pub nodes: Vec<NodeName>,
    /// Each node's table; empty in reports of before nodes could have it under different names.
    #[serde(default)]
    pub tables: Vec<TableName>,
    /// The table, under the first node's name.
    pub shape: TableShape,
    /// When values are the same.
    pub comparison: Comparison,
    /// When the job began.
    pub started: Timestamp,
    /// The operator's own predicate, as it was given.
    pub table_filter: Option<String>,
    /// Only differences with a version last written by this origin are reported.
    pub against_origin: Option<String>,
    /// Versions committed later than this are not judged.
    pub until: Option<Timestamp>,
    /// Rows of an ordinary range, at most.
    pub block_size: u64,
    /// Rows of a range that is no longer split.
    pub compare_unit_size: u64,
    /// Children that run at once, at most.
    pub children: u32,
    /// Workers per processor as it was asked for, for reports in the old format.
    pub concurrency_factor: f64,
    /// Confirmed differences after which the job stops looking; 0 for no limit.
    pub max_diff_rows: u64,
}

impl JobHeader {
    /// The table of each node.
    #[must_use]
    pub fn tables(&self) -> Vec<TableName> {
        if self.tables.len() == self.nodes.len() {
            return self.tables.clone();
        }
        vec![self.shape.name.clone(); self.nodes.len()]
    }
}
