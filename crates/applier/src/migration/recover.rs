//! What a run that was killed inside a swap has left, put right.
//!
//! A swap of one session leaves nothing: its locks and its RENAME go with it. A swap of two sessions
//! ([`crate::cutover::sentry`]) leaves the ghost table under another name and a sentry, or, when it was killed in the
//! moment after the RENAME, the original table under another name.

use std::time::Duration;

use changeling_core::schema::TableSchema;
use mysql_async::prelude::Queryable;
use tokio::time::{Instant, sleep};

use super::MigrationError;
use crate::checkpoint::{Checkpoint, SwapNames};
use crate::cutover::outcome::SENTRY;
use crate::ghost::Definer;
use crate::inspector::{Inspection, TableDetail, read};
use crate::plan::TableNames;
use crate::server::{Role, Server, ServerError};
use crate::settings::{MigrationSettings, Place};

/// How long killed sessions of the earlier run may take to end.
const GONE: Duration = Duration::from_secs(30);
/// Between two looks for them.
const LOOK: Duration = Duration::from_millis(100);

/// What there is to go on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// The ghost table.
    Ghost,
    /// The tables are swapped.
    Swapped,
    /// Neither.
    Nothing,
}

/// Ends what the earlier run's sessions still do, gives the tables their usual names, and says what there is.
pub(super) async fn put_right(
    settings: &MigrationSettings,
    inspection: &Inspection,
    checkpoint: &Checkpoint,
    swap: Option<SwapNames>,
    names: &TableNames,
) -> Result<Left, MigrationError> {
    let server = &inspection.primary;
    // First of all: a RENAME that still waits must not find the sentry gone.
    end_sessions(server, &checkpoint.owner).await?;
    let mut definer = Definer::open(server, &inspection.definition, &checkpoint.owner).await?;
    if let Some(swap) = swap {
        usual_names(server, &mut definer, checkpoint, &swap, names).await?;
    }
    if look(server, &names.ghost).await?.is_some() {
        return Ok(Left::Ghost);
    }
    let (Some(original), Some(old)) = (
        look(server, &names.original).await?,
        look(server, &names.old).await?,
    ) else {
        return Ok(Left::Nothing);
    };
    if !same(&original.schema, &checkpoint.ghost) || !same(&old.schema, &checkpoint.original) {
        return Ok(Left::Nothing);
    }
    if matches!(settings.place, Place::TestOnReplica { .. }) {
        let back = format!(
            "RENAME TABLE {original} TO {}, {} TO {original}",
            names.ghost,
            names.old,
            original = names.original
        );
        definer.run(&back, "swap the tables back").await?;
        return Ok(Left::Ghost);
    }
    Ok(Left::Swapped)
}

async fn usual_names(
    server: &Server,
    definer: &mut Definer<'_>,
    checkpoint: &Checkpoint,
    swap: &SwapNames,
    names: &TableNames,
) -> Result<(), MigrationError> {
    let mut old = look(server, &swap.old).await?;
    if old
        .as_ref()
        .is_some_and(|table| table.comment.starts_with(SENTRY))
    {
        definer
            .run(
                &format!("DROP TABLE {}", swap.old),
                "drop the sentry table of an earlier run",
            )
            .await?;
        old = None;
    }
    let fits = |table: &Option<TableDetail>, noted: &TableSchema| {
        table.as_ref().is_some_and(|table| same(&table.schema, noted))
    };
    if look(server, &names.ghost).await?.is_some() {
        return Ok(());
    }
    if fits(&look(server, &swap.ghost).await?, &checkpoint.ghost) {
        tracing::info!(
            "{} was left behind inside a swap; it is {} again",
            swap.ghost,
            names.ghost
        );
        let rename = format!("RENAME TABLE {} TO {}", swap.ghost, names.ghost);
        definer.run(&rename, "give the ghost table its name back").await?;
    } else if fits(&old, &checkpoint.original)
        && fits(&look(server, &names.original).await?, &checkpoint.ghost)
        && look(server, &names.old).await?.is_none()
    {
        tracing::info!(
            "{} was left behind after the swap; it is {} now",
            swap.old,
            names.old
        );
        let rename = format!("RENAME TABLE {} TO {}", swap.old, names.old);
        definer.run(&rename, "give the old table its name").await?;
    }
    Ok(())
}

async fn look(
    server: &Server,
    table: &changeling_core::ident::TableName,
) -> Result<Option<TableDetail>, ServerError> {
    let mut conn = server.connect(Role::Inspector).await?;
    let found = read(server, &mut conn, table).await;
    let _ = conn.disconnect().await;
    found
}

/// Whether a table is the one that was noted, whatever it is called now.
fn same(found: &TableSchema, noted: &TableSchema) -> bool {
    TableSchema {
        name: noted.name.clone(),
        ..found.clone()
    } == *noted
}

/// Ends every session that runs a statement with the earlier run's token.
async fn end_sessions(server: &Server, owner: &str) -> Result<(), MigrationError> {
    let doing = "look for sessions of an earlier run";
    let mut conn = server.connect(Role::Inspector).await?;
    let deadline = Instant::now() + GONE;
    loop {
        let sessions: Vec<u64> = conn
            .exec(
                "SELECT ID FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() AND INFO LIKE ?",
                (format!("%changeling:{owner}%"),),
            )
            .await
            .map_err(server.failed(doing))?;
        if sessions.is_empty() {
            let _ = conn.disconnect().await;
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(MigrationError::Resume(format!(
                "sessions {sessions:?} of an earlier run are still at work on {}; end them with KILL",
                server.address()
            )));
        }
        for session in sessions {
            // It may have ended by itself.
            let _ = conn.query_drop(format!("KILL {session}")).await;
        }
        sleep(LOOK).await;
    }
}
