//! MariaDB, and MySQL before 8.0.13: session L locks, session R renames.
//!
//! Those servers refuse RENAME under LOCK TABLES (errno 1192). R's RENAME therefore waits while L works, and
//! goes ahead when L lets go. Two things make that safe.
//!
//! * **The sentry.** A table stands under the name that T is to get. As long as it is there, R fails instead of
//!   renaming: should L die early, T stays in charge. L drops it last, when everything is proven.
//! * **Names that sort after T.** RENAME takes its metadata locks in the order of the names. For the swap, G and
//!   the sentry have names that begin with T's own, so T comes first and R waits *on T*, in front of every
//!   writer. With `_T_gho`, which sorts before most names, R would wait on G, and writers would get at T in
//!   between: their rows would be lost (gh-ost #1536).

use std::time::Duration;

use changeling_core::ident::TableName;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, params};
use tokio::time::{Instant, sleep};

use super::locker::{Locker, confirm_gone};
use super::outcome::{Names, SENTRY};
use super::renamer::{Renamer, Renaming};
use super::safe_names::{safe_names, taken};
use super::work::{Attempt, LOCK_WAIT, Setback, Swap, Workshop, retry};
use crate::changelog::Changelog;
use crate::checkpoint::SwapNames;
use crate::error::ApplyError;
use crate::sessions::Sessions;

/// How long R may take once it is let go: it waits for readers of G or D, and everybody who wants T waits with it.
pub(super) const LET_GO: Duration = Duration::from_millis(400);
/// How long to wait for a session of ours to disappear.
pub(super) const GONE: Duration = Duration::from_secs(30);
/// How long a statement nobody can be waiting for may take.
pub(super) const CALM: Duration = Duration::from_secs(10);
/// How often giving the ghost table its name back is tried, and the wait between: readers of it come and go.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(500);

/// Makes one attempt. Returns how long the table was locked.
///
/// # Errors
/// [`Setback::Retry`] and [`Setback::Fatal`]: T is in charge and unlocked, G is under its usual name.
/// [`Setback::Lost`]: unknown.
pub async fn attempt(
    shop: &Workshop,
    attempt: &mut Attempt,
    changelog: &mut Changelog,
) -> Result<Duration, Setback> {
    let usual = shop.statements.ghost();
    let names = safe_names(shop).await?;
    let mut helper = Locker::open(&shop.plain).await.map_err(retry)?;
    note_names(shop, &names, &mut helper).await?;
    // Cycles write the ghost table by name.
    shop.hold().await?;
    let doing = "give the ghost table a name for the swap";
    rename_ghost(shop, &mut helper, [&usual, &names.ghost], doing, LOCK_WAIT).await?;
    shop.statements.ghost_renamed(names.ghost.clone());
    let result = with_safe_names(shop, attempt, changelog, &names, &mut helper).await;
    match &result {
        Ok(_) => settle(shop, &names, &usual, &mut helper).await?,
        Err(Setback::Lost(_)) => {}
        Err(_) => {
            // A cycle that was asked for and not waited for still writes the table by its name for the swap. If the applier
            // has ended, none does.
            let _ = shop.rest().await;
            give_name_back(shop, &mut helper, &names.ghost, &usual).await?;
            shop.statements.ghost_renamed(usual);
        }
    }
    helper.close().await;
    result
}

/// Renames the ghost table from one name to the other. If the connection is lost on the way, the server is asked, once it
/// has forgotten the session, which name the table has.
async fn rename_ghost(
    shop: &Workshop,
    helper: &mut Locker,
    [from, to]: [&TableName; 2],
    doing: &str,
    limit: Duration,
) -> Result<(), Setback> {
    let sql = shop.ours(&format!("RENAME TABLE {from} TO {to}"));
    match helper.execute(doing, &sql, limit).await {
        Err(Setback::Lost(why)) => {
            reopen(shop, helper).await?;
            if surely_taken(shop, helper, to).await? {
                return Ok(());
            }
            Err(Setback::Retry(why))
        }
        result => result,
    }
}

/// As long as it has another name than usual, no other attempt may begin.
async fn give_name_back(
    shop: &Workshop,
    helper: &mut Locker,
    from: &TableName,
    usual: &TableName,
) -> Result<(), Setback> {
    let doing = "give the ghost table its name back";
    let mut tries = 1;
    loop {
        match rename_ghost(shop, helper, [from, usual], doing, CALM).await {
            Err(Setback::Retry(why)) if tries < TRIES => {
                tracing::warn!(why, tries, "the ghost table does not have its usual name yet");
                tries += 1;
                sleep(PAUSE).await;
                reopen(shop, helper).await?;
            }
            result => return result.map_err(fatal_name),
        }
    }
}

/// Another session in place of one that may be lost, of which nothing is under way any more.
///
/// # Errors
/// [`Setback::Lost`]: the server has not been reached for [`GONE`].
async fn reopen(shop: &Workshop, helper: &mut Locker) -> Result<(), Setback> {
    let deadline = Instant::now() + GONE;
    confirm_gone(&shop.plain, helper.id(), GONE)
        .await
        .map_err(Setback::Lost)?;
    loop {
        match Locker::open(&shop.plain).await {
            Ok(another) => {
                *helper = another;
                return Ok(());
            }
            Err(error) if Instant::now() >= deadline => return Err(Setback::Lost(error.to_string())),
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Whether there is a table of this name, asked until the server says so: what we take the ghost table's name to be must
/// follow what it is, whatever happens to the session that asks.
///
/// # Errors
/// As [`reopen`].
async fn surely_taken(shop: &Workshop, helper: &mut Locker, table: &TableName) -> Result<bool, Setback> {
    let deadline = Instant::now() + GONE;
    loop {
        match taken(helper.conn(), &shop.plain, table).await {
            Ok(there) => return Ok(there),
            Err(setback) if Instant::now() >= deadline => return Err(Setback::Lost(setback.to_string())),
            Err(_) => reopen(shop, helper).await?,
        }
    }
}

/// Writes down what the tables will be called, for a run that finds them after this one was killed.
async fn note_names(shop: &Workshop, names: &Names, helper: &mut Locker) -> Result<(), Setback> {
    const NO_SUCH_TABLE: u16 = 1146;
    let checkpoints = &shop.statements.plan().names.checkpoint;
    let swap = SwapNames {
        ghost: names.ghost.clone(),
        old: names.old.clone(),
    };
    match helper
        .execute("note the names of the swap", &swap.note(checkpoints), CALM)
        .await
    {
        // Without checkpoints nobody resumes.
        Err(Setback::Fatal(ApplyError::Server(error))) if error.errno() == Some(NO_SUCH_TABLE) => Ok(()),
        Err(Setback::Lost(why)) => Err(Setback::Retry(why)),
        result => result,
    }
}

fn fatal_name(setback: Setback) -> Setback {
    match setback {
        Setback::Retry(why) | Setback::Lost(why) => {
            Setback::Lost(format!("the ghost table has another name than usual: {why}"))
        }
        fatal @ Setback::Fatal(_) => fatal,
    }
}

/// After the swap: D gets its usual name, or everything goes back where it was.
async fn settle(
    shop: &Workshop,
    names: &Names,
    usual: &TableName,
    helper: &mut Locker,
) -> Result<(), Setback> {
    let old = &shop.statements.plan().names.old;
    let sql = match shop.swap {
        Swap::ForGood => format!("RENAME TABLE {} TO {old}", names.old),
        Swap::AndBack => format!(
            "RENAME TABLE {original} TO {usual}, {} TO {original}",
            names.old,
            original = names.original
        ),
    };
    match (rename_at_last(shop, &names.old, helper, &sql).await, shop.swap) {
        (Ok(()), Swap::AndBack) => {
            shop.statements.ghost_renamed(usual.clone());
            Ok(())
        }
        (Ok(()), Swap::ForGood) => Ok(()),
        (Err(setback), Swap::ForGood) => {
            tracing::error!(
                %setback,
                "the new table is in place; the original is called {} and not {old}",
                names.old
            );
            shop.statements.old_is_called(names.old.clone());
            Ok(())
        }
        (Err(setback), Swap::AndBack) => Err(fatal_name(setback)),
    }
}

/// Runs the RENAME that takes D its name for the swap away, again while somebody has the tables open or connections are
/// lost.
async fn rename_at_last(
    shop: &Workshop,
    old: &TableName,
    helper: &mut Locker,
    sql: &str,
) -> Result<(), Setback> {
    let sql = shop.ours(sql);
    let mut tries = 1;
    loop {
        match helper
            .execute("settle the names after the swap", &sql, CALM)
            .await
        {
            Err(Setback::Retry(why) | Setback::Lost(why)) if tries < TRIES => {
                tracing::warn!(why, tries, "the tables do not have their names yet");
                tries += 1;
                sleep(PAUSE).await;
                reopen(shop, helper).await?;
                if !surely_taken(shop, helper, old).await? {
                    return Ok(());
                }
            }
            result => return result,
        }
    }
}

async fn with_safe_names(
    shop: &Workshop,
    attempt: &mut Attempt,
    changelog: &mut Changelog,
    names: &Names,
    helper: &mut Locker,
) -> Result<Duration, Setback> {
    // It is dropped under the lock, and InnoDB waits for the disk then.
    let engine = if shop.plain.server().is_mariadb() {
        "MEMORY"
    } else {
        "InnoDB"
    };
    let sentry = format!(
        "CREATE TABLE {} (id int NOT NULL PRIMARY KEY) ENGINE={engine} COMMENT='{SENTRY} {}'",
        names.old, shop.owner
    );
    let created = helper
        .execute("create the sentry table", &shop.ours(&sentry), CALM)
        .await;
    let result = match created {
        Ok(()) => with_sentry(shop, attempt, changelog, names).await,
        // Nothing is locked. Whether it is there is seen when it is dropped.
        Err(Setback::Lost(why)) => Err(Setback::Retry(why)),
        Err(setback) => return Err(setback),
    };
    if matches!(result, Err(Setback::Retry(_) | Setback::Fatal(_))) {
        drop_sentry(shop, names, helper).await?;
        shop.undo_triggers().await;
    }
    result
}

/// The sentry may have been dropped by L already; what is under its name then is not dropped. On a session of its own:
/// the one before may have been lost, and be creating the table still.
///
/// # Errors
/// Never [`Setback::Lost`]: a sentry that is left is in nobody's way.
async fn drop_sentry(shop: &Workshop, names: &Names, helper: &mut Locker) -> Result<(), Setback> {
    let mut tries = 1;
    loop {
        match try_to_drop_sentry(shop, names, helper).await {
            Err(Setback::Retry(why) | Setback::Lost(why)) if tries < TRIES => {
                tracing::debug!(why, tries, "the sentry table is not dropped yet");
                tries += 1;
                sleep(PAUSE).await;
            }
            Err(Setback::Lost(why)) => return Err(Setback::Retry(why)),
            result => return result,
        }
    }
}

async fn try_to_drop_sentry(shop: &Workshop, names: &Names, helper: &mut Locker) -> Result<(), Setback> {
    reopen(shop, helper).await?;
    if is_sentry(helper.conn(), &shop.plain, &names.old, &shop.owner).await? {
        let sql = shop.ours(&format!("DROP TABLE {}", names.old));
        helper.execute("drop the sentry table", &sql, CALM).await?;
    }
    Ok(())
}

async fn with_sentry(
    shop: &Workshop,
    attempt: &mut Attempt,
    changelog: &mut Changelog,
    names: &Names,
) -> Result<Duration, Setback> {
    let mut locker = Locker::open(&shop.writers).await.map_err(retry)?;
    let id = locker.id();
    // Before the lock: connecting takes time.
    let renamer = Renamer::open(shop).await?;
    let result = match shop.prepare(&mut locker).await {
        Ok(()) => locked(shop, attempt, changelog, names, &mut locker, renamer).await,
        Err(setback) => Err(setback.into()),
    };
    // L's locks go with it, and only then may the sentry be dropped by others.
    match result {
        Ok((renaming, began)) => {
            locker.close().await;
            renaming.let_go(shop, names, began).await
        }
        Err(Failed { setback, renaming }) => {
            locker.leave(&setback).await;
            if let Some(renaming) = renaming {
                renaming.call_off(shop).await?;
            }
            confirm_gone(&shop.plain, id, GONE).await.map_err(Setback::Lost)?;
            Err(match setback {
                Setback::Lost(why) => Setback::Retry(why),
                setback => setback,
            })
        }
    }
}

struct Failed {
    setback: Setback,
    renaming: Option<Renaming>,
}

impl From<Setback> for Failed {
    fn from(setback: Setback) -> Self {
        Self {
            setback,
            renaming: None,
        }
    }
}

/// Everything under L's lock. On success the sentry is gone and L has unlocked.
async fn locked(
    shop: &Workshop,
    attempt: &mut Attempt,
    changelog: &mut Changelog,
    names: &Names,
    locker: &mut Locker,
    renamer: Renamer,
) -> Result<(Renaming, Instant), Failed> {
    let original = &names.original;
    shop.drain(locker, attempt).await?;
    attempt.deadline = Instant::now() + attempt.lock_limit;
    let tables = format!("{original} WRITE, {} WRITE, {} WRITE", names.ghost, names.old);
    locker
        .lock(
            original,
            &tables,
            attempt.lock_limit,
            LOCK_WAIT.min(attempt.left()),
        )
        .await?;
    let began = Instant::now();
    let mark = |stage| tracing::debug!(stage, micros = began.elapsed().as_micros(), "under the lock");
    attempt.await_sentinel(changelog).await?;
    mark("sentinel seen");
    let mut renaming = renamer.start(shop, names);
    match last_steps(shop, attempt, names, locker, &mut renaming).await {
        Ok(()) => {
            mark("unlocked");
            Ok((renaming, began))
        }
        Err(setback) => Err(Failed {
            setback,
            renaming: Some(renaming),
        }),
    }
}

async fn last_steps(
    shop: &Workshop,
    attempt: &mut Attempt,
    names: &Names,
    locker: &mut Locker,
    renaming: &mut Renaming,
) -> Result<(), Setback> {
    shop.finish(locker, attempt).await?;
    shop.carry_counter(locker, attempt.left()).await?;
    shop.create_triggers(locker, attempt.left()).await?;
    renaming.confirm_waiting(names).await?;
    let drop = shop.ours(&format!("DROP TABLE {}", names.old));
    locker.execute("drop the sentry table", &drop, LET_GO).await?;
    // From here on R decides. If unlocking fails, closing the session unlocks.
    if let Err(setback) = locker.execute("unlock", "UNLOCK TABLES", LET_GO).await {
        tracing::debug!(?setback, "unlocking by closing the session");
    }
    Ok(())
}

async fn is_sentry(
    conn: &mut Conn,
    sessions: &Sessions,
    table: &TableName,
    owner: &str,
) -> Result<bool, Setback> {
    let row: Option<String> = conn
        .exec_first(
            "SELECT TABLE_COMMENT FROM information_schema.TABLES WHERE TABLE_SCHEMA = :schema AND TABLE_NAME = :table",
            params! { "schema" => &table.schema, "table" => &table.table },
        )
        .await
        .map_err(|error| retry(sessions.server().failed("look for the sentry table")(error)))?;
    Ok(row.is_some_and(|comment| comment == format!("{SENTRY} {owner}")))
}
