//! A primary with a replica.

use std::time::{Duration, Instant};

use changeling_support::{Result, ServerSpec, TopologySpec, server_or_skip};
use mysql_async::prelude::Queryable;

const LIMIT: Duration = Duration::from_secs(30);

async fn follows(spec: TopologySpec) -> Result<()> {
    let begun = Instant::now();
    let pair = server_or_skip!(spec);
    println!(
        "{} with a replica in {:?}",
        pair.primary.full_version(),
        begun.elapsed()
    );
    let mut conn = pair.primary.mysql().await?;
    conn.query_drop(
        "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY); INSERT INTO d.t VALUES (1), (2)",
    )
    .await?;
    pair.wait_caught_up(LIMIT).await?;
    let mut on_replica = pair.replica.mysql().await?;
    let count: Option<u32> = on_replica.query_first("SELECT COUNT(*) FROM d.t").await?;
    assert_eq!(count, Some(2));
    let log: Option<(u32, u32)> = on_replica
        .query_first("SELECT @@log_bin, @@log_slave_updates")
        .await?;
    assert_eq!(log, Some((1, 1)), "the replica has a binary log of its own");

    pair.replica.stop_applying().await?;
    conn.query_drop("INSERT INTO d.t VALUES (3)").await?;
    assert!(
        pair.wait_caught_up(Duration::from_secs(1)).await.is_err(),
        "a stopped replica does not catch up"
    );
    pair.replica.start_replication().await?;
    pair.wait_caught_up(LIMIT).await?;
    pair.stop().await
}

#[tokio::test]
async fn mysql_replica_follows() -> Result<()> {
    follows(ServerSpec::mysql().with_replica()).await
}

#[tokio::test]
async fn mysql_replica_follows_without_gtid() -> Result<()> {
    follows(ServerSpec::mysql().without_gtid().with_replica()).await
}

#[tokio::test]
async fn mysql_replica_follows_semi_synchronously() -> Result<()> {
    follows(ServerSpec::mysql().with_replica().semi_sync()).await
}

#[tokio::test]
async fn mariadb_replica_follows() -> Result<()> {
    follows(ServerSpec::mariadb().with_replica()).await
}

#[tokio::test]
async fn mariadb_replica_follows_semi_synchronously() -> Result<()> {
    follows(ServerSpec::mariadb().with_replica().semi_sync()).await
}

async fn lags(spec: TopologySpec) -> Result<()> {
    let pair = server_or_skip!(spec.delay_seconds(2));
    pair.primary
        .mysql()
        .await?
        .query_drop("CREATE DATABASE d")
        .await?;
    let committed = Instant::now();
    pair.wait_caught_up(LIMIT).await?;
    let lag = committed.elapsed();
    assert!(
        lag > Duration::from_millis(900),
        "delayed by 2 s of whole-second clocks, seen {lag:?}"
    );
    pair.replica.set_delay(0).await?;
    pair.primary
        .mysql()
        .await?
        .query_drop("CREATE DATABASE e")
        .await?;
    pair.wait_caught_up(LIMIT).await?;
    pair.stop().await
}

#[tokio::test]
async fn mysql_replica_lags_as_told() -> Result<()> {
    lags(ServerSpec::mysql().with_replica()).await
}

#[tokio::test]
async fn mariadb_replica_lags_as_told() -> Result<()> {
    lags(ServerSpec::mariadb().with_replica()).await
}
