//! Sessions of one kind: one way to open them, one way to try again.

use std::sync::Arc;
use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio_util::sync::CancellationToken;

use crate::error::ApplyError;
use crate::plan::SessionPlan;
use crate::server::{ErrorKind, Role, Server, ServerError};

/// The first wait before a retry; it doubles up to [`LAST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(20);
/// The longest wait between retries, gh-ost's.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// How statements become transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Every statement commits by itself; nothing of the ghost table's conversion is set.
    AutoCommit,
    /// As the plan says for writing the ghost table, each statement committing by itself: for proving.
    Reader(SessionPlan),
    /// As the plan says for writing the ghost table, and without autocommit: a chunk or a batch is
    /// committed by a packet of its own, after its statements were answered.
    Writer(SessionPlan),
}

/// Opens sessions that are all set up alike, so that a value is converted alike in each.
#[derive(Clone, Debug)]
pub struct Sessions {
    server: Arc<Server>,
    role: Role,
    mode: Mode,
    retries: u64,
}

impl Sessions {
    /// Sessions on one server; `retries` is how often work is tried, at least once.
    #[must_use]
    pub fn new(server: Arc<Server>, role: Role, mode: Mode, retries: u64) -> Self {
        Self {
            server,
            role,
            mode,
            retries,
        }
    }

    /// The same for another purpose.
    #[must_use]
    pub fn for_role(&self, role: Role) -> Self {
        Self { role, ..self.clone() }
    }

    /// Opens a session.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses a setting.
    pub async fn open(&self) -> Result<Conn, ServerError> {
        match &self.mode {
            Mode::AutoCommit => self.server.connect(self.role).await,
            Mode::Reader(plan) | Mode::Writer(plan) => {
                let mut conn = self.server.connect_writer(self.role, plan).await?;
                for statement in self.tuning() {
                    conn.query_drop(statement)
                        .await
                        .map_err(self.server.failed("set up a session"))?;
                }
                Ok(conn)
            }
        }
    }

    /// Beside autocommit: MySQL's range optimizer must neither give up on a long list of keys (its memory
    /// limit turns point look-ups into a scan) nor dive into the index for each of them.
    fn tuning(&self) -> Vec<&'static str> {
        let mut statements = Vec::new();
        if matches!(self.mode, Mode::Writer(_)) {
            statements.push("SET SESSION autocommit=0");
        }
        if !self.server.is_mariadb() {
            statements.push("SET SESSION range_optimizer_max_mem_size=0, eq_range_index_dive_limit=1");
        }
        statements
    }

    /// The server.
    #[must_use]
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// A session that reconnects and tries again.
    #[must_use]
    pub fn lasting(&self) -> Session {
        Session {
            sessions: self.clone(),
            conn: None,
        }
    }
}

/// A session that is opened when first used, and anew after it was lost.
#[derive(Debug)]
pub struct Session {
    sessions: Sessions,
    conn: Option<Conn>,
}

/// What an attempt ended in.
pub type Attempt<T> = Result<T, mysql_async::Error>;

/// Something to be done in one transaction, as often as it takes.
///
/// It starts from nothing each time and is idempotent, because a lost connection leaves open whether its
/// commit took place.
pub trait Work: Sync {
    /// What it yields.
    type Output: Send;

    /// Does it once.
    fn attempt(&self, conn: &mut Conn) -> impl Future<Output = Attempt<Self::Output>> + Send;
}

/// One statement whose result does not matter.
#[derive(Clone, Debug)]
pub struct Execute(pub String);

impl Work for Execute {
    type Output = ();

    async fn attempt(&self, conn: &mut Conn) -> Attempt<()> {
        conn.query_drop(&self.0).await
    }
}

impl Session {
    /// Runs `work` until it succeeds, fails for good, or was tried often enough. Between two tries the
    /// transaction is rolled back, or the session was lost and the server rolls it back.
    ///
    /// Cancel: between tries, and by dropping the future (the session is then closed, not reused).
    ///
    /// # Errors
    /// The last failure.
    pub async fn run<W: Work>(
        &mut self,
        what: &str,
        cancel: &CancellationToken,
        work: &W,
    ) -> Result<W::Output, ApplyError> {
        let mut wait = FIRST_WAIT;
        let mut tries = 0;
        loop {
            tries += 1;
            let error = match self.attempt(what, work).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            if !may_pass(error.kind) || tries >= self.sessions.retries.max(1) {
                return Err(error.into());
            }
            tracing::debug!(%error, tries, "trying again");
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = cancel.cancelled() => return Err(error.into()),
            }
            wait = (wait * 2).min(LAST_WAIT);
        }
    }

    async fn attempt<W: Work>(&mut self, what: &str, work: &W) -> Result<W::Output, ServerError> {
        // Taken out, so that a future dropped in the middle takes the session with it.
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => self.sessions.open().await?,
        };
        let answer = match self.sessions.server.timeout() {
            None => work.attempt(&mut conn).await,
            // The session goes with an answer that does not come: the server may be at it still.
            Some(limit) => match tokio::time::timeout(limit, work.attempt(&mut conn)).await {
                Ok(answer) => answer,
                Err(_) => return Err(self.sessions.server.silent(what, limit)),
            },
        };
        match answer {
            Ok(value) => {
                self.conn = Some(conn);
                Ok(value)
            }
            Err(error) => {
                let error = self.sessions.server.failed(what)(error);
                if error.errno().is_some() && conn.query_drop("ROLLBACK").await.is_ok() {
                    self.conn = Some(conn);
                }
                Err(error)
            }
        }
    }
}

/// Whether a failure may pass by itself.
#[must_use]
pub fn may_pass(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Deadlock
            | ErrorKind::LockWait
            | ErrorKind::Lost
            | ErrorKind::Unreachable
            | ErrorKind::Crowded
            | ErrorKind::Killed
    )
}
