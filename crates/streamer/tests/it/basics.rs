//! Rows, markers and positions from both servers, by GTID and by file.

use changeling_core::change::{Change, RowChange};
use changeling_core::change_source::{ChangeSource, Projection};
use changeling_core::coords::Gtids;
use changeling_core::marker::{HEARTBEAT_ID, Heartbeat};
use changeling_streamer::{BinlogSource, PositionBy};
use changeling_support::ServerSpec;

use crate::rig::{Rig, Stream, brief, keys};

async fn rows_and_markers(mut rig: Rig) {
    rig.run(&["CREATE TABLE t (id int PRIMARY KEY, a varchar(20), b int unsigned)"])
        .await;
    rig.run(&["CREATE TABLE other (id int PRIMARY KEY)"]).await;
    for by in [PositionBy::Gtid, PositionBy::File, PositionBy::Auto] {
        let mut options = rig.options();
        options.by = by;
        let mut stream = rig.stream_with(options.clone(), &[("t", keys(&[0]))]).await;
        let written = Heartbeat::now();
        let heartbeat = format!(
            "INSERT INTO ghc (id, hint, value) VALUES ({HEARTBEAT_ID}, 'heartbeat', '{0}') ON DUPLICATE KEY \
             UPDATE value = '{0}'",
            written.value()
        );
        rig.run(&[
            "INSERT INTO t VALUES (1, 'x', 4000000000), (2, NULL, NULL)",
            "INSERT INTO other VALUES (9)",
            "UPDATE t SET a = 'y' WHERE id = 1",
            &heartbeat,
            "UPDATE t SET id = 3 WHERE id = 2",
            "DELETE FROM other",
            "DELETE FROM t",
        ])
        .await;
        let sentinel = rig.mark().await;
        let seen = stream.until(sentinel).await;
        assert_eq!(
            brief(&seen),
            ["+1", "+2", "1>1", "heartbeat", "2>3", "-1", "-3"],
            "{by:?}"
        );
        assert!(seen.contains(&Change::Heartbeat(written)));
        // The position of the last batch is the end of the log, and another stream goes on from there.
        let upto = stream.upto.clone().expect("a position");
        assert_eq!(upto.gtids == Gtids::None, by == PositionBy::File);
        stream.stop().await;
        rig.run(&["INSERT INTO t VALUES (7, 'x', 1)", "DELETE FROM t"])
            .await;
        let source = BinlogSource::new(options);
        source.check_start(&upto).await.expect("the position is usable");
        let spec = rig.spec(&[("t", Projection::All)]).await;
        let mut stream = Stream::start(&rig.host, &source, spec, upto);
        let sentinel = rig.mark().await;
        let seen = stream.until(sentinel).await;
        assert_eq!(brief(&seen), ["+7,x,1", "-7,x,1"], "{by:?}");
        assert!(matches!(
            seen[0],
            Change::Row {
                watch: 0,
                row: RowChange::Insert { .. }
            }
        ));
        stream.stop().await;
    }
}

#[tokio::test]
async fn mysql_rows_and_markers() {
    let Some(rig) = Rig::new("mysql_rows_and_markers", ServerSpec::mysql()).await else {
        return;
    };
    rows_and_markers(rig).await;
}

#[tokio::test]
async fn mariadb_rows_and_markers() {
    let Some(rig) = Rig::new("mariadb_rows_and_markers", ServerSpec::mariadb()).await else {
        return;
    };
    rows_and_markers(rig).await;
}

/// From 11.4 MariaDB says of no event inside of a transaction where it ends; the stream took its last event for a gap.
#[tokio::test]
async fn mariadb_11_8_leaves_places_out() {
    let spec = ServerSpec::mariadb_11_8();
    let Some(rig) = Rig::new("mariadb_11_8_leaves_places_out", spec.clone()).await else {
        return;
    };
    rows_and_markers(rig).await;
    let Some(mut rig) = Rig::new("mariadb_11_8_leaves_places_out", spec).await else {
        return;
    };
    rig.run(&["CREATE TABLE t (id int PRIMARY KEY)"]).await;
    for by in [PositionBy::Gtid, PositionBy::File] {
        let mut options = rig.options();
        options.by = by;
        let mut stream = rig.stream_with(options, &[("t", keys(&[0]))]).await;
        rig.run(&[
            "BEGIN",
            "INSERT INTO t VALUES (1)",
            "INSERT INTO t VALUES (2)",
            "UPDATE t SET id = 3 WHERE id = 2",
            "COMMIT",
            "XA START 'x'",
            "INSERT INTO t VALUES (4)",
            "DELETE FROM t WHERE id = 1",
            "XA END 'x'",
            "XA PREPARE 'x'",
            "XA COMMIT 'x'",
            "DELETE FROM t",
        ])
        .await;
        let sentinel = rig.mark().await;
        let seen = brief(&stream.until(sentinel).await);
        assert_eq!(seen, ["+1", "+2", "2>3", "+4", "-1", "-3", "-4"], "{by:?}");
        let upto = stream.upto.clone().expect("a position");
        let end: Option<(String, u64)> =
            mysql_async::prelude::Queryable::query_first(&mut rig.conn, "SHOW MASTER STATUS")
                .await
                .expect("status")
                .map(|row: mysql_async::Row| (row.get(0).expect("a file"), row.get(1).expect("a place")));
        assert_eq!(Some((upto.file.file.clone(), upto.file.pos)), end, "{by:?}");
        stream.stop().await;
    }
}
