//! MySQL and MariaDB: two tables on one server, a primary and its replica.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use changeling_core::ident::TableName;
use changeling_differ::engine::{Care, DiffJob, DiffSettings, DiffSubject, Recheck};
use changeling_differ::journal::{JobIdentity, Journal};
use changeling_differ::model::{Comparison, NodeName, Verdict};
use changeling_differ::mysql::side::{MySqlCluster, MySqlNode, MySqlServer, MySqlTerms};
use changeling_support::{Server, ServerSpec, server_or_skip};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use rstest::rstest;
use tokio_util::sync::CancellationToken;

use crate::world::{Kept, Outcome, Running, host};

type Result = changeling_support::Result<()>;

pub(crate) fn node(name: &str, server: &Server, schema: &str) -> MySqlNode {
    MySqlNode {
        server: MySqlServer::new(
            NodeName::new(name),
            server.mysql_opts().into(),
            Duration::from_secs(60),
        ),
        table: TableName::new(schema, "t"),
    }
}

async fn diff(nodes: &[MySqlNode], terms: MySqlTerms, settings: DiffSettings) -> Outcome {
    let cluster = MySqlCluster::prepare(nodes, terms.clone()).await.unwrap();
    let subject = DiffSubject {
        sides: cluster.sides,
        shape: cluster.shape,
        comparison: terms.comparison,
        table_filter: terms.filter,
        concurrency_factor: 0.5,
        notes: cluster.notes,
    };
    let host = host();
    let kept = Kept::default();
    let job = DiffJob::start(
        &host,
        subject,
        settings,
        Box::new(kept.clone()),
        CancellationToken::new(),
    );
    Running::of(job, kept, host).finish().await.unwrap()
}

fn small() -> DiffSettings {
    DiffSettings {
        block_size: NonZeroU64::new(3).unwrap(),
        compare_unit_size: NonZeroU64::MIN,
        ..DiffSettings::default()
    }
}

/// Type, and two values of it that are not the same.
const TYPES: &[(&str, &str, &str)] = &[
    ("BIGINT", "1", "4294967296"),
    ("BIGINT UNSIGNED", "9223372036854775807", "18446744073709551615"),
    (
        "DECIMAL(60,20)",
        "0.00000000000000000001",
        "0.00000000000000000002",
    ),
    ("FLOAT", "16777216", "16777217.9"),
    ("FLOAT", "1.0000001", "1.0000002"),
    ("DOUBLE", "0.1", "0.10000000000000002"),
    ("BIT(13)", "b'1'", "b'1000000000000'"),
    ("VARCHAR(9) CHARACTER SET utf8mb4", "''", "' '"),
    ("VARCHAR(9) CHARACTER SET utf8mb4", "'a'", "'A'"),
    ("VARCHAR(9) CHARACTER SET latin1", "'é'", "'e'"),
    ("TEXT CHARACTER SET utf8mb4", "'a'", "'a '"),
    ("VARBINARY(9)", "X''", "X'00'"),
    ("BLOB", "X'FF'", "X'FE'"),
    ("DATE", "'2020-01-01'", "'2020-01-02'"),
    (
        "DATETIME(6)",
        "'2020-01-01 00:00:00.000001'",
        "'2020-01-01 00:00:00.000002'",
    ),
    (
        "TIMESTAMP(6) NULL",
        "'2020-01-01 00:00:01'",
        "'2020-01-01 00:00:01.000001'",
    ),
    ("TIME(3)", "'-838:59:59'", "'838:59:59'"),
    ("YEAR", "2020", "2021"),
    ("ENUM('a','b')", "'a'", "'b'"),
    ("SET('a','b')", "''", "'a,b'"),
    ("JSON", "'{\"a\": 1}'", "'{\"a\": 2}'"),
    ("POINT", "POINT(1,2)", "POINT(2,1)"),
];

async fn every_change_is_found(server: &Server) {
    let mut admin = server.mysql().await.unwrap();
    for schema in ["d1", "d2"] {
        admin
            .query_drop(format!("CREATE DATABASE {schema}"))
            .await
            .unwrap();
    }
    admin.query_drop("SET NAMES utf8mb4").await.unwrap();
    admin.query_drop("SET sql_mode = ''").await.unwrap();
    let nodes = [node("n1", server, "d1"), node("n2", server, "d2")];
    for (kind, one, other) in TYPES {
        for schema in ["d1", "d2"] {
            admin
                .query_drop(format!("DROP TABLE IF EXISTS {schema}.t"))
                .await
                .unwrap();
            admin
                .query_drop(format!("CREATE TABLE {schema}.t (id INT PRIMARY KEY, v {kind})"))
                .await
                .unwrap();
            admin
                .query_drop(format!(
                    "INSERT INTO {schema}.t VALUES (1, {one}), (2, {one}), (3, {other}), (4, NULL)"
                ))
                .await
                .unwrap();
        }
        let outcome = diff(&nodes, MySqlTerms::default(), small()).await;
        assert_eq!(
            outcome.summary.verdict,
            Verdict::Match,
            "{kind}: {:?}",
            outcome.summary
        );
        assert_eq!(outcome.summary.nodes[1].rows, 4);
        for (change, differing) in [
            (format!("UPDATE d2.t SET v = {other} WHERE id = 2"), 1),
            ("UPDATE d2.t SET v = NULL WHERE id = 1".into(), 1),
            (format!("UPDATE d2.t SET v = {one} WHERE id = 4"), 1),
            ("DELETE FROM d2.t WHERE id = 3".into(), 1),
            (format!("INSERT INTO d2.t VALUES (5, {one})"), 1),
        ] {
            admin.query_drop(&change).await.unwrap();
            let outcome = diff(&nodes, MySqlTerms::default(), small()).await;
            assert_eq!(
                outcome.summary.confirmed,
                differing,
                "{kind}: {change}: {:?} {:?}",
                outcome.lines(),
                outcome.summary
            );
            admin.query_drop("DELETE FROM d2.t").await.unwrap();
            admin
                .query_drop("INSERT INTO d2.t SELECT * FROM d1.t")
                .await
                .unwrap();
        }
    }
}

async fn keys_and_masses(server: &Server) {
    let mut admin = server.mysql().await.unwrap();
    for schema in ["k1", "k2"] {
        admin
            .query_drop(format!("CREATE DATABASE {schema}"))
            .await
            .unwrap();
    }
    let nodes = [node("n1", server, "k1"), node("n2", server, "k2")];
    let settings = || DiffSettings {
        block_size: NonZeroU64::new(64).unwrap(),
        compare_unit_size: NonZeroU64::new(8).unwrap(),
        ..DiffSettings::default()
    };
    for key in [
        "a BIGINT UNSIGNED, b VARCHAR(20) CHARACTER SET utf8mb4",
        "a DATETIME(6), b VARBINARY(20)",
        "a VARCHAR(20) CHARACTER SET latin1, b DECIMAL(30,5)",
    ] {
        for schema in ["k1", "k2"] {
            admin
                .query_drop(format!("DROP TABLE IF EXISTS {schema}.t"))
                .await
                .unwrap();
            admin
                .query_drop(format!(
                    "CREATE TABLE {schema}.t ({key}, v INT, PRIMARY KEY (a, b))"
                ))
                .await
                .unwrap();
            let numbers = "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 600)";
            let a = if key.contains("DATETIME") {
                "TIMESTAMPADD(MICROSECOND, i MOD 50, '2020-01-01')"
            } else {
                "i MOD 50 + 9007199254740993"
            };
            let b = if key.contains("DECIMAL") {
                "i / 7"
            } else {
                "CONCAT('x''\\\\', i)"
            };
            admin
                .query_drop(format!(
                    "INSERT INTO {schema}.t {numbers} SELECT {a}, {b}, i FROM n"
                ))
                .await
                .unwrap();
        }
        let outcome = diff(&nodes, MySqlTerms::default(), settings()).await;
        assert_eq!(
            outcome.summary.verdict,
            Verdict::Match,
            "{key}: {:?}",
            outcome.summary
        );
        assert_eq!(outcome.summary.nodes[1].rows, 600);
        admin
            .query_drop("UPDATE k2.t SET v = 0 WHERE v = 333")
            .await
            .unwrap();
        admin.query_drop("DELETE FROM k1.t WHERE v = 17").await.unwrap();
        let outcome = diff(&nodes, MySqlTerms::default(), settings()).await;
        assert_eq!(outcome.summary.confirmed, 2, "{key}: {:?}", outcome.lines());
        admin.query_drop("DELETE FROM k1.t").await.unwrap();
        let outcome = diff(&nodes, MySqlTerms::default(), settings()).await;
        assert_eq!(outcome.findings.len(), 600, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_finds_every_change_and_walks_every_key() -> Result {
    let server = server_or_skip!(ServerSpec::mysql());
    every_change_is_found(&server).await;
    keys_and_masses(&server).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_finds_every_change_and_walks_every_key() -> Result {
    let server = server_or_skip!(ServerSpec::mariadb());
    every_change_is_found(&server).await;
    keys_and_masses(&server).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hash_that_cannot_be_made_is_unknown_and_never_a_match() -> Result {
    let server = server_or_skip!(ServerSpec::mysql().option("--max-allowed-packet=1M"));
    let mut admin = server.mysql().await?;
    for schema in ["d1", "d2"] {
        admin.query_drop(format!("CREATE DATABASE {schema}")).await?;
        admin
            .query_drop(format!(
                "CREATE TABLE {schema}.t (id INT PRIMARY KEY, v LONGBLOB)"
            ))
            .await?;
    }
    admin
        .query_drop("INSERT INTO d1.t VALUES (1, REPEAT('a', 900000))")
        .await?;
    admin
        .query_drop("INSERT INTO d2.t VALUES (1, REPEAT('b', 900000))")
        .await?;
    let nodes = [node("n1", &server, "d1"), node("n2", &server, "d2")];
    let outcome = diff(&nodes, MySqlTerms::default(), small()).await;
    assert_eq!(outcome.summary.verdict, Verdict::Unknown);
    assert!(
        outcome.summary.unknown_ranges[0]
            .reason
            .contains("max_allowed_packet"),
        "{:?}",
        outcome.summary
    );
    Ok(())
}

#[rstest]
#[case::mysql(ServerSpec::mysql())]
#[case::mariadb(ServerSpec::mariadb())]
#[tokio::test(flavor = "multi_thread")]
async fn fifty_diffs_beside_writers_through_a_replica_find_what_was_planted(
    #[case] spec: ServerSpec,
) -> Result {
    let topology = server_or_skip!(spec.with_replica());
    let mut admin = topology.primary.mysql().await?;
    admin.query_drop("CREATE DATABASE d1").await?;
    admin
        .query_drop("CREATE TABLE d1.t (id INT PRIMARY KEY, v INT NOT NULL DEFAULT 0, UNIQUE KEY (id))")
        .await?;
    admin
        .query_drop("INSERT INTO d1.t WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 900) SELECT i, 0 FROM n")
        .await?;
    topology.wait_caught_up(Duration::from_secs(30)).await?;
    let nodes = [
        node("n1", &topology.primary, "d1"),
        node("n2", &topology.replica, "d1"),
    ];
    // Where nobody writes.
    let mut replica = topology.replica.mysql().await?;
    for sql in [
        "SET SESSION sql_log_bin = 0",
        "UPDATE d1.t SET v = -1 WHERE id = 850",
        "DELETE FROM d1.t WHERE id = 860",
        "INSERT INTO d1.t VALUES (5000, 0)",
    ] {
        replica.query_drop(sql).await?;
    }
    let go = Arc::new(AtomicBool::new(true));
    let writer = tokio::spawn(write(topology.primary.mysql().await?, Arc::clone(&go)));
    let settings = || DiffSettings {
        block_size: NonZeroU64::new(100).unwrap(),
        compare_unit_size: NonZeroU64::new(10).unwrap(),
        recheck: Recheck {
            rounds: NonZeroU32::new(12).unwrap(),
            ..Recheck::default()
        },
        ..DiffSettings::default()
    };
    for round in 0..50 {
        let outcome = diff(&nodes, MySqlTerms::default(), settings()).await;
        assert_eq!(
            outcome.confirmed_keys(),
            ["5000", "850", "860"],
            "round {round}: {:?}",
            outcome.lines()
        );
        assert_eq!(outcome.summary.unknown, 0, "{:?}", outcome.summary);
    }
    go.store(false, Ordering::Relaxed);
    assert!(writer.await.unwrap() > 20);
    for sql in [
        "UPDATE d1.t SET v = 0 WHERE id = 850",
        "INSERT INTO d1.t VALUES (860, 0)",
        "DELETE FROM d1.t WHERE id = 5000",
    ] {
        replica.query_drop(sql).await?;
    }
    let outcome = diff(&nodes, MySqlTerms::default(), settings()).await;
    assert_eq!(outcome.summary.verdict, Verdict::Match, "{:?}", outcome.summary);
    Ok(())
}

/// Updates a hot row and others, replaces and deletes rows, until the flag falls.
async fn write(mut conn: Conn, go: Arc<AtomicBool>) -> u64 {
    let mut written = 0u64;
    while go.load(Ordering::Relaxed) {
        let id = written * 7919 % 800;
        for sql in [
            format!("UPDATE d1.t SET v = v + 1 WHERE id IN ({id}, 3)"),
            format!("REPLACE INTO d1.t VALUES ({}, 1)", 2000 + written % 50),
            format!("DELETE FROM d1.t WHERE id = {}", 2000 + (written + 25) % 50),
        ] {
            conn.query_drop(sql).await.unwrap();
        }
        written += 1;
        // Some hundred rows a second, and some of the machine for the comparison.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    written
}

/// Two runs with one journal: the first has enough after a few differences.
async fn goes_on_from_a_journal(server: &Server) {
    let mut admin = server.mysql().await.unwrap();
    for text in [
        "CREATE DATABASE d1",
        "CREATE DATABASE d2",
        "CREATE TABLE d1.t (k VARCHAR(20) CHARACTER SET utf8mb4, n INT, v INT, PRIMARY KEY (k, n))",
        "INSERT INTO d1.t WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 900) \
         SELECT CONCAT('kü''', i % 7), i, i FROM n",
        "CREATE TABLE d2.t LIKE d1.t",
        "INSERT INTO d2.t SELECT * FROM d1.t",
        "UPDATE d2.t SET v = -1 WHERE n % 30 = 0",
        "DELETE FROM d2.t WHERE n = 500",
    ] {
        admin.query_drop(text).await.unwrap();
    }
    let nodes = [node("n1", server, "d1"), node("n2", server, "d2")];
    let settings = |stop_after| DiffSettings {
        block_size: NonZeroU64::new(40).unwrap(),
        compare_unit_size: NonZeroU64::new(5).unwrap(),
        stop_after: NonZeroU64::new(stop_after),
        ..DiffSettings::default()
    };
    let whole = diff(&nodes, MySqlTerms::default(), settings(0)).await;
    assert_eq!(whole.summary.confirmed, 31);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("r.journal");
    let mut last = None;
    for stop_after in [8, 20, 0] {
        let cluster = MySqlCluster::prepare(&nodes, MySqlTerms::default())
            .await
            .unwrap();
        let subject = DiffSubject {
            sides: cluster.sides,
            shape: cluster.shape,
            comparison: Comparison::Exact,
            table_filter: None,
            concurrency_factor: 0.5,
            notes: cluster.notes,
        };
        let settings = settings(stop_after);
        let identity = JobIdentity::of(&subject, &settings);
        let journal = if path.exists() {
            Journal::resume(&path, &identity).unwrap()
        } else {
            Journal::create(&path, "r.ndjson", &identity).unwrap()
        };
        let before = journal.finished_ranges();
        let (host, kept) = (host(), Kept::default());
        let care = Care {
            journal: Some(journal),
            ..Care::default()
        };
        let job = DiffJob::start_with(
            &host,
            subject,
            settings,
            Box::new(kept.clone()),
            care,
            CancellationToken::new(),
        );
        let outcome = Running::of(job, kept, host).finish().await.unwrap();
        assert_eq!(outcome.state.ranges_before, before);
        assert_eq!(outcome.summary.limit_reached, stop_after > 0);
        last = Some(outcome);
    }
    let last = last.unwrap();
    assert!(last.state.ranges_before > 0, "something was done before");
    assert_eq!(last.lines(), whole.lines());
    assert_eq!(last.summary.nodes, whole.summary.nodes);
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_goes_on_from_a_journal() -> Result {
    goes_on_from_a_journal(&server_or_skip!(ServerSpec::mysql())).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_goes_on_from_a_journal() -> Result {
    goes_on_from_a_journal(&server_or_skip!(ServerSpec::mariadb())).await;
    Ok(())
}

/// A server may be set to give fewer rows of every answer than there are.
#[tokio::test]
async fn a_limit_on_all_answers_hides_nothing() -> Result {
    let server = server_or_skip!(ServerSpec::mysql().dedicated());
    let mut admin = server.mysql().await.unwrap();
    for schema in ["d1", "d2"] {
        admin
            .query_drop(format!("CREATE DATABASE {schema}"))
            .await
            .unwrap();
        admin
            .query_drop(format!(
                "CREATE TABLE {schema}.t (id INT PRIMARY KEY, v VARCHAR(20))"
            ))
            .await
            .unwrap();
        let rows: Vec<String> = (1..=300).map(|id| format!("({id}, 'v')")).collect();
        admin
            .query_drop(format!("INSERT INTO {schema}.t VALUES {}", rows.join(",")))
            .await
            .unwrap();
    }
    admin
        .query_drop("UPDATE d2.t SET v = 'x' WHERE id IN (50, 200, 300)")
        .await
        .unwrap();
    admin.query_drop("DELETE FROM d2.t WHERE id = 100").await.unwrap();
    let nodes = [node("n1", &server, "d1"), node("n2", &server, "d2")];
    for limit in [1, 4] {
        admin
            .query_drop(format!("SET GLOBAL sql_select_limit = {limit}"))
            .await
            .unwrap();
        for settings in [small(), DiffSettings::default()] {
            let outcome = diff(&nodes, MySqlTerms::default(), settings).await;
            let mut keys = outcome.confirmed_keys();
            keys.sort_unstable();
            assert_eq!(keys, ["100", "200", "300", "50"], "{limit}");
        }
    }
    Ok(())
}
