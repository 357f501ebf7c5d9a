//! What has become of the differences of a report.

use changeling_differ::engine::DiffSettings;
use changeling_differ::model::{JobSummary, Verdict};
use changeling_differ::postgres::ColumnChoice;
use changeling_differ::report::ndjson::NdjsonSink;
use changeling_differ::report::recorded::RecordedReport;
use changeling_differ::rerun::rerun;
use tokio_util::sync::CancellationToken;

use crate::round::{Format, Round};
use crate::world::{subject, world_or_skip};

pub(crate) async fn again(round: &Round, report: &std::path::Path) -> (JobSummary, std::path::PathBuf) {
    let cluster = round
        .world
        .prepare()
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let subject = subject(cluster, &round.world.terms);
    let path = round.directory.path().join("again.ndjson");
    let summary = rerun(
        RecordedReport::open(report).unwrap(),
        &subject,
        &DiffSettings::default(),
        Box::new(NdjsonSink::new(&path)),
        &CancellationToken::new(),
    )
    .await
    .unwrap_or_else(|error| panic!("{error}"));
    (summary, path)
}

#[tokio::test]
async fn keys_of_every_type_are_found_again() {
    let keys = [
        ("int", "i"),
        ("uuid", "md5(i::text)::uuid"),
        ("numeric", "i + 0.10"),
        ("timestamptz", "'2026-01-01'::timestamptz + i * interval '1.5 s'"),
        ("text", "'a|' || i"),
    ];
    for (kind, value) in keys {
        for format in [Format::Ndjson, Format::Ace] {
            let round = Round::new(world_or_skip!(2));
            let table = format!(
                "CREATE TABLE t (k {kind} PRIMARY KEY, v int); INSERT INTO t SELECT {value}, i FROM generate_series(1, 50) AS i"
            );
            round.world.all(&table).await;
            round
                .world
                .on(2, "DELETE FROM t WHERE v <= 5; UPDATE t SET v = -v WHERE v <= 10")
                .await;
            let (_, report) = round.diff(format).await;
            // Nothing has happened: all ten still differ.
            let (summary, path) = again(&round, &report).await;
            assert_eq!(
                (summary.verdict, summary.confirmed, summary.unknown),
                (Verdict::Differ, 10, 0),
                "{kind} {summary:?}"
            );
            // Two are gone on both nodes, three were put right, one came to differ that the report does not list.
            round.world.on(1, "DELETE FROM t WHERE v <= 2").await;
            round
                .world
                .on(
                    2,
                    "UPDATE t SET v = -v WHERE v BETWEEN -8 AND -6; UPDATE t SET v = 0 WHERE v = 20",
                )
                .await;
            let (summary, path_again) = again(&round, &path).await;
            assert_eq!(
                (summary.verdict, summary.confirmed),
                (Verdict::Differ, 5),
                "{kind}"
            );
            round.world.on(1, "DELETE FROM t WHERE v <= 10").await;
            round.world.on(2, "DELETE FROM t WHERE v <= 10 AND v <> 0").await;
            let (summary, _) = again(&round, &path_again).await;
            assert_eq!(
                (summary.verdict, summary.confirmed),
                (Verdict::Match, 0),
                "{kind}"
            );
        }
    }
}

#[tokio::test]
async fn a_report_that_is_not_about_the_whole_table_never_ends_in_a_match() {
    let mut round = Round::new(world_or_skip!(2));
    round.world.all("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, i FROM generate_series(1, 50) AS i").await;
    round.world.on(2, "DELETE FROM t WHERE v <= 5").await;
    round.world.settings.stop_after = std::num::NonZeroU64::new(2);
    let (_, report) = round.diff(Format::Ndjson).await;
    round.world.on(1, "DELETE FROM t WHERE v <= 5").await;
    let (summary, _) = again(&round, &report).await;
    assert_eq!(
        (summary.verdict, summary.confirmed),
        (Verdict::Unknown, 0),
        "{summary:?}"
    );
}

/// Whether the rows still differ in it nobody knows.
#[tokio::test]
async fn a_compared_column_that_is_gone_is_told_and_there_is_no_match() {
    for (dropped, verdict) in [(&[1, 2][..], Verdict::Unknown), (&[2], Verdict::Unknown)] {
        let mut round = Round::new(world_or_skip!(2));
        round
            .world
            .all("CREATE TABLE t (id int PRIMARY KEY, v int, w int, x int); INSERT INTO t SELECT i, i, i, i FROM generate_series(1, 5) AS i")
            .await;
        round
            .world
            .on(
                2,
                "UPDATE t SET w = 0 WHERE id = 1; UPDATE t SET v = 0 WHERE id = 2",
            )
            .await;
        round.world.terms.columns = ColumnChoice::Except(vec!["x".into()]);
        let (_, report) = round.diff(Format::Ndjson).await;
        for node in dropped {
            round.world.on(*node, "ALTER TABLE t DROP COLUMN w").await;
        }
        round.world.on(2, "UPDATE t SET x = -1").await;
        round.world.terms.columns = ColumnChoice::Still(RecordedReport::open(&report).unwrap().columns);
        let (summary, _) = again(&round, &report).await;
        assert_eq!(
            (summary.verdict, summary.confirmed),
            (Verdict::Differ, 1),
            "{summary:?}"
        );
        round.world.on(2, "UPDATE t SET v = id").await;
        let (summary, _) = again(&round, &report).await;
        assert_eq!((summary.verdict, summary.confirmed), (verdict, 0), "{summary:?}");
        let notes = summary.notes.join(" ");
        assert!(
            notes.contains("column \"w\" any more, which the report compared"),
            "{notes}"
        );
    }
}

#[tokio::test]
async fn a_node_that_refuses_makes_it_unknown() {
    let mut round = Round::new(world_or_skip!(2));
    round
        .world
        .all("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1), (2, 2)")
        .await;
    round.world.on(2, "DELETE FROM t WHERE v = 1").await;
    let (_, report) = round.diff(Format::Ndjson).await;
    round.world.on(1, "DELETE FROM t WHERE v = 1").await;
    round.world.statement_timeout = std::time::Duration::from_millis(300);
    let cluster = round
        .world
        .prepare()
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let subject = subject(cluster, &round.world.terms);
    round
        .world
        .on(2, "BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        .await;
    let path = round.directory.path().join("again.ndjson");
    let ended = rerun(
        RecordedReport::open(&report).unwrap(),
        &subject,
        &DiffSettings::default(),
        Box::new(NdjsonSink::new(&path)),
        &CancellationToken::new(),
    )
    .await;
    let summary = ended.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        (summary.verdict, summary.unknown),
        (Verdict::Unknown, 1),
        "{summary:?}"
    );
}
