//! What each step does.

use changeling_applier::copy::watermark::Watermark;
use changeling_applier::sync::lane;
use changeling_applier::sync::pending::{KeyMap, Pending};
use changeling_core::change::{Change, ChangeBatch, RowChange};
use changeling_core::coords::{Coordinates, FilePos, Gtids};

use crate::scenario::{Rule, Scenario, event, id, removed};
use crate::step::Step;
use crate::table;
use crate::world::{
    Batch, Checkpoint, Chunk, Copy, CutOver, Cycle, End, Entry, Lane, Running, Stage, Worker, World,
};

impl World {
    /// The state after a step that [`World::steps`] offers.
    pub(crate) fn after(&self, step: Step, scenario: &Scenario) -> Self {
        let mut next = self.clone();
        next.take(step, scenario);
        next.trim();
        next
    }

    fn take(&mut self, step: Step, scenario: &Scenario) {
        match step {
            Step::Commit => {
                self.log.write(Entry::Application);
            }
            Step::Appear => self.log.visible += 1,
            Step::Deliver => self.deliver(scenario),
            Step::StartStream => {
                self.stream = Some(self.log.end());
                self.start = self.stream;
            }
            Step::StartCopy => {
                let Copy::Not(done) = self.copy else { return };
                if scenario.keeps(Rule::FirstMarker) {
                    self.copy = Copy::Marking(done, self.log.write(Entry::Marker));
                } else {
                    self.read_bounds(scenario, done);
                }
            }
            Step::ReadBounds => {
                let Copy::Marking(done, _) = self.copy else { return };
                self.read_bounds(scenario, done);
            }
            Step::TakeOff(worker)
            | Step::ReadChunk(worker)
            | Step::WriteChunk(worker)
            | Step::CommitChunk(worker)
            | Step::Land(worker)
            | Step::NoteMissing(worker)
            | Step::CompleteChunk(worker)
            | Step::RetryChunk(worker) => self.copy_step(step, worker, scenario),
            Step::BeginCycle => self.begin_cycle(),
            Step::Marked(cycle) | Step::Landed(cycle) => self.advance(cycle, scenario),
            Step::Delete(cycle, lane)
            | Step::Read(cycle, lane)
            | Step::Write(cycle, lane)
            | Step::Deadlock(cycle, lane) => {
                self.lane_step(step, (cycle, lane), scenario);
                self.end_of_writing(cycle);
            }
            Step::Resolve(cycle) => self.resolve(cycle, scenario),
            Step::CycleFails(cycle) => {
                self.failures -= 1;
                self.roll_back(cycle);
                self.cycles.remove(cycle);
                self.dead = true;
                if scenario.keeps(Rule::FailedCycle) {
                    self.end = Some(End::GaveUp);
                }
            }
            Step::ReadWatermark => self.draft = Some(self.watermark()),
            Step::WriteCheckpoint => {
                if let Some(checkpoint) = self
                    .draft
                    .take()
                    .and_then(|draft| self.next_checkpoint(scenario, draft))
                {
                    self.checkpoint = Some(checkpoint);
                }
            }
            Step::Crash => self.crash(scenario),
            Step::OrphanWrites(orphan) => {
                let rows = self.orphans.remove(orphan);
                rows.into_iter().for_each(|row| self.ghost.replace(row));
            }
            Step::Hold => (self.cut_over, self.sentinel) = (CutOver::Held, None),
            Step::Lock => self.cut_over = CutOver::Locked,
            Step::WriteSentinel => {
                self.log.write(Entry::Sentinel(self.attempt));
                self.cut_over = CutOver::Awaiting;
            }
            Step::Swap => self.swap(scenario),
            Step::Setback => {
                self.setbacks -= 1;
                (self.cut_over, self.sentinel, self.attempt) = (CutOver::Not, None, self.attempt + 1);
            }
        }
    }

    fn deliver(&mut self, scenario: &Scenario) {
        let Some((at, entry)) = self.next_entry() else {
            return;
        };
        let changes: &[table::Change] = match entry {
            Entry::Application => &scenario.workload.transactions[self.log.transactions(at)],
            Entry::Marker => &[],
            Entry::Sentinel(attempt) => {
                self.sentinel = self.attempt_runs().then_some(attempt);
                &[]
            }
        };
        self.stream = Some(at + 1);
        let mut pending = Pending::default();
        for (&key, &removed) in &self.pending {
            pending.mark(scenario.key(key), event(removed));
        }
        let row = |change: &table::Change| Change::Row {
            watch: 0,
            row: self.row_change(*change, scenario),
        };
        let batch = ChangeBatch {
            seq: 1,
            changes: changes.iter().map(row).collect(),
            upto: position(at + 1),
            bytes: 0,
        };
        pending.absorb(batch);
        if !scenario.keeps(Rule::LastEventWins) {
            for (&key, &removed) in &self.pending {
                pending.mark(scenario.key(key), event(removed));
            }
        }
        let upto = pending
            .upto()
            .map(|upto| usize::try_from(upto.file.pos).unwrap_or_default());
        self.pending = pending
            .keys()
            .iter()
            .map(|(key, &last)| (id(key), removed(last)))
            .collect();
        self.pending_upto = upto;
    }

    fn row_change(&self, change: table::Change, scenario: &Scenario) -> RowChange {
        let key = |id| scenario.key(id);
        match change {
            table::Change::Insert(row) => RowChange::Insert { after: key(row.key) },
            table::Change::Update(_, row) if !scenario.keeps(Rule::MovedKeyMarksBoth) => {
                RowChange::Insert { after: key(row.key) }
            }
            table::Change::Update(before, row) => RowChange::Update {
                before: key(before),
                after: key(row.key),
            },
            table::Change::Delete(before) => RowChange::Delete { before: key(before) },
        }
    }

    fn read_bounds(&mut self, scenario: &Scenario, done: Option<u8>) {
        self.copy = Copy::Running(Running {
            resumed: done,
            from: done,
            end: self.visible(scenario).0.last().map(|row| row.key),
            number: 0,
            workers: vec![Worker::Idle; scenario.workers],
            done: Vec::new(),
        });
    }

    fn begin_cycle(&mut self) {
        let keys: Vec<(u8, bool)> = std::mem::take(&mut self.pending).into_iter().collect();
        if keys.is_empty() {
            let upto = self.pending_upto;
            return self.cycle_ended(upto);
        }
        self.drains -= u8::from(self.cut_over == CutOver::Held);
        let marker = self.log.write(Entry::Marker);
        let stage = Stage::Marking(marker);
        self.cycles.push(Cycle {
            keys,
            upto: self.pending_upto,
            stage,
            conflicts: Vec::new(),
        });
    }

    fn advance(&mut self, number: usize, scenario: &Scenario) {
        if let Stage::Marking(_) = self.cycles[number].stage {
            let aloft = |running: &Running| {
                let workers = running.workers.iter().enumerate();
                workers
                    .filter(|(_, worker)| worker.in_flight())
                    .map(|(number, _)| number)
                    .collect::<Vec<_>>()
            };
            let aloft = self.running().map(aloft).unwrap_or_default();
            if scenario.keeps(Rule::Flights) && !aloft.is_empty() {
                self.cycles[number].stage = Stage::Landing(aloft);
                return;
            }
        }
        let keys: KeyMap = self.cycles[number]
            .keys
            .iter()
            .map(|&(key, removed)| (scenario.key(key), event(removed)))
            .collect();
        let mut split = lane::split(&scenario.spec(), keys, scenario.lanes);
        if !scenario.keeps(Rule::OneLane) {
            // Capitals to one lane, small letters to the other.
            let entries = split.concat();
            let lower = |entry: &lane::Entry| id(&entry.0).is_ascii_lowercase();
            split = vec![
                entries.iter().filter(|entry| lower(entry)).cloned().collect(),
                Vec::new(),
            ];
            split[1] = entries.into_iter().filter(|entry| !lower(entry)).collect();
        }
        let lanes = split.into_iter().map(|entries| Lane {
            rest: entries
                .into_iter()
                .map(|(key, last)| (id(&key), removed(last)))
                .collect(),
            batch: Batch::Fresh,
            single: 0,
        });
        self.cycles[number].stage = Stage::Writing(lanes.collect());
    }

    /// Ends the cycle, or lets it go on to its conflicts, once every lane is done.
    fn end_of_writing(&mut self, number: usize) {
        let cycle = &mut self.cycles[number];
        let Stage::Writing(lanes) = &cycle.stage else {
            return;
        };
        if lanes.iter().any(|lane| !lane.rest.is_empty()) {
            return;
        }
        match cycle.conflicts.pop() {
            Some(key) => {
                cycle.stage = Stage::Resolving {
                    set: vec![key],
                    confirmations: 0,
                }
            }
            None => self.end_cycle(number),
        }
    }

    pub(crate) fn end_cycle(&mut self, number: usize) {
        let cycle = self.cycles.remove(number);
        self.cycle_ended(cycle.upto);
    }

    fn cycle_ended(&mut self, upto: Option<usize>) {
        self.synchronised = upto;
        if let Copy::Running(running) = &mut self.copy {
            for worker in &mut running.workers {
                if let Worker::Waiting(_, cycles) = worker {
                    *cycles = cycles.saturating_sub(1);
                }
            }
        }
    }

    /// Gives back what an unfinished batch deleted.
    fn roll_back(&mut self, number: usize) {
        let Stage::Writing(lanes) = &self.cycles[number].stage else {
            return;
        };
        for lane in lanes.clone() {
            if let Batch::Deleted(undo) | Batch::Read { undo, .. } = lane.batch {
                undo.into_iter().for_each(|row| self.ghost.put(row));
            }
        }
    }

    pub(crate) fn watermark(&self) -> Option<u8> {
        match &self.copy {
            Copy::Not(done) | Copy::Marking(done, _) => *done,
            Copy::Running(running) => {
                let key = |id: u8| {
                    changeling_core::key::Key::new(vec![changeling_core::value::Cell::UInt(id.into())])
                };
                let mut watermark = Watermark::starting_at(running.resumed.map(key));
                running
                    .done
                    .iter()
                    .for_each(|&(number, last)| watermark.complete(number, key(last)));
                watermark.key().map(id)
            }
        }
    }

    /// The checkpoint that would be written now, if it says anything new.
    pub(crate) fn next_checkpoint(&self, scenario: &Scenario, watermark: Option<u8>) -> Option<Checkpoint> {
        let upto = if scenario.keeps(Rule::ResumeAtSynchronised) {
            self.synchronised.or(self.start)
        } else {
            self.pending_upto
        };
        let next = Checkpoint {
            watermark,
            upto: upto?,
        };
        (self.checkpoint != Some(next)).then_some(next)
    }

    fn crash(&mut self, scenario: &Scenario) {
        let Some(checkpoint) = self.checkpoint else { return };
        for number in 0..self.cycles.len() {
            self.roll_back(number);
            let Stage::Writing(lanes) = &self.cycles[number].stage else {
                continue;
            };
            for lane in lanes {
                if let (Batch::Read { rows, .. }, false) = (&lane.batch, scenario.keeps(Rule::CommitApart)) {
                    self.orphans.push(rows.clone());
                }
            }
        }
        let written = |running: &Running| {
            let rows = |worker: &Worker| {
                if let Worker::Written(_, rows) = worker {
                    rows.clone()
                } else {
                    Vec::new()
                }
            };
            running.workers.iter().flat_map(rows).collect::<Vec<_>>()
        };
        for row in self.running().map(written).unwrap_or_default() {
            self.ghost.delete(row.key);
        }
        self.crashes -= 1;
        (self.stream, self.start) = (Some(checkpoint.upto), Some(checkpoint.upto));
        self.pending.clear();
        (self.pending_upto, self.synchronised, self.draft, self.sentinel) = (None, None, None, None);
        self.cycles.clear();
        self.copy = Copy::Not(checkpoint.watermark);
        self.cut_over = CutOver::Not;
        self.attempt += 1;
    }
}

/// A place in the log as the tool names it.
fn position(at: usize) -> Coordinates {
    Coordinates {
        file: FilePos {
            file: "log".into(),
            pos: at as u64,
        },
        gtids: Gtids::None,
    }
}

impl Chunk {
    pub(crate) fn done(self) -> (u64, u8) {
        (self.number, self.to)
    }
}
