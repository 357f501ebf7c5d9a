//! With one rule left out, some interleaving loses a row, or keeps one that is gone, or an older one.

use crate::explore::{Explored, explore};
use crate::scenario::{Policy, Rule, Scenario};
use crate::table::Workload;
use crate::workloads;

/// Leaves the rule out and demands a difference. The same scenario with the rule kept has none.
fn loses(rule: Rule, scenario: Scenario) -> Explored {
    let explored = explore(&scenario.clone().without(rule));
    let Some(found) = &explored.found else {
        panic!("nothing is lost without {rule:?}: {explored:?}")
    };
    if std::env::var_os("CHANGELING_EXPLORE").is_some() {
        eprintln!("without {rule:?}, after {} states: {found:?}", explored.states);
    }
    assert!(found.what.starts_with("swapped in"), "{found:?}");
    let kept = explore(&scenario);
    assert!(kept.found.is_none(), "with {rule:?}: {:?}", kept.found);
    explored
}

fn plain(workload: Workload) -> Scenario {
    Scenario::new(workload)
}

#[test]
fn leaving_out_the_marker_loses_a_row() {
    loses(Rule::Marker, plain(workloads::hot_row()));
}

#[test]
fn leaving_out_the_wait_for_chunks_loses_a_row() {
    loses(Rule::Flights, plain(workloads::hot_row()));
}

#[test]
fn leaving_out_last_event_wins_loses_a_row() {
    loses(Rule::LastEventWins, plain(workloads::hot_row()));
}

#[test]
fn leaving_out_the_old_key_of_a_moved_row_loses_a_row() {
    loses(Rule::MovedKeyMarksBoth, plain(workloads::moved_away()));
}

#[test]
fn leaving_out_the_delete_loses_a_row() {
    loses(Rule::Delete, plain(workloads::short_life()));
}

#[test]
fn leaving_out_to_replace_removed_keys_loses_a_row() {
    loses(
        Rule::ReplaceAll,
        Scenario {
            collated: true,
            batch: 1,
            ..plain(workloads::changed_case())
        },
    );
}

#[test]
fn leaving_out_delete_before_replace_loses_a_row() {
    loses(
        Rule::DeleteFirst,
        Scenario {
            collated: true,
            ..plain(workloads::changed_case())
        },
    );
}

#[test]
fn leaving_out_serial_cycles_loses_a_row() {
    loses(Rule::Serial, plain(workloads::hot_row()));
}

#[test]
fn leaving_out_stream_before_bounds_loses_a_row() {
    loses(Rule::StreamFirst, plain(workloads::hot_row()));
}

#[test]
fn leaving_out_the_first_marker_loses_a_row() {
    loses(Rule::FirstMarker, plain(workloads::hot_row()));
}

#[test]
fn leaving_out_resume_where_synchronised_loses_a_row() {
    loses(
        Rule::ResumeAtSynchronised,
        Scenario {
            crashes: 1,
            ..plain(workloads::swapped_values())
        },
    );
}

#[test]
fn leaving_out_a_commit_of_its_own_loses_a_row() {
    loses(
        Rule::CommitApart,
        Scenario {
            crashes: 1,
            ..plain(workloads::short_life())
        },
    );
}

#[test]
fn leaving_out_gaps_in_the_watermark_loses_a_row() {
    loses(
        Rule::NoGaps,
        Scenario {
            crashes: 1,
            workers: 2,
            ..plain(workloads::quiet())
        },
    );
}

#[test]
fn leaving_out_missing_rows_loses_a_row() {
    loses(
        Rule::MissingRows,
        Scenario {
            policy: Policy::Insert,
            ..plain(workloads::shared_value())
        },
    );
}

#[test]
fn leaving_out_missing_rows_before_the_watermark_loses_a_row() {
    let scenario = Scenario {
        policy: Policy::Insert,
        crashes: 1,
        ..plain(workloads::shared_value())
    };
    loses(Rule::WatermarkAfterMissing, scenario);
}

#[test]
fn leaving_out_that_a_missing_row_yields_to_events_loses_a_row() {
    loses(Rule::MissingYields, plain(workloads::swapped_and_deleted()));
}

#[test]
fn leaving_out_hold_loses_a_row() {
    loses(Rule::Hold, plain(workloads::swapped_values()));
}

#[test]
fn leaving_out_that_a_failed_cycle_is_not_swapped_loses_a_row() {
    loses(
        Rule::FailedCycle,
        Scenario {
            failures: 1,
            drains: 1,
            ..plain(workloads::swapped_values())
        },
    );
}

#[test]
fn leaving_out_the_lock_wait_loses_a_row() {
    loses(Rule::LockWait, plain(workloads::swapped_values()));
}

#[test]
fn leaving_out_the_sentinel_loses_a_row() {
    loses(Rule::Sentinel, plain(workloads::swapped_values()));
}

#[test]
fn leaving_out_the_challenge_loses_a_row() {
    loses(
        Rule::Challenge,
        Scenario {
            setbacks: 1,
            ..plain(workloads::swapped_values())
        },
    );
}

#[test]
fn leaving_out_remaining_keys_loses_a_row() {
    loses(Rule::Remaining, plain(workloads::swapped_values()));
}

#[test]
fn leaving_out_that_only_outdated_rows_are_displaced_loses_a_row() {
    let scenario = Scenario {
        policy: Policy::Insert,
        crashes: 1,
        ..plain(workloads::shared_value())
    };
    loses(Rule::OnlyOutdated, scenario);
}
