//! The rows of the changelog table that travel through the binary log back to us.
//!
//! The table has gh-ost's shape: `hint` says what a row is, `value` holds it. A heartbeat row is also the
//! *marker* of the sync cycle: once its `COMMIT` has returned, everything that stands before it in the
//! binary log is visible to a plain read.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// The row id and hint of the heartbeat.
pub const HEARTBEAT_ID: u64 = 1;
/// The row id and hint of the state, sentinels among them.
pub const STATE_ID: u64 = 2;
/// The hint of heartbeat rows.
pub const HEARTBEAT_HINT: &str = "heartbeat";
/// The hint of state rows.
pub const STATE_HINT: &str = "state";

const SENTINEL_PREFIX: &str = "AllEventsUpToLockProcessed:";

/// Written by a cut-over attempt once it holds its lock, and awaited by it at the end of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sentinel {
    /// The attempt, from 1, monotone for a migration, resumed ones included.
    pub attempt: u64,
    /// Chosen at random for this attempt.
    pub challenge: u64,
}

impl Sentinel {
    /// The row's value.
    #[must_use]
    pub fn value(&self) -> String {
        format!("{SENTINEL_PREFIX}{}:{:016x}", self.attempt, self.challenge)
    }
}

/// Written every heartbeat interval and by every sync cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Heartbeat {
    /// When it was written, by our own clock, in microseconds since 1970.
    pub written_at_micros: i64,
}

impl Heartbeat {
    /// A heartbeat of this instant. Within a process heartbeats never go back, even if the system's clock
    /// is set: wall time is read once and carried on by the monotonic clock.
    #[must_use]
    pub fn now() -> Self {
        static ORIGIN: OnceLock<(Instant, i64)> = OnceLock::new();
        let (origin, micros) =
            ORIGIN.get_or_init(|| (Instant::now(), jiff::Timestamp::now().as_microsecond()));
        let elapsed = i64::try_from(origin.elapsed().as_micros()).unwrap_or(i64::MAX / 2);
        Self {
            written_at_micros: micros + elapsed,
        }
    }

    /// The row's value: RFC 3339 with microseconds.
    #[must_use]
    pub fn value(&self) -> String {
        jiff::Timestamp::from_microsecond(self.written_at_micros)
            .map(|instant| format!("{instant:.6}"))
            .unwrap_or_default()
    }

    /// How long ago it was written, by our own clock; zero if the clock was set back.
    #[must_use]
    pub fn age(&self) -> Duration {
        let now = Self::now().written_at_micros;
        Duration::from_micros(u64::try_from(now - self.written_at_micros).unwrap_or(0))
    }
}

/// What a changelog row says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// A heartbeat.
    Heartbeat(Heartbeat),
    /// A sentinel.
    Sentinel(Sentinel),
}

/// Reads a changelog row; `None` for rows that mean nothing to the stream (history, throttle notes).
#[must_use]
pub fn parse(hint: &str, value: &str) -> Option<Marker> {
    match hint {
        HEARTBEAT_HINT => {
            let instant: jiff::Timestamp = value.parse().ok()?;
            Some(Marker::Heartbeat(Heartbeat {
                written_at_micros: instant.as_microsecond(),
            }))
        }
        STATE_HINT => {
            let (attempt, challenge) = value.strip_prefix(SENTINEL_PREFIX)?.split_once(':')?;
            Some(Marker::Sentinel(Sentinel {
                attempt: attempt.parse().ok()?,
                challenge: u64::from_str_radix(challenge, 16).ok()?,
            }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let sentinel = Sentinel {
            attempt: 7,
            challenge: 0xfeed,
        };
        assert_eq!(
            parse(STATE_HINT, &sentinel.value()),
            Some(Marker::Sentinel(sentinel))
        );
        let heartbeat = Heartbeat {
            written_at_micros: 1_700_000_000_123_456,
        };
        assert_eq!(
            parse(HEARTBEAT_HINT, &heartbeat.value()),
            Some(Marker::Heartbeat(heartbeat))
        );
        assert_eq!(parse("state at 12", &sentinel.value()), None);
        assert_eq!(parse(STATE_HINT, "Migrated"), None);
    }
}
