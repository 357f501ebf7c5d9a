//! Servers that tests share, each test in a schema of its own, and a migration from its start to its end.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use anyhow::{Context, ensure};
use changeling_applier::migration::{MigrationError, MigrationHandle};
use changeling_applier::progress::{Ending, MigrationSummary, Phase};
use changeling_applier::settings::MigrationSettings;
use changeling_core::actor::{ActorHost, HostOptions};
use changeling_core::ident::{TableName, quote};
use changeling_support::load::{Load, RunningLoad};
use changeling_support::{Server, ServerSpec, skip};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, Params};
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

use crate::stage;

/// What a migration of a test may take before the test fails: the two cores may be busy with other tests.
const HANGS: Duration = Duration::from_secs(180);

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));
static SCHEMAS: AtomicU32 = AtomicU32::new(0);
static SERVER_IDS: AtomicU32 = AtomicU32::new(200_000);

type Shared = OnceCell<Option<Arc<Server>>>;
static MYSQL: Shared = OnceCell::const_new();
static MARIADB: Shared = OnceCell::const_new();
static MYSQL_EAST: Shared = OnceCell::const_new();
static MARIADB_EAST: Shared = OnceCell::const_new();

/// A product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    MySql,
    MariaDb,
}

impl On {
    /// What is asked of the harness.
    pub(crate) fn spec(self) -> ServerSpec {
        match self {
            Self::MySql => ServerSpec::mysql(),
            Self::MariaDb => ServerSpec::mariadb(),
        }
    }
}

/// A schema of its own on a server.
pub(crate) struct Rig {
    pub(crate) on: On,
    pub(crate) server: Arc<Server>,
    pub(crate) schema: String,
    pub(crate) conn: Conn,
    pub(crate) host: ActorHost,
}

/// Runs a test on the server that all tests share.
pub(crate) fn on(on: On, test: impl AsyncFnOnce(Rig) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let cell = match on {
        On::MySql => &MYSQL,
        On::MariaDb => &MARIADB,
    };
    shared(on, cell, on.spec(), test)
}

/// Runs a test on a shared server whose clock is five and a half hours ahead of UTC.
pub(crate) fn in_the_east(on: On, test: impl AsyncFnOnce(Rig) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let cell = match on {
        On::MySql => &MYSQL_EAST,
        On::MariaDb => &MARIADB_EAST,
    };
    shared(on, cell, on.spec().time_zone("+05:30"), test)
}

fn shared(
    on: On,
    cell: &'static Shared,
    spec: ServerSpec,
    test: impl AsyncFnOnce(Rig) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    stage::log();
    RUNTIME.block_on(async {
        let server = cell
            .get_or_init(|| async {
                let started = skip::unless_available("changeling-tests", spec.start().await);
                started.expect("a server that starts").map(Arc::new)
            })
            .await;
        match server {
            Some(server) => within(on, Arc::clone(server), test).await,
            None => Ok(()),
        }
    })
}

/// Runs a test on a server of its own.
pub(crate) fn alone(
    on: On,
    spec: ServerSpec,
    test: impl AsyncFnOnce(Rig) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    stage::log();
    RUNTIME.block_on(async {
        let started = skip::unless_available("changeling-tests", spec.dedicated().start().await)?;
        match started {
            Some(server) => within(on, Arc::new(server), test).await,
            None => Ok(()),
        }
    })
}

/// Runs a test that brings its own servers.
pub(crate) fn run(test: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    stage::log();
    RUNTIME.block_on(test)
}

/// Runs a test in a schema of its own on this server.
pub(crate) async fn within(
    on: On,
    server: Arc<Server>,
    test: impl AsyncFnOnce(Rig) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let schema = format!(
        "it_{}_{}",
        std::process::id(),
        SCHEMAS.fetch_add(1, Ordering::Relaxed)
    );
    let mut conn = server.mysql().await?;
    conn.query_drop(format!("CREATE DATABASE {schema} CHARACTER SET utf8mb4"))
        .await?;
    conn.query_drop(format!("USE {schema}")).await?;
    let host = ActorHost::start(HostOptions::default())?;
    let rig = Rig {
        on,
        server: Arc::clone(&server),
        schema: schema.clone(),
        conn,
        host,
    };
    Box::pin(test(rig)).await?;
    server
        .mysql()
        .await?
        .query_drop(format!("DROP DATABASE {schema}"))
        .await?;
    Ok(())
}

impl Rig {
    /// Runs statements, one after another.
    pub(crate) async fn sql<S: AsRef<str>>(&mut self, statements: &[S]) -> anyhow::Result<()> {
        for statement in statements {
            let sql = statement.as_ref();
            self.conn
                .query_drop(sql)
                .await
                .with_context(|| sql.chars().take(500).collect::<String>())?;
        }
        Ok(())
    }

    /// The first column of the first row.
    pub(crate) async fn value<T: mysql_async::prelude::FromValue + Send + 'static>(
        &mut self,
        sql: &str,
    ) -> anyhow::Result<T> {
        let value: Option<T> = self.conn.query_first(sql).await.with_context(|| sql.to_owned())?;
        value.with_context(|| format!("no row: {sql}"))
    }

    /// Another session in the test's schema.
    pub(crate) async fn session(&self) -> anyhow::Result<Conn> {
        Ok(Conn::new(self.opts()).await?)
    }

    /// How sessions in the test's schema are opened.
    pub(crate) fn opts(&self) -> Opts {
        self.server.mysql_opts().db_name(Some(&self.schema)).into()
    }

    /// A table of the test's schema.
    pub(crate) fn table(&self, name: &str) -> TableName {
        TableName::new(&self.schema, name)
    }

    /// Settings that work on the primary itself.
    pub(crate) fn settings(&self, table: &str, alter: &str) -> MigrationSettings {
        let mut settings = stage::settings(&self.server, &self.table(table), alter);
        settings.server_id = server_id();
        settings
    }

    /// A table of [`Load`]'s and its writers.
    pub(crate) fn load(&self, table: &str, rows: i64, seed: u64) -> Load {
        Load {
            opts: self.server.mysql_opts().into(),
            table: self.table(table).to_string(),
            writers: 8,
            rows,
            seed,
            pause: Duration::ZERO,
        }
    }

    /// A migration from its start to its end.
    pub(crate) async fn migrate(
        &self,
        settings: MigrationSettings,
    ) -> Result<MigrationSummary, MigrationError> {
        outcome(&stage::migrate(&self.host, settings)).await
    }

    /// A migration with the usual settings, which has to swap.
    pub(crate) async fn swap(&self, table: &str, alter: &str) -> anyhow::Result<MigrationSummary> {
        let summary = self
            .migrate(self.settings(table, alter))
            .await
            .with_context(|| alter.to_owned())?;
        ensure!(summary.ending == Ending::Swapped, "{summary:?}");
        Ok(summary)
    }

    /// The rows of a table, in the order of these columns: everything in a form that shows every bit.
    pub(crate) async fn rows(
        &mut self,
        table: &str,
        columns: &[Shown],
        order: &str,
    ) -> anyhow::Result<Vec<Vec<Option<String>>>> {
        let list: Vec<String> = columns.iter().map(Shown::expression).collect();
        let sql = format!(
            "SELECT {} FROM {} ORDER BY {order}",
            list.join(", "),
            self.table(table)
        );
        let rows: Vec<mysql_async::Row> = self
            .conn
            .exec(&sql, Params::Empty)
            .await
            .with_context(|| sql.clone())?;
        let texts = |row: mysql_async::Row| {
            row.unwrap()
                .into_iter()
                .map(mysql_async::from_value::<Option<String>>)
                .collect::<Vec<_>>()
        };
        Ok(rows.into_iter().map(texts).collect())
    }

    /// The columns of a table, invisible ones included.
    pub(crate) async fn columns(&mut self, table: &str) -> anyhow::Result<Vec<Shown>> {
        let columns: Vec<(String, String)> = self
            .conn
            .exec(
                "SELECT COLUMN_NAME, DATA_TYPE FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? \
                 ORDER BY ORDINAL_POSITION",
                (&self.schema, table),
            )
            .await?;
        Ok(columns
            .into_iter()
            .map(|(name, data_type)| Shown {
                name,
                data_type: data_type.to_lowercase(),
            })
            .collect())
    }

    /// Fails unless both tables hold the same rows in the columns that they share.
    pub(crate) async fn assert_same(&mut self, one: &str, other: &str) -> anyhow::Result<usize> {
        let mut shared = self.columns(one).await?;
        let others = self.columns(other).await?;
        shared.retain(|column| {
            others
                .iter()
                .any(|other| other.name == column.name && other.data_type == column.data_type)
        });
        let order: Vec<String> = (1..=shared.len()).map(|number| number.to_string()).collect();
        let order = order.join(", ");
        let left = self.rows(one, &shared, &order).await?;
        let right = self.rows(other, &shared, &order).await?;
        for (left, right) in left.iter().zip(&right) {
            if left != right {
                let names: Vec<&str> = shared
                    .iter()
                    .zip(left.iter().zip(right))
                    .filter(|(_, (left, right))| left != right)
                    .map(|(column, _)| column.name.as_str())
                    .collect();
                anyhow::bail!("{one} has {left:?}\n{other} has {right:?}\nin {names:?}");
            }
        }
        ensure!(
            left.len() == right.len(),
            "{one} has {} rows, {other} {}",
            left.len(),
            right.len()
        );
        Ok(left.len())
    }
}

/// A column as the tests show it.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) name: String,
    pub(crate) data_type: String,
}

impl Shown {
    fn expression(&self) -> String {
        let name = quote(&self.name);
        match self.data_type.as_str() {
            "bit" => format!("CAST({name} + 0 AS CHAR)"),
            "float" | "double" => format!("CAST({name} + 0e0 AS CHAR)"),
            "enum" | "set" => format!("CONCAT({name} + 0, ' ', HEX({name}))"),
            "json" => format!("HEX(CAST({name} AS CHAR))"),
            kind if [
                "char",
                "text",
                "binary",
                "blob",
                "geometry",
                "point",
                "linestring",
                "polygon",
                "vector",
            ]
            .iter()
            .any(|text| kind.ends_with(text)) =>
            {
                format!("HEX({name})")
            }
            _ => format!("CAST({name} AS CHAR)"),
        }
    }
}

/// A number that no other stream of this process reads under.
pub(crate) fn server_id() -> u32 {
    SERVER_IDS.fetch_add(1, Ordering::Relaxed)
}

/// Waits for the end of a migration.
pub(crate) async fn outcome(migration: &MigrationHandle) -> Result<MigrationSummary, MigrationError> {
    match tokio::time::timeout(HANGS, migration.outcome()).await {
        Ok(outcome) => outcome,
        Err(_) => panic!("the migration hangs: {:#?}", migration.state().borrow().clone()),
    }
}

/// Waits until a migration has reached a phase; fails with its error when it ends before.
pub(crate) async fn reached(migration: &MigrationHandle, phase: Phase) -> anyhow::Result<()> {
    let mut state = migration.state();
    tokio::select! {
        biased;
        seen = state.wait_for(|state| state.phase >= phase) => drop(seen.context("the migration is gone")?),
        outcome = outcome(migration) => anyhow::bail!("it ended: {:?}", outcome.context("before it was expected to")?.ending),
    }
    Ok(())
}

/// Ends the writers, and fails if a row is not what they wrote or one of them saw an error.
pub(crate) async fn settled(
    load: &Load,
    running: RunningLoad,
) -> anyhow::Result<changeling_support::load::LoadReport> {
    let report = running.stop().await;
    ensure!(
        report.errors.is_empty(),
        "writers saw errors: {:?}",
        report.errors
    );
    let differences = load.differences(&report.rows).await?;
    ensure!(
        differences.is_empty(),
        "{} of {} rows: {differences:#?}",
        differences.len(),
        report.rows.len()
    );
    Ok(report)
}

/// A number from the environment, to make a test larger than it is in continuous integration.
pub(crate) fn scale(variable: &str, usual: u64) -> u64 {
    std::env::var(variable)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(usual)
}

/// The seeds of a run: two, or as many as `CHANGELING_SEEDS` says.
pub(crate) fn seeds() -> std::ops::RangeInclusive<u64> {
    1..=scale("CHANGELING_SEEDS", 2)
}

/// A small generator: the sequence must be the same with every version of every library.
#[derive(Clone, Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    pub(crate) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap_or(0)]
    }
}
