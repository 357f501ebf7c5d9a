//! The pump that runs sync cycles, strictly one after another.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use changeling_core::coords::Coordinates;
use changeling_core::key::Key;
use changeling_core::marker::Heartbeat;
use futures_util::future::try_join_all;
use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::barrier::Flights;
use super::conflict;
use super::lane::{self, Entry, Lane};
use super::ledger::Ledger;
use super::pending::{KeyMap, Pending, Taken};
use super::statement::Statements;
use crate::changelog::Changelog;
use crate::error::ApplyError;
use crate::sessions::Session;
use crate::throttle::ThrottleState;

/// The least time from the end of a cycle to the next: lets keys of a hot row gather, keeps the marker's
/// commits from crowding out the application's.
const PAUSE: Duration = Duration::from_millis(20);

/// The map of pending keys, shared by the actor that fills it and the pump that empties it.
#[derive(Debug)]
pub struct Backlog {
    pending: Mutex<Pending>,
    filled: Notify,
    emptied: Notify,
    capacity: usize,
}

impl Backlog {
    /// A map that asks its feeder to wait above `capacity` bytes.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            pending: Mutex::default(),
            filled: Notify::new(),
            emptied: Notify::new(),
            capacity,
        }
    }

    /// The map.
    pub fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the pump.
    pub fn filled(&self) {
        self.filled.notify_one();
    }

    /// Bytes above which the feeder is to wait.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Waits until there is room. Cancel-safe.
    pub async fn room(&self) {
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            emptied.as_mut().enable();
            if self.lock().bytes() < self.capacity {
                return;
            }
            emptied.await;
        }
    }

    fn take(&self) -> Taken {
        let taken = self.lock().take();
        self.emptied.notify_waiters();
        taken
    }
}

/// Whether cycles may run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gate {
    /// They run.
    #[default]
    Open,
    /// The one that runs ends, no other begins of itself; so many were asked for since the applier started.
    Shut {
        /// Cycles to be run although the gate is shut, counted from the start.
        steps: u64,
    },
}

/// What the cycles have done.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CycleState {
    /// Cycles completed.
    pub cycles: u64,
    /// Keys synchronised.
    pub keys: u64,
    /// Keys being synchronised at this moment.
    pub in_hand: usize,
    /// A stream started here repeats everything that is not synchronised yet.
    pub upto: Option<Coordinates>,
    /// The newest heartbeat before which everything is synchronised.
    pub heartbeat: Option<Heartbeat>,
    /// Keys per second of the last cycles, without waiting.
    pub rate: f64,
    /// Whether the gate is shut and no cycle runs.
    pub at_rest: bool,
    /// Cycles run one by one while the gate was shut.
    pub steps: u64,
}

/// What the pump needs.
#[derive(Debug)]
pub struct CyclePump {
    /// Where keys come from.
    pub backlog: Arc<Backlog>,
    /// Writes the markers.
    pub changelog: Changelog,
    /// Copy chunks in flight.
    pub flights: Flights,
    /// At least one.
    pub lanes: Vec<Lane>,
    /// For conflicts.
    pub session: Session,
    /// Statements.
    pub statements: Statements,
    /// Records keys once proving has begun.
    pub ledger: Ledger,
    /// Whether cycles may run.
    pub gate: watch::Receiver<Gate>,
    /// Whether applying is throttled.
    pub throttle: watch::Receiver<ThrottleState>,
    /// Where the state goes.
    pub state: watch::Sender<CycleState>,
    /// Ends the pump.
    pub cancel: CancellationToken,
    /// Keys that conflicted, ever; for the log.
    pub conflicts: Arc<AtomicUsize>,
}

impl CyclePump {
    /// Runs cycles until cancelled.
    ///
    /// # Errors
    /// The first failure that retries did not help.
    pub async fn run(mut self) -> Result<(), ApplyError> {
        while let Some(turn) = self.turn().await {
            let taken = self.backlog.take();
            if let Err(error) = self.cycle(taken).await {
                return if self.cancel.is_cancelled() {
                    Ok(())
                } else {
                    Err(error)
                };
            }
            if turn == Turn::Step {
                self.state.send_modify(|state| state.steps += 1);
            }
        }
        Ok(())
    }

    /// Waits until a cycle may and should run; `None` when cancelled.
    async fn turn(&mut self) -> Option<Turn> {
        let pause = tokio::time::sleep(PAUSE);
        tokio::pin!(pause);
        let mut paused = true;
        loop {
            let gate = *self.gate.borrow_and_update();
            if matches!(gate, Gate::Shut { steps } if steps > self.state.borrow().steps) {
                self.state.send_modify(|state| state.at_rest = false);
                return Some(Turn::Step);
            }
            let shut = gate != Gate::Open;
            let throttled = self.throttle.borrow_and_update().apply.is_some();
            self.state
                .send_if_modified(|state| std::mem::replace(&mut state.at_rest, shut) != shut);
            if !shut && !throttled && !paused && self.has_work() {
                return Some(Turn::Free);
            }
            tokio::select! {
                () = self.cancel.cancelled() => return None,
                changed = self.gate.changed() => if changed.is_err() { return None },
                changed = self.throttle.changed() => if changed.is_err() { return None },
                () = self.backlog.filled.notified() => {}
                () = &mut pause, if paused => paused = false,
            }
        }
    }

    fn has_work(&self) -> bool {
        let pending = self.backlog.lock();
        !pending.is_empty() || pending.upto() != self.state.borrow().upto.as_ref()
    }

    async fn cycle(&mut self, taken: Taken) -> Result<(), ApplyError> {
        let count = taken.keys.len();
        if count > 0 {
            self.state.send_modify(|state| state.in_hand = count);
            // After the map was taken: everything in the map stands before the marker.
            self.changelog.marker(&self.cancel).await?;
            self.flights.landed().await;
            let began = Instant::now();
            self.write(taken.keys).await?;
            let rate = count as f64 / began.elapsed().as_secs_f64().max(1e-6);
            self.state
                .send_modify(|state| state.rate = smooth(state.rate, rate));
        }
        self.state.send_modify(|state| {
            state.cycles += 1;
            state.keys += count as u64;
            state.in_hand = 0;
            state.upto = taken.upto;
            state.heartbeat = taken.heartbeat;
        });
        Ok(())
    }

    async fn write(&mut self, keys: KeyMap) -> Result<(), ApplyError> {
        let split = lane::split(self.statements.key(), keys, self.lanes.len());
        let cancel = &self.cancel;
        let lanes = self.lanes.iter_mut().zip(&split);
        let conflicts: Vec<Vec<Key>> =
            try_join_all(lanes.map(|(lane, entries)| lane.sync(entries, cancel))).await?;
        let conflicts: Vec<Key> = conflicts.into_iter().flatten().collect();
        if !conflicts.is_empty() {
            self.conflicts.fetch_add(conflicts.len(), Ordering::Relaxed);
            tracing::debug!(
                keys = conflicts.len(),
                "duplicates on a unique key that the original does not have"
            );
            let written =
                conflict::settle(&mut self.session, &self.statements, conflicts, &self.cancel).await?;
            self.ledger.record(&written);
        }
        // Not before the rows are written: whoever takes a key out of the ledger may rely on that.
        self.ledger
            .record(split.iter().flatten().map(|(key, _): &Entry| key));
        Ok(())
    }
}

/// Why a cycle runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// There is work and the gate is open.
    Free,
    /// It was asked for while the gate was shut.
    Step,
}

fn smooth(old: f64, new: f64) -> f64 {
    const WEIGHT: f64 = 0.3;
    if old == 0.0 {
        new
    } else {
        old + WEIGHT * (new - old)
    }
}
