//! Change streams: the binary logs of MySQL and MariaDB as whole transactions.
//!
//! Three promises of this crate:
//!
//! * **Nothing is passed over in silence.** Every event is understood, or says itself that it may be
//!   ignored, or stops the stream with a message that names the place. Checksums are verified.
//! * **A position stands between two transactions.** A stream started from the `upto` of a batch misses
//!   nothing that came after the batch.
//! * **Rows of other tables cost next to nothing.** They are recognised by their table id and not decoded.
//!
//! [`BinlogSource`] is what a migration uses. [`Streamer`] is the actor behind it, usable alone.

mod actor;
mod binlog;
mod error;
mod options;
mod pump;
mod replay;
mod source;

pub use actor::{StopStreaming, Streamer, StreamerState};
pub use error::{ErrorKind, Retry, StreamError};
pub use options::{BinlogSourceOptions, PositionBy};
pub use replay::Replay;
pub use source::BinlogSource;
