//! Connections: made under libpq's TLS rules, with every setting pinned that changes what a value's text is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio_postgres::error::SqlState;
use tokio_postgres::{CancelToken, Client, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::sync::CancellationToken;

use crate::model::NodeName;
use crate::side::{Canceller, SideError, SideErrorKind};

use super::ident::{quote, quote_text};
use super::options::PgOptions;
use super::tls;

/// How long the server may be asked to end a statement before it is left to the statement's own limit.
const CANCEL_PATIENCE: Duration = Duration::from_secs(5);
/// How often it is asked, at most, and the wait between: a statement on its way arrives sooner.
const CANCEL_TRIES: u32 = 5;
const CANCEL_PAUSE: Duration = Duration::from_millis(100);
/// What our own clock allows beyond the server's limit: only a server or network that is gone uses it up.
const GRACE: Duration = Duration::from_secs(5);
/// How often the server looks whether the client of a statement under way is still there: a poll of a socket.
const CLIENT_CHECK: Duration = Duration::from_secs(2);
/// Prepared statements kept by a connection. There are some dozens of texts; more means that a number varies.
const KEPT_STATEMENTS: usize = 64;

/// A PostgreSQL server and how it is reached.
#[derive(Clone, Debug)]
pub struct PgServer {
    node: NodeName,
    options: PgOptions,
    statement_timeout: Duration,
}

impl PgServer {
    /// A server; each statement may take as long as `statement_timeout`, to the millisecond.
    #[must_use]
    pub fn new(node: NodeName, options: PgOptions, statement_timeout: Duration) -> Self {
        Self {
            node,
            options,
            statement_timeout,
        }
    }

    /// The node's name.
    #[must_use]
    pub fn node(&self) -> &NodeName {
        &self.node
    }

    /// A connection that can only read. `schemas` are searched after `pg_catalog`.
    ///
    /// # Errors
    /// The server cannot be reached, refuses the login, or does not take a setting.
    pub async fn connect(&self, schemas: &[String]) -> Result<PgConnection, SideError> {
        let client = self.open().await?;
        let connection = PgConnection {
            node: self.node.clone(),
            cancel: Arc::new(PgCanceller {
                token: client.client.cancel_token(),
                tls: client.tls,
                ended: client.ended,
            }),
            client: client.client,
            statements: HashMap::new(),
            patience: self.statement_timeout + GRACE,
        };
        let settings = settings(schemas, self.statement_timeout);
        connection.run(&settings).await?;
        // From version 14, and not on every system: where the server does not take it, a statement whose client is gone
        // goes on until its own time limit.
        if let Err(error) = connection.run(&watch_client()).await
            && error.kind == SideErrorKind::Connection
        {
            return Err(error);
        }
        Ok(connection)
    }

    async fn open(&self) -> Result<Opened, SideError> {
        let failed = |message: String| SideError::new(&self.node, SideErrorKind::Connection, message);
        let tls = tls::connector(&self.options)
            .map_err(|why| SideError::new(&self.node, SideErrorKind::Permanent, why))?;
        let config = self.options.config();
        let connecting = config.connect(tls.clone());
        let (client, connection) =
            tokio::time::timeout(self.options.connect_timeout + GRACE, Box::pin(connecting))
                .await
                .map_err(|_| failed("no connection came about in time".into()))?
                .map_err(|error| self.refused(&error))?;
        let node = self.node.clone();
        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        // Ends when the client is dropped and nothing is awaited any more; what is wrong shows in the client's next call.
        tokio::spawn(async move {
            let _guard = guard;
            if let Err(error) = connection.await {
                tracing::debug!(%node, %error, "a connection ended");
            }
        });
        Ok(Opened { client, tls, ended })
    }

    fn refused(&self, error: &tokio_postgres::Error) -> SideError {
        let kind = match error.code() {
            Some(code)
                if [
                    &SqlState::INVALID_PASSWORD,
                    &SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
                    &SqlState::INVALID_CATALOG_NAME,
                ]
                .contains(&code) =>
            {
                SideErrorKind::Permanent
            }
            _ => SideErrorKind::Connection,
        };
        SideError::new(&self.node, kind, format_args!("cannot connect: {}", told(error)))
    }
}

struct Opened {
    client: Client,
    tls: MakeRustlsConnect,
    ended: CancellationToken,
}

/// The server's own names first, then these.
fn search_path(schemas: &[String]) -> String {
    let path: Vec<String> = std::iter::once("pg_catalog".to_owned())
        .chain(schemas.iter().map(|schema| quote(schema)))
        .collect();
    format!(
        "set_config('search_path', {}, false)",
        quote_text(&path.join(", "))
    )
}

/// Settings on which the text of a value, a plan or a limit depends. One statement, so one round trip.
fn settings(schemas: &[String], statement_timeout: Duration) -> String {
    let milliseconds = statement_timeout.as_millis().to_string();
    let settings: [(&str, &str); 25] = [
        ("TimeZone", "UTC"),
        ("DateStyle", "ISO, YMD"),
        ("IntervalStyle", "postgres"),
        ("extra_float_digits", "1"),
        ("bytea_output", "hex"),
        ("lc_monetary", "C"),
        ("lc_numeric", "C"),
        ("lc_time", "C"),
        ("xmlbinary", "base64"),
        ("xmloption", "content"),
        ("quote_all_identifiers", "off"),
        ("array_nulls", "on"),
        ("standard_conforming_strings", "on"),
        ("transform_null_equals", "off"),
        // An error instead of rows that silently are not there.
        ("row_security", "off"),
        ("default_transaction_read_only", "on"),
        // Only a fence commits anything, and it need not wait for synchronous standbys.
        ("synchronous_commit", "local"),
        ("statement_timeout", &milliseconds),
        // A keeper is idle in its transaction for as long as the job runs, a child while its siblings work.
        ("idle_in_transaction_session_timeout", "0"),
        ("idle_session_timeout", "0"),
        // The children are the parallelism that the operator asked for; compiling costs more than it gains.
        ("max_parallel_workers_per_gather", "0"),
        ("jit", "off"),
        ("plan_cache_mode", "force_custom_plan"),
        // Rows are looked up by key in hundreds: never by reading the table.
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
    ];
    let mut calls: Vec<String> = settings
        .iter()
        .map(|(name, value)| format!("set_config('{name}', {}, false)", quote_text(value)))
        .collect();
    calls.push(search_path(schemas));
    format!("SELECT {}", calls.join(", "))
}

/// Has the server look whether we are still there while it works for us. A process that was killed cancels nothing.
fn watch_client() -> String {
    format!(
        "SET client_connection_check_interval = {}",
        CLIENT_CHECK.as_millis()
    )
}

/// One connection, with its prepared statements.
pub struct PgConnection {
    node: NodeName,
    client: Client,
    statements: HashMap<String, Statement>,
    patience: Duration,
    cancel: Arc<PgCanceller>,
}

impl PgConnection {
    /// The driver's client, for what has no method here.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The node's name.
    #[must_use]
    pub fn node(&self) -> &NodeName {
        &self.node
    }

    /// Searches these schemas from now on, after `pg_catalog`.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn search(&mut self, schemas: &[String]) -> Result<(), SideError> {
        // What was prepared may mean something else now.
        self.statements.clear();
        self.run(&format!("SELECT {}", search_path(schemas))).await
    }

    /// Runs statements without parameters.
    ///
    /// # Errors
    /// The server's, or that it does not answer.
    pub async fn run(&self, text: &str) -> Result<(), SideError> {
        self.patient(self.client.batch_execute(text)).await
    }

    /// Prepares a statement, once.
    ///
    /// # Errors
    /// The server's, or that it does not answer.
    pub async fn prepare(&mut self, text: &str) -> Result<Statement, SideError> {
        if let Some(statement) = self.statements.get(text) {
            return Ok(statement.clone());
        }
        let statement = self.patient(self.client.prepare(text)).await?;
        if self.statements.len() >= KEPT_STATEMENTS {
            self.statements.clear();
        }
        self.statements.insert(text.to_owned(), statement.clone());
        Ok(statement)
    }

    /// Waits for an answer, but not for ever.
    ///
    /// # Errors
    /// The server's, or that it does not answer.
    pub async fn patient<T>(
        &self,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, SideError> {
        match tokio::time::timeout(self.patience, answer).await {
            Ok(answer) => answer.map_err(|error| self.failure(&error)),
            Err(_) => Err(no_answer(&self.node, self.patience)),
        }
    }

    /// How long an answer is waited for.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// What an error of the driver means.
    #[must_use]
    pub fn failure(&self, error: &tokio_postgres::Error) -> SideError {
        failure(&self.node, error)
    }

    /// The means to end its statement from outside.
    #[must_use]
    pub fn canceller(&self) -> Arc<dyn Canceller> {
        Arc::clone(&self.cancel) as Arc<dyn Canceller>
    }
}

/// The node said nothing for too long.
pub(super) fn no_answer(node: &NodeName, patience: Duration) -> SideError {
    SideError::new(
        node,
        SideErrorKind::Timeout,
        format_args!("no answer for {} s", patience.as_secs()),
    )
}

/// What an error of the driver means.
pub(super) fn failure(node: &NodeName, error: &tokio_postgres::Error) -> SideError {
    let kind = match error.code() {
        None => SideErrorKind::Connection,
        Some(code) if *code == SqlState::QUERY_CANCELED => SideErrorKind::Timeout,
        Some(code) => match &code.code()[..2] {
            "08" => SideErrorKind::Connection,
            "57" => SideErrorKind::Connection,
            "40" | "53" | "55" => SideErrorKind::Transient,
            _ => SideErrorKind::Permanent,
        },
    };
    SideError::new(node, kind, told(error))
}

/// The server's words with its hint; or the driver's with their causes.
fn told(error: &tokio_postgres::Error) -> String {
    if let Some(server) = error.as_db_error() {
        let mut text = format!("{} (SQLSTATE {})", server.message(), server.code().code());
        if *server.code() == SqlState::INSUFFICIENT_PRIVILEGE
            && server.message().contains("row-level security")
        {
            text.push_str(
                "; rows may be hidden from this role. Use one that owns the table or has BYPASSRLS",
            );
        } else if let Some(hint) = server.hint() {
            text.push_str(". ");
            text.push_str(hint);
        }
        return text;
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

struct PgCanceller {
    token: CancelToken,
    tls: MakeRustlsConnect,
    /// The connection has ended.
    ended: CancellationToken,
}

impl PgCanceller {
    async fn ask(&self) {
        let asked = tokio::time::timeout(CANCEL_PATIENCE, self.token.cancel_query(self.tls.clone())).await;
        match asked {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a statement could not be cancelled"),
            Err(_) => tracing::debug!("a statement could not be cancelled in time"),
        }
    }
}

impl Canceller for PgCanceller {
    /// A request that comes when the statement is on its way to the server, or between two, ends nothing, and dropping
    /// the client does not call back what is on its way. So it is asked again until the connection is over.
    fn cancel(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            for _ in 0..CANCEL_TRIES {
                if self.ended.is_cancelled() {
                    return;
                }
                self.ask().await;
                if tokio::time::timeout(CANCEL_PAUSE, self.ended.cancelled())
                    .await
                    .is_ok()
                {
                    return;
                }
            }
        })
    }
}
