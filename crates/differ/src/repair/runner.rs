//! The repair itself: batch by batch, then what had to wait, then the look back.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Seek as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio_util::sync::CancellationToken;

use super::decision::{Decider, NodeRow, Skipped, Wants, is_stale};
use super::journal::{Event, RepairLog};
use super::plan::StaleRepairs;
use super::target::{Locking, Refusal, Target, origin_name};
use super::writing::{Fate, Hope, Item, Operation, write};
use super::{Policy, RepairError, RepairOutcome};
use crate::model::{Cell, Key, NodeName, Row, TableShape};
use crate::postgres::{PgCluster, PgNode, PgServer, PgTerms, PrepareError};
use crate::report::recorded::{RecordedDifference, RecordedImage, RecordedReport};
use crate::side::{SideError, SideErrorKind};

/// Keys of a batch: locked together, committed together. Small, for the application waits for them.
const BATCH_KEYS: usize = 250;

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

/// Whether anything is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Apply {
    /// Batches are committed.
    Commit,
    /// Batches are rolled back: everything else is the same.
    DryRun,
}

/// Whether the table's triggers fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Triggers {
    /// They do not.
    Quiet,
    /// They do, as for any client.
    Fire,
}

/// What a repaired row's commit time and origin are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginKeeping {
    /// Those of the repair.
    Local,
    /// Those of the row that was copied. Every row is a transaction of its own then, and the role must be allowed to use
    /// `pg_replication_origin_*`.
    Preserve,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub struct RepairOptions {
    /// Which side is right.
    pub policy: Policy,
    /// Whether anything is changed.
    pub apply: Apply,
    /// Whether triggers fire.
    pub triggers: Triggers,
    /// Whose commit time and origin the rows get.
    pub origin: OriginKeeping,
}

/// A repair that is ready to run.
pub struct Repair {
    report: RecordedReport,
    shape: Arc<TableShape>,
    targets: Vec<Target>,
    options: RepairOptions,
    /// What the operator should know.
    pub notes: Vec<String>,
}

impl Repair {
    /// Connects to the nodes of a report. `servers` may be more than the report's.
    ///
    /// # Errors
    /// A node is not among the servers or cannot be reached, the tables have too little in common, the role may not do
    /// what is needed.
    pub async fn connect(
        report: RecordedReport,
        servers: &[PgServer],
        options: RepairOptions,
    ) -> Result<Self, RepairError> {
        let mut nodes = Vec::new();
        for name in &report.nodes {
            let server = servers.iter().find(|server| server.node() == name);
            let server = server.ok_or_else(|| RepairError::Refused(format!("the report is about node {name}, of which no address was given")))?;
            nodes.push(PgNode {
                server: server.clone(),
                table: report.table.clone(),
            });
        }
        let cluster = PgCluster::prepare(&nodes, PgTerms::default()).await.map_err(|error| match error {
            PrepareError::Side(error) => RepairError::Side(error),
            other => RepairError::Refused(other.to_string()),
        })?;
        let shape = Arc::new(cluster.shape);
        check_key(&report, &shape)?;
        let mut targets = Vec::new();
        for (node, origins) in nodes.iter().zip(&cluster.origins) {
            targets.push(Target::connect(&node.server, Arc::clone(&shape), Arc::clone(origins), options.triggers).await?);
        }
        Ok(Self {
            report,
            shape,
            targets,
            options,
            notes: cluster.notes,
        })
    }

    /// The node, among those of the report, that has replayed most of what `origin` sent: the one to recover from.
    ///
    /// # Errors
    /// Two nodes are equally far, or none received anything.
    pub async fn furthest(&mut self, origin: &str) -> Result<usize, RepairError> {
        let replayed = try_join_all(self.targets.iter_mut().map(|target| target.replayed(origin))).await?;
        let best = replayed.iter().flatten().max().copied();
        let Some(best) = best else {
            return Err(RepairError::Refused(format!(
                "no node knows how far it has replayed {origin}; name the node to recover from with --source-of-truth"
            )));
        };
        let furthest: Vec<usize> = (0..replayed.len()).filter(|node| replayed[*node] == Some(best)).collect();
        match furthest[..] {
            [node] => Ok(node),
            _ => Err(RepairError::Refused(format!(
                "{} have replayed {origin} equally far; name the node to recover from with --source-of-truth",
                furthest.iter().map(|node| self.report.nodes[*node].to_string()).collect::<Vec<_>>().join(" and ")
            ))),
        }
    }

    /// The same repair under another policy.
    #[must_use]
    pub fn with_policy(mut self, policy: Policy) -> Self {
        self.options.policy = policy;
        self
    }

    /// The table.
    #[must_use]
    pub fn shape(&self) -> &TableShape {
        &self.shape
    }

    /// The nodes, in the report's order.
    #[must_use]
    pub fn nodes(&self) -> &[NodeName] {
        &self.report.nodes
    }

    /// Repairs. Events go to `log` after the commit of what they tell.
    ///
    /// Cancelled, it ends between two batches; what was committed stays.
    ///
    /// # Errors
    /// A node is lost, the report cannot be read to its end, the plan does not fit the table.
    pub async fn run(
        mut self,
        log: &mut dyn RepairLog,
        cancel: &CancellationToken,
    ) -> Result<RepairOutcome, RepairError> {
        let policy = self.options.policy.clone();
        let table = format!("{}.{}", self.shape.name.schema, self.shape.name.table);
        let shape = Arc::clone(&self.shape);
        let key: Vec<String> = shape.key_columns().map(|column| column.name.clone()).collect();
        let columns: Vec<String> = shape.columns.iter().map(|column| column.name.clone()).collect();
        let decisions = match &policy {
            Policy::Plan(plan) => Some(plan.for_table(&table)?),
            _ => None,
        };
        if let Some(decisions) = &decisions {
            decisions.check(&key, &columns)?;
        }
        let decider = Decider {
            shape: &shape,
            policy: &policy,
            decisions,
            key,
            columns,
        };
        let mut run = Run {
            decider,
            outcome: RepairOutcome::new(&self.report.nodes, self.options.apply == Apply::DryRun),
            touched: Touched::new()?,
            waiting: Vec::new(),
            waiting_bytes: 0,
            positions: positions(&self.report, &shape),
            targets: &mut self.targets,
            options: &self.options,
            log,
        };
        run.all(&mut self.report, cancel).await?;
        run.those_that_wait(cancel).await?;
        if self.options.apply == Apply::Commit {
            run.look_back(cancel).await?;
        }
        let mut outcome = run.outcome;
        outcome.in_flight = self.report.in_flight;
        Ok(outcome)
    }
}

fn check_key(report: &RecordedReport, shape: &TableShape) -> Result<(), RepairError> {
    let key: Vec<&str> = shape.key_columns().map(|column| column.name.as_str()).collect();
    if key != report.key {
        return Err(RepairError::Refused(format!(
            "the report identifies rows by ({}), the table by ({}); run table-diff again",
            report.key.join(", "),
            key.join(", ")
        )));
    }
    let unknown = report.columns.iter().find(|column| shape.position(column).is_none());
    if let (Some(column), false) = (unknown, report.columns.is_empty()) {
        return Err(RepairError::Refused(format!(
            "the report has a column {column}, which not all of the tables have; run table-diff again"
        )));
    }
    Ok(())
}

/// For each column of the table its place in the report's rows.
fn positions(report: &RecordedReport, shape: &TableShape) -> Vec<Option<usize>> {
    let place = |name: &String| report.columns.iter().position(|column| column == name);
    shape.columns.iter().map(|column| place(&column.name)).collect()
}

fn cancelled(cancel: &CancellationToken) -> Result<(), RepairError> {
    if cancel.is_cancelled() {
        return Err(RepairError::Refused("the repair was cancelled; what it had committed stays".into()));
    }
    Ok(())
}

struct Run<'a> {
    decider: Decider<'a>,
    outcome: RepairOutcome,
    touched: Touched,
    waiting: Vec<RecordedDifference>,
    waiting_bytes: usize,
    positions: Vec<Option<usize>>,
    targets: &'a mut Vec<Target>,
    options: &'a RepairOptions,
    log: &'a mut dyn RepairLog,
}

/// What a batch did, told once it is committed.
#[derive(Default)]
struct Told {
    settled: u64,
    items: Vec<(usize, Item, Fate)>,
    touched: Vec<usize>,
}

impl Run<'_> {
    async fn all(&mut self, report: &mut RecordedReport, cancel: &CancellationToken) -> Result<(), RepairError> {
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
                let Some(difference) = report.next_difference()? else { break };
                bytes += weight(&difference);
                batch.push(difference);
            }
            if batch.is_empty() {
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
    async fn those_that_wait(&mut self, cancel: &CancellationToken) -> Result<(), RepairError> {
        let mut batch = std::mem::take(&mut self.waiting);
        while !batch.is_empty() {
            cancelled(cancel)?;
            let before = batch.len();
            let still = self.batch(batch).await?;
            if still.len() == before {
                for (_, item) in still {
                    self.tell(item)?;
                }
                return Ok(());
            }
            batch = still.into_iter().map(|(difference, _)| difference).collect();
            batch.dedup_by(|a, b| a.key == b.key);
        }
        Ok(())
    }

    /// One batch, committed. Gives back what may be tried again, with its failure.
    async fn batch(
        &mut self,
        batch: Vec<RecordedDifference>,
    ) -> Result<Vec<(RecordedDifference, (usize, Item, Fate))>, RepairError> {
        let mut attempt = 1;
        let told = loop {
            match self.try_batch(&batch).await {
                Ok(told) => break told,
                Err(error) if attempt < ATTEMPTS && passing(&error) => {
                    for target in self.targets.iter_mut() {
                        target.run("ROLLBACK").await?;
                    }
                    tokio::time::sleep(PAUSE * attempt).await;
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        };
        self.outcome.settled += told.settled;
        for index in told.touched {
            self.touched.add(&batch[index])?;
        }
        let mut waiting = Vec::new();
        for (node, item, fate) in told.items {
            let again = match &fate {
                Fate::Failed(_, Hope::Later) | Fate::Skipped(Skipped::Referenced(_)) => true,
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
        let (recorded, unreadable) = self.canonical(batch).await?;
        let keys: Vec<Key> = batch.iter().map(|difference| difference.key.clone()).collect();
        let now = self.read(&keys).await?;
        let mut work: Vec<Vec<Item>> = vec![Vec::new(); self.targets.len()];
        let mut sources: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        for (index, difference) in batch.iter().enumerate() {
            let rows: Vec<Option<NodeRow>> = now.iter().map(|rows| rows[index].clone()).collect();
            let wants = match self.decider.wants(&difference.pairs, &rows) {
                Ok(wants) => wants,
                Err(why) => {
                    told.items.push(self.skip_all(index, difference, Skipped::NoDecision(why.to_string())));
                    continue;
                }
            };
            if wants.iter().all(Option::is_none) {
                told.settled += u64::from(self.is_settled(difference, &rows));
                continue;
            }
            let recorded_rows: Vec<Option<Row>> = recorded.iter().map(|rows| whole(rows.get(&index))).collect();
            let same_decision = self.decider.as_recorded(difference, &recorded_rows, &wants);
            for (node, item) in items(&self.decider, index, difference, &wants, &rows) {
                let verdict = match unreadable.get(&(node, index)) {
                    Some(why) => Some(Skipped::Unreadable(why.clone())),
                    None => self.verdict(node, difference, recorded[node].get(&index), &rows, &wants, same_decision),
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
        for target in self.targets.iter_mut() {
            let end = match self.options.apply {
                Apply::Commit => "COMMIT",
                Apply::DryRun => "ROLLBACK",
            };
            target.run(end).await?;
        }
        Ok(told)
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
        let shape = self.decider.shape;
        let fates = write(&mut self.targets[node], shape, &items).await?;
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
        let kept = kept.as_ref().map(|(origin, time)| (origin.as_str(), time.as_str()));
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

    /// The recorded rows in the words of the node that they are of, by node and index; and what could not be understood.
    #[allow(clippy::type_complexity)]
    async fn canonical(
        &mut self,
        batch: &[RecordedDifference],
    ) -> Result<(Vec<BTreeMap<usize, Vec<Option<Cell>>>>, BTreeMap<(usize, usize), String>), RepairError> {
        let mut all = Vec::new();
        let mut unreadable = BTreeMap::new();
        for (node, target) in self.targets.iter_mut().enumerate() {
            let mut given: Vec<(usize, Row)> = Vec::new();
            for (index, difference) in batch.iter().enumerate() {
                if let RecordedImage::Present { row, .. } = &difference.images[node] {
                    let cell = |place: &Option<usize>| place.map_or(Cell::NULL, |place| row.0[place].clone());
                    given.push((index, Row(self.positions.iter().map(cell).collect())));
                }
            }
            let mut of_node = BTreeMap::new();
            for (index, row) in canonical_rows(target, given, &mut |index, why| {
                unreadable.insert((node, index), why);
            })
            .await?
            {
                let known = |(cell, place): (Cell, &Option<usize>)| place.map(|_| cell);
                of_node.insert(index, row.0.into_iter().zip(&self.positions).map(known).collect());
            }
            all.push(of_node);
        }
        Ok((all, unreadable))
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
        if !self.decider.unchanged(now.map(|now| &now.row), recorded.map(Vec::as_slice)) {
            return Some(Skipped::Changed);
        }
        if !same_decision {
            return Some(Skipped::OtherDecision);
        }
        let careful = wants[node].as_ref().is_some_and(|want| want.stale == StaleRepairs::Refused);
        (careful && is_stale(now, &difference.images[node])).then_some(Skipped::Stale)
    }

    fn is_settled(&self, difference: &RecordedDifference, rows: &[Option<NodeRow>]) -> bool {
        let row = |node: usize| rows[node].as_ref().map(|row| &row.row);
        difference.pairs.iter().all(|(a, b)| self.decider.same(row(*a), row(*b)))
    }

    /// No word for the pair: told once, for the first node that could have been written.
    fn skip_all(&self, index: usize, difference: &RecordedDifference, why: Skipped) -> (usize, Item, Fate) {
        let nodes = difference.pairs.iter().flat_map(|(a, b)| [*a, *b]);
        let node = nodes.into_iter().find(|node| self.decider.policy.may_write(*node)).unwrap_or(0);
        let item = Item {
            index,
            key: difference.key.clone(),
            before: None,
            after: None,
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
        let name = self.targets[node].node().clone();
        let event = match (&fate, reason) {
            (Fate::Written, _) | (_, None) => Event::Written {
                before: item.before.as_ref(),
                after: item.after.as_ref(),
                by: &item.by,
            },
            (Fate::Skipped(_), Some(reason)) => Event::Skipped { reason },
            (Fate::Failed(..), Some(reason)) => Event::Failed { reason },
        };
        self.log
            .take(node, &name, self.decider.shape, &item.key, &event)
            .map_err(|source| RepairError::File {
                path: "the report of the repair".into(),
                source,
            })
    }

    /// Reads every touched key again: does anything of it still want repair?
    async fn look_back(&mut self, cancel: &CancellationToken) -> Result<(), RepairError> {
        let mut touched = std::mem::replace(&mut self.touched, Touched::new()?).read()?;
        loop {
            cancelled(cancel)?;
            let batch = touched.next(BATCH_KEYS)?;
            if batch.is_empty() {
                return Ok(());
            }
            let keys: Vec<Key> = batch.iter().map(|(key, _)| key.clone()).collect();
            let mut now = Vec::new();
            for target in self.targets.iter_mut() {
                now.push(target.rows(&keys, Locking::None).await?);
            }
            for (index, (_, pairs)) in batch.iter().enumerate() {
                let rows: Vec<Option<NodeRow>> = now.iter().map(|rows| rows[index].clone()).collect();
                let wants = self.decider.wants(pairs, &rows);
                let done = wants.is_ok_and(|wants| wants.iter().all(Option::is_none));
                self.outcome.rechecked += 1;
                self.outcome.remaining += u64::from(!done);
            }
        }
    }
}

fn passing(error: &RepairError) -> bool {
    matches!(error, RepairError::Side(SideError { kind: SideErrorKind::Transient, .. }))
}

fn weight(difference: &RecordedDifference) -> usize {
    let image = |image: &RecordedImage| match image {
        RecordedImage::Present { row, .. } => row.weight(),
        RecordedImage::Absent | RecordedImage::NotListed => 0,
    };
    difference.key.weight() + difference.images.iter().map(image).sum::<usize>()
}

/// The row, if the report has all of its columns.
fn whole(cells: Option<&Vec<Option<Cell>>>) -> Option<Row> {
    cells.map(|cells| Row(cells.iter().map(|cell| cell.clone().unwrap_or_default()).collect()))
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
            by: want.by.clone(),
        };
        items.push((node, item));
    }
    items
}

/// Puts rows into the server's words; where it refuses, half by half, to find the one that is to blame.
async fn canonical_rows(
    target: &mut Target,
    rows: Vec<(usize, Row)>,
    unreadable: &mut dyn FnMut(usize, String),
) -> Result<Vec<(usize, Row)>, RepairError> {
    let mut done = Vec::new();
    let mut open = vec![rows];
    while let Some(part) = open.pop() {
        if part.is_empty() {
            continue;
        }
        target.run("SAVEPOINT changeling_words").await?;
        let given: Vec<&Row> = part.iter().map(|(_, row)| row).collect();
        match target.canonical(&given).await {
            Ok(found) => {
                target.run("RELEASE SAVEPOINT changeling_words").await?;
                done.extend(part.iter().map(|(index, _)| *index).zip(found));
            }
            Err(Refusal::Side(error)) => return Err(error.into()),
            Err(Refusal::Rows { message, .. }) => {
                target.run("ROLLBACK TO SAVEPOINT changeling_words; RELEASE SAVEPOINT changeling_words").await?;
                let mut part = part;
                if let [(index, _)] = part[..] {
                    unreadable(index, message);
                    continue;
                }
                let right = part.split_off(part.len() / 2);
                open.push(part);
                open.push(right);
            }
        }
    }
    Ok(done)
}

/// Keys that were written, in a temporary file: there may be a million of them.
struct Touched {
    file: BufWriter<File>,
}

type TouchedKey = (Key, Vec<(usize, usize)>);

impl Touched {
    fn new() -> Result<Self, RepairError> {
        let file = tempfile::tempfile().map_err(Self::failed)?;
        Ok(Self {
            file: BufWriter::new(file),
        })
    }

    fn failed(source: std::io::Error) -> RepairError {
        RepairError::File {
            path: "a temporary file".into(),
            source,
        }
    }

    fn add(&mut self, difference: &RecordedDifference) -> Result<(), RepairError> {
        let line = (&difference.key, &difference.pairs);
        let written = serde_json::to_writer(&mut self.file, &line).map_err(std::io::Error::from);
        written.and_then(|()| self.file.write_all(b"\n")).map_err(Self::failed)
    }

    fn read(self) -> Result<TouchedReader, RepairError> {
        let file = self.file.into_inner().map_err(|error| Self::failed(error.into_error()))?;
        let mut file = BufReader::new(file);
        file.rewind().map_err(Self::failed)?;
        Ok(TouchedReader { file })
    }
}

struct TouchedReader {
    file: BufReader<File>,
}

impl TouchedReader {
    fn next(&mut self, most: usize) -> Result<Vec<TouchedKey>, RepairError> {
        let mut batch = Vec::new();
        let mut line = String::new();
        while batch.len() < most {
            line.clear();
            if self.file.read_line(&mut line).map_err(Touched::failed)? == 0 {
                break;
            }
            batch.push(serde_json::from_str(&line).map_err(|error| Touched::failed(error.into()))?);
        }
        Ok(batch)
    }
}
