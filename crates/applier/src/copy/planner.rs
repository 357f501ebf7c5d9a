//! Cuts the key's order into chunks.

use changeling_core::key::{Bound, Direction, Key, KeyRange};
use changeling_core::value::Cell;
use tokio_util::sync::CancellationToken;

use crate::error::ApplyError;
use crate::keys::ReadKeys;
use crate::sessions::Session;
use crate::sync::statement::Statements;

/// A range of rows to be copied or compared at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Counts from 0, in key order.
    pub number: u64,
    /// Its rows.
    pub range: KeyRange,
    /// Its last key.
    pub last: Key,
    /// Rows it was planned to have; the last chunk has fewer.
    pub rows: u64,
}

/// How chunks of a single integer key are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Numbers {
    /// Nearly every number has a row: `(k, k + n]` holds at most n rows, and about that many. No query is needed, which
    /// saves reading every row's key once more.
    Dense,
    /// There are gaps; bounds are read from the table.
    Sparse,
}

/// Walks the key from one end to the other. Each bound is read from the table, or counted, when it is needed, so the
/// chunks tile the key space between the ends whatever is inserted or deleted meanwhile.
#[derive(Debug)]
pub struct Planner {
    session: Session,
    statements: Statements,
    next: u64,
    from: Bound,
    end: Option<Key>,
    numbers: Numbers,
}

impl Planner {
    /// A planner for everything after `done` (or from the beginning) up to and with `end`.
    #[must_use]
    pub fn new(session: Session, statements: Statements, done: Option<Key>, end: Option<Key>) -> Self {
        let from = done.map_or(Bound::Open, Bound::Excluded);
        Self {
            session,
            statements,
            next: 0,
            from,
            end,
            numbers: Numbers::Sparse,
        }
    }

    /// Reads the last key of the table, `None` if it is empty. Call it after the marker.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub async fn last_key(
        session: &mut Session,
        statements: &Statements,
        cancel: &CancellationToken,
    ) -> Result<Option<Key>, ApplyError> {
        let what = format!("read the last key of {}", statements.plan().names.original);
        one_key(
            session,
            statements,
            &what,
            statements.end_key(Direction::Backward),
            cancel,
        )
        .await
    }

    /// The next chunk of about `rows` rows; `None` after the last.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub async fn next(&mut self, rows: u64, cancel: &CancellationToken) -> Result<Option<Chunk>, ApplyError> {
        let Some(end) = self.end.clone() else {
            return Ok(None);
        };
        let last = match self.count_on(rows) {
            Some(last) => Some(last),
            None => self.look_up(&end, rows, cancel).await?,
        };
        let last = match last {
            Some(last) if last != end && !beyond(&last, &end) => last,
            // Fewer rows than asked for: this chunk ends the walk.
            _ => {
                self.end = None;
                end
            }
        };
        let from = std::mem::replace(&mut self.from, Bound::Excluded(last.clone()));
        let chunk = Chunk {
            number: self.next,
            range: KeyRange {
                from,
                to: Bound::Included(last.clone()),
            },
            last,
            rows,
        };
        self.next += 1;
        Ok(Some(chunk))
    }
}

impl Planner {
    /// Learns how many rows a chunk turned out to have.
    pub fn learn(&mut self, planned: u64, found: u64) {
        if self.numbers == Numbers::Dense && found < planned / 2 {
            self.numbers = Numbers::Sparse;
        }
    }

    /// The number `rows` further on, where numbers can be relied on.
    fn count_on(&self, rows: u64) -> Option<Key> {
        let Bound::Excluded(from) = &self.from else {
            return None;
        };
        if self.numbers == Numbers::Sparse || !self.statements.key().is_single_integer() {
            return None;
        }
        let cell = match from.cells() {
            [Cell::Int(number)] => Cell::Int(number.checked_add_unsigned(rows)?),
            [Cell::UInt(number)] => Cell::UInt(number.checked_add(rows)?),
            _ => return None,
        };
        Some(Key::new(vec![cell]))
    }

    async fn look_up(
        &mut self,
        end: &Key,
        rows: u64,
        cancel: &CancellationToken,
    ) -> Result<Option<Key>, ApplyError> {
        let rest = KeyRange {
            from: self.from.clone(),
            to: Bound::Included(end.clone()),
        };
        let sql = self.statements.nth_key(&rest, rows.saturating_sub(1))?;
        let what = format!("find the next range of {}", self.statements.plan().names.original);
        let last = one_key(&mut self.session, &self.statements, &what, sql, cancel).await?;
        if let (Bound::Excluded(from), Some(last)) = (&self.from, &last)
            && let (Some(from), Some(last)) = (number(from), number(last))
            && last - from <= i128::from(rows) * 3 / 2
        {
            self.numbers = Numbers::Dense;
        }
        Ok(last)
    }
}

fn number(key: &Key) -> Option<i128> {
    match key.cells() {
        [Cell::Int(number)] => Some(i128::from(*number)),
        [Cell::UInt(number)] => Some(i128::from(*number)),
        _ => None,
    }
}

/// Whether a counted bound lies behind the end.
fn beyond(last: &Key, end: &Key) -> bool {
    matches!((number(last), number(end)), (Some(last), Some(end)) if last > end)
}

async fn one_key(
    session: &mut Session,
    statements: &Statements,
    what: &str,
    sql: String,
    cancel: &CancellationToken,
) -> Result<Option<Key>, ApplyError> {
    let read = ReadKeys {
        sql,
        spec: statements.key().clone(),
    };
    Ok(session.run(what, cancel, &read).await??.into_iter().next())
}
