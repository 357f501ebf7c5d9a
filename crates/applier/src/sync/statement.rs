//! The statements that write the ghost table, copy and sync alike: one conversion path, the server's.

use std::sync::{Arc, PoisonError, RwLock};

use changeling_core::ident::{TableName, quote};
use changeling_core::key::{Direction, Key, KeyColumn, KeyRange, KeySpec, NotAKey, Side, TargetMatch};
use changeling_core::schema::ColumnKind;

use crate::plan::{ConflictPolicy, MigrationPlan};

/// Writes the SQL of one migration.
///
/// No statement uses an alias, and each names a table once: all of them also run under
/// `LOCK TABLES T WRITE, G WRITE`.
#[derive(Clone, Debug)]
pub struct Statements {
    plan: Arc<MigrationPlan>,
    key: KeySpec,
    source_columns: String,
    target_columns: String,
    comment: String,
    /// The cut-over of MariaDB renames the ghost table while no cycle runs.
    ghost: Arc<RwLock<TableName>>,
    old: Arc<RwLock<TableName>>,
}

impl Statements {
    /// The statements of this plan.
    #[must_use]
    pub fn new(plan: Arc<MigrationPlan>) -> Self {
        let sources = plan.columns.iter().map(|pair| quote(&pair.source.name));
        let targets = plan.columns.iter().map(|pair| quote(&pair.target.name));
        let values = plan.filled.iter().map(|column| column.value.clone());
        let filled = plan.filled.iter().map(|column| quote(&column.target.name));
        let list = |items: Vec<String>| items.join(", ");
        Self {
            key: plan.key.spec(),
            source_columns: list(sources.chain(values).collect()),
            target_columns: list(targets.chain(filled).collect()),
            comment: format!("/* changeling {} */", comment_text(&plan.names.original)),
            ghost: Arc::new(RwLock::new(plan.names.ghost.clone())),
            old: Arc::new(RwLock::new(plan.names.old.clone())),
            plan,
        }
    }

    /// What is being done.
    #[must_use]
    pub fn plan(&self) -> &Arc<MigrationPlan> {
        &self.plan
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &KeySpec {
        &self.key
    }

    /// The ghost table's present name.
    #[must_use]
    pub fn ghost(&self) -> TableName {
        self.ghost.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes that the ghost table has another name now. Only while no cycle and no chunk runs.
    pub fn ghost_renamed(&self, name: TableName) {
        *self.ghost.write().unwrap_or_else(PoisonError::into_inner) = name;
    }

    /// What the original is called after the swap.
    #[must_use]
    pub fn old(&self) -> TableName {
        self.old.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes that the original could not be given its usual name after the swap: what has that name is somebody else's.
    pub fn old_is_called(&self, name: TableName) {
        *self.old.write().unwrap_or_else(PoisonError::into_inner) = name;
    }

    /// How the ghost table's rows are replaced.
    #[must_use]
    pub fn conflicts(&self) -> ConflictPolicy {
        self.plan.conflicts
    }

    fn select(&self, predicate: &str) -> String {
        format!(
            "SELECT {} FROM {} FORCE INDEX ({}) WHERE {predicate}",
            self.source_columns,
            self.plan.names.original,
            quote(&self.plan.key.source_name)
        )
    }

    fn write(&self, verb: &str, predicate: &str) -> String {
        format!(
            "{verb} {} INTO {} ({}) {}",
            self.comment,
            self.ghost(),
            self.target_columns,
            self.select(predicate)
        )
    }

    /// Copies a range; rows that are there already are left alone.
    ///
    /// # Errors
    /// When a bound cannot be written.
    pub fn copy_range(&self, range: &KeyRange) -> Result<String, NotAKey> {
        Ok(self.write("INSERT IGNORE", &self.key.in_range(Side::Source, range)?))
    }

    /// Makes the ghost's rows of these keys what the original's are now, evicting whatever is in the way.
    ///
    /// # Errors
    /// When a key cannot be written.
    pub fn replace_keys<'a>(&self, keys: impl IntoIterator<Item = &'a Key>) -> Result<String, NotAKey> {
        Ok(self.write("REPLACE", &self.key.in_keys(Side::Source, keys)?))
    }

    /// Inserts the original's rows of these keys; a duplicate is an error.
    ///
    /// # Errors
    /// When a key cannot be written.
    pub fn insert_keys<'a>(&self, keys: impl IntoIterator<Item = &'a Key>) -> Result<String, NotAKey> {
        Ok(self.write("INSERT", &self.key.in_keys(Side::Source, keys)?))
    }

    /// As [`Statements::insert_keys`], but a row of the ghost table that is in the way is no error: `noted`, a condition
    /// over its columns, is evaluated for it. The row stays as it is.
    ///
    /// # Errors
    /// When a key cannot be written.
    pub fn insert_noting<'a>(
        &self,
        keys: impl IntoIterator<Item = &'a Key>,
        noted: &str,
    ) -> Result<String, NotAKey> {
        // The original's columns get names of their own: an unqualified name is the ghost table's then.
        let plan = &self.plan;
        let sources = plan.columns.iter().map(|pair| quote(&pair.source.name));
        let values = sources.chain(plan.filled.iter().map(|column| column.value.clone()));
        let (named, names): (Vec<String>, Vec<String>) = values
            .enumerate()
            .map(|(number, value)| {
                let name = format!("`changeling {number}`");
                (format!("{value} AS {name}"), name)
            })
            .unzip();
        let first = plan
            .columns
            .first()
            .map_or_else(String::new, |pair| quote(&pair.target.name));
        Ok(format!(
            "INSERT {} INTO {} ({}) SELECT {} FROM (SELECT {} FROM {} FORCE INDEX ({}) WHERE {}) AS `source` \
             ON DUPLICATE KEY UPDATE {first} = IF({noted}, {first}, {first})",
            self.comment,
            self.ghost(),
            self.target_columns,
            names.join(", "),
            named.join(", "),
            plan.names.original,
            quote(&plan.key.source_name),
            self.key.in_keys(Side::Source, keys)?,
        ))
    }

    /// Deletes the ghost's rows of these keys.
    ///
    /// The form with `USING` is the one that takes an index hint: without it, fresh statistics of a young
    /// ghost table make the server scan it and wait for rows that a chunk is inserting.
    ///
    /// # Errors
    /// When a key cannot be written.
    pub fn delete_keys<'a>(&self, keys: impl IntoIterator<Item = &'a Key>) -> Result<String, NotAKey> {
        let ghost = self.ghost();
        Ok(format!(
            "DELETE {} FROM {ghost} USING {ghost} FORCE INDEX ({}) WHERE {}",
            self.comment,
            quote(&self.plan.key.target_name),
            self.key.in_keys(Side::Target, keys)?
        ))
    }

    /// That a row of the original, known under this alias, has the key of a row of the ghost table.
    pub(super) fn same_key(&self, row: &str) -> Vec<String> {
        let ghost = self.ghost();
        let equal = |column: &KeyColumn| {
            let (source, target) = (
                format!("{row}.{}", quote(&column.source)),
                format!("{ghost}.{}", quote(&column.target)),
            );
            let plain = format!("{source} = {target}");
            match (&column.target_kind, column.target_match) {
                // Another row may be equal under the new collation.
                (ColumnKind::Text { charset, .. }, TargetMatch::Bytes) => format!(
                    "{plain} AND CAST({target} AS BINARY) = CAST(CONVERT({source} USING {charset}) AS BINARY)"
                ),
                _ => plain,
            }
        };
        self.key.columns.iter().map(equal).collect()
    }

    /// The keys of a range that the original has and the ghost has not.
    ///
    /// # Errors
    /// When a bound cannot be written.
    pub fn missing_in_range(&self, range: &KeyRange, limit: usize) -> Result<String, NotAKey> {
        let (original, ghost) = (&self.plan.names.original, self.ghost());
        let equal = self.same_key("`source`");
        // The range is evaluated in a derived table: its predicate names columns without their table.
        Ok(format!(
            "SELECT {} FROM (SELECT {} FROM {original} FORCE INDEX ({}) WHERE {}) AS `source` \
             WHERE NOT EXISTS (SELECT 1 FROM {ghost} WHERE {}) LIMIT {limit}",
            self.key.select_list(Side::Source),
            self.key.column_list(Side::Source),
            quote(&self.plan.key.source_name),
            self.key.in_range(Side::Source, range)?,
            equal.join(" AND "),
        ))
    }

    /// The key `offset` rows into a range, or no row.
    ///
    /// # Errors
    /// When a bound cannot be written.
    pub fn nth_key(&self, range: &KeyRange, offset: u64) -> Result<String, NotAKey> {
        Ok(format!(
            "SELECT {} FROM {} FORCE INDEX ({}) WHERE {} ORDER BY {} LIMIT 1 OFFSET {offset}",
            self.key.select_list(Side::Source),
            self.plan.names.original,
            quote(&self.plan.key.source_name),
            self.key.in_range(Side::Source, range)?,
            self.key.order(Direction::Forward)
        ))
    }

    /// The first or the last key of the original, or no row.
    #[must_use]
    pub fn end_key(&self, direction: Direction) -> String {
        format!(
            "SELECT {} FROM {} FORCE INDEX ({}) ORDER BY {} LIMIT 1",
            self.key.select_list(Side::Source),
            self.plan.names.original,
            quote(&self.plan.key.source_name),
            self.key.order(direction)
        )
    }
}

/// A table's name as it may stand in a comment.
fn comment_text(table: &TableName) -> String {
    format!("{}.{}", table.schema, table.table)
        .replace("*/", "* /")
        .replace("/*", "/ *")
}
