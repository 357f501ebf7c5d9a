//! What slows a migration down, and what ends it.

use std::time::Duration;

use anyhow::ensure;
use changeling_support::{Flavor, server_or_skip};
use rstest::rstest;

use super::run::Job;
use super::stage::{Scene, scene, spec};

#[rstest]
#[case::mysql(Flavor::MySql)]
#[case::mariadb(Flavor::MariaDb)]
#[tokio::test]
async fn files_and_queries_pause_the_copy(#[case] flavor: Flavor) -> anyhow::Result<()> {
    let mut scene = scene!(flavor);
    scene.fill(2000).await?;
    scene.run("CREATE TABLE busy (level int)").await?;
    scene.run("INSERT INTO busy VALUES (1)").await?;
    let job = Job::execute(&scene.server, &scene.database, "t", "ADD COLUMN b int");
    let (file, additional) = (job.path("throttle"), job.path("all"));
    std::fs::write(&file, "")?;
    let mut running = job
        .flag("--throttle-flag-file", file.display())
        .flag("--throttle-additional-flag-file", additional.display())
        .flag(
            "--throttle-query",
            format!("SELECT level FROM {}.busy", scene.database),
        )
        .start();
    running.says("State: throttled, ").await?;
    running.shows("State: throttled, flag-file").await?;
    std::fs::write(&additional, "")?;
    std::fs::remove_file(&file)?;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    running.shows("State: throttled, flag-file").await?;
    std::fs::remove_file(&additional)?;
    running.shows("State: throttled, throttle-query").await?;
    ensure!(running.rows_copied().await? == 0, "it copies while throttled");
    scene.run("UPDATE busy SET level = 0").await?;
    let ended = running.end().await?;
    ensure!(ended.succeeded(), "{ended}");
    Ok(())
}

#[rstest]
#[case::mysql(Flavor::MySql)]
#[case::mariadb(Flavor::MariaDb)]
#[tokio::test]
async fn load_limits_and_a_panic_flag_file_end_it(#[case] flavor: Flavor) -> anyhow::Result<()> {
    let mut scene = scene!(flavor);
    scene.fill(1000).await?;
    let job = Job::execute(&scene.server, &scene.database, "t", "ADD COLUMN b int");
    let critical = job.clone().flag("--critical-load", "Threads_connected=1");
    critical.fail(&["critical-load", "Threads_connected="]).await?;
    critical
        .flag("--max-load", "Threads_connected=1")
        .flag("--critical-load-interval-millis", 300)
        .fail(&["critical-load", "Threads_connected="])
        .await?;
    // Nothing was copied, so nothing is left.
    scene.left("t").await?;

    let file = job.path("panic");
    let mut running = job
        .clone()
        .flag("--max-load", "Threads_connected=1")
        .flag("--panic-flag-file", file.display())
        .start();
    running
        .says("State: throttled, max-load Threads_connected=")
        .await?;
    std::fs::write(&file, "")?;
    running
        .end()
        .await?
        .must_have_failed(&["Found panic-file", "Aborting without cleanup"])?;
    scene.untouched(1000).await?;
    job.with("--initially-drop-ghost-table").succeed().await.map(drop)
}

#[tokio::test]
async fn a_nice_ratio_takes_its_share_of_the_time() -> anyhow::Result<()> {
    let mut scene = scene!(Flavor::MySql);
    scene.fill(6000).await?;
    let fixed = Job::execute(&scene.server, &scene.database, "t", "ENGINE=InnoDB")
        .flag("--chunk-size", 20)
        .flag("--chunk-time", 0)
        .flag("--copy-workers", 1)
        .with("--initially-drop-old-table");
    let took = async |job: Job| {
        let began = std::time::Instant::now();
        job.succeed().await.map(|_| began.elapsed())
    };
    let (full, nice) = (
        took(fixed.clone()).await?,
        took(fixed.flag("--nice-ratio", 8)).await?,
    );
    ensure!(nice > full + full / 4, "{full:?} without, {nice:?} with");
    Ok(())
}

#[rstest]
#[case::mysql(Flavor::MySql)]
#[case::mariadb(Flavor::MariaDb)]
#[tokio::test]
async fn a_replica_that_lags_pauses_the_copy(#[case] flavor: Flavor) -> anyhow::Result<()> {
    let topology = server_or_skip!(spec(flavor).with_replica());
    let changeling_support::Topology { primary, replica } = topology;
    let mut scene = Scene::on(primary.into()).await?;
    scene.fill(1000).await?;
    let job = Job::execute(&scene.server, &scene.database, "t", "ADD COLUMN b int");
    replica
        .wait_caught_up(&scene.server, Duration::from_secs(30))
        .await?;
    replica.stop_applying().await?;
    let address = format!("{}:{}", replica.host(), replica.port());
    let running = {
        let mut running = job
            .flag("--throttle-control-replicas", &address)
            .flag("--max-lag-millis", 500)
            .start();
        running.says("State: throttled, ").await?;
        running
    };
    running.shows(&format!("State: throttled, {address} ")).await?;
    ensure!(
        running.rows_copied().await? == 0,
        "it copies while a replica lags"
    );
    replica.start_replication().await?;
    let ended = running.end().await?;
    ensure!(ended.succeeded(), "{ended}");
    replica
        .wait_caught_up(&scene.server, Duration::from_secs(30))
        .await?;
    Ok(())
}
