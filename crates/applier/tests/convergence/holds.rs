//! With every rule kept, no interleaving loses a row.

use rstest::rstest;

use crate::explore::explore;
use crate::scenario::{Policy, Rule, Scenario};
use crate::table::Workload;
use crate::workloads;

fn holds(name: &str, scenario: &Scenario) {
    let began = std::time::Instant::now();
    let explored = explore(scenario);
    if std::env::var_os("CHANGELING_EXPLORE").is_some() {
        eprintln!(
            "{name}: {} states, {} ends, {:?}",
            explored.states,
            explored.swaps,
            began.elapsed()
        );
    }
    assert!(explored.found.is_none(), "{name}: {:?}", explored.found);
    assert!(explored.swaps + explored.duplicates > 0, "{name} ends nowhere");
}

#[rstest]
#[case::hot_row(workloads::hot_row())]
#[case::beyond_the_end(workloads::beyond_the_end())]
#[case::swapped_values(workloads::swapped_values())]
#[case::swapped_twice(workloads::swapped_twice())]
#[case::swapped_and_deleted(workloads::swapped_and_deleted())]
#[case::handed_on(workloads::handed_on())]
#[case::inherited(workloads::inherited())]
#[case::passed_round(workloads::passed_round())]
#[case::moved_key(workloads::moved_key())]
#[case::swapped_keys(workloads::swapped_keys())]
#[case::inserted_again(workloads::inserted_again())]
fn variants(#[case] workload: Workload) {
    let plain = Scenario::new(workload);
    holds("plain", &plain);
    holds(
        "lanes",
        &Scenario {
            lanes: 2,
            batch: 1,
            ..plain.clone()
        },
    );
    holds(
        "workers",
        &Scenario {
            workers: 2,
            ..plain.clone()
        },
    );
    holds(
        "big chunk, retry",
        &Scenario {
            chunk_rows: 3,
            retries: 1,
            ..plain.clone()
        },
    );
    holds(
        "setback",
        &Scenario {
            setbacks: 1,
            chunk_rows: 3,
            ..plain.clone()
        },
    );
    holds(
        "insert",
        &Scenario {
            policy: Policy::Insert,
            ..plain.clone()
        },
    );
    holds(
        "all",
        &Scenario {
            policy: Policy::Insert,
            lanes: 2,
            workers: 2,
            batch: 1,
            ..plain.clone()
        },
    );
}

/// The tool dies once, at any moment, and goes on from its last checkpoint. `crashes` has the larger ones.
#[rstest]
#[case(workloads::swapped_values())]
#[case(workloads::handed_on())]
#[case(workloads::inherited())]
#[case(workloads::passed_round())]
fn a_crash(#[case] workload: Workload) {
    let plain = Scenario {
        crashes: 1,
        chunk_rows: 3,
        ..Scenario::new(workload)
    };
    holds("crash", &plain);
}

/// Keys that differ in bytes and are one row, with batches of one key: the order within a lane matters most.
#[rstest]
#[case(workloads::changed_case())]
#[case(workloads::changed_case_and_back())]
fn collated(#[case] workload: Workload) {
    let plain = Scenario {
        collated: true,
        lanes: 2,
        batch: 1,
        ..Scenario::new(workload)
    };
    holds("collated", &plain);
    holds(
        "collated, insert",
        &Scenario {
            policy: Policy::Insert,
            ..plain.clone()
        },
    );
    // Two lanes that meet in one row make deadlocks, not differences: a cycle reads nothing older than its map.
    holds("collated, two lanes", &plain.without(Rule::OneLane));
}

/// Cut-overs that drain by single cycles, fail and begin again, beside a crash.
#[rstest]
#[case(workloads::swapped_values())]
#[case(workloads::handed_on())]
#[case(workloads::short_life())]
fn cut_overs(#[case] workload: Workload) {
    let plain = Scenario {
        chunk_rows: 3,
        drains: 1,
        ..Scenario::new(workload)
    };
    holds("drain", &plain);
    holds(
        "drain, setbacks",
        &Scenario {
            setbacks: 2,
            ..plain.clone()
        },
    );
    holds("drain, failure", &Scenario { failures: 1, ..plain });
}

/// A unique key that only the ghost has: either every row arrives, or the original held a duplicate.
#[rstest]
#[case(workloads::shared_value())]
#[case(workloads::duplicate())]
fn new_unique_key(#[case] workload: Workload) {
    let plain = Scenario {
        policy: Policy::Insert,
        ..Scenario::new(workload)
    };
    holds("insert", &plain);
    holds(
        "insert, lanes and workers",
        &Scenario {
            lanes: 2,
            workers: 2,
            batch: 1,
            ..plain.clone()
        },
    );
    holds("insert, crash", &Scenario { crashes: 1, ..plain });
}

/// Two workers, two lanes and a crash at once.
#[rstest]
#[case(workloads::swapped_values())]
#[case(workloads::moved_away())]
fn everything_at_once(#[case] workload: Workload) {
    let plain = Scenario {
        crashes: 1,
        lanes: 2,
        workers: 2,
        batch: 1,
        ..Scenario::new(workload)
    };
    holds("at once", &plain);
}

/// The same with a crash at any moment, chunk by chunk: some minutes without optimisation.
#[rstest]
#[case::hot_row(workloads::hot_row())]
#[case::beyond_the_end(workloads::beyond_the_end())]
#[case::swapped_twice(workloads::swapped_twice())]
#[case::swapped_and_deleted(workloads::swapped_and_deleted())]
#[case::handed_on(workloads::handed_on())]
#[case::inherited(workloads::inherited())]
#[case::passed_round(workloads::passed_round())]
#[case::moved_key(workloads::moved_key())]
#[case::swapped_keys(workloads::swapped_keys())]
#[case::inserted_again(workloads::inserted_again())]
#[ignore = "takes minutes; run it in release after a change of the algorithm"]
fn crashes(#[case] workload: Workload) {
    let plain = Scenario {
        crashes: 1,
        ..Scenario::new(workload)
    };
    holds("crash", &plain);
    holds(
        "crash, workers, retry",
        &Scenario {
            workers: 2,
            retries: 1,
            ..plain.clone()
        },
    );
    holds(
        "crash, setback, drain",
        &Scenario {
            setbacks: 1,
            drains: 1,
            ..plain.clone()
        },
    );
    holds(
        "crash, insert",
        &Scenario {
            policy: Policy::Insert,
            ..plain
        },
    );
}

/// As above, for keys that differ in bytes only.
#[test]
#[ignore = "takes minutes; run it in release after a change of the algorithm"]
fn crashes_with_collated_keys() {
    let plain = Scenario::new(workloads::changed_case_and_back());
    holds(
        "collated, crash",
        &Scenario {
            collated: true,
            crashes: 1,
            lanes: 2,
            batch: 1,
            ..plain
        },
    );
}
