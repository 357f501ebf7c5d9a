//! The contract between the applier and whoever proves its work.
//!
//! The comparison runs inside the server, on sessions that the applier lends: `S` is a driver's
//! connection, which this crate does not know. A statement reads both tables in one snapshot, so a range
//! reported equal *was* equal at one instant; what changes later reaches the ghost table only through
//! sync cycles, whose keys the applier keeps in a ledger and has proven again. A range that is not found
//! equal at once may be looked at in several statements, each a later snapshot. Therefore the ledger has to
//! hold every key that is synced after the comparison of its range *began*, not after it returned.
//!
//! Sessions have the `sql_mode` and `time_zone` under which rows are copied: a value that was converted is
//! proven by converting it once more.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::ident::TableName;
use crate::key::{Key, KeyRange, KeySpec};
use crate::schema::Column;

/// A column of the source and where its values went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnPair {
    /// Of the original table.
    pub source: Column,
    /// Of the ghost table.
    pub target: Column,
}

/// Two tables of one server that should hold the same rows.
#[derive(Clone, Debug)]
pub struct TablePair {
    /// The original.
    pub source: TableName,
    /// The ghost.
    pub target: TableName,
    /// Index of the source that the key belongs to, for `FORCE INDEX`.
    pub source_index: String,
    /// Index of the target that begins with the key.
    pub target_index: String,
    /// The key by which rows are matched.
    pub key: KeySpec,
    /// Every column that was copied, key columns included.
    pub columns: Vec<ColumnPair>,
}

/// What is wrong with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Discrepancy {
    /// The source has it, the target does not.
    Missing,
    /// The target has it, the source does not.
    Extra,
    /// Both have it and a column differs.
    Different,
}

/// A key whose rows were seen to differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// The key, as the source's column types write it.
    pub key: Key,
    /// How they differ.
    pub discrepancy: Discrepancy,
    /// Names of the differing columns, as far as known.
    pub columns: Vec<String>,
}

/// What comparing a range, or some keys, found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Rows of the source that were compared.
    pub rows: u64,
    /// Keys that differ.
    pub suspects: Vec<Suspect>,
    /// Whether there were more suspects than the limit; then the range must be looked at again in full.
    pub truncated: bool,
}

/// A comparison that could not be made. The range or keys are then *unknown*, never equal.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct VerifyError {
    /// What happened.
    pub message: Arc<str>,
    /// Whether trying again on a new session may help (lost connection, lock wait, deadlock).
    pub transient: bool,
}

/// Compares two tables of one server, exactly, through the same conversion that the copy used.
pub trait Verifier<S>: Send + Sync + 'static {
    /// Checks that the pair can be compared at all and prepares what the session needs (a temporary
    /// table, for instance). Called once for every session before its first comparison.
    fn prepare<'a>(
        &'a self,
        session: &'a mut S,
        pair: &'a TablePair,
    ) -> BoxFuture<'a, Result<(), VerifyError>>;

    /// Compares all rows of either table whose key lies in the range. At most `limit` suspects.
    fn compare_range<'a>(
        &'a self,
        session: &'a mut S,
        pair: &'a TablePair,
        range: &'a KeyRange,
        limit: usize,
    ) -> BoxFuture<'a, Result<Findings, VerifyError>>;

    /// Compares the rows of these keys; a key that neither table has is equal.
    ///
    /// Runs also under `LOCK TABLES source WRITE, target WRITE`, so it may name no other table, may use
    /// no alias, and reads each table once per statement.
    fn compare_keys<'a>(
        &'a self,
        session: &'a mut S,
        pair: &'a TablePair,
        keys: &'a [Key],
    ) -> BoxFuture<'a, Result<Findings, VerifyError>>;
}
