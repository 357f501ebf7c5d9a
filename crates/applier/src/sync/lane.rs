//! A lane of a cycle: one session, batches one after another.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use changeling_core::key::{Key, KeySpec};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio_util::sync::CancellationToken;

use super::pending::{KeyEvent, KeyMap};
use super::statement::Statements;
use crate::error::ApplyError;
use crate::plan::ConflictPolicy;
use crate::server::errno;
use crate::sessions::{Attempt, Session, Sessions, Work};

/// Duplicate entry.
const ER_DUP_ENTRY: u16 = 1062;

/// Keys of a batch to which small ones grow while there is more to do.
const GROWN: usize = 500;

/// A key and its last event.
pub type Entry = (Key, KeyEvent);

/// Splits a map over lanes. A key is always in the same lane: the lane is chosen by the columns that are
/// compared bytewise; two keys that differ in bytes but are one row under a collation must not meet in
/// different lanes, so a key without such columns has one lane only. Within a lane keys are in order,
/// which keeps neighbouring rows in one batch.
#[must_use]
pub fn split(spec: &KeySpec, keys: KeyMap, lanes: usize) -> Vec<Vec<Entry>> {
    let bytewise = spec.bytewise_columns();
    let mut split: Vec<Vec<Entry>> = vec![Vec::new(); lanes];
    for entry in keys {
        let lane = if bytewise.is_empty() || lanes == 1 {
            0
        } else {
            let mut hasher = DefaultHasher::new();
            bytewise
                .iter()
                .for_each(|&column| entry.0.cells()[column].hash(&mut hasher));
            usize::try_from(hasher.finish() % lanes as u64).unwrap_or(0)
        };
        split[lane].push(entry);
    }
    split
        .iter_mut()
        .for_each(|lane| lane.sort_unstable_by(|one, other| one.0.cmp(&other.0)));
    split
}

/// A lane.
#[derive(Debug)]
pub struct Lane {
    session: Session,
    statements: Statements,
    batch_keys: Arc<AtomicUsize>,
}

impl Lane {
    /// A lane with a session of its own. `batch_keys` is read before each batch.
    #[must_use]
    pub fn new(sessions: &Sessions, statements: Statements, batch_keys: Arc<AtomicUsize>) -> Self {
        Self {
            session: sessions.lasting(),
            statements,
            batch_keys,
        }
    }

    /// Synchronises the keys, batch by batch. Returns the keys of batches of which one met a duplicate on a unique
    /// key which the original does not have; nothing of such a batch is written.
    ///
    /// # Errors
    /// When a batch fails for good; batches before it are committed.
    pub async fn sync(
        &mut self,
        entries: &[Entry],
        cancel: &CancellationToken,
    ) -> Result<Vec<Key>, ApplyError> {
        let mut rest = entries;
        let mut conflicts = Vec::new();
        let mut grown = 1;
        while !rest.is_empty() {
            let asked = self.batch_keys.load(Ordering::Relaxed).max(1);
            let size = asked.max(GROWN.min(asked.saturating_mul(grown)));
            // Whoever falls behind with small batches takes larger ones: a commit costs more than its rows.
            grown *= 2;
            let (batch, tail) = rest.split_at(rest.len().min(size));
            rest = tail;
            conflicts.extend(self.batch(batch, cancel).await?);
        }
        Ok(conflicts)
    }

    async fn batch(&mut self, batch: &[Entry], cancel: &CancellationToken) -> Result<Vec<Key>, ApplyError> {
        let what = format!("synchronise {} rows of {}", batch.len(), self.statements.ghost());
        let sql = BatchSql::new(&self.statements, batch)?;
        match self.statements.conflicts() {
            ConflictPolicy::Replace => {
                if let Err(error) = self.session.run(&what, cancel, &sql).await {
                    return Err(self.blame(batch, error, cancel).await);
                }
                Ok(Vec::new())
            }
            ConflictPolicy::Insert => match self.session.run(&what, cancel, &UnlessDuplicate(sql)).await {
                Ok(true) => Ok(Vec::new()),
                Ok(false) => Ok(batch.iter().map(|(key, _)| key.clone()).collect()),
                Err(error) => Err(self.blame(batch, error, cancel).await),
            },
        }
    }

    /// Names the row with the value that the server refuses, if that is what has happened: the batch's rows are tried one
    /// by one.
    async fn blame(&mut self, batch: &[Entry], error: ApplyError, cancel: &CancellationToken) -> ApplyError {
        if !about_a_value(&error) {
            return error;
        }
        for entry in batch {
            let Ok(sql) = BatchSql::new(&self.statements, std::slice::from_ref(entry)) else {
                continue;
            };
            match self
                .session
                .run("find the row with the value", cancel, &UnlessDuplicate(sql))
                .await
            {
                Err(found) if about_a_value(&found) => {
                    return ApplyError::Conversion {
                        table: self.statements.plan().names.original.to_string(),
                        warning: found.to_string(),
                        row: format!(" (row {})", self.statements.key().display(&entry.0)),
                    };
                }
                _ => {}
            }
        }
        error
    }
}

/// The statements of one batch.
#[derive(Clone, Debug)]
pub struct BatchSql {
    delete: Option<String>,
    write: String,
}

impl BatchSql {
    /// For these keys.
    ///
    /// # Errors
    /// When a key cannot be written.
    pub fn new(statements: &Statements, batch: &[Entry]) -> Result<Self, ApplyError> {
        let removed = batch
            .iter()
            .filter(|(_, event)| *event == KeyEvent::Removed)
            .map(|(key, _)| key)
            .collect::<Vec<_>>();
        let all = batch.iter().map(|(key, _)| key);
        Ok(match statements.conflicts() {
            ConflictPolicy::Replace => Self {
                delete: if removed.is_empty() {
                    None
                } else {
                    Some(statements.delete_keys(removed)?)
                },
                write: statements.replace_keys(all)?,
            },
            ConflictPolicy::Insert => Self {
                delete: Some(statements.delete_keys(all.clone())?),
                write: statements.insert_keys(all)?,
            },
        })
    }
}

/// Runs the batch in a transaction of its own, on a session without autocommit (`START TRANSACTION` would
/// release the table locks of a cut-over).
///
/// The commit is a packet of its own, sent only after every statement was answered: if this process is
/// killed, a statement that the server still executes is rolled back, and cannot overwrite what a resumed
/// run writes.
impl Work for BatchSql {
    type Output = ();

    async fn attempt(&self, conn: &mut Conn) -> Attempt<()> {
        if let Some(delete) = &self.delete {
            conn.query_drop(delete).await?;
        }
        conn.query_drop(&self.write).await?;
        conn.query_drop("COMMIT").await
    }
}

/// A batch that yields false, and writes nothing, if a unique key is in the way.
#[derive(Clone, Debug)]
pub struct UnlessDuplicate(pub BatchSql);

impl Work for UnlessDuplicate {
    type Output = bool;

    async fn attempt(&self, conn: &mut Conn) -> Attempt<bool> {
        match self.0.attempt(conn).await {
            Ok(()) => Ok(true),
            Err(error) if is_duplicate(&error) => {
                conn.query_drop("ROLLBACK").await?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether the server refused a row because of a unique key.
pub(super) fn is_duplicate(error: &mysql_async::Error) -> bool {
    errno(error) == Some(ER_DUP_ENTRY)
}

/// Whether the server refused a value: too long, out of range, NULL, no number, not what a CHECK wants, no JSON.
fn about_a_value(error: &ApplyError) -> bool {
    const REFUSED: [u16; 13] = [
        1048, 1264, 1265, 1292, 1366, 1367, 1406, 1411, 3140, 3819, 4025, 1364, 1263,
    ];
    matches!(error, ApplyError::Server(error) if error.errno().is_some_and(|errno| REFUSED.contains(&errno)))
}
