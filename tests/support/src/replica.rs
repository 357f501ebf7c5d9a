//! A primary with a replica.

use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row, Value};

use crate::error::{Result, SupportError};
use crate::server::{PASSWORD, Server, USER};
use crate::spec::{Flavor, ServerSpec, Version};

/// Id of the replica; the primary has 1 unless told.
const REPLICA_SERVER_ID: u32 = 2;
/// How long the replica's threads may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause between two looks at the replica's state.
const POLL: Duration = Duration::from_millis(20);

/// A primary and a replica that are wanted: a builder, ended by [`TopologySpec::start`].
#[derive(Clone, Debug)]
pub struct TopologySpec {
    primary: ServerSpec,
    replica: ServerSpec,
    delay_seconds: u32,
    semi_sync: bool,
}

impl TopologySpec {
    pub(crate) fn new(primary: ServerSpec) -> Self {
        let primary = primary.dedicated();
        let replica_id = if primary.server_id == REPLICA_SERVER_ID {
            1
        } else {
            REPLICA_SERVER_ID
        };
        let replica = primary.clone().server_id(replica_id);
        Self {
            primary,
            replica,
            delay_seconds: 0,
            semi_sync: false,
        }
    }

    /// Adds an option to the replica only.
    #[must_use]
    pub fn replica_option(mut self, option: impl Into<String>) -> Self {
        self.replica = self.replica.option(option);
        self
    }

    /// Lets the replica apply everything this much later than the primary.
    #[must_use]
    pub fn delay_seconds(mut self, seconds: u32) -> Self {
        self.delay_seconds = seconds;
        self
    }

    /// Lets a commit wait until the replica has received it (AFTER_SYNC, no fallback for a day).
    #[must_use]
    pub fn semi_sync(mut self) -> Self {
        self.semi_sync = true;
        self
    }

    /// Starts both servers and the replication, and waits until it runs.
    pub async fn start(&self) -> Result<Topology> {
        if self.primary.flavor == Flavor::Postgres {
            return Err(SupportError::Unsupported(
                "a replica can be had of MySQL and MariaDB only".into(),
            ));
        }
        let (primary, replica) =
            tokio::try_join!(Box::pin(self.primary.start()), Box::pin(self.replica.start()))?;
        let replica = Replica { server: replica };
        for server in [&primary, &replica.server] {
            // Entry points of images leave transactions of their own; both start from nothing instead.
            server.mysql().await?.query_drop(reset_statement(server)).await?;
        }
        if self.semi_sync {
            enable_semi_sync(&primary, &replica.server).await?;
        }
        replica.follow(&primary, self.delay_seconds).await?;
        Ok(Topology { primary, replica })
    }
}

/// A primary and its replica. Both are gone when it is dropped.
#[derive(Debug)]
pub struct Topology {
    /// The server that applications write to.
    pub primary: Server,
    /// The server that follows it.
    pub replica: Replica,
}

impl Topology {
    /// Waits until the replica has applied everything that is committed on the primary now.
    pub async fn wait_caught_up(&self, limit: Duration) -> Result<()> {
        self.replica.wait_caught_up(&self.primary, limit).await
    }

    /// Stops both servers and removes them.
    pub async fn stop(self) -> Result<()> {
        self.replica.server.stop().await?;
        self.primary.stop().await
    }
}

/// A server that replicates from another, with a binary log of its own.
#[derive(Debug)]
pub struct Replica {
    server: Server,
}

impl std::ops::Deref for Replica {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl Replica {
    /// Points the replica at `primary` (GTIDs where they are on, else its present file and position) and starts it.
    async fn follow(&self, primary: &Server, delay_seconds: u32) -> Result<()> {
        let (host, port) = primary.address_for_peers().await?;
        let mut conn = self.server.mysql().await?;
        if self.server.flavor() == Flavor::MariaDb {
            conn.query_drop(format!(
                "CHANGE MASTER TO MASTER_HOST='{host}', MASTER_PORT={port}, MASTER_USER='{USER}', \
                 MASTER_PASSWORD='{PASSWORD}', MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1, \
                 MASTER_DELAY={delay_seconds}"
            ))
            .await?;
        } else {
            let start = if primary.spec().gtid {
                "SOURCE_AUTO_POSITION=1".to_owned()
            } else {
                let (file, position) = file_position(&mut primary.mysql().await?, primary).await?;
                format!("SOURCE_LOG_FILE='{file}', SOURCE_LOG_POS={position}")
            };
            conn.query_drop(format!(
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST='{host}', SOURCE_PORT={port}, SOURCE_USER='{USER}', \
                 SOURCE_PASSWORD='{PASSWORD}', {start}, SOURCE_CONNECT_RETRY=1, GET_SOURCE_PUBLIC_KEY=1, \
                 SOURCE_DELAY={delay_seconds}"
            ))
            .await?;
        }
        conn.disconnect().await?;
        self.start_replication().await
    }

    /// Starts both threads and waits until they run.
    pub async fn start_replication(&self) -> Result<()> {
        let mut conn = self.server.mysql().await?;
        conn.query_drop(self.words("START REPLICA", "START SLAVE"))
            .await?;
        let started = Instant::now();
        loop {
            let status = self.status(&mut conn).await?;
            if status.receiving && status.applying {
                return Ok(());
            }
            if started.elapsed() > START_TIMEOUT {
                let waited = started.elapsed();
                return Err(SupportError::NotCaughtUp {
                    waited,
                    state: format!("{status:?}"),
                });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Stops both threads.
    pub async fn stop_replication(&self) -> Result<()> {
        Ok(self
            .server
            .mysql()
            .await?
            .query_drop(self.words("STOP REPLICA", "STOP SLAVE"))
            .await?)
    }

    /// Stops the applying thread only: the replica still receives, and lags.
    pub async fn stop_applying(&self) -> Result<()> {
        let statement = self.words("STOP REPLICA SQL_THREAD", "STOP SLAVE SQL_THREAD");
        Ok(self.server.mysql().await?.query_drop(statement).await?)
    }

    /// Changes the delay while replication runs.
    pub async fn set_delay(&self, seconds: u32) -> Result<()> {
        let mut conn = self.server.mysql().await?;
        // MariaDB changes it only while both threads stand.
        conn.query_drop(self.words("STOP REPLICA SQL_THREAD", "STOP SLAVE"))
            .await?;
        let change = match self.server.flavor() {
            Flavor::MariaDb => format!("CHANGE MASTER TO MASTER_DELAY={seconds}"),
            _ => format!("CHANGE REPLICATION SOURCE TO SOURCE_DELAY={seconds}"),
        };
        conn.query_drop(change).await?;
        conn.disconnect().await?;
        self.start_replication().await
    }

    /// Waits until everything that is committed on `primary` now has been applied here.
    pub async fn wait_caught_up(&self, primary: &Server, limit: Duration) -> Result<()> {
        let mut on_primary = primary.mysql().await?;
        let mut conn = self.server.mysql().await?;
        let seconds = limit.as_secs_f64().ceil();
        let started = Instant::now();
        // NULL means that the applying thread does not run.
        let reached: Option<Option<bool>> = if self.server.flavor() == Flavor::MariaDb {
            let position: Option<String> = on_primary.query_first("SELECT @@GLOBAL.gtid_binlog_pos").await?;
            let position = position.unwrap_or_default();
            conn.exec_first("SELECT MASTER_GTID_WAIT(?, ?) = 0", (position, seconds))
                .await?
        } else if primary.spec().gtid {
            let set: Option<String> = on_primary.query_first("SELECT @@GLOBAL.gtid_executed").await?;
            let set = set.unwrap_or_default();
            conn.exec_first("SELECT WAIT_FOR_EXECUTED_GTID_SET(?, ?) = 0", (set, seconds))
                .await?
        } else {
            let (file, position) = file_position(&mut on_primary, primary).await?;
            conn.exec_first("SELECT SOURCE_POS_WAIT(?, ?, ?) >= 0", (file, position, seconds))
                .await?
        };
        if reached.flatten() == Some(true) {
            return Ok(());
        }
        let state = format!("{:?}", self.status(&mut conn).await?);
        Err(SupportError::NotCaughtUp {
            waited: started.elapsed(),
            state,
        })
    }

    fn words(&self, mysql: &'static str, mariadb: &'static str) -> &'static str {
        if self.server.flavor() == Flavor::MariaDb {
            mariadb
        } else {
            mysql
        }
    }

    async fn status(&self, conn: &mut Conn) -> Result<Status> {
        let row: Option<Row> = conn
            .query_first(self.words("SHOW REPLICA STATUS", "SHOW SLAVE STATUS"))
            .await?;
        let text = |names: [&str; 2]| {
            let row = row.as_ref()?;
            let index = row
                .columns_ref()
                .iter()
                .position(|column| names.contains(&&*column.name_str()))?;
            match row.as_ref(index)? {
                Value::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
                _ => None,
            }
        };
        Ok(Status {
            receiving: text(["Replica_IO_Running", "Slave_IO_Running"]).as_deref() == Some("Yes"),
            applying: text(["Replica_SQL_Running", "Slave_SQL_Running"]).as_deref() == Some("Yes"),
            receive_error: text(["Last_IO_Error", ""]).unwrap_or_default(),
            apply_error: text(["Last_SQL_Error", ""]).unwrap_or_default(),
        })
    }
}

/// The replica's threads, as errors show them.
#[derive(Debug)]
#[expect(dead_code, reason = "the errors are read through Debug, in messages")]
struct Status {
    receiving: bool,
    applying: bool,
    receive_error: String,
    apply_error: String,
}

/// MySQL 8.2 renamed the statements about the binary log, and 8.4 removed the old names.
fn has_new_words(server: &Server) -> bool {
    server.flavor() == Flavor::MySql && server.version() >= Version::new(8, 2)
}

fn reset_statement(server: &Server) -> &'static str {
    if has_new_words(server) {
        "RESET BINARY LOGS AND GTIDS"
    } else {
        "RESET MASTER"
    }
}

async fn file_position(conn: &mut Conn, server: &Server) -> Result<(String, u64)> {
    let statement = if has_new_words(server) {
        "SHOW BINARY LOG STATUS"
    } else {
        "SHOW MASTER STATUS"
    };
    let row: Option<Row> = conn.query_first(statement).await?;
    let read = |row: Row| Some((row.get::<String, _>(0)?, row.get::<u64, _>(1)?));
    row.and_then(read)
        .ok_or_else(|| SupportError::Unsupported("the primary writes no binary log".into()))
}

async fn enable_semi_sync(primary: &Server, replica: &Server) -> Result<()> {
    let mariadb = primary.flavor() == Flavor::MariaDb;
    for (server, role, old_role) in [(primary, "source", "master"), (replica, "replica", "slave")] {
        let mut conn = server.mysql().await?;
        conn.query_drop("SET SESSION sql_log_bin = 0").await?;
        let role = if mariadb {
            old_role
        } else {
            conn.query_drop(format!(
                "INSTALL PLUGIN rpl_semi_sync_{role} SONAME 'semisync_{role}.so'"
            ))
            .await?;
            role
        };
        conn.query_drop(format!("SET GLOBAL rpl_semi_sync_{role}_enabled = 1"))
            .await?;
        if std::ptr::eq(server, primary) {
            // Milliseconds; a test that withholds the acknowledgement must not fall back to asynchronous.
            conn.query_drop(format!("SET GLOBAL rpl_semi_sync_{role}_timeout = 86400000"))
                .await?;
            conn.query_drop(format!(
                "SET GLOBAL rpl_semi_sync_{role}_wait_point = 'AFTER_SYNC'"
            ))
            .await?;
        }
        conn.disconnect().await?;
    }
    Ok(())
}
