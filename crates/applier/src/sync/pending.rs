//! The keys that changed and were not yet synchronised.

use std::collections::HashMap;

use changeling_core::change::{Change, ChangeBatch, RowChange};
use changeling_core::coords::Coordinates;
use changeling_core::key::Key;
use changeling_core::marker::{Heartbeat, Sentinel};

/// The last thing that happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyEvent {
    /// A row with this key was inserted or updated.
    Written,
    /// The row with this key was deleted, or moved to another key.
    Removed,
}

/// Keys and their last events; of several events of a key only the last counts.
pub type KeyMap = HashMap<Key, KeyEvent>;

/// What an entry of the map costs beside the key itself: table slot, control byte, load factor.
const ENTRY_OVERHEAD: usize = 48;

/// Keys waiting for a cycle.
#[derive(Debug, Default)]
pub struct Pending {
    keys: KeyMap,
    bytes: usize,
    upto: Option<Coordinates>,
    heartbeat: Option<Heartbeat>,
    events: u64,
    takes: u64,
}

/// What a cycle takes.
#[derive(Debug, Default)]
pub struct Taken {
    /// The keys.
    pub keys: KeyMap,
    /// Where a stream must start to repeat everything that is *not* in this or an earlier take.
    pub upto: Option<Coordinates>,
    /// The newest heartbeat that stood before the end of this take.
    pub heartbeat: Option<Heartbeat>,
}

/// What a batch held beside rows.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The last sentinel.
    pub sentinel: Option<Sentinel>,
    /// The last heartbeat.
    pub heartbeat: Option<Heartbeat>,
    /// Statements on watched tables: watch table, kind and text are in the change.
    pub statements: Vec<Change>,
}

impl Pending {
    /// Takes over a batch.
    pub fn absorb(&mut self, batch: ChangeBatch) -> Seen {
        let mut seen = Seen::default();
        for change in batch.changes {
            match change {
                Change::Row { row, .. } => self.row(row),
                Change::Sentinel(sentinel) => seen.sentinel = Some(sentinel),
                Change::Heartbeat(heartbeat) => seen.heartbeat = Some(heartbeat),
                statement @ Change::Ddl { .. } => seen.statements.push(statement),
            }
        }
        self.upto = Some(batch.upto);
        if seen.heartbeat.is_some() {
            self.heartbeat = seen.heartbeat;
        }
        seen
    }

    fn row(&mut self, row: RowChange) {
        self.events += 1;
        match row {
            RowChange::Insert { after } => self.mark(after, KeyEvent::Written),
            RowChange::Delete { before } => self.mark(before, KeyEvent::Removed),
            RowChange::Update { before, after } => {
                if before != after {
                    self.mark(before, KeyEvent::Removed);
                }
                self.mark(after, KeyEvent::Written);
            }
        }
    }

    /// Notes a key; the newest event wins.
    pub fn mark(&mut self, key: Key, event: KeyEvent) {
        let bytes = key.bytes() + ENTRY_OVERHEAD;
        if self.keys.insert(key, event).is_none() {
            self.bytes += bytes;
        }
    }

    /// Takes everything.
    pub fn take(&mut self) -> Taken {
        self.bytes = 0;
        self.takes += 1;
        Taken {
            keys: std::mem::take(&mut self.keys),
            upto: self.upto.clone(),
            heartbeat: self.heartbeat,
        }
    }

    /// Puts back what was taken and not synchronised; events that came meanwhile win.
    pub fn put_back(&mut self, keys: KeyMap) {
        for (key, event) in keys {
            if !self.keys.contains_key(&key) {
                self.mark(key, event);
            }
        }
    }

    /// The keys, left where they are.
    #[must_use]
    pub fn keys(&self) -> &KeyMap {
        &self.keys
    }

    /// The position after the last batch.
    #[must_use]
    pub fn upto(&self) -> Option<&Coordinates> {
        self.upto.as_ref()
    }

    /// Times everything was taken. What is in the map now goes with the next take, so it is synchronised when one cycle
    /// more than this has ended.
    #[must_use]
    pub fn takes(&self) -> u64 {
        self.takes
    }

    /// Number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// About how many bytes the keys occupy.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Row events seen since the start.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }
}

#[cfg(test)]
mod tests {
    use changeling_core::coords::{FilePos, Gtids};
    use changeling_core::value::Cell;

    use super::*;

    fn key(id: i64) -> Key {
        Key::new(vec![Cell::Int(id)])
    }

    fn batch(changes: Vec<RowChange>) -> ChangeBatch {
        ChangeBatch {
            seq: 1,
            changes: changes
                .into_iter()
                .map(|row| Change::Row { watch: 0, row })
                .collect(),
            upto: Coordinates {
                file: FilePos {
                    file: "b.1".into(),
                    pos: 4,
                },
                gtids: Gtids::None,
            },
            bytes: 0,
        }
    }

    #[test]
    fn the_last_event_of_a_key_wins_and_a_moved_row_marks_both_keys() {
        let mut pending = Pending::default();
        pending.absorb(batch(vec![
            RowChange::Insert { after: key(1) },
            RowChange::Update {
                before: key(1),
                after: key(2),
            },
            RowChange::Delete { before: key(3) },
            RowChange::Insert { after: key(3) },
            RowChange::Update {
                before: key(4),
                after: key(4),
            },
        ]));
        let expected = [
            (key(1), KeyEvent::Removed),
            (key(2), KeyEvent::Written),
            (key(3), KeyEvent::Written),
            (key(4), KeyEvent::Written),
        ];
        assert_eq!(*pending.keys(), KeyMap::from(expected));
        assert_eq!(pending.events(), 5);
    }

    #[test]
    fn what_is_put_back_yields_to_what_came_meanwhile() {
        let mut pending = Pending::default();
        pending.absorb(batch(vec![
            RowChange::Insert { after: key(1) },
            RowChange::Insert { after: key(2) },
        ]));
        let taken = pending.take();
        assert_eq!((pending.bytes(), pending.takes()), (0, 1));
        pending.absorb(batch(vec![RowChange::Delete { before: key(1) }]));
        pending.put_back(taken.keys);
        let expected = [(key(1), KeyEvent::Removed), (key(2), KeyEvent::Written)];
        assert_eq!(*pending.keys(), KeyMap::from(expected));
    }

    #[test]
    fn a_hot_row_costs_one_entry() {
        let mut pending = Pending::default();
        for _ in 0..10_000 {
            pending.absorb(batch(vec![RowChange::Update {
                before: key(1),
                after: key(1),
            }]));
        }
        assert_eq!(pending.len(), 1);
        assert!(pending.bytes() < 1000);
    }
}
