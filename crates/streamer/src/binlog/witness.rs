//! The last event of the last transaction that was read, to be found again.
//!
//! **Why numbers are not enough.** A server may lose what it had sent: it comes back from a snapshot, from a crash without
//! durable writes, or its log is reset. Then it gives the same GTIDs and the same offsets to other transactions, and soon
//! has as many as before: our own heartbeats alone see to that. A stream that went on by its numbers would pass over what
//! happened in between, and nobody would ever know. So before a stream goes on with a server that it has read before, it
//! reads again what it read last. An event has its time, its place, and the number of its statement or transaction: another
//! one does not look the same.

use std::hash::{DefaultHasher, Hasher};

use changeling_core::coords::{Coordinates, FilePos, Gtids};

use super::dump::{Dump, opens_a_file};
use super::position::Server;
use crate::error::{Retry, StreamError};
use crate::options::BinlogSourceOptions;

/// Where an event is in the log, and what it looks like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Witness {
    /// Where it begins.
    file: String,
    pos: u64,
    size: usize,
    digest: u64,
}

/// What is there now.
#[derive(Debug)]
pub(crate) enum Found {
    /// The same event.
    Same,
    /// Another one, or none.
    Another,
    /// The server cannot begin there, and says why.
    Refused(StreamError),
}

impl Witness {
    /// Takes note of this event instead, which ends at `end`.
    pub(crate) fn note(&mut self, file: &str, end: u64, event: &[u8]) {
        file.clone_into(&mut self.file);
        self.pos = end.saturating_sub(event.len() as u64);
        self.size = event.len();
        self.digest = digest(event);
    }

    /// Its place; `None` before the first event.
    pub(crate) fn place(&self) -> Option<FilePos> {
        (self.size > 0).then(|| FilePos {
            file: self.file.clone(),
            pos: self.pos,
        })
    }

    /// Reads it again, on a connection of its own.
    ///
    /// # Errors
    /// The connection fails, and another may not.
    pub(crate) async fn find(
        &self,
        options: &BinlogSourceOptions,
        server: &Server,
        place: FilePos,
    ) -> Result<Found, StreamError> {
        let at = Coordinates {
            file: place,
            gtids: Gtids::None,
        };
        match self.read_again(options, server, &at).await {
            Ok(true) => Ok(Found::Same),
            Ok(false) => Ok(Found::Another),
            Err(error) if error.kind().retry() == Retry::Stop => Ok(Found::Refused(error)),
            Err(error) => Err(error),
        }
    }

    async fn read_again(
        &self,
        options: &BinlogSourceOptions,
        server: &Server,
        at: &Coordinates,
    ) -> Result<bool, StreamError> {
        let mut dump = Dump::start(options, server, at).await?;
        loop {
            let event = dump.next().await?;
            // The server tells first what file it is and how that is written.
            if !opens_a_file(&event) {
                return Ok(self.is(&event));
            }
        }
    }

    fn is(&self, event: &[u8]) -> bool {
        event.len() == self.size && digest(event) == self.digest
    }
}

fn digest(event: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(event);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_itself_and_no_other() {
        let mut witness = Witness::default();
        assert_eq!(witness.place(), None);
        witness.note("binlog.000007", 150, b"an event");
        assert_eq!(
            witness.place().map(|place| place.to_string()).as_deref(),
            Some("binlog.000007:142")
        );
        assert!(witness.is(b"an event"));
        assert!(!witness.is(b"an evenT") && !witness.is(b"an event "));
    }
}
