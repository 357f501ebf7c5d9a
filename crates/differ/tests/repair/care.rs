//! What a repair leaves alone.

use changeling_differ::model::Verdict;
use changeling_differ::repair::plan::Plan;
use changeling_differ::repair::{CopyMode, Policy, RepairError};

use crate::modes::FULL;
use crate::round::{Format, Round, options};
use crate::world::world_or_skip;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 100) AS i";

/// ACE writes what its file says, however old it is (ace.md C14).
#[tokio::test]
async fn c14_rows_changed_since_the_diff_are_skipped_and_reported() {
    for format in [Format::Ndjson, Format::Ace] {
        let round = Round::new(world_or_skip!(2));
        round.world.all(TABLE).await;
        round.world.on(2, "UPDATE t SET v = 'wrong' WHERE id <= 4; DELETE FROM t WHERE id IN (5, 6); INSERT INTO t VALUES (201, 'x'), (202, 'x')").await;
        let (_, report) = round.diff(format).await;
        // On the target: one changed, one gone, one come, one of those that were too many changed.
        round.world.on(2, "UPDATE t SET v = 'newer' WHERE id = 1; DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (5, 'mine'); UPDATE t SET v = 'y' WHERE id = 201").await;
        // On the source: the newest value is what is copied.
        round.world.on(1, "UPDATE t SET v = 'newest' WHERE id = 3").await;
        let repaired = round.repair(&report, FULL).await;
        assert_eq!(repaired.counts(2), "1/2/1/4/0", "{:?}", repaired.told);
        assert_eq!(repaired.outcome.exit_code(), 1);
        let mut skipped: Vec<_> = repaired
            .told
            .iter()
            .filter(|line| line.contains("skipped"))
            .cloned()
            .collect();
        skipped.sort();
        let keys: Vec<_> = skipped
            .iter()
            .map(|line| line.split(' ').nth(2).unwrap())
            .collect();
        assert_eq!(keys, ["('1'):", "('2'):", "('201'):", "('5'):"]);
        assert!(skipped[0].contains("no longer what the diff recorded"));
        let rows = round
            .texts(
                2,
                "SELECT id || v FROM t WHERE id IN (1, 2, 3, 5, 201) ORDER BY id",
            )
            .await;
        assert_eq!(rows, ["1newer", "3newest", "5mine", "201y"]);
        assert_eq!(
            repaired.report["changes"]["n2"]["skipped_rows"]
                .as_array()
                .unwrap()
                .len(),
            4
        );
    }
}

/// A writer is in the middle of changing a row: the repair waits for it, and then leaves the row alone.
#[tokio::test]
async fn a_row_that_is_being_changed_is_waited_for_and_then_left_alone() {
    let round = Round::new(world_or_skip!(2));
    round.world.all(TABLE).await;
    round.world.on(2, "UPDATE t SET v = 'wrong' WHERE id <= 2").await;
    let (_, report) = round.diff(Format::Ndjson).await;
    round
        .world
        .on(2, "BEGIN; UPDATE t SET v = 'meanwhile' WHERE id = 1")
        .await;
    let ending = async {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        loop {
            let found: i64 = round.world.clients[1]
                .query_one(waiting, &[])
                .await
                .unwrap()
                .get(0);
            if found > 0 {
                break;
            }
            // pg_stat_activity is remembered for the length of a transaction.
            round.world.on(2, "SELECT pg_stat_clear_snapshot()").await;
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        round.world.on(2, "COMMIT").await;
    };
    let (repaired, ()) = tokio::join!(round.repair(&report, FULL), ending);
    assert_eq!(repaired.counts(2), "0/1/0/1/0", "{:?}", repaired.told);
    assert_eq!(
        round.texts(2, "SELECT v FROM t WHERE id <= 2 ORDER BY id").await,
        ["meanwhile", "v2"]
    );
}

#[tokio::test]
async fn a_plan_is_asked_again_about_the_rows_as_they_are() {
    let round = Round::new(world_or_skip!(2));
    round.world.all(TABLE).await;
    round.world.on(2, "UPDATE t SET v = 'wrong' WHERE id <= 2").await;
    let (_, report) = round.diff(Format::Ndjson).await;
    round.world.on(1, "UPDATE t SET v = 'other' WHERE id = 1").await;
    let plan = "tables: {public.t: {default_action: {type: keep_n2}, rules: [{name: r, when: \"n1.v = 'v1' OR n1.v = 'v2'\", action: {type: keep_n1}}]}}";
    let repaired = round
        .repair(&report, Policy::Plan(Plan::read(plan).unwrap()))
        .await;
    assert_eq!(repaired.counts(2), "0/1/0/0/0");
    assert_eq!(repaired.counts(1), "0/0/0/1/0", "{:?}", repaired.told);
    assert_eq!(round.texts(1, "SELECT v FROM t WHERE id = 1").await, ["other"]);
}

#[tokio::test]
async fn stale_repairs_are_refused_where_the_plan_says_so() {
    let round = Round::new(world_or_skip!(2));
    round.world.all(TABLE).await;
    round.world.on(2, "UPDATE t SET v = 'wrong' WHERE id <= 2").await;
    let (_, report) = round.diff(Format::Ndjson).await;
    // Written again with the value it had: no other value, but a later commit.
    round.world.on(2, "UPDATE t SET v = v WHERE id = 1").await;
    for (allowed, n2, left) in [("false", "0/1/0/1/0", 1), ("true", "0/1/0/0/0", 0)] {
        let plan = format!(
            "tables: {{public.t: {{default_action: {{type: keep_n1, allow_stale_repairs: {allowed}}}}}}}"
        );
        let repaired = round
            .repair(&report, Policy::Plan(Plan::read(&plan).unwrap()))
            .await;
        assert_eq!(repaired.counts(2), n2, "{:?}", repaired.told);
        assert_eq!(round.world.diff().await.findings.len(), left);
    }
}

#[tokio::test]
async fn a_plan_that_cannot_be_followed_changes_nothing_of_that_row() {
    let round = Round::new(world_or_skip!(2));
    round.world.all(TABLE).await;
    round
        .world
        .on(
            2,
            "DELETE FROM t WHERE id = 1; UPDATE t SET v = 'wrong' WHERE id = 2",
        )
        .await;
    let (_, report) = round.diff(Format::Ndjson).await;
    let plan = Plan::read("tables: {public.t: {default_action: {type: keep_n2}}}").unwrap();
    let repaired = round.repair(&report, Policy::Plan(plan)).await;
    assert_eq!(repaired.outcome.exit_code(), 1);
    assert_eq!(
        (repaired.counts(1), repaired.outcome.written()),
        ("0/1/0/1/0".into(), 1),
        "{:?}",
        repaired.told
    );
    assert!(
        repaired
            .told
            .iter()
            .any(|line| line.contains("keep_n2 needs a row on n2")),
        "{:?}",
        repaired.told
    );
    let other = Plan::read("tables: {public.other: {}}").unwrap();
    let refused = round.repair_with(&report, options(Policy::Plan(other))).await;
    assert!(matches!(refused, Err(RepairError::Decision(_))));
}

#[tokio::test]
async fn values_that_are_none_are_skipped_and_the_rest_is_repaired() {
    let round = Round::new(world_or_skip!(2));
    round.world.all("CREATE TABLE t (id int PRIMARY KEY, d date); INSERT INTO t SELECT i, '2026-01-01' FROM generate_series(1, 9) AS i").await;
    round.world.on(2, "UPDATE t SET d = '2020-02-02'").await;
    let (_, report) = round.diff(Format::Ace).await;
    let text = std::fs::read_to_string(&report)
        .unwrap()
        .replacen("2020-02-02", "2020-02-31", 1);
    std::fs::write(&report, text).unwrap();
    let repaired = round.repair(&report, FULL).await;
    assert_eq!(repaired.counts(2), "0/8/0/1/0", "{:?}", repaired.told);
    assert!(
        repaired.told.iter().any(|line| line.contains("out of range")),
        "{:?}",
        repaired.told
    );
}

#[tokio::test]
async fn a_report_about_another_key_is_refused() {
    let round = Round::new(world_or_skip!(2));
    round.world.all(TABLE).await;
    round.world.on(2, "UPDATE t SET v = 'wrong' WHERE id <= 2").await;
    let (_, report) = round.diff(Format::Ace).await;
    round
        .world
        .all("ALTER TABLE t DROP CONSTRAINT t_pkey, ALTER v SET NOT NULL, ADD PRIMARY KEY (v, id)")
        .await;
    let Err(refused) = round.repair_with(&report, options(FULL)).await else {
        panic!()
    };
    assert!(refused.to_string().contains("run table-diff again"), "{refused}");
    assert_eq!(round.verdict().await, Verdict::Differ);
}

#[tokio::test]
async fn many_differences_and_three_nodes() {
    let round = Round::new(world_or_skip!(3));
    round
        .world
        .all("CREATE TABLE t (id int PRIMARY KEY, v text)")
        .await;
    round
        .world
        .on(
            1,
            "INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 3000) AS i",
        )
        .await;
    round
        .world
        .on(
            3,
            "INSERT INTO t SELECT i, 'w' || i FROM generate_series(1000, 4000) AS i",
        )
        .await;
    let (_, report) = round.diff(Format::Ace).await;
    let mode = CopyMode::Full;
    let repaired = round
        .repair(&report, Policy::SourceOfTruth { source: 0, mode })
        .await;
    assert_eq!(repaired.counts(2), "3000/0/0/0/0");
    assert_eq!(repaired.counts(3), "999/2001/1000/0/0");
    assert_eq!(repaired.outcome.exit_code(), 0);
    assert_eq!(round.verdict().await, Verdict::Match);
}
