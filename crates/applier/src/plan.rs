//! What the inspector found out, and everything later follows.

use changeling_core::ident::TableName;
use changeling_core::key::{KeyColumn as SqlKeyColumn, KeySpec, TargetMatch};
use changeling_core::schema::{Column, ColumnKind, TableSchema};
use changeling_core::verify::{ColumnPair, TablePair};
use serde::{Deserialize, Serialize};

/// The tables of a migration, named as gh-ost names them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableNames {
    /// T, the user's table.
    pub original: TableName,
    /// G, `_T_gho`.
    pub ghost: TableName,
    /// C, `_T_ghc`.
    pub changelog: TableName,
    /// K, `_T_ghk`.
    pub checkpoint: TableName,
    /// D, `_T_del`: where T ends up.
    pub old: TableName,
}

/// One column of the chosen key, on both tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyColumn {
    /// Position in the original table's columns.
    pub source_index: usize,
    /// The column of the original table.
    pub source: Column,
    /// The column of the ghost table.
    pub target: Column,
    /// Whether the original's index stores it from high to low.
    pub descending: bool,
}

/// The unique key by which rows are found on both tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPlan {
    /// Index name on the original table.
    pub source_name: String,
    /// Name on the ghost table of an index that begins with the same columns.
    pub target_name: String,
    /// Columns in index order.
    pub columns: Vec<KeyColumn>,
}

/// A column whose values move from the original to the ghost table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedColumn {
    /// Of the original table.
    pub source: Column,
    /// Of the ghost table; another name where the ALTER renames it.
    pub target: Column,
}

/// A new column that a row cannot do without: `NOT NULL` and without a default.
///
/// An ALTER gives the rows that are there the type's own default; so must whoever writes the ghost table:
/// `INSERT INTO ghost (…, column) SELECT …, value FROM original`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilledColumn {
    /// The column of the ghost table.
    pub target: Column,
    /// The value, as SQL.
    pub value: String,
}

/// What a REPLACE on the ghost table could do to rows that it is not about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConflictPolicy {
    /// The chosen key is unique on the ghost table too, and each of its unique keys holds all columns of one of the
    /// original's (order aside, same collations): a row evicted for its sake has a later event that brings it back.
    Replace,
    /// Some unique key is new or narrower, or the chosen one is wider: delete, then plain INSERT, and a duplicate is looked into.
    Insert,
}

/// Settings of every session that writes the ghost table, copy and sync alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionPlan {
    /// `time_zone`: the server's own where TIMESTAMPs are converted, else `+00:00`. Always `+00:00` where the
    /// key holds a TIMESTAMP.
    pub time_zone: String,
    /// `sql_mode`.
    pub sql_mode: String,
}

/// A secondary index that is built after the copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeferredIndex {
    /// Its name.
    pub name: String,
    /// As it is written after `ADD` in an ALTER: `KEY `k_1` (`k`)`.
    pub definition: String,
}

/// Everything known about the change before the first row is copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationPlan {
    /// The tables.
    pub names: TableNames,
    /// The ALTER without `ALTER TABLE …`.
    pub alter: String,
    /// The original table.
    pub original: TableSchema,
    /// The ghost table, after the ALTER, deferred indexes included.
    pub ghost: TableSchema,
    /// The chosen key.
    pub key: KeyPlan,
    /// What is copied.
    pub columns: Vec<SharedColumn>,
    /// New columns that every row must be given a value for.
    #[serde(default)]
    pub filled: Vec<FilledColumn>,
    /// How the ghost table is written.
    pub conflicts: ConflictPolicy,
    /// Names of the ghost table's unique keys that rows of the original cannot violate: those that exist
    /// identically on it, and those that hold all columns of such a key and more.
    pub same_unique_keys: Vec<String>,
    /// Names of all unique indexes of the ghost table: also those over prefixes, expressions and hashes, which
    /// [`TableSchema::unique_keys`] leaves out and which can refuse or evict a row all the same.
    #[serde(default)]
    pub unique_indexes: Vec<String>,
    /// How sessions are set up.
    pub session: SessionPlan,
    /// Views over the original, and tables whose triggers lead to it: changes of theirs that are logged as text
    /// may be changes of the original.
    #[serde(default)]
    pub gateways: Vec<TableName>,
    /// Indexes built after the copy; empty when none is deferred.
    pub deferred_indexes: Vec<DeferredIndex>,
}

impl KeyPlan {
    /// The key as SQL is written with it.
    #[must_use]
    pub fn spec(&self) -> KeySpec {
        let column = |column: &KeyColumn| SqlKeyColumn {
            source: column.source.name.clone(),
            target: column.target.name.clone(),
            kind: column.source.kind.clone(),
            target_kind: column.target.kind.clone(),
            descending: column.descending,
            target_match: match (&column.source.kind, &column.target.kind) {
                (
                    ColumnKind::Text { charset, collation },
                    ColumnKind::Text {
                        charset: target_charset,
                        collation: target_collation,
                    },
                ) if charset != target_charset || collation != target_collation => TargetMatch::Bytes,
                _ => TargetMatch::Collation,
            },
        };
        KeySpec {
            columns: self.columns.iter().map(column).collect(),
        }
    }
}

impl MigrationPlan {
    /// Original and ghost table as whoever proves them equal wants them described.
    #[must_use]
    pub fn pair(&self) -> TablePair {
        TablePair {
            source: self.names.original.clone(),
            target: self.names.ghost.clone(),
            source_index: self.key.source_name.clone(),
            target_index: self.key.target_name.clone(),
            key: self.key.spec(),
            columns: self
                .columns
                .iter()
                .map(|column| ColumnPair {
                    source: column.source.clone(),
                    target: column.target.clone(),
                })
                .collect(),
        }
    }
}
