//! Longer workloads and single interleavings, chosen at random.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::explore::follow;
use crate::scenario::{Policy, Scenario};
use crate::table::{Change, Row, Workload, row};

fn any_row() -> impl Strategy<Value = Row> {
    (0..3_u8, 0..4_u8, any::<u8>()).prop_map(|(key, unique, rest)| row(b'a' + key, unique, rest))
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        any_row().prop_map(Change::Insert),
        (0..3_u8, any_row()).prop_map(|(key, row)| Change::Update(b'a' + key, row)),
        (0..3_u8).prop_map(|key| Change::Delete(b'a' + key)),
    ]
}

/// Transactions of up to three changes; those that the original refuses are left out.
fn any_workload() -> impl Strategy<Value = Workload> {
    vec(vec(any_change(), 1..=3), 0..14).prop_map(|transactions| {
        let mut workload = Workload::new(&[], &[]);
        transactions
            .iter()
            .for_each(|changes| workload.push_if_valid(changes));
        // The first half is there when the migration begins.
        let rest = workload.transactions.split_off(workload.transactions.len() / 2);
        let states = workload.states.split_off(workload.transactions.len());
        Workload {
            states,
            transactions: rest,
        }
    })
}

fn any_scenario() -> impl Strategy<Value = Scenario> {
    let tool = (1..=3_usize, 1..=3_usize, 1..=3_usize, 1..=2_usize, any::<bool>());
    let mishaps = (0..=2_u8, 0..=2_u8, 0..=2_u8, 0..=2_u8);
    (any_workload(), tool, mishaps).prop_map(
        |(workload, (lanes, batch, workers, chunk_rows, insert), (crashes, retries, setbacks, drains))| {
            Scenario {
                lanes,
                batch,
                workers,
                chunk_rows,
                crashes,
                retries,
                setbacks,
                drains,
                policy: if insert { Policy::Insert } else { Policy::Replace },
                ..Scenario::new(workload)
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn no_random_interleaving_loses_a_row(scenario in any_scenario(), choices in vec(any::<u16>(), 0..400)) {
        if let Err(found) = follow(&scenario, &choices) {
            prop_assert!(false, "{found:?}");
        }
    }
}
