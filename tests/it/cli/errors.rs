//! What goes wrong: a message that says what to do, the original table in charge, and a next run that succeeds.

use std::time::Duration;

use anyhow::ensure;
use changeling_support::{Flavor, server_or_skip};
use mysql_async::prelude::Queryable;
use rstest::rstest;

use super::run::Job;
use super::stage::{Scene, scene, spec};

#[rstest]
#[case::mysql(Flavor::MySql)]
#[case::mariadb(Flavor::MariaDb)]
#[tokio::test]
async fn what_cannot_begin_says_why_and_leaves_nothing(#[case] flavor: Flavor) -> anyhow::Result<()> {
    let mut scene = scene!(flavor);
    scene.fill(10).await?;
    scene.run("CREATE VIEW v AS SELECT * FROM t").await?;
    scene.run("CREATE TABLE nokey (a int)").await?;
    scene.run("CREATE TABLE maybe (a int, UNIQUE KEY (a))").await?;
    scene
        .run("CREATE TABLE isam (a int PRIMARY KEY) ENGINE=MyISAM")
        .await?;
    let database = scene.database.clone();
    let reader = format!("reader_{database}");
    scene
        .run(&format!("CREATE USER '{reader}'@'%' IDENTIFIED BY 'Reader-1'"))
        .await?;
    scene
        .run(&format!("GRANT SELECT ON *.* TO '{reader}'@'%'"))
        .await?;
    let before = scene.tables().await?;
    let of = |table: &str, alter: &str| Job::execute(&scene.server, &database, table, alter);
    let good = of("t", "ADD COLUMN b int");
    let closed = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let cases: Vec<(Job, &[&str])> = vec![
        (
            good.clone().flag("--password", "wrong"),
            &["1045", "check --user and --password"],
        ),
        (
            good.clone()
                .flag("--user", &reader)
                .flag("--password", "Reader-1"),
            &["user has insufficient privileges for migration", "GRANT"],
        ),
        (
            good.clone().flag("--port", closed),
            &["cannot connect to 127.0.0.1", "check --host and --port"],
        ),
        (
            of("no_such", "ADD COLUMN b int"),
            &["cannot find table", "check --database and --table"],
        ),
        (
            good.clone().flag("--database", "no_such"),
            &["cannot find table", "check --database and --table"],
        ),
        (of("v", "ADD COLUMN b int"), &["is a VIEW, not a real table"]),
        (
            of("nokey", "ADD COLUMN b int"),
            &["no PRIMARY nor UNIQUE key found in table"],
        ),
        (
            of("maybe", "ADD COLUMN b int"),
            &["has nullable columns", "--allow-nullable-unique-key"],
        ),
        (
            of("isam", "ADD COLUMN b int"),
            &["is of engine MyISAM", "ENGINE=InnoDB first"],
        ),
        (
            of("t", "ADD COLUM b nothing"),
            &["cannot alter the ghost table", "ADD COLUM b nothing", ": error "],
        ),
        (of("t", "DROP COLUMN no_such"), &["1091"]),
        (of("t", "RENAME TO u"), &["seems to RENAME the table"]),
        (
            of("t", "DROP PRIMARY KEY, MODIFY id int"),
            &["no shared unique key"],
        ),
        (
            good.clone().without("--allow-on-master"),
            &["directly on master", "--allow-on-master"],
        ),
        (
            good.clone()
                .with("--test-on-replica")
                .without("--allow-on-master"),
            &["doesn't seem to be a replica"],
        ),
    ];
    for (job, says) in cases {
        job.fail(says).await?;
        let there = scene.tables().await?;
        ensure!(there == before, "{says:?} has left {there}");
    }
    scene.untouched(10).await?;
    good.succeed().await.map(drop)
}

#[rstest]
#[case::mysql(Flavor::MySql)]
#[case::mariadb(Flavor::MariaDb)]
#[tokio::test]
async fn leftovers_are_named_and_dropped_when_told(#[case] flavor: Flavor) -> anyhow::Result<()> {
    let mut scene = scene!(flavor);
    scene.fill(10).await?;
    scene.run("CREATE TABLE _t_gho (x int)").await?;
    scene.run("CREATE TABLE _t_del (x int)").await?;
    let job = Job::execute(&scene.server, &scene.database, "t", "ADD COLUMN b int");
    job.fail(&[
        "`_t_gho` already exists. Panicking.",
        "--initially-drop-ghost-table",
        "`_t_del` already exists. Panicking.",
        "--initially-drop-old-table",
    ])
    .await?;
    job.clone()
        .with("--initially-drop-ghost-table")
        .fail(&["--initially-drop-old-table"])
        .await?;
    scene.left("_t_del _t_gho t").await?;
    scene.untouched(10).await?;
    job.clone()
        .with("--resume")
        .fail(&["there is no checkpoint", "start without --resume"])
        .await?;
    job.clone()
        .with("--resume=auto")
        .fail(&["`_t_gho` already exists"])
        .await?;
    scene.left("_t_del _t_gho t").await?;
    job.with("--resume=auto")
        .with("--initially-drop-ghost-table")
        .with("--initially-drop-old-table")
        .succeed()
        .await?;
    scene.left("_t_del t").await?;
    ensure!(scene.columns("_t_del").await? == "id a s");
    Ok(())
}

#[rstest]
#[case::mysql(Flavor::MySql)]
#[case::mariadb(Flavor::MariaDb)]
#[tokio::test]
async fn one_migration_a_table_at_a_time(#[case] flavor: Flavor) -> anyhow::Result<()> {
    let mut scene = scene!(flavor);
    scene.fill(3000).await?;
    let job = Job::execute(&scene.server, &scene.database, "t", "ADD COLUMN b int");
    // Keeps it there, however slow this machine is, until the others have been refused.
    let postpone = job.path("postpone");
    let slow = job.clone().slow();
    let mut first = slow
        .flag("--postpone-cut-over-flag-file", postpone.display())
        .start();
    first.says("checkpoint success").await?;
    job.fail(&["another migration answers on", "--serve-socket-file"])
        .await?;
    let other = job.path("other");
    let elsewhere = job.flag("--serve-socket-file", other.display());
    for flag in ["--resume", "--initially-drop-ghost-table"] {
        elsewhere
            .clone()
            .with(flag)
            .fail(&["already migrating", "IS_USED_LOCK"])
            .await?;
    }
    first.tell("nice-ratio=0").await?;
    first.tell("chunk-size=1000").await?;
    first.shows("State: postponing cut-over").await?;
    first.tell("unpostpone").await?;
    let ended = first.end().await?;
    ensure!(ended.succeeded(), "{ended}");
    scene.left("_t_del t").await
}

#[rstest]
#[case::mysql(Flavor::MySql)]
#[case::mariadb(Flavor::MariaDb)]
#[tokio::test]
async fn a_server_that_is_killed_and_comes_back_is_waited_for(#[case] flavor: Flavor) -> anyhow::Result<()> {
    let server = server_or_skip!(spec(flavor).dedicated());
    let mut scene = Scene::on(server.into()).await?;
    scene.fill(3000).await?;
    let job = Job::execute(&scene.server, &scene.database, "t", "ADD COLUMN b int")
        .slow()
        .flag("--nice-ratio", 1);
    // Keeps it there until it has been looked at.
    let postpone = job.path("postpone");
    let job = job.flag("--postpone-cut-over-flag-file", postpone.display());
    let mut running = job.start();
    running.says("checkpoint success").await?;
    scene.server.kill().await?;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    scene.server.restart().await?;
    running.shows("State: postponing cut-over").await?;
    running.tell("unpostpone").await?;
    let ended = running.end().await?;
    ensure!(ended.succeeded(), "{ended}");
    scene.conn = scene.server.mysql().await?;
    let database = scene.database.clone();
    scene.run(&format!("USE {database}")).await?;
    ensure!(scene.ask("SELECT COUNT(*) FROM t").await? == "3000");
    scene.left("_t_del t").await
}

#[rstest]
#[case::mysql(Flavor::MySql)]
#[case::mariadb(Flavor::MariaDb)]
#[tokio::test]
async fn a_server_that_is_killed_and_stays_away_ends_it(#[case] flavor: Flavor) -> anyhow::Result<()> {
    let server = server_or_skip!(spec(flavor).dedicated());
    let mut scene = Scene::on(server.into()).await?;
    scene.fill(3000).await?;
    let job = Job::execute(&scene.server, &scene.database, "t", "ADD COLUMN b int")
        .slow()
        .flag("--default-retries", 3);
    let mut running = job.start();
    running.says("checkpoint success").await?;
    scene.server.kill().await?;
    let ended = running.end().await?;
    ended
        .must_have_failed(&["cannot connect to"])
        .or(ended.must_have_failed(&["cannot "]))?;
    ensure!(
        ended.errors.contains("ERROR") && ended.errors.contains("go on with --resume"),
        "{ended}"
    );
    scene.server.restart().await?;
    scene.conn = scene.server.mysql().await?;
    let database = scene.database.clone();
    scene.run(&format!("USE {database}")).await?;
    scene.untouched(3000).await?;
    scene.left("_t_ghc _t_ghk _t_gho t").await?;
    job.flag("--nice-ratio", 0)
        .flag("--chunk-size", 1000)
        .with("--resume")
        .succeed()
        .await?;
    scene.left("_t_del t").await
}

/// A table space of a fixed size is full long before the disk is.
#[rstest]
#[case::mysql(Flavor::MySql)]
#[case::mariadb(Flavor::MariaDb)]
#[tokio::test]
async fn a_full_disk_ends_it(#[case] flavor: Flavor) -> anyhow::Result<()> {
    let full = spec(flavor)
        .option("--innodb-data-file-path=ibdata1:12M:autoextend:max:40M")
        .option("--innodb-file-per-table=0");
    let server = server_or_skip!(full);
    let mut scene = Scene::on(server.into()).await?;
    scene
        .run("CREATE TABLE t (id int NOT NULL PRIMARY KEY, a int NOT NULL, s varchar(4000))")
        .await?;
    // What gives room at once: rows that are deleted do so only when they are purged.
    scene.run("CREATE TABLE filler LIKE t").await?;
    for (table, rows) in [("t", 2000), ("filler", 2400)] {
        for first in (1..=rows).step_by(100) {
            let values: Vec<String> = (first..first + 100)
                .map(|id| format!("({id},{id},REPEAT('x',3900))"))
                .collect();
            scene
                .run(&format!("INSERT INTO {table} VALUES {}", values.join(",")))
                .await?;
        }
    }
    let job =
        Job::execute(&scene.server, &scene.database, "t", "ADD COLUMN b int").flag("--default-retries", 3);
    job.fail(&["is full", "make room on the server"]).await?;
    scene.untouched(2000).await?;
    scene.left("_t_ghc _t_ghk _t_gho filler t").await?;
    scene.run("DROP TABLE filler").await?;
    // The room of a dropped table is given back by the server's purge, when that gets to it. Each run that still finds
    // the disk full must leave what the next one can begin with.
    let job = job.with("--initially-drop-ghost-table");
    let mut ended = job.run().await?;
    for _ in 0..30 {
        if ended.succeeded() {
            break;
        }
        ended.must_have_failed(&["is full"])?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        ended = job.run().await?;
    }
    ensure!(ended.succeeded(), "{ended}");
    scene.left("_t_del t").await
}

/// A table that came while the swap was postponed, under the name that the original is to get: it was dropped on MariaDB.
#[rstest]
#[case::mysql(Flavor::MySql)]
#[case::mariadb(Flavor::MariaDb)]
#[tokio::test]
async fn a_foreign_table_under_the_old_name_was_dropped(#[case] flavor: Flavor) -> anyhow::Result<()> {
    let mut scene = scene!(flavor);
    scene.fill(100).await?;
    let job =
        Job::execute(&scene.server, &scene.database, "t", "ADD COLUMN b int").with("--ok-to-drop-table");
    let flag = job.path("postpone");
    let job = job.flag("--postpone-cut-over-flag-file", flag.display());
    let mut running = job.start();
    running.says("postponing the cut-over").await?;
    scene.run("CREATE TABLE _t_del (precious int)").await?;
    scene.run("INSERT INTO _t_del VALUES (1)").await?;
    std::fs::remove_file(&flag)?;
    running.end().await?.must_have_failed(&["_t_del"])?;
    ensure!(scene.ask("SELECT CONCAT(precious, '') FROM _t_del").await? == "1");
    scene.untouched(100).await
}

/// Rows without a value in the key were left out of the new table, in silence.
#[rstest]
#[case::mysql(Flavor::MySql)]
#[case::mariadb(Flavor::MariaDb)]
#[tokio::test]
async fn rows_with_null_in_the_key_were_left_out(#[case] flavor: Flavor) -> anyhow::Result<()> {
    let mut scene = scene!(flavor);
    scene
        .run("CREATE TABLE n (id int PRIMARY KEY, u int, UNIQUE KEY (u))")
        .await?;
    scene.run("INSERT INTO n VALUES (1, 1), (2, NULL)").await?;
    let alter = "DROP PRIMARY KEY, ADD KEY (id)";
    let job = Job::execute(&scene.server, &scene.database, "n", alter).with("--allow-nullable-unique-key");
    job.fail(&["cannot be compared", "may be NULL", "--verify=off"])
        .await?;
    scene.left("n").await?;
    let job = job.with("--verify=off");
    job.fail(&["has rows with NULL in its key"]).await?;
    scene.run("UPDATE n SET u = 2 WHERE id = 2").await?;
    job.with("--initially-drop-ghost-table").succeed().await?;
    ensure!(scene.ask("SELECT CONCAT(COUNT(*), '') FROM n").await? == "2");
    Ok(())
}

/// Logged as text, and the text names only a view over the table, or a table whose trigger writes it.
#[rstest]
#[case::mysql(Flavor::MySql)]
#[case::mariadb(Flavor::MariaDb)]
#[tokio::test]
async fn statement_dml_through_a_view_or_trigger_ends_it(#[case] flavor: Flavor) -> anyhow::Result<()> {
    let mut scene = scene!(flavor);
    scene.fill(3000).await?;
    for sql in [
        "CREATE VIEW every AS SELECT * FROM t",
        "CREATE VIEW latest AS SELECT * FROM every WHERE id > 100",
        "CREATE TABLE notes (id int PRIMARY KEY)",
        "CREATE TABLE others (id int PRIMARY KEY)",
        "CREATE PROCEDURE note(note int) UPDATE t SET a = 1 WHERE id = note",
        "CREATE TRIGGER noted AFTER INSERT ON notes FOR EACH ROW CALL note(new.id)",
    ] {
        scene.run(sql).await?;
    }
    let database = scene.database.clone();
    let mut other = scene.server.mysql().await?;
    other.query_drop(format!("USE {database}")).await?;
    other
        .query_drop("SET SESSION binlog_format = 'STATEMENT'")
        .await?;
    for statement in ["UPDATE latest SET a = 2", "INSERT INTO notes VALUES (7)"] {
        let job = Job::execute(&scene.server, &database, "t", "ADD COLUMN b int")
            .with("--initially-drop-ghost-table");
        let mut running = job.slow().start();
        running.says("checkpoint success").await?;
        // What does not lead to the table ends nothing.
        other
            .query_drop("REPLACE INTO others SELECT max(id) FROM t")
            .await?;
        running
            .until("three checkpoints", |_, errors| {
                errors.matches("checkpoint success").count() >= 3
            })
            .await?;
        other.query_drop(statement).await?;
        running.end().await?.must_have_failed(&["somebody else"])?;
    }
    Ok(())
}

/// The application's own statement changes the table under us.
#[rstest]
#[case::mysql(Flavor::MySql)]
#[case::mariadb(Flavor::MariaDb)]
#[tokio::test]
async fn a_foreign_alter_ends_it(#[case] flavor: Flavor) -> anyhow::Result<()> {
    let mut scene = scene!(flavor);
    scene.fill(3000).await?;
    let job = Job::execute(&scene.server, &scene.database, "t", "ADD COLUMN b int");
    let mut running = job.clone().slow().start();
    running.says("checkpoint success").await?;
    let mut other = scene.server.mysql().await?;
    other
        .query_drop(format!("ALTER TABLE {}.t ADD COLUMN z int", scene.database))
        .await?;
    running
        .end()
        .await?
        .must_have_failed(&["somebody else ran a statement", "--initially-drop-ghost-table"])?;
    job.clone()
        .with("--resume")
        .fail(&["cannot resume", "--initially-drop-ghost-table"])
        .await?;
    scene.left("_t_ghc _t_ghk _t_gho t").await?;
    job.with("--initially-drop-ghost-table").succeed().await?;
    ensure!(scene.columns("t").await? == "id a s z b");
    Ok(())
}
