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
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::locker::{Locker, confirm_gone, kill_query};
use super::outcome::{Names, SENTRY, decide};
use super::work::{Attempt, LOCK_WAIT, Setback, Swap, Workshop, retry};
use crate::changelog::Changelog;
use crate::checkpoint::SwapNames;
use crate::error::ApplyError;
use crate::sessions::Sessions;

/// How long R may take once it is let go: it waits for readers of G or D, and everybody who wants T waits with it.
const LET_GO: Duration = Duration::from_millis(400);
/// How long to wait until R is seen waiting.
const SEEN_WAITING: Duration = Duration::from_millis(300);
/// How long to wait for a session of ours to disappear.
const GONE: Duration = Duration::from_secs(30);
/// How long a statement nobody can be waiting for may take.
const CALM: Duration = Duration::from_secs(10);
/// What the server says of a session that waits for a table's metadata lock.
const WAITING: &str = "Waiting for table metadata lock";
/// The longest table name, in characters.
const LONGEST_NAME: usize = 64;

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
    let rename = shop.ours(&format!("RENAME TABLE {usual} TO {}", names.ghost));
    helper
        .execute("give the ghost table a name for the swap", &rename, LOCK_WAIT)
        .await?;
    shop.statements.ghost_renamed(names.ghost.clone());
    let result = with_safe_names(shop, attempt, changelog, &names, &mut helper).await;
    match &result {
        Ok(_) => settle(shop, &names, &usual, &mut helper).await?,
        Err(Setback::Lost(_)) => {}
        Err(_) => {
            // A cycle that was asked for and not waited for still writes the table by its name for the swap. If the applier
            // has ended, none does.
            let _ = shop.rest().await;
            let back = shop.ours(&format!("RENAME TABLE {} TO {usual}", names.ghost));
            helper
                .execute("give the ghost table its name back", &back, CALM)
                .await
                .map_err(fatal_name)?;
            shop.statements.ghost_renamed(usual);
        }
    }
    helper.close().await;
    result
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
    let done = helper
        .execute("settle the names after the swap", &shop.ours(&sql), CALM)
        .await;
    match (done, shop.swap) {
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
    helper
        .execute("create the sentry table", &shop.ours(&sentry), CALM)
        .await?;
    let result = with_sentry(shop, attempt, changelog, names).await;
    if matches!(result, Err(Setback::Retry(_) | Setback::Fatal(_))) {
        drop_sentry(shop, names, helper).await?;
        shop.undo_triggers().await;
    }
    result
}

/// The sentry may have been dropped by L already; what is under its name then is not dropped.
async fn drop_sentry(shop: &Workshop, names: &Names, helper: &mut Locker) -> Result<(), Setback> {
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

/// Session R before its statement, and the session that watches it.
struct Renamer {
    session: Locker,
    watcher: Locker,
}

impl Renamer {
    async fn open(shop: &Workshop) -> Result<Self, Setback> {
        Ok(Self {
            session: Locker::open(&shop.plain).await.map_err(retry)?,
            watcher: Locker::open(&shop.plain).await.map_err(retry)?,
        })
    }

    fn start(self, shop: &Workshop, names: &Names) -> Renaming {
        let Self { mut session, watcher } = self;
        let sql = shop.ours(&format!(
            "RENAME TABLE {original} TO {}, {} TO {original}",
            names.old,
            names.ghost,
            original = names.original
        ));
        let id = session.id();
        let task = tokio::spawn(async move {
            let result = session.execute("swap the tables", &sql, CALM).await;
            session.close().await;
            result
        });
        Renaming { id, task, watcher }
    }
}

/// Session R, with its statement under way.
struct Renaming {
    id: u32,
    task: JoinHandle<Result<(), Setback>>,
    watcher: Locker,
}

impl Renaming {
    /// R waits for a metadata lock; T sorts first, so it is T's.
    async fn confirm_waiting(&mut self, names: &Names) -> Result<(), Setback> {
        const LOOK: Duration = Duration::from_millis(2);
        let sql = format!(
            "SELECT STATE FROM information_schema.PROCESSLIST WHERE ID = {}",
            self.id
        );
        let deadline = Instant::now() + SEEN_WAITING;
        while Instant::now() < deadline && !self.task.is_finished() {
            let state: Result<Option<Option<String>>, _> = self.watcher.conn().query_first(&sql).await;
            let state =
                state.map_err(|error| retry(self.watcher.failed("look at a session of ours", error)))?;
            if state
                .flatten()
                .is_some_and(|state| state.eq_ignore_ascii_case(WAITING))
            {
                return self.confirm_first(&names.original).await;
            }
            sleep(LOOK).await;
        }
        Err(Setback::Retry(
            "the RENAME was not seen waiting for the table".to_owned(),
        ))
    }

    /// Whoever wants T for himself alone and came before R gets it before R: a TRUNCATE, whose effect the swap would
    /// undo. (A waiting RENAME goes before everybody else, LOCK TABLES and ALTER included.) He is waiting by now, so he
    /// is seen; who came after R is not told apart, and costs another attempt.
    async fn confirm_first(&mut self, original: &TableName) -> Result<(), Setback> {
        let sql = format!(
            "SELECT INFO FROM information_schema.PROCESSLIST WHERE STATE = '{WAITING}' AND ID <> {}",
            self.id
        );
        let waiting: Result<Vec<Option<String>>, _> = self.watcher.conn().query(&sql).await;
        let waiting =
            waiting.map_err(|error| retry(self.watcher.failed("look who waits for the table", error)))?;
        match waiting
            .iter()
            .flatten()
            .find(|statement| may_overtake(statement, &original.table))
        {
            Some(statement) => {
                let shown: String = statement.chars().take(100).collect();
                Err(Setback::Retry(format!(
                    "somebody else waits for the table, perhaps before the RENAME: {shown}"
                )))
            }
            None => Ok(()),
        }
    }

    /// Before the sentry is gone: R must end before anything else happens.
    async fn call_off(self, shop: &Workshop) -> Result<(), Setback> {
        kill_query(&shop.plain, self.id).await;
        let _ = timeout(GONE, self.task).await;
        confirm_gone(&shop.plain, self.id, GONE)
            .await
            .map_err(Setback::Lost)
    }

    /// After L unlocked: R has T, or is first in its queue.
    async fn let_go(mut self, shop: &Workshop, names: &Names, began: Instant) -> Result<Duration, Setback> {
        let mut result = timeout(LET_GO, &mut self.task).await.ok();
        if result.is_none() {
            kill_query(&shop.plain, self.id).await;
            result = timeout(CALM, &mut self.task).await.ok();
        }
        match result {
            Some(Ok(Ok(()))) => Ok(began.elapsed()),
            Some(Ok(Err(Setback::Lost(_))) | Err(_)) | None => {
                if decide(&shop.plain, self.id, names).await? {
                    return Ok(began.elapsed());
                }
                Err(Setback::Retry(
                    "the RENAME was lost, the original is in charge".to_owned(),
                ))
            }
            Some(Ok(Err(setback))) => Err(setback),
        }
    }
}

/// Whether a statement may be one that takes a table for itself alone at once; queries and changes of rows do not.
#[must_use]
pub fn may_overtake(statement: &str, table: &str) -> bool {
    const HARMLESS: [&str; 12] = [
        "SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "WITH", "LOAD", "SHOW", "EXPLAIN", "DESCRIBE",
        "DESC", "LOCK",
    ];
    if !statement.to_lowercase().contains(&table.to_lowercase()) {
        return false;
    }
    let is_code = |comment: &str| comment.starts_with('!') || comment.starts_with("M!");
    let mut rest = statement.trim_start_matches(|c: char| c.is_whitespace() || c == '(');
    while let Some(comment) = rest.strip_prefix("/*").filter(|comment| !is_code(comment)) {
        let Some((_, behind)) = comment.split_once("*/") else {
            return true;
        };
        rest = behind.trim_start_matches(|c: char| c.is_whitespace() || c == '(');
    }
    let verb = rest
        .split(|c: char| !c.is_ascii_alphabetic())
        .next()
        .unwrap_or_default();
    !HARMLESS
        .iter()
        .any(|harmless| harmless.eq_ignore_ascii_case(verb))
}

/// Names for G and D that sort after T and are free.
async fn safe_names(shop: &Workshop) -> Result<Names, Setback> {
    let original = shop.statements.plan().names.original.clone();
    let mut conn = shop.plain.open().await.map_err(retry)?;
    let kept = &shop.statements.plan().names.old;
    if shop.swap == Swap::ForGood && taken(&mut conn, &shop.plain, kept).await? {
        return Err(Setback::Fatal(ApplyError::Aborted(format!(
            "table {kept} stands where {original} is to be kept; look at it, then drop it and go on with --resume"
        ))));
    }
    let mut free = Vec::new();
    for purpose in ["gho", "del"] {
        let candidates = candidates(&original.table, purpose);
        let mut found = None;
        for name in candidates {
            if !taken(&mut conn, &shop.plain, &original.sibling(&name)).await? {
                found = Some(original.sibling(name));
                break;
            }
        }
        free.push(found.ok_or_else(|| Setback::Retry(format!("no free name that sorts after {original}")))?);
    }
    let _ = conn.disconnect().await;
    let old = free.pop().unwrap_or_else(|| original.clone());
    let ghost = free.pop().unwrap_or_else(|| original.clone());
    Ok(Names { original, ghost, old })
}

/// Names that sort after `table` by bytes, in lower case too: its own name with something behind it, or, where
/// there is no room, cut and with something higher than what was cut off.
#[must_use]
pub fn candidates(table: &str, purpose: &str) -> Vec<String> {
    let mut names: Vec<String> = ["", "2", "3", "4", "5"]
        .iter()
        .map(|n| format!("{table}_{purpose}{n}"))
        .collect();
    names.retain(|name| name.chars().count() <= LONGEST_NAME);
    if names.is_empty() {
        let kept: String = table.chars().take(LONGEST_NAME - 6).collect();
        let higher = |mark: char| (1..=5).map(move |n| (mark, n));
        names = higher('~')
            .chain(higher('\u{ffe6}'))
            .map(|(mark, n)| format!("{kept}{mark}{purpose}{n}"))
            .collect();
        names.retain(|name| name.to_lowercase().as_bytes() > table.to_lowercase().as_bytes());
        names.retain(|name| name.as_bytes() > table.as_bytes());
    }
    names
}

async fn taken(conn: &mut Conn, sessions: &Sessions, table: &TableName) -> Result<bool, Setback> {
    let row: Option<u8> = conn
        .exec_first(
            "SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = :schema AND TABLE_NAME = :table",
            params! { "schema" => &table.schema, "table" => &table.table },
        )
        .await
        .map_err(|error| retry(sessions.server().failed("look for a table")(error)))?;
    Ok(row.is_some())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rows_may_be_waited_for_before_the_rename() {
        for (statement, overtakes) in [
            ("TRUNCATE orders", true),
            ("truncate table `Orders`", true),
            ("/* app */ TRUNCATE orders", true),
            ("/*!50000 TRUNCATE orders */", true),
            ("/*M! TRUNCATE orders */", true),
            ("SET STATEMENT max_statement_time=1 FOR TRUNCATE orders", true),
            ("RENAME TABLE orders TO x, y TO orders", true),
            ("ALTER TABLE orders TRUNCATE PARTITION p", true),
            ("-- x\nTRUNCATE orders", true),
            ("TRUNCATE elsewhere", false),
            ("/*My*/ update orders set a = 1", false),
            ("(SELECT 1 FROM orders)", false),
            ("INSERT INTO orders VALUES (1)", false),
        ] {
            assert_eq!(may_overtake(statement, "orders"), overtakes, "{statement}");
        }
    }

    #[test]
    fn names_for_the_swap_sort_after_the_table() {
        let long = "x".repeat(64);
        let umlauts = "ü".repeat(62);
        for table in ["t", "T", "orders", "~", long.as_str(), umlauts.as_str()] {
            for purpose in ["gho", "del"] {
                let names = candidates(table, purpose);
                assert!(!names.is_empty(), "{table}");
                for name in names {
                    assert!(name.as_bytes() > table.as_bytes(), "{name} {table}");
                    assert!(
                        name.to_lowercase().as_bytes() > table.to_lowercase().as_bytes(),
                        "{name} {table}"
                    );
                    assert!(name.chars().count() <= 64);
                }
            }
        }
    }
}
