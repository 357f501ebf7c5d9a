//! How keys are spread over lanes.

use std::collections::BTreeMap;

use changeling_applier::plan::ConflictPolicy;
use changeling_applier::sync::lane::{Entry, split};
use changeling_applier::sync::pending::{KeyEvent, KeyMap};
use changeling_core::key::{Key, KeySpec};
use changeling_core::schema::ColumnKind;
use changeling_core::value::Cell;
use proptest::collection::{hash_map, vec};
use proptest::prelude::*;

use crate::plan::{INTEGER, plan, text};

fn spec(kinds: &[ColumnKind]) -> KeySpec {
    let names = ["a", "b", "c"];
    let key: Vec<_> = kinds
        .iter()
        .zip(names)
        .map(|(kind, name)| (name, name, kind.clone()))
        .collect();
    plan("s", "t", &key, ConflictPolicy::Replace).key.spec()
}

fn any_event() -> impl Strategy<Value = KeyEvent> {
    prop_oneof![Just(KeyEvent::Written), Just(KeyEvent::Removed)]
}

/// Names that a collation takes for few different ones.
fn any_name() -> impl Strategy<Value = Cell> {
    "[aAäÄbB]{1,2} {0,1}".prop_map(|name| Cell::Text(name.into_bytes().into()))
}

fn numbers() -> impl Strategy<Value = KeyMap> {
    hash_map(
        any::<i64>().prop_map(|id| Key::new(vec![Cell::Int(id)])),
        any_event(),
        0..60,
    )
}

fn numbered_names() -> impl Strategy<Value = KeyMap> {
    let key = (any_name(), 0..6_i64).prop_map(|(name, id)| Key::new(vec![name, Cell::Int(id)]));
    hash_map(key, any_event(), 0..60)
}

fn names() -> impl Strategy<Value = KeyMap> {
    hash_map(vec(any_name(), 2).prop_map(Key::new), any_event(), 0..60)
}

fn lanes_of(lanes: &[Vec<Entry>]) -> impl Iterator<Item = (usize, &Entry)> {
    lanes
        .iter()
        .enumerate()
        .flat_map(|(lane, entries)| entries.iter().map(move |entry| (lane, entry)))
}

/// Every key with its event is in exactly one lane, and each lane is in order.
fn nothing_is_lost(keys: &KeyMap, lanes: &[Vec<Entry>]) -> Result<(), TestCaseError> {
    let found: KeyMap = lanes_of(lanes).map(|(_, entry)| entry.clone()).collect();
    prop_assert_eq!(&found, keys);
    prop_assert_eq!(lanes_of(lanes).count(), keys.len());
    prop_assert!(
        lanes
            .iter()
            .all(|lane| lane.is_sorted_by(|one, other| one.0 < other.0))
    );
    Ok(())
}

proptest! {
    #[test]
    fn the_same_key_has_the_same_lane(keys in numbers(), more in numbers(), lanes in 1..9_usize) {
        let spec = spec(&[INTEGER]);
        let first = split(&spec, keys.clone(), lanes);
        prop_assert_eq!(first.len(), lanes);
        nothing_is_lost(&keys, &first)?;
        // Whatever else is in the map.
        let mut both = keys.clone();
        both.extend(more);
        let second = split(&spec, both.clone(), lanes);
        nothing_is_lost(&both, &second)?;
        let second: BTreeMap<&Key, usize> = lanes_of(&second).map(|(lane, (key, _))| (key, lane)).collect();
        for (lane, (key, _)) in lanes_of(&first) {
            prop_assert_eq!(second.get(key), Some(&lane));
        }
    }

    #[test]
    fn what_a_collation_does_not_tell_apart_has_one_lane(keys in numbered_names(), lanes in 1..9_usize) {
        let split = split(&spec(&[text(), INTEGER]), keys.clone(), lanes);
        nothing_is_lost(&keys, &split)?;
        // Keys that are one row under some collation have the same number.
        let mut lane_of = BTreeMap::new();
        for (lane, (key, _)) in lanes_of(&split) {
            prop_assert_eq!(*lane_of.entry(&key.cells()[1]).or_insert(lane), lane);
        }
    }

    #[test]
    fn keys_of_text_alone_have_one_lane(keys in names(), lanes in 1..9_usize) {
        let split = split(&spec(&[text(), text()]), keys.clone(), lanes);
        nothing_is_lost(&keys, &split)?;
        prop_assert!(split.iter().skip(1).all(Vec::is_empty));
    }

    #[test]
    fn floating_point_keys_have_one_lane(keys in hash_map(any::<u64>(), any_event(), 0..60), lanes in 1..9_usize) {
        // 0.0 and -0.0 are one row.
        let keys: KeyMap = keys.into_iter().map(|(bits, event)| (Key::new(vec![Cell::Double(bits)]), event)).collect();
        let split = split(&spec(&[ColumnKind::Double]), keys.clone(), lanes);
        nothing_is_lost(&keys, &split)?;
        prop_assert!(split.iter().skip(1).all(Vec::is_empty));
    }
}

#[test]
fn many_keys_use_all_lanes() {
    let keys: KeyMap = (0..1000)
        .map(|id| (Key::new(vec![Cell::Int(id)]), KeyEvent::Written))
        .collect();
    let lanes = split(&spec(&[INTEGER]), keys, 4);
    assert!(
        lanes.iter().all(|lane| (150..350).contains(&lane.len())),
        "{:?}",
        lanes.iter().map(Vec::len)
    );
}
