//! Keys that met a duplicate on a unique key which is new or narrower on the ghost table.
//!
//! A duplicate need not be real: the row in the way may show an older state than the row that was to be written. Nearly
//! always it does, because values are handed from row to row. A row that is *outdated*, whose original no longer holds the
//! value, is *displaced*: deleted from the ghost table, and written anew afterwards, within the same cycle. So a chain of
//! values that were handed on thousands of times takes as many rows and no longer, and a cycle does not end before every
//! displaced row is back. Even if the tool dies in between no row is lost: an outdated row has an event of its own that no
//! completed cycle has seen, and a resumed stream repeats it. (Displacing rows that are not outdated loses one: the
//! state-space test finds it.)
//!
//! A row whose way is barred by rows that are not outdated is *judged*: it and those in its way are written in one
//! statement, which reads one snapshot of the original. If the duplicate is still there, no third row is involved and the
//! original's rows stood still meanwhile, then the original holds them at one instant, and the ALTER cannot be carried out.
//! Rows that do not stand still are tried again. This needs no knowledge of the stream's lag.
//!
//! Which rows are in the way is asked by a join where the unique key consists of whole columns. Where that finds none,
//! because the key consists of prefixes or expressions or compares otherwise than the original, only the server knows:
//! `Refused` has it try, and tell the row that it met. Such rows are not displaced, but join the set that is judged.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use changeling_core::ident::quote;
use changeling_core::key::{Key, KeySpec, NotAKey, Side};
use changeling_core::schema::UniqueKey;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio_util::sync::CancellationToken;

use super::lane::{BatchSql, Entry, UnlessDuplicate, is_duplicate};
use super::pending::KeyEvent;
use super::statement::Statements;
use crate::error::ApplyError;
use crate::keys::{ReadKeys, read_keys};
use crate::sessions::{Attempt, Session, Work};

/// Keys that are written together: a batch.
const TOGETHER: usize = 500;
/// Times that a batch is tried with more rows displaced: each time the writers may have handed values on meanwhile.
const TRIES: usize = 8;
/// Of these in a row without a row to displace: the writers were quicker, or there is none.
const IDLE_TRIES: usize = 2;
/// Times the set of rows in the way of one that is judged may grow.
const GROWTH: usize = 500;
/// Times in a row that a set has to be found guilty, since chunks write beside us.
const CONFIRMATIONS: usize = 3;
/// Passes in which nothing came to rest, after which there is no hope.
const PATIENCE: usize = 200;
/// The wait before rows that did not stand still are tried again.
const PAUSE: Duration = Duration::from_millis(20);

/// Writes the rows of `keys`, and anew whatever had to make room for them. Returns the keys written.
///
/// # Errors
/// [`ApplyError::Duplicate`] when the original itself holds the duplicate; [`ApplyError::Unproven`] when it cannot be found
/// out for too long.
pub async fn settle(
    session: &mut Session,
    statements: &Statements,
    keys: Vec<Key>,
    cancel: &CancellationToken,
) -> Result<BTreeSet<Key>, ApplyError> {
    let mut settlement = Settlement {
        session,
        statements,
        cancel,
        settled: BTreeSet::new(),
    };
    let mut waiting: BTreeSet<Key> = keys.into_iter().collect();
    let mut idle = 0;
    while !waiting.is_empty() {
        let next = settlement.write(&waiting).await?;
        idle = if next == waiting { idle + 1 } else { 0 };
        if idle >= PATIENCE {
            return Err(ApplyError::Unproven(format!(
                "{} of {} contend for unique values and do not stand still long enough to tell whether they are duplicates",
                shown(statements, &waiting),
                statements.plan().names.original
            )));
        }
        if idle > 0 {
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = cancel.cancelled() => {}
            }
        }
        waiting = next;
    }
    Ok(settlement.settled)
}

struct Settlement<'a> {
    session: &'a mut Session,
    statements: &'a Statements,
    cancel: &'a CancellationToken,
    /// Keys that are written.
    settled: BTreeSet<Key>,
}

/// What came of rows that were judged.
enum Verdict {
    /// They are written.
    Innocent(BTreeSet<Key>),
    /// The original holds rows that exclude each other.
    Guilty(BTreeSet<Key>),
    /// They do not stand still.
    Open,
}

impl Settlement<'_> {
    /// Writes them in batches. Returns the keys that have to be written next: the displaced ones, and those that do not
    /// stand still.
    async fn write(&mut self, keys: &BTreeSet<Key>) -> Result<BTreeSet<Key>, ApplyError> {
        let mut waiting = BTreeSet::new();
        let keys: Vec<Key> = keys.iter().cloned().collect();
        // The part that is taken next is at the end.
        let mut parts: Vec<Vec<Key>> = keys.chunks(TOGETHER).rev().map(<[Key]>::to_vec).collect();
        while let Some(mut part) = parts.pop() {
            match self.displace(&part).await? {
                Some(displaced) => {
                    waiting.extend(displaced);
                    self.settled.extend(part);
                }
                None if part.len() > 1 => {
                    let rest = part.split_off(part.len() / 2);
                    parts.extend([rest, part]);
                }
                None => match self.judge(&part).await? {
                    Verdict::Innocent(written) => self.settled.extend(written),
                    Verdict::Guilty(rows) => return Err(duplicate(self.statements, &rows)),
                    Verdict::Open => waiting.extend(part),
                },
            }
        }
        Ok(waiting)
    }

    /// Writes a batch; the keys of the rows that had to make room, or nothing if it cannot be written now.
    async fn displace(&mut self, keys: &[Key]) -> Result<Option<BTreeSet<Key>>, ApplyError> {
        let work = Displace::new(self.statements, keys)?;
        let what = format!("displace duplicates in {}", self.statements.ghost());
        Ok(self.session.run(&what, self.cancel, &work).await??)
    }

    async fn judge(&mut self, keys: &[Key]) -> Result<Verdict, ApplyError> {
        let mut set: BTreeSet<Key> = keys.iter().cloned().collect();
        let mut confirmations = 0;
        for _ in 0..GROWTH {
            let before = self.state(&set).await?;
            let entries: Vec<Entry> = set.iter().map(|key| (key.clone(), KeyEvent::Removed)).collect();
            let sql = BatchSql::new(self.statements, &entries)?;
            let what = format!("resolve duplicates in {}", self.statements.ghost());
            if self
                .session
                .run(&what, self.cancel, &UnlessDuplicate(sql))
                .await?
            {
                return Ok(Verdict::Innocent(set));
            }
            let known = set.len();
            let mut in_the_way = self.joined(&set).await?;
            if in_the_way.iter().all(|key| set.contains(key)) {
                in_the_way = self.met(&set).await?;
            }
            set.extend(in_the_way);
            if set.len() > known || self.state(&set).await? != before {
                confirmations = 0;
                continue;
            }
            confirmations += 1;
            if confirmations >= CONFIRMATIONS {
                return Ok(Verdict::Guilty(set));
            }
        }
        Ok(Verdict::Open)
    }

    /// A fingerprint of the original's rows.
    async fn state(&mut self, set: &BTreeSet<Key>) -> Result<Option<(u64, String)>, ApplyError> {
        let plan = self.statements.plan();
        let columns: Vec<String> = plan
            .columns
            .iter()
            .map(|pair| format!("IFNULL(HEX({}), 'N')", quote(&pair.source.name)))
            .collect();
        let sql = format!(
            "SELECT COUNT(*), CAST(COALESCE(SUM(CRC32(CONCAT_WS(',', {}))), 0) AS CHAR) FROM {} FORCE INDEX ({}) WHERE {}",
            columns.join(", "),
            plan.names.original,
            quote(&plan.key.source_name),
            self.statements.key().in_keys(Side::Source, set)?
        );
        let what = format!("read rows of {}", plan.names.original);
        self.session.run(&what, self.cancel, &State(sql)).await
    }

    /// Keys of ghost rows that hold a value which the original's rows of `set` would bring, as far as a join finds them.
    async fn joined(&mut self, set: &BTreeSet<Key>) -> Result<Vec<Key>, ApplyError> {
        let mut found = Vec::new();
        for sql in in_the_way_of(self.statements, set, Barring::Any)? {
            let read = ReadKeys {
                sql,
                spec: self.statements.key().clone(),
            };
            let what = format!("look for duplicates in {}", self.statements.ghost());
            found.extend(self.session.run(&what, self.cancel, &read).await??);
        }
        Ok(found)
    }

    /// The row that the server meets when it writes these.
    async fn met(&mut self, keys: &BTreeSet<Key>) -> Result<Vec<Key>, ApplyError> {
        let refused = Refused::new(self.statements, keys)?;
        let what = format!("look for a duplicate in {}", self.statements.ghost());
        Ok(self.session.run(&what, self.cancel, &refused).await??)
    }
}

/// One row of two values.
struct State(String);

impl Work for State {
    type Output = Option<(u64, String)>;

    async fn attempt(&self, conn: &mut Conn) -> Attempt<Self::Output> {
        conn.query_first(&self.0).await
    }
}

/// Deletes the batch's rows, and the outdated ones in their way, and inserts the batch: one transaction, committed by a
/// packet of its own, as every batch. The rows in the way are read by one statement and the batch by the next: a row that
/// has come into the way meanwhile is found when the insertion fails.
struct Displace {
    delete: String,
    insert: String,
    in_the_way: Vec<String>,
    /// Of all attempts: one that was committed may look as if it had failed, and the next finds nothing in the way.
    displaced: Mutex<BTreeSet<Key>>,
    statements: Statements,
}

impl Displace {
    fn new(statements: &Statements, keys: &[Key]) -> Result<Self, NotAKey> {
        Ok(Self {
            delete: statements.delete_keys(keys)?,
            insert: statements.insert_keys(keys)?,
            in_the_way: in_the_way_of(statements, &keys.iter().cloned().collect(), Barring::Outdated)?,
            displaced: Mutex::default(),
            statements: statements.clone(),
        })
    }

    fn note(&self, keys: Vec<Key>) {
        let mut displaced = self.displaced.lock().unwrap_or_else(PoisonError::into_inner);
        displaced.extend(keys);
    }

    fn noted(&self) -> BTreeSet<Key> {
        self.displaced
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Keys of outdated rows in the way. The batch's own rows are not: they are deleted.
    async fn look(&self, conn: &mut Conn) -> Attempt<Result<Vec<Key>, NotAKey>> {
        let mut found = Vec::new();
        for sql in &self.in_the_way {
            match read_keys(conn, sql, self.statements.key()).await? {
                Ok(keys) => found.extend(keys),
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(found))
    }
}

impl Work for Displace {
    type Output = Result<Option<BTreeSet<Key>>, NotAKey>;

    async fn attempt(&self, conn: &mut Conn) -> Attempt<Self::Output> {
        conn.query_drop(&self.delete).await?;
        let mut idle = 0;
        for _ in 0..TRIES {
            match conn.query_drop(&self.insert).await {
                Ok(()) => {
                    conn.query_drop("COMMIT").await?;
                    return Ok(Ok(Some(self.noted())));
                }
                Err(error) if is_duplicate(&error) => {}
                Err(error) => return Err(error),
            }
            let found = match self.look(conn).await? {
                Ok(found) if found.is_empty() => {
                    idle += 1;
                    if idle >= IDLE_TRIES {
                        break;
                    }
                    continue;
                }
                Ok(found) => found,
                Err(error) => return Ok(Err(error)),
            };
            match self.statements.delete_keys(&found) {
                Ok(delete) => conn.query_drop(delete).await?,
                Err(error) => return Ok(Err(error)),
            }
            self.note(found);
            idle = 0;
        }
        conn.query_drop("ROLLBACK").await?;
        Ok(Ok(None))
    }
}

/// Some keys, as an operator reads them.
fn shown(statements: &Statements, set: &BTreeSet<Key>) -> String {
    const SHOWN: usize = 5;
    let mut keys: Vec<String> = set
        .iter()
        .take(SHOWN)
        .map(|key| format!("({})", statements.key().display(key)))
        .collect();
    if set.len() > SHOWN {
        keys.push(format!("and {} more", set.len() - SHOWN));
    }
    keys.join(", ")
}

/// The error for rows that cannot both be in the ghost table.
fn duplicate(statements: &Statements, set: &BTreeSet<Key>) -> ApplyError {
    let plan = statements.plan();
    let new = plan
        .unique_indexes
        .iter()
        .filter(|name| !plan.same_unique_keys.contains(name));
    let names: Vec<String> = new.map(|name| quote(name)).collect();
    ApplyError::Duplicate {
        table: statements.plan().names.original.to_string(),
        keys: shown(statements, set),
        duplicate: format!("same value of unique key {}", names.join(" or ")),
    }
}

/// The ghost's unique keys that the original does not have.
fn new_keys_of(statements: &Statements) -> impl Iterator<Item = &UniqueKey> {
    let plan = statements.plan();
    plan.ghost
        .unique_keys
        .iter()
        .filter(|key| !plan.same_unique_keys.contains(&key.name))
}

/// Which rows in the way are meant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Barring {
    /// All.
    Any,
    /// Those whose original no longer holds the value.
    Outdated,
}

/// For each of these keys that consists of whole columns, a statement that reads the keys of ghost rows in the way of
/// the original's rows of `set`.
fn in_the_way_of(
    statements: &Statements,
    set: &BTreeSet<Key>,
    barring: Barring,
) -> Result<Vec<String>, NotAKey> {
    let all = new_keys_of(statements).map(|unique| in_the_way_sql(statements, unique, set, barring));
    all.filter_map(Result::transpose).collect()
}

/// The ghost's rows joined to the original's on the columns of a unique key, as the ghost compares them. One statement, so
/// one snapshot of both tables.
fn in_the_way_sql(
    statements: &Statements,
    unique: &UniqueKey,
    set: &BTreeSet<Key>,
    barring: Barring,
) -> Result<Option<String>, NotAKey> {
    let plan = statements.plan();
    let (original, ghost) = (&plan.names.original, statements.ghost());
    let equal = |row: &str| -> Vec<String> {
        // A new column has its default everywhere; the other columns decide.
        let pairs = unique.parts.iter().filter_map(|part| {
            let target = &plan.ghost.columns[part.column];
            plan.columns.iter().find(|pair| pair.target.name == target.name)
        });
        pairs
            .map(|pair| {
                let (target, source) = (quote(&pair.target.name), quote(&pair.source.name));
                format!("{ghost}.{target} = {row}.{source}")
            })
            .collect()
    };
    let values = equal("`source`");
    if values.is_empty() {
        return Ok(None);
    }
    let outdated = match barring {
        Barring::Any => String::new(),
        Barring::Outdated => format!(
            " AND NOT EXISTS (SELECT 1 FROM {original} AS `present` WHERE {} AND {})",
            statements.same_key("`present`").join(" AND "),
            equal("`present`").join(" AND ")
        ),
    };
    let columns: Vec<String> = plan.columns.iter().map(|pair| quote(&pair.source.name)).collect();
    Ok(Some(format!(
        "SELECT {} FROM (SELECT {} FROM {ghost}, (SELECT {} FROM {original} FORCE INDEX ({}) WHERE {}) AS `source` \
         WHERE {}{outdated}) AS `ghost`",
        statements.key().select_list(Side::Target),
        statements
            .key()
            .columns
            .iter()
            .map(|column| format!("{ghost}.{}", quote(&column.target)))
            .collect::<Vec<_>>()
            .join(", "),
        columns.join(", "),
        quote(&plan.key.source_name),
        statements.key().in_keys(Side::Source, set)?,
        values.join(" AND "),
    )))
}

/// Has the server insert the rows once more, and note the key of the last row of the ghost table that it met on the way:
/// `ON DUPLICATE KEY UPDATE` looks at that very row. Everything is rolled back.
struct Refused {
    delete: String,
    insert: String,
    met: String,
    spec: KeySpec,
}

impl Refused {
    fn new(statements: &Statements, keys: &BTreeSet<Key>) -> Result<Self, NotAKey> {
        let spec = statements.key().clone();
        let variables: Vec<String> = (0..spec.columns.len())
            .map(|number| format!("@changeling_met_{number}"))
            .collect();
        let noted = spec.columns.iter().zip(&variables).map(|(column, variable)| {
            let single = KeySpec {
                columns: vec![column.clone()],
            };
            format!("({variable} := {})", single.select_list(Side::Target))
        });
        let noted: Vec<String> = noted.collect();
        // A comparison of something that cannot be NULL with NULL would be left out by the optimizer.
        let noted = format!("LENGTH(CONCAT({})) >= 0", noted.join(", "));
        Ok(Self {
            delete: statements.delete_keys(keys)?,
            insert: statements.insert_noting(keys, &noted)?,
            met: format!(
                "SELECT {} FROM DUAL WHERE {} IS NOT NULL",
                variables.join(", "),
                variables[0]
            ),
            spec,
        })
    }
}

impl Work for Refused {
    type Output = Result<Vec<Key>, NotAKey>;

    async fn attempt(&self, conn: &mut Conn) -> Attempt<Self::Output> {
        // The session lasts; what an earlier question found must not answer this one.
        conn.query_drop("SET @changeling_met_0 = NULL").await?;
        conn.query_drop(&self.delete).await?;
        conn.query_drop(&self.insert).await?;
        let met = read_keys(conn, &self.met, &self.spec).await?;
        conn.query_drop("ROLLBACK").await?;
        Ok(met)
    }
}
