//! What happened to the names, as the server shows it.

use std::time::Duration;

use changeling_core::ident::TableName;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, params};

use super::locker::confirm_gone;
use super::work::Setback;
use crate::server::ServerError;
use crate::sessions::Sessions;

/// How long to look for the truth after a connection was lost. The server may be restarting.
const PATIENCE: Duration = Duration::from_secs(60);

/// Marks a sentry table, so that it is never taken for the old table, nor dropped if it is not ours.
pub const SENTRY: &str = "ghost-cut-over-sentry";

/// The names that a swap concerns.
#[derive(Clone, Debug)]
pub struct Names {
    /// T.
    pub original: TableName,
    /// G, under the name it had when the swap was sent.
    pub ghost: TableName,
    /// D, under the name it gets by the swap.
    pub old: TableName,
}

/// Decides whether a swap whose answer was lost took place. The names change in one atomic statement, so
/// which of G and D exists is the answer, once the session that sent it is gone.
///
/// # Errors
/// [`Setback::Lost`] with everything known, when it cannot be decided: then nothing may be cleaned up.
pub async fn decide(sessions: &Sessions, session: u32, names: &Names) -> Result<bool, Setback> {
    if let Err(why) = confirm_gone(sessions, session, PATIENCE).await {
        return Err(unknown(names, &why));
    }
    let shown = match look(sessions, names).await {
        Ok(shown) => shown,
        Err(error) => return Err(unknown(names, &error.to_string())),
    };
    match shown {
        Shown {
            original: true,
            ghost: true,
            old: false,
        } => Ok(false),
        Shown {
            original: true,
            ghost: false,
            old: true,
        } => Ok(true),
        shown => Err(unknown(names, &format!("{shown:?}"))),
    }
}

fn unknown(names: &Names, why: &str) -> Setback {
    Setback::Lost(format!(
        "it is UNKNOWN whether {} was swapped: {why}. Nothing is cleaned up. Look at SHOW TABLES: if {} exists and {} \
         does not, the new table is in place; otherwise the original is",
        names.original, names.old, names.ghost
    ))
}

#[derive(Clone, Copy, Debug)]
struct Shown {
    original: bool,
    ghost: bool,
    old: bool,
}

async fn look(sessions: &Sessions, names: &Names) -> Result<Shown, ServerError> {
    let mut conn = sessions.open().await?;
    let shown = Shown {
        original: exists(&mut conn, sessions, &names.original).await?,
        ghost: exists(&mut conn, sessions, &names.ghost).await?,
        old: exists(&mut conn, sessions, &names.old).await?,
    };
    let _ = conn.disconnect().await;
    Ok(shown)
}

/// Whether a table of this name exists that is not a sentry.
async fn exists(conn: &mut Conn, sessions: &Sessions, table: &TableName) -> Result<bool, ServerError> {
    let row: Option<String> = conn
        .exec_first(
            "SELECT TABLE_COMMENT FROM information_schema.TABLES WHERE TABLE_SCHEMA = :schema AND TABLE_NAME = :table",
            params! { "schema" => &table.schema, "table" => &table.table },
        )
        .await
        .map_err(sessions.server().failed("look for a table"))?;
    Ok(row.is_some_and(|comment| !comment.starts_with(SENTRY)))
}
