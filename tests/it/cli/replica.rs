//! Reading from a replica, and rehearsing on one.

use std::sync::Arc;

use std::time::Duration;

use anyhow::ensure;
use changeling_support::{Flavor, Topology, server_or_skip};
use mysql_async::prelude::Queryable;
use rstest::rstest;
use rustix::process::Signal;

use super::run::Job;
use super::stage::{Scene, spec};

const CATCH_UP: Duration = Duration::from_secs(30);

#[rstest]
#[case::mysql(Flavor::MySql)]
#[case::mariadb(Flavor::MariaDb)]
#[tokio::test]
async fn on_a_replica_it_finds_the_primary_or_rehearses(#[case] flavor: Flavor) -> anyhow::Result<()> {
    let Topology { primary, replica } = server_or_skip!(spec(flavor).with_replica());
    let mut scene = Scene::on(primary.into()).await?;
    scene.fill(2000).await?;
    replica.wait_caught_up(&scene.server, CATCH_UP).await?;
    let (database, server) = (scene.database.clone(), Arc::clone(&scene.server));
    let at = |port: u16, alter: &str| {
        Job::new(&server, &database, "t", alter)
            .without("--port")
            .flag("--port", port)
            .with("--verbose")
            .with("--execute")
    };
    let (host, port) = server.address_for_peers().await?;
    let master = format!("{host}:{port}");

    // A rehearsal: both tables stay, replication stands, the original is what it was.
    let rehearsal = at(replica.port(), "ADD COLUMN b int").with("--test-on-replica");
    rehearsal
        .clone()
        .with("--allow-on-master")
        .fail(&["mutually exclusive"])
        .await?;
    let ended = rehearsal.succeed().await?;
    ensure!(ended.errors.contains("Done rehearsing"), "{ended}");
    let mut conn = replica.mysql().await?;
    conn.query_drop(format!("USE {database}")).await?;
    let columns: Vec<String> = conn.query("SELECT CONCAT(TABLE_NAME, '.', COLUMN_NAME) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() ORDER BY BINARY TABLE_NAME, ORDINAL_POSITION").await?;
    ensure!(
        columns
            == [
                "_t_gho.id",
                "_t_gho.a",
                "_t_gho.s",
                "_t_gho.b",
                "t.id",
                "t.a",
                "t.s"
            ],
        "{columns:?}"
    );
    let rows: Option<(u64, u64)> = conn
        .query_first("SELECT (SELECT SUM(a) FROM t), (SELECT SUM(a) FROM _t_gho)")
        .await?;
    ensure!(rows == Some((2_001_000, 2_001_000)), "{rows:?}");
    scene.run("INSERT INTO t (id, a) VALUES (5000, 0)").await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let arrived: Option<u64> = conn.query_first("SELECT COUNT(*) FROM t WHERE id = 5000").await?;
    ensure!(arrived == Some(0), "replication still runs");
    conn.query_drop("DROP TABLE _t_gho").await?;
    replica.start_replication().await?;
    replica.wait_caught_up(&scene.server, CATCH_UP).await?;

    // The real thing: events from the replica, work on the primary that was found from it.
    let ended = at(replica.port(), "ADD COLUMN b int")
        .with("--ok-to-drop-table")
        .with("--gtid")
        .succeed()
        .await?;
    let said = format!("# Migrating {master}; inspecting 127.0.0.1:{}", replica.port());
    ensure!(ended.output.contains(&said), "{said}: {ended}");
    scene.left("t").await?;
    // The primary named, with an account of its own.
    at(replica.port(), "ADD COLUMN c int")
        .with("--ok-to-drop-table")
        .flag("--assume-master-host", &master)
        .flag("--master-user", scene.server.user())
        .flag("--master-password", scene.server.password())
        .succeed()
        .await?;
    at(scene.server.port(), "ADD COLUMN d int")
        .fail(&["directly on master", "--allow-on-master"])
        .await?;
    ensure!(scene.columns("t").await? == "id a s b c");
    replica.wait_caught_up(&scene.server, CATCH_UP).await?;
    Ok(())
}

#[tokio::test]
async fn a_position_by_gtid_is_resumed() -> anyhow::Result<()> {
    for flavor in [Flavor::MySql, Flavor::MariaDb] {
        let mut scene = super::stage::scene!(flavor);
        scene.fill(2000).await?;
        let job = Job::execute(&scene.server, &scene.database, "t", "ADD COLUMN b int")
            .slow()
            .with("--gtid");
        let mut running = job.start();
        running.says("checkpoint success").await?;
        scene.run("UPDATE t SET a = a + 1").await?;
        running.kill().await?;
        scene.run("UPDATE t SET a = a - 1").await?;
        let ended = job.without("--nice-ratio").with("--resume").succeed().await?;
        ensure!(
            ended.errors.contains("Resuming from checkpoint at coords="),
            "{ended}"
        );
        ensure!(scene.ask("SELECT SUM(a) FROM t").await? == "2001000");
        scene.left("_t_del t").await?;
    }
    Ok(())
}

/// It waited without a word.
#[rstest]
#[case::mysql(Flavor::MySql)]
#[case::mariadb(Flavor::MariaDb)]
#[tokio::test]
async fn a_swap_that_waits_for_a_lagging_stream_says_so(#[case] flavor: Flavor) -> anyhow::Result<()> {
    let Topology { primary, replica } = server_or_skip!(spec(flavor).with_replica().delay_seconds(4));
    let mut scene = Scene::on(primary.into()).await?;
    scene.fill(100).await?;
    replica.wait_caught_up(&scene.server, CATCH_UP).await?;
    let job = Job::new(&scene.server, &scene.database, "t", "ADD COLUMN b int")
        .without("--port")
        .flag("--port", replica.port())
        .with("--verbose")
        .with("--execute")
        .flag("--max-lag-millis", 20_000)
        .flag("--cut-over-lock-timeout-seconds", 3);
    let mut running = job.start();
    running
        .says("the cut-over waits until the stream is less than 1.50s behind")
        .await?;
    replica.set_delay(0).await?;
    let ended = running.end().await?;
    ensure!(ended.succeeded(), "{ended}");
    scene.left("_t_del t").await
}

/// A rehearsal that is ended while it stops replication left it stopped, without a word.
#[rstest]
#[case::mysql(Flavor::MySql)]
#[case::mariadb(Flavor::MariaDb)]
#[tokio::test]
async fn a_rehearsal_that_is_ended_early_lets_replication_go_on(
    #[case] flavor: Flavor,
) -> anyhow::Result<()> {
    let Topology { primary, replica } = server_or_skip!(spec(flavor).with_replica());
    let mut scene = Scene::on(primary.into()).await?;
    scene.fill(100).await?;
    scene.run("CREATE TABLE other (id int PRIMARY KEY)").await?;
    replica.wait_caught_up(&scene.server, CATCH_UP).await?;
    let flag = tempfile::NamedTempFile::new()?;
    let mut running = Job::new(&scene.server, &scene.database, "t", "ADD COLUMN b int")
        .without("--port")
        .flag("--port", replica.port())
        .with("--verbose")
        .with("--execute")
        .with("--test-on-replica")
        .flag("--postpone-cut-over-flag-file", flag.path().display())
        .start();
    running.says("postponing the cut-over").await?;
    // Somebody keeps the applier from a table, and so replication from stopping.
    let (mut somebody, mut observer) = (replica.mysql().await?, replica.mysql().await?);
    somebody
        .query_drop(format!("LOCK TABLES {}.other READ", scene.database))
        .await?;
    scene.run("INSERT INTO other VALUES (1)").await?;
    let shows = async |observer: &mut mysql_async::Conn, pattern: &str| -> anyhow::Result<()> {
        let query = format!("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE {pattern}");
        while observer.query_first::<u64, _>(&query).await? == Some(0) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    };
    shows(&mut observer, "STATE LIKE 'Waiting for table%'").await?;
    flag.close()?;
    shows(&mut observer, "INFO LIKE 'STOP %SQL_THREAD'").await?;
    running.signal(Signal::TERM)?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    somebody.query_drop("UNLOCK TABLES").await?;
    let ended = running.end().await?;
    ended.must_have_failed(&["stopped on request"])?;
    ensure!(ended.errors.contains("replication was started again"), "{ended}");
    replica.wait_caught_up(&scene.server, CATCH_UP).await?;
    Ok(())
}
