//! Polls: one task for each source, each with its own pace, each telling the throttler what it read.

mod files;
mod lag;
mod load;
mod query;

use std::time::Duration;

use actix::{Message, WeakAddr};
use tokio::sync::watch;
use tokio::time::Instant;

pub(super) use files::poll_files;
pub(super) use lag::{poll_lag, poll_replica};
pub(super) use load::poll_loads;
pub(super) use query::poll_query;

use super::Throttler;
use super::decision::Loads;
use super::setup::Limits;
use crate::server::{ErrorKind, ServerError};

/// The pace of most polls, gh-ost's: people and load change in seconds.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// What a poll has read.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) enum Reading {
    /// Which flag files are there.
    Files {
        /// One of those that throttle.
        throttle: bool,
        /// The text for an abort if the panic flag file is there.
        panic: Option<String>,
    },
    /// Status variables.
    Loads {
        /// When the reading began.
        at: Instant,
        loads: Loads,
    },
    /// Whether the throttle query answered with more than zero; of a query that failed it is not known, and
    /// then it did not.
    Query {
        query: std::sync::Arc<str>,
        positive: bool,
    },
    /// Lag of the inspected server; `None` if it could not be read.
    Lag(Option<Duration>),
    /// Lag of a control replica.
    Replica {
        address: String,
        lag: Result<Duration, String>,
    },
}

/// What every poll has.
#[derive(Debug)]
pub(super) struct Poll {
    /// Weak: a poll does not keep its throttler alive.
    pub(super) throttler: WeakAddr<Throttler>,
    pub(super) limits: watch::Receiver<Limits>,
}

impl Poll {
    /// Tells the throttler and waits until it has taken note, so that no more than one reading of a poll is
    /// under way; false if it is gone.
    async fn report(&self, reading: Reading) -> bool {
        match self.throttler.upgrade() {
            Some(throttler) => throttler.send(reading).await.is_ok(),
            None => false,
        }
    }

    /// Waits for the next turn: this long, or until a command has changed something.
    async fn rest(&mut self, interval: Duration) {
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            Ok(()) = self.limits.changed() => {}
        }
    }
}

/// Logs the beginning and the end of a series of failures, not each one.
#[derive(Debug)]
struct Trouble {
    what: String,
    failing: bool,
}

impl Trouble {
    fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            failing: false,
        }
    }

    fn failed(&mut self, error: &dyn std::fmt::Display) {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(what = self.what, %error, "a throttle source cannot be read; its next failures are not logged");
        }
    }

    fn over(&mut self) {
        if std::mem::replace(&mut self.failing, false) {
            tracing::info!(what = self.what, "the throttle source can be read again");
        }
    }
}

/// How long to wait after a failure: a server that is not there is not asked ten times a second.
fn pause_after(error: &ServerError, interval: Duration) -> Duration {
    match error.kind {
        ErrorKind::Missing | ErrorKind::Killed | ErrorKind::LockWait | ErrorKind::Deadlock => interval,
        _ => interval.max(INTERVAL),
    }
}
