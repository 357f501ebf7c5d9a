//! Servers and tables for the program.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, ensure};
use changeling_support::{Flavor, Server, ServerSpec, skip};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::sync::OnceCell;

/// A server that many tests share, each with a database of its own. It ends with the process.
pub(crate) async fn shared(test: &str, flavor: Flavor) -> anyhow::Result<Option<Arc<Server>>> {
    static MYSQL: OnceCell<Arc<Server>> = OnceCell::const_new();
    static MARIADB: OnceCell<Arc<Server>> = OnceCell::const_new();
    let cell = if flavor == Flavor::MySql { &MYSQL } else { &MARIADB };
    let server = cell
        .get_or_try_init(|| async { spec(flavor).start().await.map(Arc::new) })
        .await;
    Ok(skip::unless_available(test, server.cloned())?)
}

/// The versions that the tests are made for.
pub(crate) fn spec(flavor: Flavor) -> ServerSpec {
    if flavor == Flavor::MySql {
        ServerSpec::mysql()
    } else {
        ServerSpec::mariadb()
    }
}

/// A database of a test's own, with a table `t` in it.
pub(crate) struct Scene {
    pub(crate) server: Arc<Server>,
    pub(crate) database: String,
    pub(crate) conn: Conn,
}

impl Scene {
    /// On a server that others use too.
    pub(crate) async fn on(server: Arc<Server>) -> anyhow::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let database = format!(
            "cli_{}_{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let mut conn = server.mysql().await?;
        conn.query_drop(format!("CREATE DATABASE {database}")).await?;
        conn.query_drop(format!("USE {database}")).await?;
        Ok(Self {
            server,
            database,
            conn,
        })
    }

    /// Creates `t` with so many rows: `id`, `a` from 1 on, and a text.
    pub(crate) async fn fill(&mut self, rows: u32) -> anyhow::Result<()> {
        self.run("CREATE TABLE t (id int NOT NULL PRIMARY KEY AUTO_INCREMENT, a int NOT NULL, s varchar(100)) ENGINE=InnoDB")
            .await?;
        let values: Vec<String> = (1..=rows).map(|id| format!("({id},{id},'row {id}')")).collect();
        for some in values.chunks(2000) {
            self.run(&format!("INSERT INTO t (id, a, s) VALUES {}", some.join(",")))
                .await?;
        }
        Ok(())
    }

    pub(crate) async fn run(&mut self, sql: &str) -> anyhow::Result<()> {
        let shown: String = sql.chars().take(200).collect();
        self.conn.query_drop(sql).await.with_context(|| shown)
    }

    /// The first column of the first row, as text.
    pub(crate) async fn ask(&mut self, sql: &str) -> anyhow::Result<String> {
        let value: Option<Option<String>> =
            self.conn.query_first(sql).await.with_context(|| sql.to_owned())?;
        Ok(value.flatten().unwrap_or_else(|| "NULL".to_owned()))
    }

    /// The tables that are there, in order, joined by spaces.
    pub(crate) async fn tables(&mut self) -> anyhow::Result<String> {
        let sql = format!(
            "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{}' ORDER BY BINARY TABLE_NAME",
            self.database
        );
        let names: Vec<String> = self.conn.query(sql).await?;
        Ok(names.join(" "))
    }

    /// The columns of a table, in order, joined by spaces.
    pub(crate) async fn columns(&mut self, table: &str) -> anyhow::Result<String> {
        let sql = format!(
            "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = '{}' AND TABLE_NAME = '{table}' \
             ORDER BY ORDINAL_POSITION",
            self.database
        );
        let names: Vec<String> = self.conn.query(sql).await?;
        Ok(names.join(" "))
    }

    /// The original is what it was and takes writes.
    pub(crate) async fn untouched(&mut self, rows: u32) -> anyhow::Result<()> {
        let columns = self.columns("t").await?;
        ensure!(columns == "id a s", "t was changed: {columns}");
        let (count, sum): (u64, Option<u64>) = self
            .conn
            .query_first("SELECT COUNT(*), SUM(a) FROM t")
            .await?
            .context("no count")?;
        let rows = u64::from(rows);
        ensure!(
            (count, sum.unwrap_or(0)) == (rows, rows * (rows + 1) / 2),
            "rows of t: {count}, {sum:?}"
        );
        self.run("SET SESSION lock_wait_timeout = 3, innodb_lock_wait_timeout = 3")
            .await?;
        self.run("INSERT INTO t (id, a) VALUES (99999999, 0)").await?;
        self.run("DELETE FROM t WHERE id = 99999999").await
    }

    /// Nothing of ours is there but the table itself and these.
    pub(crate) async fn left(&mut self, tables: &str) -> anyhow::Result<()> {
        let there = self.tables().await?;
        ensure!(there == tables, "tables: {there:?}, not {tables:?}");
        Ok(())
    }
}

/// A scene on the shared server; a counted skip where there is none.
macro_rules! scene {
    ($flavor:expr) => {{
        fn here() {}
        let test = ::std::any::type_name_of_val(&here);
        match $crate::cli::stage::shared(test, $flavor).await? {
            Some(server) => $crate::cli::stage::Scene::on(server).await?,
            None => return Ok(()),
        }
    }};
}
pub(crate) use scene;
