//! pgEdge ACE's report: `<schema>_<table>_diffs-YYYYMMDDHHMMSS.json`.
//!
//! ```json
//! { "diffs": { "n1/n2": { "rows": {
//!      "n1": [ {"id": 7, "name": "a", "_spock_metadata_": {"commit_ts": "2026-07-01T10:00:00.123456Z", "node_origin": "local"}} ],
//!      "n2": [ {"id": 7, "name": "b", "_spock_metadata_": {"commit_ts": "…", "node_origin": "n1"}} ] } } },
//!   "summary": { "schema": "public", "table": "customers", "nodes": ["n1", "n2"], … } }
//! ```
//!
//! Only confirmed differences are in it: the format has no word for rows in flight, and whoever repairs from it must not
//! touch them.

mod cell;
pub mod read;
mod summary;
mod walk;
mod write;

pub use read::AceReport;
pub use summary::AceSummary;
pub use write::{file_name, write};

/// The field of a row that is not a column.
const METADATA: &str = "_spock_metadata_";
