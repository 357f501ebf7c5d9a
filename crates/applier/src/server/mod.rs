//! A database server: who it is, how to reach it, how a session on it is set up.

mod connect;
mod error;
mod session;
mod version;

use std::fmt;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};

pub use error::{ErrorKind, ServerError, errno, is_retryable};
pub use session::{INNODB_LOCK_WAIT, METADATA_LOCK_WAIT, SESSION_IDLE, WriteSession, sql_modes};
pub use version::{Flavor, Variables, Version};

use crate::plan::SessionPlan;
use crate::progress::ServerIdentity;
use crate::settings::{Endpoint, Tls};

/// What a connection is for: it shows in the server's connection attributes, so that an operator can tell
/// our sessions apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Reads schemas, variables, grants.
    Inspector,
    /// Creates, alters and drops tables of ours.
    Definer,
    /// Copies rows.
    Copier,
    /// Synchronises keys.
    Synchroniser,
    /// Writes heartbeats, markers and checkpoints.
    Changelog,
    /// Compares tables.
    Verifier,
    /// Takes part in the swap.
    CutOver,
    /// Watches load and lag.
    Throttler,
    /// Reads the binary log.
    Streamer,
}

impl Role {
    /// The value of the connection attribute `changeling_role`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Inspector => "inspector",
            Self::Definer => "definer",
            Self::Copier => "copier",
            Self::Synchroniser => "synchroniser",
            Self::Changelog => "changelog",
            Self::Verifier => "verifier",
            Self::CutOver => "cut-over",
            Self::Throttler => "throttler",
            Self::Streamer => "streamer",
        }
    }
}

/// A server that has answered.
#[derive(Clone)]
pub struct Server {
    /// How it is reached.
    pub endpoint: Endpoint,
    /// Its address and version, as status lines show them.
    pub identity: ServerIdentity,
    /// MySQL or MariaDB.
    pub flavor: Flavor,
    /// Version number.
    pub version: Version,
    /// Something that no other server has: two addresses of one server compare equal by it.
    pub unique_id: String,
    /// Global variables as they were when the server was opened.
    pub variables: Variables,
    tls: Tls,
    timeout: Option<Duration>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("identity", &self.identity)
            .field("flavor", &self.flavor)
            .field("unique_id", &self.unique_id)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// How long an answer may take, where `--mysql-timeout` says so.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// The error for an answer that did not come: `doing` completes "cannot …". As if the connection were lost, which
    /// it is as soon as it is dropped.
    #[must_use]
    pub fn silent(&self, doing: &str, limit: Duration) -> ServerError {
        let why = format!(
            "no answer within the {} s of --mysql-timeout",
            limit.as_secs_f64()
        );
        let error = std::io::Error::new(std::io::ErrorKind::ConnectionAborted, why);
        ServerError::new(self.address(), doing, mysql_async::Error::Io(error.into()))
    }

    /// Connects once and asks the server who it is.
    ///
    /// `timeout` bounds the making of each connection, now and later; without one it is
    /// ten seconds.
    ///
    /// # Errors
    /// If it cannot be reached, refuses the account, or does not answer.
    pub async fn open(
        endpoint: &Endpoint,
        tls: &Tls,
        timeout: Option<Duration>,
    ) -> Result<Self, ServerError> {
        let mut conn = connect::dial(endpoint, tls, timeout, Role::Inspector).await?;
        let fail = |error| ServerError::new(endpoint.address(), "read the server's variables", error);
        conn.query_drop("SET SESSION sql_select_limit = 18446744073709551615")
            .await
            .map_err(fail)?;
        let rows: Vec<(String, String)> = conn.query("SHOW GLOBAL VARIABLES").await.map_err(fail)?;
        let text: Option<(String, String)> = conn
            .query_first("SELECT VERSION(), @@version_comment")
            .await
            .map_err(fail)?;
        let _ = conn.disconnect().await;
        let variables = Variables::new(rows);
        let (text, comment) = text.unwrap_or_default();
        let (flavor, version) = version::recognise(&text, &comment);
        let identity = ServerIdentity {
            address: endpoint.address(),
            version: text,
        };
        let unique_id = variables
            .get("server_uuid")
            .or_else(|| variables.get("server_uid"))
            .map_or_else(
                || {
                    let part = |name| variables.get(name).unwrap_or_default().to_owned();
                    format!(
                        "{}:{}:{}:{}",
                        part("hostname"),
                        part("port"),
                        part("server_id"),
                        part("datadir")
                    )
                },
                str::to_owned,
            );
        Ok(Self {
            endpoint: endpoint.clone(),
            identity,
            flavor,
            version,
            unique_id,
            variables,
            tls: tls.clone(),
            timeout,
        })
    }

    /// Whether it is MariaDB.
    #[must_use]
    pub fn is_mariadb(&self) -> bool {
        self.flavor == Flavor::MariaDb
    }

    /// Whether a session may rename a table that it has locked itself: MySQL from 8.0.13 on.
    #[must_use]
    pub fn renames_under_lock(&self) -> bool {
        const SINCE: Version = Version::new(8, 0, 13);
        !self.is_mariadb() && self.version >= SINCE
    }

    /// What a replica is called in statements: `START REPLICA` or `START SLAVE`. MySQL 8.0.22 brought the
    /// new word, 8.4 took the old one away; MariaDB has the old one.
    #[must_use]
    pub fn replica_word(&self) -> &'static str {
        const SINCE: Version = Version::new(8, 0, 22);
        if !self.is_mariadb() && self.version >= SINCE {
            "REPLICA"
        } else {
            "SLAVE"
        }
    }

    /// `host:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.identity.address
    }

    /// How a driver reaches this server, for whoever makes connections of its own.
    #[must_use]
    pub fn opts(&self, role: Role) -> mysql_async::Opts {
        connect::opts(&self.endpoint, &self.tls, role).into()
    }

    /// A new session with the settings every session of ours has (`READ COMMITTED`, UTF-8, no time limits
    /// for statements, an empty `sql_mode`).
    ///
    /// # Errors
    /// If the server cannot be reached or refuses a setting.
    pub async fn connect(&self, role: Role) -> Result<Conn, ServerError> {
        let mut conn = connect::dial(&self.endpoint, &self.tls, self.timeout, role).await?;
        for statement in session::base(self) {
            conn.query_drop(statement)
                .await
                .map_err(self.failed("set up a session"))?;
        }
        Ok(conn)
    }

    /// A new session for writing the ghost table.
    ///
    /// # Errors
    /// As [`Server::connect`].
    pub async fn connect_writer(&self, role: Role, plan: &SessionPlan) -> Result<Conn, ServerError> {
        let mut conn = self.connect(role).await?;
        let (doing, session) = ("set up a session for writing", WriteSession::new(plan));
        for statement in session.statements() {
            conn.query_drop(statement).await.map_err(self.failed(doing))?;
        }
        for statement in session.wishes() {
            match conn.query_drop(statement).await.map_err(self.failed(doing)) {
                Err(error) if error.kind != ErrorKind::Privilege => return Err(error),
                _ => {}
            }
        }
        Ok(conn)
    }

    /// What turns a driver's error into one that names this server and what was being done: for
    /// `map_err`. `doing` completes "cannot …".
    pub fn failed(&self, doing: &str) -> impl FnOnce(mysql_async::Error) -> ServerError + use<> {
        let address = self.identity.address.clone();
        let doing = doing.to_owned();
        move |error| ServerError::new(address, doing, error)
    }

    /// Another server that is reached with the same account and the same security.
    ///
    /// # Errors
    /// As [`Server::open`].
    pub async fn open_sibling(&self, host: &str, port: u16) -> Result<Self, ServerError> {
        let endpoint = Endpoint {
            host: host.to_owned(),
            port,
            user: self.endpoint.user.clone(),
            password: self.endpoint.password.clone(),
        };
        Self::open(&endpoint, &self.tls, self.timeout).await
    }

    /// Rows of `SHOW …`, whose columns differ between versions: ask them by name.
    pub(crate) async fn show(&self, conn: &mut Conn, statement: &str) -> Result<Vec<Row>, ServerError> {
        conn.query(statement).await.map_err(self.failed(statement))
    }
}

/// A column of a `SHOW` row under the first of several names that exists, as text.
pub(crate) fn shown(row: &Row, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| {
        let index = row
            .columns_ref()
            .iter()
            .position(|c| c.name_str().eq_ignore_ascii_case(name))?;
        match row.as_ref(index)? {
            mysql_async::Value::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            mysql_async::Value::Int(number) => Some(number.to_string()),
            mysql_async::Value::UInt(number) => Some(number.to_string()),
            _ => None,
        }
    })
}
