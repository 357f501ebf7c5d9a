use changeling_applier::plan::TableNames;
use changeling_applier::progress::{LiveSettings, ServerIdentity};
use changeling_applier::settings::LoadLimits;
use changeling_core::ident::TableName;
use rstest::rstest;

use super::*;

/// A migration in its middle.
pub(crate) fn sample() -> MigrationState {
    let original = TableName::new("shop", "orders");
    let server = |host: &str| ServerIdentity {
        address: format!("{host}:3306"),
        version: "8.4.6".into(),
    };
    MigrationState {
        phase: Phase::Copying,
        names: Some(TableNames {
            ghost: original.sibling("_orders_gho"),
            changelog: original.sibling("_orders_ghc"),
            checkpoint: original.sibling("_orders_ghk"),
            old: original.sibling("_orders_del"),
            original,
        }),
        applier: server("primary"),
        inspector: server("replica1"),
        started_at_micros: 1_700_000_000_000_000,
        elapsed: Duration::from_millis(155_900),
        elapsed_copy: Duration::from_secs(126),
        rows_copied: 4600,
        rows_estimate: 7528,
        events_applied: 12,
        backlog: 0,
        backlog_capacity: 1000,
        coordinates: "bin.000069:5961".into(),
        lag: Duration::from_millis(10),
        heartbeat_lag: Duration::from_millis(13),
        eta: Eta::In(Duration::from_millis(79_600)),
        settings: LiveSettings {
            chunk_size: 1000,
            dml_batch_size: 500,
            max_lag: Duration::from_millis(1500),
            max_load: LoadLimits::from([("Threads_running".into(), 50)]),
            throttle_additional_flag_file: Some("/tmp/gh-ost.throttle".into()),
            ..LiveSettings::default()
        },
        ..MigrationState::default()
    }
}

fn scene() -> Scene {
    Scene {
        executing_on: "ops1".into(),
        time_zone: TimeZone::UTC,
        socket: "/tmp/gh-ost.shop.orders.sock".into(),
        set_files: BTreeSet::new(),
    }
}

#[test]
fn the_line_is_gh_osts() {
    assert_eq!(
        line(&sample()),
        "Copy: 4600/7528 61.1%; Applied: 12; Backlog: 0/1000; Time: 2m35s(total), 2m6s(copy); streamer: \
         bin.000069:5961; Lag: 0.01s, HeartbeatLag: 0.01s, State: migrating; ETA: 1m19s"
    );
}

#[test]
fn the_line_of_every_phase() {
    let phases = [
        Phase::Preparing,
        Phase::CountingRows,
        Phase::Copying,
        Phase::BuildingIndexes,
        Phase::Verifying,
        Phase::Postponing,
        Phase::CuttingOver,
        Phase::Finishing,
        Phase::Done,
    ];
    let mut lines = Vec::new();
    for phase in phases {
        for throttled in [None, Some("commanded by user".to_owned())] {
            let state = MigrationState {
                phase,
                throttled,
                verified: (12, 80),
                ..sample()
            };
            let line = line(&state);
            let (_, tail) = line.split_once("State: ").unwrap();
            lines.push(format!(
                "{phase:?}, throttled {}: {tail}",
                state.throttled.is_some()
            ));
        }
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn an_empty_table_is_complete() {
    assert!(
        line(&MigrationState::default())
            .starts_with("Copy: 0/0 100.0%; Applied: 0; Backlog: 0/0; Time: 0s(total)")
    );
}

#[test]
fn the_block_of_settings_is_gh_osts() {
    insta::assert_snapshot!(hint(&sample(), &scene()));
}

#[test]
fn the_block_of_settings_with_everything() {
    let mut state = sample();
    state.settings.throttle_flag_file = Some("/tmp/t".into());
    state.settings.postpone_flag_file = Some("/tmp/p".into());
    state.settings.panic_flag_file = Some("/tmp/x".into());
    state.settings.throttle_query = Some("select 0".into());
    state.settings.control_replicas = vec!["r1:3306".into(), "r2:3306".into()];
    state.settings.critical_load = LoadLimits::from([("Threads_running".into(), 500)]);
    state.settings.nice_ratio = 0.7;
    let scene = Scene {
        set_files: BTreeSet::from(["/tmp/p".to_owned()]),
        ..scene()
    };
    insta::assert_snapshot!(hint(&state, &scene));
}

#[rstest]
#[case(0, "0s")]
#[case(59, "59s")]
#[case(60, "1m0s")]
#[case(3600, "1h0m0s")]
#[case(90_061, "25h1m1s")]
fn durations_are_gos(#[case] seconds: u64, #[case] shown: &str) {
    assert_eq!(duration(Duration::from_secs(seconds)), shown);
}

#[rstest]
#[case(Eta::Unknown, "N/A")]
#[case(Eta::In(Duration::from_millis(999)), "due")]
#[case(Eta::In(Duration::from_millis(1999)), "1s")]
#[case(Eta::Due, "due")]
fn etas_are_gh_osts(#[case] time: Eta, #[case] shown: &str) {
    assert_eq!(eta(time), shown);
}

#[rstest]
#[case(59, 9000, 9000, true)]
#[case(61, 9000, 9000, false)]
#[case(65, 9000, 9000, true)]
#[case(181, 9000, 9000, false)]
#[case(185, 9000, 9000, false)]
#[case(185, 180, 9000, true)]
#[case(185, 9000, 30, true)]
#[case(210, 9000, 9000, true)]
#[case(211, 60, 9000, true)]
fn lines_come_when_gh_osts_do(
    #[case] elapsed: u64,
    #[case] left: u64,
    #[case] since: u64,
    #[case] due: bool,
) {
    let state = MigrationState {
        elapsed: Duration::from_secs(elapsed),
        eta: Eta::In(Duration::from_secs(left)),
        ..sample()
    };
    assert_eq!(line_is_due(&state, Duration::from_secs(since)), due);
}

#[test]
fn while_nobody_knows_when_it_ends_a_line_comes_each_second() {
    let state = MigrationState {
        elapsed: Duration::from_secs(7001),
        eta: Eta::Unknown,
        ..sample()
    };
    assert!(line_is_due(&state, Duration::from_secs(9000)));
    assert!(!hint_is_due(&state));
    assert!(hint_is_due(&MigrationState {
        elapsed: Duration::from_secs(1200),
        ..sample()
    }));
}
