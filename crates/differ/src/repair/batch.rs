//! Batch by batch, then what had to wait, then the look back.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::decision::{Decider, NodeRow, Skipped, Wants, Wording};
use super::journal::{Entry, Event, RepairLog};
use super::leftover::{Leftover, is_rewritten, is_stale};
use super::plan::StaleRepairs;
use super::postgres::origin_name;
use super::runner::{Apply, OriginKeeping, RepairOptions};
use super::target::{Ending, Locking, Target};
use super::touched::Touched;
use super::words::{Recorded, whole};
use super::writing::{Fate, Hope, Item, Operation, write};
use super::{RepairError, RepairOutcome};
use crate::model::{Cell, Key, Row};
use crate::report::recorded::{RecordedDifference, RecordedImage, RecordedReport};
use crate::side::{SideError, SideErrorKind};

/// Keys of a batch: locked together, committed together. Small, for the application waits for them.
pub(super) const BATCH_KEYS: usize = 250;

/// Bytes of a batch's recorded rows.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// A batch that met a deadlock, or a lock held too long, is tried so often.
const ATTEMPTS: u32 = 4;

/// Before a batch is tried again, times the number of the attempt.
const PAUSE: Duration = Duration::from_millis(200);

/// Differences that may wait for other rows to be written; whoever comes later has failed. They are tried all at once,
/// for rows that refer to each other can only be written together, and are held in memory for it.
const MAX_WAITING: usize = 20_000;

/// Bytes of these.
const MAX_WAITING_BYTES: usize = 32 * 1024 * 1024;

pub(super) fn cancelled(cancel: &CancellationToken) -> Result<(), RepairError> {
    if cancel.is_cancelled() {
        return Err(RepairError::Refused(
            "the repair was cancelled; what it had committed stays".into(),
        ));
    }
    Ok(())
}

pub(super) struct Run<'a> {
    pub(super) decider: Decider<'a>,
    pub(super) outcome: RepairOutcome,
    pub(super) touched: Touched,
    pub(super) waiting: Vec<RecordedDifference>,
    pub(super) waiting_bytes: usize,
    pub(super) positions: Vec<Option<usize>>,
    pub(super) targets: &'a mut [Box<dyn Target>],
    pub(super) options: &'a RepairOptions,
    pub(super) log: &'a mut dyn RepairLog,
}

/// What may be tried again, and why it was not written.
type Again = (RecordedDifference, (usize, Item, Fate));

/// What a batch did, told once it is committed.
#[derive(Default)]
struct Told {
    settled: u64,
    /// Keys that differ and that the mode, or the plan, leaves alone.
    as_asked: u64,
    items: Vec<(usize, Item, Fate)>,
    touched: Vec<usize>,
}

impl Run<'_> {
    pub(super) async fn all(
        &mut self,
        report: &mut RecordedReport,
        cancel: &CancellationToken,
    ) -> Result<(), RepairError> {
        report.rewind()?;
        let keys = match self.options.origin {
            OriginKeeping::Local => BATCH_KEYS,
            OriginKeeping::Preserve => 1,
        };
        loop {
            cancelled(cancel)?;
            let mut batch = Vec::new();
            let mut bytes = 0;
            while batch.len() < keys && bytes < BATCH_BYTES {
                let Some(difference) = report.next_difference()? else {
                    break;
                };
                bytes += weight(&difference);
                batch.push(difference);
            }
            if batch.is_empty() {
                self.outcome.shortfall = report.shortfall();
                return Ok(());
            }
            self.outcome.keys += batch.len() as u64;
            let waiting = self.batch(batch).await?;
            for (difference, item) in waiting {
                let bytes = self.waiting_bytes + weight(&difference);
                if self.waiting.len() < MAX_WAITING && bytes < MAX_WAITING_BYTES {
                    self.waiting_bytes = bytes;
                    self.waiting.push(difference);
                } else {
                    self.tell(item)?;
                }
            }
        }
    }

    /// Rows that the server refused for other rows' sake, as long as there is progress.
    pub(super) async fn those_that_wait(&mut self, cancel: &CancellationToken) -> Result<(), RepairError> {
        let mut batch = distinct(std::mem::take(&mut self.waiting));
        while !batch.is_empty() {
            cancelled(cancel)?;
            let before = (batch.len(), self.outcome.written());
            let still = match self.options.origin {
                OriginKeeping::Local => self.batch(batch).await?,
                // Each row carries its own origin: it is a transaction of its own here, too.
                OriginKeeping::Preserve => self.one_by_one(batch).await?,
            };
            let (differences, items): (Vec<_>, Vec<_>) = still.into_iter().unzip();
            batch = distinct(differences);
            // What a dry run writes is not there when the others are tried again.
            let wrote = self.options.apply == Apply::Commit && self.outcome.written() > before.1;
            if batch.len() == before.0 && !wrote {
                return items.into_iter().try_for_each(|item| self.tell(item));
            }
        }
        Ok(())
    }

    async fn one_by_one(&mut self, differences: Vec<RecordedDifference>) -> Result<Vec<Again>, RepairError> {
        let mut still = Vec::new();
        for difference in differences {
            still.extend(self.batch(vec![difference]).await?);
        }
        Ok(still)
    }

    /// One batch, committed. Gives back what may be tried again, with its failure.
    async fn batch(&mut self, batch: Vec<RecordedDifference>) -> Result<Vec<Again>, RepairError> {
        let mut attempt = 1;
        let told = loop {
            match self.try_batch(&batch).await {
                Ok(told) => break told,
                Err(error) if attempt < ATTEMPTS && passing(&error) => {
                    for target in self.targets.iter_mut() {
                        target.end(Ending::Rollback).await?;
                    }
                    tokio::time::sleep(PAUSE * attempt).await;
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        };
        self.outcome.settled += told.settled;
        self.outcome.as_asked += told.as_asked;
        for index in told.touched {
            self.touched.add(&batch[index])?;
        }
        let mut waiting = Vec::new();
        for (node, item, fate) in told.items {
            let again = match &fate {
                Fate::Failed(_, Hope::Later) | Fate::Skipped(Skipped::Referenced(_) | Skipped::Inserted) => {
                    true
                }
                Fate::Failed(_, Hope::None) | Fate::Written | Fate::Skipped(_) => false,
            };
            if again {
                waiting.push((batch[item.index].clone(), (node, item, fate)));
            } else {
                self.tell((node, item, fate))?;
            }
        }
        Ok(waiting)
    }

    async fn try_batch(&mut self, batch: &[RecordedDifference]) -> Result<Told, RepairError> {
        let mut told = Told::default();
        for target in self.targets.iter_mut() {
            target.begin().await?;
        }
        let Recorded {
            rows: recorded,
            unreadable,
        } = Recorded::of(batch, self.targets, &self.positions).await?;
        let keys: Vec<Key> = batch.iter().map(|difference| difference.key.clone()).collect();
        let now = self.read(&keys).await?;
        let mut work: Vec<Vec<Item>> = vec![Vec::new(); self.targets.len()];
        let mut sources: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        for (index, difference) in batch.iter().enumerate() {
            let rows: Vec<Option<NodeRow>> = now.iter().map(|rows| rows[index].clone()).collect();
            let wants = match self.decider.wants(&difference.pairs, &rows) {
                Ok(wants) => wants,
                Err(why) => {
                    told.items
                        .push(self.skip_all(index, difference, Skipped::NoDecision(why.to_string())));
                    continue;
                }
            };
            if wants.iter().all(Option::is_none) {
                match self.decider.leftover(&difference.pairs, &rows) {
                    Leftover::Nothing => told.settled += 1,
                    Leftover::AsAsked => told.as_asked += 1,
                    Leftover::Skipped(why) => told.items.push(self.skip_all(index, difference, why)),
                }
                continue;
            }
            let recorded_rows: Vec<Option<Row>> =
                recorded.iter().map(|rows| whole(rows.get(&index))).collect();
            let same_decision = self.decider.as_recorded(difference, &recorded_rows, &wants);
            for (node, item) in items(&self.decider, index, difference, &wants, &rows) {
                let verdict = match unreadable.get(&(node, index)) {
                    Some(why) => Some(Skipped::Unreadable(why.clone())),
                    None => self.verdict(
                        node,
                        difference,
                        recorded[node].get(&index),
                        &rows,
                        &wants,
                        same_decision,
                    ),
                };
                match verdict {
                    Some(skipped) => told.items.push((node, item, Fate::Skipped(skipped))),
                    None => {
                        if let Some(source) = wants[node].as_ref().and_then(|want| want.source) {
                            sources.insert((node, index), source);
                        }
                        work[node].push(item);
                    }
                }
            }
        }
        for (node, items) in work.into_iter().enumerate() {
            self.write_node(node, items, &sources, &now, &mut told).await?;
        }
        self.end().await?;
        Ok(told)
    }

    /// Ends the batch on all nodes. Once one of them has committed what it wrote nothing is tried again: that would be
    /// taken for settled, and be missing from the report.
    async fn end(&mut self) -> Result<(), SideError> {
        let ending = match self.options.apply {
            Apply::Commit => Ending::Commit,
            Apply::DryRun => Ending::Rollback,
        };
        let policy = self.decider.policy;
        let mut committed = false;
        for (node, target) in self.targets.iter_mut().enumerate() {
            let written = policy.may_write(node) && ending == Ending::Commit;
            match target.end(ending).await {
                Err(error) if written && (committed || error.kind != SideErrorKind::Transient) => {
                    return Err(in_doubt(&error));
                }
                ended => ended?,
            }
            committed |= written;
        }
        Ok(())
    }

    async fn write_node(
        &mut self,
        node: usize,
        items: Vec<Item>,
        sources: &BTreeMap<(usize, usize), usize>,
        now: &[Vec<Option<NodeRow>>],
        told: &mut Told,
    ) -> Result<(), RepairError> {
        if items.is_empty() {
            return Ok(());
        }
        let fates = write(&mut *self.targets[node], &items).await?;
        let wrote = fates.iter().any(|fate| matches!(fate, Fate::Written));
        if wrote && self.options.origin == OriginKeeping::Preserve {
            self.keep_origin(node, &items[0], sources, now).await?;
        }
        for (item, fate) in items.into_iter().zip(fates) {
            if matches!(fate, Fate::Written) && !told.touched.contains(&item.index) {
                told.touched.push(item.index);
            }
            told.items.push((node, item, fate));
        }
        Ok(())
    }

    /// In this mode a batch is one key.
    async fn keep_origin(
        &mut self,
        node: usize,
        item: &Item,
        sources: &BTreeMap<(usize, usize), usize>,
        now: &[Vec<Option<NodeRow>>],
    ) -> Result<(), RepairError> {
        let source = sources.get(&(node, item.index)).copied();
        let row = source.and_then(|source| now[source][item.index].as_ref().map(|row| (source, row)));
        let kept = row.and_then(|(source, row)| {
            let origin = origin_name(row.origin.as_ref()?, self.targets[source].node());
            Some((origin, row.commit_ts.clone()?))
        });
        let kept = kept
            .as_ref()
            .map(|(origin, time)| (origin.as_str(), time.as_str()));
        if item.after.is_some() && source.is_some() && kept.is_none() {
            return Err(RepairError::Refused(format!(
                "{}: it does not keep commit times (track_commit_timestamp is off), so --preserve-origin has none to preserve",
                source.map_or_else(String::new, |source| self.targets[source].node().to_string())
            )));
        }
        self.targets[node].assume_origin(kept).await?;
        Ok(())
    }

    /// Rows as they are now, by node and key. Rows that may be written are locked first; what they are compared with and
    /// copied from is read after that.
    async fn read(&mut self, keys: &[Key]) -> Result<Vec<Vec<Option<NodeRow>>>, RepairError> {
        let policy = self.decider.policy;
        let mut rows = vec![Vec::new(); self.targets.len()];
        for locking in [Locking::ForUpdate, Locking::None] {
            for (node, target) in self.targets.iter_mut().enumerate() {
                if policy.may_write(node) == (locking == Locking::ForUpdate) {
                    rows[node] = target.rows(keys, locking).await?;
                }
            }
        }
        Ok(rows)
    }

    /// Why a row must not be written, if it must not.
    fn verdict(
        &self,
        node: usize,
        difference: &RecordedDifference,
        recorded: Option<&Vec<Option<Cell>>>,
        rows: &[Option<NodeRow>],
        wants: &Wants,
        same_decision: bool,
    ) -> Option<Skipped> {
        let now = rows[node].as_ref();
        if !self
            .decider
            .unchanged(now.map(|now| &now.row), recorded.map(Vec::as_slice))
        {
            return Some(Skipped::Changed);
        }
        if !same_decision {
            return Some(Skipped::OtherDecision);
        }
        let deleted = wants[node].as_ref().is_some_and(|want| want.row.is_none());
        if deleted && !self.decider.shape.ignored.is_empty() && is_rewritten(now, &difference.images[node]) {
            return Some(Skipped::Rewritten);
        }
        let careful = wants[node]
            .as_ref()
            .is_some_and(|want| want.stale == StaleRepairs::Refused);
        (careful && is_stale(now, &difference.images[node])).then_some(Skipped::Stale)
    }

    /// The first node of these that could have been written: it is told there what is about all of them.
    pub(super) fn spokesman(&self, pairs: &[(usize, usize)]) -> usize {
        let mut nodes = pairs.iter().flat_map(|(a, b)| [*a, *b]);
        nodes
            .find(|node| self.decider.policy.may_write(*node))
            .unwrap_or(0)
    }

    /// No word for the pair: told once.
    fn skip_all(&self, index: usize, difference: &RecordedDifference, why: Skipped) -> (usize, Item, Fate) {
        let node = self.spokesman(&difference.pairs);
        let item = Item {
            index,
            key: difference.key.clone(),
            before: None,
            after: None,
            wording: Wording::Servers,
            by: String::new(),
        };
        (node, item, Fate::Skipped(why))
    }

    fn tell(&mut self, (node, item, fate): (usize, Item, Fate)) -> Result<(), RepairError> {
        let counts = &mut self.outcome.nodes[node];
        let reason = match &fate {
            Fate::Written => {
                match item.operation() {
                    Operation::Insert => counts.inserted += 1,
                    Operation::Update => counts.updated += 1,
                    Operation::Delete => counts.deleted += 1,
                }
                None
            }
            Fate::Skipped(why) => {
                counts.skipped += 1;
                Some(why.to_string())
            }
            Fate::Failed(message, _) => {
                counts.failed += 1;
                Some(message.clone())
            }
        };
        let event = match (&fate, reason) {
            (Fate::Written, _) | (_, None) => Event::Written {
                before: item.before.as_ref(),
                after: item.after.as_ref(),
                by: &item.by,
            },
            (Fate::Skipped(_), Some(reason)) => Event::Skipped { reason },
            (Fate::Failed(..), Some(reason)) => Event::Failed { reason },
        };
        self.write_down(node, &item.key, event)
    }

    pub(super) fn write_down(&mut self, node: usize, key: &Key, event: Event<'_>) -> Result<(), RepairError> {
        let name = self.targets[node].node().clone();
        let entry = Entry {
            node,
            name: &name,
            shape: self.decider.shape,
            key,
            event,
        };
        self.log.take(&entry).map_err(|source| RepairError::File {
            path: "the report of the repair".into(),
            source,
        })
    }
}

/// Each difference once: several nodes may have refused the row.
fn distinct(mut differences: Vec<RecordedDifference>) -> Vec<RecordedDifference> {
    let mut seen = HashSet::new();
    differences.retain(|difference| seen.insert(difference.key.clone()));
    differences
}

fn passing(error: &RepairError) -> bool {
    matches!(
        error,
        RepairError::Side(SideError {
            kind: SideErrorKind::Transient,
            ..
        })
    )
}

fn in_doubt(error: &SideError) -> SideError {
    SideError::new(
        &error.node,
        SideErrorKind::Permanent,
        format_args!(
            "{}; whether the last batch was committed there is not known: run table-diff again",
            error.message
        ),
    )
}

fn weight(difference: &RecordedDifference) -> usize {
    let image = |image: &RecordedImage| match image {
        RecordedImage::Present { row, .. } => row.weight(),
        RecordedImage::Absent | RecordedImage::NotListed => 0,
    };
    difference.key.weight() + difference.images.iter().map(image).sum::<usize>()
}

fn items(
    decider: &Decider<'_>,
    index: usize,
    difference: &RecordedDifference,
    wants: &Wants,
    rows: &[Option<NodeRow>],
) -> Vec<(usize, Item)> {
    let mut items = Vec::new();
    for (node, want) in wants.iter().enumerate() {
        let Some(want) = want else { continue };
        let before = rows[node].as_ref().map(|row| row.row.clone());
        // The key in the server's words: of the row that goes or is changed, else of the one that comes.
        let row = before.as_ref().or(want.row.as_ref());
        let key = row.and_then(|row| row.key(decider.shape));
        let item = Item {
            index,
            key: key.unwrap_or_else(|| difference.key.clone()),
            before,
            after: want.row.clone(),
            wording: want.wording,
            by: want.by.clone(),
        };
        items.push((node, item));
    }
    items
}
