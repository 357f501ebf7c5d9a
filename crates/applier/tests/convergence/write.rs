//! The statements: lanes, chunks, conflicts, and the last keys under the lock.

use changeling_applier::sync::pending::{KeyEvent, KeyMap, Pending};

use crate::scenario::{Policy, Rule, Scenario, event, id, removed};
use crate::step::Step;
use crate::table::{Row, Table, same};
use crate::world::{Batch, Chunk, Copy, CutOver, End, Stage, Worker, World};

/// Cycles that a chunk waits for: the one that may run, and the next.
const CYCLES: u8 = 2;
/// As in `sync/conflict.rs`.
const CONFIRMATIONS: u8 = 3;

impl World {
    pub(crate) fn lane_step(&mut self, step: Step, (cycle, lane): (usize, usize), scenario: &Scenario) {
        let Stage::Writing(lanes) = &self.cycles[cycle].stage else {
            return;
        };
        let mut state = lanes[lane].clone();
        let batch = scenario.batch_of(&state).to_vec();
        match (step, state.batch.clone()) {
            (Step::Delete(..), _) => {
                let undo = scenario
                    .deletes(&batch)
                    .into_iter()
                    .filter_map(|key| self.ghost.delete(key));
                state.batch = Batch::Deleted(undo.collect());
            }
            (Step::Read(..), before) => {
                let undo = if let Batch::Deleted(undo) = before {
                    undo
                } else {
                    Vec::new()
                };
                state.batch = Batch::Read {
                    undo,
                    rows: look_up(self.visible(scenario), &scenario.replaces(&batch)),
                };
            }
            (Step::Write(..), Batch::Read { undo, rows }) => {
                state.batch = Batch::Fresh;
                if self.write_rows(scenario, &rows) {
                    if !scenario.keeps(Rule::DeleteFirst) {
                        self.delete_all(&scenario.deletes(&batch));
                    }
                    state.rest.drain(..batch.len());
                    state.single = state.single.saturating_sub(1);
                } else {
                    undo.into_iter().for_each(|row| self.ghost.put(row));
                    if state.single == 0 && batch.len() > 1 {
                        state.single = batch.len();
                    } else {
                        self.cycles[cycle].conflicts.push(batch[0].0);
                        state.rest.remove(0);
                        state.single = state.single.saturating_sub(1);
                    }
                }
            }
            (_, Batch::Deleted(undo) | Batch::Read { undo, .. }) => {
                undo.into_iter().for_each(|row| self.ghost.put(row));
                state.batch = Batch::Fresh;
            }
            (_, Batch::Fresh) => {}
        }
        if let Stage::Writing(lanes) = &mut self.cycles[cycle].stage {
            lanes[lane] = state;
        }
    }

    fn delete_all(&mut self, keys: &[u8]) {
        self.ghost
            .0
            .retain(|row| !keys.iter().any(|key| same(*key, row.key)));
    }

    /// One statement: `REPLACE`, or `INSERT`, which writes nothing and says no if there is a duplicate.
    fn write_rows(&mut self, scenario: &Scenario, rows: &[Row]) -> bool {
        match scenario.policy {
            Policy::Replace => rows.iter().for_each(|row| self.ghost.replace(*row)),
            Policy::Insert => {
                let mut ghost = self.ghost.clone();
                for row in rows {
                    if ghost.refuses(*row) {
                        return false;
                    }
                    ghost.put(*row);
                }
                self.ghost = ghost;
            }
        }
        true
    }

    /// A batch of one in `conflict::settle`, or a round of judging it.
    pub(crate) fn resolve(&mut self, number: usize, scenario: &Scenario) {
        let Stage::Resolving { set, confirmations } = self.cycles[number].stage.clone() else {
            return;
        };
        let rows = look_up(self.visible(scenario), &set);
        let before = self.ghost.clone();
        self.delete_all(&set);
        if self.write_rows(scenario, &rows) {
            return self.next_conflict(number);
        }
        if set.len() == 1 && self.displace(number, &rows, scenario) {
            return;
        }
        self.ghost = before;
        let mut larger = set.clone();
        for row in &self.ghost.0 {
            if rows.iter().any(|wanted| wanted.unique == row.unique)
                && !larger.iter().any(|key| same(*key, row.key))
            {
                larger.push(row.key);
            }
        }
        let confirmations = confirmations + u8::from(larger.len() == set.len());
        if confirmations >= CONFIRMATIONS {
            self.end = Some(End::Duplicate);
        }
        self.cycles[number].stage = Stage::Resolving {
            set: larger,
            confirmations,
        };
    }

    /// Deletes the outdated rows in the way of these and writes them; the displaced ones come next. False if others are
    /// in the way as well.
    fn displace(&mut self, number: usize, rows: &[Row], scenario: &Scenario) -> bool {
        let visible = self.visible(scenario);
        let outdated = |row: &&Row| {
            let present = visible.get(row.key);
            present.is_none_or(|present| present.unique != row.unique) || !scenario.keeps(Rule::OnlyOutdated)
        };
        let in_the_way = |row: &&Row| rows.iter().any(|wanted| wanted.unique == row.unique);
        let displaced = self.ghost.0.iter().filter(in_the_way).filter(outdated);
        let displaced: Vec<u8> = displaced.map(|row| row.key).collect();
        self.delete_all(&displaced);
        if !self.write_rows(scenario, rows) {
            return false;
        }
        self.cycles[number].conflicts.extend(displaced);
        self.next_conflict(number);
        true
    }

    fn next_conflict(&mut self, number: usize) {
        match self.cycles[number].conflicts.pop() {
            Some(key) => {
                self.cycles[number].stage = Stage::Resolving {
                    set: vec![key],
                    confirmations: 0,
                }
            }
            None => self.end_cycle(number),
        }
    }

    pub(crate) fn copy_step(&mut self, step: Step, number: usize, scenario: &Scenario) {
        let visible = self.visible(scenario).clone();
        let Copy::Running(running) = &mut self.copy else {
            return;
        };
        let crashes = self.crashes > 0;
        let worker = std::mem::replace(&mut running.workers[number], Worker::Idle);
        let next = match (step, worker) {
            (Step::TakeOff(_), _) => {
                let Some(end) = running.end else { return };
                let nth = visible
                    .range(running.from, end)
                    .get(scenario.chunk_rows - 1)
                    .map(|row| row.key);
                let to = nth.filter(|last| *last != end).unwrap_or(end);
                let chunk = Chunk {
                    number: running.number,
                    from: running.from,
                    to,
                };
                running.from = Some(to);
                running.number += 1;
                if to == end {
                    running.end = None;
                }
                Worker::Flying(chunk)
            }
            (Step::ReadChunk(_), Worker::Flying(chunk)) => {
                Worker::Read(chunk, visible.range(chunk.from, chunk.to))
            }
            (Step::WriteChunk(_), Worker::Read(chunk, rows)) => {
                let mut written = Vec::new();
                for row in rows {
                    if !self.ghost.refuses(row) {
                        self.ghost.put(row);
                        written.push(row);
                    }
                }
                Worker::Written(chunk, written)
            }
            (Step::CommitChunk(_), Worker::Written(chunk, _)) => {
                let missing = |row: &Row| self.ghost.get(row.key).is_none();
                let missing = visible
                    .range(chunk.from, chunk.to)
                    .into_iter()
                    .filter(missing)
                    .map(|row| row.key);
                Worker::Committed(
                    chunk,
                    if scenario.keeps(Rule::MissingRows) {
                        missing.collect()
                    } else {
                        Vec::new()
                    },
                )
            }
            (Step::Land(_), Worker::Committed(chunk, missing)) => {
                for cycle in &mut self.cycles {
                    if let Stage::Landing(flights) = &mut cycle.stage {
                        flights.retain(|flight| *flight != number);
                    }
                }
                if missing.is_empty() {
                    complete(running, chunk, crashes, scenario);
                    Worker::Idle
                } else {
                    Worker::Landed(chunk, missing)
                }
            }
            (Step::NoteMissing(_), Worker::Landed(chunk, missing)) => {
                note(&mut self.pending, &missing, scenario);
                if scenario.keeps(Rule::WatermarkAfterMissing) {
                    Worker::Waiting(chunk, CYCLES)
                } else {
                    complete(running, chunk, crashes, scenario);
                    Worker::Idle
                }
            }
            (Step::CompleteChunk(_), Worker::Waiting(chunk, _)) => {
                complete(running, chunk, crashes, scenario);
                Worker::Idle
            }
            (Step::RetryChunk(_), Worker::Read(chunk, _)) => {
                self.retries -= 1;
                Worker::Flying(chunk)
            }
            (Step::RetryChunk(_), Worker::Written(chunk, written)) => {
                self.ghost.0.retain(|row| !written.contains(row));
                self.retries -= 1;
                Worker::Flying(chunk)
            }
            (_, worker) => worker,
        };
        if let Copy::Running(running) = &mut self.copy {
            running.workers[number] = next;
        }
    }

    /// Synchronises what is left in the locking session, and swaps.
    pub(crate) fn swap(&mut self, scenario: &Scenario) {
        let keys: Vec<(u8, bool)> = self
            .pending
            .iter()
            .map(|(&key, &removed)| (key, removed))
            .collect();
        if scenario.keeps(Rule::Remaining) {
            let before = self.ghost.clone();
            self.delete_all(&scenario.deletes(&keys));
            let rows = look_up(self.visible(scenario), &scenario.replaces(&keys));
            if !self.write_rows(scenario, &rows) {
                self.ghost = before;
                self.cut_over = CutOver::Not;
                self.end = Some(End::GaveUp);
                return;
            }
        }
        let original = self.committed(scenario).clone();
        self.end = Some(End::Swapped {
            ghost: self.ghost.clone(),
            original,
        });
    }
}

/// The rows of these keys, in the order of the key, each once.
fn look_up(table: &Table, keys: &[u8]) -> Vec<Row> {
    table
        .0
        .iter()
        .copied()
        .filter(|row| keys.iter().any(|key| same(*key, row.key)))
        .collect()
}

fn complete(running: &mut crate::world::Running, chunk: Chunk, crashes: bool, scenario: &Scenario) {
    if !crashes {
        return;
    }
    if scenario.keeps(Rule::NoGaps) {
        running.done.push(chunk.done());
    } else {
        // As if whatever is complete were everything before it.
        let number = running.done.len() as u64;
        running.done.push((number, chunk.to));
    }
}

/// Notes keys that a chunk could not write. An event of the same key that came meanwhile knows better.
fn note(pending: &mut std::collections::BTreeMap<u8, bool>, missing: &[u8], scenario: &Scenario) {
    let mut map = Pending::default();
    pending
        .iter()
        .for_each(|(&key, &removed)| map.mark(scenario.key(key), event(removed)));
    if scenario.keeps(Rule::MissingYields) {
        let keys: KeyMap = missing
            .iter()
            .map(|&key| (scenario.key(key), KeyEvent::Written))
            .collect();
        map.put_back(keys);
    } else {
        missing
            .iter()
            .for_each(|&key| map.mark(scenario.key(key), KeyEvent::Written));
    }
    *pending = map
        .keys()
        .iter()
        .map(|(key, &last)| (id(key), removed(last)))
        .collect();
}
