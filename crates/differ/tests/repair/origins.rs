//! Commit times and origins, and recovery from a node that failed.

use std::time::Duration;

use changeling_differ::repair::{CopyMode, OriginKeeping, Policy, Repair, RepairError, RepairNodes};
use changeling_differ::report::recorded::RecordedReport;
use tokio_postgres::Client;

use crate::modes::FULL;
use crate::round::{Format, Round, options};
use crate::world::{World, world_or_skip};

const TIMES: &str = "SELECT pg_xact_commit_timestamp(xmin)::text FROM t ORDER BY id";

#[tokio::test]
async fn commit_times_and_origins_are_preserved_when_asked_for() {
    for keeping in [OriginKeeping::Preserve, OriginKeeping::Local] {
        let round = Round::new(world_or_skip!(2));
        round
            .world
            .all("CREATE TABLE t (id int PRIMARY KEY, v text)")
            .await;
        round.world.on(1, "INSERT INTO t VALUES (1, 'a')").await;
        round.world.on(1, "INSERT INTO t VALUES (2, 'b')").await;
        round.world.on(2, "INSERT INTO t VALUES (2, 'x'), (3, 'c')").await;
        let (_, report) = round.diff(Format::Ndjson).await;
        let mut options = options(FULL);
        options.origin = keeping;
        let repaired = round.repair_with(&report, options).await.unwrap();
        assert_eq!(repaired.counts(2), "1/1/1/0/0", "{:?}", repaired.told);
        assert_eq!(repaired.outcome.exit_code(), 0);
        let (n1, n2) = (round.texts(1, TIMES).await, round.texts(2, TIMES).await);
        assert_eq!(n1 == n2, keeping == OriginKeeping::Preserve, "{n1:?} {n2:?}");
        let origins = "SELECT coalesce(o.roname, 'none') FROM t, LATERAL pg_xact_commit_timestamp_origin(t.xmin) AS c \
                       LEFT JOIN pg_replication_origin AS o ON o.roident = c.roident ORDER BY t.id";
        let expected = if keeping == OriginKeeping::Preserve {
            "node_n1"
        } else {
            "none"
        };
        assert_eq!(round.texts(2, origins).await, [expected, expected]);
    }
}

/// `n1` and `n2` subscribe to a third node, under its name.
struct Subscribed {
    round: Round,
    /// The third node, which is none of the comparison's.
    lost: Client,
}

impl Subscribed {
    async fn new(mut world: World) -> Self {
        world.all("CREATE TABLE t (id int PRIMARY KEY, v text)").await;
        world.on(3, "CREATE PUBLICATION p FOR TABLE t").await;
        let database = world.databases[2].clone();
        let address = &world.address;
        for node in [1, 2] {
            let slot = format!("s{node}_{database}");
            // On one server the slot has to be made first, or making the subscription waits for itself.
            world
                .on(
                    3,
                    &format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"),
                )
                .await;
            let subscription = format!(
                "CREATE SUBSCRIPTION n3 CONNECTION 'host={} port={} user={} password={} dbname={database}' PUBLICATION p \
                 WITH (create_slot = false, slot_name = '{slot}', copy_data = false)",
                address.host, address.port, address.user, address.password
            );
            world.on(node, &subscription).await;
        }
        world.databases.pop();
        let lost = world.clients.pop().unwrap();
        Self {
            round: Round::new(world),
            lost,
        }
    }

    /// The third node writes, and these receive it all.
    async fn write(&self, sql: &str, receivers: &[usize]) {
        self.lost.batch_execute(sql).await.unwrap();
        let marker =
            "INSERT INTO t SELECT -1 - count(*) FILTER (WHERE id < 0), 'marker' FROM t RETURNING id::text";
        let marker: String = self.lost.query_one(marker, &[]).await.unwrap().get(0);
        for &node in receivers {
            while self
                .round
                .texts(node, &format!("SELECT v FROM t WHERE id = {marker}"))
                .await
                .is_empty()
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// Who has received most of what the third node sent.
    async fn furthest(&self, report: &std::path::Path) -> Result<usize, RepairError> {
        let nodes = RepairNodes::Postgres(self.round.world.nodes());
        let report = RecordedReport::open(report)?;
        Repair::connect(report, nodes, options(FULL))
            .await?
            .furthest("n3")
            .await
    }

    async fn tear_down(&self) {
        for node in [1, 2] {
            let world = &self.round.world;
            world
                .on(
                    node,
                    "ALTER SUBSCRIPTION n3 DISABLE; ALTER SUBSCRIPTION n3 SET (slot_name = NONE)",
                )
                .await;
            world.on(node, "DROP SUBSCRIPTION n3").await;
        }
    }
}

/// ACE's recovery mode: a node is lost, and one survivor has received more of it than the other.
#[tokio::test]
async fn the_survivor_that_has_received_most_mends_the_other() {
    let mut there = Subscribed::new(world_or_skip!(3)).await;
    there
        .write(
            "INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 50) AS i",
            &[1, 2],
        )
        .await;
    there.round.world.on(2, "ALTER SUBSCRIPTION n3 DISABLE").await;
    let late = "INSERT INTO t SELECT i, 'late' FROM generate_series(51, 80) AS i; UPDATE t SET v = 'late' WHERE id = 10; \
                DELETE FROM t WHERE id = 20";
    there.write(late, &[1]).await;
    // Not of the lost node: each is its writer's own affair.
    there
        .round
        .world
        .on(1, "INSERT INTO t VALUES (1000, 'own')")
        .await;
    there
        .round
        .world
        .on(2, "INSERT INTO t VALUES (2000, 'own')")
        .await;

    there.round.world.settings.against_origin = Some("n3".into());
    let (_, report) = there.round.diff(Format::Ace).await;
    let source = there.furthest(&report).await.unwrap();
    assert_eq!(source, 0);
    let mut options = options(Policy::SourceOfTruth {
        source,
        mode: CopyMode::Full,
    });
    options.origin = OriginKeeping::Preserve;
    let repaired = there.round.repair_with(&report, options).await.unwrap();
    // The late rows and their marker, the changed one, the deleted one.
    assert_eq!(repaired.counts(2), "31/1/1/0/0", "{:?}", repaired.told);
    assert_eq!(repaired.counts(1), "0/0/0/0/0", "{:?}", repaired.told);
    let rows = "SELECT id || v FROM t WHERE id NOT IN (1000, 2000) ORDER BY id";
    assert_eq!(there.round.texts(1, rows).await, there.round.texts(2, rows).await);
    let own = "SELECT v FROM t WHERE id IN (1000, 2000)";
    assert_eq!(there.round.texts(2, own).await, ["own"]);
    let times = "SELECT pg_xact_commit_timestamp(xmin)::text FROM t WHERE id BETWEEN 51 AND 80 ORDER BY id";
    assert_eq!(
        there.round.texts(1, times).await,
        there.round.texts(2, times).await
    );

    there.tear_down().await;
}

#[tokio::test]
async fn survivors_that_have_received_the_same_are_not_told_apart() {
    let there = Subscribed::new(world_or_skip!(3)).await;
    there.write("INSERT INTO t VALUES (1, 'a')", &[1, 2]).await;
    there.round.world.on(2, "UPDATE t SET v = 'b' WHERE id = 1").await;
    let (_, report) = there.round.diff(Format::Ace).await;
    // One may know of the end of a transaction that was none of the table's, until both do.
    let began = std::time::Instant::now();
    let refused = loop {
        match there.furthest(&report).await {
            Err(error) => break error.to_string(),
            Ok(_) => assert!(
                began.elapsed() < Duration::from_secs(60),
                "they never become equal"
            ),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(
        refused.contains("n1 and n2 have replayed n3 equally far") && refused.contains("--source-of-truth"),
        "{refused}"
    );
    there.tear_down().await;
}
