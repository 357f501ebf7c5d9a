//! Who would keep the lock from us: looked for before asking, because everybody queues behind a waiting lock.

use std::time::Duration;

use changeling_core::ident::TableName;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row, params};
use tokio::time::sleep;

use crate::server::ServerError;
use crate::sessions::Sessions;

/// Ordinary transactions hold their metadata locks for milliseconds; who is seen holding the same lock again
/// after this long will likely keep it longer than an attempt waits.
const SECOND_LOOK: Duration = Duration::from_millis(200);

const MYSQL: &str = "SELECT m.OBJECT_INSTANCE_BEGIN, m.OBJECT_NAME, m.LOCK_TYPE, t.PROCESSLIST_ID, t.PROCESSLIST_USER \
     FROM performance_schema.metadata_locks m JOIN performance_schema.threads t ON t.THREAD_ID = m.OWNER_THREAD_ID \
     WHERE m.OBJECT_TYPE = 'TABLE' AND m.OBJECT_SCHEMA = :schema AND m.OBJECT_NAME IN (:original, :ghost) \
     AND m.LOCK_STATUS = 'GRANTED' AND m.LOCK_DURATION IN ('TRANSACTION', 'EXPLICIT') \
     AND t.PROCESSLIST_ID <> CONNECTION_ID()";

/// Locks have no number there. A session that still is, or was last, at the same statement has not let go in between.
const MARIADB: &str = "SELECT p.QUERY_ID, m.TABLE_NAME, m.LOCK_MODE, m.THREAD_ID, p.USER \
     FROM information_schema.METADATA_LOCK_INFO m JOIN information_schema.PROCESSLIST p ON p.ID = m.THREAD_ID \
     WHERE m.TABLE_SCHEMA = :schema AND m.TABLE_NAME IN (:original, :ghost) AND m.THREAD_ID <> CONNECTION_ID()";

/// A session that holds a metadata lock and does not let go.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Holder {
    lock: u64,
    table: String,
    mode: String,
    session: u64,
    user: String,
}

/// Looks twice; `Some` says who holds which table on both looks. `None` also where the server does not show its
/// metadata locks: then the short lock attempts have to do.
///
/// # Errors
/// When the server cannot be asked for another reason than not showing its locks.
pub async fn look(
    sessions: &Sessions,
    original: &TableName,
    ghost: &TableName,
) -> Result<Option<String>, ServerError> {
    let mut conn = sessions.open().await?;
    let Some(first) = holders(&mut conn, sessions, original, ghost).await else {
        return Ok(None);
    };
    if first.is_empty() {
        return Ok(None);
    }
    sleep(SECOND_LOOK).await;
    let second = holders(&mut conn, sessions, original, ghost)
        .await
        .unwrap_or_default();
    let _ = conn.disconnect().await;
    let stubborn = second.iter().find(|holder| first.contains(holder));
    Ok(stubborn.map(|holder| {
        format!(
            "session {} ({}) holds a metadata lock ({}) on `{}`; wait for it, or end it with KILL {}",
            holder.session, holder.user, holder.mode, holder.table, holder.session
        )
    }))
}

async fn holders(
    conn: &mut Conn,
    sessions: &Sessions,
    original: &TableName,
    ghost: &TableName,
) -> Option<Vec<Holder>> {
    let sql = if sessions.server().is_mariadb() {
        MARIADB
    } else {
        MYSQL
    };
    let params = params! {
        "schema" => &original.schema,
        "original" => &original.table,
        "ghost" => &ghost.table,
    };
    match conn.exec::<Row, _, _>(sql, params).await {
        Ok(rows) => Some(rows.into_iter().filter_map(holder).collect()),
        Err(error) => {
            tracing::debug!(%error, "the server does not show its metadata locks");
            None
        }
    }
}

fn holder(mut row: Row) -> Option<Holder> {
    Some(Holder {
        lock: row.take_opt(0)?.ok()?,
        table: row.take_opt(1)?.ok()?,
        mode: row.take_opt(2)?.ok()?,
        session: row.take_opt(3)?.ok()?,
        user: row.take_opt::<Option<String>, _>(4)?.ok()?.unwrap_or_default(),
    })
}
