//! A whole comparison, from sides to a summary.

use std::num::NonZeroU64;
use std::sync::Arc;

use changeling_core::actor::ActorHost;
use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::journal::Journal;
use crate::model::{
    Comparison, DifferenceSink, JobHeader, JobSummary, NodeSummary, SinkError, TableShape, UnknownRange,
    Verdict,
};
use crate::range::KeyRange;
use crate::side::Side;
use crate::throttle::Throttle;

use super::child::DiffChild;
use super::collector::{Outlet, Records, SharedTally, collect, take};
use super::errand::Errands;
use super::judge::Judge;
use super::opening::Opening;
use super::settings::DiffSettings;
use super::settle::BatchSize;
use super::state::DiffState;
use super::supervisor::{DiffSupervisor, Staffing};

/// What is compared.
pub struct DiffSubject {
    /// The nodes, at least two, agreed on the shape.
    pub sides: Vec<Arc<dyn Side>>,
    /// The table.
    pub shape: TableShape,
    /// When values are the same.
    pub comparison: Comparison,
    /// The operator's own predicate, which the sides already apply.
    pub table_filter: Option<String>,
    /// Workers per processor as it was asked for; for reports in the old format only.
    pub concurrency_factor: f64,
    /// What the operator should know.
    pub notes: Vec<String>,
}

/// What a comparison may have beside what it needs.
#[derive(Debug, Default)]
pub struct Care {
    /// What was done before, and is kept of what is done now.
    pub journal: Option<Journal>,
    /// When to wait.
    pub throttle: Option<Throttle>,
}

/// A comparison that ended without a summary.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The report could not be written.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The actors' thread is gone.
    #[error("the comparison ended before it was done: its thread is gone")]
    HostGone,
}

/// A comparison under way. Dropping it cancels the job.
pub struct DiffJob {
    state: watch::Receiver<DiffState>,
    cancel: CancellationToken,
    host: ActorHost,
    run: tokio::task::JoinHandle<Result<JobSummary, JobError>>,
}

impl DiffJob {
    /// Starts comparing.
    #[must_use]
    pub fn start(
        host: &ActorHost,
        subject: DiffSubject,
        settings: DiffSettings,
        sink: Box<dyn DifferenceSink>,
        cancel: CancellationToken,
    ) -> Self {
        Self::start_with(host, subject, settings, sink, Care::default(), cancel)
    }

    /// Starts comparing with a journal, or goes on where an earlier run has left off: what the journal says is done is
    /// not compared again, and what was found there is handed to `sink` first. From then on the journal is kept.
    ///
    /// While the throttle has a reason no range is given out; a critical load ends the job as if it were cancelled.
    #[must_use]
    pub fn start_with(
        host: &ActorHost,
        subject: DiffSubject,
        settings: DiffSettings,
        sink: Box<dyn DifferenceSink>,
        care: Care,
        cancel: CancellationToken,
    ) -> Self {
        let (report, state) = watch::channel(DiffState::default());
        let run = host.handle().spawn(run(
            host.clone(),
            subject,
            settings,
            (sink, care),
            cancel.clone(),
            report,
        ));
        Self {
            state,
            cancel,
            host: host.clone(),
            run,
        }
    }

    /// What it is at. Changes whenever a range was given out or has come back.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<DiffState> {
        self.state.clone()
    }

    /// Asks it to end: statements under way are cancelled on the servers, and what was not compared is unknown.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// The report could not be written, or the host was stopped. Anything that happens to a node is in the summary.
    pub async fn finished(mut self) -> Result<JobSummary, JobError> {
        let ended = (&mut self.run).await;
        ended.unwrap_or(Err(JobError::HostGone))
    }
}

impl Drop for DiffJob {
    fn drop(&mut self) {
        self.cancel.cancel();
        // Kept until here, so that children can be made as long as the job runs.
        let _ = &self.host;
    }
}

async fn run(
    host: ActorHost,
    subject: DiffSubject,
    settings: DiffSettings,
    (mut sink, care): (Box<dyn DifferenceSink>, Care),
    cancel: CancellationToken,
    report: watch::Sender<DiffState>,
) -> Result<JobSummary, JobError> {
    // The throttle reads on as long as it is kept: until the end.
    let Care { journal, throttle } = care;
    let mut header = header(&subject, &settings);
    let earlier = journal.as_ref().map(Journal::prior).cloned().unwrap_or_default();
    if let Some(first) = earlier.sittings.first() {
        header.started = first.began;
    }
    sink.begin(&header).await?;
    // The operator's token says "cancelled"; this one also says "enough".
    let stop = cancel.child_token();
    let tally = SharedTally::default();
    tally.settle(earlier.settled());
    if let Some(journal) = &journal {
        replay(journal, &mut sink, &tally, settings.stop_after, &stop).await?;
    }
    let (outlet, findings) = Outlet::new(settings.row_budget);
    let keeps_journal = journal.is_some();
    let records = Records {
        sink,
        journal: journal.map(Journal::keep),
    };
    let collecting = host.handle().spawn(collect(
        findings,
        records,
        tally.clone(),
        settings.stop_after,
        stop.clone(),
    ));
    let mut opening = Opening::of(
        &earlier,
        subject.sides.len(),
        &subject.shape.partitions,
        keeps_journal.then(|| outlet.clone()),
    );
    opening.throttle = throttle.as_ref().map(Throttle::board);
    let last = supervise(
        &host, &subject, &settings, &header, outlet, &tally, &stop, opening, report,
    )
    .await;
    // Its senders are gone with the children, so it ends when it has taken what was under way.
    let collected = collecting.await.map_err(|_| JobError::HostGone)?;
    let Records { mut sink, journal } = collected?;
    if let Some(journal) = journal {
        journal.close().await?;
    }
    let mut state = last?;
    drop(throttle);
    if !stop.is_cancelled() {
        for reason in not_all(&subject.sides).await {
            state.unknown += 1;
            let range = KeyRange::ALL;
            state.unknown_ranges.push(UnknownRange { range, reason });
        }
    }
    state.found = tally.read();
    let mut summary = summary(&subject, &settings, &state, Ended::of(&state, &cancel));
    summary.notes.extend(earlier.note(summary.ranges));
    sink.finish(&summary).await?;
    Ok(summary)
}

/// Why what was compared is not all that there is now, node by node. A node that cannot be asked is not known to be as it was.
async fn not_all(sides: &[Arc<dyn Side>]) -> Vec<String> {
    let asked = join_all(sides.iter().map(|side| side.is_still_all())).await;
    asked
        .into_iter()
        .filter_map(|answer| answer.unwrap_or_else(|error| Some(error.to_string())))
        .collect()
}

/// Tells the report what was found before. Looks up now and then, so that other work and a wish to end come through.
async fn replay(
    journal: &Journal,
    sink: &mut Box<dyn DifferenceSink>,
    tally: &SharedTally,
    stop_after: Option<NonZeroU64>,
    stop: &CancellationToken,
) -> Result<(), SinkError> {
    const AT_ONCE: u32 = 64;
    let mut findings = journal.findings()?;
    loop {
        for _ in 0..AT_ONCE {
            let Some(finding) = findings.next()? else {
                return Ok(());
            };
            if take(finding, sink, tally, stop_after).await? {
                stop.cancel();
                return Ok(());
            }
        }
        tokio::task::yield_now().await;
        if stop.is_cancelled() {
            return Ok(());
        }
    }
}

#[allow(clippy::too_many_arguments)]
async fn supervise(
    host: &ActorHost,
    subject: &DiffSubject,
    settings: &DiffSettings,
    header: &JobHeader,
    outlet: Outlet,
    tally: &SharedTally,
    stop: &CancellationToken,
    opening: Opening,
    report: watch::Sender<DiffState>,
) -> Result<DiffState, JobError> {
    let under_way = outlet.clone();
    let errands = Arc::new(Errands {
        sides: subject.sides.clone(),
        shape: subject.shape.clone(),
        block_size: settings.block_size.get(),
        unit: settings.compare_unit_size.get(),
        recheck: settings.recheck,
        judge: Judge {
            nodes: header.nodes.clone(),
            until: settings.until,
            against_origin: settings.against_origin.clone(),
        },
        outlet,
        tally: tally.clone(),
        // Each child may hold a batch of its own, beside what is under way.
        batch: BatchSize::new(settings.row_budget / settings.children.get() as usize),
    });
    let mut ended = report.subscribe();
    let children = host.clone();
    let token = stop.clone();
    let staffing = Staffing {
        settings: settings.clone(),
        walker: walker(&subject.sides),
        make_child: Box::new(move || {
            let (errands, pumps, token) = (Arc::clone(&errands), children.pumps().clone(), token.clone());
            children.spawn(move |_| DiffChild::new(errands, pumps, token))
        }),
        cancel: stop.clone(),
        tally: tally.clone(),
        bytes_under_way: Box::new(move || under_way.bytes()),
        opening,
        report,
    };
    let supervisor = host.spawn(move |_| DiffSupervisor::new(staffing));
    let last = ended.wait_for(|state| state.done).await;
    let last = last.map(|state| state.clone()).map_err(|_| JobError::HostGone);
    drop(supervisor);
    last
}

/// The node that has most rows, as far as its planner knows: its keys cut best.
fn walker(sides: &[Arc<dyn Side>]) -> usize {
    let mut best = 0;
    for (node, side) in sides.iter().enumerate() {
        if side.estimate() > sides[best].estimate() {
            best = node;
        }
    }
    best
}

pub(super) fn header(subject: &DiffSubject, settings: &DiffSettings) -> JobHeader {
    JobHeader {
        nodes: subject.sides.iter().map(|side| side.node().clone()).collect(),
        tables: subject.sides.iter().map(|side| side.table().clone()).collect(),
        shape: subject.shape.clone(),
        comparison: subject.comparison,
        started: Timestamp::now(),
        table_filter: subject.table_filter.clone(),
        against_origin: settings.against_origin.clone(),
        until: settings.until,
        block_size: settings.block_size.get(),
        compare_unit_size: settings.compare_unit_size.get(),
        children: settings.children.get(),
        concurrency_factor: subject.concurrency_factor,
        max_diff_rows: settings.stop_after.map_or(0, NonZeroU64::get),
    }
}

/// Why nothing more is done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Every range has an outcome.
    Exhausted,
    /// There were as many differences as wanted.
    Enough,
    /// It was asked to end.
    Cancelled,
}

impl Ended {
    fn of(state: &DiffState, cancel: &CancellationToken) -> Self {
        if state.found.enough {
            Self::Enough
        } else if cancel.is_cancelled() || state.critical.is_some() {
            Self::Cancelled
        } else {
            Self::Exhausted
        }
    }
}

fn summary(subject: &DiffSubject, settings: &DiffSettings, state: &DiffState, ended: Ended) -> JobSummary {
    let found = &state.found;
    let mut notes = subject.notes.clone();
    if ended == Ended::Cancelled {
        notes.push("cancelled: ranges that were not compared are unknown".into());
    }
    if let (Some(origin), 1..) = (&settings.against_origin, found.left_out) {
        notes.push(format!(
            "{} rows differ and have no version of origin {origin}; they are not reported",
            found.left_out
        ));
    }
    notes.extend(found.note_on_texts());
    notes.extend(state.critical.as_deref().map(str::to_owned));
    let nodes = subject.sides.iter().enumerate().map(|(index, side)| NodeSummary {
        node: side.node().clone(),
        rows: state.rows.get(index).copied().unwrap_or(0),
        missing: found.missing.get(index).copied().unwrap_or(0),
    });
    JobSummary {
        verdict: verdict(settings, state, ended),
        ended: Timestamp::now(),
        nodes: nodes.collect(),
        ranges: state.ranges,
        mismatched_ranges: state.mismatched_ranges,
        confirmed: found.confirmed,
        confirmed_by_pair: found
            .confirmed_by_pair
            .iter()
            .map(|(&(a, b), &count)| (a, b, count))
            .collect(),
        in_flight: found.in_flight,
        settled: found.settled,
        unknown: state.unknown,
        unknown_ranges: state.unknown_ranges.clone(),
        limit_reached: ended == Ended::Enough,
        cancelled: ended == Ended::Cancelled,
        sampled: settings.sample,
        notes,
    }
}

/// `Match` only if the walk came to its end, every block that it cut out was compared, and nothing is in flight.
fn verdict(settings: &DiffSettings, state: &DiffState, ended: Ended) -> Verdict {
    if state.found.confirmed > 0 {
        return Verdict::Differ;
    }
    let established = ended == Ended::Exhausted
        && state.walked
        && state.abandoned == 0
        && state.unknown == 0
        && state.found.in_flight == 0
        && state.skipped == 0
        && settings.sample.is_none()
        && asked_for_all(settings, state)
        && state.ranges > 0
        && state.ranges == state.ranges_done;
    if established {
        Verdict::Match
    } else {
        Verdict::Unknown
    }
}

/// Whether nothing that differs was left out as not asked for. A run that goes on from a journal does not know what the
/// one before has left out.
fn asked_for_all(settings: &DiffSettings, state: &DiffState) -> bool {
    settings.against_origin.is_none() || (state.found.left_out == 0 && state.ranges_before == 0)
}
