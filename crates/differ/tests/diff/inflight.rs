//! Tables that change while they are compared.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use changeling_differ::engine::Recheck;
use changeling_differ::model::{Finding, Unsettled, Verdict};
use changeling_differ::postgres::SnapshotMode;
use tokio::task::JoinHandle;

use crate::world::{World, connect, world_or_skip};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, a text, n int DEFAULT 0)";

/// `n1` publishes, `n2` subscribes.
pub(crate) async fn replicate(world: &World) -> String {
    world.all(TABLE).await;
    world.on(1, "INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 5000) AS i; CREATE PUBLICATION p FOR TABLE t").await;
    let slot = format!("s_{}", world.databases[0]);
    // On one server the slot has to be made first, or making the subscription waits for itself.
    world
        .on(
            1,
            &format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"),
        )
        .await;
    let Address {
        host,
        port,
        user,
        password,
    } = world.address.clone();
    world
        .on(
            2,
            &format!(
                "CREATE SUBSCRIPTION {slot} CONNECTION 'host={host} port={port} user={user} password={password} dbname={}' \
                 PUBLICATION p WITH (create_slot = false, slot_name = '{slot}')",
                world.databases[0]
            ),
        )
        .await;
    loop {
        let row = world.clients[1]
            .query_one("SELECT (SELECT count(*) FROM t), (SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel)", &[])
            .await
            .unwrap();
        if row.get::<_, i64>(0) == 5000 && row.get::<_, Option<bool>>(1) == Some(true) {
            return slot;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

use crate::world::Address;

/// Writers on the publisher until the flag falls: updates of few hot rows, inserts and deletes.
fn writers(world: &World, go: &Arc<AtomicBool>) -> Vec<JoinHandle<u64>> {
    (0..2)
        .map(|number| {
            let (address, database, go) = (world.address.clone(), world.databases[0].clone(), Arc::clone(go));
            tokio::spawn(async move {
                let client = connect(&address, &database).await;
                let mut written = 0;
                while go.load(Ordering::Relaxed) {
                    let id = (written * 7919 + number * 13) % 4000;
                    let new = 10_000 + number * 1_000_000 + written;
                    client
                        .batch_execute(&format!(
                            "UPDATE t SET n = n + 1 WHERE id = {id}; UPDATE t SET n = n + 1 WHERE id = 3; \
                             INSERT INTO t VALUES ({new}, 'new'); DELETE FROM t WHERE id = {new} - 5"
                        ))
                        .await
                        .unwrap();
                    written += 1;
                    // Some of the machine for the comparison.
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
                written
            })
        })
        .collect()
}

async fn tear_down(world: &World, slot: &str) {
    world
        .on(
            2,
            &format!("ALTER SUBSCRIPTION {slot} DISABLE; ALTER SUBSCRIPTION {slot} SET (slot_name = NONE)"),
        )
        .await;
    world.on(2, &format!("DROP SUBSCRIPTION {slot}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_fifty_diffs_beside_writers_through_replication_find_what_was_planted() {
    let mut world = world_or_skip!(2).with_ranges(500, 50);
    let slot = replicate(&world).await;
    world.settings.recheck = Recheck {
        rounds: NonZeroU32::new(12).unwrap(),
        ..Recheck::default()
    };
    // Planted where nobody writes.
    world
        .on(
            2,
            "UPDATE t SET a = 'planted' WHERE id IN (4500, 4700); DELETE FROM t WHERE id = 4900",
        )
        .await;
    let go = Arc::new(AtomicBool::new(true));
    let writers = writers(&world, &go);
    let mut settled = 0;
    for round in 0..50 {
        let outcome = world.diff().await;
        settled += outcome.summary.settled;
        assert_eq!(
            outcome.confirmed_keys(),
            ["4500", "4700", "4900"],
            "round {round}: {:?}",
            outcome.lines()
        );
        assert_eq!(outcome.summary.verdict, Verdict::Differ);
        assert_eq!(outcome.summary.unknown, 0, "{:?}", outcome.summary);
    }
    go.store(false, Ordering::Relaxed);
    let mut written = 0;
    for writer in writers {
        written += writer.await.unwrap();
    }
    assert!(
        written > 100 && settled > 0,
        "{written} transactions, {settled} rows settled"
    );
    tear_down(&world, &slot).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_snapshots_of_nodes_hold_while_writers_write() {
    for mode in [SnapshotMode::Node, SnapshotMode::Fenced] {
        let mut world = world_or_skip!(2).with_ranges(500, 50);
        let slot = replicate(&world).await;
        world.terms.snapshot = mode;
        world.terms.replay_timeout = Duration::from_secs(10);
        world.settings.recheck.rounds = NonZeroU32::new(12).unwrap();
        world.on(2, "UPDATE t SET a = 'planted' WHERE id = 4500").await;
        let go = Arc::new(AtomicBool::new(true));
        let writers = writers(&world, &go);
        for _ in 0..3 {
            let outcome = world.diff().await;
            assert_eq!(outcome.summary.confirmed, 1, "{mode:?}: {:?}", outcome.lines());
            // What is counted is what the snapshot holds: writers insert and delete in one transaction.
            assert_eq!(outcome.summary.unknown, 0, "{:?}", outcome.summary);
        }
        go.store(false, Ordering::Relaxed);
        for writer in writers {
            assert!(writer.await.unwrap() > 0);
        }
        tear_down(&world, &slot).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_shows_one_instant_to_all_children() {
    let mut world = world_or_skip!(2).with_ranges(100, 10);
    world.terms.snapshot = SnapshotMode::Node;
    world.all(TABLE).await;
    world
        .all("INSERT INTO t SELECT i, 'v' FROM generate_series(1, 1000) AS i")
        .await;
    let cluster = world.prepare().await.unwrap();
    // After the snapshots, before the comparison.
    world.all("DELETE FROM t WHERE id > 500").await;
    let outcome = world.diff_of(crate::world::subject(cluster, &world.terms)).await;
    assert_eq!(outcome.summary.verdict, Verdict::Match);
    assert_eq!(outcome.summary.nodes[0].rows, 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_do_not_arrive_are_in_flight_and_not_a_match() {
    let mut world = world_or_skip!(2);
    let slot = replicate(&world).await;
    world.settings.recheck.replay_timeout = Duration::from_millis(300);
    world.settings.recheck.rounds = NonZeroU32::new(2).unwrap();
    // The subscriber's worker waits for this lock.
    let blocker = connect(&world.address, &world.databases[1]).await;
    blocker
        .batch_execute("BEGIN; LOCK t IN SHARE MODE")
        .await
        .unwrap();
    world.on(1, "UPDATE t SET a = 'late' WHERE id = 77").await;
    let outcome = world.diff().await;
    assert!(
        matches!(
            &outcome.findings[..],
            [Finding::InFlight(_, Unsettled::NotReplayed)]
        ),
        "{:?}",
        outcome.lines()
    );
    assert_eq!(outcome.summary.verdict, Verdict::Unknown);
    blocker.batch_execute("COMMIT").await.unwrap();
    world.settings.recheck = Recheck::default();
    let outcome = world.diff().await;
    assert_eq!(outcome.summary.verdict, Verdict::Match, "{:?}", outcome.summary);
    tear_down(&world, &slot).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c13_until_does_not_hide_a_row_on_one_node_only() {
    let mut world = world_or_skip!(2);
    world.terms.needs_commit_times = true;
    world.all(TABLE).await;
    world
        .all("INSERT INTO t VALUES (1, 'old'), (2, 'old'), (3, 'old')")
        .await;
    world.on(2, "UPDATE t SET a = 'before' WHERE id = 2").await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    world.settings.until = Some(jiff::Timestamp::now());
    tokio::time::sleep(Duration::from_millis(20)).await;
    world.on(1, "UPDATE t SET a = 'after' WHERE id = 3").await;
    let outcome = world.diff().await;
    assert_eq!(
        outcome.lines(),
        ["2 | 2,old,0 | 2,before,0", "3 | 3,after,0 | 3,old,0 (in flight)"]
    );
    assert!(matches!(
        outcome.findings[1],
        Finding::InFlight(_, Unsettled::AfterFence)
    ));
    world.on(2, "UPDATE t SET a = 'old' WHERE id = 2").await;
    world.settings.until = Some(jiff::Timestamp::now());
    world.on(1, "UPDATE t SET a = 'again' WHERE id = 3").await;
    assert_eq!(world.diff().await.summary.verdict, Verdict::Unknown);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_say_who_wrote_them_and_against_origin_asks_for_that() {
    let mut world = world_or_skip!(2);
    let slot = replicate(&world).await;
    world.terms.needs_commit_times = true;
    // One row whose last writer on n2 is n1, by replication, and one that n2 wrote itself.
    world.on(1, "UPDATE t SET n = 5 WHERE id = 1").await;
    loop {
        let row = world.clients[1]
            .query_one("SELECT n FROM t WHERE id = 1", &[])
            .await
            .unwrap();
        if row.get::<_, i32>(0) == 5 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tear_down(&world, &slot).await;
    world.on(1, "DELETE FROM t WHERE id = 1").await;
    world.on(2, "UPDATE t SET a = 'own' WHERE id = 2").await;
    let all = world.diff().await;
    assert_eq!(all.findings.len(), 2, "{:?}", all.lines());
    let roident: String = world.clients[1]
        .query_one("SELECT coalesce(max(roident)::text, '') FROM (SELECT (pg_xact_commit_timestamp_origin(xmin)).roident FROM t WHERE id = 1) AS q", &[])
        .await
        .unwrap()
        .get(0);
    assert_ne!(roident, "0");
    world.settings.against_origin = Some(roident);
    assert_eq!(world.diff().await.lines(), ["1 | - | 1,v1,5"]);
    world.settings.against_origin = Some("n2".into());
    assert_eq!(world.diff().await.lines(), ["2 | 2,v2,0 | 2,own,0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn c11_without_commit_times_rows_are_compared_all_the_same() {
    let mut world = world_or_skip!(2);
    world.all(TABLE).await;
    world.on(1, "INSERT INTO t VALUES (1, 'x')").await;
    let outcome = world.diff().await;
    let finding = &outcome.findings[0];
    let changeling_differ::model::Image::Present(present) = &finding.difference().images[0] else {
        panic!("{finding:?}")
    };
    // This server keeps them, and the text is a time.
    assert!(
        present
            .commit_ts
            .as_deref()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .is_ok()
    );
    // A role's own setting cannot turn it off; what a server without them says is seen in the plan's text.
    world.terms.needs_commit_times = true;
    assert!(world.prepare().await.is_ok());
}
