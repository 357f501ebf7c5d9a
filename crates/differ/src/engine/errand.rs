//! What a child's pump does with one range.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures_util::future::try_join_all;

use crate::model::{NodeName, TableShape};
use crate::range::KeyRange;
use crate::side::{Canceller, Digested, Session, Side, SideError, SideErrorKind};

use super::collector::{Outlet, SharedTally};
use super::ghost::Ghosts;
use super::judge::Judge;
use super::merge::Merge;
use super::settings::Recheck;
use super::settle::{BatchSize, NamedKeys, Settling, Unfinished};
use super::sieve::{Sieve, representatives, rows_of_a_part};
use super::task::{RangeOutcome, RangeTask, Work};

/// A range with so many times the rows of an ordinary one on some node is cut before it is digested.
const OVERFLOW: u64 = 4;
/// Bytes of keys that differ, held by a child until their rows have been looked at.
const KEY_BUDGET: usize = 1 << 20;

/// What all children of a job share.
pub(super) struct Errands {
    pub(super) sides: Vec<Arc<dyn Side>>,
    pub(super) shape: TableShape,
    pub(super) block_size: u64,
    pub(super) unit: u64,
    pub(super) recheck: Recheck,
    pub(super) judge: Judge,
    pub(super) outlet: Outlet,
    pub(super) tally: SharedTally,
    pub(super) batch: BatchSize,
}

/// A child's connections, one to each node, and how their statements are ended from outside.
#[derive(Default)]
pub(super) struct Connections {
    sessions: Vec<Box<dyn Session>>,
}

/// How the statements under way are ended from outside; shared with whoever waits for the pump.
#[derive(Clone, Default)]
pub(super) struct Brakes(Arc<Mutex<Vec<Arc<dyn Canceller>>>>);

impl Brakes {
    fn set(&self, cancellers: Vec<Arc<dyn Canceller>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = cancellers;
    }

    /// Asks all servers to end what they are doing.
    pub(super) async fn pull(&self) {
        let cancellers = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        futures_util::future::join_all(cancellers.iter().map(|canceller| canceller.cancel())).await;
    }
}

impl Connections {
    async fn open(&mut self, sides: &[Arc<dyn Side>], brakes: &Brakes) -> Result<(), SideError> {
        if self.sessions.is_empty() {
            self.sessions = try_join_all(sides.iter().map(|side| side.connect())).await?;
            brakes.set(self.sessions.iter().map(|session| session.canceller()).collect());
        }
        Ok(())
    }
}

impl Errands {
    /// Does what the task says. After `Failed` the connections must not be used again.
    pub(super) async fn run(&self, task: &RangeTask, own: &mut Connections, brakes: &Brakes) -> RangeOutcome {
        match self.attempt(task, own, brakes).await {
            Ok(outcome) => outcome,
            Err(Unfinished::Side(error)) => RangeOutcome::Failed(error),
            Err(Unfinished::Closed) => RangeOutcome::Stopped,
        }
    }

    async fn attempt(
        &self,
        task: &RangeTask,
        own: &mut Connections,
        brakes: &Brakes,
    ) -> Result<RangeOutcome, Unfinished> {
        own.open(&self.sides, brakes).await?;
        match &task.work {
            &Work::Walk { rows, node } => {
                let name = self.sides[node].node();
                Ok(walk(name, own.sessions[node].as_mut(), &task.range, rows).await?)
            }
            Work::Compare => self.compare(task, &mut own.sessions).await,
            Work::Read { nodes, rows } => self.read(task, nodes, rows.clone(), &mut own.sessions).await,
        }
    }

    /// Rows of a range of one node that are too many to be digested as one.
    fn cap(&self) -> u64 {
        let cap = self.block_size.saturating_mul(OVERFLOW);
        cap.max(self.unit.saturating_mul(2)).max(2)
    }

    async fn compare(
        &self,
        task: &RangeTask,
        sessions: &mut [Box<dyn Session>],
    ) -> Result<RangeOutcome, Unfinished> {
        let began = Instant::now();
        let cap = self.cap();
        let range = &task.range;
        let digested = try_join_all(sessions.iter_mut().map(|session| session.digest(range, cap))).await?;
        let mut digests = Vec::with_capacity(digested.len());
        for (node, digested) in digested.into_iter().enumerate() {
            match digested {
                Digested::Whole(digest) => digests.push(digest),
                Digested::Overflow => {
                    let rows = self.block_size;
                    return Ok(RangeOutcome::Split {
                        parts: vec![(Work::Walk { rows, node }, range.clone())],
                        agreed: vec![],
                        mismatch: false,
                    });
                }
            }
        }
        let rows: Vec<u64> = digests.iter().map(|digest| digest.count).collect();
        if digests.windows(2).all(|pair| pair[0] == pair[1]) {
            let took = began.elapsed();
            return Ok(RangeOutcome::Match { rows, took });
        }
        if let Some(split) = self.split(range, &rows, sessions).await? {
            return Ok(split);
        }
        self.read(task, &representatives(&digests), rows, sessions).await
    }

    /// The parts of the range that differ, if it is worth cutting it; the node that has most of it does.
    async fn split(
        &self,
        range: &KeyRange,
        rows: &[u64],
        sessions: &mut [Box<dyn Session>],
    ) -> Result<Option<RangeOutcome>, SideError> {
        let Some((node, &most)) = rows.iter().enumerate().max_by_key(|&(_, rows)| rows) else {
            return Ok(None);
        };
        if most <= self.unit {
            return Ok(None);
        }
        let every = rows_of_a_part(most, self.unit);
        let cuts = sessions[node]
            .cuts(range, every, most.div_ceil(every) - 1)
            .await?;
        if cuts.is_empty() {
            return Ok(None);
        }
        let (parts, cap) = (range.cut_at(cuts), self.cap());
        let digests = try_join_all(sessions.iter_mut().map(|session| session.digests(&parts, cap))).await?;
        let mut sieve = Sieve::new(sessions.len(), self.unit);
        for (number, part) in parts.into_iter().enumerate() {
            let digested: Vec<&Digested> = digests.iter().map(|digests| &digests[number]).collect();
            sieve.take(part, &digested);
        }
        Ok(Some(sieve.outcome()))
    }

    async fn read(
        &self,
        task: &RangeTask,
        nodes: &[usize],
        rows: Vec<u64>,
        sessions: &mut [Box<dyn Session>],
    ) -> Result<RangeOutcome, Unfinished> {
        let suspects = self.read_by_row(task, nodes, sessions).await?;
        Ok(RangeOutcome::Compared { rows, suspects })
    }

    /// Finds the keys on which these nodes differ, in portions that fit into memory, and settles each.
    async fn read_by_row(
        &self,
        task: &RangeTask,
        nodes: &[usize],
        sessions: &mut [Box<dyn Session>],
    ) -> Result<u64, Unfinished> {
        let outlet = self.outlet.of_block(task.seed);
        let settling = Settling {
            shape: &self.shape,
            recheck: self.recheck,
            judge: &self.judge,
            outlet: &outlet,
            tally: &self.tally,
            batch: &self.batch,
            named: NamedKeys::default(),
            ghosts: Ghosts::default(),
        };
        let mut count = 0;
        loop {
            let through = task.reported.through();
            let found = {
                let streams = sessions
                    .iter_mut()
                    .enumerate()
                    .filter(|(node, _)| nodes.contains(node))
                    .map(|(node, session)| {
                        let name = self.sides[node].node().clone();
                        async move { Ok((name, session.key_digests(&task.range).await?)) }
                    });
                let streams = try_join_all(streams).await.map_err(|error: SideError| error)?;
                Merge::of(streams)
                    .await?
                    .suspects(through.as_ref(), KEY_BUDGET)
                    .await?
            };
            count += found.keys.len() as u64;
            settling
                .settle(sessions, &found.keys, |last| task.reported.advance(last))
                .await?;
            if found.complete {
                settling.ghosts.lay(&task.range, &self.sides, sessions).await?;
                return Ok(count);
            }
        }
    }
}

async fn walk(
    node: &NodeName,
    session: &mut dyn Session,
    range: &KeyRange,
    rows: u64,
) -> Result<RangeOutcome, SideError> {
    let end = session.step(range, rows).await?;
    if end.is_some() && end == range.after {
        // A type whose text is not its value: the walk would never end.
        return Err(SideError::new(
            node,
            SideErrorKind::Permanent,
            format_args!("the key does not come back from its text: {range} begins with itself"),
        ));
    }
    Ok(match end {
        None => RangeOutcome::Walked {
            block: range.clone(),
            rest: None,
        },
        // The key at the end of the range itself: nothing is left of it on this node, but perhaps on another.
        Some(end) => {
            let (block, rest) = range.cut(end);
            RangeOutcome::Walked {
                block,
                rest: Some(rest),
            }
        }
    })
}
