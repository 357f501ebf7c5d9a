//! Many differences.

use changeling_differ::model::Verdict;
use changeling_support::Flavor;
use rstest::rstest;

use crate::modes::FULL;
use crate::mysql::stage::{Stage, stage_or_skip};
use crate::round::Format;

/// `n` differences: three fifths missing, a fifth too many, a fifth of other values.
async fn masses(stage: &mut Stage, n: u64) {
    stage
        .all("CREATE TABLE t (id BIGINT PRIMARY KEY, a VARCHAR(60), b TIMESTAMP(6) NULL, c DECIMAL(20,6), d DOUBLE)")
        .await;
    let row = "i, CONCAT('some text ', i), '2026-01-01' + INTERVAL i SECOND, i / 7, i / 3e0";
    stage.on(1, &Stage::numbers(1, n / 5 * 4, row)).await;
    stage.on(2, &Stage::numbers(n / 5 * 3 + 1, n, row)).await;
    stage.on(2, "UPDATE t SET a = CONCAT(a, '!')").await;
    let (_, report) = stage.diff(Format::Ace).await;
    let began = std::time::Instant::now();
    let repaired = stage.repair(&report, FULL).await;
    eprintln!(
        "{:?}: {n} differences repaired in {:?}",
        stage.flavor,
        began.elapsed()
    );
    assert_eq!(
        repaired.counts(2),
        format!("{}/{}/{}/0/0", n / 5 * 3, n / 5, n / 5)
    );
    assert_eq!((repaired.outcome.rechecked, repaired.outcome.remaining), (n, 0));
    assert_eq!(repaired.outcome.exit_code(), 0);
    assert_eq!(stage.left().await, (Verdict::Match, 0));
}

#[rstest]
#[case(Flavor::MySql)]
#[case(Flavor::MariaDb)]
#[tokio::test]
async fn twenty_thousand_differences_go_round(#[case] flavor: Flavor) {
    let mut stage = stage_or_skip!(flavor, 2);
    masses(&mut stage, 20_000).await;
}

#[rstest]
#[case(Flavor::MySql)]
#[case(Flavor::MariaDb)]
#[tokio::test]
#[ignore = "minutes: run by hand"]
async fn a_hundred_thousand_differences_go_round(#[case] flavor: Flavor) {
    let mut stage = stage_or_skip!(flavor, 2);
    masses(&mut stage, 100_000).await;
}
