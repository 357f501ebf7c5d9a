//! Where a comparison begins: at the first key, or where earlier runs have left off.

use std::collections::VecDeque;

use tokio::sync::watch;

use crate::journal::{Gap, Prior};
use crate::range::{KeyRange, Partition};
use crate::throttle::Board;

use super::collector::Outlet;
use super::state::DiffState;

/// Where the work begins.
pub(super) struct Opening {
    /// What is to be cut into blocks, in the order of keys.
    pub(super) gaps: VecDeque<Gap>,
    /// What is done already.
    pub(super) state: DiffState,
    pub(super) settled: u64,
    /// The way to the journal, if there is one.
    pub(super) journal: Option<Outlet>,
    /// When to wait.
    pub(super) throttle: Option<watch::Receiver<Board>>,
}

impl Opening {
    /// With what earlier runs have established; everything, if there were none.
    pub(super) fn of(prior: &Prior, nodes: usize, partitions: &[Partition], journal: Option<Outlet>) -> Self {
        let mut rows = prior.rows.clone();
        rows.resize(nodes, 0);
        let gaps: VecDeque<Gap> = if prior.sittings.is_empty() {
            let whole = |range| Gap { index: 0, range };
            KeyRange::all_of(partitions).into_iter().map(whole).collect()
        } else {
            prior.gaps.clone().into()
        };
        let state = DiffState {
            rows,
            ranges: prior.ranges,
            ranges_done: prior.ranges - prior.left_out,
            ranges_before: prior.ranges,
            mismatched_ranges: prior.mismatched,
            skipped: prior.left_out,
            walked: gaps.is_empty(),
            ..DiffState::default()
        };
        Self {
            gaps,
            state,
            settled: prior.settled(),
            journal,
            throttle: None,
        }
    }
}
