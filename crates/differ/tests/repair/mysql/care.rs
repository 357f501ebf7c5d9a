//! What a repair leaves alone, and what is left of one that is cut off.

use std::time::Duration;

use changeling_core::ident::TableName;
use changeling_differ::model::{NodeName, Verdict};
use changeling_differ::mysql::side::{MySqlNode, MySqlServer};
use changeling_differ::repair::{BinaryLog, CopyMode, Policy, RepairError, Triggers};
use changeling_support::{FaultProxy, Flavor, Server, ServerSpec, SupportError};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, OptsBuilder};
use rstest::rstest;

use crate::modes::FULL;
use crate::mysql::stage::{Stage, stage_or_skip};
use crate::round::{Format, options};

async fn hundred(stage: &mut Stage) {
    stage
        .all("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))")
        .await;
    stage.all(&Stage::numbers(1, 100, "i, CONCAT('v', i)")).await;
}

#[rstest]
#[case(Flavor::MySql, Format::Ndjson)]
#[case(Flavor::MySql, Format::Ace)]
#[case(Flavor::MariaDb, Format::Ndjson)]
#[case(Flavor::MariaDb, Format::Ace)]
#[tokio::test]
async fn c14_rows_changed_since_the_diff_are_skipped_and_reported(
    #[case] flavor: Flavor,
    #[case] format: Format,
) {
    let mut stage = stage_or_skip!(flavor, 2);
    hundred(&mut stage).await;
    stage.on(2, "UPDATE t SET v = 'wrong' WHERE id <= 4; DELETE FROM t WHERE id IN (5, 6); INSERT INTO t VALUES (201, 'x'), (202, 'x')").await;
    let (_, report) = stage.diff(format).await;
    // On the target: one changed, in nothing that a collation sees, one gone, one come, one of those that were too many.
    stage.on(2, "UPDATE t SET v = 'WRONG' WHERE id = 1; DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (5, 'mine'); UPDATE t SET v = 'x ' WHERE id = 201").await;
    // On the source: the newest value is what is copied.
    stage.on(1, "UPDATE t SET v = 'newest' WHERE id = 3").await;
    let repaired = stage.repair(&report, FULL).await;
    assert_eq!(repaired.counts(2), "1/2/1/4/0", "{:?}", repaired.told);
    assert_eq!(repaired.outcome.exit_code(), 1);
    let mut skipped: Vec<_> = repaired
        .told
        .iter()
        .filter(|line| line.contains("skipped"))
        .collect();
    skipped.sort();
    let keys: Vec<_> = skipped
        .iter()
        .map(|line| line.split(' ').nth(2).unwrap())
        .collect();
    assert_eq!(keys, ["('1'):", "('2'):", "('201'):", "('5'):"]);
    assert!(skipped[0].contains("no longer what the diff recorded"));
    let rows = "SELECT CONCAT(id, v) FROM t WHERE id IN (1, 2, 3, 5, 201) ORDER BY id";
    assert_eq!(
        stage.texts(2, rows).await,
        ["1WRONG", "3newest", "5mine", "201x "]
    );
    let listed = &repaired.report["changes"]["n2"]["skipped_rows"];
    assert_eq!(listed.as_array().unwrap().len(), 4);
}

/// Waits until somebody else's statement about the second node waits like this, and says whose.
async fn wait_for(stage: &Stage, condition: &str) -> u64 {
    let mut admin = Conn::new(stage.opts.clone()).await.unwrap();
    let text = format!(
        "SELECT ID FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() AND INFO LIKE '%{}%' AND {condition}",
        stage.schemas[1].replace('_', "\\_")
    );
    let begun = std::time::Instant::now();
    loop {
        if let Some(id) = admin.query_first::<u64, _>(&text).await.unwrap() {
            return id;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "nobody waits");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Makes the second node's table sleep when a row is written. The schema's name stands there for [`wait_for`]: the server
/// shows the trigger's statement or the outer one, as it pleases.
fn slow_trigger(stage: &Stage, when: &str, id: &str, seconds: u64) -> String {
    format!(
        "CREATE TRIGGER slow BEFORE {when} ON t FOR EACH ROW SET @x = IF(NEW.id = {id} AND '{0}' = '{0}', SLEEP({seconds}), 0)",
        stage.schemas[1]
    )
}

const SLEEPS: &str = "STATE = 'User sleep'";

/// A writer is in the middle of changing a row: the repair waits for it, and then leaves the row alone.
#[rstest]
#[case(Flavor::MySql)]
#[case(Flavor::MariaDb)]
#[tokio::test]
async fn a_row_that_is_being_changed_is_waited_for_and_then_left_alone(#[case] flavor: Flavor) {
    let mut stage = stage_or_skip!(flavor, 2);
    hundred(&mut stage).await;
    stage.on(2, "UPDATE t SET v = 'wrong' WHERE id <= 3").await;
    let (_, report) = stage.diff(Format::Ndjson).await;
    // The last of the three look-ups of one statement.
    stage
        .on(2, "START TRANSACTION; UPDATE t SET v = 'meanwhile' WHERE id = 3")
        .await;
    let mut writer = Conn::new(stage.opts.clone()).await.unwrap();
    std::mem::swap(&mut writer, &mut stage.connections[1]);
    let ending = async {
        wait_for(&stage, "INFO LIKE '%FOR UPDATE%'").await;
        // Some time, for it to see what it must not see.
        tokio::time::sleep(Duration::from_millis(300)).await;
        writer.query_drop("COMMIT").await.unwrap();
    };
    let (repaired, ()) = tokio::join!(stage.repair(&report, FULL), ending);
    assert_eq!(repaired.counts(2), "0/2/0/1/0", "{:?}", repaired.told);
    let rows = writer
        .query::<String, _>("SELECT v FROM t WHERE id <= 3 ORDER BY id")
        .await
        .unwrap();
    assert_eq!(rows, ["v1", "v2", "meanwhile"]);
}

/// Every row that is about to be written is locked, also those of a look-up of many: nobody can change one between the
/// comparison and the write. A trigger makes the write slow.
#[rstest]
#[case(Flavor::MySql)]
#[case(Flavor::MariaDb)]
#[tokio::test]
async fn nobody_can_change_a_row_between_the_comparison_and_the_write(#[case] flavor: Flavor) {
    let mut stage = stage_or_skip!(flavor, 2);
    hundred(&mut stage).await;
    stage.on(2, "UPDATE t SET v = 'wrong' WHERE id <= 60").await;
    let trigger = slow_trigger(&stage, "UPDATE", "1", 1);
    stage.on(2, &trigger).await;
    let (_, report) = stage.diff(Format::Ndjson).await;
    let mut firing = options(FULL);
    firing.triggers = Triggers::Fire;
    let mut others = Vec::new();
    let opts = stage.opts.clone();
    for id in [2, 49, 50, 51, 60] {
        let (opts, schema) = (opts.clone(), stage.schemas[1].clone());
        let mut conn = Conn::new(opts).await.unwrap();
        others.push(async move {
            let text = format!("UPDATE {schema}.t SET v = CONCAT(v, '+') WHERE id = {id}");
            conn.query_drop(text).await.unwrap();
        });
    }
    let meddling = async {
        wait_for(&stage, SLEEPS).await;
        futures_util::future::join_all(others).await;
    };
    let (repaired, ()) = tokio::join!(stage.repair_with(&report, firing), meddling);
    let repaired = repaired.unwrap();
    assert_eq!(repaired.counts(2), "0/60/0/0/0", "{:?}", repaired.told);
    let rows = stage
        .texts(2, "SELECT v FROM t WHERE id IN (2, 49, 50, 51, 60) ORDER BY id")
        .await;
    // They came after the repair, and were not lost.
    assert_eq!(rows, ["v2+", "v49+", "v50+", "v51+", "v60+"]);
}

/// The first batch of 250 is committed, the second is cut off while it writes: nothing of it is there.
#[rstest]
#[case(Flavor::MySql, Cut::Kill)]
#[case(Flavor::MariaDb, Cut::Kill)]
#[case(Flavor::MySql, Cut::Network)]
#[case(Flavor::MariaDb, Cut::Network)]
#[tokio::test]
async fn a_connection_killed_in_a_batch_leaves_nothing_of_it(#[case] flavor: Flavor, #[case] cut: Cut) {
    let mut stage = stage_or_skip!(flavor, 2);
    stage
        .all("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))")
        .await;
    stage.on(1, &Stage::numbers(1, 600, "i, 'right'")).await;
    stage.on(2, &Stage::numbers(1, 600, "i, 'wrong'")).await;
    let (_, report) = stage.diff(Format::Ndjson).await;
    let trigger = slow_trigger(&stage, "UPDATE", &Stage::keys(&report)[400], 20);
    stage.on(2, &trigger).await;
    let proxy = FaultProxy::start(stage.opts.ip_or_hostname(), stage.opts.tcp_port())
        .await
        .unwrap();
    let through = OptsBuilder::from_opts(stage.opts.clone())
        .ip_or_hostname(proxy.host())
        .tcp_port(proxy.port());
    let mut firing = options(FULL);
    firing.triggers = Triggers::Fire;
    let nodes = changeling_differ::repair::RepairNodes::MySql(stage.nodes_as(&through.into()));
    let killing = async {
        let id = wait_for(&stage, SLEEPS).await;
        let mut admin = Conn::new(stage.opts.clone()).await.unwrap();
        match cut {
            Cut::Kill => admin.query_drop(format!("KILL {id}")).await.unwrap(),
            Cut::Network => {
                proxy.cut_all();
                // The server notices when it has something to say: not before the trigger has slept.
                admin.query_drop(format!("KILL QUERY {id}")).await.unwrap();
            }
        }
    };
    let (ended, ()) = tokio::join!(crate::round::mended(&report, nodes, firing), killing);
    let Err(RepairError::Side(error)) = ended else {
        panic!("it did not fail")
    };
    assert_eq!(error.node.as_str(), "n2");
    let counts = "SELECT CONCAT(SUM(v = 'right'), '/', SUM(v = 'wrong')) FROM t";
    assert_eq!(stage.texts(2, counts).await, ["250/350"]);
    // The repair is taken up again.
    stage.on(2, "DROP TRIGGER slow").await;
    let repaired = stage.repair(&report, FULL).await;
    assert_eq!(
        (repaired.counts(2), repaired.outcome.settled),
        ("0/350/0/0/0".into(), 250)
    );
    assert_eq!(stage.left().await, (Verdict::Match, 0));
}

#[derive(Clone, Copy, Debug)]
enum Cut {
    Kill,
    Network,
}

/// A row that was not there cannot be locked: it comes between the look at it and the INSERT, which is slow.
#[rstest]
#[case(Flavor::MySql)]
#[case(Flavor::MariaDb)]
#[tokio::test]
async fn a_row_that_somebody_inserts_first_is_not_overwritten(#[case] flavor: Flavor) {
    let mut stage = stage_or_skip!(flavor, 2);
    hundred(&mut stage).await;
    stage.on(2, "DELETE FROM t WHERE id <= 50").await;
    let (_, report) = stage.diff(Format::Ndjson).await;
    let keys = Stage::keys(&report);
    let (first, last) = (&keys[0], &keys[49]);
    let trigger = slow_trigger(&stage, "INSERT", first, 1);
    stage.on(2, &trigger).await;
    let mut writer = Conn::new(stage.opts.clone()).await.unwrap();
    std::mem::swap(&mut writer, &mut stage.connections[1]);
    let inserting = async {
        wait_for(&stage, SLEEPS).await;
        let text = format!("INSERT INTO t VALUES ({last}, 'mine')");
        writer.query_drop(text).await.unwrap();
    };
    let mut firing = options(FULL);
    firing.triggers = Triggers::Fire;
    let (repaired, ()) = tokio::join!(stage.repair_with(&report, firing), inserting);
    let repaired = repaired.unwrap();
    assert_eq!(repaired.counts(2), "49/0/0/1/0", "{:?}", repaired.told);
    assert_eq!(repaired.outcome.exit_code(), 1);
    let text = format!("SELECT v FROM t WHERE id IN ({first}, {last}) ORDER BY v");
    let rows: Vec<String> = writer.query(text).await.unwrap();
    assert_eq!(rows, ["mine".to_owned(), format!("v{first}")]);
}

/// One that is not committed yet is waited for.
#[rstest]
#[case(Flavor::MySql)]
#[case(Flavor::MariaDb)]
#[tokio::test]
async fn a_row_that_is_being_inserted_is_waited_for_and_then_left_alone(#[case] flavor: Flavor) {
    let mut stage = stage_or_skip!(flavor, 2);
    hundred(&mut stage).await;
    stage.on(2, "DELETE FROM t WHERE id <= 50").await;
    let (_, report) = stage.diff(Format::Ndjson).await;
    let mut writer = Conn::new(stage.opts.clone()).await.unwrap();
    std::mem::swap(&mut writer, &mut stage.connections[1]);
    writer
        .query_drop("START TRANSACTION; INSERT INTO t VALUES (7, 'mine')")
        .await
        .unwrap();
    let ending = async {
        wait_for(&stage, "INFO LIKE '%FOR UPDATE%'").await;
        writer.query_drop("COMMIT").await.unwrap();
    };
    let (repaired, ()) = tokio::join!(stage.repair(&report, FULL), ending);
    assert_eq!(repaired.counts(2), "49/0/0/1/0", "{:?}", repaired.told);
    let rows: Vec<String> = writer
        .query("SELECT v FROM t WHERE id IN (6, 7, 8) ORDER BY id")
        .await
        .unwrap();
    assert_eq!(rows, ["v6", "mine", "v8"]);
}

#[rstest]
#[case(Flavor::MySql)]
#[case(Flavor::MariaDb)]
#[tokio::test]
async fn a_table_without_transactions_is_refused(#[case] flavor: Flavor) {
    let mut stage = stage_or_skip!(flavor, 2);
    stage
        .all("CREATE TABLE t (id INT PRIMARY KEY) ENGINE = MyISAM")
        .await;
    stage.on(1, "INSERT INTO t VALUES (1)").await;
    let (_, report) = stage.diff(Format::Ndjson).await;
    let refused = stage.repair_with(&report, options(FULL)).await;
    assert!(
        matches!(refused, Err(RepairError::Refused(ref why)) if why.contains("n2") && why.contains("MyISAM"))
    );
    // It may be read.
    stage.on(2, "ALTER TABLE t ENGINE = InnoDB").await;
    let repaired = stage.repair(&report, FULL).await;
    assert_eq!(repaired.counts(2), "1/0/0/0/0");
}

#[rstest]
#[case(Flavor::MySql)]
#[case(Flavor::MariaDb)]
#[tokio::test]
async fn an_account_repairs_what_it_may_write(#[case] flavor: Flavor) {
    let mut stage = stage_or_skip!(flavor, 2);
    hundred(&mut stage).await;
    stage.on(2, "UPDATE t SET v = 'wrong' WHERE id = 1; DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (200, 'x')").await;
    let (_, report) = stage.diff(Format::Ndjson).await;
    let (one, other) = (stage.schemas[0].clone(), stage.schemas[1].clone());
    let user = format!("m{}", other.replace(['r', 'n', '_'], ""));
    stage
        .on(1, &format!("CREATE USER {user} IDENTIFIED BY 'secret'; GRANT SELECT ON {one}.t TO {user}; GRANT SELECT ON {other}.t TO {user}"))
        .await;
    let opts = OptsBuilder::from_opts(stage.opts.clone())
        .user(Some(&user))
        .pass(Some("secret"));
    stage.opts = opts.into();
    let refused = async |stage: &Stage| {
        let refused = stage.repair_with(&report, options(FULL)).await;
        refused.err().map(|error| error.to_string()).unwrap_or_default()
    };
    let why = refused(&stage).await;
    assert!(why.contains("n2") && why.contains("GRANT TRIGGER"), "{why}");
    stage
        .on(1, &format!("GRANT TRIGGER ON {other}.t TO {user}"))
        .await;
    for missing in ["INSERT", "UPDATE", "DELETE"] {
        let why = refused(&stage).await;
        assert!(
            why.contains("n2") && why.contains("SELECT, INSERT, UPDATE and DELETE"),
            "{missing}: {why}"
        );
        stage
            .on(1, &format!("GRANT {missing} ON {other}.t TO {user}"))
            .await;
    }
    // On the node that is right, SELECT is enough.
    let repaired = stage.repair(&report, FULL).await;
    assert_eq!(repaired.counts(2), "1/1/1/0/0", "{:?}", repaired.told);
    stage.on(1, &format!("DROP USER {user}")).await;
}

#[rstest]
#[case(Flavor::MySql)]
#[case(Flavor::MariaDb)]
#[tokio::test]
async fn names_that_need_quotes_and_other_tables_than_the_report_s(#[case] flavor: Flavor) {
    let mut stage = stage_or_skip!(flavor, 2);
    stage
        .all("CREATE TABLE t (`Id`` '\"` INT PRIMARY KEY, `a b; --` VARCHAR(9), `select` INT)")
        .await;
    stage.on(1, "INSERT INTO t VALUES (1, 'x', 1), (2, 'y', 2)").await;
    stage.on(2, "INSERT INTO t VALUES (1, 'z', 1), (3, 'y', 2)").await;
    let (_, report) = stage.diff(Format::Ace).await;
    let schemas = stage.schemas.clone();
    stage.schemas.swap(0, 1);
    let refused = stage.repair_with(&report, options(FULL)).await;
    assert!(matches!(refused, Err(RepairError::Refused(ref why)) if why.contains("the report is about")));
    stage.schemas = schemas;
    let mode = CopyMode::Full;
    let repaired = stage
        .repair(&report, Policy::SourceOfTruth { source: 1, mode })
        .await;
    assert_eq!(repaired.counts(1), "1/1/1/0/0", "{:?}", repaired.told);
    assert_eq!(stage.left().await, (Verdict::Match, 0));
}

/// A replica is repaired from its primary, and gets no transaction that the primary does not have.
#[rstest]
#[case(BinaryLog::Spared, "0")]
#[case(BinaryLog::Written, "1")]
#[tokio::test]
async fn a_replica_can_be_repaired_without_a_transaction_of_its_own(
    #[case] log: BinaryLog,
    #[case] own: &str,
) {
    let mut stage = stage_or_skip!(Flavor::MySql, 1);
    let topology = match ServerSpec::mysql().with_replica().start().await {
        Ok(topology) => topology,
        Err(SupportError::Unavailable(why)) => {
            return changeling_support::skip::count("a replica", &why.to_string());
        }
        Err(error) => panic!("{error}"),
    };
    let mut primary = topology.primary.mysql().await.unwrap();
    let table = "CREATE DATABASE shop; CREATE TABLE shop.t (id INT PRIMARY KEY, v INT); INSERT INTO shop.t VALUES (1, 1), (2, 2)";
    primary.query_drop(table).await.unwrap();
    topology.wait_caught_up(Duration::from_secs(30)).await.unwrap();
    let mut replica = topology.replica.mysql().await.unwrap();
    replica
        .query_drop(
            "SET sql_log_bin = 0; UPDATE shop.t SET v = 7 WHERE id = 1; DELETE FROM shop.t WHERE id = 2",
        )
        .await
        .unwrap();
    let node = |name: &str, server: &Server| MySqlNode {
        server: MySqlServer::new(
            NodeName::new(name),
            server.mysql_opts().into(),
            Duration::from_secs(60),
        ),
        table: TableName::new("shop", "t"),
    };
    stage.others = Some(vec![node("n1", &topology.primary), node("n2", &topology.replica)]);
    let (_, report) = stage.diff(Format::Ndjson).await;
    let mut wanted = options(FULL);
    wanted.binary_log = log;
    let repaired = stage.repair_with(&report, wanted).await.unwrap();
    assert_eq!(repaired.counts(2), "1/1/0/0/0", "{:?}", repaired.told);
    assert_eq!(stage.left().await, (Verdict::Match, 0));
    let errant = "SELECT LOCATE(@@server_uuid, @@GLOBAL.gtid_executed) > 0";
    let found: Vec<String> = replica.query(errant).await.unwrap();
    assert_eq!(found, [own]);
}
