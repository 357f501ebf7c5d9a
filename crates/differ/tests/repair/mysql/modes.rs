//! Every mode.

use changeling_differ::engine::DiffSettings;
use changeling_differ::model::Verdict;
use changeling_differ::repair::plan::Plan;
use changeling_differ::repair::{Apply, CopyMode, OriginKeeping, Policy, RepairError};
use changeling_differ::report::ndjson::NdjsonSink;
use changeling_differ::report::recorded::RecordedReport;
use changeling_differ::rerun::rerun;
use changeling_support::Flavor;
use rstest::rstest;
use tokio_util::sync::CancellationToken;

use crate::modes::FULL;
use crate::mysql::stage::{Stage, stage_or_skip};
use crate::round::{Format, options};

const CUSTOMERS: &str = "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(40), amount DECIMAL(12,2), \
    region VARCHAR(9), updated_at DATETIME(3), twice DECIMAL(14,2) AS (amount * 2) STORED, \
    touched TIMESTAMP NOT NULL DEFAULT '2020-01-01 00:00:00' ON UPDATE CURRENT_TIMESTAMP)";

/// 3 rows only on n1, 2 only on n2, 4 changed on n2, of 2 000.
async fn customers(stage: &mut Stage) {
    stage.all(CUSTOMERS).await;
    let rows = "i, CONCAT('name ', i), i * 1.5, IF(i % 2 = 0, 'eu', 'us'), '2026-01-01' + INTERVAL i SECOND, '2020-01-01'";
    let into = Stage::numbers(1, 2000, rows)
        .replace("INTO t", "INTO t (id, name, amount, region, updated_at, touched)");
    stage.all(&into).await;
    stage
        .on(
            2,
            "DELETE FROM t WHERE id IN (5, 700, 1999); \
             INSERT INTO t (id, name, amount, region, updated_at) VALUES (3001, 'x', 1, 'eu', '2026-05-05'), (3002, 'y', NULL, 'us', NULL); \
             UPDATE t SET name = NULL, touched = touched WHERE id IN (10, 11); \
             UPDATE t SET amount = amount + 1, updated_at = updated_at + INTERVAL 1 DAY, touched = touched WHERE id IN (20, 21)",
        )
        .await;
}

#[rstest]
#[case(Flavor::MySql, Format::Ndjson)]
#[case(Flavor::MySql, Format::Ace)]
#[case(Flavor::MariaDb, Format::Ndjson)]
#[case(Flavor::MariaDb, Format::Ace)]
#[tokio::test]
async fn one_node_is_right(#[case] flavor: Flavor, #[case] format: Format) {
    let mut stage = stage_or_skip!(flavor, 2);
    customers(&mut stage).await;
    let (verdict, report) = stage.diff(format).await;
    assert_eq!(verdict, Verdict::Differ);
    let repaired = stage.repair(&report, FULL).await;
    assert_eq!(repaired.counts(2), "3/4/2/0/0", "{:?}", repaired.told);
    let outcome = &repaired.outcome;
    assert_eq!((outcome.keys, outcome.rechecked, outcome.remaining), (9, 9, 0));
    assert_eq!(outcome.exit_code(), 0);
    assert_eq!(stage.left().await, (Verdict::Match, 0));
    let changes = &repaired.report["changes"]["n2"];
    assert_eq!(changes["upserted_rows"].as_array().unwrap().len(), 7);
    assert_eq!(changes["deleted_rows"].as_array().unwrap().len(), 2);
    assert_eq!(changes["rule_matches"]["('5')"], "source_of_truth");
    // Again there is nothing to do, and that is no failure.
    let again = stage.repair(&report, FULL).await;
    assert_eq!((again.counts(2), again.outcome.settled), ("0/0/0/0/0".into(), 9));
    assert_eq!(again.outcome.exit_code(), 0);
}

#[rstest]
#[case(Flavor::MySql)]
#[case(Flavor::MariaDb)]
#[tokio::test]
async fn insert_only_upsert_only_both_ways_and_nulls(#[case] flavor: Flavor) {
    let cases = [
        (
            Policy::SourceOfTruth {
                source: 0,
                mode: CopyMode::InsertOnly,
            },
            "3/0/0/0/0",
            "0/0/0/0/0",
            6,
        ),
        (
            Policy::SourceOfTruth {
                source: 0,
                mode: CopyMode::UpsertOnly,
            },
            "3/4/0/0/0",
            "0/0/0/0/0",
            2,
        ),
        (Policy::Bidirectional, "3/0/0/0/0", "2/0/0/4/0", 4),
        (Policy::FixNulls, "0/2/0/0/0", "0/0/0/0/0", 7),
    ];
    for (policy, n2, n1, left) in cases {
        let mut stage = stage_or_skip!(flavor, 2);
        customers(&mut stage).await;
        let (_, report) = stage.diff(Format::Ndjson).await;
        let repaired = stage.repair(&report, policy.clone()).await;
        assert_eq!(
            (repaired.counts(2).as_str(), repaired.counts(1).as_str()),
            (n2, n1),
            "{policy:?} {:?}",
            repaired.told
        );
        let (status, as_asked) = match policy {
            Policy::Bidirectional => (1, 0),
            _ => (0, left),
        };
        assert_eq!(
            (repaired.outcome.exit_code(), repaired.outcome.as_asked),
            (status, as_asked),
            "{policy:?}"
        );
        assert_eq!(stage.left().await, (Verdict::Differ, left), "{policy:?}");
    }
}

#[rstest]
#[case(Flavor::MySql)]
#[case(Flavor::MariaDb)]
#[tokio::test]
async fn three_nodes_become_equal(#[case] flavor: Flavor) {
    let mut stage = stage_or_skip!(flavor, 3);
    stage
        .all("CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(9), b VARCHAR(9))")
        .await;
    stage
        .on(1, "INSERT INTO t VALUES (1, 'a', NULL), (2, 'x', 'y')")
        .await;
    stage
        .on(2, "INSERT INTO t VALUES (1, NULL, 'b'), (2, 'x', 'y')")
        .await;
    stage
        .on(3, "INSERT INTO t VALUES (1, NULL, NULL), (2, NULL, 'y')")
        .await;
    let (_, report) = stage.diff(Format::Ndjson).await;
    let repaired = stage.repair(&report, Policy::FixNulls).await;
    assert_eq!(repaired.outcome.exit_code(), 0, "{:?}", repaired.told);
    assert_eq!(stage.left().await.0, Verdict::Match);
    let rows = stage.texts(3, "SELECT CONCAT(a, b) FROM t ORDER BY id").await;
    assert_eq!(rows, ["ab", "xy"]);
}

#[rstest]
#[case(Flavor::MySql)]
#[case(Flavor::MariaDb)]
#[tokio::test]
async fn a_plan_decides_row_by_row(#[case] flavor: Flavor) {
    let mut stage = stage_or_skip!(flavor, 2);
    let plan = r#"
version: 1
tables:
  SCHEMA.t:
    default_action: {type: skip}
    rules:
      - {name: gone, diff_type: missing_on_n2, pk_in: [{range: {from: 1, to: 1000}}], action: {type: apply_from, from: n1, mode: insert}}
      - {name: extra, diff_type: missing_on_n1, when: "n2.region = 'eu'", action: {type: delete}}
      - {name: fresh, columns_changed: [amount], action: {type: custom, helpers: {pick_freshest: {key: updated_at, tie: n1}}}}
      - {name: nulls, diff_type: row_mismatch, when: "n1.name IS NOT NULL AND n2.name IS NULL AND n1.amount > 15", action: {type: custom, custom_row: {name: "{{n1.name}}", region: changed, amount: 7}}}
    row_overrides:
      - {pk: {id: 3002}, action: {type: keep_n2}}
"#
    .replace("SCHEMA", &stage.schemas[0]);
    customers(&mut stage).await;
    let (_, report) = stage.diff(Format::Ndjson).await;
    let policy = Policy::Plan(Plan::read(&plan).unwrap());
    let repaired = stage.repair(&report, policy).await;
    let mut told = repaired.told.clone();
    told.sort();
    assert_eq!(
        told,
        [
            "n1 written ('11') by nulls",
            "n1 written ('20') by fresh",
            "n1 written ('21') by fresh",
            "n1 written ('3002') by row_override_0",
            "n2 written ('11') by nulls",
            "n2 written ('3001') by extra",
            "n2 written ('5') by gone",
            "n2 written ('700') by gone",
        ]
    );
    assert_eq!(repaired.outcome.exit_code(), 0);
    assert_eq!(stage.left().await, (Verdict::Differ, 2));
    // The plan's 7 is the server's 7.00.
    let row = "SELECT CONCAT(name, region, amount) FROM t WHERE id = 11";
    assert_eq!(stage.texts(1, row).await, ["name 11changed7.00"]);
}

#[rstest]
#[case(
    "when: \"n1.commit_ts > n2.commit_ts\", action: {type: keep_n1}",
    "commit times"
)]
#[case("when: \"n1.node_origin = 'local'\", action: {type: keep_n1}", "origins")]
#[case("action: {type: keep_n1, allow_stale_repairs: false}", "allow_stale_repairs")]
#[case(
    "action: {type: custom, helpers: {pick_freshest: {key: commit_ts, tie: n1}}}",
    "commit times"
)]
#[tokio::test]
async fn a_plan_that_goes_by_what_mysql_does_not_keep_is_refused(#[case] rule: &str, #[case] what: &str) {
    let mut stage = stage_or_skip!(Flavor::MySql, 2);
    stage
        .all("CREATE TABLE t (id INT PRIMARY KEY, v INT); INSERT INTO t VALUES (1, 1)")
        .await;
    stage.on(2, "UPDATE t SET v = 2").await;
    let (_, report) = stage.diff(Format::Ndjson).await;
    let plan = format!(
        "tables: {{{}.t: {{rules: [{{name: r, diff_type: row_mismatch, {rule}}}]}}}}",
        stage.schemas[0]
    );
    let refused = stage
        .repair_with(&report, options(Policy::Plan(Plan::read(&plan).unwrap())))
        .await;
    let Err(refused @ RepairError::Decision(_)) = refused else {
        panic!()
    };
    assert!(refused.to_string().contains(what), "{refused}");
}

#[tokio::test]
async fn origins_cannot_be_preserved() {
    let mut stage = stage_or_skip!(Flavor::MySql, 2);
    stage.all("CREATE TABLE t (id INT PRIMARY KEY)").await;
    stage.on(1, "INSERT INTO t VALUES (1)").await;
    let (_, report) = stage.diff(Format::Ndjson).await;
    let mut wanted = options(FULL);
    wanted.origin = OriginKeeping::Preserve;
    let refused = stage.repair_with(&report, wanted).await;
    assert!(matches!(refused, Err(RepairError::Refused(why)) if why.contains("PostgreSQL only")));
}

#[rstest]
#[case(Flavor::MySql)]
#[case(Flavor::MariaDb)]
#[tokio::test]
async fn a_dry_run_does_the_same_and_changes_nothing(#[case] flavor: Flavor) {
    let mut stage = stage_or_skip!(flavor, 2);
    customers(&mut stage).await;
    let (_, report) = stage.diff(Format::Ndjson).await;
    let rows = "SELECT CONCAT_WS('|', id, name, amount, region, updated_at, touched) FROM t ORDER BY id";
    let before = stage.texts(2, rows).await;
    let mut dry = options(FULL);
    dry.apply = Apply::DryRun;
    let rehearsed = stage.repair_with(&report, dry).await.unwrap();
    assert_eq!(stage.texts(2, rows).await, before);
    assert_eq!(rehearsed.report["changes"]["n2"]["would_upsert"], 7);
    assert_eq!(rehearsed.report["changes"]["n2"]["would_delete"], 2);
    let repaired = stage.repair(&report, FULL).await;
    assert_eq!(rehearsed.counts(2), repaired.counts(2));
    assert_eq!(rehearsed.told, repaired.told);
}

#[rstest]
#[case(Flavor::MySql)]
#[case(Flavor::MariaDb)]
#[tokio::test]
async fn the_repair_as_sql_does_the_same_and_compares_first(#[case] flavor: Flavor) {
    let mut stage = stage_or_skip!(flavor, 2);
    customers(&mut stage).await;
    let (_, report) = stage.diff(Format::Ndjson).await;
    let mut dry = options(FULL);
    dry.apply = Apply::DryRun;
    let rehearsed = stage.repair_with(&report, dry).await.unwrap();
    assert_eq!(rehearsed.scripts[0], "");
    // Somebody changes rows before the script is run: they are left alone. Only a letter's case, only a space at the end.
    let meanwhile = "UPDATE t SET region = 'EU', touched = touched WHERE id = 20; \
        UPDATE t SET region = 'us ', touched = touched WHERE id = 21; INSERT INTO t (id, name) VALUES (5, 'mine'); \
        UPDATE t SET region = 'Eu', touched = touched WHERE id = 3001";
    stage.on(2, meanwhile).await;
    stage.on(2, &rehearsed.scripts[1]).await;
    assert_eq!(stage.left().await, (Verdict::Differ, 4));
    let mine = "SELECT CONCAT_WS('|', id, region, amount) FROM t WHERE id IN (5, 20, 21, 3001) ORDER BY id";
    assert_eq!(
        stage.texts(2, mine).await,
        ["5", "20|EU|31.00", "21|us |32.50", "3001|Eu|1.00"]
    );
}

#[rstest]
#[case(Flavor::MySql)]
#[case(Flavor::MariaDb)]
#[tokio::test]
async fn a_rerun_tells_what_has_become_of_a_report(#[case] flavor: Flavor) {
    for format in [Format::Ndjson, Format::Ace] {
        let mut stage = stage_or_skip!(flavor, 2);
        customers(&mut stage).await;
        let (_, report) = stage.diff(format).await;
        let again = async |stage: &Stage| {
            let path = report.with_file_name("again.ndjson");
            let subject = stage.subject().await;
            let summary = rerun(
                RecordedReport::open(&report).unwrap(),
                &subject,
                &DiffSettings::default(),
                Box::new(NdjsonSink::new(path)),
                &CancellationToken::new(),
            )
            .await;
            let summary = summary.unwrap_or_else(|error| panic!("{error}"));
            (summary.verdict, summary.confirmed)
        };
        assert_eq!(again(&stage).await, (Verdict::Differ, 9));
        let upserted = Policy::SourceOfTruth {
            source: 0,
            mode: CopyMode::UpsertOnly,
        };
        stage.repair(&report, upserted).await;
        assert_eq!(again(&stage).await, (Verdict::Differ, 2));
        stage.repair(&report, FULL).await;
        assert_eq!(again(&stage).await, (Verdict::Match, 0));
    }
}
