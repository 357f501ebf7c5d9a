//! PostgreSQL 14 to 18 as sides of a comparison.
//!
//! What makes two rows equal is decided by texts: every column's own output under pinned session settings
//! (`connect`). A range's digest is count, exclusive or and sum of 64-bit row hashes made of these texts
//! (`statement`): the hash of each column is the seed of the next one's, so value, column and order are bound, and
//! NULL is a 128-bit text drawn for the job. Typed hashes are not used: they fold 64 bits to 32, or are linear.

mod agreement;
mod catalog;
mod cluster;
mod connect;
mod connection_string;
mod filter;
mod ident;
mod identity;
mod options;
mod origin;
mod partition;
mod password_file;
mod plan;
mod probe;
mod replay;
mod session;
mod snapshot;
mod statement;
mod surroundings;
mod tls;
mod vitals;

pub(crate) use agreement::generated_otherwise;
pub use agreement::{ColumnChoice, Disagreement};
pub use cluster::{PgCluster, PgNode, PgTerms, PrepareError};
pub use connect::{PgConnection, PgServer};
pub use filter::{FilterError, check_filter};
pub use ident::{quote, quote_table, quote_text};
pub use options::{OptionsError, PgOptions, SslMode};
pub use origin::Origins;
pub use snapshot::SnapshotMode;
pub(crate) use statement::same_text;
pub use surroundings::Surroundings;
pub use tokio_postgres::config::{ChannelBinding, TargetSessionAttrs};
