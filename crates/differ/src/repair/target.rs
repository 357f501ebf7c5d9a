//! One node of a repair: what the engine asks of it, whoever made its server.

use futures_util::future::BoxFuture;

use super::RepairError;
use super::decision::NodeRow;
use super::script::Scribe;
use crate::model::{Key, NodeName, Row};
use crate::side::{SideError, SideErrorKind};

/// What a statement of one batch ended in.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The server says no because of these rows.
    Rows {
        /// Whether other rows have to do with it.
        ground: Ground,
        /// The server's words.
        message: String,
    },
    /// It says no because of something else, or nothing.
    Side(SideError),
}

impl From<SideError> for Refusal {
    fn from(error: SideError) -> Self {
        Self::Side(error)
    }
}

/// Why rows are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ground {
    /// Another row has the unique value.
    Unique,
    /// A constraint that another row may satisfy: a foreign key.
    Constraint,
    /// Something that no other row changes.
    Row,
}

/// Whether a node's rows may be written under the policy of the repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Written,
    Read,
}

/// Whether rows that are read are locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Locking {
    None,
    ForUpdate,
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Commit,
    Rollback,
}

/// The one savepoint of a repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Savepoint {
    /// Sets it.
    Set,
    /// Forgets it and keeps what was done since.
    Keep,
    /// Undoes what was done since, and forgets it.
    Undo,
}

/// How a row goes out of the sight of those that refer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Departure {
    /// It is deleted.
    Deleted,
    /// It stays, but a value to which others refer changes, and the server would change theirs too.
    Moved,
}

/// A row that is given other values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change<'a> {
    /// Where it is now.
    pub(super) key: &'a Key,
    /// As it is.
    pub(super) before: &'a Row,
    /// As it shall be.
    pub(super) after: &'a Row,
}

/// A row that is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held<'a> {
    pub(super) key: &'a Key,
    pub(super) row: &'a Row,
}

pub(super) type Answer<'a, T> = BoxFuture<'a, Result<T, SideError>>;
pub(super) type Written<'a, T> = BoxFuture<'a, Result<T, Refusal>>;

/// A session on one node, between whose `begin` and `end` everything is one transaction.
///
/// After a [`SideError`] or [`Refusal::Side`] only `end` with [`Ending::Rollback`] may follow; after [`Refusal::Rows`] the
/// savepoint is undone, or the call itself left nothing behind where that is said.
pub(super) trait Target: Send + Sync {
    fn node(&self) -> &NodeName;

    /// Finds out whether rows can be written as a repair has to, and makes the session ready for it. Called once, before
    /// everything else, on nodes that are written only.
    fn prepare_to_write(&mut self) -> BoxFuture<'_, Result<(), RepairError>> {
        Box::pin(async { Ok(()) })
    }

    /// Begins a transaction in which a lock gives, and a read sees, the newest version of a row: that is what has to be
    /// compared.
    fn begin(&mut self) -> Answer<'_, ()>;

    fn end(&mut self, ending: Ending) -> Answer<'_, ()>;

    fn savepoint(&mut self, step: Savepoint) -> Answer<'_, ()>;

    /// The rows under these keys, in their order; locked until the transaction ends, if wanted.
    fn rows<'a>(&'a mut self, keys: &'a [Key], locking: Locking) -> Answer<'a, Vec<Option<NodeRow>>>;

    /// Rows in the server's own words. Fails as a whole if one value is none of its column's type, and leaves the
    /// transaction as it was.
    fn canonical<'a>(&'a mut self, rows: &'a [&'a Row]) -> Written<'a, Vec<Row>>;

    /// For each of these keys the table, if there is one, whose rows would go, or change, with it.
    fn referenced<'a>(
        &'a mut self,
        keys: &'a [Key],
        departure: Departure,
    ) -> Written<'a, Vec<Option<String>>>;

    /// Whether UPDATE cannot make the row what it shall be.
    fn needs_replacing(&self, before: &Row, after: &Row) -> bool;

    /// Whether a row may be deleted and inserted instead of being updated: not if it has columns that are not compared,
    /// whose values would be lost.
    fn may_replace(&self) -> bool;

    /// Whether the change of a row would change others that refer to it.
    fn moves(&self, before: &Row, after: &Row) -> bool;

    /// Deletes rows, and says how many.
    fn delete<'a>(&'a mut self, rows: &'a [Held<'a>]) -> Written<'a, u64>;

    /// Changes rows, and says how many there were.
    fn update<'a>(&'a mut self, changes: &'a [Change<'a>]) -> Written<'a, u64>;

    /// Inserts rows; `false` for each in whose place there is another one. A server that cannot tell refuses all.
    fn insert<'a>(&'a mut self, rows: &'a [&'a Row]) -> Written<'a, Vec<bool>>;

    /// Has everything checked that was written since the savepoint and would be checked later or never. `keys` are those of
    /// the written rows, `stored` the rows that should be there now.
    fn check<'a>(&'a mut self, keys: &'a [Key], stored: &'a [&'a Row]) -> Written<'a, ()>;

    /// Lets the transaction's commit carry the origin and time of the row that is copied.
    fn assume_origin<'a>(&'a mut self, _: Option<(&'a str, &'a str)>) -> Answer<'a, ()> {
        let error = SideError::new(
            self.node(),
            SideErrorKind::Permanent,
            "origins cannot be preserved on this server",
        );
        Box::pin(async move { Err(error) })
    }

    /// How far this node has replayed what `origin` sent, in bytes; `None` if it never received any.
    fn replayed<'a>(&'a mut self, _origin: &'a str) -> Answer<'a, Option<u64>> {
        Box::pin(async { Ok(None) })
    }

    /// Writes the repair of this node as SQL.
    fn scribe(&self) -> Box<dyn Scribe>;
}
