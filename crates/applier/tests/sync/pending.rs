//! The map of pending keys against the plainest idea of it.

use std::collections::HashMap;

use changeling_applier::sync::pending::{KeyEvent, Pending};
use changeling_core::change::{Change, ChangeBatch, DdlKind, RowChange};
use changeling_core::coords::{Coordinates, FilePos, Gtids};
use changeling_core::ident::TableName;
use changeling_core::marker::{Heartbeat, Sentinel};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::plan::number;

fn batch(seq: u64, changes: Vec<Change>) -> ChangeBatch {
    ChangeBatch {
        seq,
        changes,
        upto: position(seq),
        bytes: 0,
    }
}

fn position(seq: u64) -> Coordinates {
    Coordinates {
        file: FilePos {
            file: "b.1".into(),
            pos: seq,
        },
        gtids: Gtids::None,
    }
}

fn any_row() -> impl Strategy<Value = RowChange> {
    let key = || (0..6_i64).prop_map(number);
    prop_oneof![
        key().prop_map(|after| RowChange::Insert { after }),
        key().prop_map(|before| RowChange::Delete { before }),
        (key(), key()).prop_map(|(before, after)| RowChange::Update { before, after }),
    ]
}

proptest! {
    /// However events are cut into batches and taken between, the last event of each key is in the last take that
    /// has the key, and no key is in none.
    #[test]
    fn the_last_event_of_every_key_is_taken(rows in vec((any_row(), any::<bool>()), 0..60)) {
        let mut pending = Pending::default();
        let mut plain = HashMap::new();
        let mut taken = HashMap::new();
        for (number, (row, take)) in rows.iter().enumerate() {
            let changed = match row {
                RowChange::Insert { after } => vec![(after, KeyEvent::Written)],
                RowChange::Delete { before } => vec![(before, KeyEvent::Removed)],
                RowChange::Update { before, after } => {
                    vec![(before, KeyEvent::Removed), (after, KeyEvent::Written)]
                }
            };
            plain.extend(changed.into_iter().map(|(key, event)| (key.clone(), event)));
            pending.absorb(batch(number as u64, vec![Change::Row { watch: 0, row: row.clone() }]));
            if *take {
                let take = pending.take();
                prop_assert_eq!(take.upto, Some(position(number as u64)));
                taken.extend(take.keys);
                prop_assert!(pending.is_empty() && pending.bytes() == 0);
            }
        }
        taken.extend(pending.take().keys);
        prop_assert_eq!(taken, plain);
        prop_assert_eq!(pending.events(), rows.len() as u64);
    }
}

#[test]
fn what_is_not_a_row_is_handed_out() {
    let mut pending = Pending::default();
    let sentinel = |attempt| Sentinel {
        attempt,
        challenge: 7,
    };
    let heartbeat = |micros| Heartbeat {
        written_at_micros: micros,
    };
    let ddl = Change::Ddl {
        table: TableName::new("s", "t"),
        statement: "TRUNCATE TABLE t".into(),
        kind: DdlKind::Truncate,
    };
    let changes = vec![
        Change::Heartbeat(heartbeat(1)),
        Change::Sentinel(sentinel(1)),
        ddl.clone(),
        Change::Sentinel(sentinel(2)),
        Change::Heartbeat(heartbeat(2)),
    ];
    let seen = pending.absorb(batch(1, changes));
    assert_eq!(seen.sentinel, Some(sentinel(2)));
    assert_eq!(seen.heartbeat, Some(heartbeat(2)));
    assert_eq!(seen.statements, [ddl]);
    assert!(pending.is_empty());
    // A batch without a heartbeat leaves the one before: it still stands before everything that follows.
    pending.absorb(batch(2, Vec::new()));
    let taken = pending.take();
    assert_eq!(
        (taken.heartbeat, taken.upto),
        (Some(heartbeat(2)), Some(position(2)))
    );
}

#[test]
fn bytes_count_each_key_once() {
    let mut pending = Pending::default();
    pending.mark(number(1), KeyEvent::Written);
    let one = pending.bytes();
    pending.mark(number(1), KeyEvent::Removed);
    assert_eq!(pending.bytes(), one);
    pending.mark(number(2), KeyEvent::Written);
    assert_eq!((pending.bytes(), pending.len()), (2 * one, 2));
    let taken = pending.take();
    pending.put_back(taken.keys);
    assert_eq!((pending.bytes(), pending.len()), (2 * one, 2));
}
