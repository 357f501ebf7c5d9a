//! What every cut-over does, whichever way the names change.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use actix::dev::RecipientRequest;
use actix::{Actor, Addr, Context, Handler, MailboxError, Message, Recipient};
use changeling_core::ident::{TableName, quote_text};
use changeling_core::key::Key;
use changeling_core::marker::Sentinel;
use changeling_core::verify::{TablePair, Verifier, VerifyError};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::locker::Locker;
use crate::actor::{ApplierEnded, Hold, Release, SentinelReached, Step, StillUnproven, WhatRemains};
use crate::changelog::Changelog;
use crate::error::ApplyError;
use crate::plan::ConflictPolicy;
use crate::sessions::{Sessions, Work};
use crate::sync::lane::{BatchSql, Entry, UnlessDuplicate};
use crate::sync::pending::KeyMap;
use crate::sync::statement::Statements;

/// How long an attempt waits for the lock. Writers queue behind a waiting lock, so this is a stall that the
/// application sees even if the attempt fails; well below a second.
pub const LOCK_WAIT: Duration = Duration::from_millis(400);
/// Keys of one statement under the lock.
const BATCH: usize = 500;
/// Cycles run one by one before the lock, at most: each is shorter than the one before, unless the changes come faster
/// than they can be synchronised.
const ROUNDS: usize = 8;
/// Keys that are not worth another cycle before the lock.
const FEW: usize = 16;
/// Suspects shown in an error.
const SHOWN: usize = 5;

/// Why an attempt did not swap.
#[derive(Debug)]
pub enum Setback {
    /// T is in charge, nothing is left behind, and another attempt may do better.
    Retry(String),
    /// A session is gone in the middle of a statement; whether that took effect has to be looked at.
    Lost(String),
    /// T is in charge, and no further attempt would help.
    Fatal(ApplyError),
}

impl std::fmt::Display for Setback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Retry(why) | Self::Lost(why) => f.write_str(why),
            Self::Fatal(error) => error.fmt(f),
        }
    }
}

impl From<ApplyError> for Setback {
    fn from(error: ApplyError) -> Self {
        Self::Fatal(error)
    }
}

/// Statements that recreate triggers on the ghost table under the lock, and undo that.
#[derive(Clone, Debug, Default)]
pub struct TriggerSql {
    /// Settings and `CREATE TRIGGER`, in order.
    pub create: Vec<String>,
    /// `DROP TRIGGER IF EXISTS`.
    pub drop: Vec<String>,
}

/// Writes the triggers' statements for the ghost table under its present name.
pub type TriggerWriter = Arc<dyn Fn(&TableName) -> TriggerSql + Send + Sync>;

/// The applier, as a cut-over needs it.
#[derive(Clone, Debug)]
pub struct ApplierControl {
    /// Ends the cycle that runs; none begins of itself.
    pub hold: Recipient<Hold>,
    /// Runs one cycle.
    pub step: Recipient<Step>,
    /// Says what is not synchronised, and hands over what is not proven.
    pub remaining: Recipient<WhatRemains>,
    /// Takes back what was not proven.
    pub unproven: Recipient<StillUnproven>,
    /// Lets cycles run again.
    pub release: Recipient<Release>,
}

impl ApplierControl {
    /// All of them of one actor.
    #[must_use]
    pub fn of<A>(applier: &Addr<A>) -> Self
    where
        A: Handler<Hold> + Handler<Step> + Handler<WhatRemains> + Handler<StillUnproven> + Handler<Release>,
        A: Actor<Context = Context<A>>,
    {
        Self {
            hold: applier.clone().recipient(),
            step: applier.clone().recipient(),
            remaining: applier.clone().recipient(),
            unproven: applier.clone().recipient(),
            release: applier.clone().recipient(),
        }
    }
}

/// What becomes of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swap {
    /// T becomes D, G becomes T.
    ForGood,
    /// As [`Swap::ForGood`], and back again under the same lock (`--test-on-replica`).
    AndBack,
}

/// What becomes of `AUTO_INCREMENT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// The new table goes on where the original is, also where the last rows were deleted: their numbers are not given
    /// out again.
    Carry,
    /// The ALTER sets it, or nothing counts.
    Leave,
}

/// What an attempt works with.
#[derive(Clone)]
pub struct Workshop {
    /// Sessions that write the ghost table, without autocommit.
    pub writers: Sessions,
    /// Sessions that commit by themselves.
    pub plain: Sessions,
    /// The statements of this migration.
    pub statements: Statements,
    /// Whom to hold, to step, and to ask what is left.
    pub applier: ApplierControl,
    /// Proves the last keys; none with `--verify=off`.
    pub verifier: Option<Arc<dyn Verifier<Conn>>>,
    /// Triggers to be recreated.
    pub triggers: TriggerWriter,
    /// What becomes of `AUTO_INCREMENT`.
    pub counter: Counter,
    /// What becomes of the tables.
    pub swap: Swap,
    /// Stands in a comment of every statement of ours that changes a definition.
    pub owner: Arc<str>,
}

impl std::fmt::Debug for Workshop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workshop")
            .field("swap", &self.swap)
            .finish_non_exhaustive()
    }
}

/// One attempt.
#[derive(Debug)]
pub struct Attempt {
    /// What was or will be written to the changelog.
    pub sentinel: Sentinel,
    /// How long the table may be locked.
    pub lock_limit: Duration,
    /// When the table must be free again; counts from the moment the lock is asked for.
    pub deadline: Instant,
    /// Sentinels as they come through the stream; the newest.
    pub reached: watch::Receiver<Option<SentinelReached>>,
    /// Keys that were taken over from the applier and not proven yet.
    pub unproven: BTreeSet<Key>,
    /// Ends the attempt at the next safe point.
    pub cancel: CancellationToken,
}

impl Attempt {
    /// Time left.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Writes the sentinel and waits until the applier has taken over everything before it.
    ///
    /// # Errors
    /// [`Setback::Retry`] when it does not come in time.
    pub async fn await_sentinel(&mut self, changelog: &mut Changelog) -> Result<(), Setback> {
        // Its commit may wait for others: a row lock, a backup's global lock, a semi-synchronous replica.
        match timeout_at(self.deadline, changelog.sentinel(self.sentinel, &self.cancel)).await {
            Ok(written) => written.map_err(retry)?,
            Err(_) => {
                return Err(Setback::Retry(
                    "the sentinel could not be committed in time".to_owned(),
                ));
            }
        }
        let expected = self.sentinel;
        let reached = self
            .reached
            .wait_for(|seen| seen.as_ref().is_some_and(|seen| seen.sentinel == expected));
        match timeout_at(self.deadline, reached).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Setback::Retry("the applier is gone".to_owned())),
            Err(_) => Err(Setback::Retry(
                "the sentinel did not come through the stream in time: the stream lags; see --max-lag-millis and \
                 --cut-over-lock-timeout-seconds"
                    .to_owned(),
            )),
        }
    }
}

impl Workshop {
    /// Original and ghost as they are called now.
    #[must_use]
    pub fn pair(&self) -> TablePair {
        TablePair {
            target: self.statements.ghost(),
            ..self.statements.plan().pair()
        }
    }

    /// A statement of ours that changes a definition, marked so that the stream knows it.
    #[must_use]
    pub fn ours(&self, sql: &str) -> String {
        crate::ghost::owned(&self.owner, sql)
    }

    /// Prepares the locking session: what proving needs has to exist before the lock.
    ///
    /// # Errors
    /// When it cannot be prepared; nothing is locked yet.
    pub async fn prepare(&self, locker: &mut Locker) -> Result<(), Setback> {
        let Some(verifier) = &self.verifier else {
            return Ok(());
        };
        verifier
            .prepare(locker.conn(), &self.pair())
            .await
            .map_err(|error| retry(cannot_prepare(&error)))
    }

    /// Has the applier end its cycle and begin no other.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn hold(&self) -> Result<(), Setback> {
        answer(self.applier.hold.send(Hold)).await
    }

    /// Waits, however long it takes, until no cycle runs. Nothing is locked meanwhile.
    ///
    /// # Errors
    /// The applier has ended: no cycle runs then, either, but nothing can go on.
    pub async fn rest(&self) -> Result<(), Setback> {
        answered(self.applier.hold.send(Hold).await)
    }

    /// Holds the applier, then has it run cycles one by one until hardly anything is left for the lock, proving after
    /// each what it wrote. Cycles are on hold between, so a key found equal can only become unequal by a change
    /// that is among the keys still to be synchronised.
    ///
    /// # Errors
    /// When the applier does not answer or nothing can be compared; nothing is locked yet.
    pub async fn drain(&self, locker: &mut Locker, attempt: &mut Attempt) -> Result<(), Setback> {
        self.hold().await?;
        for _ in 0..ROUNDS {
            answer(self.applier.step.send(Step)).await?;
            let remaining = answer(self.applier.remaining.send(WhatRemains)).await?;
            attempt.unproven.extend(remaining.unproven);
            self.prove_early(locker, attempt).await?;
            if remaining.keys.len() <= FEW {
                break;
            }
        }
        Ok(())
    }

    async fn prove_early(&self, locker: &mut Locker, attempt: &mut Attempt) -> Result<(), Setback> {
        let Some(verifier) = &self.verifier else {
            return Ok(());
        };
        let pair = self.pair();
        let keys: Vec<Key> = attempt.unproven.iter().cloned().collect();
        for batch in keys.chunks(BATCH) {
            let compared = verifier.compare_keys(locker.conn(), &pair, batch).await;
            let findings = compared.map_err(|error| retry(cannot_prepare(&error)))?;
            batch.iter().for_each(|key| {
                attempt.unproven.remove(key);
            });
            // Likely changed since; if not, it is found again under the lock.
            attempt
                .unproven
                .extend(findings.suspects.into_iter().map(|suspect| suspect.key));
        }
        // Ends the snapshot and its metadata locks.
        let ended = locker.conn().query_drop("COMMIT").await;
        ended.map_err(|error| retry(locker.failed("end a transaction", error)))
    }

    /// Synchronises and proves in the locking session what is left. Nobody else can write either table.
    ///
    /// # Errors
    /// [`Setback::Fatal`] when the tables turn out different; [`Setback::Retry`] when time runs out or a
    /// statement fails in passing.
    pub async fn finish(&self, locker: &mut Locker, attempt: &mut Attempt) -> Result<(), Setback> {
        let remaining = timeout_at(attempt.deadline, answer(self.applier.remaining.send(WhatRemains))).await;
        let remaining = remaining.map_err(|_| retry("the applier did not answer in time"))??;
        attempt.unproven.extend(remaining.unproven);
        attempt.unproven.extend(remaining.keys.keys().cloned());
        let work = self.write_and_prove(locker, remaining.keys, &attempt.unproven);
        match timeout_at(attempt.deadline, work).await {
            Ok(result) => result,
            Err(_) => Err(Setback::Lost(
                "the last changes took longer than the lock may be held".to_owned(),
            )),
        }
    }

    async fn write_and_prove(
        &self,
        locker: &mut Locker,
        keys: KeyMap,
        unproven: &BTreeSet<Key>,
    ) -> Result<(), Setback> {
        let mut entries: Vec<Entry> = keys.into_iter().collect();
        entries.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        tracing::debug!(
            keys = entries.len(),
            unproven = unproven.len(),
            "left for the lock"
        );
        self.make_room(locker, &entries).await?;
        for batch in entries.chunks(BATCH) {
            let sql = UnlessDuplicate(BatchSql::new(&self.statements, batch)?);
            let written = sql.attempt(locker.conn()).await;
            let written =
                written.map_err(|error| retry(locker.failed("synchronise the last rows", error)))?;
            if !written {
                return Err(Setback::Retry(
                    "rows in the last changes contend for a unique value".to_owned(),
                ));
            }
        }
        self.prove(locker, &unproven.iter().cloned().collect::<Vec<_>>())
            .await
    }

    /// Where a unique key is new on the ghost table, an outdated row may hold a value that another of the last keys
    /// brings. Nobody writes any more, so every outdated row is among the last keys: with all of them gone, only what the
    /// original itself holds twice can be in the way. They stay in the map of pending keys until the tables are swapped.
    async fn make_room(&self, locker: &mut Locker, entries: &[Entry]) -> Result<(), Setback> {
        if self.statements.conflicts() == ConflictPolicy::Replace || entries.len() <= BATCH {
            return Ok(());
        }
        for batch in entries.chunks(BATCH) {
            let sql = self.statements.delete_keys(batch.iter().map(|(key, _)| key));
            let sql = sql.map_err(ApplyError::from)?;
            let deleted = locker.conn().query_drop(sql).await;
            deleted.map_err(|error| retry(locker.failed("delete the last rows", error)))?;
        }
        Ok(())
    }

    async fn prove(&self, locker: &mut Locker, keys: &[Key]) -> Result<(), Setback> {
        let Some(verifier) = &self.verifier else {
            return Ok(());
        };
        let pair = self.pair();
        for batch in keys.chunks(BATCH) {
            let findings = verifier
                .compare_keys(locker.conn(), &pair, batch)
                .await
                .map_err(|error| Setback::Retry(format!("cannot prove the last rows: {error}")))?;
            if !findings.suspects.is_empty() {
                return Err(Setback::Fatal(unequal(&pair, &findings.suspects)));
            }
        }
        Ok(())
    }

    /// Raises the ghost table's counter to the original's, if it is behind. Under the lock, where the counter stands
    /// still; nearly always the rows themselves have raised it already and this only looks.
    ///
    /// # Errors
    /// As [`Locker::execute`].
    pub async fn carry_counter(&self, locker: &mut Locker, limit: Duration) -> Result<(), Setback> {
        if self.counter == Counter::Leave {
            return Ok(());
        }
        let (original, ghost) = (&self.statements.plan().names.original, self.statements.ghost());
        let sql = format!(
            "SELECT TABLE_NAME, AUTO_INCREMENT FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_NAME IN \
             ({}, {})",
            quote_text(&original.schema),
            quote_text(&original.table),
            quote_text(&ghost.table)
        );
        let rows = timeout(limit, locker.conn().query::<(String, Option<u64>), _>(sql)).await;
        let rows = rows.map_err(|_| Setback::Lost("reading AUTO_INCREMENT took too long".to_owned()))?;
        let rows = rows.map_err(|error| retry(locker.failed("read AUTO_INCREMENT", error)))?;
        let next = |table: &str| {
            rows.iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(table))
                .and_then(|row| row.1)
        };
        match (next(&original.table), next(&ghost.table)) {
            (Some(next), reached) if reached.is_none_or(|reached| reached < next) => {
                let sql = self.ours(&format!("ALTER TABLE {ghost} AUTO_INCREMENT = {next}"));
                locker.execute("carry AUTO_INCREMENT over", &sql, limit).await
            }
            _ => Ok(()),
        }
    }

    /// Creates the triggers on the ghost table, in the locking session.
    ///
    /// # Errors
    /// As [`Locker::execute`]; those created before have to be undone.
    pub async fn create_triggers(&self, locker: &mut Locker, limit: Duration) -> Result<(), Setback> {
        for sql in (self.triggers)(&self.statements.ghost()).create {
            locker
                .execute("create a trigger on the ghost table", &sql, limit)
                .await?;
        }
        Ok(())
    }

    /// Drops whatever triggers an attempt left on the ghost table. Logged, not fatal: the next attempt, and
    /// the clean-up, try again.
    pub async fn undo_triggers(&self) {
        let drop = (self.triggers)(&self.statements.ghost()).drop;
        if drop.is_empty() {
            return;
        }
        let undo = async {
            let mut conn = self.plain.open().await?;
            for sql in drop {
                conn.query_drop(sql)
                    .await
                    .map_err(self.plain.server().failed("drop a trigger of ours"))?;
            }
            Ok::<_, crate::server::ServerError>(())
        };
        if let Err(error) = undo.await {
            tracing::warn!(%error, "triggers of a failed attempt are still on the ghost table");
        }
    }
}

/// How long the applier may take to answer: a cycle in hand has to end first.
const ANSWER: Duration = Duration::from_secs(10);

async fn answer<M, T>(request: RecipientRequest<M>) -> Result<T, Setback>
where
    M: Message<Result = Result<T, ApplierEnded>> + Send + 'static,
    T: Send + 'static,
{
    match timeout(ANSWER, request).await {
        Ok(outcome) => answered(outcome),
        Err(_) => Err(Setback::Retry(
            "the applier's cycle did not end in time".to_owned(),
        )),
    }
}

fn answered<T>(outcome: Result<Result<T, ApplierEnded>, MailboxError>) -> Result<T, Setback> {
    match outcome {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(ended)) => Err(retry(ended)),
        Err(_) => Err(Setback::Retry("the applier is gone".to_owned())),
    }
}

fn cannot_prepare(error: &VerifyError) -> String {
    format!("cannot compare before the lock: {error}")
}

/// Keeps the words of an error, and lets another attempt try.
pub fn retry(error: impl std::fmt::Display) -> Setback {
    Setback::Retry(error.to_string())
}

/// The error for rows that differ although everything was synchronised.
#[must_use]
pub fn unequal(pair: &TablePair, suspects: &[changeling_core::verify::Suspect]) -> ApplyError {
    let mut rows: Vec<String> = suspects
        .iter()
        .take(SHOWN)
        .map(|suspect| {
            let what = match suspect.discrepancy {
                changeling_core::verify::Discrepancy::Missing => "is missing".to_owned(),
                changeling_core::verify::Discrepancy::Extra => "is there although it should not".to_owned(),
                changeling_core::verify::Discrepancy::Different => {
                    format!("differs in {}", suspect.columns.join(", "))
                }
            };
            format!("row ({}) {what}", pair.key.display(&suspect.key))
        })
        .collect();
    if suspects.len() > SHOWN {
        rows.push(format!("and {} more", suspects.len() - SHOWN));
    }
    let missing = |suspect: &changeling_core::verify::Suspect| {
        suspect.discrepancy == changeling_core::verify::Discrepancy::Missing
    };
    let excuse = if suspects.iter().any(missing) {
        " (under --panic-on-warnings=false that may be a row that a new unique key excludes, which --verify=off accepts)"
    } else {
        ""
    };
    ApplyError::Unequal {
        details: format!(
            "in {} compared with {}: {}{excuse}",
            pair.target,
            pair.source,
            rows.join("; ")
        ),
    }
}
