//! What is left must be said, and a status of 0 means that nothing is.

use changeling_differ::model::Verdict;
use changeling_differ::postgres::ColumnChoice;
use changeling_differ::repair::Policy;

use crate::modes::FULL;
use crate::round::{Format, Round, options};
use crate::world::{connect, world_or_skip};

/// The server computes it: it cannot be written, and rows that differ by it are not equal.
#[tokio::test]
async fn rows_that_differ_in_a_generated_column_are_not_called_equal() {
    for format in [Format::Ndjson, Format::Ace] {
        let round = Round::new(world_or_skip!(2));
        for (node, factor) in [(1, 2), (2, 3)] {
            round
                .world
                .on(
                    node,
                    &format!(
                        "CREATE TABLE t (id int PRIMARY KEY, a int, more int GENERATED ALWAYS AS (a * {factor}) STORED); \
                         INSERT INTO t VALUES (1, 1), (2, {factor}), (3, 0)"
                    ),
                )
                .await;
        }
        let compared = round.world.diff().await;
        assert_eq!(compared.lines(), ["1 | 1,1,2 | 1,1,3", "2 | 2,2,4 | 2,3,9"]);
        let notes = compared.summary.notes.join("\n");
        assert!(
            notes.contains("generated column \"more\" differ")
                && notes.contains("(a * 2) on n1")
                && notes.contains("(a * 3) on n2"),
            "{notes}"
        );
        let (_, report) = round.diff(format).await;
        let repaired = round.repair(&report, FULL).await;
        assert_eq!(repaired.counts(2), "0/1/0/1/0", "{:?}", repaired.told);
        assert_eq!(repaired.outcome.exit_code(), 1);
        assert_eq!((repaired.outcome.settled, repaired.outcome.remaining), (0, 1));
        for key in ["1", "2"] {
            let words = format!("n2 skipped ('{key}'): the nodes compute more differently");
            assert!(
                repaired.told.iter().any(|line| line.starts_with(&words)),
                "{:?}",
                repaired.told
            );
        }
        let again = round.repair(&report, FULL).await;
        assert_eq!((again.outcome.exit_code(), again.outcome.settled), (1, 0));
    }
}

/// `ON CONFLICT` does not work where a unique constraint may be deferred.
#[tokio::test]
async fn a_table_with_a_deferrable_constraint_is_inserted_into() {
    let round = Round::new(world_or_skip!(2));
    round
        .world
        .all(
            "CREATE TABLE t (id int PRIMARY KEY DEFERRABLE, code text UNIQUE DEFERRABLE INITIALLY DEFERRED, v text); \
             INSERT INTO t SELECT i, 'c' || i, 'v' || i FROM generate_series(1, 20) AS i",
        )
        .await;
    round
        .world
        .on(
            2,
            "DELETE FROM t WHERE id <= 3; UPDATE t SET v = 'x' WHERE id = 5; INSERT INTO t VALUES (30, 'c30', 'y'); \
             UPDATE t SET code = CASE id WHEN 7 THEN 'c8' ELSE 'c7' END WHERE id IN (7, 8)",
        )
        .await;
    let (_, report) = round.diff(Format::Ndjson).await;
    let mut dry = options(FULL);
    dry.apply = changeling_differ::repair::Apply::DryRun;
    let rehearsed = round.repair_with(&report, dry).await.unwrap();
    assert_eq!(rehearsed.counts(2), "3/3/1/0/0", "{:?}", rehearsed.told);
    round
        .world
        .on(
            2,
            &format!(
                "BEGIN; SAVEPOINT s; {}",
                rehearsed.scripts[1].replace("BEGIN;", "").replace("COMMIT;", "")
            ),
        )
        .await;
    let there = round.texts(2, "SELECT id::text FROM t WHERE id <= 3").await;
    assert_eq!(there.len(), 3);
    round.world.on(2, "ROLLBACK").await;
    let repaired = round.repair(&report, FULL).await;
    assert_eq!(repaired.counts(2), "3/3/1/0/0", "{:?}", repaired.told);
    assert_eq!(repaired.outcome.exit_code(), 0);
    assert_eq!(round.verdict().await, Verdict::Match);
}

/// Whoever inserts the row first has it, also where the server checks later.
#[tokio::test]
async fn a_row_inserted_meanwhile_under_a_deferrable_constraint_is_not_ours() {
    let round = Round::new(world_or_skip!(2));
    round
        .world
        .all("CREATE TABLE t (id int PRIMARY KEY DEFERRABLE, code text UNIQUE DEFERRABLE, v text)")
        .await;
    round
        .world
        .on(
            1,
            "INSERT INTO t VALUES (1, 'a', 'one'), (2, 'b', 'one'), (3, 'c', 'one')",
        )
        .await;
    let (_, report) = round.diff(Format::Ndjson).await;
    round.world.on(2, "INSERT INTO t VALUES (9, 'c', 'other')").await;
    let writer = connect(&round.world.address, &round.world.databases[1]).await;
    writer
        .batch_execute("BEGIN; INSERT INTO t VALUES (1, 'a', 'mine')")
        .await
        .unwrap();
    let ending = async {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        while round.world.clients[1]
            .query_one(waiting, &[])
            .await
            .unwrap()
            .get::<_, i64>(0)
            == 0
        {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        writer.batch_execute("COMMIT").await.unwrap();
    };
    let (repaired, ()) = tokio::join!(round.repair(&report, FULL), ending);
    assert_eq!(repaired.outcome.exit_code(), 1);
    assert_eq!(repaired.outcome.nodes[1].inserted, 1, "{:?}", repaired.told);
    assert_eq!(
        round.texts(2, "SELECT id || v FROM t ORDER BY id").await,
        ["1mine", "2one", "9other"]
    );
}

/// Nobody can say which version is to be copied.
#[tokio::test]
async fn versions_that_conflict_are_not_copied_both_ways_and_are_told() {
    for format in [Format::Ndjson, Format::Ace] {
        let round = Round::new(world_or_skip!(3));
        round
            .world
            .all("CREATE TABLE t (id int PRIMARY KEY, v text)")
            .await;
        round
            .world
            .on(1, "INSERT INTO t VALUES (1, 'one'), (2, 'same')")
            .await;
        round
            .world
            .on(2, "INSERT INTO t VALUES (1, 'other'), (2, 'same'), (3, 'new')")
            .await;
        let (_, report) = round.diff(format).await;
        let repaired = round.repair(&report, Policy::Bidirectional).await;
        assert_eq!(repaired.outcome.exit_code(), 1, "{:?}", repaired.told);
        assert_eq!(
            [repaired.counts(1), repaired.counts(2), repaired.counts(3)],
            ["1/0/0/1/0", "0/0/0/0/0", "2/0/0/0/0"],
            "{:?}",
            repaired.told
        );
        assert!(
            repaired
                .told
                .iter()
                .any(|line| line.starts_with("n1 skipped ('1'): the nodes have it with different values")),
            "{:?}",
            repaired.told
        );
        assert_eq!(
            round.texts(3, "SELECT id || v FROM t ORDER BY id").await,
            ["2same", "3new"]
        );
    }
}

/// The right to write is asked of nodes that are written.
#[tokio::test]
async fn a_node_that_is_only_read_needs_no_right_to_write() {
    let mut round = Round::new(world_or_skip!(2));
    round
        .world
        .all(
            "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b'); \
             CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        )
        .await;
    round
        .world
        .on(2, "UPDATE t SET v = 'x' WHERE id = 1; DELETE FROM t WHERE id = 2")
        .await;
    // A trigger that this role could not keep from firing, where nothing would fire it.
    round
        .world
        .on(
            1,
            "CREATE TRIGGER g AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f()",
        )
        .await;
    let role = format!("copier_{}", round.world.databases[0]);
    round
        .world
        .on(1, &format!("CREATE ROLE {role} LOGIN PASSWORD 'secret'"))
        .await;
    round.world.on(1, &format!("GRANT SELECT ON t TO {role}")).await;
    round
        .world
        .on(2, &format!("GRANT SELECT, INSERT, UPDATE, DELETE ON t TO {role}"))
        .await;
    round.world.login = (role, "secret".into());
    let (_, report) = round.diff(Format::Ndjson).await;
    let refused = round.repair_with(&report, options(Policy::Bidirectional)).await;
    assert!(refused.err().is_some_and(|why| {
        why.to_string()
            .starts_with("n1: a repair needs INSERT, UPDATE, DELETE")
    }),);
    let repaired = round.repair(&report, FULL).await;
    assert_eq!(repaired.counts(2), "1/1/0/0/0", "{:?}", repaired.told);
    assert_eq!(repaired.outcome.exit_code(), 0);
    assert_eq!(round.verdict().await, Verdict::Match);
}

/// What is in a column that was not compared goes with the row, and nobody has looked at it.
#[tokio::test]
async fn a_row_written_since_the_diff_in_a_column_that_was_not_compared_is_not_deleted() {
    let mut round = Round::new(world_or_skip!(2));
    round.world.terms.columns = ColumnChoice::Except(vec!["w".into()]);
    round
        .world
        .all("CREATE TABLE t (id int PRIMARY KEY, v text, w text)")
        .await;
    round
        .world
        .on(2, "INSERT INTO t VALUES (1, 'a', 'old'), (2, 'b', 'old')")
        .await;
    let (_, report) = round.diff(Format::Ndjson).await;
    round.world.on(2, "UPDATE t SET w = 'new' WHERE id = 1").await;
    let repaired = round.repair(&report, FULL).await;
    assert_eq!(repaired.counts(2), "0/0/1/1/0", "{:?}", repaired.told);
    assert_eq!(repaired.outcome.exit_code(), 1);
    assert_eq!(round.texts(2, "SELECT id || w FROM t").await, ["1new"]);
}

/// Two nodes are equal when the report is written; by the time of the repair they are not.
#[tokio::test]
async fn a_node_that_came_to_differ_since_the_report_is_told() {
    let round = Round::new(world_or_skip!(3));
    round
        .world
        .all("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'a')")
        .await;
    round.world.on(2, "UPDATE t SET v = 'b'").await;
    let (_, report) = round.diff(Format::Ndjson).await;
    round.world.on(3, "UPDATE t SET v = 'c' WHERE id = 1").await;
    let repaired = round.repair(&report, FULL).await;
    assert_eq!(repaired.counts(2), "0/2/0/0/0", "{:?}", repaired.told);
    assert_eq!(repaired.outcome.exit_code(), 1, "{:?}", repaired.told);
    let again = round.repair(&report, FULL).await;
    assert_eq!(again.outcome.exit_code(), 1, "{:?}", again.told);
}

/// Each of two nodes refuses the row: it is tried again, and again, and then told.
#[tokio::test]
async fn a_row_that_several_nodes_refuse_is_told_and_the_repair_ends() {
    let round = Round::new(world_or_skip!(3));
    round
        .world
        .all("CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY, p int REFERENCES parent)")
        .await;
    round
        .world
        .on(
            1,
            "INSERT INTO parent SELECT generate_series(1, 5); INSERT INTO t SELECT i, i FROM generate_series(1, 5) AS i",
        )
        .await;
    round.world.on(2, "INSERT INTO parent VALUES (1), (2), (3)").await;
    round.world.on(3, "INSERT INTO parent VALUES (3), (4)").await;
    let (_, report) = round.diff(Format::Ndjson).await;
    let repairing = round.repair(&report, FULL);
    let repaired = tokio::time::timeout(std::time::Duration::from_secs(120), repairing)
        .await
        .expect("the repair ends");
    assert_eq!(
        [repaired.counts(2), repaired.counts(3)],
        ["3/0/0/0/2", "2/0/0/0/3"],
        "{:?}",
        repaired.told
    );
    assert_eq!(repaired.outcome.exit_code(), 1);
}

/// A report that ends at its limit is repaired, and there may be more.
#[tokio::test]
async fn a_report_that_is_not_about_the_whole_table_is_no_success() {
    for format in [Format::Ndjson, Format::Ace] {
        let mut round = Round::new(world_or_skip!(2));
        round.world.settings.stop_after = std::num::NonZeroU64::new(2);
        round.world.all("CREATE TABLE t (id int PRIMARY KEY)").await;
        round
            .world
            .on(1, "INSERT INTO t SELECT generate_series(1, 9)")
            .await;
        let (_, report) = round.diff(format).await;
        let repaired = round.repair(&report, FULL).await;
        assert_eq!(repaired.counts(2), "2/0/0/0/0");
        assert_eq!(repaired.outcome.exit_code(), 1);
        let why = repaired.outcome.shortfall.unwrap_or_default();
        assert!(why.contains("there may be more"), "{why}");
    }
}

/// The report has normalised texts; the row is still what it was.
#[tokio::test]
async fn a_report_of_a_semantic_comparison_is_repaired() {
    for format in [Format::Ndjson, Format::Ace] {
        let mut round = Round::new(world_or_skip!(2));
        round.world.terms.comparison = changeling_differ::model::Comparison::Semantic;
        round
            .world
            .all("CREATE TABLE t (id int PRIMARY KEY, j jsonb, a numeric[], f float8, v text)")
            .await;
        round
        .world
        .on(
            1,
            "INSERT INTO t VALUES (1, '{\"a\": 1.0}', '{1.0}', 0, 'a'), (2, '{\"a\": 1.0}', '{1.0}', 0, 'a'), (3, '2', '{}', 0, 'a')",
        )
        .await;
        round
        .world
        .on(
            2,
            "INSERT INTO t VALUES (1, '{\"a\": 1.00}', '{1.00}', '-0', 'b'), (2, '{\"a\": 1.00}', '{1}', 0, 'a'), (3, '2.50', '{}', 0, 'a')",
        )
        .await;
        let (_, report) = round.diff(format).await;
        round.world.on(2, "UPDATE t SET j = '2.501' WHERE id = 3").await;
        let repaired = round.repair(&report, FULL).await;
        assert_eq!(repaired.counts(2), "0/1/0/1/0", "{:?}", repaired.told);
        assert_eq!(
            round.texts(2, "SELECT v || j::text FROM t WHERE id = 1").await,
            ["a{\"a\": 1.0}"]
        );
    }
}
