//! The cut-over actor: one attempt at a time, each with a fresh sentinel.

use std::collections::BTreeSet;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, Message, ResponseFuture};
use changeling_core::actor::{
    ActorExited, ExitStatus, LatestSlot, Observe, Pump, Pumps, Wake, answer_get_state,
};
use changeling_core::key::Key;
use changeling_core::marker::Sentinel;
use serde::Serialize;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::work::{Attempt, Setback, Workshop, retry};
use super::{blockers, sentry, under_lock};
use crate::actor::{Release, SentinelReached, StillUnproven};
use crate::changelog::Changelog;
use crate::error::ApplyError;

/// Asks for one attempt to swap.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "CutOverOutcome")]
pub struct AttemptCutOver {
    /// From 1, higher than any before, those of earlier runs included.
    pub attempt: u64,
    /// How long the table may be locked.
    pub lock_limit: Duration,
}

/// What became of an attempt.
#[derive(Debug)]
pub enum CutOverOutcome {
    /// The new table is in place; how long the table was locked.
    Swapped(Duration),
    /// The original is in charge; try again.
    Retry(String),
    /// The original is in charge; do not try again.
    Fatal(ApplyError),
    /// Nobody knows; clean nothing up.
    Unknown(String),
}

/// What a cut-over says of itself.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CutOverState {
    /// The attempt that runs.
    pub running: Option<u64>,
    /// Attempts begun.
    pub attempts: u64,
    /// Why the last one failed.
    pub last_setback: Option<String>,
    /// Sentinels that came for another attempt than the one running, and changed nothing.
    pub stale_sentinels: u64,
    /// How long the successful attempt held the lock.
    pub locked_for: Option<Duration>,
}

/// Swaps original and ghost table.
///
/// *Messages in*: [`AttemptCutOver`], [`Wake`] of its sentinel slot, `GetState`. *Ports out*: the applier's
/// messages of [`super::work::ApplierControl`]. *Owns*, during an attempt, the locking session, the
/// renaming session and a writer of sentinels; between attempts nothing. *Survives a restart*: nothing is needed;
/// a sentinel of an earlier life has another challenge. *Ends* when stopped: an attempt under way ends
/// first, swapped or undone.
#[derive(Debug)]
pub struct CutOver {
    shop: Workshop,
    sentinels: LatestSlot<SentinelReached>,
    reached: watch::Sender<Option<SentinelReached>>,
    pumps: Pumps,
    cancel: CancellationToken,
    expected: Option<Sentinel>,
    pump: Option<Pump>,
    state: CutOverState,
}

impl CutOver {
    /// A cut-over that reads sentinels from this slot.
    #[must_use]
    pub fn new(
        shop: Workshop,
        sentinels: LatestSlot<SentinelReached>,
        pumps: Pumps,
        cancel: CancellationToken,
    ) -> Self {
        Self {
            shop,
            sentinels,
            reached: watch::Sender::new(None),
            pumps,
            cancel,
            expected: None,
            pump: None,
            state: CutOverState::default(),
        }
    }

    fn look_at_sentinels(&mut self) {
        let Some(reached) = self.sentinels.take() else {
            return;
        };
        if self.expected == Some(reached.sentinel) {
            self.reached.send_replace(Some(reached));
        } else {
            self.state.stale_sentinels += 1;
        }
    }
}

impl Actor for CutOver {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.sentinels
            .attach(ctx.address().recipient::<Wake<SentinelReached>>());
        // What came before this actor was there is waiting without a wake.
        self.look_at_sentinels();
    }
}

impl Handler<Wake<SentinelReached>> for CutOver {
    type Result = ();

    fn handle(&mut self, _: Wake<SentinelReached>, _: &mut Self::Context) {
        self.look_at_sentinels();
    }
}

impl Handler<AttemptCutOver> for CutOver {
    type Result = ResponseFuture<CutOverOutcome>;

    fn handle(&mut self, request: AttemptCutOver, ctx: &mut Self::Context) -> Self::Result {
        if let Some(running) = self.state.running {
            let reason = format!("attempt {running} is still running");
            return Box::pin(async move { CutOverOutcome::Retry(reason) });
        }
        let sentinel = Sentinel {
            attempt: request.attempt,
            challenge: challenge(),
        };
        self.expected = Some(sentinel);
        self.state.running = Some(request.attempt);
        self.state.attempts += 1;
        let run = Run {
            shop: self.shop.clone(),
            lock_limit: request.lock_limit,
            sentinel,
            reached: self.reached.subscribe(),
            cancel: self.cancel.child_token(),
        };
        let (answer, outcome) = oneshot::channel();
        let told = ctx.address();
        let work = async move {
            let outcome = run.run().await;
            let (ended, status) = ended(&outcome);
            let _ = told.send(ended).await;
            let _ = answer.send(outcome);
            status
        };
        let exited = ctx.address().recipient::<ActorExited>();
        self.pump = Some(Pump::spawn(
            &self.pumps,
            "cut-over",
            self.cancel.child_token(),
            work,
            exited,
        ));
        Box::pin(async move {
            outcome.await.unwrap_or_else(|_| {
                CutOverOutcome::Unknown("the cut-over broke off in the middle of an attempt".to_owned())
            })
        })
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct AttemptEnded {
    setback: Option<String>,
    locked_for: Option<Duration>,
}

fn ended(outcome: &CutOverOutcome) -> (AttemptEnded, ExitStatus) {
    let (setback, locked_for) = match outcome {
        CutOverOutcome::Swapped(locked_for) => (None, Some(*locked_for)),
        CutOverOutcome::Retry(why) | CutOverOutcome::Unknown(why) => (Some(why.clone()), None),
        CutOverOutcome::Fatal(error) => (Some(error.to_string()), None),
    };
    (AttemptEnded { setback, locked_for }, ExitStatus::Success)
}

impl Handler<AttemptEnded> for CutOver {
    type Result = ();

    fn handle(&mut self, ended: AttemptEnded, _: &mut Self::Context) {
        self.state.running = None;
        self.expected = None;
        self.state.locked_for = ended.locked_for;
        self.state.last_setback = ended.setback;
    }
}

impl Handler<ActorExited> for CutOver {
    type Result = ();

    fn handle(&mut self, _: ActorExited, _: &mut Self::Context) {
        // A panicked attempt has not said so itself.
        self.state.running = None;
    }
}

impl Observe for CutOver {
    type State = CutOverState;

    fn observe(&self) -> CutOverState {
        self.state.clone()
    }
}

answer_get_state!(CutOver);

/// Random enough that a sentinel of another process or attempt is never taken for this one's.
fn challenge() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}

struct Run {
    shop: Workshop,
    lock_limit: Duration,
    sentinel: Sentinel,
    reached: watch::Receiver<Option<SentinelReached>>,
    cancel: CancellationToken,
}

impl Run {
    async fn run(self) -> CutOverOutcome {
        let applier = self.shop.applier.clone();
        let (result, unproven) = self.attempt().await;
        let outcome = match result {
            // Cycles stay on hold: there is no ghost table to write any more.
            Ok(locked_for) => return CutOverOutcome::Swapped(locked_for),
            Err(Setback::Lost(why)) => return CutOverOutcome::Unknown(why),
            Err(Setback::Retry(why)) => CutOverOutcome::Retry(why),
            Err(Setback::Fatal(error)) => CutOverOutcome::Fatal(error),
        };
        let _ = applier
            .unproven
            .send(StillUnproven(unproven.into_iter().collect()))
            .await;
        let _ = applier.release.send(Release).await;
        outcome
    }

    /// Also returns the keys that were taken over from the applier and not proven.
    async fn attempt(self) -> (Result<Duration, Setback>, BTreeSet<Key>) {
        let mut attempt = Attempt {
            sentinel: self.sentinel,
            lock_limit: self.lock_limit,
            deadline: Instant::now() + self.lock_limit,
            reached: self.reached,
            unproven: BTreeSet::new(),
            cancel: self.cancel,
        };
        let result = try_swap(&self.shop, &mut attempt).await;
        (result, attempt.unproven)
    }
}

async fn try_swap(shop: &Workshop, attempt: &mut Attempt) -> Result<Duration, Setback> {
    let names = &shop.statements.plan().names;
    let blocker = blockers::look(&shop.plain, &names.original, &shop.statements.ghost()).await;
    if let Ok(Some(blocker)) = blocker {
        return Err(Setback::Retry(blocker));
    }
    let mut changelog = Changelog::new(names.changelog.clone(), &shop.plain);
    // Opens the session that will write the sentinel: under the lock every millisecond is the application's.
    changelog.marker(&attempt.cancel).await.map_err(retry)?;
    if shop.plain.server().renames_under_lock() {
        under_lock::attempt(shop, attempt, &mut changelog).await
    } else {
        sentry::attempt(shop, attempt, &mut changelog).await
    }
}
