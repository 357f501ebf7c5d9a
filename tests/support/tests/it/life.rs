//! Start, restart, kill, pause.

use std::time::{Duration, Instant};

use changeling_support::{Durability, Result, ServerSpec, server_or_skip};
use mysql_async::prelude::Queryable;

async fn survives_restart_and_kill(spec: ServerSpec) -> Result<()> {
    let begun = Instant::now();
    let server = server_or_skip!(spec);
    println!(
        "{} from {} in {:?}",
        server.full_version(),
        server.source(),
        begun.elapsed()
    );
    let port = server.port();

    let mut conn = server.mysql().await?;
    conn.query_drop("CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); INSERT INTO d.t VALUES (1)")
        .await?;
    server.restart().await?;
    let mut conn = server.mysql().await?;
    conn.query_drop("INSERT INTO d.t VALUES (2)").await?;
    server.kill().await?;
    assert!(server.mysql().await.is_err(), "a killed server does not answer");
    server.restart().await?;
    let rows: Vec<i32> = server
        .mysql()
        .await?
        .query("SELECT id FROM d.t ORDER BY id")
        .await?;
    assert_eq!((rows, server.port()), (vec![1, 2], port));

    let mut conn = server.mysql().await?;
    server.pause().await?;
    let silent = tokio::time::timeout(Duration::from_millis(300), conn.query_drop("DO 1")).await;
    assert!(silent.is_err(), "a paused server answers nothing");
    server.resume().await?;
    server.mysql().await?.query_drop("DO 1").await?;

    let data = server.data_directory();
    server.stop().await?;
    assert!(data.is_none_or(|data| !data.exists()), "nothing is left behind");
    Ok(())
}

#[tokio::test]
async fn mysql_survives_restart_and_kill() -> Result<()> {
    survives_restart_and_kill(ServerSpec::mysql().dedicated()).await
}

#[tokio::test]
async fn mariadb_survives_restart_and_kill() -> Result<()> {
    survives_restart_and_kill(ServerSpec::mariadb().dedicated()).await
}

#[tokio::test]
async fn postgres_survives_restart_and_pause() -> Result<()> {
    let begun = Instant::now();
    let server = server_or_skip!(ServerSpec::any_postgres().dedicated());
    println!(
        "PostgreSQL {} from {} in {:?}",
        server.full_version(),
        server.source(),
        begun.elapsed()
    );
    server
        .postgres("postgres")
        .await?
        .batch_execute("CREATE TABLE t AS SELECT 1 AS id")
        .await?;
    server.kill().await?;
    server.restart().await?;
    let client = server.postgres("postgres").await?;
    let row = client
        .query_one("SELECT id, current_setting('wal_level') FROM t", &[])
        .await?;
    assert_eq!((row.get::<_, i32>(0), row.get::<_, &str>(1)), (1, "logical"));
    server.pause().await?;
    let silent = tokio::time::timeout(Duration::from_millis(300), client.batch_execute("SELECT 1")).await;
    assert!(silent.is_err(), "a paused server answers nothing");
    server.resume().await?;
    server.stop().await
}

#[tokio::test]
async fn options_and_time_zone_reach_the_server() -> Result<()> {
    for spec in [ServerSpec::mysql(), ServerSpec::mariadb()] {
        let spec = spec
            .option("--binlog-row-image=MINIMAL")
            .time_zone("+02:00")
            .durability(Durability::Full);
        let server = server_or_skip!(spec.option("--lower-case-table-names=1").server_id(77));
        let seen: Option<(String, String, u32, u32, u32, u32)> = server
            .mysql()
            .await?
            .query_first(
                "SELECT @@binlog_row_image, @@time_zone, @@innodb_flush_log_at_trx_commit, @@sync_binlog, \
                 @@server_id, @@lower_case_table_names",
            )
            .await?;
        assert_eq!(seen, Some(("MINIMAL".into(), "+02:00".into(), 1, 1, 77, 1)));
        server.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_unknown_option_is_shown_from_the_log() -> Result<()> {
    drop(server_or_skip!(ServerSpec::mariadb().dedicated()));
    let refused = ServerSpec::mariadb().option("--no-such-thing=1").start().await;
    let message = refused.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(
        message.contains("ended while starting") && message.contains("no-such-thing"),
        "{message}"
    );
    Ok(())
}
