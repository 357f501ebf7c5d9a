//! MySQL and MariaDB as the target of a repair.
//!
//! What is written are the texts that were read, as literals whose meaning no setting of the session changes. That a text
//! comes back as it was written is not taken for granted: after each part of a batch its rows are read again, in the same
//! transaction, and a part with a row that the server stored otherwise is undone and refused. So a column that rounds in
//! silence, or a document that loses a number's digits, cannot be mistaken for repaired.
//!
//! Rows are locked one key at a time, through the index, under READ COMMITTED: no row is locked that is not in the report,
//! and no gap. A row that was not there can therefore be inserted by somebody else before it is inserted here; the server
//! then refuses the duplicate, and the key is looked at again.

mod facts;
mod order;
mod scribe;
mod statement;
mod target;

pub(super) use target::MySqlTarget;
