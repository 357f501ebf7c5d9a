//! Whole migrations under load, and the tables that are special.

use std::time::Duration;

use anyhow::{Context, ensure};
use changeling_applier::error::ApplyError;
use changeling_applier::migration::MigrationError;
use changeling_applier::progress::{Ending, Phase};
use changeling_applier::settings::Permission;
use changeling_core::ident::quote;
use changeling_support::ServerSpec;
use mysql_async::prelude::Queryable;
use rstest::rstest;

use crate::rig::{self, On, Rig, outcome, reached, scale, seeds, settled};
use crate::stage;

/// The same table, workload and final comparison on each server, for each seed.
#[rstest]
fn no_row_is_lost_under_load(#[values(On::MySql, On::MariaDb)] on: On) -> anyhow::Result<()> {
    rig::on(on, async |mut rig| {
        for seed in seeds() {
            let load = rig.load(
                &format!("orders{seed}"),
                i64::try_from(scale("CHANGELING_ROWS", 10_000))?,
                seed,
            );
            load.create().await?;
            let running = load.start();
            tokio::time::sleep(Duration::from_millis(200)).await;
            let alter = "ADD COLUMN extra int NOT NULL DEFAULT 7, MODIFY v bigint NOT NULL";
            let summary = rig.swap(&format!("orders{seed}"), alter).await?;
            tokio::time::sleep(Duration::from_millis(200)).await;
            let report = settled(&load, running)
                .await
                .with_context(|| format!("seed {seed}"))?;
            let extra: Vec<i64> = rig
                .conn
                .query(format!("SELECT DISTINCT extra FROM {}", load.table))
                .await?;
            ensure!(extra == [7], "the ALTER is not in place: {extra:?}");
            eprintln!(
                "{on:?} seed {seed}: {} transactions, {} lock failures, longest {:?}, p95 {:?}, locked {:?}, attempts {}, \
                 total {:?}",
                report.committed,
                report.lock_failures,
                report.longest,
                report.percentile(95),
                summary.state.locked_for.unwrap_or_default(),
                summary.state.cut_over_attempts,
                summary.state.elapsed
            );
            ensure!(
                report.lock_failures == 0,
                "a writer alone on its rows met a lock: {:?}",
                report.first_lock_failure
            );
        }
        Ok(())
    })
}

/// From 11.4 MariaDB writes its binary log in another way, and no migration got past its first transaction.
#[test]
fn mariadb_11_8_is_migrated_under_load() -> anyhow::Result<()> {
    rig::alone(On::MariaDb, ServerSpec::mariadb_11_8(), async |rig| {
        let load = rig.load("orders", 3_000, 1);
        load.create().await?;
        let running = load.start();
        rig.swap("orders", "ADD COLUMN extra int NOT NULL DEFAULT 7")
            .await?;
        let report = settled(&load, running).await?;
        ensure!(report.committed > 0 && report.lock_failures == 0);
        Ok(())
    })
}

/// An empty table, and tables that get rows, or lose them, or both, behind what the copy has seen.
#[rstest]
fn small_tables(#[values(On::MySql, On::MariaDb)] on: On) -> anyhow::Result<()> {
    rig::on(on, async |mut rig| {
        for (table, rows) in [("nothing", 0), ("single", 1), ("pair", 2)] {
            rig.sql(&[format!("CREATE TABLE {table} (id int PRIMARY KEY, v int)")])
                .await?;
            for id in 0..rows {
                rig.sql(&[format!("INSERT INTO {table} VALUES ({id}, {id})")])
                    .await?;
            }
            rig.swap(table, "ADD COLUMN w int NOT NULL DEFAULT 3").await?;
            ensure!(rig.assert_same(table, &format!("_{table}_del")).await? == rows);
            let columns = rig.columns(table).await?;
            ensure!(columns.len() == 3, "{columns:?}");
        }
        Ok(())
    })
}

/// Rows that come and go behind the last key that the copy knows of.
#[rstest]
fn the_tail_changes_during_the_copy(#[values(On::MySql, On::MariaDb)] on: On) -> anyhow::Result<()> {
    rig::on(on, async |mut rig| {
        fill(&mut rig, "t", 3000).await?;
        let mut settings = rig.settings("t", "ADD COLUMN w int NOT NULL DEFAULT 3");
        slow_copy(&mut settings);
        let migration = stage::migrate(&rig.host, settings);
        reached(&migration, Phase::Copying).await?;
        rig.sql(&["DELETE FROM t WHERE id > 2500"]).await?;
        for id in 0..200 {
            rig.sql(&[format!("INSERT INTO t VALUES ({}, {id}, 'beyond')", 5000 + id)])
                .await?;
        }
        rig.sql(&[
            "DELETE FROM t WHERE id BETWEEN 5050 AND 5060",
            "UPDATE t SET id = id + 9000 WHERE id < 20",
        ])
        .await?;
        let summary = outcome(&migration).await?;
        ensure!(summary.ending == Ending::Swapped);
        let rows = rig.assert_same("t", "_t_del").await?;
        ensure!(rows == 2500 + 200 - 11, "{rows}");
        Ok(())
    })
}

/// Rows inserted and deleted again at the end use up numbers, also for the new table.
#[rstest]
fn the_next_id_is_not_used_again(#[values(On::MySql, On::MariaDb)] on: On) -> anyhow::Result<()> {
    rig::on(on, async |mut rig| {
        rig.sql(&["CREATE TABLE t (id int AUTO_INCREMENT PRIMARY KEY, v int)"])
            .await?;
        for _ in 0..5 {
            rig.sql(&["INSERT INTO t (v) VALUES (1), (2), (3)"]).await?;
        }
        let file = flag_file()?;
        let mut settings = rig.settings("t", "MODIFY v bigint");
        settings.cut_over.postpone_flag_file = Some(file.path().to_owned());
        let migration = stage::migrate(&rig.host, settings);
        reached(&migration, Phase::Postponing).await?;
        for _ in 0..20 {
            rig.sql(&["INSERT INTO t (v) VALUES (4)"]).await?;
        }
        let last: u64 = rig.value("SELECT MAX(id) FROM t").await?;
        rig.sql(&["DELETE FROM t WHERE id > 15"]).await?;
        file.close()?;
        outcome(&migration).await?;
        rig.sql(&["INSERT INTO t (v) VALUES (5)"]).await?;
        let next: u64 = rig.value("SELECT MAX(id) FROM t").await?;
        ensure!(next > last, "{next} was given out before: {last}");
        Ok(())
    })
}

/// Names that have to be quoted, and the longest.
#[rstest]
fn names_that_need_quoting(#[values(On::MySql, On::MariaDb)] on: On) -> anyhow::Result<()> {
    rig::on(on, async |mut rig| {
        let long = "l".repeat(64);
        let names = [
            "or`ders",
            "two words",
            "größe_日本",
            "select",
            "UPPER",
            "per%cent_",
            "semi;colon",
            "quo'te\"s",
            "dot.ted",
            "sla/sh*",
            "q?mark:x",
            &long,
        ];
        for name in names {
            let column = format!("c {}", &name.chars().take(40).collect::<String>());
            let (table, column) = (quote(name), quote(&column));
            rig.sql(&[
                format!("CREATE TABLE {table} (`{}` int NOT NULL, {column} varchar(20), `key` int, PRIMARY KEY (`{}`), KEY {column} ({column}))", "i``d", "i``d"),
                format!("INSERT INTO {table} VALUES (1, 'a', 2), (2, 'b', 3), (3, 'c', 4)"),
            ])
            .await?;
            let file = flag_file()?;
            let mut settings = rig.settings(name, "ADD COLUMN `new ``column` int NOT NULL DEFAULT 5");
            settings.cut_over.postpone_flag_file = Some(file.path().to_owned());
            let migration = stage::migrate(&rig.host, settings);
            reached(&migration, Phase::Postponing)
                .await
                .with_context(|| name.to_owned())?;
            rig.sql(&[
                format!("UPDATE {table} SET {column} = 'changed' WHERE `i``d` = 1"),
                format!("DELETE FROM {table} WHERE `i``d` = 2"),
                format!("INSERT INTO {table} VALUES (7, 'd', 5)"),
            ])
            .await?;
            file.close()?;
            let summary = outcome(&migration).await.with_context(|| name.to_owned())?;
            let rows: Vec<(i32, String, i32)> = rig
                .conn
                .query(format!(
                    "SELECT `i``d`, {column}, `new ``column` FROM {table} ORDER BY 1"
                ))
                .await?;
            let expected = [
                (1, "changed".to_owned(), 5),
                (3, "c".to_owned(), 5),
                (7, "d".to_owned(), 5),
            ];
            ensure!(rows == expected, "{name}: {rows:?}");
            let names = summary.state.names.context("names")?;
            let left: Vec<String> = rig.conn.query("SHOW TABLES").await?;
            ensure!(
                left.len() == 2 && left.contains(&names.old.table),
                "{name}: {left:?}"
            );
            rig.sql(&[format!("DROP TABLE {table}, {}", quote(&names.old.table))])
                .await?;
        }
        Ok(())
    })
}

/// Somebody else's statement on the table ends the migration; what that statement made stays in charge.
#[rstest]
fn a_foreign_statement_stops_it(#[values(On::MySql, On::MariaDb)] on: On) -> anyhow::Result<()> {
    rig::on(on, async |mut rig| {
        for (number, statement) in [
            "ALTER TABLE t ADD COLUMN foreign_one int",
            "TRUNCATE TABLE t",
            "DROP TABLE t",
            "RENAME TABLE t TO elsewhere",
            "CREATE INDEX v2 ON t (v)",
        ]
        .into_iter()
        .enumerate()
        {
            rig.sql(&["DROP TABLE IF EXISTS t, elsewhere"]).await?;
            fill(&mut rig, "t", 2000).await?;
            let mut settings = rig.settings("t", "ADD COLUMN w int NOT NULL DEFAULT 3");
            settings.leftovers.drop_ghost_first = Permission::Granted;
            let file = flag_file()?;
            // Some while rows are copied, some while the cut-over waits.
            let phase = if number % 2 == 0 {
                Phase::Copying
            } else {
                Phase::Postponing
            };
            if phase == Phase::Copying {
                slow_copy(&mut settings);
            }
            settings.cut_over.postpone_flag_file = Some(file.path().to_owned());
            let migration = stage::migrate(&rig.host, settings);
            reached(&migration, phase).await?;
            rig.sql(&[statement]).await?;
            let error = match outcome(&migration).await {
                Ok(summary) => anyhow::bail!("{statement}: {summary:?}"),
                Err(error) => error,
            };
            let text = error.to_string();
            eprintln!("{on:?} {statement}: {text}");
            ensure!(
                matches!(error, MigrationError::Apply(ApplyError::Statement(_))),
                "{statement}: {error:?}"
            );
            ensure!(
                text.contains(&rig.schema) && text.contains("original table"),
                "{text}"
            );
            let tables: Vec<String> = rig.conn.query("SHOW TABLES").await?;
            ensure!(
                !tables.iter().any(|name| name == "_t_del"),
                "{statement}: {tables:?}"
            );
            let definition: Option<(String, String)> = rig
                .conn
                .query_first("SHOW CREATE TABLE t")
                .await
                .unwrap_or_default();
            ensure!(
                definition.is_none_or(|(_, definition)| !definition.contains("`w`")),
                "{statement}: swapped"
            );
        }
        Ok(())
    })
}

/// A row's new column has what an ALTER would have given it.
#[rstest]
fn a_new_column_without_a_default_is_filled(#[values(On::MySql, On::MariaDb)] on: On) -> anyhow::Result<()> {
    rig::on(on, async |mut rig| {
        fill(&mut rig, "t", 500).await?;
        let alter = "ADD COLUMN a int NOT NULL, ADD COLUMN b varchar(9) NOT NULL, ADD COLUMN c datetime NOT NULL DEFAULT '2020-01-01'";
        let file = flag_file()?;
        let mut settings = rig.settings("t", alter);
        settings.cut_over.postpone_flag_file = Some(file.path().to_owned());
        let migration = stage::migrate(&rig.host, settings);
        reached(&migration, Phase::Postponing).await?;
        rig.sql(&[
            "UPDATE t SET v = 9 WHERE id < 50",
            "INSERT INTO t VALUES (9999, 1, 'x')",
        ])
        .await?;
        file.close()?;
        outcome(&migration).await?;
        rig.sql(&[format!("ALTER TABLE _t_del {alter}, ALGORITHM=COPY")])
            .await?;
        rig.assert_same("t", "_t_del").await?;
        Ok(())
    })
}

/// A table `id, v, note` of so many rows.
pub(crate) async fn fill(rig: &mut Rig, table: &str, rows: usize) -> anyhow::Result<()> {
    rig.sql(&[format!(
        "CREATE TABLE {table} (id int PRIMARY KEY, v int, note varchar(50))"
    )])
    .await?;
    let ids: Vec<usize> = (1..=rows).collect();
    for part in ids.chunks(1000) {
        let values: Vec<String> = part
            .iter()
            .map(|id| format!("({id}, {}, 'row {id}')", id % 100))
            .collect();
        rig.sql(&[format!("INSERT INTO {table} VALUES {}", values.join(","))])
            .await?;
    }
    Ok(())
}

/// Chunks so small, with pauses so long, that a test can do something meanwhile.
pub(crate) fn slow_copy(settings: &mut changeling_applier::settings::MigrationSettings) {
    settings.copy.chunk_size = 20;
    settings.copy.chunk_time = None;
    settings.throttle.nice_ratio = 5.0;
}

/// A file that postpones a cut-over while it is there.
pub(crate) fn flag_file() -> anyhow::Result<tempfile::NamedTempFile> {
    Ok(tempfile::NamedTempFile::new()?)
}
