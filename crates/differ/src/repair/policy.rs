//! Which side is right.

use super::plan::Plan;

/// Who decides what a row shall be.
#[derive(Clone, Debug)]
pub enum Policy {
    /// One node is right.
    SourceOfTruth {
        /// Which, by its place among the report's nodes.
        source: usize,
        /// What is done to the others.
        mode: CopyMode,
    },
    /// A row that one node has and another has not is copied there. Rows that both have are left alone.
    Bidirectional,
    /// A value that is NULL on one node and not on the other is taken from the other.
    FixNulls,
    /// A plan decides row by row.
    Plan(Plan),
}

/// What is done to nodes that are not the source of truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyMode {
    /// They become equal to it: rows are inserted, updated and deleted.
    Full,
    /// Rows that they miss are inserted.
    InsertOnly,
    /// Rows are inserted and updated, none is deleted.
    UpsertOnly,
}

impl Policy {
    /// The word for it in reports.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::SourceOfTruth {
                mode: CopyMode::Full, ..
            } => "source_of_truth",
            Self::SourceOfTruth {
                mode: CopyMode::InsertOnly,
                ..
            } => "insert_only",
            Self::SourceOfTruth {
                mode: CopyMode::UpsertOnly,
                ..
            } => "upsert_only",
            Self::Bidirectional => "bidirectional",
            Self::FixNulls => "fix_nulls",
            Self::Plan(_) => "repair_plan",
        }
    }

    /// Whether a node's rows may be written.
    pub(super) fn may_write(&self, node: usize) -> bool {
        !matches!(self, Self::SourceOfTruth { source, .. } if *source == node)
    }
}
