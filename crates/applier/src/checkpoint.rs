//! The checkpoint table K: one row from which a later run goes on.
//!
//! Two facts suffice. *Everything up to the watermark is copied*, and *a stream started at `upto` repeats
//! everything that is not synchronised*. Both only grow, and each holds on its own, so they need not be of the
//! same instant. A chunk in flight when the process died was rolled back or committed; copying it again is harmless
//! either way.

use changeling_core::coords::Coordinates;
use changeling_core::ident::{TableName, quote_text};
use changeling_core::key::Key;
use changeling_core::schema::TableSchema;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::error::ApplyError;
use crate::plan::{DeferredIndex, FilledColumn, KeyPlan, MigrationPlan, SessionPlan, SharedColumn};
use crate::server::ServerError;
use crate::sessions::{Execute, Session, Sessions};

/// Where a migration is, as far as a later run has to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Version of the tool that wrote it.
    pub version: String,
    /// Marks this migration's own statements in the binary log.
    pub owner: String,
    /// The ALTER, as it was given.
    pub alter: String,
    /// The original table, as it was inspected.
    pub original: TableSchema,
    /// The ghost table, as it was created.
    pub ghost: TableSchema,
    /// D: with a time in its name, a later run would choose another.
    #[serde(default)]
    pub old: Option<TableName>,
    /// Indexes that are built after the copy.
    pub deferred_indexes: Vec<DeferredIndex>,
    /// How rows are converted; `None` in checkpoints of versions that did not note it.
    #[serde(default)]
    pub conversion: Option<Conversion>,
    /// A stream started here repeats everything that is not synchronised.
    pub upto: Coordinates,
    /// Everything up to here is copied.
    pub watermark: Option<Key>,
    /// Rows copied.
    pub rows_copied: u64,
    /// Row changes taken over.
    pub events_applied: u64,
    /// Whether everything is copied.
    pub copy_complete: bool,
    /// Cut-over attempts begun.
    pub attempts: u64,
}

/// Everything that decides what a row of the ghost table looks like, the tables aside. Rows of two runs must not differ
/// in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversion {
    /// By which rows are found.
    pub key: KeyPlan,
    /// What is copied where.
    pub columns: Vec<SharedColumn>,
    /// What new columns are given.
    pub filled: Vec<FilledColumn>,
    /// The time zone and SQL mode of those who write.
    pub session: SessionPlan,
}

impl Conversion {
    /// A plan's.
    #[must_use]
    pub fn of(plan: &MigrationPlan) -> Self {
        Self {
            key: plan.key.clone(),
            columns: plan.columns.clone(),
            filled: plan.filled.clone(),
            session: plan.session.clone(),
        }
    }

    /// What differs between two, for people; empty if they are the same.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        let (ours, theirs) = (&self.session, &other.session);
        for (name, was, is) in [
            ("time_zone", &ours.time_zone, &theirs.time_zone),
            ("sql_mode", &ours.sql_mode, &theirs.sql_mode),
            ("key", &self.key.source_name, &other.key.source_name),
        ] {
            if was != is {
                differences.push(format!("{name} was '{was}' and is '{is}' now"));
            }
        }
        if self.columns != other.columns || self.filled != other.filled {
            differences.push(
                "columns are copied otherwise (--approve-renamed-columns, --skip-renamed-columns)".to_owned(),
            );
        }
        if differences.is_empty() && self != other {
            differences.push("the key's columns are read otherwise".to_owned());
        }
        differences
    }
}

/// What the tables are called while a swap of two sessions is under way, which a run that is killed in its middle
/// leaves behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwapNames {
    /// G.
    pub ghost: TableName,
    /// The sentry's, and D's for a moment.
    pub old: TableName,
}

impl SwapNames {
    /// Notes these names in the checkpoint table.
    pub(crate) fn note(&self, table: &TableName) -> String {
        let names = serde_json::json!({ "ghost": self.ghost, "old": self.old }).to_string();
        format!(
            "INSERT INTO {table} (id, state) VALUES ({SWAP_ROW}, {}) ON DUPLICATE KEY UPDATE state = VALUES(state)",
            quote_text(&names)
        )
    }
}

/// The row of [`SwapNames`], beside the checkpoint's.
const SWAP_ROW: u8 = 2;

/// Noted before the ghost table is created: a run that is killed between that and its first checkpoint has copied nothing,
/// and what it has created can be dropped by the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// Marks that run's statements.
    pub owner: String,
}

/// The row of [`Begun`]. It stays; a checkpoint beside it says that there is more.
const BEGUN_ROW: u8 = 3;

/// Writes checkpoints.
#[derive(Debug)]
pub struct CheckpointTable {
    table: TableName,
    session: Session,
}

impl CheckpointTable {
    /// On these sessions, which commit by themselves.
    #[must_use]
    pub fn new(table: TableName, sessions: &Sessions) -> Self {
        Self {
            table,
            session: sessions.lasting(),
        }
    }

    /// Creates the table, and drops what an earlier run left.
    ///
    /// # Errors
    /// As the server says.
    pub async fn create(&mut self, cancel: &CancellationToken) -> Result<(), ApplyError> {
        let what = format!("create the checkpoint table {}", self.table);
        let drop = format!("DROP TABLE IF EXISTS {}", self.table);
        self.session.run(&what, cancel, &Execute(drop)).await?;
        // Dropped a moment ago, so one that is there is ours: the answer to it was lost, and it is made again.
        let create = format!(
            "CREATE TABLE IF NOT EXISTS {} (id int NOT NULL PRIMARY KEY, updated timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP ON \
             UPDATE CURRENT_TIMESTAMP, state longtext CHARACTER SET utf8mb4 NOT NULL) ENGINE=InnoDB \
             COMMENT='changeling checkpoint'",
            self.table
        );
        self.session.run(&what, cancel, &Execute(create)).await
    }

    /// Notes that our tables are about to be created.
    ///
    /// # Errors
    /// As the server says.
    pub async fn begin(&mut self, begun: &Begun, cancel: &CancellationToken) -> Result<(), ApplyError> {
        let state = serde_json::json!(begun).to_string();
        let sql = format!(
            "INSERT INTO {} (id, state) VALUES ({BEGUN_ROW}, {})",
            self.table,
            quote_text(&state)
        );
        let what = format!("write to {}", self.table);
        self.session.run(&what, cancel, &Execute(sql)).await
    }

    /// Writes a checkpoint over the one before.
    ///
    /// # Errors
    /// As the server says.
    pub async fn write(
        &mut self,
        checkpoint: &Checkpoint,
        cancel: &CancellationToken,
    ) -> Result<(), ApplyError> {
        let state = serde_json::to_string(checkpoint)
            .map_err(|error| ApplyError::Aborted(format!("cannot write the checkpoint: {error}")))?;
        let sql = format!(
            "INSERT INTO {} (id, state) VALUES (1, {}) ON DUPLICATE KEY UPDATE state = VALUES(state)",
            self.table,
            quote_text(&state)
        );
        self.session
            .run(
                &format!("write a checkpoint to {}", self.table),
                cancel,
                &Execute(sql),
            )
            .await
    }
}

/// What there is to resume from.
#[derive(Clone, Debug)]
pub enum Found {
    /// No table.
    Nothing,
    /// No row in it: a run was ended before it could note that it had begun, and had made no other table.
    Empty,
    /// A run that had not copied anything yet.
    Begun(Begun),
    /// A checkpoint.
    Checkpoint(Box<Checkpoint>),
    /// A row that this version cannot read, and why.
    Unreadable(String),
}

/// Reads the checkpoint.
///
/// # Errors
/// As the server says, except that the table is missing.
pub async fn read(conn: &mut Conn, sessions: &Sessions, table: &TableName) -> Result<Found, ServerError> {
    const NO_SUCH_TABLE: u16 = 1146;
    let rows: Result<Vec<(u8, String)>, _> = conn
        .query(format!(
            "SELECT id, state FROM {table} WHERE id IN (1, {BEGUN_ROW}) ORDER BY id"
        ))
        .await;
    let rows = match rows {
        Ok(rows) => rows,
        Err(error) => {
            let error = sessions.server().failed("read the checkpoint")(error);
            return if error.errno() == Some(NO_SUCH_TABLE) {
                Ok(Found::Nothing)
            } else {
                Err(error)
            };
        }
    };
    // The checkpoint comes first, if there is one.
    Ok(match rows.first() {
        None => Found::Empty,
        Some((1, state)) => match serde_json::from_str(state) {
            Ok(checkpoint) => Found::Checkpoint(Box::new(checkpoint)),
            Err(error) => Found::Unreadable(error.to_string()),
        },
        Some((_, state)) => serde_json::from_str(state).map_or(Found::Nothing, Found::Begun),
    })
}

/// Reads the names that an attempt has noted, if one has.
///
/// # Errors
/// As the server says.
pub async fn read_swap_names(
    conn: &mut Conn,
    sessions: &Sessions,
    table: &TableName,
) -> Result<Option<SwapNames>, ServerError> {
    let row: Option<String> = conn
        .query_first(format!("SELECT state FROM {table} WHERE id = {SWAP_ROW}"))
        .await
        .map_err(sessions.server().failed("read the names of a swap"))?;
    Ok(row.and_then(|state| serde_json::from_str(&state).ok()))
}
