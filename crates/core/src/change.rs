//! What a change stream delivers: whole transactions, in order.

use actix::Message;
use serde::Serialize;

use crate::coords::Coordinates;
use crate::ident::TableName;
use crate::marker::{Heartbeat, Sentinel};
use crate::value::RowImage;

/// One row that was changed. The images hold the columns that the watch asked for, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowChange {
    /// A row came into being.
    Insert {
        /// The new row.
        after: RowImage,
    },
    /// A row was changed; its key may be among what changed.
    Update {
        /// The row before.
        before: RowImage,
        /// The row after.
        after: RowImage,
    },
    /// A row is gone.
    Delete {
        /// The row that was.
        before: RowImage,
    },
}

/// One thing of interest in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A row of a watched table changed.
    Row {
        /// Which watch of the stream's configuration the row belongs to.
        watch: usize,
        /// What happened to it.
        row: RowChange,
    },
    /// A sentinel row of the changelog table was read.
    Sentinel(Sentinel),
    /// A heartbeat row of the changelog table was read.
    Heartbeat(Heartbeat),
    /// A statement changed the definition, or by statement the content, of a watched table.
    /// It has a transaction of its own and follows everything before it.
    Ddl {
        /// The watched table.
        table: TableName,
        /// The statement's text, cut to a length fit for a message.
        statement: String,
        /// What sort of statement it is.
        kind: DdlKind,
    },
}

/// What a statement in the stream does to a watched table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum DdlKind {
    /// `ALTER`, `CREATE`, `DROP`, `RENAME` and their like: the definition or the name changed.
    Definition,
    /// `TRUNCATE` and partition operations: all or many rows are gone without row events.
    Truncate,
    /// Rows were changed by a statement logged as text.
    StatementDml,
}

impl Change {
    /// About how many bytes the change occupies in memory, for budgets.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Row {
                    row: RowChange::Insert { after: image } | RowChange::Delete { before: image },
                    ..
                } => image.bytes(),
                Self::Row {
                    row: RowChange::Update { before, after },
                    ..
                } => before.bytes() + after.bytes(),
                Self::Ddl { statement, .. } => statement.len(),
                Self::Sentinel(_) | Self::Heartbeat(_) => 0,
            }
    }
}

/// Changes of one or more whole transactions, in the order of their commits.
///
/// A transaction larger than the batch budget is spread over several batches; then only the last of
/// them moves `upto`, so that no position ever stands for half a transaction.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Applied")]
pub struct ChangeBatch {
    /// Counts batches of this stream from 1, without gaps.
    pub seq: u64,
    /// What changed.
    pub changes: Vec<Change>,
    /// A stream started here delivers everything after this batch, and, where prepared XA transactions
    /// are undecided, their rows again.
    pub upto: Coordinates,
    /// About how many bytes the batch occupies.
    pub bytes: usize,
}

/// The answer to a [`ChangeBatch`]: it was taken over in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The batch's number.
    pub seq: u64,
}
