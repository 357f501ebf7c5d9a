//! What an operator can tell a running migration: the commands, and the language they are written in.

pub mod grammar;
pub mod limits;
pub mod operand;

use std::path::PathBuf;
use std::time::Duration;

use actix::Message;
use serde::Serialize;

use crate::progress::MigrationState;
use crate::settings::LoadLimits;

/// A command to a running migration.
#[derive(Clone, Debug, PartialEq, Message)]
#[rtype(result = "ControlReply")]
pub enum ControlCommand {
    /// Say how it goes.
    Status,
    /// Pause copy and apply until [`ControlCommand::NoThrottle`].
    Throttle,
    /// Take back [`ControlCommand::Throttle`].
    NoThrottle,
    /// Let the cut-over happen although the postpone flag file is there. Holds until the cut-over has
    /// succeeded.
    Unpostpone,
    /// Postpone the cut-over by creating this flag file.
    Postpone(PathBuf),
    /// Stop now, leave the original table in charge, clean nothing up.
    Panic,
    /// Rows of a chunk from now on; fixes the size.
    ChunkSize(u64),
    /// Keys of a sync statement.
    DmlBatchSize(usize),
    /// Lag limit.
    MaxLag(Duration),
    /// `--nice-ratio`.
    NiceRatio(f64),
    /// `--max-load`.
    MaxLoad(LoadLimits),
    /// `--critical-load`.
    CriticalLoad(LoadLimits),
    /// `--throttle-query`; `None` for none.
    ThrottleQuery(Option<String>),
    /// `--throttle-control-replicas`.
    ControlReplicas(Vec<(String, u16)>),
}

/// The answer to a [`ControlCommand`].
#[derive(Clone, Debug, Serialize)]
pub enum ControlReply {
    /// Done, or nothing to do; the state afterwards.
    Done(Box<MigrationState>),
    /// Not done, and why.
    Refused(String),
}
