//! Repair: making differing rows equal, never writing a value that was not just read.
//!
//! A report says which keys differed; it may be old. So for each key, in batches:
//! 1. the rows of every node that may be written are locked and read, then those of the others are read;
//! 2. the [`Policy`] decides on the rows as they are *now*;
//! 3. a row is written only if it still is what the report recorded for that node (compare and set), and only with values
//!    that were just read from another node or stand in the plan; else it is skipped, and said so;
//! 4. deletes, updates and inserts of a batch are one savepoint; if the server refuses it, each row is tried alone. Rows
//!    that are refused for another row's sake (a foreign key, a unique value) are tried again at the end, until no more
//!    of them can be written.
//!
//! At the end every touched key is read again, and what still differs counts as left over. A dry run does all of this and
//! rolls back.
//!
//! The engine (`batch`, `writing`, `decision`, `plan`) knows rows, keys and refusals; what a server has to do with them is
//! behind `target::Target`, which `postgres` and `mysql` implement.
//!
//! Foreign keys are checked by the server, and a row is never deleted if the deletion would cascade. On PostgreSQL the
//! triggers of the table do not fire, unless asked for; that takes `session_replication_role = replica`, in which the
//! server checks no foreign keys either, so then they are checked here. MySQL cannot keep triggers from firing: a table
//! that has some is refused, unless they may fire.

mod batch;
mod decision;
mod error;
mod journal;
mod leftover;
mod look_back;
mod loosely;
mod mysql;
mod outcome;
pub mod plan;
mod policy;
mod postgres;
mod runner;
mod script;
mod target;
mod touched;
mod words;
mod writing;

pub use decision::{NodeRow, Skipped};
pub use error::RepairError;
pub use journal::{Entry, Event, RepairLog, RepairReport};
pub use outcome::{NodeOutcome, RepairOutcome};
pub use policy::{CopyMode, Policy};
pub use runner::{Apply, BinaryLog, OriginKeeping, Repair, RepairNodes, RepairOptions, Triggers};
pub use script::Script;
