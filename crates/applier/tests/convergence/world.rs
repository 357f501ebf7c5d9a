//! The state of the model: servers, stream, tool. Small, comparable, and without history.

use std::collections::BTreeMap;

use crate::scenario::Scenario;
use crate::table::{Row, Table};

/// What stands in the binary log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Entry {
    /// The next transaction of the application.
    Application,
    /// A marker, of a cycle or before the copy.
    Marker,
    /// The sentinel of an attempt.
    Sentinel(u8),
}

/// The binary log from the first entry on that anybody can still want. Positions count from there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Log {
    /// Transactions of the application before.
    pub(crate) before: usize,
    pub(crate) entries: Vec<Entry>,
    /// So many of them can be read in the tables; always in the log's order.
    pub(crate) visible: usize,
}

impl Log {
    pub(crate) fn transactions(&self, upto: usize) -> usize {
        let application = |entry: &&Entry| **entry == Entry::Application;
        self.before + self.entries[..upto].iter().filter(application).count()
    }

    pub(crate) fn end(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn write(&mut self, entry: Entry) -> usize {
        self.entries.push(entry);
        self.entries.len() - 1
    }
}

/// A batch of a lane.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Batch {
    /// Not begun.
    Fresh,
    /// Deleted: what would come back by a rollback.
    Deleted(Vec<Row>),
    /// And read from the original.
    Read { undo: Vec<Row>, rows: Vec<Row> },
}

/// A lane of a cycle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lane {
    /// Keys and whether they were removed last, in the lane's order.
    pub(crate) rest: Vec<(u8, bool)>,
    pub(crate) batch: Batch,
    /// So many entries are done one by one after a duplicate.
    pub(crate) single: usize,
}

/// How far a cycle is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    /// The marker stands at this position.
    Marking(usize),
    /// Waits for these workers' chunks.
    Landing(Vec<usize>),
    Writing(Vec<Lane>),
    /// Duplicates are settled: a single row displaces what is in its way; one that is judged has a set that grows.
    Resolving {
        set: Vec<u8>,
        confirmations: u8,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Cycle {
    pub(crate) keys: Vec<(u8, bool)>,
    pub(crate) upto: Option<usize>,
    pub(crate) stage: Stage,
    pub(crate) conflicts: Vec<u8>,
}

/// A chunk of the copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Chunk {
    pub(crate) number: u64,
    pub(crate) from: Option<u8>,
    pub(crate) to: u8,
}

/// What a worker of the copy does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Worker {
    Idle,
    Flying(Chunk),
    Read(Chunk, Vec<Row>),
    /// Written, not committed: these rows are new.
    Written(Chunk, Vec<Row>),
    /// Committed; the flight has not ended. These keys are missing.
    Committed(Chunk, Vec<u8>),
    /// The flight has ended, the missing keys are not noted.
    Landed(Chunk, Vec<u8>),
    /// They are noted; so many cycles have to end.
    Waiting(Chunk, u8),
}

impl Worker {
    pub(crate) fn in_flight(&self) -> bool {
        matches!(
            self,
            Self::Flying(_) | Self::Read(..) | Self::Written(..) | Self::Committed(..)
        )
    }
}

/// The copy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Copy {
    /// Goes on after this key.
    Not(Option<u8>),
    /// The first marker stands at this position.
    Marking(Option<u8>, usize),
    Running(Running),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Running {
    /// Everything up to here was copied before.
    pub(crate) resumed: Option<u8>,
    pub(crate) from: Option<u8>,
    /// The last key; none once the last chunk is cut.
    pub(crate) end: Option<u8>,
    pub(crate) number: u64,
    pub(crate) workers: Vec<Worker>,
    /// Chunks completed, in the order of their completion, as long as a checkpoint may ask.
    pub(crate) done: Vec<(u64, u8)>,
}

/// What a later run knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Checkpoint {
    pub(crate) watermark: Option<u8>,
    pub(crate) upto: usize,
}

/// The cut-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum CutOver {
    Not,
    Held,
    Locked,
    Awaiting,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum End {
    /// The ghost table was swapped in; what it held, and what it had to hold.
    Swapped { ghost: Table, original: Table },
    /// The original is in charge: it holds a duplicate that the new table must not.
    Duplicate,
    /// The original is in charge: somebody gave up.
    GaveUp,
}

/// A row read, and not written, by a session whose client is dead.
pub(crate) type Orphan = Vec<Row>;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) log: Log,
    pub(crate) ghost: Table,
    /// The next entry that the stream delivers.
    pub(crate) stream: Option<usize>,
    pub(crate) pending: BTreeMap<u8, bool>,
    /// Position after the last batch; only while checkpoints matter.
    pub(crate) pending_upto: Option<usize>,
    pub(crate) cycles: Vec<Cycle>,
    /// Where this run's stream began: what a checkpoint says before the first cycle.
    pub(crate) start: Option<usize>,
    /// `CycleState::upto`.
    pub(crate) synchronised: Option<usize>,
    pub(crate) copy: Copy,
    /// A watermark read for a checkpoint that is not written yet.
    pub(crate) draft: Option<Option<u8>>,
    pub(crate) checkpoint: Option<Checkpoint>,
    pub(crate) orphans: Vec<Orphan>,
    pub(crate) cut_over: CutOver,
    pub(crate) attempt: u8,
    /// The newest sentinel that came while the attempt ran.
    pub(crate) sentinel: Option<u8>,
    pub(crate) dead: bool,
    pub(crate) crashes: u8,
    pub(crate) retries: u8,
    pub(crate) setbacks: u8,
    pub(crate) failures: u8,
    pub(crate) drains: u8,
    pub(crate) end: Option<End>,
}

impl World {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        Self {
            log: Log::default(),
            ghost: Table::default(),
            stream: None,
            pending: BTreeMap::new(),
            pending_upto: None,
            cycles: Vec::new(),
            start: None,
            synchronised: None,
            copy: Copy::Not(None),
            draft: None,
            checkpoint: None,
            orphans: Vec::new(),
            cut_over: CutOver::Not,
            attempt: 0,
            sentinel: None,
            dead: false,
            crashes: scenario.crashes,
            retries: scenario.retries,
            setbacks: scenario.setbacks,
            failures: scenario.failures,
            drains: scenario.drains,
            end: None,
        }
    }

    /// The original as a plain read sees it.
    pub(crate) fn visible<'a>(&self, scenario: &'a Scenario) -> &'a Table {
        &scenario.workload.states[self.log.transactions(self.log.visible)]
    }

    /// The original with everything that is in the log.
    pub(crate) fn committed<'a>(&self, scenario: &'a Scenario) -> &'a Table {
        &scenario.workload.states[self.log.transactions(self.log.end())]
    }

    pub(crate) fn running(&self) -> Option<&Running> {
        if let Copy::Running(running) = &self.copy {
            Some(running)
        } else {
            None
        }
    }

    /// Rows of the ghost that open transactions hold locked, those of one transaction left out.
    pub(crate) fn locked_by_others(&self, but: Option<(usize, usize)>, row: Row) -> bool {
        let lanes = self
            .cycles
            .iter()
            .enumerate()
            .flat_map(|(cycle, state)| match &state.stage {
                Stage::Writing(lanes) => lanes
                    .iter()
                    .enumerate()
                    .filter(|(lane, _)| but != Some((cycle, *lane)))
                    .flat_map(|(_, lane)| match &lane.batch {
                        Batch::Fresh => [].iter(),
                        Batch::Deleted(undo) | Batch::Read { undo, .. } => undo.iter(),
                    })
                    .collect::<Vec<_>>(),
                _ => Vec::new(),
            });
        let chunks = self
            .running()
            .into_iter()
            .flat_map(|running| &running.workers)
            .flat_map(|worker| {
                if let Worker::Written(_, rows) = worker {
                    rows.iter()
                } else {
                    [].iter()
                }
            });
        lanes.chain(chunks).any(|held| held.excludes(row))
    }

    /// Forgets what nobody can want any more, so that states that have the same future are the same.
    pub(crate) fn trim(&mut self) {
        if self.crashes == 0 {
            (self.pending_upto, self.synchronised, self.start) = (None, None, None);
            (self.checkpoint, self.draft) = (None, None);
            if let Copy::Running(running) = &mut self.copy {
                (running.resumed, running.number) = (None, 0);
                running.done.clear();
            }
        }
        let mut held = vec![self.log.visible];
        held.extend(self.stream);
        held.extend(self.pending_upto);
        if self.synchronised.is_some() {
            self.start = None;
        }
        held.extend(self.start);
        held.extend(self.synchronised);
        held.extend(self.checkpoint.map(|checkpoint| checkpoint.upto));
        for cycle in &self.cycles {
            held.extend(cycle.upto);
            held.extend(if let Stage::Marking(at) = cycle.stage {
                Some(at)
            } else {
                None
            });
        }
        held.extend(if let Copy::Marking(_, at) = self.copy {
            Some(at)
        } else {
            None
        });
        let first = held.into_iter().min().unwrap_or(0);
        if first == 0 {
            return;
        }
        self.log.before = self.log.transactions(first);
        self.log.entries.drain(..first);
        self.log.visible -= first;
        for position in [
            &mut self.stream,
            &mut self.start,
            &mut self.pending_upto,
            &mut self.synchronised,
        ]
        .into_iter()
        .flatten()
        {
            *position -= first;
        }
        if let Some(checkpoint) = &mut self.checkpoint {
            checkpoint.upto -= first;
        }
        for cycle in &mut self.cycles {
            cycle.upto = cycle.upto.map(|upto| upto - first);
            if let Stage::Marking(at) = &mut cycle.stage {
                *at -= first;
            }
        }
        if let Copy::Marking(_, at) = &mut self.copy {
            *at -= first;
        }
    }
}
