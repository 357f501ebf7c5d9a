//! Events from somewhere else than a connection.

use changeling_core::change::Change;
use changeling_core::change_source::StreamSpec;
use changeling_core::coords::Coordinates;

use crate::binlog::transaction::{Bounds, Transactions};
use crate::binlog::watched::Watched;
use crate::error::StreamError;

/// Reads events as a stream does, from wherever the caller has them: a binary log file, a recording, a
/// fuzzer. It owns no connection and waits for nothing.
#[derive(Debug)]
pub struct Replay(Transactions);

impl Replay {
    /// As if a stream had begun at `at`, on a server that tells letter case of table names apart.
    ///
    /// # Errors
    ///
    /// If the watch list is unusable.
    pub fn new(spec: StreamSpec, at: Coordinates) -> Result<Self, StreamError> {
        let bounds = Bounds {
            prepared_bytes: 1 << 20,
            uncompressed_bytes: 1 << 20,
            known_prepared: Vec::new(),
        };
        Ok(Self(Transactions::new(Watched::new(spec, false)?, bounds, at)))
    }

    /// Takes one event: header, body and, where the log has them, checksum.
    ///
    /// # Errors
    ///
    /// Whatever would stop a stream.
    pub fn accept(&mut self, event: &[u8]) -> Result<(), StreamError> {
        self.0.accept(event)?;
        while self.0.has_inner() {
            self.0.accept_inner()?;
        }
        Ok(())
    }

    /// The changes so far, and the position a stream would give with them.
    pub fn take(&mut self) -> (Vec<Change>, Coordinates) {
        let (changes, _) = self.0.ready.take();
        (changes, self.0.upto())
    }
}
