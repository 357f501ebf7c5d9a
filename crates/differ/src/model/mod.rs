//! The words that engine, reports, rerun and repair share. Nothing here talks to a server.
//!
//! One noun a file. A value is always the text that a server gives for it under the pinned session
//! settings ([`Cell`]); what kind of text it is says the column's [`ValueKind`].

mod cell;
mod difference;
mod job;
mod node;
mod shape;
mod sink;
mod summary;
mod verdict;

pub use cell::{Cell, Key, Row};
pub use difference::{Difference, Finding, Image, Origin, PairDifference, Present, Unsettled};
pub use job::{Comparison, JobHeader};
pub use node::NodeName;
pub use shape::{ColumnShape, Dialect, Generation, Identity, KeyIdentity, KeySource, TableShape, ValueKind};
pub use sink::{DifferenceSink, SinkError};
pub use summary::{JobSummary, NodeSummary, UnknownRange};
pub use verdict::Verdict;
