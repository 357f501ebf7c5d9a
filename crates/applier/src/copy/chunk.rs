//! Copies one chunk: one transaction, its warnings read before its commit.

use changeling_core::key::{Bound, Key, KeyColumn, KeyRange, NotAKey, TargetMatch};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio_util::sync::CancellationToken;

use super::planner::Chunk;
use crate::error::ApplyError;
use crate::keys::{ReadKeys, read_keys};
use crate::sessions::{Attempt, Session, Work};
use crate::settings::WarningPolicy;
use crate::sync::statement::Statements;

/// Duplicate entry: the row is there already, or another holds one of its unique values.
const ER_DUP_ENTRY: u16 = 1062;
/// Warnings about syntax that will go away; they say nothing about rows.
const ABOUT_SYNTAX: [u16; 3] = [1287, 1681, 3719];

/// What a chunk came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Rows written.
    pub rows: u64,
    /// Rows that the ghost table lacks afterwards because another row holds one of their unique values.
    /// They have to be synchronised.
    pub missing: Vec<Key>,
}

enum Outcome {
    Committed(Copied),
    /// Rolled back; the first warning that is not about a duplicate.
    Warned(String),
    /// Rolled back; the server did not show all warnings.
    TooManyWarnings,
}

/// Copies chunks.
#[derive(Debug)]
pub struct Copier {
    session: Session,
    statements: Statements,
    warnings: WarningPolicy,
}

impl Copier {
    /// With a session that does not commit by itself.
    #[must_use]
    pub fn new(session: Session, statements: Statements, warnings: WarningPolicy) -> Self {
        Self {
            session,
            statements,
            warnings,
        }
    }

    /// Copies a chunk, again after a deadlock, a lock wait or a lost connection. Where the server does not show every
    /// warning of a chunk, the chunk is copied in parts.
    ///
    /// # Errors
    /// [`ApplyError::Conversion`] when a value would not arrive as it was; else as [`Session::run`].
    pub async fn copy(&mut self, chunk: &Chunk, cancel: &CancellationToken) -> Result<Copied, ApplyError> {
        let mut copied = Copied::default();
        let mut parts = vec![chunk.clone()];
        while let Some(part) = parts.pop() {
            match self.copy_part(&part, cancel).await? {
                Outcome::Committed(more) => {
                    copied.rows += more.rows;
                    copied.missing.extend(more.missing);
                }
                Outcome::Warned(warning) => {
                    let row = match self.name_row(&warning, &part.range, cancel).await {
                        Some(row) => row,
                        // The warning counts no rows: smaller parts are copied until it is about one.
                        None if part.rows > 1 => {
                            parts.extend(self.halves(part, cancel).await?);
                            continue;
                        }
                        None => format!(" (row {})", self.statements.key().display(&part.last)),
                    };
                    let table = self.statements.plan().names.original.to_string();
                    return Err(ApplyError::Conversion { table, warning, row });
                }
                Outcome::TooManyWarnings => parts.extend(self.halves(part, cancel).await?),
            }
        }
        Ok(copied)
    }

    async fn copy_part(&mut self, part: &Chunk, cancel: &CancellationToken) -> Result<Outcome, ApplyError> {
        let sql = ChunkSql::new(&self.statements, part, self.warnings)?;
        let what = format!("copy rows of {}", self.statements.plan().names.original);
        Ok(self.session.run(&what, cancel, &sql).await??)
    }

    /// The later half first: parts are taken from the end. A range may have far fewer rows than a chunk; one that has none
    /// any more comes back as it is.
    async fn halves(&mut self, part: Chunk, cancel: &CancellationToken) -> Result<Vec<Chunk>, ApplyError> {
        if part.rows <= 1 {
            return Err(ApplyError::Unproven(format!(
                "the server does not show all warnings of copying a few rows of {}; allow the account to set \
                 max_error_count (SESSION_VARIABLES_ADMIN)",
                self.statements.plan().names.original
            )));
        }
        let mut rows = part.rows / 2;
        let mut middle = None;
        while middle.is_none() && rows > 0 {
            middle = self.nth(&part.range, rows, cancel).await?;
            if middle.is_none() {
                rows /= 2;
            }
        }
        let Some(middle) = middle else {
            return Ok(vec![Chunk { rows: 1, ..part }]);
        };
        let range = |from, to| KeyRange { from, to };
        let later = range(Bound::Excluded(middle.clone()), part.range.to);
        let earlier = range(part.range.from, Bound::Included(middle.clone()));
        Ok(vec![
            Chunk {
                range: later,
                rows: part.rows - rows,
                ..part
            },
            Chunk {
                number: part.number,
                range: earlier,
                last: middle,
                rows,
            },
        ])
    }

    /// The key of the range's n-th row, counted from 1.
    async fn nth(
        &mut self,
        range: &KeyRange,
        number: u64,
        cancel: &CancellationToken,
    ) -> Result<Option<Key>, ApplyError> {
        let read = ReadKeys {
            sql: self.statements.nth_key(range, number.saturating_sub(1))?,
            spec: self.statements.key().clone(),
        };
        let keys = self.session.run("find a row of a range", cancel, &read).await??;
        Ok(keys.into_iter().next())
    }

    /// The key of the row that a warning counts. Rows are read in the key's order, so the n-th row of the
    /// statement is the n-th of the range, unless somebody changed the range since.
    async fn name_row(
        &mut self,
        warning: &str,
        range: &KeyRange,
        cancel: &CancellationToken,
    ) -> Option<String> {
        let number: u64 = warning.rsplit_once(" row ")?.1.trim().parse().ok()?;
        let key = self.nth(range, number, cancel).await.ok()??;
        Some(format!(" (row {})", self.statements.key().display(&key)))
    }
}

#[derive(Clone, Debug)]
struct ChunkSql {
    insert: String,
    missing: String,
    statements: Statements,
    warnings: WarningPolicy,
}

impl ChunkSql {
    fn new(statements: &Statements, chunk: &Chunk, warnings: WarningPolicy) -> Result<Self, ApplyError> {
        let limit = usize::try_from(chunk.rows)
            .unwrap_or(usize::MAX)
            .saturating_mul(2);
        debug_assert!(chunk.range.to != Bound::Open);
        Ok(Self {
            insert: statements.copy_range(&chunk.range)?,
            missing: statements.missing_in_range(&chunk.range, limit)?,
            statements: statements.clone(),
            warnings,
        })
    }

    /// With one unique key that compares as the original's does, a duplicate is the row itself.
    fn may_lack_rows(&self) -> bool {
        let bytes = |column: &KeyColumn| column.target_match == TargetMatch::Bytes;
        self.statements.plan().unique_indexes.len() > 1 || self.statements.key().columns.iter().any(bytes)
    }
}

impl Work for ChunkSql {
    type Output = Result<Outcome, NotAKey>;

    async fn attempt(&self, conn: &mut Conn) -> Attempt<Self::Output> {
        conn.query_drop(&self.insert).await?;
        let mut copied = Copied {
            rows: conn.affected_rows(),
            missing: Vec::new(),
        };
        let warned = conn.get_warnings();
        if warned > 0 && self.warnings == WarningPolicy::Abort {
            let warnings: Vec<(String, u16, String)> = conn.query("SHOW WARNINGS").await?;
            let serious =
                |(_, code, _): &&(String, u16, String)| *code != ER_DUP_ENTRY && !ABOUT_SYNTAX.contains(code);
            let shown = u16::try_from(warnings.len()).unwrap_or(u16::MAX);
            if let Some((level, code, text)) = warnings.iter().find(serious) {
                let warning = format!("{level} {code}: {text}");
                conn.query_drop("ROLLBACK").await?;
                return Ok(Ok(Outcome::Warned(warning)));
            }
            // An account that may not raise max_error_count is shown the first thousand.
            if shown < warned || warned == u16::MAX {
                conn.query_drop("ROLLBACK").await?;
                return Ok(Ok(Outcome::TooManyWarnings));
            }
            if self.may_lack_rows() {
                match read_keys(conn, &self.missing, self.statements.key()).await? {
                    Ok(missing) => copied.missing = missing,
                    Err(error) => return Ok(Err(error)),
                }
            }
        }
        conn.query_drop("COMMIT").await?;
        Ok(Ok(Outcome::Committed(copied)))
    }
}
