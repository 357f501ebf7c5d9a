//! What can happen next.

use crate::scenario::{Policy, Rule, Scenario};
use crate::world::{Batch, Copy, CutOver, Entry, Lane, Stage, Worker, World};

/// One thing that happens. Numbers are those of workers, cycles, and lanes in cycles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The application's next transaction is in the log.
    Commit,
    /// The next entry of the log can be read.
    Appear,
    /// The stream delivers the next entry.
    Deliver,
    StartStream,
    StartCopy,
    ReadBounds,
    TakeOff(usize),
    ReadChunk(usize),
    WriteChunk(usize),
    /// Looks for rows that are missing, and commits.
    CommitChunk(usize),
    Land(usize),
    NoteMissing(usize),
    CompleteChunk(usize),
    RetryChunk(usize),
    /// A cycle takes the map and writes its marker.
    BeginCycle,
    /// The marker's commit returned.
    Marked(usize),
    /// The chunks that were in flight have landed.
    Landed(usize),
    Delete(usize, usize),
    Read(usize, usize),
    Write(usize, usize),
    /// A batch is rolled back and tried again.
    Deadlock(usize, usize),
    Resolve(usize),
    CycleFails(usize),
    ReadWatermark,
    WriteCheckpoint,
    Crash,
    /// A statement of a session whose client died writes all the same.
    OrphanWrites(usize),
    Hold,
    Lock,
    WriteSentinel,
    /// The last keys are synchronised and the names are changed.
    Swap,
    Setback,
}

impl World {
    /// Everything that can happen now.
    pub(crate) fn steps(&self, scenario: &Scenario) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.end.is_some() {
            return steps;
        }
        self.server_steps(scenario, &mut steps);
        self.copy_steps(scenario, &mut steps);
        self.cycle_steps(scenario, &mut steps);
        self.checkpoint_steps(scenario, &mut steps);
        self.cut_over_steps(scenario, &mut steps);
        steps
    }

    fn server_steps(&self, scenario: &Scenario, steps: &mut Vec<Step>) {
        let locked = matches!(self.cut_over, CutOver::Locked | CutOver::Awaiting);
        let next = self.log.transactions(self.log.end());
        if !locked && next < scenario.workload.transactions.len() {
            let invisible = self.log.transactions(self.log.visible)..next;
            if !invisible
                .into_iter()
                .any(|first| scenario.workload.waits(first, next))
            {
                steps.push(Step::Commit);
            }
        }
        if self.log.visible < self.log.end() {
            steps.push(Step::Appear);
        }
        match self.stream {
            None => steps.push(Step::StartStream),
            Some(at) if at < self.log.end() => steps.push(Step::Deliver),
            Some(_) => {}
        }
        steps.extend((0..self.orphans.len()).map(Step::OrphanWrites));
    }

    fn copy_steps(&self, scenario: &Scenario, steps: &mut Vec<Step>) {
        let running = match &self.copy {
            Copy::Not(_) => {
                if self.stream.is_some() || !scenario.keeps(Rule::StreamFirst) {
                    steps.push(Step::StartCopy);
                }
                return;
            }
            Copy::Marking(_, at) => {
                if self.log.visible > *at {
                    steps.push(Step::ReadBounds);
                }
                return;
            }
            Copy::Running(running) => running,
        };
        let mut idle = false;
        for (number, worker) in running.workers.iter().enumerate() {
            match worker {
                Worker::Idle => {
                    // Workers are alike: it does not matter which of them takes the next chunk.
                    if !idle && running.end.is_some() {
                        steps.push(Step::TakeOff(number));
                    }
                    idle = true;
                }
                Worker::Flying(_) => steps.push(Step::ReadChunk(number)),
                Worker::Read(_, rows) => {
                    if !rows.iter().any(|row| self.locked_by_others(None, *row)) {
                        steps.push(Step::WriteChunk(number));
                    }
                }
                Worker::Written(..) => steps.push(Step::CommitChunk(number)),
                Worker::Committed(..) => steps.push(Step::Land(number)),
                Worker::Landed(..) => steps.push(Step::NoteMissing(number)),
                Worker::Waiting(_, 0) => steps.push(Step::CompleteChunk(number)),
                Worker::Waiting(..) => {}
            }
            if self.retries > 0 && matches!(worker, Worker::Read(..) | Worker::Written(..)) {
                steps.push(Step::RetryChunk(number));
            }
        }
    }

    /// Whether somebody waits for cycles although no key does. In truth heartbeats keep cycles going.
    fn cycles_are_wanted(&self) -> bool {
        let waiting = |worker: &Worker| matches!(worker, Worker::Waiting(_, cycles) if *cycles > 0);
        self.running()
            .is_some_and(|running| running.workers.iter().any(waiting))
            || self
                .pending_upto
                .is_some_and(|upto| self.synchronised != Some(upto))
    }

    fn cycle_steps(&self, scenario: &Scenario, steps: &mut Vec<Step>) {
        let most = if scenario.keeps(Rule::Serial) { 1 } else { 2 };
        let open = match self.cut_over {
            CutOver::Not => true,
            CutOver::Held => self.drains > 0,
            CutOver::Locked | CutOver::Awaiting => false,
        };
        let may = self.stream.is_some() && open && !self.dead && self.cycles.len() < most;
        if may && (!self.pending.is_empty() || self.cycles_are_wanted()) {
            steps.push(Step::BeginCycle);
        }
        for (number, cycle) in self.cycles.iter().enumerate() {
            match &cycle.stage {
                Stage::Marking(at) => {
                    if self.log.visible > *at || !scenario.keeps(Rule::Marker) {
                        steps.push(Step::Marked(number));
                    }
                }
                Stage::Landing(flights) => {
                    if flights.is_empty() {
                        steps.push(Step::Landed(number));
                    }
                }
                Stage::Writing(lanes) => {
                    for (lane, state) in lanes.iter().enumerate() {
                        self.lane_steps(scenario, (number, lane), state, steps);
                    }
                    if self.failures > 0 {
                        steps.push(Step::CycleFails(number));
                    }
                }
                Stage::Resolving { .. } => {
                    if self.running().is_none_or(|running| {
                        !running
                            .workers
                            .iter()
                            .any(|worker| matches!(worker, Worker::Written(..)))
                    }) {
                        steps.push(Step::Resolve(number));
                    }
                }
            }
        }
    }

    fn lane_steps(&self, scenario: &Scenario, at: (usize, usize), lane: &Lane, steps: &mut Vec<Step>) {
        let batch = scenario.batch_of(lane);
        match &lane.batch {
            Batch::Fresh if batch.is_empty() => {}
            Batch::Fresh => {
                let deletes = scenario.deletes(batch);
                if deletes.is_empty() || !scenario.keeps(Rule::DeleteFirst) {
                    steps.push(Step::Read(at.0, at.1));
                } else if !deletes
                    .iter()
                    .filter_map(|key| self.ghost.get(*key))
                    .any(|row| self.locked_by_others(Some(at), row))
                {
                    steps.push(Step::Delete(at.0, at.1));
                }
            }
            Batch::Deleted(_) => steps.push(Step::Read(at.0, at.1)),
            Batch::Read { rows, .. } => {
                if rows.iter().any(|row| self.locked_by_others(Some(at), *row)) {
                    steps.push(Step::Deadlock(at.0, at.1));
                } else {
                    steps.push(Step::Write(at.0, at.1));
                }
            }
        }
    }

    fn checkpoint_steps(&self, scenario: &Scenario, steps: &mut Vec<Step>) {
        if self.crashes == 0 {
            return;
        }
        match self.draft {
            None => {
                if self.next_checkpoint(scenario, self.watermark()).is_some() {
                    steps.push(Step::ReadWatermark);
                }
            }
            Some(watermark) => {
                if self.next_checkpoint(scenario, watermark).is_some() {
                    steps.push(Step::WriteCheckpoint);
                }
            }
        }
        if self.checkpoint.is_some() {
            steps.push(Step::Crash);
        }
    }

    fn cut_over_steps(&self, scenario: &Scenario, steps: &mut Vec<Step>) {
        let idle = |worker: &Worker| *worker == Worker::Idle;
        let copied = self
            .running()
            .is_some_and(|running| running.end.is_none() && running.workers.iter().all(idle));
        match self.cut_over {
            CutOver::Not => {
                let at_rest = self.cycles.is_empty() || !scenario.keeps(Rule::Hold);
                if copied && self.stream.is_some() && at_rest {
                    steps.push(Step::Hold);
                }
            }
            CutOver::Held => {
                let seen = self.committed(scenario) == self.visible(scenario);
                let at_rest = self.cycles.is_empty() || !scenario.keeps(Rule::Hold);
                if at_rest && (seen || !scenario.keeps(Rule::LockWait)) {
                    steps.push(Step::Lock);
                }
            }
            CutOver::Locked => steps.push(Step::WriteSentinel),
            CutOver::Awaiting => {
                let come = match self.sentinel {
                    _ if !scenario.keeps(Rule::Sentinel) => true,
                    Some(_) if !scenario.keeps(Rule::Challenge) => true,
                    sentinel => sentinel == Some(self.attempt),
                };
                if come {
                    steps.push(Step::Swap);
                }
            }
        }
        if self.cut_over != CutOver::Not && self.setbacks > 0 {
            steps.push(Step::Setback);
        }
    }

    /// Whether a sentinel is awaited by an attempt under way.
    pub(crate) fn attempt_runs(&self) -> bool {
        self.cut_over != CutOver::Not
    }

    /// The entry that the stream delivers next.
    pub(crate) fn next_entry(&self) -> Option<(usize, Entry)> {
        let at = self.stream?;
        Some((at, *self.log.entries.get(at)?))
    }
}

impl Scenario {
    /// The entries that are written next.
    pub(crate) fn batch_of<'a>(&self, lane: &'a Lane) -> &'a [(u8, bool)] {
        let size = if lane.single > 0 { 1 } else { self.batch };
        &lane.rest[..lane.rest.len().min(size)]
    }

    /// The keys of a batch that are read from the original.
    pub(crate) fn replaces(&self, batch: &[(u8, bool)]) -> Vec<u8> {
        let read = |(_, removed): &&(u8, bool)| !*removed || self.keeps(Rule::ReplaceAll);
        batch.iter().filter(read).map(|(key, _)| *key).collect()
    }

    /// The keys of a batch that are deleted.
    pub(crate) fn deletes(&self, batch: &[(u8, bool)]) -> Vec<u8> {
        if !self.keeps(Rule::Delete) {
            return Vec::new();
        }
        let deleted = |(_, removed): &&(u8, bool)| *removed || self.policy == Policy::Insert;
        batch.iter().filter(deleted).map(|(key, _)| *key).collect()
    }
}
