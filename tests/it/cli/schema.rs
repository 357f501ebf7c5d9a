//! What becomes of the table's definition: instant changes, triggers, foreign keys, renames, values that do not fit.

use anyhow::ensure;
use changeling_support::Flavor;
use rstest::rstest;

use super::run::Job;
use super::stage::scene;

#[rstest]
#[case::mysql(Flavor::MySql)]
#[case::mariadb(Flavor::MariaDb)]
#[tokio::test]
async fn the_server_does_at_once_what_it_can(#[case] flavor: Flavor) -> anyhow::Result<()> {
    let mut scene = scene!(flavor);
    scene.fill(1000).await?;
    let instant =
        |alter: &str| Job::execute(&scene.server, &scene.database, "t", alter).with("--attempt-instant-ddl");
    let (at_once, copied) = (instant("ADD COLUMN b int"), instant("MODIFY a bigint NOT NULL"));
    let ended = at_once.succeed().await?;
    ensure!(ended.errors.contains("the server changed it at once"), "{ended}");
    scene.left("t").await?;
    ensure!(scene.columns("t").await? == "id a s b");
    let ended = copied.succeed().await?;
    ensure!(
        ended.errors.contains("not instant: ") && ended.errors.contains("1000 rows copied"),
        "{ended}"
    );
    scene.left("_t_del t").await
}

#[rstest]
#[case::mysql(Flavor::MySql)]
#[case::mariadb(Flavor::MariaDb)]
#[tokio::test]
async fn triggers_come_along_with_their_definer_and_mode(#[case] flavor: Flavor) -> anyhow::Result<()> {
    let mut scene = scene!(flavor);
    scene.fill(100).await?;
    scene
        .run("CREATE TABLE seen (who varchar(100), what varchar(100))")
        .await?;
    scene
        .run("CREATE USER IF NOT EXISTS 'definer'@'localhost' IDENTIFIED BY 'Definer-1'")
        .await?;
    let database = scene.database.clone();
    scene
        .run(&format!("GRANT ALL ON {database}.* TO 'definer'@'localhost'"))
        .await?;
    scene
        .run("SET SESSION sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT'")
        .await?;
    scene
        .run(
            "CREATE DEFINER='definer'@'localhost' TRIGGER note AFTER INSERT ON t FOR EACH ROW \
             INSERT INTO seen VALUES (CURRENT_USER(), 'a' || NEW.\"a\")",
        )
        .await?;
    scene.run("SET SESSION sql_mode = DEFAULT").await?;
    let job =
        Job::execute(&scene.server, &scene.database, "t", "ADD COLUMN b int").with("--ok-to-drop-table");
    job.fail(&["found triggers on", "--include-triggers"]).await?;
    scene.left("seen t").await?;
    let job = job
        .with("--include-triggers")
        .flag("--trigger-suffix", "_v2")
        .with("--remove-trigger-suffix-if-exists");
    job.succeed().await?;
    scene.run("INSERT INTO t (id, a) VALUES (1000, 7)").await?;
    let seen = scene.ask("SELECT GROUP_CONCAT(who, ' ', what) FROM seen").await?;
    ensure!(seen == "definer@localhost a7", "{seen}");
    let names = "SELECT GROUP_CONCAT(TRIGGER_NAME, ' ', SQL_MODE) FROM information_schema.TRIGGERS WHERE \
                 TRIGGER_SCHEMA = DATABASE()";
    let there = scene.ask(names).await?;
    ensure!(
        there.starts_with("note_v2 ") && there.contains("ANSI_QUOTES"),
        "{there}"
    );
    // And back to the name it had.
    let alter = "ADD COLUMN c int";
    job.without("--alter").flag("--alter", alter).succeed().await?;
    let there = scene.ask(names).await?;
    ensure!(
        there.starts_with("note ") && there.contains("ANSI_QUOTES"),
        "{there}"
    );
    Ok(())
}

#[rstest]
#[case::mysql(Flavor::MySql)]
#[case::mariadb(Flavor::MariaDb)]
#[tokio::test]
async fn triggers_of_an_attempt_that_fails_are_gone(#[case] flavor: Flavor) -> anyhow::Result<()> {
    let mut scene = scene!(flavor);
    scene.fill(100).await?;
    scene.run("CREATE TABLE seen (what varchar(100))").await?;
    scene
        .run("CREATE TRIGGER note AFTER INSERT ON t FOR EACH ROW INSERT INTO seen VALUES (NEW.a)")
        .await?;
    let job = Job::execute(&scene.server, &scene.database, "t", "ADD COLUMN b int")
        .with("--include-triggers")
        .flag("--trigger-suffix", "_v2")
        .flag("--default-retries", 2);
    // Whoever has read the table keeps the swap from its lock.
    let mut reader = scene.server.mysql().await?;
    mysql_async::prelude::Queryable::query_drop(
        &mut reader,
        format!("BEGIN; SELECT * FROM {}.t LIMIT 1", scene.database),
    )
    .await?;
    job.fail(&["the cut-over failed 2 times", "lock"]).await?;
    let there = scene
        .ask("SELECT GROUP_CONCAT(TRIGGER_NAME) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = DATABASE()")
        .await?;
    ensure!(there == "note", "{there}");
    drop(reader);
    scene.left("_t_ghc _t_ghk _t_gho seen t").await?;
    job.with("--resume").succeed().await?;
    scene.run("INSERT INTO t (id, a) VALUES (1000, 7)").await?;
    ensure!(scene.ask("SELECT COUNT(*) FROM seen").await? == "1");
    Ok(())
}

#[rstest]
#[case::mysql(Flavor::MySql)]
#[case::mariadb(Flavor::MariaDb)]
#[tokio::test]
async fn foreign_keys_are_refused_or_discarded(#[case] flavor: Flavor) -> anyhow::Result<()> {
    let mut scene = scene!(flavor);
    scene.run("CREATE TABLE p (id int NOT NULL PRIMARY KEY)").await?;
    scene.run("CREATE TABLE t (id int NOT NULL PRIMARY KEY, p int, CONSTRAINT f FOREIGN KEY (p) REFERENCES p (id))").await?;
    scene.run("INSERT INTO p VALUES (1)").await?;
    scene.run("INSERT INTO t VALUES (1, 1)").await?;
    let child = Job::execute(&scene.server, &scene.database, "t", "ADD COLUMN b int");
    child
        .fail(&[
            "Child-side foreign keys are not supported",
            "--discard-foreign-keys",
        ])
        .await?;
    Job::execute(&scene.server, &scene.database, "p", "ADD COLUMN b int")
        .with("--discard-foreign-keys")
        .fail(&["Parent-side foreign keys are not supported"])
        .await?;
    scene.left("p t").await?;
    child
        .with("--discard-foreign-keys")
        .with("--ok-to-drop-table")
        .succeed()
        .await?;
    scene.run("INSERT INTO t (id, p) VALUES (2, 99)").await?;
    scene.left("p t").await
}

#[rstest]
#[case::mysql(Flavor::MySql)]
#[case::mariadb(Flavor::MariaDb)]
#[tokio::test]
async fn renames_are_refused_approved_or_skipped(#[case] flavor: Flavor) -> anyhow::Result<()> {
    for (flag, values) in [
        (None, "-"),
        (Some("--approve-renamed-columns"), "1,2,3"),
        (Some("--skip-renamed-columns"), "0,0,0"),
    ] {
        let mut scene = scene!(flavor);
        scene.fill(3).await?;
        let job = Job::execute(
            &scene.server,
            &scene.database,
            "t",
            "CHANGE a b int NOT NULL DEFAULT 0",
        );
        match flag {
            None => {
                job.fail(&[
                    "believes the ALTER statement renames columns",
                    "--approve-renamed-columns",
                ])
                .await?;
                scene.untouched(3).await?;
                scene.left("t").await?;
            }
            Some(flag) => {
                job.with(flag).succeed().await?;
                let there = scene.ask("SELECT GROUP_CONCAT(b ORDER BY id) FROM t").await?;
                ensure!(there == values, "{flag}: {there}");
            }
        }
    }
    Ok(())
}

#[rstest]
#[case::mysql(Flavor::MySql)]
#[case::mariadb(Flavor::MariaDb)]
#[tokio::test]
async fn values_that_do_not_fit_stop_it_or_are_cut(#[case] flavor: Flavor) -> anyhow::Result<()> {
    let mut scene = scene!(flavor);
    scene.fill(300).await?;
    scene
        .run("UPDATE t SET s = 'much too long' WHERE id = 217")
        .await?;
    let job = Job::execute(&scene.server, &scene.database, "t", "MODIFY s varchar(8)");
    job.fail(&[
        "Data too long for column 's'",
        "id=217",
        "--panic-on-warnings=false",
    ])
    .await
    .or(job
        .clone()
        .with("--initially-drop-ghost-table")
        .fail(&["Data truncated for column 's'", "id=217"])
        .await)?;
    scene.untouched(300).await?;
    let ended = job
        .with("--panic-on-warnings=false")
        .with("--initially-drop-ghost-table")
        .run()
        .await?;
    ensure!(ended.succeeded(), "{ended}");
    ensure!(scene.ask("SELECT s FROM t WHERE id = 217").await? == "much too");
    Ok(())
}

#[rstest]
#[case::mysql(Flavor::MySql)]
#[case::mariadb(Flavor::MariaDb)]
#[tokio::test]
async fn zero_dates_need_leave(#[case] flavor: Flavor) -> anyhow::Result<()> {
    let mut scene = scene!(flavor);
    scene.run("SET SESSION sql_mode = ''").await?;
    scene
        .run("CREATE TABLE t (id int NOT NULL PRIMARY KEY, d date NOT NULL DEFAULT '0000-00-00')")
        .await?;
    scene
        .run("INSERT INTO t VALUES (1, '0000-00-00'), (2, '2024-00-01')")
        .await?;
    let job = Job::execute(&scene.server, &scene.database, "t", "ADD COLUMN b int");
    if flavor == Flavor::MySql {
        // MariaDB's own default leaves zero dates alone.
        job.fail(&["--allow-zero-in-date"]).await?;
        scene.left("t").await?;
    }
    job.with("--allow-zero-in-date")
        .with("--skip-strict-mode")
        .with("--initially-drop-ghost-table")
        .succeed()
        .await?;
    ensure!(
        scene
            .ask("SELECT GROUP_CONCAT(CAST(d AS char) ORDER BY id) FROM t")
            .await?
            == "0000-00-00,2024-00-01"
    );
    Ok(())
}
