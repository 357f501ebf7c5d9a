//! What is explored: a workload, how the tool is set up, and which of its rules it forgets.

use changeling_applier::sync::pending::KeyEvent;
use changeling_core::key::{Key, KeyColumn, KeySpec, TargetMatch};
use changeling_core::schema::ColumnKind;
use changeling_core::value::Cell;

use crate::table::Workload;

/// The rules that the argument of `sync/mod.rs` and `cutover/mod.rs` rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// A cycle reads only after its marker's commit has returned.
    Marker,
    /// A cycle waits for the chunks that were in flight then.
    Flights,
    /// Of several events of a key the last decides whether its row is deleted.
    LastEventWins,
    /// An update that changes the key marks the old key too.
    MovedKeyMarksBoth,
    /// Rows of removed keys are deleted.
    Delete,
    /// Deleting comes before replacing.
    DeleteFirst,
    /// Removed keys are read and replaced as well.
    ReplaceAll,
    /// A key has one lane. Not needed, see `holds`.
    OneLane,
    /// Cycles run one after another.
    Serial,
    /// The stream starts before the bounds of the copy are read.
    StreamFirst,
    /// A marker commits between the start of the stream and the copy.
    FirstMarker,
    /// The position to resume from is that of the last completed cycle.
    ResumeAtSynchronised,
    /// What a statement had not committed when the tool died is rolled back.
    CommitApart,
    /// The watermark stops at the first gap.
    NoGaps,
    /// A row that a chunk could not write is synchronised.
    MissingRows,
    /// A chunk is complete only when the rows it could not write are synchronised.
    WatermarkAfterMissing,
    /// A row that a chunk could not write is noted only where no event of it is.
    MissingYields,
    /// Only a row whose original no longer holds the value makes room.
    OnlyOutdated,
    /// The cut-over waits for the cycle that runs.
    Hold,
    /// An applier whose cycle failed is not swapped.
    FailedCycle,
    /// The lock waits until every committed change is visible.
    LockWait,
    /// Under the lock the sentinel is awaited.
    Sentinel,
    /// The sentinel must be this attempt's.
    Challenge,
    /// Keys that are not synchronised are synchronised under the lock.
    Remaining,
}

/// How rows are written where the ghost has a unique key that the original has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    Replace,
    Insert,
}

/// A workload and a tool.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) workload: Workload,
    pub(crate) lanes: usize,
    pub(crate) batch: usize,
    pub(crate) workers: usize,
    pub(crate) chunk_rows: usize,
    /// How often the tool may die.
    pub(crate) crashes: u8,
    /// How often a chunk may be rolled back and tried again.
    pub(crate) retries: u8,
    /// How often a cut-over may fail.
    pub(crate) setbacks: u8,
    /// How often a cycle may fail for good.
    pub(crate) failures: u8,
    /// Single cycles that a cut-over may run before its lock.
    pub(crate) drains: u8,
    pub(crate) policy: Policy,
    /// Whether two keys can differ in bytes and be one row.
    pub(crate) collated: bool,
    pub(crate) without: Option<Rule>,
}

impl Scenario {
    /// One worker, one row a chunk, one lane; nothing goes wrong.
    pub(crate) fn new(workload: Workload) -> Self {
        Self {
            workload,
            lanes: 1,
            batch: 2,
            workers: 1,
            chunk_rows: 1,
            crashes: 0,
            retries: 0,
            setbacks: 0,
            failures: 0,
            drains: 0,
            policy: Policy::Replace,
            collated: false,
            without: None,
        }
    }

    pub(crate) fn keeps(&self, rule: Rule) -> bool {
        self.without != Some(rule)
    }

    pub(crate) fn without(mut self, rule: Rule) -> Self {
        self.without = Some(rule);
        self
    }

    /// The key as the tool is told of it.
    pub(crate) fn spec(&self) -> KeySpec {
        let kind = if self.collated {
            ColumnKind::Text {
                charset: "utf8mb4".into(),
                collation: "utf8mb4_general_ci".into(),
            }
        } else {
            ColumnKind::Integer {
                width: 1,
                unsigned: true,
            }
        };
        let column = KeyColumn {
            source: "id".into(),
            target: "id".into(),
            target_kind: kind.clone(),
            kind,
            descending: false,
            target_match: TargetMatch::Collation,
        };
        KeySpec {
            columns: vec![column],
        }
    }

    pub(crate) fn key(&self, id: u8) -> Key {
        Key::new(vec![if self.collated {
            Cell::Text(vec![id].into())
        } else {
            Cell::UInt(id.into())
        }])
    }
}

/// A key of the model in the tool's words, and back.
pub(crate) fn id(key: &Key) -> u8 {
    match &key.cells()[0] {
        Cell::UInt(id) => u8::try_from(*id).expect("a key of the model"),
        Cell::Text(bytes) => bytes[0],
        other => panic!("{other:?} is no key of the model"),
    }
}

/// Whether the key's row was removed last.
pub(crate) fn removed(event: KeyEvent) -> bool {
    event == KeyEvent::Removed
}

/// The other way round.
pub(crate) fn event(removed: bool) -> KeyEvent {
    if removed {
        KeyEvent::Removed
    } else {
        KeyEvent::Written
    }
}
