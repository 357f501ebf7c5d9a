//! gh-ost's command lines, unchanged.

use std::sync::Arc;

use anyhow::ensure;
use changeling_support::Flavor;
use rstest::rstest;

use super::run::Job;
use super::stage::scene;

#[rstest]
#[case::mysql(Flavor::MySql)]
#[case::mariadb(Flavor::MariaDb)]
#[tokio::test]
async fn a_command_line_of_gh_osts_runs_unchanged(#[case] flavor: Flavor) -> anyhow::Result<()> {
    let mut scene = scene!(flavor);
    scene.fill(3000).await?;
    scene.run("CREATE TABLE _t_gho (id int)").await?;
    scene.run("CREATE TABLE _t_del (id int)").await?;
    let (server, database) = (Arc::clone(&scene.server), scene.database.clone());
    let mut job = Job::bare();
    let socket = job.socket();
    // As runbooks have them: a value after a space or after `=`, one dash or two, the same flag twice.
    for word in [
        "--user",
        server.user(),
        "--password",
        server.password(),
        "-host",
        server.host(),
        "--database",
    ] {
        job = job.with(word);
    }
    let ended = job
        .with(&database)
        .flag("--port", server.port())
        .with("--table=no_such_table")
        .with("--table=t")
        .with("--alter")
        .with("ALTER TABLE t ADD COLUMN b int NOT NULL DEFAULT 7")
        .with("--allow-on-master")
        .with("--exact-rowcount")
        .with("--concurrent-rowcount")
        .with("--chunk-size=500")
        .with("--max-load=Threads_running=1000,Threads_connected=1000")
        .with("--critical-load=Threads_running=5000")
        .with("--default-retries=120")
        .with("--cut-over=default")
        .with("--initially-drop-ghost-table")
        .with("--initially-drop-old-table")
        .with("--initially-drop-socket-file")
        .with("--ok-to-drop-table")
        .with("--max-lag-millis=1500")
        .with("--nice-ratio=0")
        .with("--replica-server-id=424243")
        .flag("--serve-socket-file", socket.display())
        .with("--verbose")
        .with("--execute")
        .run()
        .await?;
    ensure!(ended.succeeded(), "{ended}");
    scene.left("t").await?;
    ensure!(scene.columns("t").await? == "id a s b");
    ensure!(scene.ask("SELECT CONCAT(COUNT(*), ' ', SUM(b)) FROM t").await? == "3000 21000");
    for text in [
        &format!("# Migrating `{database}`.`t`; Ghost table is `{database}`.`_t_gho`") as &str,
        "# chunk-size: ",
        "# Migration started at ",
        "# Serving on unix socket: ",
        "Copy: 3000/3000 100.0%; Applied: ",
        "; Backlog: ",
        " State: ",
        "; ETA: due",
    ] {
        ensure!(ended.output.contains(text), "{text}: {ended}");
    }
    for text in [
        "Row copy complete",
        "INFO ",
        "starting changeling",
        ": 3000 rows copied, ",
    ] {
        ensure!(ended.errors.contains(text), "{text}: {ended}");
    }
    ensure!(!super::run::exists(&socket), "the socket is left behind");
    Ok(())
}

#[rstest]
#[case::mysql(Flavor::MySql)]
#[case::mariadb(Flavor::MariaDb)]
#[tokio::test]
async fn without_execute_nothing_lasting_is_created(#[case] flavor: Flavor) -> anyhow::Result<()> {
    let mut scene = scene!(flavor);
    scene.fill(100).await?;
    let job = Job::new(
        &scene.server,
        &scene.database,
        "t",
        "ADD COLUMN b int, CHANGE s c text",
    )
    .with("--allow-on-master")
    .with("--approve-renamed-columns")
    .with("--ok-to-drop-table");
    let ended = job.succeed().await?;
    for text in [
        "CREATE TABLE `_t_gho`",
        "`b` int",
        "# find rows by key `PRIMARY` (id)",
        "# renamed columns: `s` → `c`",
        "# swap, then drop",
        "# Nothing was changed; add --execute to do it",
    ] {
        ensure!(ended.output.contains(text), "{text}: {ended}");
    }
    ensure!(
        ended
            .errors
            .lines()
            .all(|line| line.contains("WARNING --password")),
        "{ended}"
    );
    scene.left("t").await?;
    scene.untouched(100).await
}

/// gh-ost's no-op run destroys what an interrupted migration has done (its issue 1769).
#[tokio::test]
async fn a_dry_run_leaves_an_interrupted_migration_alone() -> anyhow::Result<()> {
    let mut scene = scene!(Flavor::MySql);
    scene.fill(3000).await?;
    let job = Job::execute(&scene.server, &scene.database, "t", "ADD COLUMN b int").slow();
    let mut running = job.start();
    running.says("checkpoint success at coords=").await?;
    running.kill().await?;
    scene.left("_t_ghc _t_ghk _t_gho t").await?;
    for words in [&["--resume"] as &[&str], &["--initially-drop-ghost-table"], &[]] {
        let dry = words
            .iter()
            .fold(job.clone().without("--execute"), |job, word| job.with(*word));
        dry.fail(&[
            "`_t_gho` already exists. Panicking.",
            "--resume",
            "--initially-drop-ghost-table",
        ])
        .await?;
        scene.left("_t_ghc _t_ghk _t_gho t").await?;
    }
    let ended = job.without("--nice-ratio").with("--resume").succeed().await?;
    ensure!(ended.errors.contains("Resuming from checkpoint"), "{ended}");
    scene.left("_t_del t").await
}

#[tokio::test]
async fn the_report_of_the_proof_is_written_where_asked() -> anyhow::Result<()> {
    let mut scene = scene!(Flavor::MySql);
    scene.fill(3000).await?;
    let job = Job::execute(&scene.server, &scene.database, "t", "ADD COLUMN b int");
    let path = job.path("report.json");
    let job = job.flag("--verify-report", path.display());
    let read = || -> anyhow::Result<serde_json::Value> {
        Ok(serde_json::from_str(&std::fs::read_to_string(&path)?)?)
    };
    job.clone()
        .flag("--critical-load", "Threads_running=1")
        .fail(&["critical-load"])
        .await?;
    let report = read()?;
    ensure!(
        report["verdict"] == "unknown" && report["details"].is_string(),
        "{report}"
    );
    let again = job.clone().with("--initially-drop-ghost-table");
    again.succeed().await?;
    let report = read()?;
    ensure!(report["verdict"] == "equal", "{report}");
    ensure!(report["compared"]["rows"] == 3000, "{report}");
    ensure!(report["compared"]["ranges_complete"] == true, "{report}");

    let nowhere = Job::execute(&scene.server, &scene.database, "t", "ADD COLUMN c int")
        .flag("--initially-drop-old-table", "true")
        .flag("--verify-report", path.join("not/a/folder").display());
    nowhere.fail(&["Choose another --verify-report"]).await?;
    scene.left("t").await
}

#[tokio::test]
async fn a_command_line_that_cannot_be_read_ends_with_2() -> anyhow::Result<()> {
    for (word, says) in [
        ("--no-such-flag", "no-such-flag"),
        ("--chunk-size=many", "chunk-size"),
        ("--alter", "alter"),
    ] {
        let ended = Job::bare().with(word).run().await?;
        ensure!(
            ended.status.code() == Some(2) && ended.errors.contains(says),
            "{ended}"
        );
    }
    let ended = Job::bare().with("--alter=ENGINE=InnoDB").run().await?;
    ensure!(
        ended.status.code() == Some(1) || ended.status.code() == Some(2),
        "{ended}"
    );
    ensure!(
        ended.errors.contains("FATAL --database must be provided"),
        "{ended}"
    );
    let ended = Job::bare()
        .with("--check-flag")
        .with("--cut-over=default")
        .with("--gtid")
        .run()
        .await?;
    ensure!(ended.status.success() && ended.errors.is_empty(), "{ended}");
    Ok(())
}
