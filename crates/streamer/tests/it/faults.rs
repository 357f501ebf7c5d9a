//! Broken connections, servers that go and come, logs that are gone.

use std::time::Duration;

use changeling_core::actor::ExitStatus;
use changeling_core::change::Change;
use changeling_core::change_source::{ChangeSource, Projection};
use changeling_streamer::{BinlogSource, BinlogSourceOptions, PositionBy};
use changeling_support::{FaultProxy, Flavor, ServerSpec};
use mysql_async::prelude::Queryable;
use mysql_async::{OptsBuilder, SslOpts};

use crate::rig::{Rig, Stream, brief, keys, options};

fn through(proxy: &FaultProxy, rig: &Rig) -> BinlogSourceOptions {
    let mut options = options(&rig.server);
    options.opts = OptsBuilder::from_opts(options.opts)
        .ip_or_hostname(proxy.host())
        .tcp_port(proxy.port())
        .into();
    options.max_backoff = Duration::from_millis(500);
    options
}

/// `f`, without rows.
async fn empty_table(rig: &mut Rig) {
    rig.run(&[
        "CREATE TABLE IF NOT EXISTS f (id int PRIMARY KEY)",
        "DELETE FROM f",
    ])
    .await;
}

/// The server is stopped and started under the stream; nothing is missed, nothing comes twice.
async fn a_restarted_server(rig: &mut Rig, by: PositionBy) {
    empty_table(rig).await;
    let mut options = rig.options();
    options.by = by;
    let mut stream = rig.stream_with(options, &[("f", keys(&[0]))]).await;
    rig.run(&["INSERT INTO f VALUES (1)"]).await;
    let sentinel = rig.mark().await;
    assert_eq!(brief(&stream.until(sentinel).await), ["+1"]);
    rig.server.restart().await.expect("the server restarts");
    rig.conn = rig.connect().await;
    rig.run(&[
        "INSERT INTO f VALUES (2)",
        "FLUSH BINARY LOGS",
        "INSERT INTO f VALUES (3)",
    ])
    .await;
    let sentinel = rig.mark().await;
    assert_eq!(brief(&stream.until(sentinel).await), ["+2", "+3"], "{by:?}");
    assert!(stream.handle.state.borrow().reconnects >= 1);
    stream.stop().await;
}

/// Cut inside of a large transaction, again and again: all rows come, in the end each at least once, and in
/// order after the last repetition; the position never moves before the transaction's end.
async fn a_cut_inside_of_a_transaction(rig: &mut Rig) {
    rig.run(&[
        "DROP TABLE IF EXISTS big, source",
        "CREATE TABLE big (id int PRIMARY KEY AUTO_INCREMENT, v varchar(2000))",
        "CREATE TABLE source (v varchar(2000))",
        "INSERT INTO source VALUES (REPEAT('x', 2000))",
    ])
    .await;
    for _ in 0..13 {
        rig.run(&["INSERT INTO source SELECT * FROM source"]).await;
    }
    let proxy = FaultProxy::before(&rig.server).await.expect("a proxy");
    let mut options = through(&proxy, rig);
    options.batch_changes = 200;
    let mut stream = rig.stream_with(options, &[("big", keys(&[0]))]).await;
    rig.run(&["INSERT INTO big (v) SELECT v FROM source"]).await;
    let sentinel = rig.mark().await;
    let mut ids: Vec<String> = Vec::new();
    let mut upto = None;
    let mut done = false;
    let mut batches = 0;
    while !done {
        let batch = stream.batch().await.expect("a batch");
        batches += 1;
        if batches == 5 || batches == 12 {
            proxy.cut_all();
        }
        done = batch.changes.contains(&Change::Sentinel(sentinel));
        ids.extend(
            brief(&batch.changes)
                .into_iter()
                .filter(|change| change.starts_with('+')),
        );
        // The first batch may carry the position of what was before the transaction.
        if batches > 1 && ids.len() < 8192 {
            let expected = upto.get_or_insert_with(|| batch.upto.clone());
            assert_eq!(
                *expected, batch.upto,
                "the position moved inside of a transaction"
            );
        }
    }
    let whole = &ids[ids.len() - 8192..];
    let mut distinct: Vec<&String> = whole.iter().collect();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), 8192, "{} rows were delivered", ids.len());
    assert!(stream.handle.state.borrow().reconnects >= 1);
    stream.stop().await;
}

async fn a_stalled_connection_is_given_up(rig: &mut Rig) {
    empty_table(rig).await;
    let proxy = FaultProxy::before(&rig.server).await.expect("a proxy");
    let mut stream = rig.stream_with(through(&proxy, rig), &[("f", keys(&[0]))]).await;
    let sentinel = rig.mark().await;
    stream.until(sentinel).await;
    proxy.stall();
    rig.run(&["INSERT INTO f VALUES (1)"]).await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    proxy.resume();
    let sentinel = rig.mark().await;
    assert_eq!(brief(&stream.until(sentinel).await), ["+1"]);
    assert!(stream.handle.state.borrow().reconnects >= 1);
    stream.stop().await;
}

/// MariaDB reads a whole file of its log for a GTID position, and says nothing meanwhile: a stream that gave up made it
/// begin again, for ever.
async fn a_server_that_searches_its_log_is_waited_for(rig: &mut Rig) {
    empty_table(rig).await;
    let proxy = FaultProxy::before(&rig.server).await.expect("a proxy");
    let mut options = through(&proxy, rig);
    options.heartbeat = Duration::from_secs(1);
    let dumps = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE COMMAND LIKE 'Binlog Dump%'";
    let before: Option<u64> = rig.conn.query_first(dumps).await.expect("the server answers");
    let mut stream = rig.stream_with(options, &[("f", keys(&[0]))]).await;
    while rig.conn.query_first(dumps).await.expect("the server answers") == before {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Asked for the log, and not answered yet but for the first events of the file.
    proxy.stall();
    tokio::time::sleep(Duration::from_secs(5)).await;
    proxy.resume();
    rig.run(&["INSERT INTO f VALUES (1)"]).await;
    let sentinel = rig.mark().await;
    assert_eq!(brief(&stream.until(sentinel).await), ["+1"]);
    assert_eq!(stream.handle.state.borrow().reconnects, 0);
    stream.stop().await;
}

/// An event that takes longer than three heartbeats to arrive was given up, and asked for again, for ever.
async fn a_row_that_takes_its_time_arrives(rig: &mut Rig) {
    rig.run(&["CREATE TABLE IF NOT EXISTS wide (id int PRIMARY KEY, v longtext)"])
        .await;
    let proxy = FaultProxy::before(&rig.server).await.expect("a proxy");
    let mut options = through(&proxy, rig);
    options.heartbeat = Duration::from_secs(1);
    options.stall = Duration::from_secs(1);
    let mut stream = rig.stream_with(options, &[("wide", keys(&[0]))]).await;
    let sentinel = rig.mark().await;
    stream.until(sentinel).await;
    // For each 64 KiB: six seconds for the row.
    proxy.delay(Duration::from_millis(100));
    rig.run(&["INSERT INTO wide VALUES (1, REPEAT('x', 4 << 20))"])
        .await;
    let sentinel = rig.mark().await;
    assert_eq!(brief(&stream.until(sentinel).await), ["+1"]);
    assert_eq!(stream.handle.state.borrow().reconnects, 0);
    stream.stop().await;
}

async fn giving_up_after_a_number_of_failures(rig: &mut Rig) {
    let proxy = FaultProxy::before(&rig.server).await.expect("a proxy");
    let mut options = through(&proxy, rig);
    options.max_reconnects = Some(2);
    let mut stream = rig.stream_with(options, &[]).await;
    let sentinel = rig.mark().await;
    stream.until(sentinel).await;
    proxy.refuse_new();
    proxy.cut_all();
    stream
        .stops_saying(&["3 failures in a row", "max_reconnects"])
        .await;
}

async fn what_cannot_work_stops_at_once(rig: &mut Rig) {
    let mut wrong = rig.options();
    wrong.opts = OptsBuilder::from_opts(wrong.opts).pass(Some("wrong")).into();
    let source = BinlogSource::new(wrong);
    let error = source.current().await.expect_err("a wrong password");
    assert!(error.to_string().contains("errno 1045"), "{error}");
    let at = BinlogSource::new(rig.options())
        .current()
        .await
        .expect("a position");
    let spec = rig.spec(&[]).await;
    let mut stream = Stream::start(&rig.host, &source, spec, at);
    stream.stops_saying(&["errno 1045", "REPLICATION SLAVE"]).await;
}

async fn purged_logs_stop_the_stream(rig: &mut Rig, by: PositionBy) {
    empty_table(rig).await;
    let mut options = rig.options();
    options.by = by;
    let source = BinlogSource::new(options);
    let old = source.current().await.expect("a position");
    rig.run(&[
        "INSERT INTO f VALUES (1)",
        "FLUSH BINARY LOGS",
        "INSERT INTO f VALUES (2)",
        "FLUSH BINARY LOGS",
    ])
    .await;
    let now = source.current().await.expect("a position");
    // MariaDB keeps logs that a replica still reads; earlier streams may just have gone.
    for _ in 0..50 {
        rig.run(&[&format!("PURGE BINARY LOGS TO '{}'", now.file.file)])
            .await;
        if source.check_start(&old).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let error = source.check_start(&old).await.expect_err("the log is gone");
    assert!(error.to_string().contains("start anew"), "{error}");
    source.check_start(&now).await.expect("the present is there");
    let spec = rig.spec(&[("f", keys(&[0]))]).await;
    let mut stream = Stream::start(&rig.host, &source, spec, old);
    let word = if by == PositionBy::File {
        "no longer has"
    } else {
        "has purged"
    };
    stream.stops_saying(&[word, "start anew"]).await;
    let mut ahead = now.clone();
    ahead.file.pos += 1_000_000;
    if by == PositionBy::File {
        let error = source.check_start(&ahead).await.expect_err("beyond the end");
        assert!(error.to_string().contains("another server"), "{error}");
    }
}

async fn reset_log(rig: &mut Rig) {
    let statement = match rig.server.flavor() {
        Flavor::MariaDb => "RESET MASTER",
        _ => "RESET BINARY LOGS AND GTIDS",
    };
    rig.run(&[statement]).await;
}

/// The log begins again with the same numbers: what has the number of a transaction that was read is another one.
async fn a_log_that_began_again_is_not_gone_on_with(rig: &mut Rig, by: PositionBy) {
    // So that the file which is read has a name that there is again.
    reset_log(rig).await;
    empty_table(rig).await;
    let proxy = FaultProxy::before(&rig.server).await.expect("a proxy");
    let mut options = through(&proxy, rig);
    options.by = by;
    let mut stream = rig.stream_with(options, &[("f", keys(&[0]))]).await;
    for id in 0..20 {
        rig.run(&[&format!("INSERT INTO f VALUES ({id})")]).await;
    }
    let sentinel = rig.mark().await;
    stream.until(sentinel).await;
    proxy.refuse_new();
    proxy.cut_all();
    reset_log(rig).await;
    // As many transactions of the same size as there were, and more.
    for id in 100..200 {
        rig.run(&[&format!("INSERT INTO f VALUES ({id})")]).await;
    }
    proxy.resume();
    stream
        .stops_saying(&["does not have the transaction", "was set back"])
        .await;
}

/// A dump thread under which the log is reset sends signs of life, for ever.
async fn a_log_that_is_reset_under_the_stream_is_noticed(rig: &mut Rig, by: PositionBy) {
    empty_table(rig).await;
    let mut options = rig.options();
    options.by = by;
    options.stall = Duration::from_secs(1);
    let mut stream = rig.stream_with(options, &[("f", keys(&[0]))]).await;
    rig.run(&["INSERT INTO f VALUES (1)"]).await;
    let sentinel = rig.mark().await;
    stream.until(sentinel).await;
    // That nothing comes because there is nothing is no reason to connect again, also at the beginning of a file.
    for statement in ["SELECT 1", "FLUSH BINARY LOGS"] {
        rig.run(&[statement]).await;
        tokio::time::sleep(Duration::from_millis(3500)).await;
        assert_eq!(stream.handle.state.borrow().reconnects, 0, "{statement}");
    }
    reset_log(rig).await;
    rig.run(&["INSERT INTO f VALUES (2)"]).await;
    stream.stops_saying(&["start anew"]).await;
}

async fn a_receiver_that_goes_ends_the_stream(rig: &mut Rig) {
    let stream = rig.stream(&[]).await;
    let Stream { handle, batches, .. } = stream;
    drop(batches);
    rig.mark().await;
    let exit = tokio::time::timeout(crate::rig::PATIENCE, handle.exit)
        .await
        .expect("it ends");
    assert!(matches!(exit, Ok(ExitStatus::DownstreamClosed)), "{exit:?}");
}

/// While nobody takes batches nothing more is read.
async fn a_slow_receiver_slows_the_reader(rig: &mut Rig) {
    rig.run(&["CREATE TABLE IF NOT EXISTS slow (id int PRIMARY KEY AUTO_INCREMENT, v varchar(2000))"])
        .await;
    let mut options = rig.options();
    options.batch_changes = 10;
    let mut stream = rig.stream_with(options, &[("slow", Projection::All)]).await;
    for _ in 0..40 {
        let values = vec!["(REPEAT('x', 2000))"; 500].join(",");
        rig.run(&[&format!("INSERT INTO slow (v) VALUES {values}")]).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let read = stream.handle.state.borrow().bytes;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(stream.handle.state.borrow().bytes, read);
    assert!(read < 4 << 20, "{read} bytes were read ahead");
    let sentinel = rig.mark().await;
    assert_eq!(stream.until(sentinel).await.len(), 20_000);
    stream.stop().await;
}

async fn all(mut rig: Rig) {
    let rig = &mut rig;
    a_cut_inside_of_a_transaction(rig).await;
    a_stalled_connection_is_given_up(rig).await;
    a_server_that_searches_its_log_is_waited_for(rig).await;
    a_row_that_takes_its_time_arrives(rig).await;
    giving_up_after_a_number_of_failures(rig).await;
    what_cannot_work_stops_at_once(rig).await;
    a_receiver_that_goes_ends_the_stream(rig).await;
    a_slow_receiver_slows_the_reader(rig).await;
    a_restarted_server(rig, PositionBy::Gtid).await;
    a_restarted_server(rig, PositionBy::File).await;
    purged_logs_stop_the_stream(rig, PositionBy::Gtid).await;
    purged_logs_stop_the_stream(rig, PositionBy::File).await;
    for by in [PositionBy::Gtid, PositionBy::File] {
        a_log_that_began_again_is_not_gone_on_with(rig, by).await;
        a_log_that_is_reset_under_the_stream_is_noticed(rig, by).await;
    }
}

#[tokio::test]
async fn mysql_faults() {
    let Some(rig) = Rig::new("mysql_faults", ServerSpec::mysql().dedicated()).await else {
        return;
    };
    all(rig).await;
}

#[tokio::test]
async fn mariadb_faults() {
    let Some(rig) = Rig::new("mariadb_faults", ServerSpec::mariadb().dedicated()).await else {
        return;
    };
    all(rig).await;
}

#[tokio::test]
async fn mysql_over_tls() {
    let Some(mut rig) = Rig::new("mysql_over_tls", ServerSpec::mysql()).await else {
        return;
    };
    let mut options = rig.options();
    let tls = SslOpts::default().with_danger_accept_invalid_certs(true);
    options.opts = OptsBuilder::from_opts(options.opts).ssl_opts(tls).into();
    let mut stream = rig.stream_with(options.clone(), &[]).await;
    let sentinel = rig.mark().await;
    stream.until(sentinel).await;
    stream.stop().await;
    // With verification the server's self-made certificate is refused, and no plain connection is made.
    options.opts = OptsBuilder::from_opts(options.opts)
        .ssl_opts(SslOpts::default())
        .into();
    BinlogSource::new(options)
        .current()
        .await
        .expect_err("an unknown certificate");
}
