//! The end of the line: findings go to the report one by one and are counted.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};

use changeling_core::actor::{Credits, Permit};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::model::{DifferenceSink, Finding, Image, SinkError};

/// Findings under way at once: they are bounded by bytes, so this only has to be more than the children.
const FINDINGS_UNDER_WAY: usize = 64;

/// What was found so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Confirmed differences.
    pub confirmed: u64,
    /// The same by pair of nodes that differ.
    pub confirmed_by_pair: BTreeMap<(usize, usize), u64>,
    /// Confirmed differences in which a node has no row, by node.
    pub missing: Vec<u64>,
    /// Rows in flight.
    pub in_flight: u64,
    /// Rows that had differed and did not when looked at again.
    pub settled: u64,
    /// Whether there are as many as the operator wanted at most.
    pub enough: bool,
}

impl Tally {
    fn count(&mut self, finding: &Finding) {
        let difference = match finding {
            Finding::InFlight(..) => {
                self.in_flight += 1;
                return;
            }
            Finding::Confirmed(difference) => difference,
        };
        self.confirmed += 1;
        for (a, b, _) in difference.pairs() {
            *self.confirmed_by_pair.entry((a, b)).or_default() += 1;
        }
        self.missing.resize(difference.images.len(), 0);
        for (missing, image) in self.missing.iter_mut().zip(&difference.images) {
            *missing += u64::from(matches!(image, Image::Absent));
        }
    }
}

/// What was found so far, shared.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedTally(Arc<Mutex<Tally>>);

impl SharedTally {
    pub(super) fn read(&self) -> Tally {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change<T>(&self, change: impl FnOnce(&mut Tally) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn settle(&self, rows: u64) {
        self.change(|tally| tally.settled += rows);
    }
}

/// The way to the report. The window is counted in bytes.
#[derive(Clone, Debug)]
pub(super) struct Outlet {
    sender: mpsc::Sender<(Finding, Permit)>,
    credits: Credits,
}

/// The report is closed: it failed, or there is enough in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OutletClosed;

impl Outlet {
    pub(super) fn new(bytes: usize) -> (Self, mpsc::Receiver<(Finding, Permit)>) {
        let (sender, receiver) = mpsc::channel(FINDINGS_UNDER_WAY);
        let credits = Credits::new(FINDINGS_UNDER_WAY, bytes);
        (Self { sender, credits }, receiver)
    }

    /// Waits until it fits. Dropping the future means that it was not handed over.
    pub(super) async fn deliver(&self, finding: Finding) -> Result<(), OutletClosed> {
        let permit = self.credits.acquire(finding.difference().weight()).await;
        self.sender
            .send((finding, permit))
            .await
            .map_err(|_| OutletClosed)
    }

    /// Bytes under way.
    pub(super) fn bytes(&self) -> usize {
        self.credits.in_flight().1
    }
}

/// Takes findings until nobody sends any more, or there are enough; then `stop` is cancelled.
///
/// What arrives after that is dropped: it is neither in the report nor counted.
pub(super) async fn collect(
    mut findings: mpsc::Receiver<(Finding, Permit)>,
    mut sink: Box<dyn DifferenceSink>,
    tally: SharedTally,
    stop_after: Option<NonZeroU64>,
    stop: CancellationToken,
) -> Result<Box<dyn DifferenceSink>, SinkError> {
    while let Some((finding, permit)) = findings.recv().await {
        let mut counted = Tally::default();
        counted.count(&finding);
        if let Err(error) = sink.take(finding).await {
            stop.cancel();
            return Err(error);
        }
        drop(permit);
        let enough = tally.change(|tally| {
            tally.add(counted);
            tally.enough = stop_after.is_some_and(|limit| tally.confirmed >= limit.get());
            tally.enough
        });
        if enough {
            stop.cancel();
            break;
        }
    }
    Ok(sink)
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.confirmed += other.confirmed;
        self.in_flight += other.in_flight;
        for (pair, count) in other.confirmed_by_pair {
            *self.confirmed_by_pair.entry(pair).or_default() += count;
        }
        let nodes = self.missing.len().max(other.missing.len());
        self.missing.resize(nodes, 0);
        for (sum, missing) in self.missing.iter_mut().zip(other.missing) {
            *sum += missing;
        }
    }
}
