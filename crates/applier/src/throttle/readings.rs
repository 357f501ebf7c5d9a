//! What the polls and the stream have said.

use std::time::Duration;

use changeling_core::actor::Pump;
use tokio::time::Instant;

use super::decision::Loads;

/// What the polls and the stream have said.
#[derive(Debug, Default)]
pub(super) struct Readings {
    pub(super) flag_file: Option<bool>,
    pub(super) loads: Option<Loads>,
    pub(super) query: Option<bool>,
    pub(super) lag: Option<Lag>,
    pub(super) lag_fails: bool,
    pub(super) replicas: Vec<Replica>,
    pub(super) heartbeat: Option<Lag>,
}

/// A lag, and when it was that.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lag {
    pub(super) measured: Duration,
    pub(super) at: Instant,
}

impl Lag {
    fn none_since(began: Instant) -> Self {
        Self {
            measured: Duration::ZERO,
            at: began,
        }
    }

    /// What it must be now if nothing was replicated since.
    pub(super) fn grown(self, now: Instant) -> Duration {
        self.measured + now.saturating_duration_since(self.at)
    }
}

#[derive(Debug)]
pub(super) struct Replica {
    pub(super) host: (String, u16),
    pub(super) address: String,
    pub(super) lag: Option<Result<Duration, String>>,
    pub(super) _pump: Pump,
}

impl Readings {
    /// Lag of the inspected server, `None` before its first reading. Whoever cannot be read may lag without bound.
    pub(super) fn lag(&self, began: Instant, now: Instant) -> Option<Duration> {
        if self.lag_fails {
            return Some(self.lag.unwrap_or(Lag::none_since(began)).grown(now));
        }
        self.lag.map(|lag| lag.measured)
    }

    /// Age of the newest heartbeat that came through the stream.
    pub(super) fn heartbeat_lag(&self, began: Instant, now: Instant) -> Duration {
        self.heartbeat.unwrap_or(Lag::none_since(began)).grown(now)
    }
}
