//! What a migration says of itself: the one snapshot that status lines, progress bars and tests read.

use std::time::Duration;

use serde::Serialize;

use crate::plan::TableNames;
use crate::settings::LoadLimits;

/// Where a migration is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Looking at servers and tables, creating ours.
    #[default]
    Preparing,
    /// `SELECT COUNT(*)` before the copy.
    CountingRows,
    /// Copying rows.
    Copying,
    /// Building the deferred indexes of the ghost table.
    BuildingIndexes,
    /// Comparing original and ghost table.
    Verifying,
    /// Everything is ready; the postpone flag file is there.
    Postponing,
    /// Attempting the cut-over.
    CuttingOver,
    /// The ghost table is in place; cleaning up.
    Finishing,
    /// Over.
    Done,
}

/// When the copy is expected to be complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Eta {
    /// Too early to tell.
    #[default]
    Unknown,
    /// In about this long.
    In(Duration),
    /// The copy is complete.
    Due,
}

/// Settings that the command socket can change, as they are now.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LiveSettings {
    /// Rows of a chunk; where chunks follow a time target, the present size.
    pub chunk_size: u64,
    /// Keys of a sync statement.
    pub dml_batch_size: usize,
    /// Lag limit.
    pub max_lag: Duration,
    /// `--nice-ratio`.
    pub nice_ratio: f64,
    /// `--max-load`.
    pub max_load: LoadLimits,
    /// `--critical-load`.
    pub critical_load: LoadLimits,
    /// `--throttle-query`.
    pub throttle_query: Option<String>,
    /// `host:port` of each control replica.
    pub control_replicas: Vec<String>,
    /// `--throttle-flag-file`.
    pub throttle_flag_file: Option<String>,
    /// `--throttle-additional-flag-file`.
    pub throttle_additional_flag_file: Option<String>,
    /// `--postpone-cut-over-flag-file`.
    pub postpone_flag_file: Option<String>,
    /// `--panic-flag-file`.
    pub panic_flag_file: Option<String>,
}

/// One server's name and version.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ServerIdentity {
    /// `host:port`.
    pub address: String,
    /// `@@version`.
    pub version: String,
}

/// A snapshot of a migration.
#[derive(Clone, Debug, Default, Serialize)]
pub struct MigrationState {
    /// Where it is.
    pub phase: Phase,
    /// The tables; `None` until they are known.
    pub names: Option<TableNames>,
    /// Where rows are written.
    pub applier: ServerIdentity,
    /// Where the schema is inspected and the binary log read.
    pub inspector: ServerIdentity,
    /// When it began, microseconds since 1970.
    pub started_at_micros: i64,
    /// Since it began.
    pub elapsed: Duration,
    /// Since the first row was copied, until the copy was complete.
    pub elapsed_copy: Duration,
    /// Rows copied.
    pub rows_copied: u64,
    /// Rows expected: an estimate, corrected by the changes seen.
    pub rows_estimate: u64,
    /// Row changes taken from the stream.
    pub events_applied: u64,
    /// Keys waiting to be synchronised.
    pub backlog: u64,
    /// Keys that may wait before the stream is held back.
    pub backlog_capacity: u64,
    /// Position of the stream, `file:pos`.
    pub coordinates: String,
    /// Lag of the stream's source behind the primary, by the heartbeat row read there.
    pub lag: Duration,
    /// Age of the newest heartbeat that came through the stream.
    pub heartbeat_lag: Duration,
    /// Why copy and apply are paused, if they are: for example `commanded by user`.
    pub throttled: Option<String>,
    /// When the copy will be complete.
    pub eta: Eta,
    /// Ranges proven equal, of all; zero of zero before proving begins.
    pub verified: (u64, u64),
    /// Cut-over attempts so far.
    pub cut_over_attempts: u64,
    /// How long the table was locked by the successful attempt.
    pub locked_for: Option<Duration>,
    /// Settings as they are now.
    pub settings: LiveSettings,
}

/// How a migration went.
#[derive(Clone, Debug, Serialize)]
pub struct MigrationSummary {
    /// The last snapshot.
    pub state: MigrationState,
    /// What happened.
    pub ending: Ending,
}

/// The ways a migration can succeed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The new table is in place.
    Swapped,
    /// The server did it at once (`--attempt-instant-ddl`).
    Instant,
    /// `--test-on-replica`: rehearsed, the original table in place, the ghost table beside it.
    Rehearsed,
    /// Without `--execute`.
    DryRun {
        /// `SHOW CREATE TABLE` of the ghost table.
        ghost_definition: String,
        /// What would be done, line by line.
        plan: Vec<String>,
    },
}
