//! A session whose statements are bounded in time by somebody who can kill them.

use std::time::Duration;

use changeling_core::ident::TableName;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::time::{Instant, timeout};

use super::work::Setback;
use crate::server::{ErrorKind, ServerError};
use crate::sessions::Sessions;

/// How long a killed statement may take to end. The server looks for kills at every wait.
const LAST_GASP: Duration = Duration::from_secs(5);

/// A session of a cut-over and the means to end its statements.
#[derive(Debug)]
pub struct Locker {
    conn: Conn,
    sessions: Sessions,
    id: u32,
}

impl Locker {
    /// Opens a session. Its own waits for metadata locks end after a second even if nobody kills them.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn open(sessions: &Sessions) -> Result<Self, ServerError> {
        let mut conn = sessions.open().await?;
        conn.query_drop("SET SESSION lock_wait_timeout = 1")
            .await
            .map_err(sessions.server().failed("set up a session"))?;
        let id = conn.id();
        Ok(Self {
            conn,
            sessions: sessions.clone(),
            id,
        })
    }

    /// The server's number for the session.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The connection, for work that brings its own statements.
    pub fn conn(&mut self) -> &mut Conn {
        &mut self.conn
    }

    /// Names the server in a driver's error.
    #[must_use]
    pub fn failed(&self, doing: &str, error: mysql_async::Error) -> ServerError {
        self.sessions.server().failed(doing)(error)
    }

    /// Runs a statement; after `limit` it is killed. A statement that succeeds although it was killed has
    /// succeeded.
    ///
    /// # Errors
    /// [`Setback::Retry`] when the time was up or a lock was not had; [`Setback::Lost`] when the session is
    /// gone and the statement's effect unknown; else [`Setback::Fatal`].
    pub async fn execute(&mut self, doing: &str, sql: &str, limit: Duration) -> Result<(), Setback> {
        let Self { conn, sessions, id } = self;
        let statement = conn.query_drop(sql);
        tokio::pin!(statement);
        let mut result = timeout(limit, &mut statement).await.ok();
        let killed_by_us = result.is_none();
        if killed_by_us {
            kill_query(sessions, *id).await;
            result = timeout(LAST_GASP, &mut statement).await.ok();
        }
        match result {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => {
                let error = sessions.server().failed(doing)(error);
                if killed_by_us && error.kind == ErrorKind::Killed {
                    return Err(Setback::Retry(format!("cannot {doing} within {limit:?}")));
                }
                Err(setback(error, limit))
            }
            None => Err(Setback::Lost(format!(
                "cannot {doing}: no answer after {limit:?}, and none to a kill"
            ))),
        }
    }

    /// Locks tables. From here on the server ends the session by itself, and so unlocks, once it has heard nothing for
    /// little longer than the lock may be held: this process may be stopped, and its host may vanish without a word.
    ///
    /// # Errors
    /// As [`Locker::execute`].
    pub async fn lock(
        &mut self,
        original: &TableName,
        tables: &str,
        held: Duration,
        limit: Duration,
    ) -> Result<(), Setback> {
        let idle = held.as_secs() + 2;
        self.execute(
            "set up a session",
            &format!("SET SESSION wait_timeout = {idle}"),
            limit,
        )
        .await?;
        self.execute(
            &format!("lock {original}"),
            &format!("LOCK TABLES {tables}"),
            limit,
        )
        .await
    }

    /// Closes the session after a failure. One whose statement was given up is killed by [`confirm_gone`]: it would
    /// not read a farewell before the statement's end, and keep its locks until then.
    pub async fn leave(self, setback: &Setback) {
        if !matches!(setback, Setback::Lost(_)) {
            self.close().await;
        }
    }

    /// Closes the session. What it locked is free when this returns, or soon after.
    pub async fn close(self) {
        let _ = timeout(LAST_GASP, self.conn.disconnect()).await;
    }
}

fn setback(error: ServerError, limit: Duration) -> Setback {
    match error.kind {
        ErrorKind::LockWait | ErrorKind::Killed | ErrorKind::Deadlock => {
            Setback::Retry(format!("{error} (within {limit:?})"))
        }
        ErrorKind::Lost | ErrorKind::Unreachable => Setback::Lost(error.to_string()),
        _ => Setback::Fatal(error.into()),
    }
}

/// Ends the statement that a session runs; the session stays.
pub async fn kill_query(sessions: &Sessions, id: u32) {
    kill(sessions, &format!("KILL QUERY {id}")).await;
}

async fn kill(sessions: &Sessions, sql: &str) {
    let attempt = async {
        let mut conn = sessions.open().await?;
        conn.query_drop(sql)
            .await
            .map_err(sessions.server().failed("kill a session of ours"))?;
        let _ = conn.disconnect().await;
        Ok::<_, ServerError>(())
    };
    if let Ok(Err(error)) = timeout(LAST_GASP, attempt).await {
        tracing::debug!(%error, "killing failed; the session may be gone already");
    }
}

/// Ends a session and waits until the server does not list it any more: whatever it was doing has then
/// happened or never will.
///
/// # Errors
/// When the server cannot be asked, or still lists it at the end of `limit`.
pub async fn confirm_gone(sessions: &Sessions, id: u32, limit: Duration) -> Result<(), String> {
    const LOOK: Duration = Duration::from_millis(50);
    let deadline = Instant::now() + limit;
    let mut last = format!("session {id} is still there");
    while Instant::now() < deadline {
        kill(sessions, &format!("KILL CONNECTION {id}")).await;
        match listed(sessions, id).await {
            Ok(false) => return Ok(()),
            Ok(true) => {}
            Err(error) => last = error.to_string(),
        }
        tokio::time::sleep(LOOK).await;
    }
    Err(last)
}

async fn listed(sessions: &Sessions, id: u32) -> Result<bool, ServerError> {
    let mut conn = sessions.open().await?;
    let sql = format!("SELECT 1 FROM information_schema.PROCESSLIST WHERE ID = {id}");
    let row: Option<u8> = conn
        .query_first(sql)
        .await
        .map_err(sessions.server().failed("look for a session of ours"))?;
    let _ = conn.disconnect().await;
    Ok(row.is_some())
}
