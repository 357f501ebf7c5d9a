//! What the engine asks of a server, whoever made it.
//!
//! A [`Side`] is one node with its table, already agreed upon with the other nodes; a [`Session`] is one connection
//! to it. Sessions of different nodes answer in the same terms: equal digests mean equal rows, keys sort by their
//! bytes, cells are texts.

use std::fmt;
use std::sync::Arc;

use changeling_core::ident::TableName;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

use crate::model::{Cell, Key, NodeName, Origin};
use crate::range::KeyRange;

/// What a failure calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SideErrorKind {
    /// The connection was lost or not made: try again on a new one.
    Connection,
    /// The server, or our own patience, ended a statement that took too long: try a smaller range.
    Timeout,
    /// The server was short of something, or undid the statement for somebody else's sake: try again.
    Transient,
    /// Trying again changes nothing: rights, a column that is gone, an error in the operator's filter.
    Permanent,
}

/// A node did not answer what was asked.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{node}: {message}")]
pub struct SideError {
    /// The node.
    pub node: NodeName,
    /// What the failure calls for.
    pub kind: SideErrorKind,
    /// What happened, in the server's words where it has any, and what to do.
    pub message: Arc<str>,
}

impl SideError {
    /// A failure of this node.
    pub fn new(node: &NodeName, kind: SideErrorKind, message: impl fmt::Display) -> Self {
        Self {
            node: node.clone(),
            kind,
            message: message.to_string().into(),
        }
    }
}

/// A fingerprint of a set of rows that does not depend on their order.
///
/// `count` makes duplicates visible, `xor` and `sum` of the rows' 64-bit hashes together leave no simple way for
/// changes to cancel out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Digest {
    /// Rows.
    pub count: u64,
    /// Exclusive or of the rows' hashes.
    pub xor: i64,
    /// Exact sum of the rows' hashes, as decimal text.
    pub sum: Box<str>,
}

/// What digesting a range gave.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Digested {
    /// All rows of the range.
    Whole(Digest),
    /// There are at least as many rows as the cap; the range must be cut.
    Overflow,
}

/// A row of a range in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyDigest {
    /// Its key.
    pub key: Key,
    /// The hash of all its compared columns.
    pub hash: i64,
}

/// Which version of a row was read. A node gives two versions of a row different values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowVersion(pub Box<str>);

/// A row as it was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedRow {
    /// Which of the keys asked for it belongs to, by position.
    pub asked: usize,
    /// Which version it is; `None` where the server has nothing of the kind, then the cells decide.
    pub version: Option<RowVersion>,
    /// When it was committed.
    pub commit_ts: Option<String>,
    /// Who wrote it.
    pub origin: Option<Origin>,
    /// Its values.
    pub cells: Box<[Cell]>,
}

/// A place in a node's stream of changes; its text means something to sessions of the same engine only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The node whose changes are meant.
    pub node: NodeName,
    /// The place.
    pub position: Box<str>,
}

/// Ends whatever a session's server is doing for it.
pub trait Canceller: Send + Sync {
    /// Asks the server, on a connection of its own, to end the session's statement. Returns when it was asked, or
    /// when it cannot be reached; the statement's own time limit then ends it. Best called when the session was dropped:
    /// then it is known when nothing is left.
    fn cancel(&self) -> BoxFuture<'_, ()>;
}

/// One connection. Every call gives up by itself after the statement time limit.
///
/// After an error the session is not used again.
pub trait Session: Send {
    /// The key of the `rows`-th row of the range; `None` if it has fewer. `rows` is at least 1.
    fn step<'a>(
        &'a mut self,
        range: &'a KeyRange,
        rows: u64,
    ) -> BoxFuture<'a, Result<Option<Key>, SideError>>;

    /// Keys that cut the range into parts of `every` rows, at most `limit` of them.
    fn cuts<'a>(
        &'a mut self,
        range: &'a KeyRange,
        every: u64,
        limit: u64,
    ) -> BoxFuture<'a, Result<Vec<Key>, SideError>>;

    /// The fingerprint of the range's rows, if these are fewer than `cap`.
    fn digest<'a>(&'a mut self, range: &'a KeyRange, cap: u64) -> BoxFuture<'a, Result<Digested, SideError>>;

    /// The fingerprints of several ranges of one partition, in their order: one statement each, unless the server can answer
    /// at once.
    fn digests<'a>(
        &'a mut self,
        ranges: &'a [KeyRange],
        cap: u64,
    ) -> BoxFuture<'a, Result<Vec<Digested>, SideError>> {
        async move {
            let mut digests = Vec::with_capacity(ranges.len());
            for range in ranges {
                digests.push(self.digest(range, cap).await?);
            }
            Ok(digests)
        }
        .boxed()
    }

    /// Keys and hashes of the range's rows, in the order of the keys' UTF-8 bytes, column by column.
    fn key_digests<'a>(
        &'a mut self,
        range: &'a KeyRange,
    ) -> BoxFuture<'a, Result<BoxStream<'a, Result<KeyDigest, SideError>>, SideError>>;

    /// The same of what is there now, where [`key_digests`](Self::key_digests) shows a snapshot.
    fn key_digests_now<'a>(
        &'a mut self,
        range: &'a KeyRange,
    ) -> BoxFuture<'a, Result<BoxStream<'a, Result<KeyDigest, SideError>>, SideError>> {
        self.key_digests(range)
    }

    /// The rows of these keys, in the order asked for.
    fn rows<'a>(
        &'a mut self,
        keys: &'a [Key],
    ) -> BoxFuture<'a, Result<BoxStream<'a, Result<FetchedRow, SideError>>, SideError>>;

    /// Which versions of these rows the node has now, by position; `None` for no row.
    ///
    /// `Ok(None)` if the server has nothing of the kind: then the rows themselves have to be read again.
    fn versions<'a>(
        &'a mut self,
        keys: &'a [Key],
    ) -> BoxFuture<'a, Result<Option<Vec<Option<RowVersion>>>, SideError>>;

    /// Everything that this node has committed until now comes before the mark. `None` if no other node replays
    /// its changes.
    fn mark(&mut self) -> BoxFuture<'_, Result<Option<Mark>, SideError>>;

    /// Whether everything before these marks that is meant to arrive has arrived, as far as this node can tell.
    fn passed<'a>(&'a mut self, marks: &'a [Mark]) -> BoxFuture<'a, Result<bool, SideError>>;

    /// The means to end its statement from outside.
    fn canceller(&self) -> Arc<dyn Canceller>;
}

/// How far behind a follower is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lag {
    /// Which one, in words.
    pub who: String,
    /// By how much; `None` if it does not keep up and that is all that is known.
    pub lag: Option<std::time::Duration>,
}

/// One connection on which a node is asked how it is. After an error it is not used again.
pub trait Vitals: Send {
    /// Numbers that tell how busy the node is, by the names that its kind of server has for them, in this order.
    ///
    /// A name that there is not is a [`Permanent`](SideErrorKind::Permanent) error.
    fn loads<'a>(&'a mut self, names: &'a [String]) -> BoxFuture<'a, Result<Vec<i64>, SideError>>;

    /// All who follow this node, and the node itself if it follows another.
    fn lags(&mut self) -> BoxFuture<'_, Result<Vec<Lag>, SideError>>;
}

/// What must not have changed on a node between two runs that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SideIdentity {
    /// Which server, database and table it is; no address, which may change, and no secret.
    pub server: String,
    /// By what it sorts the key.
    pub order: String,
}

/// Statements by title, and how a server would run each, line by line.
pub type ServerPlans = Vec<(&'static str, Vec<String>)>;

/// A node and its table.
pub trait Side: Send + Sync + 'static {
    /// The node.
    fn node(&self) -> &NodeName;

    /// Its table, which may have another name than the other nodes'.
    fn table(&self) -> &TableName;

    /// Which table it is, and in what order ranges are cut out of it.
    fn identity(&self) -> SideIdentity;

    /// About how many rows its table has: a hint on whom to ask for cuts, nothing more.
    fn estimate(&self) -> f64;

    /// Makes a connection, with all session settings pinned.
    ///
    /// Dropping the future leaves nothing behind on the server but a connection that it notices to be closed.
    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Session>, SideError>>;

    /// Makes a connection on which the node is asked how it is, beside those of the comparison.
    fn vitals(&self) -> BoxFuture<'_, Result<Box<dyn Vitals>, SideError>>;

    /// Whether what was compared is still all that there is: why not, in words. Asked at the end.
    fn is_still_all(&self) -> BoxFuture<'_, Result<Option<String>, SideError>> {
        async { Ok(None) }.boxed()
    }

    /// The statements that will be run, for `--explain`: a title and the text of each.
    fn statements(&self) -> Vec<(&'static str, String)>;

    /// How the server would run the two that count, over the whole table, in its own words: a title and lines each.
    /// Nothing is run.
    fn plans(&self) -> BoxFuture<'_, Result<ServerPlans, SideError>>;
}
