//! Commands to a running migration.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::ensure;
use changeling_support::Flavor;
use rstest::rstest;

use super::run::{Job, exists};
use super::stage::scene;

/// Longer than a chunk and its pause.
const AWHILE: Duration = Duration::from_millis(600);

#[rstest]
#[case::mysql(Flavor::MySql)]
#[case::mariadb(Flavor::MariaDb)]
#[tokio::test]
async fn a_migration_is_steered_from_its_socket(#[case] flavor: Flavor) -> anyhow::Result<()> {
    let mut scene = scene!(flavor);
    scene.fill(4000).await?;
    let job = Job::execute(&scene.server, &scene.database, "t", "ADD COLUMN b int").slow();
    let flag = job.path("postpone");
    let job = job.flag("--postpone-cut-over-flag-file", flag.display());
    // A socket that a killed run has left.
    drop(std::os::unix::net::UnixListener::bind(job.socket())?);
    let mut running = job.start();
    running.says("checkpoint success").await?;
    ensure!(exists(&flag), "the flag file is not created at the start");
    let mode = std::fs::metadata(job.socket())?.permissions().mode();
    ensure!(mode & 0o777 == 0o600, "{mode:o}");

    let status = running.tell("status").await?;
    for text in [
        "# Migrating `",
        "# chunk-size: 10;",
        "# postpone-cut-over-flag-file: ",
        " [set]",
        "Copy: ",
    ] {
        ensure!(status.contains(text), "{text}: {status}");
    }
    ensure!(running.tell("sup").await?.lines().count() == 1);
    ensure!(running.tell("help").await?.contains("unpostpone"));
    ensure!(running.pipe("nonsense").await? == "unknown command: nonsense\n");
    ensure!(
        running
            .tell("nonsense")
            .await
            .is_err_and(|error| error.to_string().contains("unknown command"))
    );
    ensure!(
        running
            .tell("applier")
            .await?
            .contains(&format!(":{}", scene.server.port()))
    );

    ensure!(running.copies_within(AWHILE * 10).await?, "it does not copy");
    ensure!(
        running
            .tell("throttle")
            .await?
            .contains("# Note: you may only throttle")
    );
    running.shows("State: throttled, commanded by user").await?;
    // The chunk that was in flight.
    tokio::time::sleep(AWHILE).await;
    ensure!(!running.copies_within(AWHILE).await?, "it copies while throttled");
    running.tell("no-throttle").await?;
    running.shows("State: migrating").await?;
    ensure!(
        running.copies_within(AWHILE * 10).await?,
        "it does not copy any more"
    );

    running.tell("max-load=Threads_connected=1").await?;
    running
        .shows("State: throttled, max-load Threads_connected=")
        .await?;
    ensure!(running.tell("max-load=?").await?.trim() == "Threads_connected=1");
    running.tell("max-load=").await?;
    running.shows("State: migrating").await?;

    ensure!(
        running
            .tell("unpostpone")
            .await?
            .contains("You may only invoke this when")
    );
    ensure!(
        running
            .tell("nice-ratio=0")
            .await?
            .contains("nice-ratio: 0.000000")
    );
    ensure!(
        running
            .tell("chunk-size=1000")
            .await?
            .contains("# chunk-size: 1000;")
    );
    running.shows("State: postponing cut-over").await?;
    ensure!(scene.columns("t").await? == "id a s");
    ensure!(
        running
            .tell("unpostpone=another")
            .await?
            .contains("ignoring request")
    );
    ensure!(running.tell("unpostpone").await?.contains("Unpostponed"));
    let ended = running.end().await?;
    ensure!(ended.succeeded(), "{ended}");
    ensure!(scene.columns("t").await? == "id a s b");
    ensure!(!exists(&job.socket()), "the socket is left behind");
    scene.left("_t_del t").await
}

#[tokio::test]
async fn removing_the_flag_file_lets_the_swap_happen() -> anyhow::Result<()> {
    let mut scene = scene!(Flavor::MariaDb);
    scene.fill(10).await?;
    let job = Job::execute(&scene.server, &scene.database, "t", "ADD COLUMN b int");
    let (flag, later) = (job.path("postpone"), job.path("later"));
    let running = job.flag("--postpone-cut-over-flag-file", flag.display()).start();
    let began = std::time::Instant::now();
    while !exists(&job_socket(&flag)) && began.elapsed() < Duration::from_secs(30) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    running.shows("State: postponing cut-over").await?;
    // Another flag file, while it waits.
    let reply = running
        .tell(&format!("postpone-cut-over-flag-file={}", later.display()))
        .await?;
    ensure!(reply.contains("Postponed") && exists(&later), "{reply}");
    std::fs::remove_file(&flag)?;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    running.shows("State: postponing cut-over").await?;
    std::fs::remove_file(&later)?;
    let ended = running.end().await?;
    ensure!(ended.succeeded(), "{ended}");
    scene.left("_t_del t").await
}

fn job_socket(beside: &std::path::Path) -> std::path::PathBuf {
    beside.with_file_name("socket")
}

#[tokio::test]
async fn panic_ends_at_once_and_what_is_left_can_be_resumed() -> anyhow::Result<()> {
    let mut scene = scene!(Flavor::MySql);
    scene.fill(3000).await?;
    let job = Job::execute(&scene.server, &scene.database, "t", "ADD COLUMN b int").slow();
    let mut running = job.clone().with("--force-named-panic").start();
    running.says("checkpoint success").await?;
    ensure!(running.tell("panic").await?.contains("panic"));
    ensure!(running.tell("panic=t").await?.contains("aborted without cleanup"));
    running
        .end()
        .await?
        .must_have_failed(&["User commanded 'panic'", "--resume"])?;
    scene.left("_t_ghc _t_ghk _t_gho t").await?;
    scene.untouched(3000).await?;
    job.flag("--nice-ratio", 0)
        .flag("--chunk-size", 1000)
        .with("--resume")
        .succeed()
        .await?;
    scene.left("_t_del t").await
}
