//! What is left must be said, and a status of 0 means that nothing is.

use changeling_differ::model::Verdict;
use changeling_differ::repair::Policy;
use changeling_support::Flavor;
use rstest::rstest;

use crate::modes::FULL;
use crate::mysql::stage::{Stage, stage_or_skip};
use crate::round::Format;

#[rstest]
#[case(Flavor::MySql)]
#[case(Flavor::MariaDb)]
#[tokio::test]
async fn rows_that_differ_in_a_generated_column_are_not_called_equal(#[case] flavor: Flavor) {
    let mut stage = stage_or_skip!(flavor, 2);
    for (node, factor) in [(1, 2), (2, 3)] {
        let table = format!("CREATE TABLE t (id INT PRIMARY KEY, a INT, more INT AS (a * {factor}) STORED)");
        stage.on(node, &table).await;
        stage
            .on(
                node,
                &format!("INSERT INTO t (id, a) VALUES (1, 1), (2, {factor}), (3, 0)"),
            )
            .await;
    }
    let notes = stage.subject().await.notes.join("\n");
    assert!(notes.contains("generated column \"more\" differ"), "{notes}");
    let (_, report) = stage.diff(Format::Ndjson).await;
    let repaired = stage.repair(&report, FULL).await;
    assert_eq!(repaired.counts(2), "0/1/0/1/0", "{:?}", repaired.told);
    assert_eq!((repaired.outcome.exit_code(), repaired.outcome.remaining), (1, 1));
    let words = "n2 skipped ('1'): the nodes compute more differently";
    assert!(
        repaired.told.iter().any(|line| line.starts_with(words)),
        "{:?}",
        repaired.told
    );
}

#[rstest]
#[case(Flavor::MySql, Format::Ndjson)]
#[case(Flavor::MySql, Format::Ace)]
#[case(Flavor::MariaDb, Format::Ndjson)]
#[case(Flavor::MariaDb, Format::Ace)]
#[tokio::test]
async fn keys_equal_by_value_and_not_by_text_are_one_row_and_become_equal(
    #[case] flavor: Flavor,
    #[case] format: Format,
) {
    let mut stage = stage_or_skip!(flavor, 2);
    stage
        .all("CREATE TABLE t (k VARCHAR(20) COLLATE utf8mb4_general_ci PRIMARY KEY, v INT)")
        .await;
    stage.on(1, "INSERT INTO t VALUES ('Anna', 1), ('Bert', 1)").await;
    stage.on(2, "INSERT INTO t VALUES ('anna', 1), ('BERT', 2)").await;
    assert_eq!(stage.left().await, (Verdict::Differ, 2));
    let (_, report) = stage.diff(format).await;
    let repaired = stage.repair(&report, FULL).await;
    assert_eq!(repaired.counts(2), "0/2/0/0/0", "{:?}", repaired.told);
    assert_eq!(repaired.outcome.exit_code(), 0);
    assert_eq!(stage.left().await, (Verdict::Match, 0));
    assert_eq!(
        stage.texts(2, "SELECT k FROM t ORDER BY k").await,
        ["Anna", "Bert"]
    );
}

#[rstest]
#[case(Flavor::MySql)]
#[case(Flavor::MariaDb)]
#[tokio::test]
async fn keys_that_only_one_node_takes_for_equal_are_told_apart(#[case] flavor: Flavor) {
    let mut stage = stage_or_skip!(flavor, 2);
    for (node, collation) in [(1, "utf8mb4_bin"), (2, "utf8mb4_general_ci")] {
        let table = format!("CREATE TABLE t (k VARCHAR(20) COLLATE {collation} PRIMARY KEY, v INT)");
        stage.on(node, &table).await;
    }
    stage
        .on(1, "INSERT INTO t VALUES ('A', 1), ('a', 2), ('B', 3)")
        .await;
    stage.on(2, "INSERT INTO t VALUES ('A', 1), ('b', 3)").await;
    let (_, report) = stage.diff(Format::Ndjson).await;
    let mut keys = Stage::keys(&report);
    keys.sort();
    assert_eq!(keys, ["B", "a", "b"]);
    let repaired = stage.repair(&report, FULL).await;
    assert_eq!(repaired.counts(2), "1/0/1/0/1", "{:?}", repaired.told);
    assert_eq!(repaired.outcome.exit_code(), 1);
    assert_eq!(
        stage.texts(2, "SELECT CONCAT(k, v) FROM t ORDER BY k").await,
        ["A1", "B3"]
    );
}

#[rstest]
#[case(Flavor::MySql)]
#[case(Flavor::MariaDb)]
#[tokio::test]
async fn versions_that_conflict_are_not_copied_both_ways_and_are_told(#[case] flavor: Flavor) {
    let mut stage = stage_or_skip!(flavor, 3);
    stage.all("CREATE TABLE t (id INT PRIMARY KEY, v INT)").await;
    stage.on(1, "INSERT INTO t VALUES (1, 1)").await;
    stage.on(2, "INSERT INTO t VALUES (1, 2), (2, 2)").await;
    let (_, report) = stage.diff(Format::Ndjson).await;
    let repaired = stage.repair(&report, Policy::Bidirectional).await;
    assert_eq!(
        [repaired.counts(1), repaired.counts(2), repaired.counts(3)],
        ["1/0/0/1/0", "0/0/0/0/0", "1/0/0/0/0"],
        "{:?}",
        repaired.told
    );
    assert_eq!(repaired.outcome.exit_code(), 1);
}
