//! Foreign keys, unique values, generated columns, triggers, roles.

use changeling_differ::model::Verdict;
use changeling_differ::postgres::ColumnChoice;
use changeling_differ::repair::{RepairError, Triggers};

use crate::modes::FULL;
use crate::round::{Format, Round, options};
use crate::world::world_or_skip;

/// ACE switches foreign keys off, in silence (ace.md C15).
#[tokio::test]
async fn c15_rows_that_refer_to_each_other_are_written_in_a_possible_order() {
    let round = Round::new(world_or_skip!(2));
    // Each row refers to the next one, or to none: batches are in the order of keys, so everything refers forwards.
    round
        .world
        .all("CREATE TABLE t (id int PRIMARY KEY, next int REFERENCES t)")
        .await;
    round
        .world
        .on(
            1,
            "INSERT INTO t SELECT i, CASE WHEN i < 700 THEN i + 1 END FROM generate_series(1, 700) AS i",
        )
        .await;
    round
        .world
        .on(
            2,
            "INSERT INTO t SELECT i, CASE WHEN i > 1001 THEN i - 1 END FROM generate_series(1001, 1700) AS i",
        )
        .await;
    let (_, report) = round.diff(Format::Ndjson).await;
    let repaired = round.repair(&report, FULL).await;
    assert_eq!(
        repaired.counts(2),
        "700/0/700/0/0",
        "{:?}",
        repaired.told.iter().take(5).collect::<Vec<_>>()
    );
    assert_eq!(round.verdict().await, Verdict::Match);
}

#[tokio::test]
async fn c15_a_row_without_its_parent_fails_alone_and_is_reported() {
    let round = Round::new(world_or_skip!(2));
    round.world.all("CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY, p int REFERENCES parent)").await;
    round.world.on(1, "INSERT INTO parent SELECT generate_series(1, 100); INSERT INTO t SELECT i, i FROM generate_series(1, 100) AS i").await;
    round
        .world
        .on(
            2,
            "INSERT INTO parent SELECT i FROM generate_series(1, 100) AS i WHERE i NOT IN (7, 77)",
        )
        .await;
    let (_, report) = round.diff(Format::Ndjson).await;
    let repaired = round.repair(&report, FULL).await;
    assert_eq!(repaired.counts(2), "98/0/0/0/2", "{:?}", repaired.told);
    assert_eq!(repaired.outcome.exit_code(), 1);
    assert!(
        repaired.told.iter().any(|line| line.contains("23503")),
        "{:?}",
        repaired.told
    );
}

#[tokio::test]
async fn c15_a_deletion_that_would_cascade_is_not_made() {
    let round = Round::new(world_or_skip!(2));
    round.world.all("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE child (id int PRIMARY KEY, t int REFERENCES t ON DELETE CASCADE)").await;
    round
        .world
        .on(
            2,
            "INSERT INTO t VALUES (1), (2); INSERT INTO child VALUES (1, 1)",
        )
        .await;
    let (_, report) = round.diff(Format::Ndjson).await;
    let repaired = round.repair(&report, FULL).await;
    assert_eq!(repaired.counts(2), "0/0/1/1/0", "{:?}", repaired.told);
    assert!(
        repaired
            .told
            .iter()
            .any(|line| line.contains("\"public\".\"child\" refer to it")),
        "{:?}",
        repaired.told
    );
    assert_eq!(round.texts(2, "SELECT id::text FROM child").await, ["1"]);
    assert_eq!(repaired.outcome.exit_code(), 1);
}

/// With a trigger on the table it is written as a replica writes, and the server minds no reference at all.
#[tokio::test]
async fn c15_a_change_that_would_reach_other_rows_is_not_made() {
    for (rule, trigger) in [
        ("ON UPDATE CASCADE", ""),
        ("ON UPDATE SET NULL", ""),
        (
            "",
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; \
              CREATE TRIGGER g AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f()",
        ),
    ] {
        let round = Round::new(world_or_skip!(2));
        round
            .world
            .all(&format!(
                "CREATE TABLE t (id int PRIMARY KEY, code text UNIQUE); \
                 CREATE TABLE child (id int PRIMARY KEY, code text REFERENCES t (code) {rule}); {trigger}"
            ))
            .await;
        round
            .world
            .on(1, "INSERT INTO t VALUES (1, 'new'), (2, 'b')")
            .await;
        round
            .world
            .on(
                2,
                "INSERT INTO t VALUES (1, 'old'), (2, 'c'); INSERT INTO child VALUES (1, 'old')",
            )
            .await;
        let (_, report) = round.diff(Format::Ndjson).await;
        let repaired = round.repair(&report, FULL).await;
        assert_eq!(repaired.counts(2), "0/1/0/1/0", "{rule}: {:?}", repaired.told);
        assert_eq!(round.texts(2, "SELECT code FROM child").await, ["old"], "{rule}");
        assert_eq!(
            round.texts(2, "SELECT code FROM t ORDER BY id").await,
            ["old", "b"]
        );
        assert_eq!(repaired.outcome.exit_code(), 1);
    }
}

/// The server is told not to look; then whoever deletes the row that is referred to must wait, as he would for the server.
#[tokio::test]
async fn c15_a_parent_deleted_meanwhile_leaves_no_orphan() {
    let round = Round::new(world_or_skip!(2));
    round
        .world
        .all(
            "CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY, p int REFERENCES p); \
             INSERT INTO p SELECT generate_series(1, 600); \
             CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; \
             CREATE TRIGGER g AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
        )
        .await;
    round
        .world
        .on(1, "INSERT INTO t SELECT i, i FROM generate_series(1, 600) AS i")
        .await;
    let (_, report) = round.diff(Format::Ndjson).await;
    let other = crate::world::connect(&round.world.address, &round.world.databases[1]).await;
    let deleting = tokio::spawn(async move {
        for id in (1..=600).rev() {
            // Refused where the repair was first.
            let _ = other
                .execute(&format!("DELETE FROM p WHERE id = {id}"), &[])
                .await;
        }
    });
    round.repair(&report, FULL).await;
    deleting.await.unwrap();
    let orphans = "SELECT t.id::text FROM t WHERE NOT EXISTS (SELECT FROM p WHERE p.id = t.p)";
    assert_eq!(round.texts(2, orphans).await, Vec::<String>::new());
}

/// Neither by an update nor by a row that is deleted and inserted in its stead.
#[tokio::test]
async fn what_was_not_compared_is_not_written() {
    let mut round = Round::new(world_or_skip!(2));
    round.world.terms.columns = ColumnChoice::Except(vec!["w".into()]);
    round
        .world
        .all("CREATE TABLE t (id int PRIMARY KEY, code text UNIQUE, w text)")
        .await;
    round
        .world
        .on(
            1,
            "INSERT INTO t VALUES (1, 'a', 'one'), (2, 'b', 'one'), (3, 'c', 'one')",
        )
        .await;
    round
        .world
        .on(
            2,
            "INSERT INTO t VALUES (1, 'b', 'two'), (2, 'a', 'two'), (3, 'x', 'two')",
        )
        .await;
    let (_, report) = round.diff(Format::Ndjson).await;
    let repaired = round.repair(&report, FULL).await;
    let rows = round.texts(2, "SELECT code || ' ' || w FROM t ORDER BY id").await;
    assert_eq!(rows, ["b two", "a two", "c two"], "{:?}", repaired.told);
    assert_eq!(repaired.outcome.exit_code(), 1);
}

#[tokio::test]
async fn unique_values_that_changed_places_are_exchanged() {
    let round = Round::new(world_or_skip!(2));
    round
        .world
        .all("CREATE TABLE t (id int PRIMARY KEY, code text UNIQUE)")
        .await;
    round
        .world
        .on(1, "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd')")
        .await;
    round
        .world
        .on(2, "INSERT INTO t VALUES (1, 'b'), (2, 'c'), (3, 'a'), (4, 'x')")
        .await;
    let (_, report) = round.diff(Format::Ndjson).await;
    let repaired = round.repair(&report, FULL).await;
    assert_eq!(repaired.counts(2), "0/4/0/0/0", "{:?}", repaired.told);
    assert_eq!(round.verdict().await, Verdict::Match);
}

#[tokio::test]
async fn a_unique_value_that_a_row_outside_the_report_has_is_not_taken() {
    let round = Round::new(world_or_skip!(2));
    round
        .world
        .all("CREATE TABLE t (id int PRIMARY KEY, code text UNIQUE)")
        .await;
    round.world.on(1, "INSERT INTO t VALUES (1, 'a')").await;
    let (_, report) = round.diff(Format::Ndjson).await;
    round.world.on(2, "INSERT INTO t VALUES (9, 'a')").await;
    let repaired = round.repair(&report, FULL).await;
    assert_eq!(repaired.counts(2), "0/0/0/1/0", "{:?}", repaired.told);
    assert_eq!(round.texts(2, "SELECT id::text FROM t").await, ["9"]);
}

/// ACE's statements name every column, which such columns do not allow (ace.md C16).
#[tokio::test]
async fn c16_generated_and_identity_columns_are_repaired() {
    let round = Round::new(world_or_skip!(2));
    round.world.all(
        "CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int, twice int GENERATED ALWAYS AS (a * 2) STORED, \
         n int GENERATED BY DEFAULT AS IDENTITY)",
    )
    .await;
    round.world.on(1, "INSERT INTO t OVERRIDING SYSTEM VALUE VALUES (1, 1, DEFAULT, 7), (2, 2, DEFAULT, 8), (3, 3, DEFAULT, 9)").await;
    round.world.on(2, "INSERT INTO t OVERRIDING SYSTEM VALUE VALUES (1, 5, DEFAULT, 7), (9, 2, DEFAULT, 8), (3, 3, DEFAULT, 10)").await;
    let (_, report) = round.diff(Format::Ace).await;
    let repaired = round.repair(&report, FULL).await;
    assert_eq!(repaired.counts(2), "1/2/1/0/0", "{:?}", repaired.told);
    assert_eq!(round.verdict().await, Verdict::Match);
}

#[tokio::test]
async fn c16_an_identity_outside_of_the_key_takes_a_row_to_be_replaced() {
    let round = Round::new(world_or_skip!(2));
    round
        .world
        .all("CREATE TABLE t (id int PRIMARY KEY, n bigint GENERATED ALWAYS AS IDENTITY, v text)")
        .await;
    round
        .world
        .on(
            1,
            "INSERT INTO t OVERRIDING SYSTEM VALUE VALUES (1, 100, 'a'), (2, 200, 'b')",
        )
        .await;
    round
        .world
        .on(
            2,
            "INSERT INTO t OVERRIDING SYSTEM VALUE VALUES (1, 101, 'a'), (2, 200, 'c')",
        )
        .await;
    let (_, report) = round.diff(Format::Ndjson).await;
    let repaired = round.repair(&report, FULL).await;
    assert_eq!(repaired.counts(2), "0/2/0/0/0", "{:?}", repaired.told);
    assert_eq!(round.verdict().await, Verdict::Match);
}

const WITH_TRIGGER: &str = "CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent VALUES (1); \
    CREATE TABLE t (id int PRIMARY KEY, v text, p int REFERENCES parent); CREATE TABLE fired (id int); \
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.fired VALUES (new.id); RETURN new; END'; \
    CREATE TRIGGER note BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION note()";

#[tokio::test]
async fn triggers_fire_only_when_asked_to() {
    for (triggers, fired) in [(Triggers::Quiet, 0), (Triggers::Fire, 2)] {
        let round = Round::new(world_or_skip!(2));
        round.world.all(WITH_TRIGGER).await;
        round
            .world
            .on(1, "INSERT INTO t VALUES (1, 'a', 1), (2, 'b', NULL)")
            .await;
        let (_, report) = round.diff(Format::Ndjson).await;
        let mut options = options(FULL);
        options.triggers = triggers;
        let repaired = round.repair_with(&report, options).await.unwrap();
        assert_eq!(repaired.counts(2), "2/0/0/0/0", "{:?}", repaired.told);
        assert_eq!(round.texts(2, "SELECT id::text FROM fired").await.len(), fired);
        assert_eq!(round.verdict().await, Verdict::Match);
    }
}

/// Keeping triggers from firing keeps the server from checking foreign keys: then the repair does.
#[tokio::test]
async fn c15_foreign_keys_hold_although_triggers_do_not_fire() {
    let round = Round::new(world_or_skip!(2));
    round.world.all(WITH_TRIGGER).await;
    round.world.all("CREATE TABLE child (t int REFERENCES t)").await;
    round
        .world
        .on(
            1,
            "INSERT INTO parent VALUES (2); INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2)",
        )
        .await;
    round
        .world
        .on(
            2,
            "INSERT INTO t VALUES (3, 'c', 1), (4, 'd', 1); INSERT INTO child VALUES (3)",
        )
        .await;
    let (_, report) = round.diff(Format::Ndjson).await;
    let repaired = round.repair(&report, FULL).await;
    assert_eq!(repaired.counts(2), "1/0/1/1/1", "{:?}", repaired.told);
    assert_eq!(
        round.texts(2, "SELECT id::text FROM t ORDER BY id").await,
        ["1", "3"]
    );
}

#[tokio::test]
async fn c15_an_ordinary_role_repairs_what_it_may_write() {
    let mut round = Round::new(world_or_skip!(2));
    round.world.all(WITH_TRIGGER).await;
    round.world.on(1, "INSERT INTO t VALUES (1, 'a', 1)").await;
    let role = format!("mender_{}", round.world.databases[0]);
    round
        .world
        .on(1, &format!("CREATE ROLE {role} LOGIN PASSWORD 'secret'"))
        .await;
    round.world.all(&format!("GRANT SELECT ON t TO {role}")).await;
    round.world.login = (role.clone(), "secret".into());
    let (_, report) = round.diff(Format::Ndjson).await;
    let refused = round
        .repair_with(&report, options(FULL))
        .await
        .err()
        .map(|error| error.to_string());
    assert!(
        refused
            .as_ref()
            .is_some_and(|why| why.contains("INSERT, UPDATE, DELETE")),
        "{refused:?}"
    );
    round
        .world
        .all(&format!(
            "GRANT INSERT, UPDATE, DELETE ON t TO {role}; GRANT INSERT ON fired TO {role}"
        ))
        .await;
    let refused = round.repair_with(&report, options(FULL)).await;
    assert!(matches!(refused, Err(RepairError::Triggers { ref triggers, .. }) if triggers == "note"));
    let mut firing = options(FULL);
    firing.triggers = Triggers::Fire;
    let repaired = round.repair_with(&report, firing).await.unwrap();
    assert_eq!(repaired.counts(2), "1/0/0/0/0", "{:?}", repaired.told);
    round
        .world
        .all("DROP TRIGGER note ON t; UPDATE t SET v = 'x'")
        .await;
    round.world.on(2, "UPDATE t SET v = 'y'").await;
    let (_, report) = round.diff(Format::Ndjson).await;
    let repaired = round.repair(&report, FULL).await;
    assert_eq!(repaired.counts(2), "0/1/0/0/0", "{:?}", repaired.told);
}

#[tokio::test]
async fn partitions_inheritance_and_names_that_need_quotes() {
    let mut round = Round::new(world_or_skip!(2));
    round.world.table = changeling_core::ident::TableName::new("My \"Schema\"", "Größe; DROP");
    let name = "\"My \"\"Schema\"\"\".\"Größe; DROP\"";
    round.world.all(&format!(
        "CREATE SCHEMA \"My \"\"Schema\"\"\"; CREATE TABLE {name} (\"Id\"\"\" int PRIMARY KEY, \"a b\" text) PARTITION BY RANGE (\"Id\"\"\"); \
         CREATE TABLE p1 PARTITION OF {name} FOR VALUES FROM (0) TO (100); CREATE TABLE p2 PARTITION OF {name} DEFAULT"
    ))
    .await;
    round
        .world
        .on(
            1,
            &format!("INSERT INTO {name} SELECT i, 'x' FROM generate_series(50, 150) AS i"),
        )
        .await;
    round
        .world
        .on(
            2,
            &format!("INSERT INTO {name} SELECT i, 'y' FROM generate_series(90, 200) AS i"),
        )
        .await;
    let (_, report) = round.diff(Format::Ace).await;
    let repaired = round.repair(&report, FULL).await;
    assert_eq!(
        repaired.counts(2),
        "40/61/50/0/0",
        "{:?}",
        repaired.told.iter().take(3).collect::<Vec<_>>()
    );
    assert_eq!(round.verdict().await, Verdict::Match);
}
