//! What a transaction is: rollbacks, savepoints, XA, large ones, none at all.

use std::time::Duration;

use changeling_core::change::Change;
use changeling_core::change_source::{ChangeSource, Projection};
use changeling_streamer::BinlogSource;
use changeling_support::ServerSpec;
use mysql_async::prelude::Queryable;

use crate::rig::{Rig, Stream, brief, keys};

async fn rolled_back_rows_are_not_delivered(rig: &mut Rig) {
    rig.run(&["CREATE TABLE r (id int PRIMARY KEY)"]).await;
    let mut stream = rig.stream(&[("r", keys(&[0]))]).await;
    rig.run(&[
        "BEGIN",
        "INSERT INTO r VALUES (1)",
        "ROLLBACK",
        "BEGIN",
        "INSERT INTO r VALUES (2)",
        "SAVEPOINT a",
        "INSERT INTO r VALUES (3)",
        "ROLLBACK TO a",
        "INSERT INTO r VALUES (4)",
        "COMMIT",
    ])
    .await;
    let sentinel = rig.mark().await;
    assert_eq!(brief(&stream.until(sentinel).await), ["+2", "+4"]);
    stream.stop().await;
}

/// A table that cannot be rolled back, in the same transaction: its row stands.
async fn rows_that_cannot_be_rolled_back_are_delivered(rig: &mut Rig) {
    rig.run(&[
        "CREATE TABLE soft (id int PRIMARY KEY) ENGINE=InnoDB",
        "CREATE TABLE hard (id int PRIMARY KEY) ENGINE=MyISAM",
    ])
    .await;
    let mut stream = rig.stream(&[("soft", keys(&[0])), ("hard", keys(&[0]))]).await;
    rig.run(&[
        "BEGIN",
        "INSERT INTO soft VALUES (1)",
        "INSERT INTO hard VALUES (2)",
        "SAVEPOINT a",
        "INSERT INTO soft VALUES (3)",
        "INSERT INTO hard VALUES (4)",
        "ROLLBACK TO a",
        "ROLLBACK",
    ])
    .await;
    let sentinel = rig.mark().await;
    let seen = brief(&stream.until(sentinel).await);
    assert!(
        seen.contains(&"+2".into()) && seen.contains(&"+4".into()),
        "{seen:?}"
    );
    stream.stop().await;
}

async fn xa_rows_come_when_decided(rig: &mut Rig) {
    rig.run(&["CREATE TABLE x (id int PRIMARY KEY)"]).await;
    let mut stream = rig.stream(&[("x", keys(&[0]))]).await;
    let mut other = rig.connect().await;
    rig.run(&[
        "XA START 'one','b',7",
        "INSERT INTO x VALUES (1)",
        "XA END 'one','b',7",
        "XA PREPARE 'one','b',7",
    ])
    .await;
    // On MariaDB a session is bound to its prepared transaction: go on in another one, and decide from there.
    rig.conn = {
        let fresh = rig.connect().await;
        let bound = std::mem::replace(&mut rig.conn, fresh);
        bound.disconnect().await.expect("the session ends");
        rig.connect().await
    };
    rig.run(&["INSERT INTO x VALUES (2)"]).await;
    let sentinel = rig.mark().await;
    assert_eq!(
        brief(&stream.until(sentinel).await),
        ["+2"],
        "undecided rows wait"
    );
    let held_back = stream.upto.clone().expect("a position");
    assert_eq!(stream.handle.state.borrow().prepared, 1);
    rig.run(&["XA COMMIT 'one','b',7", "INSERT INTO x VALUES (3)"])
        .await;
    rig.run(&[
        "XA START 'two'",
        "INSERT INTO x VALUES (4)",
        "XA END 'two'",
        "XA PREPARE 'two'",
        "XA ROLLBACK 'two'",
    ])
    .await;
    rig.run(&[
        "XA START 'three'",
        "INSERT INTO x VALUES (5)",
        "XA END 'three'",
        "XA COMMIT 'three' ONE PHASE",
    ])
    .await;
    rig.run(&[
        "XA START 'four'",
        "SELECT * FROM x",
        "XA END 'four'",
        "XA PREPARE 'four'",
        "XA COMMIT 'four'",
    ])
    .await;
    let sentinel = rig.mark().await;
    assert_eq!(brief(&stream.until(sentinel).await), ["+1", "+3", "+5"]);
    let after = stream.upto.clone().expect("a position");
    stream.stop().await;
    // The position that was given while XA one was undecided brings its rows again.
    let source = BinlogSource::new(rig.options());
    let spec = rig.spec(&[("x", keys(&[0]))]).await;
    let mut again = Stream::start(&rig.host, &source, spec.clone(), held_back);
    assert_eq!(
        brief(&again.until(sentinel).await)[..4],
        ["+2", "sentinel", "+1", "+3"]
    );
    again.stop().await;
    // Prepared before a stream begins, committed after: its rows are not known.
    drop(other);
    other = rig.connect().await;
    drop(after);
    rig.run(&[
        "XA START 'five'",
        "INSERT INTO x VALUES (6)",
        "XA END 'five'",
        "XA PREPARE 'five'",
    ])
    .await;
    let bound = std::mem::replace(&mut rig.conn, other);
    bound.disconnect().await.expect("the session ends");
    let mut late = rig.stream(&[("x", keys(&[0]))]).await;
    let mut options = rig.options();
    options.known_prepared = vec![b"five".to_vec()];
    let mut knowing = rig.stream_with(options, &[("x", keys(&[0]))]).await;
    rig.run(&["XA COMMIT 'five'", "INSERT INTO x VALUES (7)"]).await;
    late.stops_saying(&[
        "XA X'66697665'",
        "prepared before this stream began",
        "XA RECOVER",
    ])
    .await;
    let sentinel = rig.mark().await;
    assert_eq!(brief(&knowing.until(sentinel).await), ["+7"]);
    knowing.stop().await;
}

async fn a_large_transaction_moves_the_position_once(rig: &mut Rig) {
    rig.run(&[
        "CREATE TABLE big (id int PRIMARY KEY AUTO_INCREMENT, v varchar(200))",
        "CREATE TABLE source (v varchar(200))",
        "INSERT INTO source VALUES (REPEAT('x', 200))",
    ])
    .await;
    for _ in 0..11 {
        rig.run(&["INSERT INTO source SELECT * FROM source"]).await;
    }
    let mut options = rig.options();
    options.batch_changes = 100;
    let mut stream = rig.stream_with(options, &[("big", Projection::All)]).await;
    rig.run(&["INSERT INTO big (v) SELECT v FROM source"]).await;
    let sentinel = rig.mark().await;
    let (mut rows, mut within, mut done) = (0, Vec::new(), false);
    while !done {
        let batch = stream.batch().await.expect("a batch");
        rows += batch
            .changes
            .iter()
            .filter(|change| matches!(change, Change::Row { .. }))
            .count();
        done = batch.changes.contains(&Change::Sentinel(sentinel));
        assert!(batch.bytes < 512 * 1024, "{} bytes in a batch", batch.bytes);
        if rows < 2048 {
            within.push(batch.upto);
        }
    }
    assert_eq!(rows, 2048);
    assert!(within.len() > 4, "{} batches", within.len());
    assert!(
        within[1..].windows(2).all(|pair| pair[0] == pair[1]),
        "{within:?}"
    );
    stream.stop().await;
}

async fn quiet_tables_still_move_the_position(rig: &mut Rig) {
    rig.run(&[
        "CREATE TABLE quiet (id int PRIMARY KEY)",
        "CREATE TABLE loud (id int PRIMARY KEY)",
    ])
    .await;
    let mut stream = rig.stream(&[("quiet", keys(&[0]))]).await;
    for id in 0..3 {
        rig.run(&[&format!("INSERT INTO loud VALUES ({id})")]).await;
        let batch = stream.batch().await.expect("a batch");
        assert!(batch.changes.is_empty());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stream.stop().await;
}

/// Statements that are transactions of several shapes in the log: the stream goes on behind each.
async fn statements_are_transactions_too(rig: &mut Rig) {
    rig.run(&["CREATE TABLE w (id int PRIMARY KEY)"]).await;
    let mut stream = rig.stream(&[("w", keys(&[0]))]).await;
    // MySQL refuses it while GTIDs are on.
    let _ = rig
        .conn
        .query_drop("CREATE TABLE unsafe_selected ENGINE=MyISAM AS SELECT * FROM w")
        .await;
    rig.run(&[
        "INSERT INTO w VALUES (1)",
        "CREATE TABLE selected AS SELECT * FROM w",
        "CREATE TEMPORARY TABLE tmp (id int)",
        "INSERT INTO tmp VALUES (1)",
        "INSERT INTO w SELECT id + 1 FROM tmp",
        "DROP TEMPORARY TABLE tmp",
        "CREATE TABLE plain (id int PRIMARY KEY) ENGINE=MyISAM",
        "INSERT INTO plain VALUES (1), (2)",
        "CREATE OR REPLACE VIEW v AS SELECT * FROM w",
        "INSERT INTO w VALUES (3)",
        "DROP TABLE selected, plain",
        "INSERT INTO w VALUES (4)",
    ])
    .await;
    let sentinel = rig.mark().await;
    assert_eq!(brief(&stream.until(sentinel).await), ["+1", "+2", "+3", "+4"]);
    let upto = stream.upto.clone().expect("a position");
    stream.stop().await;
    let source = BinlogSource::new(rig.options());
    let now = source.current().await.expect("a position");
    assert!(upto.file.pos <= now.file.pos || upto.file.file != now.file.file);
}

async fn all(mut rig: Rig) {
    rolled_back_rows_are_not_delivered(&mut rig).await;
    xa_rows_come_when_decided(&mut rig).await;
    a_large_transaction_moves_the_position_once(&mut rig).await;
    quiet_tables_still_move_the_position(&mut rig).await;
    statements_are_transactions_too(&mut rig).await;
}

#[tokio::test]
async fn mysql_transactions() {
    let Some(rig) = Rig::new("mysql_transactions", ServerSpec::mysql()).await else {
        return;
    };
    all(rig).await;
}

#[tokio::test]
async fn mariadb_transactions() {
    let Some(mut rig) = Rig::new("mariadb_transactions", ServerSpec::mariadb()).await else {
        return;
    };
    // MySQL refuses such transactions while GTIDs are on.
    rows_that_cannot_be_rolled_back_are_delivered(&mut rig).await;
    all(rig).await;
}
