//! Keys that met a duplicate on a unique key which is new or narrower on the ghost table.
//!
//! A duplicate need not be real: the row in the way may show an older state than the row that was to be
//! written. So both are read again *in one statement*, which reads one snapshot of the original. If the
//! duplicate is still there and no third row is involved, then the original holds both rows at one instant,
//! and the ALTER cannot be carried out. This needs no knowledge of the stream's lag.
//!
//! A whole batch is tried at once, with everything that is in its way: where values are handed from row to row all the
//! time, one statement settles hundreds of rows. Only a batch that cannot be settled is halved, until the rows are
//! found that stand against each other.
//!
//! Which rows are in the way is asked by a join where the unique key consists of whole columns. Where that finds none,
//! because the key consists of prefixes or expressions or compares otherwise than the original, only the server knows:
//! `Refused` has it try, and tell the row that it met.

use std::collections::BTreeSet;

use changeling_core::ident::quote;
use changeling_core::key::{Key, KeySpec, NotAKey, Side};
use changeling_core::schema::UniqueKey;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio_util::sync::CancellationToken;

use super::lane::{BatchSql, Entry, UnlessDuplicate};
use super::pending::KeyEvent;
use super::statement::Statements;
use crate::error::ApplyError;
use crate::keys::{ReadKeys, read_keys};
use crate::sessions::{Attempt, Session, Work};

/// Times the set of rows in the way may grow before the conflict is given up as unclear. Each round brings
/// in rows that hold a value the others want; a chain is as long as values were handed on between cycles.
const ROUNDS: usize = 32;
/// Keys that are settled together at first: a batch.
const TOGETHER: usize = 500;
/// Times a set that no longer grows is tried again, since chunks write beside us.
const CONFIRMATIONS: usize = 3;

/// Writes the rows of `keys` together with whatever is in their way. Returns the keys written.
///
/// # Errors
/// [`ApplyError::Duplicate`] when the original itself holds the duplicate.
pub async fn resolve(
    session: &mut Session,
    statements: &Statements,
    keys: Vec<Key>,
    cancel: &CancellationToken,
) -> Result<Vec<Key>, ApplyError> {
    let mut done = Vec::new();
    // The part that is taken next is at the end.
    let mut parts: Vec<Vec<Key>> = keys.chunks(TOGETHER).rev().map(<[Key]>::to_vec).collect();
    while let Some(mut part) = parts.pop() {
        match resolve_together(session, statements, &part, cancel).await? {
            Ok(written) => done.extend(written),
            Err(_) if part.len() > 1 => {
                let rest = part.split_off(part.len() / 2);
                parts.extend([rest, part]);
            }
            Err(set) => return Err(duplicate(statements, &set)),
        }
    }
    Ok(done)
}

async fn resolve_together(
    session: &mut Session,
    statements: &Statements,
    keys: &[Key],
    cancel: &CancellationToken,
) -> Result<Result<BTreeSet<Key>, BTreeSet<Key>>, ApplyError> {
    let mut set: BTreeSet<Key> = keys.iter().cloned().collect();
    let mut confirmations = 0;
    for _ in 0..ROUNDS {
        let entries: Vec<Entry> = set.iter().map(|key| (key.clone(), KeyEvent::Removed)).collect();
        let sql = BatchSql::new(statements, &entries)?;
        let what = format!("resolve duplicates in {}", statements.ghost());
        if session.run(&what, cancel, &UnlessDuplicate(sql)).await? {
            return Ok(Ok(set));
        }
        let in_the_way = in_the_way(session, statements, &set, cancel).await?;
        let before = set.len();
        set.extend(in_the_way);
        if set.len() == before {
            confirmations += 1;
            if confirmations >= CONFIRMATIONS {
                break;
            }
        }
    }
    Ok(Err(set))
}

/// The error for rows that cannot both be in the ghost table.
fn duplicate(statements: &Statements, set: &BTreeSet<Key>) -> ApplyError {
    const SHOWN: usize = 5;
    let mut keys: Vec<String> = set
        .iter()
        .take(SHOWN)
        .map(|key| format!("({})", statements.key().display(key)))
        .collect();
    if set.len() > SHOWN {
        keys.push(format!("and {} more", set.len() - SHOWN));
    }
    let plan = statements.plan();
    let new = plan
        .unique_indexes
        .iter()
        .filter(|name| !plan.same_unique_keys.contains(name));
    let names: Vec<String> = new.map(|name| quote(name)).collect();
    ApplyError::Duplicate {
        table: statements.plan().names.original.to_string(),
        keys: keys.join(", "),
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

/// Keys of ghost rows that hold a value which the original's rows of `set` would bring.
async fn in_the_way(
    session: &mut Session,
    statements: &Statements,
    set: &BTreeSet<Key>,
    cancel: &CancellationToken,
) -> Result<Vec<Key>, ApplyError> {
    let mut found = Vec::new();
    for unique in new_keys_of(statements) {
        let Some(sql) = in_the_way_sql(statements, unique, set)? else {
            continue;
        };
        let read = ReadKeys {
            sql,
            spec: statements.key().clone(),
        };
        let what = format!("look for duplicates in {}", statements.ghost());
        found.extend(session.run(&what, cancel, &read).await??);
    }
    if found.iter().all(|key| set.contains(key)) {
        let what = format!("look for a duplicate in {}", statements.ghost());
        found.extend(
            session
                .run(&what, cancel, &Refused::new(statements, set)?)
                .await??,
        );
    }
    Ok(found)
}

/// The ghost's rows joined to the original's on the columns of a unique key, as the ghost compares them.
fn in_the_way_sql(
    statements: &Statements,
    unique: &UniqueKey,
    set: &BTreeSet<Key>,
) -> Result<Option<String>, ApplyError> {
    let plan = statements.plan();
    let (original, ghost) = (&plan.names.original, statements.ghost());
    let mut equal = Vec::new();
    for part in &unique.parts {
        let target = &plan.ghost.columns[part.column];
        // A new column has its default everywhere; the other columns decide.
        let Some(pair) = plan.columns.iter().find(|pair| pair.target.name == target.name) else {
            continue;
        };
        equal.push(format!(
            "{ghost}.{} = `source`.{}",
            quote(&target.name),
            quote(&pair.source.name)
        ));
    }
    if equal.is_empty() {
        return Ok(None);
    }
    let columns: Vec<String> = plan.columns.iter().map(|pair| quote(&pair.source.name)).collect();
    Ok(Some(format!(
        "SELECT {} FROM (SELECT {} FROM {ghost}, (SELECT {} FROM {original} FORCE INDEX ({}) WHERE {}) AS `source` \
         WHERE {}) AS `ghost`",
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
        equal.join(" AND "),
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
    fn new(statements: &Statements, set: &BTreeSet<Key>) -> Result<Self, NotAKey> {
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
            delete: statements.delete_keys(set)?,
            insert: statements.insert_noting(set, &noted)?,
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
