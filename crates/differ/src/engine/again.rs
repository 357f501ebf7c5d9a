//! Looking again at known keys only: the last step of a comparison without the first ones.

use std::sync::Arc;

use futures_util::future::{BoxFuture, join_all, try_join_all};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::model::{DifferenceSink, JobSummary, Key, NodeSummary, SinkError, UnknownRange, Verdict};
use crate::range::KeyRange;
use crate::side::{Canceller, Session, SideError};

use super::collector::{Outlet, Records, SharedTally, collect};
use super::ghost::Ghosts;
use super::job::{DiffSubject, header};
use super::judge::Judge;
use super::settings::DiffSettings;
use super::settle::{BatchSize, NamedKeys, Settling, Unfinished};

/// Keys read from their source at once.
const KEYS: usize = 1000;

/// Where the keys come from. There may be millions: they are asked for as they are needed.
pub trait KeySource: Send {
    /// What reading can fail with.
    type Error: Send;

    /// At most so many more keys; none after the last.
    ///
    /// # Errors
    /// The source cannot be read; the job then has no summary.
    fn next_keys(&mut self, most: usize) -> BoxFuture<'_, Result<Vec<Key>, Self::Error>>;

    /// What else keeps a job over these keys from being able to say that nothing differs, asked for after the last key.
    fn shortfall(&self) -> Option<String>;
}

/// A look at known keys that ended without a summary.
#[derive(Debug, thiserror::Error)]
pub enum LookError<E> {
    /// The keys could not be read.
    #[error(transparent)]
    Keys(E),
    /// The report could not be written.
    #[error(transparent)]
    Sink(#[from] SinkError),
}

/// Reads the rows under these keys on all nodes, looks again at those that differ, as a whole comparison does, and
/// hands what is found to `sink`.
///
/// The verdict is about these keys only. It is [`Verdict::Match`] if every one of them was read on every node and none
/// differs. Cancelled, the rest is unknown, and statements under way are ended on the servers.
///
/// # Errors
/// [`LookError`]. What happens to a node is in the summary.
pub async fn look_at_keys<K: KeySource>(
    subject: &DiffSubject,
    settings: &DiffSettings,
    keys: &mut K,
    mut sink: Box<dyn DifferenceSink>,
    cancel: &CancellationToken,
) -> Result<JobSummary, LookError<K::Error>> {
    let header = header(subject, settings);
    sink.begin(&header).await?;
    let tally = SharedTally::default();
    let (outlet, findings) = Outlet::new(settings.row_budget);
    let stop = cancel.child_token();
    let collecting = tokio::spawn(collect(
        findings,
        Records { sink, journal: None },
        tally.clone(),
        settings.stop_after,
        stop.clone(),
    ));
    let judge = Judge {
        nodes: header.nodes.clone(),
        until: settings.until,
        against_origin: settings.against_origin.clone(),
    };
    let batch = BatchSize::new(settings.row_budget);
    let settling = Settling {
        shape: &subject.shape,
        recheck: settings.recheck,
        judge: &judge,
        outlet: &outlet,
        tally: &tally,
        batch: &batch,
        named: NamedKeys::default(),
        ghosts: Ghosts::default(),
    };
    let looked = look(subject, &settling, keys, &stop).await;
    drop(outlet);
    let Ok(collected) = collecting.await else {
        return Err(LookError::Sink(SinkError {
            message: "its writer is gone".into(),
            source: None,
        }));
    };
    let mut sink = collected?.sink;
    let looked = looked.map_err(LookError::Keys)?;
    let shortfall = keys.shortfall();
    let mut summary = summary(subject, settings, &tally, looked, shortfall);
    summary.cancelled = cancel.is_cancelled() && summary.unknown > 0;
    sink.finish(&summary).await?;
    Ok(summary)
}

/// How far it came.
struct Looked {
    keys: u64,
    /// Why not to the end.
    unknown: Option<String>,
}

async fn look<K: KeySource>(
    subject: &DiffSubject,
    settling: &Settling<'_>,
    keys: &mut K,
    stop: &CancellationToken,
) -> Result<Looked, K::Error> {
    let mut looked = Looked {
        keys: 0,
        unknown: None,
    };
    let mut sessions = match connect(subject).await {
        Ok(sessions) => sessions,
        Err(error) => {
            looked.unknown = Some(error.to_string());
            return Ok(looked);
        }
    };
    let cancellers: Vec<Arc<dyn Canceller>> = sessions.iter().map(|session| session.canceller()).collect();
    loop {
        let mut batch = keys.next_keys(KEYS).await?;
        if batch.is_empty() {
            return Ok(looked);
        }
        batch.sort_unstable();
        batch.dedup();
        let ended = tokio::select! {
            ended = settling.settle(&mut sessions, &batch, |_| ()) => ended,
            () = stop.cancelled() => {
                drop(sessions);
                join_all(cancellers.iter().map(|canceller| canceller.cancel())).await;
                looked.unknown = Some("it was stopped".into());
                return Ok(looked);
            }
        };
        match ended {
            Ok(()) => looked.keys += batch.len() as u64,
            Err(Unfinished::Side(error)) => {
                looked.unknown = Some(error.to_string());
                return Ok(looked);
            }
            Err(Unfinished::Closed) => {
                looked.unknown = Some("there are as many differences as were wanted".into());
                return Ok(looked);
            }
        }
    }
}

async fn connect(subject: &DiffSubject) -> Result<Vec<Box<dyn Session>>, SideError> {
    try_join_all(subject.sides.iter().map(|side| side.connect())).await
}

fn summary(
    subject: &DiffSubject,
    settings: &DiffSettings,
    tally: &SharedTally,
    looked: Looked,
    shortfall: Option<String>,
) -> JobSummary {
    let found = tally.read();
    let mut notes = subject.notes.clone();
    notes.push(format!("only {} known keys were looked at", looked.keys));
    notes.extend(found.note_on_texts());
    notes.extend(shortfall.clone());
    let established = looked.unknown.is_none()
        && shortfall.is_none()
        && found.in_flight == 0
        && found.left_out == 0
        && settings.sample.is_none();
    let verdict = match (found.confirmed, established) {
        (1.., _) => Verdict::Differ,
        (0, true) => Verdict::Match,
        (0, false) => Verdict::Unknown,
    };
    let unknown_ranges: Vec<UnknownRange> = looked
        .unknown
        .into_iter()
        .map(|reason| UnknownRange {
            range: KeyRange::ALL,
            reason,
        })
        .collect();
    let nodes = subject.sides.iter().enumerate().map(|(index, side)| NodeSummary {
        node: side.node().clone(),
        rows: looked.keys,
        missing: found.missing.get(index).copied().unwrap_or(0),
    });
    JobSummary {
        verdict,
        ended: Timestamp::now(),
        nodes: nodes.collect(),
        ranges: 1,
        mismatched_ranges: u64::from(found.confirmed + found.in_flight > 0),
        confirmed: found.confirmed,
        confirmed_by_pair: found
            .confirmed_by_pair
            .iter()
            .map(|(&(a, b), &count)| (a, b, count))
            .collect(),
        in_flight: found.in_flight,
        settled: found.settled,
        unknown: unknown_ranges.len() as u64,
        unknown_ranges,
        limit_reached: found.enough,
        cancelled: false,
        sampled: None,
        notes,
    }
}
