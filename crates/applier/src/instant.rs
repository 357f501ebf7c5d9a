//! `--attempt-instant-ddl`: perhaps the server can do it at once.

use std::time::Duration;

use changeling_core::ident::TableName;
use mysql_async::prelude::Queryable;

use crate::ghost::owned;
use crate::plan::SessionPlan;
use crate::server::{ErrorKind, Role, Server, ServerError};

/// The first wait after the table's metadata lock was not free; gh-ost's step, it grows by itself each time.
const STEP: Duration = Duration::from_secs(1);

/// The longest wait between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How an attempt went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstantOutcome {
    /// The table is altered.
    Done,
    /// The server does not do it at once; its answer.
    NotInstant(String),
}

/// Tries `ALTER TABLE … ALGORITHM=INSTANT` on the table itself.
///
/// Only a metadata lock that is not free within `lock_wait` is waited for again, `tries` times: each wait
/// keeps the application's statements queueing behind ours. Anything else the server says means "not instant".
///
/// # Errors
/// If the connection is lost: then it is not known whether the table is altered.
pub async fn attempt(
    server: &Server,
    table: &TableName,
    body: &str,
    session: &SessionPlan,
    lock_wait: Duration,
    tries: u64,
    owner: &str,
) -> Result<InstantOutcome, ServerError> {
    let doing = format!("alter {table} at once");
    let mut conn = server.connect_writer(Role::Definer, session).await?;
    conn.query_drop(format!(
        "SET SESSION lock_wait_timeout={}",
        lock_wait.as_secs().max(1)
    ))
    .await
    .map_err(server.failed(&doing))?;
    // First in the list: after it the body may end in anything, PARTITION BY or a comment.
    let statement = owned(
        owner,
        &format!("ALTER TABLE {} ALGORITHM=INSTANT, {body}", table.quoted()),
    );
    let mut pause = STEP;
    for left in (0..tries.max(1)).rev() {
        let error = match conn.query_drop(&statement).await {
            Ok(()) => return Ok(InstantOutcome::Done),
            Err(error) => server.failed(&doing)(error),
        };
        match error.kind {
            ErrorKind::LockWait if left > 0 => {
                tracing::info!(%error, left, "the table's metadata lock is not free");
                tokio::time::sleep(pause).await;
                pause = (pause + STEP).min(LONGEST_PAUSE);
            }
            _ if error.errno().is_some() && error.kind != ErrorKind::Lost => {
                return Ok(InstantOutcome::NotInstant(error.to_string()));
            }
            _ => return Err(error),
        }
    }
    Ok(InstantOutcome::NotInstant(
        "the table's metadata lock was not free".to_owned(),
    ))
}
