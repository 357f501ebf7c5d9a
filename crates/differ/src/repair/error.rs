//! Why a repair cannot be done.

use crate::model::NodeName;
use crate::repair::plan::{NoDecision, PlanError};
use crate::report::ReportError;
use crate::side::SideError;

/// A failure that ends a repair. What was committed before stays, and is in the report of the repair.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// A node did not answer, or refused what every row needs.
    #[error(transparent)]
    Side(#[from] SideError),
    /// The diff's report cannot be used.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The plan cannot be read.
    #[error("the repair plan: {0}")]
    Plan(#[from] PlanError),
    /// The plan does not fit the table.
    #[error("the repair plan: {0}")]
    Decision(#[from] NoDecision),
    /// What was asked for makes no sense.
    #[error("{0}")]
    Refused(String),
    /// The table has triggers, and this role cannot keep them from firing.
    #[error(
        "{node}: the table has triggers ({triggers}), and this role may not set session_replication_role to keep them \
         from firing. Repair with --fire-triggers, or GRANT SET ON PARAMETER session_replication_role TO the role"
    )]
    Triggers {
        /// Where.
        node: NodeName,
        /// Their names.
        triggers: String,
    },
    /// A file of this repair cannot be written.
    #[error("cannot write {path}: {source}")]
    File {
        /// Which.
        path: String,
        /// The system's words.
        source: std::io::Error,
    },
}
