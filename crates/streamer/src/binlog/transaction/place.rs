//! Following the place in the file, and from file to file.

use changeling_core::coords::{FilePos, Gtids};

use super::{Progress, Transactions, corrupt};
use crate::binlog::event::{self, Event, kind};
use crate::error::{ErrorKind, StreamError};

/// Headers have 32 bits for a place.
const WRAP: u64 = 1 << 32;

impl Transactions {
    /// Follows the position. Events follow each other without a gap, except where the server leaves out
    /// transactions that we said we know.
    pub(super) fn advance(&mut self, event: &Event<'_>) -> Result<(), StreamError> {
        let header = &event.header;
        let apart = matches!(header.kind, kind::HEARTBEAT | kind::HEARTBEAT_V2 | kind::ROTATE);
        if header.is_artificial() || apart {
            return Ok(());
        }
        let expected = self.end + u64::from(header.size);
        // The header has only the low half of where a file above 4 GiB goes on; it may well be 0.
        if expected % WRAP == u64::from(header.log_pos) {
            self.end = expected;
            self.unplaced = false;
            return Ok(());
        }
        if header.log_pos == 0 {
            // From 11.4 MariaDB says where the first and the last event of a transaction end, and of none between
            // (binlog_legacy_event_pos). Outside of a transaction the event was made up for us.
            if self.maria && self.open.is_some() {
                self.end = expected;
                self.unplaced = true;
            }
            return Ok(());
        }
        let jumped = self.after(expected, header.log_pos);
        let by_gtid = self.position.gtids != Gtids::None;
        let left_out = match header.kind {
            // MariaDB does not send the statement's text, which is in the file before its first table map.
            kind::TABLE_MAP => self.maria,
            // The same, told by the transaction's last event.
            _ if self.open.is_some() => self.unplaced,
            // Whole transactions, of which we said that we know them.
            _ => by_gtid,
        };
        if jumped < expected || !left_out {
            return Err(corrupt(format!(
                "an event of type {} ends at {}, but one of {} bytes was due after {}",
                header.kind, header.log_pos, header.size, self.end
            )));
        }
        self.end = jumped;
        self.unplaced = false;
        Ok(())
    }

    /// A place in 64 bits. What was left out between events without a place may have gone across a boundary of 4 GiB.
    fn after(&self, expected: u64, log_pos: u32) -> u64 {
        let place = self.end / WRAP * WRAP + u64::from(log_pos);
        if self.unplaced && place < expected {
            place + WRAP
        } else {
            place
        }
    }

    /// A file came to its end. A transaction cut off there never committed: the server rolled it back when
    /// it recovered.
    pub(super) fn abandon(&mut self) -> Result<Progress, StreamError> {
        self.tables.clear();
        let Some(open) = self.open.take().filter(|open| open.framed) else {
            return Ok(Progress::Within);
        };
        self.ready.drop_unfinished();
        if open.full_images {
            return Err(StreamError::new(
                ErrorKind::Unsupported,
                "the server crashed inside of a transaction whose rows may have been delivered",
            ));
        }
        tracing::warn!(
            file = self.file,
            "a transaction is cut off at the end of a binary log file"
        );
        Ok(Progress::Within)
    }

    pub(super) fn rotate(&mut self, body: &[u8]) -> Result<Progress, StreamError> {
        let (position, file) = event::rotate(body)?;
        let continues = file == self.file;
        let progress = if continues {
            Progress::Within
        } else {
            self.abandon()?
        };
        self.file = file;
        self.end = position;
        if self.open.is_none() && !continues {
            self.position.file = FilePos {
                file: self.file.clone(),
                pos: position,
            };
            self.ready.mark_whole();
        }
        Ok(progress)
    }
}
