//! Foreign keys, unique values, triggers.

use changeling_differ::model::Verdict;
use changeling_differ::repair::{RepairError, Triggers};
use changeling_support::Flavor;
use rstest::rstest;

use crate::modes::FULL;
use crate::mysql::stage::{Stage, stage_or_skip};
use crate::round::{Format, options};

#[rstest]
#[case(Flavor::MySql)]
#[case(Flavor::MariaDb)]
#[tokio::test]
async fn c15_rows_that_refer_to_each_other_are_written_in_a_possible_order(#[case] flavor: Flavor) {
    let mut stage = stage_or_skip!(flavor, 2);
    // Each row refers to the next one, or to none: batches are in the order of keys, so everything refers forwards.
    stage
        .all("CREATE TABLE t (id INT PRIMARY KEY, next INT, FOREIGN KEY (next) REFERENCES t (id)); SET foreign_key_checks = 0")
        .await;
    stage
        .on(1, &Stage::numbers(1, 700, "i, IF(i < 700, i + 1, NULL)"))
        .await;
    stage
        .on(2, &Stage::numbers(1001, 1700, "i, IF(i > 1001, i - 1, NULL)"))
        .await;
    let (_, report) = stage.diff(Format::Ndjson).await;
    let repaired = stage.repair(&report, FULL).await;
    assert_eq!(
        repaired.counts(2),
        "700/0/700/0/0",
        "{:?}",
        repaired.told.iter().take(5).collect::<Vec<_>>()
    );
    assert_eq!(stage.left().await, (Verdict::Match, 0));
}

const PARENT_AND_CHILD: &str = "CREATE TABLE parent (id INT PRIMARY KEY); \
    CREATE TABLE t (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES parent (id))";

#[rstest]
#[case(Flavor::MySql)]
#[case(Flavor::MariaDb)]
#[tokio::test]
async fn c15_a_row_without_its_parent_fails_alone_and_is_reported(#[case] flavor: Flavor) {
    let mut stage = stage_or_skip!(flavor, 2);
    stage.all(PARENT_AND_CHILD).await;
    stage
        .all(&Stage::numbers(1, 100, "i").replace("INTO t", "INTO parent"))
        .await;
    stage.on(1, &Stage::numbers(1, 100, "i, i")).await;
    stage.on(2, "DELETE FROM parent WHERE id IN (7, 77)").await;
    let (_, report) = stage.diff(Format::Ndjson).await;
    let repaired = stage.repair(&report, FULL).await;
    assert_eq!(repaired.counts(2), "98/0/0/0/2", "{:?}", repaired.told);
    assert_eq!(repaired.outcome.exit_code(), 1);
    assert!(
        repaired.told.iter().any(|line| line.contains("1452")),
        "{:?}",
        repaired.told
    );
    // Once the parent is repaired, so is the child.
    stage.on(2, "INSERT INTO parent VALUES (7), (77)").await;
    let repaired = stage.repair(&report, FULL).await;
    assert_eq!(
        (repaired.counts(2), repaired.outcome.exit_code()),
        ("2/0/0/0/0".into(), 0)
    );
    assert_eq!(stage.left().await, (Verdict::Match, 0));
}

#[rstest]
#[case(Flavor::MySql, "CASCADE")]
#[case(Flavor::MySql, "SET NULL")]
#[case(Flavor::MariaDb, "CASCADE")]
#[case(Flavor::MariaDb, "SET NULL")]
#[tokio::test]
async fn c15_a_deletion_or_change_that_would_cascade_is_not_made(#[case] flavor: Flavor, #[case] rule: &str) {
    let mut stage = stage_or_skip!(flavor, 2);
    stage
        .all(&format!(
            "CREATE TABLE t (id INT PRIMARY KEY, code INT, UNIQUE (code)); \
             CREATE TABLE child (id INT PRIMARY KEY, t INT, FOREIGN KEY (t) REFERENCES t (id) ON DELETE {rule}); \
             CREATE TABLE other (id INT PRIMARY KEY, code INT, FOREIGN KEY (code) REFERENCES t (code) ON UPDATE {rule})"
        ))
        .await;
    stage.on(1, "INSERT INTO t VALUES (3, 30), (4, 40)").await;
    stage
        .on(
            2,
            "INSERT INTO t VALUES (1, 10), (2, 20), (3, 31), (4, 41); INSERT INTO child VALUES (1, 1); INSERT INTO other VALUES (1, 31)",
        )
        .await;
    let (_, report) = stage.diff(Format::Ndjson).await;
    let repaired = stage.repair(&report, FULL).await;
    assert_eq!(repaired.counts(2), "0/1/1/2/0", "{:?}", repaired.told);
    for table in ["child", "other"] {
        let named = format!("`{table}` refer to it");
        assert!(
            repaired.told.iter().any(|line| line.contains(&named)),
            "{:?}",
            repaired.told
        );
    }
    assert_eq!(stage.texts(2, "SELECT t FROM child").await, ["1"]);
    assert_eq!(stage.texts(2, "SELECT code FROM other").await, ["31"]);
    assert_eq!(repaired.outcome.exit_code(), 1);
}

#[rstest]
#[case(Flavor::MySql)]
#[case(Flavor::MariaDb)]
#[tokio::test]
async fn unique_values_that_changed_places_are_exchanged(#[case] flavor: Flavor) {
    let mut stage = stage_or_skip!(flavor, 2);
    stage
        .all("CREATE TABLE t (id INT PRIMARY KEY, code VARCHAR(9) UNIQUE)")
        .await;
    stage
        .on(
            1,
            "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd'), (900, 'first'), (5, 'last')",
        )
        .await;
    stage
        .on(
            2,
            "INSERT INTO t VALUES (1, 'b'), (2, 'c'), (3, 'a'), (4, 'x'), (900, 'last'), (5, 'first')",
        )
        .await;
    // So many between them that 5 and 900 are not in one batch.
    stage.on(1, &Stage::numbers(10, 800, "i, i")).await;
    let (_, report) = stage.diff(Format::Ndjson).await;
    let repaired = stage.repair(&report, FULL).await;
    assert_eq!(
        repaired.counts(2),
        "791/6/0/0/0",
        "{:?}",
        repaired.told.iter().rev().take(9).collect::<Vec<_>>()
    );
    assert_eq!(stage.left().await, (Verdict::Match, 0));
}

#[rstest]
#[case(Flavor::MySql)]
#[case(Flavor::MariaDb)]
#[tokio::test]
async fn a_unique_value_that_a_row_outside_the_report_has_is_not_taken(#[case] flavor: Flavor) {
    let mut stage = stage_or_skip!(flavor, 2);
    stage
        .all("CREATE TABLE t (id INT PRIMARY KEY, code VARCHAR(9) UNIQUE)")
        .await;
    stage.on(1, "INSERT INTO t VALUES (1, 'a'), (2, 'b')").await;
    let (_, report) = stage.diff(Format::Ndjson).await;
    stage.on(2, "INSERT INTO t VALUES (9, 'a')").await;
    let repaired = stage.repair(&report, FULL).await;
    assert_eq!(repaired.counts(2), "1/0/0/0/1", "{:?}", repaired.told);
    assert!(
        repaired.told.iter().any(|line| line.contains("Duplicate entry")),
        "{:?}",
        repaired.told
    );
    assert_eq!(
        stage.texts(2, "SELECT CONCAT(id, code) FROM t ORDER BY id").await,
        ["2b", "9a"]
    );
}

#[rstest]
#[case(Flavor::MySql)]
#[case(Flavor::MariaDb)]
#[tokio::test]
async fn a_table_with_triggers_is_refused_unless_they_may_fire(#[case] flavor: Flavor) {
    let mut stage = stage_or_skip!(flavor, 2);
    stage
        .all(
            "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(9)); CREATE TABLE fired (id INT); \
             CREATE TRIGGER note AFTER INSERT ON t FOR EACH ROW INSERT INTO fired VALUES (NEW.id)",
        )
        .await;
    stage
        .on(1, "INSERT INTO t VALUES (1, 'a'), (2, 'b'); DELETE FROM fired")
        .await;
    let (_, report) = stage.diff(Format::Ndjson).await;
    let refused = stage.repair_with(&report, options(FULL)).await;
    let why = refused.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(
        why.contains("n2") && why.contains("note") && why.contains("--fire-triggers"),
        "{why}"
    );
    assert_eq!(stage.texts(2, "SELECT COUNT(*) FROM t").await, ["0"]);
    let mut firing = options(FULL);
    firing.triggers = Triggers::Fire;
    let repaired = stage.repair_with(&report, firing.clone()).await.unwrap();
    assert_eq!(repaired.counts(2), "2/0/0/0/0", "{:?}", repaired.told);
    assert_eq!(
        stage.texts(2, "SELECT id FROM fired ORDER BY id").await,
        ["1", "2"]
    );
    // Nothing fires on the node that is only read.
    assert_eq!(stage.texts(1, "SELECT COUNT(*) FROM fired").await, ["0"]);
    assert_eq!(stage.left().await, (Verdict::Match, 0));

    // A trigger that writes something else is found out by the look back.
    stage
        .on(
            2,
            "CREATE TRIGGER meddle BEFORE UPDATE ON t FOR EACH ROW SET NEW.v = 'other'; UPDATE t SET v = 'x'",
        )
        .await;
    let (_, report) = stage.diff(Format::Ndjson).await;
    let repaired = stage.repair_with(&report, firing).await.unwrap();
    assert_eq!((repaired.outcome.remaining, repaired.outcome.exit_code()), (2, 1));
}

#[rstest]
#[case(Flavor::MySql)]
#[case(Flavor::MariaDb)]
#[tokio::test]
async fn a_row_that_a_check_or_a_trigger_refuses_fails_alone(#[case] flavor: Flavor) {
    let mut stage = stage_or_skip!(flavor, 2);
    stage.on(1, "CREATE TABLE t (id INT PRIMARY KEY, v INT)").await;
    stage
        .on(2, "CREATE TABLE t (id INT PRIMARY KEY, v INT, CHECK (v <> 7))")
        .await;
    stage.on(2, "CREATE TRIGGER no BEFORE INSERT ON t FOR EACH ROW BEGIN IF NEW.v = 9 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not nine'; END IF; END").await;
    stage.on(1, &Stage::numbers(1, 20, "i, i")).await;
    let (_, report) = stage.diff(Format::Ndjson).await;
    let mut firing = options(FULL);
    firing.triggers = Triggers::Fire;
    let repaired = stage.repair_with(&report, firing).await.unwrap();
    assert_eq!(repaired.counts(2), "18/0/0/0/2", "{:?}", repaired.told);
    assert!(
        repaired.told.iter().any(|line| line.contains("not nine")),
        "{:?}",
        repaired.told
    );
}

#[tokio::test]
async fn a_table_that_is_gone_ends_the_repair() {
    let mut stage = stage_or_skip!(Flavor::MySql, 2);
    stage.all("CREATE TABLE t (id INT PRIMARY KEY, v LONGTEXT)").await;
    stage.on(1, "INSERT INTO t VALUES (1, 'a')").await;
    let (_, report) = stage.diff(Format::Ndjson).await;
    stage.on(2, "DROP TABLE t").await;
    let refused = stage.repair_with(&report, options(FULL)).await;
    assert!(matches!(refused, Err(RepairError::Side(_))));
}
