//! The pump that copies: one planner, several workers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use changeling_core::key::Key;
use futures_util::future::try_join_all;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::chunk::Copier;
use super::planner::{Chunk, Planner};
use super::size::ChunkSize;
use super::watermark::Watermark;
use crate::error::ApplyError;
use crate::sync::barrier::Flights;
use crate::sync::cycle::{Backlog, CycleState};
use crate::sync::pending::KeyEvent;
use crate::throttle::ThrottleState;

/// Rows of a chunk at most, below gh-ost's limit: the server keeps 65 535 warnings of a statement. With fewer
/// rows than that, duplicates alone cannot crowd out every warning of another kind.
pub const MOST_ROWS: u64 = 60_000;

/// A chunk that took longer than this waited for the server, or for its connection: no reason to nap after it.
const LONGEST_CHUNK: Duration = Duration::from_secs(10);

/// What an operator can change while rows are copied.
#[derive(Debug)]
pub struct CopyControls {
    size: Mutex<ChunkSize>,
    nice_ratio: AtomicU64,
}

impl CopyControls {
    /// From the settings.
    #[must_use]
    pub fn new(size: ChunkSize, nice_ratio: f64) -> Self {
        Self {
            size: Mutex::new(size),
            nice_ratio: AtomicU64::new(nice_ratio.to_bits()),
        }
    }

    /// The size of chunks.
    pub fn size(&self) -> MutexGuard<'_, ChunkSize> {
        self.size.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many times a chunk's duration to sleep after it.
    #[must_use]
    pub fn nice_ratio(&self) -> f64 {
        f64::from_bits(self.nice_ratio.load(Ordering::Relaxed))
    }

    /// Changes the ratio.
    pub fn set_nice_ratio(&self, ratio: f64) {
        self.nice_ratio.store(ratio.to_bits(), Ordering::Relaxed);
    }
}

/// How far the copy is.
#[derive(Clone, Debug, Default)]
pub struct CopyProgress {
    /// Rows written.
    pub rows: u64,
    /// Chunks committed.
    pub chunks: u64,
    /// Everything up to this key is copied.
    pub watermark: Option<Key>,
}

/// What the pump needs.
#[derive(Debug)]
pub struct CopyPump {
    /// Cuts chunks.
    pub planner: Planner,
    /// One for each worker.
    pub copiers: Vec<Copier>,
    /// Tells the cycles which chunks are in flight.
    pub flights: Flights,
    /// Where keys go that a chunk could not write.
    pub backlog: Arc<Backlog>,
    /// Says when those keys are synchronised.
    pub cycles: watch::Receiver<CycleState>,
    /// What an operator can change.
    pub controls: Arc<CopyControls>,
    /// Whether to pause.
    pub throttle: watch::Receiver<ThrottleState>,
    /// How far it is; what it holds at the start is where it goes on from.
    pub progress: watch::Sender<CopyProgress>,
    /// Ends the pump between chunks.
    pub cancel: CancellationToken,
}

struct Shared {
    planner: tokio::sync::Mutex<Planner>,
    watermark: Mutex<Watermark>,
    flights: Flights,
    backlog: Arc<Backlog>,
    controls: Arc<CopyControls>,
    progress: watch::Sender<CopyProgress>,
    cancel: CancellationToken,
}

impl CopyPump {
    /// Copies until everything is copied, or cancelled.
    ///
    /// # Errors
    /// The first failure of a worker; the others are broken off, their transactions rolled back.
    pub async fn run(self) -> Result<(), ApplyError> {
        let done = self.progress.borrow().watermark.clone();
        let shared = Shared {
            planner: tokio::sync::Mutex::new(self.planner),
            watermark: Mutex::new(Watermark::starting_at(done)),
            flights: self.flights,
            backlog: self.backlog,
            controls: self.controls,
            progress: self.progress,
            cancel: self.cancel,
        };
        let worker = |copier| Worker {
            copier,
            shared: &shared,
            throttle: self.throttle.clone(),
            cycles: self.cycles.clone(),
        };
        let workers: Vec<Worker<'_>> = self.copiers.into_iter().map(worker).collect();
        try_join_all(workers.into_iter().map(Worker::run)).await?;
        Ok(())
    }
}

struct Worker<'a> {
    copier: Copier,
    shared: &'a Shared,
    throttle: watch::Receiver<ThrottleState>,
    cycles: watch::Receiver<CycleState>,
}

impl Worker<'_> {
    async fn run(mut self) -> Result<(), ApplyError> {
        while self.may_go_on().await {
            let rows = self.shared.controls.size().rows().min(MOST_ROWS);
            let chunk = self
                .shared
                .planner
                .lock()
                .await
                .next(rows, &self.shared.cancel)
                .await?;
            let Some(chunk) = chunk else { return Ok(()) };
            let took = self.copy(chunk).await?;
            let nap = took.min(LONGEST_CHUNK).mul_f64(self.shared.controls.nice_ratio());
            tokio::select! {
                () = tokio::time::sleep(nap) => {}
                () = self.shared.cancel.cancelled() => {}
            }
        }
        Ok(())
    }

    /// Waits while throttled; false when cancelled.
    async fn may_go_on(&mut self) -> bool {
        tokio::select! {
            biased;
            () = self.shared.cancel.cancelled() => false,
            free = self.throttle.wait_for(|state| state.copy.is_none()) => free.is_ok(),
        }
    }

    async fn copy(&mut self, chunk: Chunk) -> Result<Duration, ApplyError> {
        let began = Instant::now();
        let flight = self.shared.flights.take_off();
        let copied = self.copier.copy(&chunk, &self.shared.cancel).await?;
        // A cycle may be waiting for this chunk, and the chunk is about to wait for a cycle.
        drop(flight);
        let took = began.elapsed();
        self.shared.controls.size().learn(chunk.rows, took);
        self.shared.planner.lock().await.learn(chunk.rows, copied.rows);
        if !copied.missing.is_empty() {
            self.synchronise(copied.missing).await;
        }
        let mut watermark = self
            .shared
            .watermark
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        watermark.complete(chunk.number, chunk.last);
        self.shared.progress.send_modify(|progress| {
            progress.rows += copied.rows;
            progress.chunks += 1;
            progress.watermark = watermark.key().cloned();
        });
        Ok(took)
    }

    /// Has the cycles write these keys, and waits for it: the chunk is not complete before, and a
    /// checkpoint must not say so.
    async fn synchronise(&mut self, keys: Vec<Key>) {
        tracing::debug!(keys = keys.len(), "rows skipped by a chunk are synchronised");
        let takes = {
            let mut pending = self.shared.backlog.lock();
            // Events that came meanwhile win: a row that was skipped and then deleted must be deleted.
            pending.put_back(keys.into_iter().map(|key| (key, KeyEvent::Written)).collect());
            pending.takes()
        };
        self.shared.backlog.filled();
        // The cycle that runs, if one does, took its keys before these came; the next one has them.
        tokio::select! {
            _ = self.cycles.wait_for(|state| state.cycles > takes) => {}
            () = self.shared.cancel.cancelled() => {}
        }
    }
}
