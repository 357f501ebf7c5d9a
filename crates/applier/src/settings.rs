//! Everything that a migration can be told, resolved: no flag syntax, no files, no defaults missing.
//!
//! The binary builds this from its layers (defaults, file, environment, flags); an embedder builds it by
//! hand from [`MigrationSettings::new`]. Fields have the meaning of gh-ost's flag of the same name.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use changeling_core::ident::TableName;
use secrecy::SecretString;

/// A server and how to log in.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Host name or address, or the path of a Unix socket when it begins with `/`.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Account.
    pub user: String,
    /// Its password.
    pub password: SecretString,
}

impl Endpoint {
    /// `host:port`, as messages and the status line name a server.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// How connections are secured.
#[derive(Clone, Debug, Default)]
pub enum Tls {
    /// Plain text.
    #[default]
    Off,
    /// Encrypted.
    On {
        /// Certificate authority, PEM; the system's if absent.
        ca: Option<PathBuf>,
        /// Client certificate and key, PEM.
        identity: Option<(PathBuf, PathBuf)>,
        /// Whether the server's certificate and name are checked.
        verify: TlsVerify,
    },
}

/// Whether the server's certificate is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVerify {
    /// Certificate and host name.
    Full,
    /// Neither (`--ssl-allow-insecure`).
    Nothing,
}

/// Where the migration works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Events from `--host`, writes on its primary.
    Primary {
        /// `--allow-on-master`: `--host` may be the primary itself.
        inspect_primary: Permission,
    },
    /// `--test-on-replica`: everything on the replica, replication stopped at the cut-over, swapped and
    /// swapped back, the ghost table left beside the original.
    TestOnReplica {
        /// `--test-on-replica-skip-replica-stop`.
        stop_replica: Permission,
    },
}

/// A yes or no that says what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Not allowed, the default.
    Refused,
    /// Allowed by the operator.
    Granted,
}

impl Permission {
    /// `Granted` for true.
    #[must_use]
    pub fn from_flag(flag: bool) -> Self {
        if flag { Self::Granted } else { Self::Refused }
    }

    /// Whether it is granted.
    #[must_use]
    pub fn granted(self) -> bool {
        self == Self::Granted
    }
}

/// Run for real, or say what would be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Without `--execute`: check everything, create and alter the ghost table, print the plan, drop it.
    DryRun,
    /// With `--execute`.
    Execute,
}

/// How the columns that the ALTER renames are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renames {
    /// Refuse until approved.
    Ask,
    /// `--approve-renamed-columns`: the data moves with the column.
    Approve,
    /// `--skip-renamed-columns`: a dropped column and a new one.
    Skip,
}

/// How foreign keys are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForeignKeys {
    /// A table with any is refused.
    Refuse,
    /// `--discard-foreign-keys`: those of the table itself vanish; those of others to it are refused.
    Discard,
    /// `--skip-foreign-key-checks`: not looked for.
    SkipChecks,
}

/// How triggers are treated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Triggers {
    /// A table with any is refused.
    Refuse,
    /// `--include-triggers`.
    Include {
        /// `--trigger-suffix`.
        suffix: String,
        /// `--remove-trigger-suffix-if-exists`: take the suffix off where it is there already.
        remove_if_exists: Permission,
    },
}

/// Limits on `SHOW GLOBAL STATUS` values, by variable name.
pub type LoadLimits = BTreeMap<String, i64>;

/// What may slow a migration down, or stop it.
#[derive(Clone, Debug)]
pub struct ThrottleSettings {
    /// Lag above which copy and apply pause, on the stream's source and the control replicas.
    pub max_lag: Duration,
    /// How often a heartbeat is written.
    pub heartbeat_interval: Duration,
    /// `--throttle-control-replicas`: `host:port` each.
    pub control_replicas: Vec<(String, u16)>,
    /// `--max-load`.
    pub max_load: LoadLimits,
    /// `--critical-load`.
    pub critical_load: LoadLimits,
    /// `--critical-load-interval-millis`: look again after this long before aborting.
    pub critical_load_interval: Option<Duration>,
    /// `--throttle-query`.
    pub query: Option<String>,
    /// `--throttle-flag-file`.
    pub flag_file: Option<PathBuf>,
    /// `--throttle-additional-flag-file`.
    pub additional_flag_file: Option<PathBuf>,
    /// `--panic-flag-file`.
    pub panic_flag_file: Option<PathBuf>,
    /// `--nice-ratio`: sleep this many times a chunk's duration after it.
    pub nice_ratio: f64,
}

/// How rows are copied.
#[derive(Clone, Debug)]
pub struct CopySettings {
    /// `--chunk-size`: rows of the first chunk, and of all chunks when `chunk_time` is `None`.
    pub chunk_size: u64,
    /// `--chunk-time`: what a chunk's duration is steered to.
    pub chunk_time: Option<Duration>,
    /// `--copy-workers`.
    pub workers: NonZeroUsize,
    /// `--panic-on-warnings`.
    pub warnings: WarningPolicy,
    /// `--defer-indexes`.
    pub defer_indexes: DeferIndexes,
}

/// What a warning of the copy means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WarningPolicy {
    /// Anything but a duplicate on a key that exists identically on the original aborts.
    Abort,
    /// `--panic-on-warnings=false`: gh-ost's old behaviour, warnings are not looked at.
    Ignore,
}

/// When non-unique secondary indexes of the ghost table are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeferIndexes {
    /// After the copy if no replica's lag is guarded.
    Auto,
    /// After the copy.
    Always,
    /// With the ghost table.
    Never,
}

/// What is proven before the swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyMode {
    /// Nothing.
    Off,
    /// A part of the ranges, and every key changed after the copy.
    Sample,
    /// Every row.
    Full,
}

/// How the swap is made.
#[derive(Clone, Debug)]
pub struct CutOverSettings {
    /// `--cut-over-lock-timeout-seconds`: the longest an attempt may hold or wait for the lock.
    pub lock_timeout: Duration,
    /// `--cut-over-exponential-backoff` with `--exponential-backoff-max-interval`.
    pub backoff: CutOverBackoff,
    /// `--postpone-cut-over-flag-file`.
    pub postpone_flag_file: Option<PathBuf>,
    /// `--analyze-ghost-table-before-cutover`.
    pub analyze_ghost: Permission,
    /// The predicted work under the lock above which an attempt is not begun.
    pub budget: Duration,
}

/// How long to wait between attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutOverBackoff {
    /// About a second, jittered.
    Constant,
    /// Doubling, up to this.
    Exponential {
        /// The longest wait.
        max: Duration,
    },
}

/// Checkpoints and resuming.
#[derive(Clone, Debug)]
pub struct CheckpointSettings {
    /// How often the checkpoint row is written; `None` for never.
    pub interval: Option<Duration>,
    /// `--resume`.
    pub resume: Resume,
}

/// Whether an earlier run is continued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// Start afresh.
    No,
    /// `--resume`: continue, or fail.
    Require,
    /// `--resume=auto`: continue if a matching checkpoint is there.
    Auto,
}

/// What becomes of tables that are in the way or left over.
#[derive(Clone, Debug)]
pub struct Leftovers {
    /// `--initially-drop-ghost-table`.
    pub drop_ghost_first: Permission,
    /// `--initially-drop-old-table`.
    pub drop_old_first: Permission,
    /// `--ok-to-drop-table`: drop the old table at the end.
    pub drop_old_last: Permission,
    /// `--timestamp-old-table`.
    pub timestamp_old: Permission,
    /// `--force-table-names`: base of the names of all tables of ours.
    pub base_name: Option<String>,
}

/// Everything that a migration can be told.
#[derive(Clone, Debug)]
pub struct MigrationSettings {
    /// The table to change.
    pub table: TableName,
    /// The ALTER, as given: with or without `ALTER TABLE …` before it.
    pub alter: String,
    /// Run or rehearse.
    pub purpose: Purpose,
    /// `--host`: whose binary log is read, and where the schema is inspected.
    pub inspected: Endpoint,
    /// `--assume-master-host` with `--master-user`, `--master-password`: skips the search for the primary.
    pub assumed_primary: Option<Endpoint>,
    /// Where the work is done.
    pub place: Place,
    /// Encryption of all connections.
    pub tls: Tls,
    /// `--mysql-timeout`.
    pub timeout: Option<Duration>,
    /// `--gtid`: positions by GTID.
    pub gtid: Permission,
    /// `--assume-rbr`.
    pub assume_rbr: Permission,
    /// `--skip-port-validation`.
    pub skip_port_validation: Permission,
    /// `--replica-server-id`.
    pub server_id: u32,
    /// `--binlogsyncer-max-reconnect-attempts`; `None` is without limit.
    pub max_reconnects: Option<u32>,
    /// `--default-retries`: tries of most operations, cut-over attempts among them.
    pub retries: u64,
    /// `--dml-batch-size`: the start of the number of keys a sync statement handles.
    pub batch_keys: usize,
    /// `--apply-lanes`.
    pub lanes: NonZeroUsize,
    /// `--exact-rowcount`.
    pub exact_rowcount: Permission,
    /// `--concurrent-rowcount`.
    pub concurrent_rowcount: Permission,
    /// `--approve-renamed-columns`, `--skip-renamed-columns`.
    pub renames: Renames,
    /// `--discard-foreign-keys`, `--skip-foreign-key-checks`.
    pub foreign_keys: ForeignKeys,
    /// `--include-triggers` and its kin.
    pub triggers: Triggers,
    /// `--skip-strict-mode`.
    pub skip_strict_mode: Permission,
    /// `--allow-zero-in-date`.
    pub allow_zero_in_date: Permission,
    /// `--allow-nullable-unique-key`.
    pub allow_nullable_unique_key: Permission,
    /// `--attempt-instant-ddl`.
    pub attempt_instant: Permission,
    /// `--skip-metadata-lock-check`.
    pub skip_metadata_lock_check: Permission,
    /// `--allow-setup-metadata-lock-instruments`.
    pub allow_setup_instruments: Permission,
    /// `--force-named-cut-over`.
    pub force_named_cut_over: Permission,
    /// `--force-named-panic`.
    pub force_named_panic: Permission,
    /// Copying.
    pub copy: CopySettings,
    /// Throttling.
    pub throttle: ThrottleSettings,
    /// Swapping.
    pub cut_over: CutOverSettings,
    /// Checkpoints.
    pub checkpoint: CheckpointSettings,
    /// Tables in the way, tables left over.
    pub leftovers: Leftovers,
    /// Proof before the swap.
    pub verify: VerifyMode,
    /// Where the proof's JSON report is written; `None`: only logged.
    pub verify_report: Option<PathBuf>,
}

impl MigrationSettings {
    /// Whether tables of an earlier run are to be gone on with. A dry run leaves them alone.
    #[must_use]
    pub fn resumes(&self) -> bool {
        self.purpose == Purpose::Execute && self.checkpoint.resume != Resume::No
    }

    /// Settings with gh-ost's defaults, and ours where gh-ost has none.
    #[must_use]
    pub fn new(table: TableName, alter: impl Into<String>, inspected: Endpoint) -> Self {
        Self {
            table,
            alter: alter.into(),
            purpose: Purpose::DryRun,
            inspected,
            assumed_primary: None,
            place: Place::Primary {
                inspect_primary: Permission::Refused,
            },
            tls: Tls::Off,
            timeout: None,
            gtid: Permission::Refused,
            assume_rbr: Permission::Refused,
            skip_port_validation: Permission::Refused,
            server_id: 99_999,
            max_reconnects: None,
            retries: 60,
            batch_keys: 500,
            lanes: NonZeroUsize::new(4).unwrap_or(NonZeroUsize::MIN),
            exact_rowcount: Permission::Refused,
            concurrent_rowcount: Permission::Granted,
            renames: Renames::Ask,
            foreign_keys: ForeignKeys::Refuse,
            triggers: Triggers::Refuse,
            skip_strict_mode: Permission::Refused,
            allow_zero_in_date: Permission::Refused,
            allow_nullable_unique_key: Permission::Refused,
            attempt_instant: Permission::Refused,
            skip_metadata_lock_check: Permission::Refused,
            allow_setup_instruments: Permission::Refused,
            force_named_cut_over: Permission::Refused,
            force_named_panic: Permission::Refused,
            copy: CopySettings {
                chunk_size: 1000,
                chunk_time: Some(Duration::from_millis(250)),
                workers: NonZeroUsize::new(2).unwrap_or(NonZeroUsize::MIN),
                warnings: WarningPolicy::Abort,
                defer_indexes: DeferIndexes::Auto,
            },
            throttle: ThrottleSettings {
                max_lag: Duration::from_millis(1500),
                heartbeat_interval: Duration::from_millis(100),
                control_replicas: Vec::new(),
                max_load: LoadLimits::new(),
                critical_load: LoadLimits::new(),
                critical_load_interval: None,
                query: None,
                flag_file: None,
                additional_flag_file: None,
                panic_flag_file: None,
                nice_ratio: 0.0,
            },
            cut_over: CutOverSettings {
                lock_timeout: Duration::from_secs(3),
                backoff: CutOverBackoff::Constant,
                postpone_flag_file: None,
                analyze_ghost: Permission::Refused,
                budget: Duration::from_millis(100),
            },
            checkpoint: CheckpointSettings {
                interval: Some(Duration::from_secs(5)),
                resume: Resume::No,
            },
            leftovers: Leftovers {
                drop_ghost_first: Permission::Refused,
                drop_old_first: Permission::Refused,
                drop_old_last: Permission::Refused,
                timestamp_old: Permission::Refused,
                base_name: None,
            },
            verify: VerifyMode::Full,
            verify_report: None,
        }
    }
}
