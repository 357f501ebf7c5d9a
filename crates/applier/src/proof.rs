//! The proof that the ghost table equals the original, while both change.
//!
//! # Why a proven row stays proven
//!
//! The ledger is opened before the first range is compared; from then on every key that a cycle writes is in it.
//! A range that compared equal at some instant can only become unequal by a write to T, which is an event, which a
//! cycle synchronises, which enters its key into the ledger. So when every range was equal once, only the
//! ledger's keys and the keys not yet synchronised are unproven. The former are compared in passes until few are
//! left; the rest, and the latter, are proven under the cut-over lock.
//!
//! # When a difference is a defect
//!
//! Let key k differ at instant t. If T changed k by then, the event stands in the binary log before any heartbeat
//! written later. Wait until everything before such a heartbeat is synchronised. If k's event was
//! synchronised after t, then k is in the ledger, and is looked at again. If k is *not* in the ledger, then no
//! cycle wrote it since before t, although every event up to t is synchronised: `G[k]` was made from a state that
//! includes them all, and still differs from `T[k]`. That is a defect, with certainty, whatever the lag.
//!
//! # Why keys may leave the ledger while ranges are compared
//!
//! A long proof of a busy table must not collect every key that changes meanwhile. But a key that left the ledger would
//! make a defect of a suspect that was seen before. So keys leave only while no range is being compared and
//! after every suspect seen so far has been explained: whoever is suspected later is suspected of a later state.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use changeling_core::key::{Bound, Key, KeyRange};
use changeling_core::marker::Heartbeat;
use changeling_core::verify::{Findings, Suspect, Verifier, VerifyError};
use futures_util::future::try_join_all;
use mysql_async::Conn;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::copy::planner::Planner;
use crate::copy::size::ChunkSize;
use crate::cutover::work::unequal;
use crate::error::ApplyError;
use crate::sessions::Sessions;
use crate::sync::cycle::CycleState;
use crate::sync::ledger::Ledger;
use crate::sync::statement::Statements;
use crate::throttle::ThrottleState;

/// Rows of the first range.
const FIRST_RANGE: u64 = 20_000;
/// What a comparison of a range is steered to: short, so that it holds no old snapshot.
const RANGE_TIME: Duration = Duration::from_millis(250);
/// Suspects of one range that are looked at one by one; with more, the range is compared again.
const MOST_SUSPECTS: usize = 10_000;
/// Times a comparison is tried, and a range with too many suspects is compared.
const TRIES: u32 = 30;
/// Keys compared by one statement.
const KEYS: usize = 1000;
/// With `--verify=sample`, one range of this many is compared.
const SAMPLE: u64 = 10;
/// A ledger no longer than this is left to the cut-over, which proves it before it locks.
const SHORT_LEDGER: usize = 2000;
/// A ledger longer than this is compared between two ranges, so that it needs no more than some ten megabytes. Builds for
/// tests go that way all the time.
const LONG_LEDGER: usize = if cfg!(debug_assertions) { 100 } else { 100_000 };

/// How much is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Extent {
    /// Every row.
    Full,
    /// Some ranges, and every key changed since.
    Sample,
}

/// How far the proof is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ProofProgress {
    /// Ranges compared.
    pub ranges: u64,
    /// Rows of the original compared.
    pub rows: u64,
    /// Keys of the ledger compared.
    pub keys: u64,
    /// Keys that differed at first and were found in step later.
    pub suspects: u64,
    /// Whether every range was compared.
    pub ranges_complete: bool,
}

/// What a proof works with.
#[derive(Clone)]
pub struct Prover {
    /// Compares.
    pub verifier: Arc<dyn Verifier<Conn>>,
    /// The tables.
    pub statements: Statements,
    /// Sessions set up as those that wrote the ghost table, each statement committing by itself.
    pub readers: Sessions,
    /// Keys to be proven.
    pub ledger: Ledger,
    /// What is synchronised.
    pub cycles: watch::Receiver<CycleState>,
    /// Whether to pause; proving pauses with copying.
    pub throttle: watch::Receiver<ThrottleState>,
    /// Sessions at once.
    pub workers: usize,
    /// How much is compared.
    pub extent: Extent,
    /// How far it is.
    pub progress: watch::Sender<ProofProgress>,
    /// Ends it.
    pub cancel: CancellationToken,
}

impl std::fmt::Debug for Prover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prover")
            .field("extent", &self.extent)
            .finish_non_exhaustive()
    }
}

impl Prover {
    /// Compares every range, then the ledger until it is short.
    ///
    /// # Errors
    /// [`ApplyError::Unequal`] for a defect, [`ApplyError::Unproven`] when something could not be compared.
    pub async fn prove(&mut self) -> Result<(), ApplyError> {
        self.ledger.open();
        self.ranges().await?;
        self.progress
            .send_modify(|progress| progress.ranges_complete = true);
        self.shorten_ledger().await
    }

    /// Compares the ledger's keys until few are left, or as many come as are compared. Also to be called now and then
    /// while a cut-over is postponed.
    ///
    /// # Errors
    /// As [`Prover::prove`].
    pub async fn shorten_ledger(&mut self) -> Result<(), ApplyError> {
        let mut before = usize::MAX;
        loop {
            let length = self.ledger.len();
            // No shorter than a pass ago: under this load it never will be. The cut-over proves them before its lock.
            if length <= SHORT_LEDGER || length >= before || self.cancel.is_cancelled() {
                return Ok(());
            }
            before = length;
            let suspects = self.taken(self.ledger.take()).await?;
            self.explain(suspects).await?;
        }
    }

    /// Compares keys that were taken out of the ledger.
    async fn taken(&self, keys: HashSet<Key>) -> Result<Vec<Observed>, ApplyError> {
        let keys: Vec<Key> = keys.into_iter().collect();
        let suspects = self.keys(&keys).await?;
        self.progress
            .send_modify(|progress| progress.keys += keys.len() as u64);
        Ok(suspects)
    }

    async fn ranges(&self) -> Result<(), ApplyError> {
        let mut session = self.readers.lasting();
        let end = Planner::last_key(&mut session, &self.statements, &self.cancel).await?;
        // The tail has no end: rows that were inserted behind the last key are compared as well.
        let tail = KeyRange {
            from: end.clone().map_or(Bound::Open, Bound::Excluded),
            to: Bound::Open,
        };
        let shared = Ranges {
            planner: tokio::sync::Mutex::new(Planner::new(session, self.statements.clone(), None, end)),
            size: Mutex::new(ChunkSize::new(FIRST_RANGE, Some(RANGE_TIME))),
            tail: Mutex::new(Some(tail)),
            suspects: tokio::sync::RwLock::default(),
        };
        let workers = (0..self.workers.max(1)).map(|_| self.compare_ranges(&shared));
        try_join_all(workers).await?;
        self.explain(shared.suspects.into_inner().take()).await
    }

    async fn compare_ranges(&self, shared: &Ranges) -> Result<(), ApplyError> {
        let mut comparer = Comparer::new(self);
        while let Some(range) = self.next_range(shared).await? {
            let began = Instant::now();
            let suspects = shared.suspects.read().await;
            let found = comparer.range(&range.range).await?;
            if let Some(planned) = range.rows {
                shared.planner.lock().await.learn(planned, found.rows);
                let mut size = shared.size.lock().unwrap_or_else(PoisonError::into_inner);
                size.learn(planned, began.elapsed());
            }
            let observed = Heartbeat::now();
            self.progress.send_modify(|progress| {
                progress.ranges += 1;
                progress.rows += found.rows;
            });
            suspects.add(found.suspects, observed);
            drop(suspects);
            if self.ledger.len() > LONG_LEDGER {
                self.shorten_between_ranges(shared).await?;
            }
        }
        Ok(())
    }

    /// One pass. Whoever waits here for the others to end their ranges may find it done.
    async fn shorten_between_ranges(&self, shared: &Ranges) -> Result<(), ApplyError> {
        let no_range = shared.suspects.write().await;
        if self.ledger.len() <= LONG_LEDGER {
            return Ok(());
        }
        self.explain(no_range.take()).await?;
        if self.cancel.is_cancelled() {
            return Ok(());
        }
        let keys = self.ledger.take();
        // From here on it is again as at the start: the keys taken are a range that is being compared.
        let suspects = no_range.downgrade();
        let found = self.taken(keys).await?;
        suspects.extend(found);
        Ok(())
    }

    async fn next_range(&self, shared: &Ranges) -> Result<Option<Planned>, ApplyError> {
        let mut throttle = self.throttle.clone();
        tokio::select! {
            () = self.cancel.cancelled() => return Ok(None),
            _ = throttle.wait_for(|state| state.copy.is_none()) => {}
        }
        loop {
            let rows = shared.size.lock().unwrap_or_else(PoisonError::into_inner).rows();
            let chunk = shared.planner.lock().await.next(rows, &self.cancel).await?;
            let Some(chunk) = chunk else {
                let tail = shared.tail.lock().unwrap_or_else(PoisonError::into_inner).take();
                return Ok(tail.map(|range| Planned { range, rows: None }));
            };
            if self.extent == Extent::Full || chunk.number % SAMPLE == 0 {
                return Ok(Some(Planned {
                    range: chunk.range,
                    rows: Some(chunk.rows),
                }));
            }
        }
    }

    async fn keys(&self, keys: &[Key]) -> Result<Vec<Observed>, ApplyError> {
        let share = keys.len().div_ceil(self.workers.max(1)).max(1);
        let worker = |keys: &'_ [Key]| {
            let keys = keys.to_vec();
            async move {
                let mut comparer = Comparer::new(self);
                let mut suspects = Vec::new();
                for batch in keys.chunks(KEYS) {
                    let found = comparer.keys(batch).await?;
                    let at = Heartbeat::now();
                    suspects.extend(found.suspects.into_iter().map(|suspect| Observed { suspect, at }));
                }
                Ok::<_, ApplyError>(suspects)
            }
        };
        Ok(try_join_all(keys.chunks(share).map(worker))
            .await?
            .into_iter()
            .flatten()
            .collect())
    }

    /// Waits until every event up to the newest observation is synchronised; a suspect that no cycle wrote since
    /// is a defect, the others are in the ledger.
    async fn explain(&self, suspects: Vec<Observed>) -> Result<(), ApplyError> {
        let Some(newest) = suspects
            .iter()
            .map(|observed| observed.at.written_at_micros)
            .max()
        else {
            return Ok(());
        };
        let mut cycles = self.cycles.clone();
        let synchronised = cycles.wait_for(|state| {
            state
                .heartbeat
                .is_some_and(|heartbeat| heartbeat.written_at_micros > newest)
        });
        tokio::select! {
            () = self.cancel.cancelled() => return Ok(()),
            state = synchronised => {
                state.map_err(|_| ApplyError::Unproven("the applier is gone".to_owned()))?;
            }
        }
        let count = suspects.len() as u64;
        let defects: Vec<Suspect> = suspects
            .into_iter()
            .map(|observed| observed.suspect)
            .filter(|suspect| !self.ledger.contains(&suspect.key))
            .collect();
        self.progress.send_modify(|progress| progress.suspects += count);
        if defects.is_empty() {
            return Ok(());
        }
        Err(unequal(&self.statements.plan().pair(), &defects))
    }
}

/// A suspect and a time not before it was seen.
#[derive(Debug)]
struct Observed {
    suspect: Suspect,
    at: Heartbeat,
}

/// Suspects not explained yet.
#[derive(Debug, Default)]
struct Unexplained(Mutex<Vec<Observed>>);

impl Unexplained {
    fn add(&self, suspects: Vec<Suspect>, at: Heartbeat) {
        self.extend(suspects.into_iter().map(|suspect| Observed { suspect, at }));
    }

    fn extend(&self, suspects: impl IntoIterator<Item = Observed>) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(suspects);
    }

    fn take(&self) -> Vec<Observed> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Ranges {
    planner: tokio::sync::Mutex<Planner>,
    size: Mutex<ChunkSize>,
    tail: Mutex<Option<KeyRange>>,
    /// Held for reading by whoever compares, until the suspects found are in it.
    suspects: tokio::sync::RwLock<Unexplained>,
}

struct Planned {
    range: KeyRange,
    rows: Option<u64>,
}

/// One session that compares, reopened when it is lost.
struct Comparer<'a> {
    prover: &'a Prover,
    conn: Option<Conn>,
}

/// What is compared.
#[derive(Clone, Copy)]
enum What<'a> {
    Range(&'a KeyRange),
    Keys(&'a [Key]),
}

impl<'a> Comparer<'a> {
    fn new(prover: &'a Prover) -> Self {
        Self { prover, conn: None }
    }

    async fn range(&mut self, range: &KeyRange) -> Result<Findings, ApplyError> {
        for _ in 0..TRIES {
            let found = self.compare(What::Range(range)).await?;
            if !found.truncated {
                return Ok(found);
            }
            // More differences than can be looked at one by one: a burst of changes that is not synchronised yet.
            self.pause(Duration::from_secs(1)).await;
        }
        Err(ApplyError::Unproven(format!(
            "more than {MOST_SUSPECTS} rows of one range differ, again and again; the changes come faster than they \
             are synchronised"
        )))
    }

    async fn keys(&mut self, keys: &[Key]) -> Result<Findings, ApplyError> {
        self.compare(What::Keys(keys)).await
    }

    async fn compare(&mut self, what: What<'_>) -> Result<Findings, ApplyError> {
        let mut last = String::new();
        for attempt in 0..TRIES {
            match self.attempt(what).await {
                Ok(found) => return Ok(found),
                Err(error) if !error.transient => {
                    return Err(ApplyError::Unproven(error.message.to_string()));
                }
                Err(error) => last = error.message.to_string(),
            }
            if self.prover.cancel.is_cancelled() {
                break;
            }
            self.pause(Duration::from_millis(50) * attempt).await;
        }
        Err(ApplyError::Unproven(last))
    }

    async fn attempt(&mut self, what: What<'_>) -> Result<Findings, VerifyError> {
        let pair = self.prover.statements.plan().pair();
        let verifier = &self.prover.verifier;
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => {
                let mut conn = self.prover.readers.open().await.map_err(|error| VerifyError {
                    message: error.to_string().into(),
                    transient: crate::sessions::may_pass(error.kind),
                })?;
                verifier.prepare(&mut conn, &pair).await?;
                conn
            }
        };
        let found = match what {
            What::Range(range) => {
                verifier
                    .compare_range(&mut conn, &pair, range, MOST_SUSPECTS)
                    .await?
            }
            What::Keys(keys) => verifier.compare_keys(&mut conn, &pair, keys).await?,
        };
        self.conn = Some(conn);
        Ok(found)
    }

    async fn pause(&self, time: Duration) {
        tokio::select! {
            () = sleep(time) => {}
            () = self.prover.cancel.cancelled() => {}
        }
    }
}
