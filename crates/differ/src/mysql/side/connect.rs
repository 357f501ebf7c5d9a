//! Connections to MySQL and MariaDB, with every setting pinned that changes what a value's text is, or which value a text
//! becomes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Error, Opts, OptsBuilder};

use crate::model::{Dialect, NodeName};
use crate::side::{Canceller, SideError, SideErrorKind};

/// What a server may be set to give of every answer, for the sake of careless people, is less than there is.
const NO_LIMIT: u64 = u64::MAX;

/// Time for a connection to come about.
const CONNECT_PATIENCE: Duration = Duration::from_secs(15);
/// How long the server may be asked to end a statement before it is left to the statement's own limit.
const CANCEL_PATIENCE: Duration = Duration::from_secs(5);
/// What our own clock allows beyond the server's limit.
const GRACE: Duration = Duration::from_secs(5);
/// How long a row's lock is waited for: a repair must not queue behind, or hold up, the application.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// Bytes of a value by which the server sorts: more than the longest key has in any character set.
const SORT_LENGTH: u32 = 16_384;

/// A MySQL or MariaDB server and how it is reached.
#[derive(Clone, Debug)]
pub struct MySqlServer {
    node: NodeName,
    opts: Opts,
    statement_timeout: Duration,
}

impl MySqlServer {
    /// A server; each statement may take as long as `statement_timeout`.
    #[must_use]
    pub fn new(node: NodeName, opts: Opts, statement_timeout: Duration) -> Self {
        Self {
            node,
            opts,
            statement_timeout,
        }
    }

    /// The node's name.
    #[must_use]
    pub fn node(&self) -> &NodeName {
        &self.node
    }

    pub(super) async fn connect(&self) -> Result<MySqlConnection, SideError> {
        self.connect_for(Purpose::Reading).await
    }

    pub(crate) async fn connect_for(&self, purpose: Purpose) -> Result<MySqlConnection, SideError> {
        // An UPDATE tells how many rows it found, not how many had other values.
        let opts: Opts = OptsBuilder::from_opts(self.opts.clone())
            .client_found_rows(true)
            .into();
        let lost = |message: String| SideError::new(&self.node, SideErrorKind::Connection, message);
        let mut conn = tokio::time::timeout(CONNECT_PATIENCE, Conn::new(opts))
            .await
            .map_err(|_| lost("no connection came about in time".into()))?
            .map_err(|error| failure(&self.node, &error))?;
        let version: Option<String> = conn
            .query_first("SELECT VERSION()")
            .await
            .map_err(|error| failure(&self.node, &error))?;
        let dialect = if version.is_some_and(|version| version.to_lowercase().contains("mariadb")) {
            Dialect::MariaDb
        } else {
            Dialect::MySql
        };
        conn.query_drop(settings(dialect, self.statement_timeout, purpose))
            .await
            .map_err(|error| failure(&self.node, &error))?;
        Ok(MySqlConnection {
            node: self.node.clone(),
            dialect,
            patience: self.statement_timeout + GRACE,
            cancel: Arc::new(KillQuery {
                opts: self.opts.clone(),
                id: conn.id(),
            }),
            conn,
        })
    }
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The server refuses every write.
    Reading,
    /// Rows are written.
    Writing,
}

/// Dates that are none are values like others where a table has them.
const READING_MODE: &str = "ANSI_QUOTES,NO_BACKSLASH_ESCAPES,ALLOW_INVALID_DATES";

/// 0 is a value of an AUTO_INCREMENT column like others; what does not fit is refused and not made fit.
pub(crate) const WRITING_MODE: &str =
    "ANSI_QUOTES,NO_BACKSLASH_ESCAPES,ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO,STRICT_ALL_TABLES";

fn settings(dialect: Dialect, limit: Duration, purpose: Purpose) -> String {
    let (read_only, mode) = match purpose {
        Purpose::Reading => (1, READING_MODE),
        Purpose::Writing => (0, WRITING_MODE),
    };
    let (limit, isolation) = match dialect {
        Dialect::MariaDb => (
            format!("max_statement_time = {}", limit.as_secs_f64()),
            format!("tx_isolation = 'READ-COMMITTED', tx_read_only = {read_only}"),
        ),
        _ => (
            format!("max_execution_time = {}", limit.as_millis().max(1)),
            format!("transaction_isolation = 'READ-COMMITTED', transaction_read_only = {read_only}"),
        ),
    };
    let mut text = format!(
        "SET SESSION time_zone = '+00:00', sql_mode = '{mode}', \
         character_set_client = utf8mb4, character_set_results = utf8mb4, character_set_connection = utf8mb4, \
         collation_connection = utf8mb4_bin, max_sort_length = {SORT_LENGTH}, sql_select_limit = {NO_LIMIT}, \
         sql_big_selects = 1, {limit}, {isolation}"
    );
    if purpose == Purpose::Writing {
        let wait = LOCK_WAIT.as_secs();
        text.push_str(&format!(
            ", foreign_key_checks = 1, unique_checks = 1, sql_safe_updates = 0, autocommit = 1, \
             innodb_lock_wait_timeout = {wait}, lock_wait_timeout = {wait}"
        ));
    }
    text
}

/// One connection.
pub(crate) struct MySqlConnection {
    pub(crate) node: NodeName,
    pub(crate) dialect: Dialect,
    pub(super) conn: Conn,
    pub(super) patience: Duration,
    cancel: Arc<KillQuery>,
}

/// A row of texts; `None` is NULL.
pub(crate) type Texts = Vec<Option<String>>;

impl MySqlConnection {
    /// All rows of an answer, as texts.
    pub(crate) async fn all(&mut self, text: &str) -> Result<Vec<Texts>, SideError> {
        let rows: Vec<mysql_async::Row> =
            match tokio::time::timeout(self.patience, self.conn.query(text)).await {
                Ok(rows) => rows.map_err(|error| failure(&self.node, &error))?,
                Err(_) => return Err(no_answer(&self.node, self.patience)),
            };
        rows.into_iter().map(|row| texts(&self.node, row)).collect()
    }

    /// Runs statements that return no rows, one after the other until one fails, and says how many rows they found.
    ///
    /// # Errors
    /// The server's, with its number, if it answered; the connection is of no use any more otherwise.
    pub(crate) async fn execute(&mut self, text: &str) -> Result<u64, Failure> {
        match tokio::time::timeout(self.patience, run(&mut self.conn, text)).await {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(error)) => Err(Failure {
                code: match &error {
                    Error::Server(server) => Some(server.code),
                    _ => None,
                },
                error: failure(&self.node, &error),
            }),
            Err(_) => {
                // It would go on, and keep its locks, until it has something to say.
                self.cancel.cancel().await;
                Err(Failure {
                    code: None,
                    error: no_answer(&self.node, self.patience),
                })
            }
        }
    }

    pub(super) fn canceller(&self) -> Arc<dyn Canceller> {
        Arc::clone(&self.cancel) as Arc<dyn Canceller>
    }

    pub(super) fn odd(&self, what: &str) -> SideError {
        SideError::new(&self.node, SideErrorKind::Permanent, what)
    }
}

/// A statement failed.
pub(crate) struct Failure {
    /// The server's number for it, if it was the server.
    pub(crate) code: Option<u16>,
    pub(crate) error: SideError,
}

async fn run(conn: &mut Conn, text: &str) -> Result<u64, Error> {
    let mut result = conn.query_iter(text).await?;
    let mut rows = result.affected_rows();
    while !result.is_empty() {
        let _: Vec<mysql_async::Row> = result.collect().await?;
        rows += result.affected_rows();
    }
    result.drop_result().await?;
    Ok(rows)
}

/// Every value of the text protocol is its text.
pub(super) fn texts(node: &NodeName, row: mysql_async::Row) -> Result<Texts, SideError> {
    let odd = |what: &str| SideError::new(node, SideErrorKind::Permanent, what);
    row.unwrap()
        .into_iter()
        .map(|value| match value {
            mysql_async::Value::NULL => Ok(None),
            mysql_async::Value::Bytes(bytes) => String::from_utf8(bytes)
                .map(Some)
                .map_err(|_| odd("a text came that is not UTF-8")),
            _ => Err(odd("a value came that is not a text")),
        })
        .collect()
}

pub(super) fn no_answer(node: &NodeName, patience: Duration) -> SideError {
    SideError::new(
        node,
        SideErrorKind::Timeout,
        format_args!("no answer for {} s", patience.as_secs()),
    )
}

pub(super) fn failure(node: &NodeName, error: &Error) -> SideError {
    let kind = match error {
        Error::Server(server) => match server.code {
            // Interrupted, MySQL's and MariaDB's own time limits.
            1317 | 3024 | 1969 => SideErrorKind::Timeout,
            1205 | 1213 | 1040 | 1226 | 1203 => SideErrorKind::Transient,
            1053 | 1077..=1079 | 1158..=1161 | 1927 | 4031 => SideErrorKind::Connection,
            _ => SideErrorKind::Permanent,
        },
        _ => SideErrorKind::Connection,
    };
    SideError::new(node, kind, error)
}

struct KillQuery {
    opts: Opts,
    id: u32,
}

impl Canceller for KillQuery {
    fn cancel(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let kill = async {
                let mut conn = Conn::new(self.opts.clone()).await?;
                conn.query_drop(format!("KILL QUERY {}", self.id)).await?;
                conn.disconnect().await
            };
            match tokio::time::timeout(CANCEL_PATIENCE, kill).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a statement could not be cancelled"),
                Err(_) => tracing::debug!("a statement could not be cancelled in time"),
            }
        })
    }
}
