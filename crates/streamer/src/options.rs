//! Settings of a stream.

use std::time::Duration;

use mysql_async::Opts;

/// By what a stream remembers where it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PositionBy {
    /// By GTID. A server without GTIDs is refused.
    Gtid,
    /// By file and offset. Ends when another server answers at the address.
    File,
    /// By GTID where the server has them (`gtid_mode=ON`; MariaDB always), else by file.
    #[default]
    Auto,
}

/// Settings of a [`BinlogSource`](crate::source::BinlogSource).
#[derive(Clone, Debug)]
pub struct BinlogSourceOptions {
    /// Where the server is, the account, TLS. The account needs `REPLICATION SLAVE` and `REPLICATION CLIENT`.
    pub opts: Opts,
    /// The stream's own server id. No replica of the server, and no other stream, may have the same.
    pub server_id: u32,
    /// By what positions go.
    pub by: PositionBy,
    /// How often the server gives a sign of life when it has nothing to say. After three times this
    /// long without one the connection is taken for dead.
    pub heartbeat: Duration,
    /// After so long with nothing but signs of life the server is asked whether that is all: a server whose log was reset
    /// under the stream would keep it waiting for ever.
    pub stall: Duration,
    /// For how long to wait for a connection and its login.
    pub connect_timeout: Duration,
    /// After how many failed connections in a row, without a transaction between, to give up; `None` is never.
    pub max_reconnects: Option<u32>,
    /// Longest pause between two attempts to connect.
    pub max_backoff: Duration,
    /// A batch is closed when it holds so many changes.
    pub batch_changes: usize,
    /// A batch is closed when its changes occupy about so many bytes.
    pub batch_bytes: usize,
    /// How much the decided-later rows of prepared XA transactions may occupy in memory.
    pub max_prepared_bytes: usize,
    /// Largest transaction payload (`binlog_transaction_compression`) or compressed event
    /// (`log_bin_compress`), uncompressed.
    pub max_uncompressed_bytes: usize,
    /// Global parts of XA identifiers whose `XA COMMIT` may come without rows, as the embedder knows of
    /// what was in them. Empty unless there is good reason.
    pub known_prepared: Vec<Vec<u8>>,
}

impl BinlogSourceOptions {
    /// The defaults for a server.
    #[must_use]
    pub fn new(opts: impl Into<Opts>, server_id: u32) -> Self {
        Self {
            opts: opts.into(),
            server_id,
            by: PositionBy::Auto,
            heartbeat: Duration::from_secs(1),
            stall: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(10),
            max_reconnects: None,
            max_backoff: Duration::from_secs(10),
            batch_changes: 1000,
            batch_bytes: 256 * 1024,
            max_prepared_bytes: 256 * 1024 * 1024,
            // A server makes no payload from more than its transaction cache, by default 1 GiB at most.
            max_uncompressed_bytes: 1 << 30,
            known_prepared: Vec::new(),
        }
    }

    /// How long the stream waits for a sign of life.
    pub(crate) fn patience(&self) -> Duration {
        self.heartbeat.saturating_mul(3).max(Duration::from_secs(1))
    }

    /// A UUID that only depends on the server id, so that a server ends the dump thread of a connection
    /// that it still believes in when the stream connects again.
    pub(crate) fn uuid(&self) -> String {
        format!("c4a11e11-0000-4000-8000-0000{:08x}", self.server_id)
    }
}
