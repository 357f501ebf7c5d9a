//! A writer of random rows into a table of any key and any columns, for tests that compare the table afterwards with
//! what the server itself makes of it.

use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::rig::Dice;

/// Makes a value, as SQL.
pub(crate) type Make = fn(&mut Dice) -> String;

/// What is written.
#[derive(Clone, Debug)]
pub(crate) struct Scribe {
    pub(crate) opts: Opts,
    /// The table, quoted.
    pub(crate) table: String,
    /// The key's columns; few enough values that rows meet.
    pub(crate) key: Vec<(&'static str, Make)>,
    /// The other columns.
    pub(crate) columns: Vec<(&'static str, Make)>,
    pub(crate) seed: u64,
}

/// A writer at work.
pub(crate) struct Writing {
    stop: CancellationToken,
    task: JoinHandle<Written>,
}

/// What a writer did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Written {
    pub(crate) statements: u64,
    pub(crate) refused: u64,
    /// Errors that are not about a duplicate, with the statement.
    pub(crate) errors: Vec<String>,
}

impl Scribe {
    /// Writes this many statements.
    pub(crate) async fn write(&self, count: u64) -> anyhow::Result<Written> {
        let mut conn = Conn::new(self.opts.clone()).await?;
        let mut dice = Dice(self.seed);
        let mut written = Written::default();
        for _ in 0..count {
            self.once(&mut conn, &mut dice, &mut written).await;
        }
        Ok(written)
    }

    /// Writes until told to stop.
    pub(crate) async fn start(&self) -> anyhow::Result<Writing> {
        let mut conn = Conn::new(self.opts.clone()).await?;
        let stop = CancellationToken::new();
        let (scribe, stopped) = (self.clone(), stop.clone());
        let task = tokio::spawn(async move {
            let mut dice = Dice(scribe.seed.wrapping_mul(7919) + 1);
            let mut written = Written::default();
            while !stopped.is_cancelled() {
                scribe.once(&mut conn, &mut dice, &mut written).await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            written
        });
        Ok(Writing { stop, task })
    }

    async fn once(&self, conn: &mut Conn, dice: &mut Dice, written: &mut Written) {
        let sql = self.statement(dice);
        written.statements += 1;
        if let Err(error) = conn.query_drop(&sql).await {
            let code = match &error {
                mysql_async::Error::Server(error) => error.code,
                _ => 0,
            };
            written.refused += 1;
            if code != 1062 {
                written.errors.push(format!("{error}: {sql}"));
            }
        }
    }

    fn statement(&self, dice: &mut Dice) -> String {
        let Self {
            table, key, columns, ..
        } = self;
        let made = |dice: &mut Dice, columns: &[(&str, Make)]| -> Vec<String> {
            columns
                .iter()
                .map(|(name, make)| format!("{name} = {}", make(dice)))
                .collect()
        };
        let found = made(dice, key).join(" AND ");
        match dice.below(10) {
            0..=3 => {
                let names: Vec<&str> = key.iter().chain(columns).map(|(name, _)| *name).collect();
                let values: Vec<String> = key.iter().chain(columns).map(|(_, make)| make(dice)).collect();
                let verb = if dice.below(4) == 0 { "REPLACE" } else { "INSERT" };
                format!(
                    "{verb} INTO {table} ({}) VALUES ({})",
                    names.join(", "),
                    values.join(", ")
                )
            }
            4..=6 => {
                let (name, make) = dice.one_of(columns);
                format!("UPDATE {table} SET {name} = {} WHERE {found}", make(dice))
            }
            7 => format!(
                "UPDATE {table} SET {} WHERE {found}",
                made(dice, columns).join(", ")
            ),
            8 => format!("UPDATE {table} SET {} WHERE {found}", made(dice, key).join(", ")),
            _ => format!("DELETE FROM {table} WHERE {found}"),
        }
    }
}

impl Writing {
    /// Ends the writer's statement and tells what it did.
    pub(crate) async fn stop(self) -> anyhow::Result<Written> {
        self.stop.cancel();
        let written = self.task.await?;
        anyhow::ensure!(
            written.errors.is_empty(),
            "{:#?}",
            written.errors.iter().take(5).collect::<Vec<_>>()
        );
        Ok(written)
    }
}
