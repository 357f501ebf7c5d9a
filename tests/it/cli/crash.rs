//! Killed at any moment, then resumed.

use std::time::Duration;

use anyhow::{Context, ensure};
use changeling_support::load::Load;
use changeling_support::{Flavor, server_or_skip};
use mysql_async::prelude::Queryable;
use rstest::rstest;
use rustix::process::Signal;

use super::run::Job;
use super::stage::{Scene, scene, spec};

/// How often a run is killed; more by `CHANGELING_KILLS`.
fn kills() -> u32 {
    std::env::var("CHANGELING_KILLS")
        .ok()
        .and_then(|kills| kills.parse().ok())
        .unwrap_or(8)
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit.max(1)
    }
}

/// A ghost table without a checkpoint once stood in the way of every later run: `--resume=auto` sent to `--resume`, and that
/// back.
#[rstest]
#[case::mysql(Flavor::MySql)]
#[case::mariadb(Flavor::MariaDb)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_before_its_first_checkpoint_it_begins_anew(#[case] flavor: Flavor) -> anyhow::Result<()> {
    let mut scene = scene!(flavor);
    let mut seen: std::collections::BTreeSet<&str> = std::collections::BTreeSet::new();
    for round in 0..12_u64 {
        let table = format!("t{round}");
        scene
            .run(&format!("CREATE TABLE {table} (id int PRIMARY KEY)"))
            .await?;
        scene.run(&format!("INSERT INTO {table} VALUES (1), (2)")).await?;
        let job = Job::execute(&scene.server, &scene.database, &table, "ADD COLUMN b int");
        let mut running = job.clone().slow().with("--debug").start();
        running.says("starting changeling").await?;
        tokio::time::sleep(Duration::from_millis(15 * round)).await;
        running.kill().await?;
        let tables = scene.tables().await?;
        seen.extend(
            ["_gho", "_ghc", "_ghk"]
                .iter()
                .filter(|kind| tables.contains(&format!("_{table}{kind}"))),
        );
        if tables.contains(&format!("_{table}_del")) {
            // It was quicker than the kill.
            continue;
        }
        let how = ["--resume=auto", "--resume"]
            [usize::from(round % 2 == 1 && tables.contains(&format!("_{table}_ghk")))];
        let ended = job.with(how).run().await?;
        ensure!(ended.succeeded(), "{how} beside {tables}: {ended}");
        ensure!(!scene.tables().await?.contains(&format!("_{table}_gho")));
    }
    eprintln!("killed beside {seen:?}");
    Ok(())
}

/// Rows, changes, unique values on the move; kills in every phase, the swap among them.
#[rstest]
#[case::mysql(Flavor::MySql)]
#[case::mariadb(Flavor::MariaDb)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_moments_and_resumed_it_loses_nothing(#[case] flavor: Flavor) -> anyhow::Result<()> {
    let mut scene = scene!(flavor);
    let load = Load {
        opts: scene.server.mysql_opts().into(),
        table: format!("{}.t", scene.database),
        writers: 3,
        rows: 3000,
        seed: 7,
        pause: Duration::from_millis(3),
    };
    load.create().await?;
    let writers = load.start();
    let job = Job::execute(
        &scene.server,
        &scene.database,
        "t",
        "ADD COLUMN b int NOT NULL DEFAULT 7",
    )
    .slow()
    .flag("--nice-ratio", 4)
    .with("--resume=auto")
    .with("--debug");
    // A run that starts, catches up and swaps once the rows are copied takes about a second.
    let (mut dice, mut phases) = (Dice(u64::from(kills())), Vec::new());
    let mut ended = None;
    for round in 0..kills() {
        let mut running = job.start();
        // Kills early, in the copy, and, when the rows are copied, in the attempts to swap.
        let moment = match round % 4 {
            0 => [
                "starting changeling",
                "reading the binary log",
                "checkpoint success",
            ][dice.below(3) as usize],
            1 | 2 => "checkpoint success",
            _ => "Row copy complete",
        };
        // One that only has to clean up ends before: then there is nothing to kill.
        let mut there = running.says(moment).await.is_ok();
        if there && round % 4 == 3 {
            let stage = ["proven: ", "under the lock", "sentinel seen"][dice.below(3) as usize];
            there = running.says(stage).await.is_ok();
        }
        let within = if round % 4 == 3 { 8_000 } else { 400_000 };
        tokio::time::sleep(Duration::from_micros(if there { dice.below(within) } else { 0 })).await;
        let (killed, end) = running.kill().await?;
        phases.push(format!("{moment}: {killed}"));
        if !killed {
            ensure!(end.succeeded(), "{end}");
            ended = Some(end);
            break;
        }
        let tables = scene.tables().await?;
        phases.push(tables);
    }
    if ended.is_none() {
        let last = job.without("--nice-ratio").flag("--nice-ratio", 0).run().await?;
        let swapped = last.errors.contains("Duplicate column name");
        ensure!(last.succeeded() || swapped, "{phases:#?}\n{last}");
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let report = writers.stop().await;
    ensure!(
        report.errors.is_empty(),
        "writers saw errors: {:?}",
        report.errors
    );
    let differences = load.differences(&report.rows).await?;
    ensure!(
        differences.is_empty(),
        "{phases:#?}\n{} differ: {differences:#?}",
        differences.len()
    );
    ensure!(
        scene.ask("SELECT GROUP_CONCAT(DISTINCT b) FROM t").await? == "7",
        "the column is not there"
    );
    eprintln!("{flavor}: {} transactions, {phases:?}", report.committed);
    let tables = scene.tables().await?;
    ensure!(tables == "_t_del t", "{tables}: {phases:#?}");
    Ok(())
}

/// Killed between the moments of a swap: each is held open by what it waits for.
#[rstest]
#[case::mysql(Flavor::MySql)]
#[case::mariadb(Flavor::MariaDb)]
#[tokio::test]
async fn killed_inside_an_attempt_it_goes_on(#[case] flavor: Flavor) -> anyhow::Result<()> {
    let mut scene = scene!(flavor);
    scene.fill(200).await?;
    let job =
        Job::execute(&scene.server, &scene.database, "t", "ADD COLUMN b int").flag("--checkpoint-seconds", 1);
    // Whoever has read the table keeps the attempt waiting for its lock, sentry and all.
    let mut reader = scene.server.mysql().await?;
    reader
        .query_drop(format!("BEGIN; SELECT * FROM {}.t LIMIT 1", scene.database))
        .await?;
    let mut running = job.clone().with("--skip-metadata-lock-check").start();
    running.says("Row copy complete").await?;
    let mut seen = String::new();
    for _ in 0..400 {
        seen = scene.tables().await?;
        if seen == "_t_ghc _t_ghk t t_del t_gho" || flavor == Flavor::MySql {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    running.kill().await?;
    if flavor == Flavor::MariaDb {
        ensure!(
            seen == "_t_ghc _t_ghk t t_del t_gho",
            "not inside an attempt: {seen}"
        );
    }
    drop(reader);
    let ended = job.with("--resume").run().await?;
    ensure!(
        ended.succeeded() && ended.errors.contains("Resuming from checkpoint"),
        "{ended}"
    );
    scene.left("_t_del t").await
}

/// The state that a kill leaves just after the RENAME, made by hand.
#[rstest]
#[case::mysql(Flavor::MySql)]
#[case::mariadb(Flavor::MariaDb)]
#[tokio::test]
async fn killed_after_the_swap_it_only_cleans_up(#[case] flavor: Flavor) -> anyhow::Result<()> {
    for settled in [true, false] {
        let mut scene = scene!(flavor);
        scene.fill(200).await?;
        let job = Job::execute(&scene.server, &scene.database, "t", "ADD COLUMN b int");
        let file = job.path("postpone");
        let running = {
            let mut running = job
                .clone()
                .flag("--postpone-cut-over-flag-file", file.display())
                .start();
            running.says("postponing the cut-over").await?;
            running
        };
        running.kill().await?;
        scene.left("_t_ghc _t_ghk _t_gho t").await?;
        if settled {
            scene.run("RENAME TABLE t TO _t_del, _t_gho TO t").await?;
        } else {
            let names = format!(
                r#"{{"ghost":{{"schema":"{0}","table":"t_gho"}},"old":{{"schema":"{0}","table":"t_del"}}}}"#,
                scene.database
            );
            scene
                .run(&format!("INSERT INTO _t_ghk (id, state) VALUES (2, '{names}')"))
                .await?;
            scene.run("RENAME TABLE t TO t_del, _t_gho TO t").await?;
        }
        let resume = job.with("--resume").with("--attempt-instant-ddl");
        resume
            .clone()
            .without("--alter")
            .flag("--alter", "ADD COLUMN c int")
            .fail(&["another ALTER"])
            .await?;
        let ended = resume.succeed().await?;
        ensure!(ended.errors.contains("was swapped by the earlier run"), "{ended}");
        scene.left("_t_del t").await?;
        ensure!(scene.columns("t").await? == "id a s b" && scene.columns("_t_del").await? == "id a s");
    }
    Ok(())
}

/// The state that a kill leaves between sentry and RENAME, triggers included, made by hand; and someone's own `t_gho`.
#[tokio::test]
async fn a_ghost_under_its_swap_name_is_found_by_the_next_run() -> anyhow::Result<()> {
    let mut scene = scene!(Flavor::MariaDb);
    scene.fill(2000).await?;
    scene.run("CREATE TABLE seen (what int)").await?;
    scene
        .run("CREATE TRIGGER note AFTER INSERT ON t FOR EACH ROW INSERT INTO seen VALUES (NEW.a)")
        .await?;
    scene.run("CREATE TABLE t_gho (mine int)").await?;
    let job = Job::execute(&scene.server, &scene.database, "t", "ADD COLUMN b int")
        .with("--include-triggers")
        .flag("--trigger-suffix", "_x");
    let file = job.path("postpone");
    let mut running = job
        .clone()
        .flag("--postpone-cut-over-flag-file", file.display())
        .start();
    running.says("postponing the cut-over").await?;
    running.kill().await?;
    let owner = scene
        .ask("SELECT JSON_VALUE(state, '$.owner') FROM _t_ghk WHERE id = 1")
        .await?;
    let names = format!(
        r#"{{"ghost":{{"schema":"{0}","table":"t_gho2"}},"old":{{"schema":"{0}","table":"t_del"}}}}"#,
        scene.database
    );
    scene
        .run(&format!("INSERT INTO _t_ghk (id, state) VALUES (2, '{names}')"))
        .await?;
    scene
        .run(&format!("/* changeling:{owner} */ RENAME TABLE _t_gho TO t_gho2"))
        .await?;
    scene
        .run(&format!(
            "CREATE TABLE t_del (id int NOT NULL PRIMARY KEY) COMMENT='ghost-cut-over-sentry {owner}'"
        ))
        .await?;
    scene
        .run("CREATE TRIGGER note_x AFTER INSERT ON t_gho2 FOR EACH ROW INSERT INTO seen VALUES (NEW.a)")
        .await?;
    scene.run("INSERT INTO t (id, a) VALUES (5000, 5)").await?;
    // Without --resume it is found, named, and left alone.
    job.fail(&["`_t_gho` already exists", "--resume"]).await?;
    scene.left("_t_ghc _t_ghk _t_gho seen t t_gho").await?;
    let ended = job.with("--resume").run().await?;
    ensure!(ended.succeeded(), "{ended}");
    scene.left("_t_del seen t t_gho").await?;
    ensure!(
        scene.columns("t_gho").await? == "mine",
        "somebody else's table was touched"
    );
    ensure!(
        scene.ask("SELECT COUNT(*) FROM seen").await? == "1",
        "a trigger has fired for the copy"
    );
    scene.run("INSERT INTO t (id, a) VALUES (5001, 6)").await?;
    ensure!(scene.ask("SELECT COUNT(*) FROM seen").await? == "2");
    Ok(())
}

#[rstest]
#[case::mysql(Flavor::MySql)]
#[case::mariadb(Flavor::MariaDb)]
#[tokio::test]
async fn a_signal_stops_it_in_good_order(#[case] flavor: Flavor) -> anyhow::Result<()> {
    let mut scene = scene!(flavor);
    scene.fill(3000).await?;
    let job = Job::execute(&scene.server, &scene.database, "t", "ADD COLUMN b int")
        .slow()
        .without("--verbose");
    for signal in [Signal::TERM, Signal::INT] {
        let mut running = job.clone().with("--resume=auto").start();
        running.says("State: migrating").await?;
        running
            .until("copies", |output, _| {
                output
                    .lines()
                    .any(|line| line.starts_with("Copy: ") && !line.starts_with("Copy: 0/"))
            })
            .await?;
        running.signal(signal)?;
        let ended = running.end().await?;
        ended.must_have_failed(&[
            "stopped on request",
            "the original table is in charge",
            "--resume",
        ])?;
        scene.left("_t_ghc _t_ghk _t_gho t").await?;
        scene.untouched(3000).await?;
    }
    // SIGHUP changes nothing.
    let mut running = job.with("--resume").with("--verbose").start();
    running.says("Resuming from checkpoint").await?;
    running.signal(Signal::HUP)?;
    running.says("State: migrating").await?;
    running.tell("nice-ratio=0").await?;
    running.tell("chunk-size=1000").await?;
    let ended = running.end().await?;
    ensure!(ended.succeeded(), "{ended}");
    scene.left("_t_del t").await
}

#[rstest]
#[case::mysql(Flavor::MySql)]
#[case::mariadb(Flavor::MariaDb)]
#[tokio::test]
async fn what_no_longer_fits_is_not_resumed(#[case] flavor: Flavor) -> anyhow::Result<()> {
    let server = server_or_skip!(spec(flavor).dedicated());
    let mut scene = Scene::on(server.into()).await?;
    scene.fill(3000).await?;
    let job = Job::execute(&scene.server, &scene.database, "t", "ADD COLUMN b int").slow();
    let mut running = job.start();
    running.says("checkpoint success").await?;
    running.kill().await?;
    let kept = "_t_ghc _t_ghk _t_gho t";
    let resume = job.clone().with("--resume");
    let other = resume
        .clone()
        .without("--alter")
        .flag("--alter", "ADD COLUMN c int");
    other
        .fail(&["cannot resume", "another ALTER: ADD COLUMN b int"])
        .await?;
    resume
        .clone()
        .with("--checkpoint=false")
        .fail(&["--resume needs checkpoints"])
        .await?;
    scene.left(kept).await?;
    scene.run("ALTER TABLE t ADD COLUMN z int").await?;
    resume
        .fail(&["cannot resume", "was changed since the checkpoint"])
        .await?;
    scene.run("ALTER TABLE t DROP COLUMN z").await?;
    scene.left(kept).await?;
    // The position is gone with its file.
    scene.run("FLUSH BINARY LOGS").await?;
    // As long as the killed run's reader is there, its file is not removed.
    for _ in 0..300 {
        let logs: Vec<mysql_async::Row> = scene.conn.query("SHOW BINARY LOGS").await?;
        let last: String = logs.last().and_then(|row| row.get(0)).context("no binary logs")?;
        if logs.len() == 1 {
            break;
        }
        scene.run(&format!("PURGE BINARY LOGS TO '{last}'")).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    resume
        .fail(&["cannot resume", "purged", "--initially-drop-ghost-table"])
        .await?;
    scene.left(kept).await?;
    scene.untouched(3000).await?;
    job.flag("--nice-ratio", 0)
        .flag("--chunk-size", 1000)
        .with("--initially-drop-ghost-table")
        .succeed()
        .await?;
    scene.left("_t_del t").await
}

/// Nothing to go on with: `auto` starts afresh. A checkpoint: it goes on.
#[tokio::test]
async fn auto_resumes_what_there_is() -> anyhow::Result<()> {
    let mut scene = scene!(Flavor::MariaDb);
    scene.fill(2000).await?;
    let job = Job::execute(&scene.server, &scene.database, "t", "ADD COLUMN b int")
        .slow()
        .with("--resume=auto");
    let mut running = job.start();
    running.says("checkpoint success").await?;
    let (_, ended) = running.kill().await?;
    ensure!(!ended.errors.contains("Resuming"), "{ended}");
    let ended = job
        .flag("--nice-ratio", 0)
        .flag("--chunk-size", 1000)
        .succeed()
        .await?;
    ensure!(ended.errors.contains("Resuming from checkpoint"), "{ended}");
    scene.left("_t_del t").await
}
