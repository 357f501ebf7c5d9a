//! MySQL from 8.0.13: one session locks, synchronises, proves, renames.

use std::time::Duration;

use tokio::time::Instant;

use super::locker::{Locker, confirm_gone};
use super::outcome::{Names, decide};
use super::work::{Attempt, LOCK_WAIT, Setback, Swap, Workshop, retry};
use crate::changelog::Changelog;

/// How long a statement that changes names may take beyond the attempt's deadline before it is killed: it
/// waits for nobody, it only writes.
const RENAME_TIME: Duration = Duration::from_secs(2);
/// How long to wait for a session of ours to disappear.
const GONE: Duration = Duration::from_secs(30);

/// Makes one attempt. Returns how long the table was locked.
///
/// # Errors
/// [`Setback::Retry`] and [`Setback::Fatal`]: T is in charge and unlocked. [`Setback::Lost`]: unknown.
pub async fn attempt(
    shop: &Workshop,
    attempt: &mut Attempt,
    changelog: &mut Changelog,
) -> Result<Duration, Setback> {
    let mut locker = Locker::open(&shop.writers).await.map_err(retry)?;
    let id = locker.id();
    let result = match shop.prepare(&mut locker).await {
        Ok(()) => locked(shop, attempt, changelog, &mut locker).await,
        Err(setback) => Err(setback.into()),
    };
    match result {
        Ok(locked_for) => {
            locker.close().await;
            Ok(locked_for)
        }
        Err(Stage::Before(setback)) => {
            // The locks go with the session. Nothing was renamed, so it need not be alive to be right, only
            // gone before anybody relies on its being gone.
            locker.leave(&setback).await;
            confirm_gone(&shop.plain, id, GONE).await.map_err(Setback::Lost)?;
            shop.undo_triggers().await;
            Err(match setback {
                Setback::Lost(why) => Setback::Retry(why),
                setback => setback,
            })
        }
        Err(Stage::Renaming(why, began)) => {
            tracing::warn!(%why, "the answer to the swap was lost; looking at what the server has");
            drop(locker);
            if decide(&shop.plain, id, &names(shop)).await? {
                return Ok(began.elapsed());
            }
            shop.undo_triggers().await;
            Err(Setback::Retry(why))
        }
        Err(Stage::Back(why, locked_for)) => {
            tracing::warn!(%why, "swapping the tables back failed; trying once more");
            drop(locker);
            if decide(&shop.plain, id, &names(shop)).await? {
                back_again(shop, &why).await?;
            }
            Ok(locked_for)
        }
    }
}

fn names(shop: &Workshop) -> Names {
    let names = &shop.statements.plan().names;
    Names {
        original: names.original.clone(),
        ghost: shop.statements.ghost(),
        old: names.old.clone(),
    }
}

/// What gives every table of a rehearsal its name back.
fn back(shop: &Workshop) -> String {
    let Names { original, ghost, old } = names(shop);
    shop.ours(&format!(
        "RENAME TABLE {original} TO {ghost}, {old} TO {original}"
    ))
}

/// The tables are swapped and unlocked, and should not be.
async fn back_again(shop: &Workshop, why: &str) -> Result<(), Setback> {
    let sql = back(shop);
    let again = async {
        let mut session = Locker::open(&shop.plain).await.map_err(retry)?;
        let result = session.execute("swap the tables back", &sql, RENAME_TIME).await;
        session.close().await;
        result
    };
    again.await.map_err(|again: Setback| {
        Setback::Lost(format!(
            "the tables of the rehearsal are swapped and could not be swapped back ({why}; then {again}): run {sql}"
        ))
    })
}

enum Stage {
    /// No statement that changes names was sent, or it was answered with an error.
    Before(Setback),
    /// It was sent and not answered.
    Renaming(String, Instant),
    /// The tables were swapped, after they had been locked for so long; the statement that swaps them back failed.
    Back(String, Duration),
}

impl From<Setback> for Stage {
    fn from(setback: Setback) -> Self {
        Self::Before(setback)
    }
}

async fn locked(
    shop: &Workshop,
    attempt: &mut Attempt,
    changelog: &mut Changelog,
    locker: &mut Locker,
) -> Result<Duration, Stage> {
    let names = &shop.statements.plan().names;
    let (original, ghost, old) = (&names.original, shop.statements.ghost(), &names.old);
    shop.drain(locker, attempt).await?;
    attempt.deadline = Instant::now() + attempt.lock_limit;
    let tables = format!("{original} WRITE, {ghost} WRITE");
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
    shop.finish(locker, attempt).await?;
    mark("synchronised and proven");
    shop.carry_counter(locker, attempt.left()).await?;
    shop.create_triggers(locker, attempt.left()).await?;
    let rename = shop.ours(&format!(
        "RENAME TABLE {original} TO {old}, {ghost} TO {original}"
    ));
    rename_once(locker, &rename, began).await?;
    let locked_for = began.elapsed();
    if shop.swap == Swap::AndBack {
        locker
            .execute("swap the tables back", &back(shop), RENAME_TIME)
            .await
            .map_err(|setback| Stage::Back(setback.to_string(), locked_for))?;
    }
    // The swap is done whatever becomes of this: closing the session unlocks as well.
    if let Err(setback) = locker.execute("unlock", "UNLOCK TABLES", RENAME_TIME).await {
        tracing::debug!(?setback, "unlocking by closing the session");
    }
    Ok(locked_for)
}

async fn rename_once(locker: &mut Locker, sql: &str, began: Instant) -> Result<(), Stage> {
    match locker.execute("swap the tables", sql, RENAME_TIME).await {
        Ok(()) => Ok(()),
        Err(Setback::Lost(why)) => Err(Stage::Renaming(why, began)),
        Err(setback) => Err(Stage::Before(setback)),
    }
}
