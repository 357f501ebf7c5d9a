//! What once went wrong: lost, stale and resurrected rows, and locks that were held for too long.

use std::time::Duration;

use anyhow::{Context, ensure};
use changeling_applier::migration::MigrationHandle;
use changeling_applier::progress::{Ending, Phase};
use changeling_applier::settings::{ForeignKeys, Permission, Resume};
use changeling_support::FaultProxy;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use rstest::rstest;
use tokio::time::{Instant, sleep, timeout};

use crate::migrate::flag_file;
use crate::rig::{self, On, Rig, outcome, reached};
use crate::stage;

const ROWS: usize = 100;

async fn table(rig: &mut Rig) -> anyhow::Result<()> {
    let rows: Vec<String> = (1..=ROWS).map(|id| format!("({id}, 0)")).collect();
    let rows = format!("INSERT INTO t VALUES {}", rows.join(", "));
    rig.sql(&[
        "CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL)",
        rows.as_str(),
    ])
    .await
}

/// Has the sentinel of the next attempt wait for a row lock, under the cut-over's lock, until the session ends.
async fn sentinel_held(rig: &Rig) -> anyhow::Result<Conn> {
    let mut session = rig.session().await?;
    session.query_drop("START TRANSACTION").await?;
    session
        .query_drop("INSERT INTO _t_ghc (id, hint, value) VALUES (2, 'state', 'x') ON DUPLICATE KEY UPDATE value = 'y'")
        .await?;
    Ok(session)
}

/// Waits until the sentinel is being written: the table is locked then.
async fn locked(rig: &mut Rig) -> anyhow::Result<()> {
    let sql = format!(
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'INSERT INTO `{}`.`\\_t\\_ghc`%state%'",
        rig.schema
    );
    for _ in 0..20_000 {
        if rig.value::<u64>(&sql).await? > 0 {
            return Ok(());
        }
        sleep(Duration::from_millis(2)).await;
    }
    anyhow::bail!("the sentinel was never written")
}

/// Deletes that a foreign key carries out are in no log of MariaDB's: the copy kept the rows, and was called proven.
#[rstest]
fn cascades_that_are_not_logged_are_refused(#[values(On::MySql, On::MariaDb)] on: On) -> anyhow::Result<()> {
    rig::on(on, async |mut rig| {
        rig.sql(&[
            "CREATE TABLE p (id int PRIMARY KEY)",
            "CREATE TABLE t (id int PRIMARY KEY, p int, FOREIGN KEY (p) REFERENCES p (id) ON DELETE CASCADE)",
            "INSERT INTO p VALUES (1), (2), (3), (4)",
            "INSERT INTO t SELECT id, id FROM p",
        ])
        .await?;
        let mut settings = rig.settings("t", "ADD COLUMN z int");
        settings.foreign_keys = ForeignKeys::Discard;
        let file = flag_file()?;
        settings.cut_over.postpone_flag_file = Some(file.path().to_owned());
        let migration = stage::migrate(&rig.host, settings);
        // MySQL carries them out above InnoDB, and logs them, from 9.6 on.
        let logged = on == On::MySql
            && rig
                .value::<u64>(
                    "SELECT COUNT(*) FROM performance_schema.global_variables \
                     WHERE VARIABLE_NAME = 'innodb_native_foreign_keys' AND VARIABLE_VALUE = 'OFF'",
                )
                .await?
                == 1;
        if !logged {
            let refused = outcome(&migration)
                .await
                .err()
                .context("it was not refused")?
                .to_string();
            ensure!(
                refused.contains("cascades that the binary log does not show"),
                "{refused}"
            );
            return Ok(());
        }
        reached(&migration, Phase::Postponing).await?;
        rig.sql(&["DELETE FROM p WHERE id <= 2"]).await?;
        file.close()?;
        ensure!(outcome(&migration).await?.ending == Ending::Swapped);
        ensure!(
            rig.value::<u64>("SELECT COUNT(*) FROM t").await? == 2,
            "deleted rows are back"
        );
        Ok(())
    })
}

async fn postponed(
    rig: &Rig,
    lock_timeout: Duration,
) -> anyhow::Result<(MigrationHandle, tempfile::NamedTempFile)> {
    let mut settings = rig.settings("t", "ADD COLUMN z int");
    settings.cut_over.lock_timeout = lock_timeout;
    let file = flag_file()?;
    settings.cut_over.postpone_flag_file = Some(file.path().to_owned());
    let migration = stage::migrate(&rig.host, settings);
    reached(&migration, Phase::Postponing).await?;
    Ok((migration, file))
}

/// On MariaDB a TRUNCATE that came while the table was locked, before the RENAME, was carried out before it, on the
/// table that the RENAME then took away.
#[rstest]
fn a_truncate_in_front_of_the_rename_is_not_undone(
    #[values(On::MySql, On::MariaDb)] on: On,
) -> anyhow::Result<()> {
    rig::on(on, async |mut rig| {
        table(&mut rig).await?;
        let (migration, file) = postponed(&rig, Duration::from_secs(5)).await?;
        let held = sentinel_held(&rig).await?;
        file.close()?;
        locked(&mut rig).await?;
        let mut other = rig.session().await?;
        let truncate = tokio::spawn(async move { other.query_drop("TRUNCATE TABLE t").await });
        let waiting = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE = 'Waiting for table metadata lock' \
             AND INFO = 'TRUNCATE TABLE t'";
        while rig.value::<u64>(waiting).await? == 0 {
            sleep(Duration::from_millis(2)).await;
        }
        held.disconnect().await?;
        truncate.await??;
        let swapped = outcome(&migration).await;
        ensure!(
            rig.value::<u64>("SELECT COUNT(*) FROM t").await? == 0,
            "truncated rows are back: {swapped:?}"
        );
        Ok(())
    })
}

/// The commit of a sentinel was waited for without end, and tried again and again, under the lock.
#[rstest]
fn a_sentinel_that_cannot_be_committed_does_not_hold_the_lock(
    #[values(On::MySql, On::MariaDb)] on: On,
) -> anyhow::Result<()> {
    rig::on(on, async |mut rig| {
        table(&mut rig).await?;
        let (migration, file) = postponed(&rig, Duration::from_secs(1)).await?;
        let held = sentinel_held(&rig).await?;
        file.close()?;
        locked(&mut rig).await?;
        let began = Instant::now();
        rig.sql(&["UPDATE t SET a = 1 WHERE id = 1"]).await?;
        let waited = began.elapsed();
        held.disconnect().await?;
        ensure!(waited < Duration::from_secs(5), "a writer waited {waited:?}");
        ensure!(outcome(&migration).await?.ending == Ending::Swapped);
        ensure!(rig.value::<u64>("SELECT SUM(a) FROM t").await? == 1);
        Ok(())
    })
}

/// A process that was stopped, or a host that vanished, kept the table locked for as long as `wait_timeout` allowed: a
/// day.
#[rstest]
fn a_client_that_falls_silent_does_not_keep_the_lock(
    #[values(On::MySql, On::MariaDb)] on: On,
) -> anyhow::Result<()> {
    rig::on(on, async |mut rig| {
        table(&mut rig).await?;
        let proxy = FaultProxy::before(&rig.server).await?;
        let mut settings = rig.settings("t", "ADD COLUMN z int");
        settings.inspected.host = proxy.host();
        settings.inspected.port = proxy.port();
        settings.skip_port_validation = Permission::Granted;
        settings.cut_over.lock_timeout = Duration::from_secs(1);
        let file = flag_file()?;
        settings.cut_over.postpone_flag_file = Some(file.path().to_owned());
        let migration = stage::migrate(&rig.host, settings);
        reached(&migration, Phase::Postponing).await?;
        let held = sentinel_held(&rig).await?;
        file.close()?;
        locked(&mut rig).await?;
        proxy.stall();
        held.disconnect().await?;
        let update = rig.sql(&["UPDATE t SET a = 1 WHERE id = 1"]);
        let written = timeout(Duration::from_secs(15), update).await;
        proxy.resume();
        written.context("the table stays locked")??;
        ensure!(outcome(&migration).await?.ending == Ending::Swapped);
        ensure!(rig.value::<u64>("SELECT SUM(a) FROM t").await? == 1);
        Ok(())
    })
}

/// A connection lost while the ghost table was given its name for the swap ended the run, and left the table under it.
/// (MySQL swaps under the lock itself, and needs no such names.)
#[test]
fn connections_lost_while_names_change_cost_no_more_than_an_attempt() -> anyhow::Result<()> {
    rig::on(On::MariaDb, async |mut rig| {
        const KILLS: usize = 12;
        table(&mut rig).await?;
        let (migration, file) = postponed(&rig, Duration::from_secs(3)).await?;
        // A reader of the ghost table makes whoever renames it wait, so that he is seen.
        let mut reader = rig.session().await?;
        reader.query_drop("START TRANSACTION").await?;
        reader.query_drop("SELECT COUNT(*) FROM _t_gho").await?;
        file.close()?;
        let ours = format!(
            "SELECT ID FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() AND (INFO LIKE '%RENAME TABLE%{0}%' \
             OR INFO LIKE '%LOCK TABLES%{0}%' OR INFO LIKE '%CREATE TABLE%{0}%' OR INFO LIKE '%DROP TABLE%{0}%')",
            rig.schema
        );
        let mut watcher = rig.session().await?;
        let mut killed = 0;
        let began = Instant::now();
        while killed < KILLS && began.elapsed() < Duration::from_secs(60) {
            for id in rig.session().await?.query::<u64, _>(&ours).await? {
                // Gone already is as good.
                let _ = rig
                    .session()
                    .await?
                    .query_drop(format!("KILL CONNECTION {id}"))
                    .await;
                killed += 1;
                if killed == 2 {
                    // From here on it is met at whatever it does, not only while it waits.
                    reader.query_drop("COMMIT").await?;
                }
            }
        }
        ensure!(killed >= 2, "nothing of ours was seen");
        ensure!(outcome(&migration).await?.ending == Ending::Swapped);
        ensure!(rig.value::<usize>("SELECT COUNT(*) FROM t").await? == ROWS);
        let tables: Vec<String> = watcher
            .query("SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE()")
            .await?;
        let others = |table: &&String| !["t", "_t_del"].contains(&table.as_str());
        ensure!(tables.iter().filter(others).count() == 0, "{tables:?}");
        Ok(())
    })
}

/// A connection lost while the ghost table was made left it behind without a word on whose it is, and every later run
/// refused.
#[rstest]
fn a_connection_lost_while_the_ghost_table_is_made_leaves_nothing(
    #[values(On::MySql, On::MariaDb)] on: On,
) -> anyhow::Result<()> {
    rig::on(on, async |mut rig| {
        table(&mut rig).await?;
        // A table made like another waits for whoever has that one for himself.
        let mut holder = rig.session().await?;
        let mut watcher = rig.session().await?;
        let making = format!(
            "SELECT ID FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() AND INFO LIKE '%CREATE TABLE%{}%LIKE%'",
            rig.schema
        );
        holder.query_drop("LOCK TABLES t WRITE").await?;
        let migration = stage::migrate(&rig.host, rig.settings("t", "ADD COLUMN z int"));
        let id = loop {
            if let Some(id) = watcher.query_first::<u64, _>(&making).await? {
                break id;
            }
            ensure!(
                migration.state().borrow().phase == Phase::Preparing,
                "it made the table"
            );
            sleep(Duration::from_millis(1)).await;
        };
        watcher.query_drop(format!("KILL CONNECTION {id}")).await?;
        holder.query_drop("UNLOCK TABLES").await?;
        ensure!(outcome(&migration).await.is_err(), "the loss was not noticed");
        let tables: Vec<String> = watcher.query("SHOW TABLES").await?;
        ensure!(tables == ["t"], "{tables:?}");
        let again = stage::migrate(&rig.host, rig.settings("t", "ADD COLUMN z int"));
        ensure!(outcome(&again).await?.ending == Ending::Swapped);
        Ok(())
    })
}

/// On tables with fewer rows than a chunk the row was not named, and on others its neighbour was.
#[rstest]
fn the_row_with_a_value_that_does_not_fit_is_named(
    #[values(On::MySql, On::MariaDb)] on: On,
    #[values(1, 2, 3, 10, 1001)] rows: u64,
    #[values("MODIFY a int NOT NULL", "ADD CONSTRAINT cc CHECK (a > 0)")] alter: &str,
) -> anyhow::Result<()> {
    rig::on(on, async |mut rig| {
        let bad = if rows == 1 { 1 } else { 2 };
        let value = if alter.starts_with("ADD") { "-1" } else { "NULL" };
        let values: Vec<String> = (1..=rows)
            .map(|id| format!("({id}, {})", if id == bad { value } else { "7" }))
            .collect();
        let fill = format!("INSERT INTO t VALUES {}", values.join(", "));
        rig.sql(&["CREATE TABLE t (id int PRIMARY KEY, a int)", fill.as_str()])
            .await?;
        let migration = stage::migrate(&rig.host, rig.settings("t", alter));
        let error = outcome(&migration).await.err().context("it fits")?.to_string();
        ensure!(error.contains(&format!("(row id={bad})")), "{error}");
        Ok(())
    })
}

/// Nothing wrote to a changelog that was gone, and the run waited for its own heartbeat.
#[rstest]
fn a_changelog_that_is_gone_cannot_be_resumed_from(
    #[values(On::MySql, On::MariaDb)] on: On,
) -> anyhow::Result<()> {
    rig::on(on, async |mut rig| {
        table(&mut rig).await?;
        let file = flag_file()?;
        let mut settings = rig.settings("t", "ADD COLUMN z int");
        settings.cut_over.postpone_flag_file = Some(file.path().to_owned());
        let migration = stage::migrate(&rig.host, settings.clone());
        reached(&migration, Phase::Postponing).await?;
        migration.stop();
        ensure!(outcome(&migration).await.is_err());
        rig.sql(&["DROP TABLE _t_ghc"]).await?;
        settings.checkpoint.resume = Resume::Require;
        let resumed = stage::migrate(&rig.host, settings);
        let error = outcome(&resumed).await.err().context("it went on")?.to_string();
        ensure!(error.contains("_t_ghc") && error.contains("is gone"), "{error}");
        Ok(())
    })
}

/// A run killed between making its checkpoint table and the first row in it could not be resumed.
#[rstest]
fn an_empty_checkpoint_table_is_begun_anew(#[values(On::MySql, On::MariaDb)] on: On) -> anyhow::Result<()> {
    rig::on(on, async |mut rig| {
        table(&mut rig).await?;
        rig.sql(&["CREATE TABLE _t_ghk (id int NOT NULL PRIMARY KEY, updated timestamp, state longtext)"])
            .await?;
        let mut settings = rig.settings("t", "ADD COLUMN z int");
        settings.checkpoint.resume = Resume::Require;
        let migration = stage::migrate(&rig.host, settings.clone());
        ensure!(outcome(&migration).await?.ending == Ending::Swapped);
        // One that was emptied beside a ghost table says nothing about that.
        rig.sql(&[
            "DROP TABLE _t_del",
            "CREATE TABLE _t_ghk (id int NOT NULL PRIMARY KEY, updated timestamp, state longtext)",
            "CREATE TABLE _t_gho (id int PRIMARY KEY)",
        ])
        .await?;
        let refused = stage::migrate(&rig.host, settings);
        let error = outcome(&refused).await.err().context("it went on")?.to_string();
        ensure!(
            error.contains("_t_gho") && error.contains("already exists"),
            "{error}"
        );
        Ok(())
    })
}
