//! MySQL 8 and 9 and MariaDB as sides of a comparison.
//!
//! Two rows are equal if every column's text is, in UTF-8 and under pinned session settings; bytes are hexadecimal
//! digits. A row's hash is the first 64 bits of a SHA-256 over the length-tagged texts: there is nothing cheaper in
//! these servers that tells rows apart, and no MD5 any more. A hash that is NULL, because a text grew beyond
//! `max_allowed_packet`, is an error and never equal to another.

mod catalog;
mod cluster;
mod connect;
mod json;
mod plan;
mod replay;
mod session;
mod vitals;

pub use cluster::{MySqlCluster, MySqlNode, MySqlTerms};
pub use connect::MySqlServer;
pub(crate) use connect::{Failure, MySqlConnection, Purpose, WRITING_MODE};
pub(crate) use plan::{RowLock, TablePlan};
pub(crate) use session::MySqlSession;
