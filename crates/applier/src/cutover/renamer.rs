//! Session R: renames as soon as L lets go, in front of every writer.

use std::time::Duration;

use changeling_core::ident::TableName;
use mysql_async::prelude::Queryable;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::locker::{Locker, confirm_gone, kill_query};
use super::outcome::{Names, decide};
use super::sentry::{CALM, GONE, LET_GO};
use super::work::{Setback, Workshop, retry};

/// How long to wait until R is seen waiting.
const SEEN_WAITING: Duration = Duration::from_millis(300);
/// What the server says of a session that waits for a table's metadata lock.
const WAITING: &str = "Waiting for table metadata lock";

/// Session R before its statement, and the session that watches it.
pub(super) struct Renamer {
    session: Locker,
    watcher: Locker,
}

impl Renamer {
    pub(super) async fn open(shop: &Workshop) -> Result<Self, Setback> {
        Ok(Self {
            session: Locker::open(&shop.plain).await.map_err(retry)?,
            watcher: Locker::open(&shop.plain).await.map_err(retry)?,
        })
    }

    pub(super) fn start(self, shop: &Workshop, names: &Names) -> Renaming {
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
pub(super) struct Renaming {
    id: u32,
    task: JoinHandle<Result<(), Setback>>,
    watcher: Locker,
}

impl Renaming {
    /// R waits for a metadata lock; T sorts first, so it is T's.
    pub(super) async fn confirm_waiting(&mut self, names: &Names) -> Result<(), Setback> {
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
    pub(super) async fn call_off(self, shop: &Workshop) -> Result<(), Setback> {
        kill_query(&shop.plain, self.id).await;
        let _ = timeout(GONE, self.task).await;
        confirm_gone(&shop.plain, self.id, GONE)
            .await
            .map_err(Setback::Lost)
    }

    /// After L unlocked: R has T, or is first in its queue.
    pub(super) async fn let_go(
        mut self,
        shop: &Workshop,
        names: &Names,
        began: Instant,
    ) -> Result<Duration, Setback> {
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
fn may_overtake(statement: &str, table: &str) -> bool {
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
}
