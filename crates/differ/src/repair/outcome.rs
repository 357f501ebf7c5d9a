//! What a repair did, in numbers.

use serde::Serialize;

use crate::model::NodeName;

/// What was done to one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeOutcome {
    /// The node.
    pub node: NodeName,
    /// Rows inserted.
    pub inserted: u64,
    /// Rows updated.
    pub updated: u64,
    /// Rows deleted.
    pub deleted: u64,
    /// Rows left alone, because they are no longer what the diff recorded or writing them would do more than asked.
    pub skipped: u64,
    /// Rows that the server refused.
    pub failed: u64,
}

/// What a repair did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RepairOutcome {
    /// Whether all of it was rolled back.
    pub dry_run: bool,
    /// Keys in the report.
    pub keys: u64,
    /// Keys of the report under which the nodes are equal by now.
    pub settled: u64,
    /// Keys of the report under which the nodes differ still, because the mode or the plan leaves such rows alone: those
    /// that are there already with `--insert-only`, say. They are no failure.
    pub as_asked: u64,
    /// By node.
    pub nodes: Vec<NodeOutcome>,
    /// Touched keys that were read again at the end; none after a dry run.
    pub rechecked: u64,
    /// Those of them that still are not as they should be.
    pub remaining: u64,
    /// Findings of the report that were in flight and were therefore not touched.
    pub in_flight: u64,
    /// Why the report is not about every row of the table, if it is not: there may be more to repair.
    pub shortfall: Option<String>,
}

impl RepairOutcome {
    pub(super) fn new(nodes: &[NodeName], dry_run: bool) -> Self {
        let node = |node: &NodeName| NodeOutcome {
            node: node.clone(),
            inserted: 0,
            updated: 0,
            deleted: 0,
            skipped: 0,
            failed: 0,
        };
        Self {
            dry_run,
            keys: 0,
            settled: 0,
            as_asked: 0,
            nodes: nodes.iter().map(node).collect(),
            rechecked: 0,
            remaining: 0,
            in_flight: 0,
            shortfall: None,
        }
    }

    /// Rows written on all nodes.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.nodes
            .iter()
            .map(|node| node.inserted + node.updated + node.deleted)
            .sum()
    }

    /// Whether everything that was to be done was done, and is still so.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let left: u64 = self.nodes.iter().map(|node| node.skipped + node.failed).sum();
        left == 0 && self.remaining == 0 && self.in_flight == 0 && self.shortfall.is_none()
    }

    /// The program's exit status: 0 when complete, 1 when something was left.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.is_complete())
    }
}
