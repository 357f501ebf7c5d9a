//! What is left under a key of which nothing is written, and whether a row is still as old as its record.

use jiff::Timestamp;

use super::decision::{Decider, NodeRow, Skipped};
use super::policy::{CopyMode, Policy};
use crate::report::recorded::RecordedImage;

/// What differs under a key of which nothing shall be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Leftover {
    /// The rows are equal.
    Nothing,
    /// What the mode, or the plan, is told to leave.
    AsAsked,
    /// What should not be left.
    Skipped(Skipped),
}

impl Decider<'_> {
    /// Whether rows are to be copied both ways, and nobody can say which.
    pub(super) fn conflict(&self, pairs: &[(usize, usize)], now: &[Option<NodeRow>]) -> bool {
        let mut there = pairs
            .iter()
            .flat_map(|(a, b)| [*a, *b])
            .filter_map(|node| now[node].as_ref());
        let Some(first) = there.next() else {
            return false;
        };
        matches!(self.policy, Policy::Bidirectional)
            && there.any(|other| !self.same(Some(&first.row), Some(&other.row)))
    }

    /// What differs still, where nothing shall be written.
    pub(super) fn leftover(&self, pairs: &[(usize, usize)], now: &[Option<NodeRow>]) -> Leftover {
        let row = |node: usize| now[node].as_ref().map(|row| &row.row);
        let differing = |(a, b): &&(usize, usize)| !self.same(row(*a), row(*b));
        if let Some((a, b)) = pairs.iter().find(differing) {
            let left = match self.policy {
                Policy::Bidirectional => Some(Skipped::Conflict),
                Policy::SourceOfTruth { source, mode } => {
                    let as_asked = match mode {
                        CopyMode::Full => false,
                        CopyMode::UpsertOnly => row(*source).is_none(),
                        CopyMode::InsertOnly => {
                            row(*source).is_none() || row(*a).is_some() && row(*b).is_some()
                        }
                    };
                    (!as_asked).then_some(Skipped::Unlisted)
                }
                Policy::FixNulls | Policy::Plan(_) => None,
            };
            return left.map_or(Leftover::AsAsked, Leftover::Skipped);
        }
        let mut computed: Vec<String> = Vec::new();
        for (a, b) in pairs {
            let (Some(one), Some(other)) = (row(*a), row(*b)) else {
                continue;
            };
            for (column, (one, other)) in self.shape.columns.iter().zip(one.0.iter().zip(&other.0)) {
                if one != other && !computed.contains(&column.name) {
                    computed.push(column.name.clone());
                }
            }
        }
        if computed.is_empty() {
            Leftover::Nothing
        } else {
            Leftover::Skipped(Skipped::Generated(computed))
        }
    }
}

/// Whether a row is known to have been written after it was recorded.
pub(super) fn is_rewritten(now: Option<&NodeRow>, recorded: &RecordedImage) -> bool {
    let time = |text: Option<&String>| text.and_then(|text| text.parse::<Timestamp>().ok());
    let RecordedImage::Present { commit_ts, .. } = recorded else {
        return false;
    };
    let now = time(now.and_then(|now| now.commit_ts.as_ref()));
    now.zip(time(commit_ts.as_ref()))
        .is_some_and(|(now, then)| now > then)
}

/// Whether a row was written after it was recorded, as far as is known; what is not known counts as yes.
pub(super) fn is_stale(now: Option<&NodeRow>, recorded: &RecordedImage) -> bool {
    let time = |text: Option<&String>| text.and_then(|text| text.parse::<Timestamp>().ok());
    match (now, recorded) {
        // There is no row to be newer.
        (None, RecordedImage::Absent) => false,
        (Some(now), RecordedImage::Present { commit_ts, .. }) => {
            match (time(now.commit_ts.as_ref()), time(commit_ts.as_ref())) {
                (Some(now), Some(then)) => now > then,
                _ => true,
            }
        }
        _ => true,
    }
}
