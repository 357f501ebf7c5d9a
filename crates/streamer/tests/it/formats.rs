//! The same rows in every form the servers log them in.

use changeling_core::change::{Change, RowChange};
use changeling_core::change_source::Projection;
use changeling_core::coords::Gtids;
use changeling_core::value::Cell;
use changeling_support::{ServerSpec, Version};

use crate::rig::{Rig, brief, keys};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, a varchar(300), b int unsigned, UNIQUE KEY (b))";

/// Changes of table `t` whose brief form does not depend on how they are logged.
const WORK: &[&str] = &[
    "DELETE FROM t",
    "INSERT INTO t VALUES (1, REPEAT('long ', 50), 10), (2, 'short', 20)",
    "UPDATE t SET a = REPEAT('other ', 40) WHERE id = 1",
    "UPDATE t SET id = id + 10",
    "DELETE FROM t WHERE id = 11",
    "DELETE FROM t WHERE id = 12",
];
const KEYS: &[&str] = &["+1", "+2", "1>1", "1>11", "2>12", "-11", "-12"];

async fn same_with(rig: &mut Rig, settings: &[&str]) {
    rig.run(&["DROP TABLE IF EXISTS t", TABLE]).await;
    let mut stream = rig.stream(&[("t", keys(&[0]))]).await;
    rig.conn = rig.connect().await;
    rig.run(settings).await;
    rig.run(WORK).await;
    let sentinel = rig.mark().await;
    assert_eq!(brief(&stream.until(sentinel).await), KEYS, "{settings:?}");
    stream.stop().await;
    rig.conn = rig.connect().await;
}

async fn a_key_that_a_minimal_image_lacks_stops_the_stream(rig: &mut Rig) {
    rig.run(&["DROP TABLE IF EXISTS t", TABLE]).await;
    let mut by_other_key = rig.stream(&[("t", keys(&[2]))]).await;
    let mut whole = rig.stream(&[("t", Projection::All)]).await;
    rig.run(&[
        "INSERT INTO t VALUES (1, 'x', 10)",
        "SET SESSION binlog_row_image = MINIMAL",
    ])
    .await;
    rig.run(&["UPDATE t SET a = 'y' WHERE id = 1", "DELETE FROM t"])
        .await;
    by_other_key
        .stops_saying(&["lacks column b", "`t`", "binlog_row_image=FULL", "binlog."])
        .await;
    rig.run(&["SET SESSION binlog_row_image = FULL"]).await;
    let sentinel = rig.mark().await;
    assert_eq!(
        brief(&whole.until(sentinel).await),
        ["+1,x,10", "1,?,?>?,y,?", "-1,?,?"]
    );
    whole.stop().await;
}

/// The hint of a heartbeat row is not in a minimal image; the row's id stands for it.
async fn markers_are_read_from_minimal_images(rig: &mut Rig) {
    let mut stream = rig.stream(&[]).await;
    rig.run(&["SET SESSION binlog_row_image = MINIMAL"]).await;
    for _ in 0..2 {
        let sentinel = rig.mark().await;
        stream.until(sentinel).await;
    }
    rig.run(&["SET SESSION binlog_row_image = FULL"]).await;
    stream.stop().await;
}

async fn file_after_file(rig: &mut Rig) {
    rig.run(&["DROP TABLE IF EXISTS t", TABLE]).await;
    let mut stream = rig.stream(&[("t", keys(&[0]))]).await;
    let mut expected = Vec::new();
    for id in 0..6 {
        rig.run(&[
            &format!("INSERT INTO t VALUES ({id}, '', {id})"),
            "FLUSH BINARY LOGS",
        ])
        .await;
        expected.push(format!("+{id}"));
    }
    let sentinel = rig.mark().await;
    assert_eq!(brief(&stream.until(sentinel).await), expected);
    assert_eq!(stream.handle.state.borrow().reconnects, 0);
    stream.stop().await;
}

async fn partial_json(rig: &mut Rig) {
    rig.run(&["CREATE TABLE j (id int PRIMARY KEY, a json, b json, c int)"])
        .await;
    rig.run(&["SET SESSION binlog_row_value_options = PARTIAL_JSON, binlog_row_image = MINIMAL"])
        .await;
    let mut whole = rig.stream(&[("j", Projection::All)]).await;
    let mut by_key = rig.stream(&[("j", keys(&[0]))]).await;
    rig.run(&[
        r#"INSERT INTO j VALUES (1, '{"x": [1, 2, 3, 4, 5, 6, 7, 8], "y": "a long enough text"}', '{"p": "text", "q": 1}', 5)"#,
        r#"UPDATE j SET b = JSON_SET(b, '$.q', 2), c = 6"#,
        r#"UPDATE j SET a = JSON_REMOVE(JSON_SET(a, '$.y', 'a short text'), '$.x[1]')"#,
        "DELETE FROM j",
        "SET SESSION binlog_row_value_options = '', binlog_row_image = FULL",
    ])
    .await;
    let sentinel = rig.mark().await;
    assert_eq!(brief(&by_key.until(sentinel).await), ["+1", "1>1", "1>1", "-1"]);
    let seen = whole.until(sentinel).await;
    let Change::Row {
        row: RowChange::Update { after, .. },
        ..
    } = &seen[1]
    else {
        panic!("{seen:?}")
    };
    assert_eq!(after.cells()[2], Cell::JsonDiff("replace $.q = 2".into()));
    assert_eq!(after.cells()[3], Cell::Int(6));
    let Change::Row {
        row: RowChange::Update { after, .. },
        ..
    } = &seen[2]
    else {
        panic!("{seen:?}")
    };
    assert_eq!(
        after.cells()[1],
        Cell::JsonDiff(r#"replace $.y = "a short text"; remove $.x[1]"#.into())
    );
    by_key.stop().await;
    whole.stop().await;
}

async fn tagged_gtids(rig: &mut Rig) {
    if rig.server.version() < Version::new(8, 3) {
        eprintln!(
            "left out on MySQL {}, as tags came with 8.3",
            rig.server.version()
        );
        return;
    }
    rig.run(&[
        "DROP TABLE IF EXISTS t",
        TABLE,
        "SET SESSION gtid_next = 'AUTOMATIC:blue'",
    ])
    .await;
    rig.run(&["INSERT INTO t VALUES (1, '', 1)"]).await;
    let mut stream = rig.stream(&[("t", keys(&[0]))]).await;
    rig.run(&[
        "INSERT INTO t VALUES (2, '', 2)",
        "SET SESSION gtid_next = 'AUTOMATIC:red'",
    ])
    .await;
    rig.run(&[
        "INSERT INTO t VALUES (3, '', 3)",
        "SET SESSION gtid_next = 'AUTOMATIC'",
    ])
    .await;
    let sentinel = rig.mark().await;
    assert_eq!(brief(&stream.until(sentinel).await), ["+2", "+3"]);
    let upto = stream.upto.clone().expect("a position");
    let Gtids::MySql(set) = &upto.gtids else {
        panic!("{upto:?}")
    };
    assert!(
        set.to_string().contains(":blue:1-") && set.to_string().contains(":red:1"),
        "{set}"
    );
    stream.stop().await;
    // The server understands the set, tags included: it does not send those transactions again.
    let source = changeling_streamer::BinlogSource::new(rig.options());
    let spec = rig.spec(&[("t", keys(&[0]))]).await;
    let mut stream = crate::rig::Stream::start(&rig.host, &source, spec, upto);
    rig.run(&["INSERT INTO t VALUES (4, '', 4)"]).await;
    let sentinel = rig.mark().await;
    assert_eq!(brief(&stream.until(sentinel).await), ["+4"]);
    stream.stop().await;
}

#[tokio::test]
async fn mysql_formats() {
    let Some(mut rig) = Rig::new("mysql_formats", ServerSpec::mysql()).await else {
        return;
    };
    let rig = &mut rig;
    same_with(rig, &[]).await;
    same_with(rig, &["SET SESSION binlog_transaction_compression = ON"]).await;
    same_with(rig, &["SET SESSION binlog_row_image = MINIMAL"]).await;
    same_with(
        rig,
        &["SET SESSION binlog_row_image = NOBLOB, binlog_rows_query_log_events = ON"],
    )
    .await;
    a_key_that_a_minimal_image_lacks_stops_the_stream(rig).await;
    markers_are_read_from_minimal_images(rig).await;
    file_after_file(rig).await;
    partial_json(rig).await;
    tagged_gtids(rig).await;
}

#[tokio::test]
async fn mariadb_formats() {
    let Some(mut rig) = Rig::new("mariadb_formats", ServerSpec::mariadb()).await else {
        return;
    };
    let rig = &mut rig;
    same_with(rig, &[]).await;
    same_with(rig, &["SET SESSION binlog_row_image = MINIMAL"]).await;
    same_with(
        rig,
        &["SET GLOBAL log_bin_compress_min_len = 10, GLOBAL log_bin_compress = ON"],
    )
    .await;
    same_with(rig, &["SET SESSION binlog_row_image = MINIMAL"]).await;
    rig.run(&["SET GLOBAL log_bin_compress = OFF"]).await;
    same_with(rig, &["SET GLOBAL binlog_row_metadata = FULL"]).await;
    a_key_that_a_minimal_image_lacks_stops_the_stream(rig).await;
    markers_are_read_from_minimal_images(rig).await;
    file_after_file(rig).await;
}
