//! Where a demo happens: a server, a table, writers.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use changeling_applier::settings::{Endpoint, MigrationSettings, Permission, Place, Purpose};
use changeling_core::ident::TableName;
use changeling_support::load::Load;
use changeling_support::{Server, ServerSpec, SourceKind};
use mysql_async::prelude::Queryable as _;

use super::show::Show;
use crate::args::demo::{DemoArgs, Flavor};
use crate::render::progress::count;

/// The database, so named that nobody's own is meant.
const DATABASE: &str = "changeling_demo";
/// The table.
const TABLE: &str = "orders";
/// What is changed: a new column, a wider one, which no server does in place, and a new index.
pub(super) const ALTER: [&str; 3] = [
    "ADD COLUMN currency char(3) NOT NULL DEFAULT 'EUR'",
    "MODIFY v bigint NOT NULL",
    "ADD KEY changed (changed)",
];
/// How often the bar is moved while the table is filled.
const TICK: Duration = Duration::from_millis(100);

/// A server and the table on it.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) server: Server,
    pub(super) load: Load,
}

impl Stage {
    /// Gets a server and fills the table.
    pub(super) async fn open(arguments: &DemoArgs, show: &mut Show) -> anyhow::Result<Self> {
        let began = Instant::now();
        let spec = match arguments.flavor {
            Flavor::Mysql => ServerSpec::mysql(),
            Flavor::Mariadb => ServerSpec::mariadb(),
        };
        show.waiting(
            "server",
            &format!("{spec} (when it has to be fetched first, a minute or two)"),
        );
        let server = Box::pin(show.beside(spec.start())).await?;
        let from = match server.source() {
            SourceKind::Address => "given by its address in the environment",
            SourceKind::Container => "in a container",
            SourceKind::Local => "as installed here",
            SourceKind::Packages => "from Debian's packages",
        };
        show.done(
            began.elapsed(),
            "server",
            &format!(
                "{} {}, {from}, at {}:{}",
                server.flavor(),
                server.full_version(),
                server.host(),
                server.port()
            ),
        );
        let load = Load {
            opts: server.mysql_opts().into(),
            table: format!("{DATABASE}.{TABLE}"),
            writers: u64::from(arguments.writers),
            rows: i64::try_from(arguments.rows)?,
            seed: 1,
            pause: pause(arguments),
        };
        let stage = Self { server, load };
        stage.fill(show).await?;
        Ok(stage)
    }

    async fn fill(&self, show: &mut Show) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut conn = self.server.mysql().await?;
        let there: Option<String> = conn
            .query_first(format!("SHOW DATABASES LIKE '{DATABASE}'"))
            .await?;
        ensure!(
            there.is_none(),
            "the server at {}:{} has a database {DATABASE} already, perhaps another demo's; drop it first",
            self.server.host(),
            self.server.port()
        );
        conn.query_drop(format!("CREATE DATABASE {DATABASE}")).await?;
        let filled = AtomicI64::new(0);
        let filling = self.load.create_counting(&filled);
        tokio::pin!(filling);
        let mut ticks = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                done = &mut filling => break done.context("the table could not be filled")?,
                _ = ticks.tick() => {
                    let rows = u64::try_from(filled.load(Ordering::Relaxed)).unwrap_or(0);
                    let all = u64::try_from(self.load.rows).unwrap_or(0);
                    let text = format!("{} of {} rows", count(rows), count(all));
                    show.moving("filling", rows, all, &text);
                }
            }
        }
        let size = "SELECT CAST(SUM(data_length + index_length) AS UNSIGNED) FROM information_schema.tables \
                    WHERE table_schema = ? AND table_name = ?";
        conn.query_drop(format!("ANALYZE TABLE {DATABASE}.{TABLE}"))
            .await?;
        let bytes: Option<Option<u64>> = conn.exec_first(size, (DATABASE, TABLE)).await?;
        let mib = bytes.flatten().unwrap_or(0) >> 20;
        let rows = count(u64::try_from(self.load.rows).unwrap_or(0));
        show.done(
            began.elapsed(),
            "table",
            &format!("{}: {rows} rows, {mib} MiB, two unique keys", self.load.table),
        );
        Ok(())
    }

    /// The migration, as `changeling migrate --host=… --allow-on-master --execute` is one.
    pub(super) fn settings(&self) -> MigrationSettings {
        let login = Endpoint {
            host: self.server.host().to_owned(),
            port: self.server.port(),
            user: self.server.user().to_owned(),
            password: self.server.password().to_owned().into(),
        };
        let mut settings = MigrationSettings::new(TableName::new(DATABASE, TABLE), ALTER.join(", "), login);
        settings.purpose = Purpose::Execute;
        settings.place = Place::Primary {
            inspect_primary: Permission::Granted,
        };
        settings.server_id = 100_000 + u32::from(self.server.port());
        settings
    }

    /// Rows whose new column has the value that the ALTER gives it, and rows in all.
    pub(super) async fn altered_rows(&self) -> anyhow::Result<(u64, u64)> {
        let mut conn = self.server.mysql().await?;
        let sql = format!(
            "SELECT CAST(COALESCE(SUM(currency = 'EUR'), 0) AS UNSIGNED), COUNT(*) FROM {}",
            self.load.table
        );
        let counts = conn
            .query_first(sql)
            .await
            .context("the new table cannot be read")?;
        counts.context("the new table cannot be counted")
    }

    /// How a person reaches it, and how another migration of the table is run.
    pub(super) fn address(&self) -> [String; 2] {
        let (host, port) = (self.server.host(), self.server.port());
        let (user, password) = (self.server.user(), self.server.password());
        let client = match self.server.flavor() {
            changeling_support::Flavor::MariaDb => "mariadb",
            _ => "mysql",
        };
        [
            format!("{client} --host={host} --port={port} --user={user} --password={password} {DATABASE}"),
            format!(
                "CHANGELING_PASSWORD={password} changeling migrate --host={host} --port={port} --user={user} \\\n      \
                 --allow-on-master --database={DATABASE} --table={TABLE} --alter='DROP COLUMN currency' \\\n      \
                 --timestamp-old-table --execute"
            ),
        ]
    }

    /// Removes the server; on one that is not ours, the database.
    pub(super) async fn close(self) -> anyhow::Result<()> {
        if self.server.is_shared() {
            let mut conn = self.server.mysql().await?;
            conn.query_drop(format!("DROP DATABASE IF EXISTS {DATABASE}"))
                .await?;
        }
        Ok(self.server.stop().await?)
    }
}

/// The pause of each writer after a transaction that makes all of them together commit no more than was asked for.
fn pause(arguments: &DemoArgs) -> Duration {
    if arguments.rate == 0 {
        return Duration::ZERO;
    }
    Duration::from_secs(1) * u32::from(arguments.writers) / arguments.rate
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_all_writers_together() {
        let arguments = |writers, rate| DemoArgs {
            rows: 1,
            writers,
            rate,
            flavor: Flavor::Mysql,
            keep: false,
        };
        assert_eq!(pause(&arguments(4, 400)), Duration::from_millis(10));
        assert_eq!(pause(&arguments(1, 1)), Duration::from_secs(1));
        assert_eq!(pause(&arguments(4, 0)), Duration::ZERO);
    }
}
