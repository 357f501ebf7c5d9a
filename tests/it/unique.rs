//! Unique keys that the ALTER adds, narrows or changes.

use std::time::Duration;

use anyhow::{Context, ensure};
use changeling_applier::error::ApplyError;
use changeling_applier::migration::MigrationError;
use changeling_applier::progress::{Ending, Phase};
use mysql_async::prelude::Queryable;
use rstest::rstest;

use crate::migrate::{flag_file, slow_copy};
use crate::rig::{self, Dice, On, Rig, outcome, reached, settled};
use crate::stage;

/// The unique key of the usual workload exists only on the new table: values move between rows all the time, and at no
/// instant do two rows share one.
#[rstest]
fn values_move_between_rows_under_a_new_unique_key(
    #[values(On::MySql, On::MariaDb)] on: On,
) -> anyhow::Result<()> {
    rig::on(on, async |mut rig| {
        for seed in rig::seeds() {
            let table = format!("orders{seed}");
            let mut load = rig.load(&table, 4_000, seed);
            // Writers that leave no processor to the server's other sessions keep every cycle from catching up.
            load.pause = Duration::from_millis(5);
            load.create().await?;
            rig.sql(&[format!("ALTER TABLE {table} DROP KEY u, ADD KEY plain_u (u)")])
                .await?;
            let running = load.start();
            let alter = "DROP KEY plain_u, ADD UNIQUE KEY u (u)";
            let summary = rig
                .swap(&table, alter)
                .await
                .with_context(|| format!("seed {seed}"))?;
            let report = settled(&load, running)
                .await
                .with_context(|| format!("seed {seed}"))?;
            eprintln!(
                "{on:?} new unique key, seed {seed}: {} transactions, {} lock failures, longest {:?}, locked {:?}, attempts {}",
                report.committed,
                report.lock_failures,
                report.longest,
                summary.state.locked_for.unwrap_or_default(),
                summary.state.cut_over_attempts
            );
        }
        Ok(())
    })
}

async fn duplicate(rig: &mut Rig, alter: &str, expected: [&str; 2]) -> anyhow::Result<()> {
    let before: String = definition(rig, "t").await?;
    let error = match rig.migrate(rig.settings("t", alter)).await {
        Ok(summary) => anyhow::bail!("{alter}: {:?}", summary.ending),
        Err(error) => error,
    };
    let text = error.to_string();
    eprintln!("{:?} {alter}: {text}", rig.on);
    ensure!(
        matches!(error, MigrationError::Apply(ApplyError::Duplicate { .. })),
        "{error:?}"
    );
    for row in expected {
        ensure!(text.contains(row), "{row} is not named: {text}");
    }
    ensure!(definition(rig, "t").await? == before, "the original was touched");
    Ok(())
}

async fn definition(rig: &mut Rig, table: &str) -> anyhow::Result<String> {
    let row: Option<(String, String)> = rig.conn.query_first(format!("SHOW CREATE TABLE {table}")).await?;
    Ok(row.context("no table")?.1)
}

/// Both rows are named, and the original stays as it was.
#[rstest]
fn a_real_duplicate_is_named(#[values(On::MySql, On::MariaDb)] on: On) -> anyhow::Result<()> {
    rig::on(on, async |mut rig| {
        rig.sql(&["CREATE TABLE t (id int PRIMARY KEY, v int, w varchar(20))"])
            .await?;
        let rows: Vec<String> = (1..=500)
            .map(|id| format!("({id}, {}, 'w{id}')", if id == 321 { 17 } else { id }))
            .collect();
        rig.sql(&[format!("INSERT INTO t VALUES {}", rows.join(","))])
            .await?;
        duplicate(&mut rig, "ADD UNIQUE KEY (v)", ["id=17", "id=321"]).await
    })
}

/// A duplicate that comes during the migration.
#[rstest]
fn a_duplicate_that_comes_later_is_named(#[values(On::MySql, On::MariaDb)] on: On) -> anyhow::Result<()> {
    rig::on(on, async |mut rig| {
        rig.sql(&[
            "CREATE TABLE t (id int PRIMARY KEY, v int)",
            "INSERT INTO t VALUES (1, 10), (2, 20), (3, 30)",
        ])
        .await?;
        let file = flag_file()?;
        let mut settings = rig.settings("t", "ADD UNIQUE KEY (v)");
        settings.cut_over.postpone_flag_file = Some(file.path().to_owned());
        let migration = stage::migrate(&rig.host, settings);
        reached(&migration, Phase::Postponing).await?;
        rig.sql(&["INSERT INTO t VALUES (4, 20)"]).await?;
        let error = match outcome(&migration).await {
            Ok(summary) => anyhow::bail!("{summary:?}"),
            Err(error) => error,
        };
        let text = error.to_string();
        ensure!(
            matches!(error, MigrationError::Apply(ApplyError::Duplicate { .. })),
            "{error:?}"
        );
        ensure!(text.contains("id=2") && text.contains("id=4"), "{text}");
        Ok(())
    })
}

/// A chain of values that were handed on is as long as the table, and no two rows ever share one. Once reported as a
/// duplicate, because a set of rows in the way grew by one row at a time and was given up.
#[rstest]
fn values_handed_on_by_every_row_are_no_duplicates(
    #[values(On::MySql, On::MariaDb)] on: On,
) -> anyhow::Result<()> {
    rig::on(on, async |mut rig| {
        rig.sql(&["CREATE TABLE t (id int PRIMARY KEY, u int NOT NULL)"])
            .await?;
        let rows: Vec<String> = (0..5000).map(|id| format!("({id}, {id})")).collect();
        rig.sql(&[format!("INSERT INTO t VALUES {}", rows.join(","))])
            .await?;
        let file = flag_file()?;
        let mut settings = rig.settings("t", "ADD UNIQUE KEY u (u)");
        settings.cut_over.postpone_flag_file = Some(file.path().to_owned());
        let migration = stage::migrate(&rig.host, settings);
        reached(&migration, Phase::Postponing).await?;
        for _ in 0..6 {
            rig.sql(&["UPDATE t SET u = u + 1", "UPDATE t SET u = (u * 7) % 20011"])
                .await?;
        }
        file.close()?;
        let summary = outcome(&migration).await?;
        ensure!(summary.ending == Ending::Swapped);
        rig.assert_same("t", "_t_del").await?;
        Ok(())
    })
}

/// The same under the lock: more rows than a batch have handed their values on when nobody can write any more.
#[rstest]
fn the_last_rows_may_have_handed_values_on(#[values(On::MySql, On::MariaDb)] on: On) -> anyhow::Result<()> {
    rig::on(on, async |mut rig| {
        for round in 0..3 {
            let table = format!("t{round}");
            rig.sql(&[format!(
                "CREATE TABLE {table} (id int PRIMARY KEY, u int NOT NULL)"
            )])
            .await?;
            let rows: Vec<String> = (0..4000).map(|id| format!("({id}, {id})")).collect();
            rig.sql(&[format!("INSERT INTO {table} VALUES {}", rows.join(","))])
                .await?;
            let migration = stage::migrate(&rig.host, rig.settings(&table, "ADD UNIQUE KEY u (u)"));
            // Until the tables are swapped: from then on two rows must not share a value for a moment.
            let shift = format!("UPDATE {table} SET u = u + 1 ORDER BY u DESC");
            while migration.state().borrow().phase < Phase::CuttingOver && rig.sql(&[&shift]).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            let summary = outcome(&migration).await?;
            ensure!(summary.ending == Ending::Swapped);
            let odd: Option<u64> = rig
                .conn
                .query_first(format!(
                    "SELECT COUNT(*) FROM _{table}_del o LEFT JOIN {table} n ON n.id = o.id WHERE n.u IS NULL OR n.u < o.u"
                ))
                .await?;
            ensure!(odd == Some(0), "{odd:?} rows lag behind");
        }
        Ok(())
    })
}

/// Unique over a prefix, over an expression, over fewer columns, over text that compares more loosely.
#[rstest]
fn narrower_unique_keys(#[values(On::MySql, On::MariaDb)] on: On) -> anyhow::Result<()> {
    rig::on(on, async |mut rig| {
        let mut alters = vec![
            (
                "DROP KEY vw, ADD UNIQUE KEY vw (v)",
                "(7, 1, 'x')",
                ["id=1", "id=7"],
            ),
            ("ADD UNIQUE KEY p (w(2))", "(7, 9, 'a1 other')", ["id=1", "id=7"]),
            (
                "MODIFY w varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci, ADD UNIQUE KEY w (w)",
                "(7, 9, 'A1')",
                ["id=1", "id=7"],
            ),
        ];
        if on == On::MySql {
            alters.push(("ADD UNIQUE KEY f ((lower(w)))", "(7, 9, 'A1')", ["id=1", "id=7"]));
            alters.push(("ADD UNIQUE KEY f ((v % 100))", "(7, 101, 'zz')", ["id=1", "id=7"]));
        }
        for (alter, row, named) in alters {
            let create = "CREATE TABLE t (id int PRIMARY KEY, v int, w varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin, \
                          UNIQUE KEY vw (v, w))";
            rig.sql(&["DROP TABLE IF EXISTS t, _t_gho, _t_ghc, _t_ghk, _t_del", create])
                .await?;
            rig.sql(&["INSERT INTO t VALUES (1, 1, 'a1'), (2, 2, 'b2'), (3, 3, 'c3')"])
                .await?;
            // Values that move on are no duplicates.
            let mut settings = rig.settings("t", alter);
            let file = flag_file()?;
            settings.cut_over.postpone_flag_file = Some(file.path().to_owned());
            let migration = stage::migrate(&rig.host, settings);
            reached(&migration, Phase::Postponing)
                .await
                .with_context(|| alter.to_owned())?;
            for _ in 0..30 {
                rig.sql(&[
                    "BEGIN",
                    "UPDATE t SET w = 'zz', v = 50 WHERE id = 1",
                    "UPDATE t SET w = 'a1', v = 1 WHERE id = 2",
                    "UPDATE t SET w = 'b2', v = 2 WHERE id = 1",
                    "COMMIT",
                    "BEGIN",
                    "UPDATE t SET w = 'zz', v = 50 WHERE id = 1",
                    "UPDATE t SET w = 'b2', v = 2 WHERE id = 2",
                    "UPDATE t SET w = 'a1', v = 1 WHERE id = 1",
                    "COMMIT",
                ])
                .await?;
                tokio::time::sleep(Duration::from_millis(7)).await;
            }
            file.close()?;
            let summary = outcome(&migration).await.with_context(|| alter.to_owned())?;
            ensure!(summary.ending == Ending::Swapped);
            let rows: Vec<(i32, i32, String)> = rig.conn.query("SELECT id, v, w FROM t ORDER BY id").await?;
            ensure!(
                rows == [
                    (1, 1, "a1".to_owned()),
                    (2, 2, "b2".to_owned()),
                    (3, 3, "c3".to_owned())
                ],
                "{rows:?}"
            );
            // Again, with a row too many.
            rig.sql(&["DROP TABLE t, _t_del", create]).await?;
            rig.sql(&[
                "INSERT INTO t VALUES (1, 1, 'a1'), (2, 2, 'b2'), (3, 3, 'c3')".to_owned(),
                format!("INSERT INTO t VALUES {row}"),
            ])
            .await?;
            duplicate(&mut rig, alter, named).await?;
        }
        Ok(())
    })
}

/// The primary key gains a column, loses one, becomes another key.
#[rstest]
fn the_primary_key_changes(#[values(On::MySql, On::MariaDb)] on: On) -> anyhow::Result<()> {
    rig::on(on, async |mut rig| {
        let wide = "CREATE TABLE t (id int NOT NULL, v int NOT NULL, w varchar(30) NOT NULL, PRIMARY KEY (id, v), UNIQUE KEY w (w))";
        let narrow = "CREATE TABLE t (id int NOT NULL, v int NOT NULL, w varchar(30) NOT NULL, PRIMARY KEY (id), UNIQUE KEY w (w))";
        for (create, alter) in [
            (narrow, "DROP PRIMARY KEY, ADD PRIMARY KEY (id, v)"),
            (narrow, "DROP PRIMARY KEY, ADD PRIMARY KEY (v, id)"),
            (wide, "DROP PRIMARY KEY, ADD PRIMARY KEY (id)"),
            (
                narrow,
                "DROP PRIMARY KEY, DROP KEY w, ADD PRIMARY KEY (w), ADD UNIQUE KEY id (id)",
            ),
            (narrow, "DROP PRIMARY KEY, DROP KEY w, ADD PRIMARY KEY (w)"),
            (narrow, "DROP COLUMN id, DROP PRIMARY KEY"),
        ] {
            rig.sql(&["DROP TABLE IF EXISTS t, _t_gho, _t_ghc, _t_ghk, _t_del", create])
                .await?;
            let rows: Vec<String> = (1..=1500)
                .map(|id| format!("({id}, {}, 'w{id}')", id % 7))
                .collect();
            rig.sql(&[format!("INSERT INTO t VALUES {}", rows.join(","))])
                .await?;
            let mut settings = rig.settings("t", alter);
            slow_copy(&mut settings);
            settings.copy.chunk_size = 50;
            let file = flag_file()?;
            settings.cut_over.postpone_flag_file = Some(file.path().to_owned());
            let migration = stage::migrate(&rig.host, settings);
            reached(&migration, Phase::Copying)
                .await
                .with_context(|| alter.to_owned())?;
            let mut dice = Dice(4);
            for turn in 0..300 {
                let (id, other) = (1 + dice.below(1500), 1 + dice.below(3000));
                let sql = match dice.below(5) {
                    0 => format!("UPDATE t SET v = {} WHERE id = {id}", dice.below(9)),
                    1 => format!("UPDATE t SET w = 'x{turn}' WHERE id = {id}"),
                    2 => format!("DELETE FROM t WHERE id = {id}"),
                    // With the wide key too, an id is given out once: else the narrow one could not be had.
                    3 => format!("UPDATE t SET id = {} WHERE id = {id}", 5000 + turn),
                    _ => format!(
                        "INSERT IGNORE INTO t SELECT {other}, 3, 'n{turn}' FROM DUAL WHERE NOT EXISTS (SELECT 1 FROM t WHERE id = {other})"
                    ),
                };
                rig.sql(&[sql]).await?;
            }
            file.close()?;
            let summary = outcome(&migration).await.with_context(|| alter.to_owned())?;
            ensure!(summary.ending == Ending::Swapped, "{alter}");
            let rows = rig
                .assert_same("t", "_t_del")
                .await
                .with_context(|| alter.to_owned())?;
            eprintln!("{on:?} {alter}: {rows} rows");
        }
        Ok(())
    })
}
