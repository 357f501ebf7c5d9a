//! What a child's pump does with one range.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures_util::future::try_join_all;

use crate::model::{NodeName, TableShape};
use crate::range::KeyRange;
use crate::side::{Canceller, Digest, Digested, Session, Side, SideError, SideErrorKind};

use super::collector::{Outlet, SharedTally};
use super::judge::Judge;
use super::merge::Merge;
use super::settings::Recheck;
use super::settle::{BatchSize, Settling, Unfinished};
use super::task::{RangeOutcome, RangeTask, Work};

/// Ranges into which one that differs is split.
pub(super) const FAN_OUT: u64 = 16;
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
        match task.work {
            Work::Walk { rows, node } => {
                let name = self.sides[node].node();
                Ok(walk(name, own.sessions[node].as_mut(), &task.range, rows).await?)
            }
            Work::Compare => self.compare(task, &mut own.sessions).await,
        }
    }

    async fn compare(
        &self,
        task: &RangeTask,
        sessions: &mut [Box<dyn Session>],
    ) -> Result<RangeOutcome, Unfinished> {
        let began = Instant::now();
        let cap = self
            .block_size
            .saturating_mul(OVERFLOW)
            .max(self.unit.saturating_mul(2))
            .max(2);
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
        let suspects = self.read_by_row(task, &digests, sessions).await?;
        Ok(RangeOutcome::Compared { rows, suspects })
    }

    /// The range in parts, if it is worth it; cut by the node that has most of it.
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
        let every = most.div_ceil(FAN_OUT).max(1);
        let cuts = sessions[node].cuts(range, every, FAN_OUT - 1).await?;
        if cuts.is_empty() {
            return Ok(None);
        }
        let parts = range.cut_at(cuts).into_iter().map(|part| (Work::Compare, part));
        Ok(Some(RangeOutcome::Split {
            parts: parts.collect(),
            mismatch: true,
        }))
    }

    /// Finds the keys that differ, in portions that fit into memory, and settles each.
    async fn read_by_row(
        &self,
        task: &RangeTask,
        digests: &[Digest],
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
        };
        let mut count = 0;
        loop {
            let through = task.reported.through();
            let found = {
                let chosen = representatives(digests);
                let streams = sessions
                    .iter_mut()
                    .enumerate()
                    .filter(|(node, _)| chosen.contains(node))
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
                return Ok(count);
            }
        }
    }
}

/// One node for each digest: the others have the same rows as one of these.
fn representatives(digests: &[Digest]) -> Vec<usize> {
    (0..digests.len())
        .filter(|&node| !digests[..node].contains(&digests[node]))
        .collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_one_representative() {
        let digest = |xor| Digest {
            count: 1,
            xor,
            sum: "0".into(),
        };
        let all = [digest(1), digest(2), digest(1), digest(3), digest(2)];
        assert_eq!(representatives(&all), [0, 1, 3]);
    }
}
