//! Writes the heartbeat row: what lag is measured by.

use std::sync::Arc;
use std::time::Duration;

use changeling_core::actor::{ExitStatus, OnExit, Pump, Pumps};
use changeling_core::ident::TableName;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::changelog::Changelog;
use crate::error::ApplyError;
use crate::server::{Role, Server};
use crate::sessions::{Mode, Sessions};

/// The longest wait after a failure, as for everything that is tried again: so the default of 60 retries
/// outlasts the restart of a server.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// How long the write under way may go on after the end was asked for; then its connection is closed. What it
/// writes does not matter any more.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// What a heartbeat is written with.
#[derive(Clone, Debug)]
pub struct HeartbeatSetup {
    /// The server that is written to.
    pub server: Arc<Server>,
    /// C.
    pub changelog: TableName,
    /// How often.
    pub interval: Duration,
    /// More failures in a row than this end the writer.
    pub retries: u64,
}

/// A task that writes the heartbeat row each interval, on a connection of its own, whatever is throttled.
///
/// *Messages in*: none. *Ports out*: one `ActorExited` when it has ended: `Cancelled`, or `Failed` after more than
/// [`HeartbeatSetup::retries`] failures in a row. *Owns*: its connection. *Survives a restart*: nothing; values do
/// not go back within a process. *Ends*: when [`HeartbeatWriter::stop`] is called or it is dropped.
///
/// Await `stop` before C is dropped, or the writer fails on the missing table.
#[derive(Debug)]
#[must_use = "dropping it stops the heartbeat"]
pub struct HeartbeatWriter {
    pump: Pump,
    ended: CancellationToken,
}

impl HeartbeatWriter {
    /// Starts writing at once.
    pub fn start(pumps: &Pumps, setup: HeartbeatSetup, exited: impl Into<OnExit>) -> Self {
        let (cancel, ended) = (CancellationToken::new(), CancellationToken::new());
        let done = ended.clone().drop_guard();
        let token = cancel.clone();
        let writing = async move {
            let _done = done;
            match write(&setup, &token).await {
                Ok(()) => ExitStatus::Cancelled,
                Err(error) => ExitStatus::failed(error),
            }
        };
        Self {
            pump: Pump::spawn(pumps, "heartbeat", cancel, writing, exited),
            ended,
        }
    }

    /// Ends it and waits until nothing is written any more, a few seconds at most.
    pub async fn stop(self) {
        self.pump.cancel();
        self.ended.cancelled().await;
    }
}

async fn write(setup: &HeartbeatSetup, cancel: &CancellationToken) -> Result<(), ApplyError> {
    // One try: failures are counted here.
    let sessions = Sessions::new(Arc::clone(&setup.server), Role::Changelog, Mode::AutoCommit, 1);
    let mut changelog = Changelog::new(setup.changelog.clone(), &sessions);
    let mut failures = Failures::new(setup.retries, setup.interval);
    let mut ticks = tokio::time::interval(setup.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let written = tokio::select! {
            written = changelog.marker(cancel) => written,
            () = too_late(cancel) => return Ok(()),
        };
        match written {
            Ok(_) => failures.over(),
            Err(_) if cancel.is_cancelled() => return Ok(()),
            Err(error) => match failures.failed() {
                Some(wait) => {
                    if failures.row == 1 {
                        tracing::warn!(%error, "the heartbeat cannot be written; it is tried again");
                    }
                    ticks.reset_at(Instant::now() + wait);
                }
                None => return Err(error),
            },
        }
    }
}

async fn too_late(cancel: &CancellationToken) {
    cancel.cancelled().await;
    tokio::time::sleep(STOP_GRACE).await;
}

/// Failures in a row.
struct Failures {
    allowed: u64,
    interval: Duration,
    row: u64,
}

impl Failures {
    fn new(allowed: u64, interval: Duration) -> Self {
        Self {
            allowed,
            interval,
            row: 0,
        }
    }

    fn over(&mut self) {
        if self.row > 0 {
            tracing::info!(failures = self.row, "the heartbeat is written again");
        }
        self.row = 0;
    }

    /// How long to wait before the next try; `None` if there were too many. The wait doubles from the
    /// interval up to [`LAST_WAIT`].
    fn failed(&mut self) -> Option<Duration> {
        self.row += 1;
        if self.row > self.allowed {
            return None;
        }
        let doublings = u32::try_from(self.row - 1).unwrap_or(u32::MAX);
        let wait = self.interval.saturating_mul(2u32.saturating_pow(doublings));
        Some(wait.min(LAST_WAIT.max(self.interval)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_in_a_row_count() {
        let mut failures = Failures::new(3, Duration::from_millis(100));
        let waits = |failures: &mut Failures, count| {
            (0..count)
                .map(|_| failures.failed().map(|wait| wait.as_millis()))
                .collect::<Vec<_>>()
        };
        assert_eq!(waits(&mut failures, 3), [Some(100), Some(200), Some(400)]);
        failures.over();
        assert_eq!(waits(&mut failures, 4), [Some(100), Some(200), Some(400), None]);
    }

    #[test]
    fn the_wait_has_a_bound_whatever_the_number_of_retries() {
        let mut failures = Failures::new(u64::MAX, Duration::from_millis(100));
        let last = (0..1000).map(|_| failures.failed()).last();
        assert_eq!(last, Some(Some(LAST_WAIT)));
    }
}
