//! Ranges that differ, digested part by part.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use changeling_differ::model::Verdict;
use changeling_differ::range::KeyRange;
use changeling_differ::side::Digested;
use tokio_util::sync::CancellationToken;

use crate::world::{World, subject, world_or_skip};

/// The second node's digests of parts of its table, all at once and one by one.
async fn both_ways(world: &World, rows_of_a_part: u64, cap: u64) -> [Vec<Digested>; 2] {
    let cluster = world.prepare().await.unwrap_or_else(|error| panic!("{error}"));
    let mut session = cluster.sides[1].connect().await.unwrap();
    let cuts = session.cuts(&KeyRange::ALL, rows_of_a_part, 1_000).await.unwrap();
    let parts = KeyRange::ALL.cut_at(cuts);
    let together = session.digests(&parts, cap).await.unwrap();
    let mut single = Vec::new();
    for part in &parts {
        single.push(session.digest(part, cap).await.unwrap());
    }
    [together, single]
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_are_digested_at_once_as_one_by_one() {
    for (key, value, filter) in [
        ("id int", "i", None),
        ("id int", "i", Some("a <> 'v7' -- and a comment")),
        ("id bigint, part text", "i % 10, 'Ü' || i", None),
        (
            "id timestamptz, \"a1\" uuid",
            "timestamptz '2026-01-01 00:00+02' + i * interval '1 microsecond', md5(i::text)::uuid",
            Some("a1 IS NOT NULL"),
        ),
        ("id text COLLATE \"en_US\"", "md5(i::text)", None),
        ("id numeric", "i / 7.0", None),
    ] {
        let mut world = world_or_skip!(2);
        if key.contains("COLLATE") {
            let collation = "CREATE COLLATION \"en_US\" (provider = icu, locale = 'en-US')";
            world.all(collation).await;
        }
        let columns: Vec<&str> = key
            .split(", ")
            .filter_map(|column| column.split(' ').next())
            .collect();
        let columns = columns.join(", ");
        world
            .all(&format!(
                "CREATE TABLE t ({key}, a text, PRIMARY KEY ({columns})); \
                 INSERT INTO t SELECT {value}, 'v' || i FROM generate_series(1, 1000) AS i"
            ))
            .await;
        world.terms.filter = filter.map(Into::into);
        let [together, single] = both_ways(&world, 7, 100).await;
        assert!(together.len() > 100, "{key}");
        assert_eq!(together, single, "{key}");
        let [together, single] = both_ways(&world, 7, 7).await;
        assert!(together.contains(&Digested::Overflow), "{key}");
        assert_eq!(together, single, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_which_one_node_has_many_more_rows_is_cut_again() {
    let world = world_or_skip!(2).with_ranges(100, 10);
    world
        .all("CREATE TABLE t (id numeric PRIMARY KEY, a text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 1000) AS i")
        .await;
    world
        .on(
            2,
            "INSERT INTO t SELECT 500 + i / 10000.0, 'x' FROM generate_series(1, 5000) AS i; DELETE FROM t WHERE id = 3",
        )
        .await;
    let outcome = world.diff().await;
    assert_eq!(outcome.summary.verdict, Verdict::Differ);
    assert_eq!(outcome.findings.len(), 5001);
    assert_eq!(outcome.summary.nodes[0].rows, 1000);
    assert_eq!(outcome.summary.nodes[1].rows, 5999);
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_every_row_differs_and_each_is_found_once() {
    let world = world_or_skip!(3).with_ranges(1000, 50);
    world
        .all("CREATE TABLE t (id int PRIMARY KEY, a text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 5000) AS i")
        .await;
    world.on(3, "UPDATE t SET a = 'x'").await;
    let outcome = world.diff().await;
    assert_eq!(outcome.findings.len(), 5000);
    assert!(outcome.summary.nodes.iter().all(|node| node.rows == 5000));
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_digest_sorts_nothing_and_gathers_no_text() {
    let world = world_or_skip!(2);
    world
        .all("CREATE TABLE t (id int PRIMARY KEY, a text, b timestamptz, c numeric); INSERT INTO t SELECT i FROM generate_series(1, 100) AS i")
        .await;
    let cluster = world.prepare().await.unwrap_or_else(|error| panic!("{error}"));
    let plans = cluster.sides[0].plans().await.unwrap();
    let (_, lines) = plans
        .iter()
        .find(|(title, _)| title.contains("digest"))
        .expect("a digest's plan");
    let plan = lines.join("\n");
    assert!(plan.contains("Scan"), "{plan}");
    assert!(!plan.contains("Sort") && !plan.contains("_agg("), "{plan}");
}

/// Rows of the table that a node's sessions have read since its counters were set to zero, once none is left to tell.
async fn rows_read(world: &World, node: usize) -> i64 {
    let sql = "SELECT (SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables WHERE relname = 't'), \
               (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid())";
    let began = Instant::now();
    loop {
        let row = world.clients[node - 1].query_one(sql, &[]).await.unwrap();
        if row.get::<_, i64>(1) == 0 {
            return row.get(0);
        }
        assert!(began.elapsed() < Duration::from_secs(20), "sessions are left");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_one_bad_row_costs_its_block_one_more_pass() {
    const ROWS: i64 = 10_000;
    let world = world_or_skip!(2).with_ranges(10_000, 100);
    world
        .all("CREATE TABLE t (id int PRIMARY KEY, a text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 10000) AS i")
        .await;
    world.all("UPDATE t SET a = 'y' WHERE id = 1").await;
    world.on(2, "UPDATE t SET a = 'x' WHERE id = 5003").await;
    // Not inside the statement before it: it cannot share a transaction.
    world.all("VACUUM ANALYZE t").await;
    world.all("SELECT pg_stat_force_next_flush()").await;
    world.all("SELECT pg_stat_reset()").await;
    let outcome = world.diff().await;
    assert_eq!(outcome.confirmed_keys(), ["5003"]);
    // Digested whole, then part by part, then one part by row. ACE reads 2.9 times the block, and counts it besides.
    let read = rows_read(&world, 2).await;
    assert!((2 * ROWS..2 * ROWS + ROWS / 4).contains(&read), "{read}");
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_what_differs_is_reported_before_the_table_has_been_walked() {
    let mut world = world_or_skip!(2).with_ranges(100, 10);
    world.settings.children = NonZeroU32::MIN;
    world
        .all("CREATE TABLE t (id int PRIMARY KEY, a text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 50000) AS i")
        .await;
    world.on(2, "UPDATE t SET a = 'x' WHERE id = 3").await;
    let cluster = world.prepare().await.unwrap_or_else(|error| panic!("{error}"));
    let cancel = CancellationToken::new();
    let mut running = world.start(subject(cluster, &world.terms), cancel.clone());
    let found = running.state.wait_for(|state| state.found.confirmed > 0).await;
    assert!(!found.expect("the job runs").walked);
    cancel.cancel();
    assert_eq!(running.finish().await.unwrap().confirmed_keys(), ["3"]);
}
