//! What the throttler is told, what it asks for, and what it says of itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::Message;
use changeling_core::actor::{Generation, Weigh};
use changeling_core::marker::Heartbeat;
use serde::Serialize;

use super::ThrottleState;
use crate::control::ControlCommand;
use crate::settings::LoadLimits;

/// A heartbeat came through the stream. Of several only the newest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct HeartbeatSeen {
    /// When it was written, by our own clock, in microseconds since 1970.
    pub written_at_micros: i64,
}

impl From<Heartbeat> for HeartbeatSeen {
    fn from(heartbeat: Heartbeat) -> Self {
        Self {
            written_at_micros: heartbeat.written_at_micros,
        }
    }
}

impl Generation for HeartbeatSeen {
    fn generation(&self) -> u64 {
        u64::try_from(self.written_at_micros).unwrap_or(0)
    }
}

/// Whether the operator wants the migration to pause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UserThrottle {
    /// Go on, as far as the operator is concerned.
    #[default]
    Released,
    /// Pause copy and apply.
    Commanded,
}

/// Changes a running throttler. In effect, and published, when it is answered.
#[derive(Clone, Debug, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub enum ThrottleCommand {
    /// What the operator wants.
    User(UserThrottle),
    /// `--max-lag-millis`.
    SetMaxLag(Duration),
    /// `--max-load`.
    SetMaxLoad(LoadLimits),
    /// `--critical-load`.
    SetCriticalLoad(LoadLimits),
    /// `--throttle-query`; `None` for none.
    SetQuery(Option<String>),
    /// `--throttle-control-replicas`, all of them.
    SetControlReplicas(Vec<(String, u16)>),
}

impl ThrottleCommand {
    /// The part of a migration's commands that is about throttling; `None` for the others.
    #[must_use]
    pub fn from_control(command: &ControlCommand) -> Option<Self> {
        Some(match command {
            ControlCommand::Throttle => Self::User(UserThrottle::Commanded),
            ControlCommand::NoThrottle => Self::User(UserThrottle::Released),
            ControlCommand::MaxLag(lag) => Self::SetMaxLag(*lag),
            ControlCommand::MaxLoad(limits) => Self::SetMaxLoad(limits.clone()),
            ControlCommand::CriticalLoad(limits) => Self::SetCriticalLoad(limits.clone()),
            ControlCommand::ThrottleQuery(query) => Self::SetQuery(query.clone()),
            ControlCommand::ControlReplicas(replicas) => Self::SetControlReplicas(replicas.clone()),
            _ => return None,
        })
    }
}

impl Weigh for ThrottleCommand {
    fn weight(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::User(_) | Self::SetMaxLag(_) | Self::SetQuery(None) => 0,
                Self::SetMaxLoad(limits) | Self::SetCriticalLoad(limits) => limits
                    .keys()
                    .map(|name| name.len() + size_of::<(String, i64)>())
                    .sum(),
                Self::SetQuery(Some(query)) => query.len(),
                Self::SetControlReplicas(replicas) => replicas
                    .iter()
                    .map(|(host, _)| host.len() + size_of::<(String, u16)>())
                    .sum(),
            }
    }
}

/// Asks the migration to stop now and to leave everything as it is. Sent at most once.
#[derive(Clone, Debug, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct Abort {
    /// Why, in gh-ost's words.
    pub reason: Arc<str>,
}

impl Weigh for Abort {
    fn weight(&self) -> usize {
        size_of::<Self>() + self.reason.len()
    }
}

/// What the throttler says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ThrottlerState {
    /// What it has told the pumps.
    pub throttled: ThrottleState,
    /// Since when the cause is the same, in microseconds since 1970. Of a cause only the numbers may have
    /// changed since then.
    pub since_micros: i64,
    /// Lag of the inspected server, by the heartbeat row read there. While that fails it grows.
    pub lag: Duration,
    /// Age of the newest heartbeat that came through the stream, or, before the first one, of the throttler.
    /// Zero if no stream is watched.
    pub heartbeat_lag: Duration,
    /// `host:port` of each control replica that was read, and its lag or why it could not be read.
    pub control_replicas: Vec<(String, Result<Duration, String>)>,
    /// The status variables that have a limit, as they were last read.
    pub loads: BTreeMap<String, i64>,
    /// How often the cause changed.
    pub changes: u64,
}
