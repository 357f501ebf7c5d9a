//! What a throttler is made from, and what outlives it.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use changeling_core::actor::{LatestSlot, Port, Pumps};
use changeling_core::ident::TableName;
use jiff::Timestamp;
use tokio::sync::watch;

use super::decision::Reason;
use super::{Abort, HeartbeatSeen, ThrottleState, ThrottlerState, UserThrottle};
use crate::server::Server;
use crate::settings::{LoadLimits, ThrottleSettings};

/// How the lag of the inspected server is found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LagSource {
    /// By the heartbeat row that was replicated to it.
    HeartbeatRow,
    /// By `SHOW REPLICA STATUS`, in whole seconds: where the heartbeat is written on the replica itself, as for
    /// `--test-on-replica`. A replica that does not replicate has no lag.
    ReplicaStatus,
}

/// The servers whose load and lag are watched. They may be one and the same.
#[derive(Clone, Debug)]
pub struct WatchedServers {
    /// Its load is watched, and it answers the throttle query.
    pub applier: Arc<Server>,
    /// Its lag is watched. Control replicas are reached with its account.
    pub inspected: Arc<Server>,
    /// C, with the heartbeat row.
    pub changelog: TableName,
    /// What the lag of the inspected server is.
    pub lag: LagSource,
}

/// What a throttler is made from. Clones share all that survives a restart of the actor: the settings as
/// commands have changed them, the user's throttle, the published state, and whether an abort was asked for.
#[derive(Clone, Debug)]
pub struct ThrottlerSetup {
    pub(super) files: FlagFiles,
    pub(super) critical_load_interval: Option<Duration>,
    pub(super) heartbeat_interval: Duration,
    pub(super) limits: watch::Sender<Limits>,
    pub(super) servers: Option<WatchedServers>,
    pub(super) heartbeats: Option<LatestSlot<HeartbeatSeen>>,
    pub(super) pumps: Pumps,
    pub(super) abort: Port<Abort>,
    pub(super) aborted: Arc<OnceLock<Arc<str>>>,
    pub(super) throttled: watch::Sender<ThrottleState>,
    pub(super) observed: watch::Sender<ThrottlerState>,
}

/// Paths of the files that are looked for.
#[derive(Clone, Debug)]
pub(super) struct FlagFiles {
    pub(super) throttle: Vec<PathBuf>,
    pub(super) panic: Option<PathBuf>,
}

impl FlagFiles {
    pub(super) fn is_empty(&self) -> bool {
        self.throttle.is_empty() && self.panic.is_none()
    }
}

/// What commands can change.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    pub(super) user: UserThrottle,
    pub(super) max_lag: Duration,
    pub(super) max_load: LoadLimits,
    pub(super) critical_load: LoadLimits,
    pub(super) query: Option<Arc<str>>,
    pub(super) control_replicas: Vec<(String, u16)>,
}

impl ThrottlerSetup {
    /// A throttler that watches flag files and takes commands, and asks for an abort through `abort`. Its
    /// polls run on `pumps`.
    #[must_use]
    pub fn new(settings: &ThrottleSettings, pumps: Pumps, abort: Port<Abort>) -> Self {
        let throttle = [&settings.flag_file, &settings.additional_flag_file];
        // Nothing is copied before it is known that it may be.
        let throttled = ThrottleState::from(&Reason::awaited("everything"));
        let observed = ThrottlerState {
            throttled: throttled.clone(),
            since_micros: Timestamp::now().as_microsecond(),
            lag: Duration::ZERO,
            heartbeat_lag: Duration::ZERO,
            control_replicas: Vec::new(),
            loads: Default::default(),
            changes: 0,
        };
        Self {
            files: FlagFiles {
                throttle: throttle.into_iter().flatten().cloned().collect(),
                panic: settings.panic_flag_file.clone(),
            },
            critical_load_interval: settings.critical_load_interval.filter(|wait| !wait.is_zero()),
            heartbeat_interval: settings.heartbeat_interval,
            limits: watch::Sender::new(Limits {
                user: UserThrottle::Released,
                max_lag: settings.max_lag,
                max_load: settings.max_load.clone(),
                critical_load: settings.critical_load.clone(),
                query: settings.query.as_deref().map(Arc::from),
                control_replicas: settings.control_replicas.clone(),
            }),
            servers: None,
            heartbeats: None,
            pumps,
            abort,
            aborted: Arc::default(),
            throttled: watch::Sender::new(throttled),
            observed: watch::Sender::new(observed),
        }
    }

    /// Watches servers too. Without them load limits, the query and control replicas have no effect.
    #[must_use]
    pub fn watching(mut self, servers: WatchedServers) -> Self {
        self.servers = Some(servers);
        self
    }

    /// Takes the heartbeats that come through the stream from this slot. Without it a stream that falls behind
    /// throttles nothing.
    #[must_use]
    pub fn hearing(mut self, heartbeats: LatestSlot<HeartbeatSeen>) -> Self {
        self.heartbeats = Some(heartbeats);
        self
    }

    /// For the pumps. From the beginning it says to wait, until every source was read. When the throttler is
    /// gone the last state stands, and as long as a clone of this setup is kept the channel does not close.
    #[must_use]
    pub fn throttled(&self) -> watch::Receiver<ThrottleState> {
        self.throttled.subscribe()
    }

    /// The throttler's state without a round trip through its mailbox.
    #[must_use]
    pub fn observed(&self) -> watch::Receiver<ThrottlerState> {
        self.observed.subscribe()
    }
}
