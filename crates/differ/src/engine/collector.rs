//! The end of the line: findings go to the report one by one and are counted.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};

use changeling_core::actor::{Credits, Permit};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::journal::{DoneBlock, Keeping};
use crate::model::{DifferenceSink, Finding, Image, SinkError};

use super::task::Seed;

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
    /// Rows that differ and were not asked for, because no version of theirs is of the wanted origin.
    pub left_out: u64,
    /// Findings under keys that are equal by value and not by text.
    pub other_texts: u64,
    /// Whether there are as many as the operator wanted at most.
    pub enough: bool,
}

impl Tally {
    /// What the operator should know about keys that have several texts.
    pub(super) fn note_on_texts(&self) -> Option<String> {
        (self.other_texts > 0).then(|| {
            format!(
                "{} keys are equal by value, not by text (as 1.0 and 1.00 are): each stands in the report as one row, under \
                 the text of the first node that has it",
                self.other_texts
            )
        })
    }

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

    pub(super) fn leave_out(&self) {
        self.change(|tally| tally.left_out += 1);
    }

    pub(super) fn find_other_text(&self) {
        self.change(|tally| tally.other_texts += 1);
    }

    pub(super) fn settle(&self, rows: u64) {
        self.change(|tally| tally.settled += rows);
    }
}

/// What goes the way to the report.
#[derive(Debug)]
pub(super) enum Parcel {
    /// Something was found, in this block.
    Finding(Seed, Finding),
    /// A block is done. Everything that was found in it went before: a child hands its findings over before it
    /// answers, and the supervisor sends this when it has all answers.
    Done(DoneBlock),
}

/// A parcel and what it takes of the window.
pub(super) type Way = mpsc::Receiver<(Parcel, Permit)>;

/// The way to the report. The window is counted in bytes.
#[derive(Clone, Debug)]
pub(super) struct Outlet {
    sender: mpsc::Sender<(Parcel, Permit)>,
    credits: Credits,
    block: Seed,
}

/// The report is closed: it failed, or there is enough in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OutletClosed;

impl Outlet {
    pub(super) fn new(bytes: usize) -> (Self, Way) {
        let (sender, receiver) = mpsc::channel(FINDINGS_UNDER_WAY);
        let credits = Credits::new(FINDINGS_UNDER_WAY, bytes);
        let outlet = Self {
            sender,
            credits,
            block: None,
        };
        (outlet, receiver)
    }

    /// The same way, for what is found in this block.
    pub(super) fn of_block(&self, block: Seed) -> Self {
        Self {
            block,
            ..self.clone()
        }
    }

    /// Waits until it fits. Dropping the future means that it was not handed over.
    pub(super) async fn deliver(&self, finding: Finding) -> Result<(), OutletClosed> {
        let bytes = finding.difference().weight();
        self.send(Parcel::Finding(self.block, finding), bytes).await
    }

    /// Waits until the mark of a finished block is on its way.
    pub(super) async fn mark(&self, done: DoneBlock) -> Result<(), OutletClosed> {
        let bytes = done.range.weight();
        self.send(Parcel::Done(done), bytes).await
    }

    async fn send(&self, parcel: Parcel, bytes: usize) -> Result<(), OutletClosed> {
        let permit = self.credits.acquire(bytes).await;
        self.sender.send((parcel, permit)).await.map_err(|_| OutletClosed)
    }

    /// Bytes under way.
    pub(super) fn bytes(&self) -> usize {
        self.credits.in_flight().1
    }
}

/// Where everything is written.
pub(super) struct Records {
    pub(super) sink: Box<dyn DifferenceSink>,
    pub(super) journal: Option<Keeping>,
}

/// Takes findings until nobody sends any more, or there are enough; then `stop` is cancelled.
///
/// What arrives after that is dropped: it is neither in the report nor counted. A finding is in the journal before the
/// mark of its block, because it comes before.
pub(super) async fn collect(
    mut parcels: Way,
    mut records: Records,
    tally: SharedTally,
    stop_after: Option<NonZeroU64>,
    stop: CancellationToken,
) -> Result<Records, SinkError> {
    // However this ends, nobody shall go on looking for what nobody takes.
    let stop = stop.drop_guard();
    while let Some((parcel, permit)) = parcels.recv().await {
        match parcel {
            Parcel::Done(done) => {
                if let Some(journal) = &mut records.journal {
                    journal.finish(&done).await?;
                }
            }
            Parcel::Finding(block, finding) => {
                if let (Some(journal), Some(block)) = (&mut records.journal, block) {
                    journal.find(block, &finding)?;
                }
                if take(finding, &mut records.sink, &tally, stop_after).await? {
                    return Ok(records);
                }
            }
        }
        drop(permit);
    }
    stop.disarm();
    Ok(records)
}

/// Writes a finding to the report and counts it. True if there are enough now.
pub(super) async fn take(
    finding: Finding,
    sink: &mut Box<dyn DifferenceSink>,
    tally: &SharedTally,
    stop_after: Option<NonZeroU64>,
) -> Result<bool, SinkError> {
    let mut counted = Tally::default();
    counted.count(&finding);
    sink.take(finding).await?;
    Ok(tally.change(|tally| {
        tally.add(counted);
        tally.enough = stop_after.is_some_and(|limit| tally.confirmed >= limit.get());
        tally.enough
    }))
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
