//! Who delivers changes: the seam between a migration and the streamer.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Serialize;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::actor::{ActorHost, ExitStatus, Port};
use crate::change::ChangeBatch;
use crate::coords::Coordinates;
use crate::ident::TableName;
use crate::schema::Column;

/// Which columns of a watched table's rows are delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Projection {
    /// All of them, in ordinal order.
    All,
    /// These, by position, in this order. An event that lacks one of them stops the stream.
    Columns(Box<[usize]>),
    /// None: row events are skipped unread, only statements about the table are reported.
    StatementsOnly,
}

/// A table to be watched.
#[derive(Clone, Debug)]
pub struct Watch {
    /// The table. Letter case is compared as the server's `lower_case_table_names` says.
    pub table: TableName,
    /// All its columns in ordinal order, as inspected. Every table map of the stream must agree with them.
    pub columns: Arc<[Column]>,
    /// What of its rows is wanted.
    pub projection: Projection,
}

/// What a stream delivers.
#[derive(Clone, Debug, Default)]
pub struct StreamSpec {
    /// Watched tables; [`crate::change::Change::Row`] names them by position here.
    pub watches: Vec<Watch>,
    /// The changelog table whose rows become sentinels and heartbeats. Its columns are
    /// `id bigint unsigned, last_update timestamp, hint varchar(64), value varchar(4096)`.
    pub changelog: Option<TableName>,
    /// Views, and tables with triggers, by which a statement that names no watched table changes one all the same.
    /// Rows tell by themselves whose they are; this matters for changes that are logged as text.
    pub gateways: Vec<TableName>,
}

/// A stream's failure. The stream has already retried what can be retried.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    /// What happened, where in the stream, and what to do.
    pub message: Arc<str>,
}

impl SourceError {
    /// A failure with this text.
    pub fn new(message: impl Into<Arc<str>>) -> Self {
        Self {
            message: message.into(),
        }
    }
}

/// What a stream says of itself.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StreamState {
    /// The last position read, whether or not it was delivered.
    pub received: Option<Coordinates>,
    /// The last position delivered and taken over.
    pub delivered: Option<Coordinates>,
    /// Events read, those of other tables included.
    pub events: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Row changes delivered.
    pub rows: u64,
    /// Transactions seen to their end.
    pub transactions: u64,
    /// Prepared XA transactions whose rows are held until they are decided.
    pub prepared: usize,
    /// Times the connection was made anew.
    pub reconnects: u64,
    /// How long it has been since something, a heartbeat of the server included, was read.
    pub silent_for: Duration,
}

/// A running stream.
#[derive(Debug)]
pub struct StreamHandle {
    /// The newest state.
    pub state: watch::Receiver<StreamState>,
    /// Ends the stream; what was not yet delivered is dropped.
    pub cancel: CancellationToken,
    /// How it ended. `Failed` carries a [`SourceError`].
    pub exit: oneshot::Receiver<ExitStatus>,
}

/// Something that can deliver the changes of a server.
pub trait ChangeSource: Send + Sync + 'static {
    /// The present end of the stream: a stream started here delivers every transaction whose commit
    /// begins from now on.
    fn current(&self) -> BoxFuture<'_, Result<Coordinates, SourceError>>;

    /// Whether a stream could start at this position: nothing between it and the present is missing
    /// (purged ⊆ known ⊆ executed).
    fn check_start<'a>(&'a self, at: &'a Coordinates) -> BoxFuture<'a, Result<(), SourceError>>;

    /// Starts a stream of its own that delivers to `changes`, each batch once, in order. Reconnects
    /// by itself, resumes after the last batch taken over, and stops rather than skip anything.
    fn start(
        &self,
        host: &ActorHost,
        spec: StreamSpec,
        at: Coordinates,
        changes: Port<ChangeBatch>,
    ) -> StreamHandle;
}
