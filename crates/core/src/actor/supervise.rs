//! Actors that are made anew when they fail.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::{Actor, Addr, Context};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::exit::ExitReport;
use super::stage::Stage;
use super::{ActorHost, ExitStatus, OnExit};

/// When and how often an actor is made anew.
#[derive(Clone, Copy, Debug)]
pub struct RestartPolicy {
    /// So many restarts within `window`; one failure more and the last status is reported.
    pub budget: u32,
    /// A restart counts against the budget for this long.
    pub window: Duration,
    /// The wait before a restart. It doubles with every restart that still counts. Without jitter: one
    /// supervisor restarts one actor, there is no herd to disperse.
    pub backoff: Duration,
    /// The longest such wait.
    pub max_backoff: Duration,
    /// Which ends call for a restart.
    pub restarts: fn(&ExitStatus) -> bool,
}

impl Default for RestartPolicy {
    /// Five restarts in ten minutes, waits of 1 s to 1 min, after failures and panics: enough to ride out
    /// a server's restart, few enough that a defect does not go unnoticed for long.
    fn default() -> Self {
        Self {
            budget: 5,
            window: Duration::from_secs(600),
            backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(60),
            restarts: ExitStatus::is_failure,
        }
    }
}

impl RestartPolicy {
    /// Never restarts: for an actor of which only the end is to be reported.
    #[must_use]
    pub fn never() -> Self {
        Self {
            budget: 0,
            ..Self::default()
        }
    }
}

/// Where an actor writes how it ended, before it stops itself.
#[derive(Clone, Debug, Default)]
pub struct ExitNote(Arc<Mutex<Option<ExitStatus>>>);

impl ExitNote {
    /// The last status written stands. Without one a stop is [`ExitStatus::Success`], or
    /// [`ExitStatus::Cancelled`] if the supervisor asked for it; a panic is always
    /// [`ExitStatus::Panicked`].
    pub fn write(&self, status: ExitStatus) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
    }

    fn read(&self) -> Option<ExitStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What a factory is told.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Counts from 1.
    pub number: u64,
    /// For the actor to keep.
    pub exit: ExitNote,
}

/// An actor under supervision. Dropping it stops the actor and ends the supervision.
///
/// What survives a restart is what the factory keeps and hands to each attempt, as a clone of a
/// [`LatestSlot`](super::LatestSlot). The mailbox does not: its messages are answered as closed.
#[derive(Debug)]
#[must_use = "dropping it stops the actor"]
pub struct Supervised<A: Actor> {
    addr: watch::Receiver<Option<Addr<A>>>,
    restarts: Arc<AtomicU64>,
    cancel: CancellationToken,
}

impl<A> Supervised<A>
where
    A: Actor<Context = Context<A>>,
{
    /// Starts the actor and watches it. The factory runs on the actors' thread, once for each attempt.
    ///
    /// `exited` is told once, when no further attempt is made: because the policy does not restart after
    /// this status, because the budget is used up, because it was cancelled, or because the host went down
    /// ([`ExitStatus::Cancelled`]). Waits go by the clock of the host's runtime.
    pub fn spawn(
        host: &ActorHost,
        name: &'static str,
        policy: RestartPolicy,
        factory: impl Fn(&mut Context<A>, Attempt) -> A + Send + Sync + 'static,
        exited: impl Into<OnExit>,
    ) -> Self {
        let cancel = CancellationToken::new();
        let restarts = Arc::new(AtomicU64::new(0));
        let stage = host.stage().clone();
        let mut launcher = Launcher {
            name,
            stage: stage.clone(),
            cancel: cancel.clone(),
            factory: Arc::new(factory),
            attempts: 0,
        };
        let (first, running) = launcher.launch();
        let (announce, addr) = watch::channel(Some(first));
        let report = ExitReport::new(name, exited.into());
        let supervision = supervise(launcher, running, policy, announce, Arc::clone(&restarts));
        stage.pumps.spawn(async move { report.finish(supervision.await) });
        Self {
            addr,
            restarts,
            cancel,
        }
    }

    /// The address of the present attempt; `None` between two and after the last.
    #[must_use]
    pub fn addr(&self) -> Option<Addr<A>> {
        self.addr.borrow().clone()
    }

    /// The same, to be awaited. The channel closes when the supervision has ended.
    #[must_use]
    pub fn addresses(&self) -> watch::Receiver<Option<Addr<A>>> {
        self.addr.clone()
    }

    /// How often it was made anew.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }
}

impl<A: Actor> Supervised<A> {
    /// Stops the actor, as `Context::stop` does, and ends the supervision.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }
}

impl<A: Actor> Drop for Supervised<A> {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

struct Launcher<F> {
    name: &'static str,
    stage: Stage,
    cancel: CancellationToken,
    factory: Arc<F>,
    attempts: u64,
}

struct Running {
    ended: oneshot::Receiver<ExitStatus>,
    note: ExitNote,
}

impl<F> Launcher<F> {
    fn launch<A>(&mut self) -> (Addr<A>, Running)
    where
        A: Actor<Context = Context<A>>,
        F: Fn(&mut Context<A>, Attempt) -> A + Send + Sync + 'static,
    {
        self.attempts += 1;
        let note = ExitNote::default();
        let attempt = Attempt {
            number: self.attempts,
            exit: note.clone(),
        };
        let factory = Arc::clone(&self.factory);
        let (addr, ended) = self
            .stage
            .launch(self.cancel.clone(), move |context: &mut Context<A>| {
                factory(context, attempt)
            });
        (addr, Running { ended, note })
    }
}

impl Running {
    async fn end(self, cancel: &CancellationToken) -> ExitStatus {
        match self.ended.await {
            Ok(ExitStatus::Success) => self.note.read().unwrap_or_else(|| {
                if cancel.is_cancelled() {
                    ExitStatus::Cancelled
                } else {
                    ExitStatus::Success
                }
            }),
            Ok(status) => status,
            Err(_) => ExitStatus::Cancelled,
        }
    }
}

async fn supervise<A, F>(
    mut launcher: Launcher<F>,
    mut running: Running,
    policy: RestartPolicy,
    announce: watch::Sender<Option<Addr<A>>>,
    restarts: Arc<AtomicU64>,
) -> ExitStatus
where
    A: Actor<Context = Context<A>>,
    F: Fn(&mut Context<A>, Attempt) -> A + Send + Sync + 'static,
{
    let cancel = launcher.cancel.clone();
    let mut recent = Recent::default();
    loop {
        let status = running.end(&cancel).await;
        let wait = if cancel.is_cancelled() || !(policy.restarts)(&status) {
            None
        } else {
            recent.admit(&policy, Instant::now())
        };
        // After the decision: whoever cancels because the address is gone cancels the wait, not this end.
        announce.send_replace(None);
        let Some(wait) = wait else {
            return status;
        };
        // Handled here, by restarting; the status of the last attempt is for whoever is told of it.
        tracing::warn!(actor = launcher.name, %status, ?wait, attempt = launcher.attempts, "actor restarts");
        if cancel
            .run_until_cancelled(tokio::time::sleep(wait))
            .await
            .is_none()
        {
            return ExitStatus::Cancelled;
        }
        let (addr, next) = launcher.launch();
        restarts.fetch_add(1, Ordering::Relaxed);
        running = next;
        announce.send_replace(Some(addr));
    }
}

/// When the restarts that still count were decided on.
#[derive(Default)]
struct Recent(VecDeque<Instant>);

impl Recent {
    /// How long to wait before the restart, `None` if the budget does not allow one. At most `budget`
    /// instants are kept.
    fn admit(&mut self, policy: &RestartPolicy, now: Instant) -> Option<Duration> {
        while self
            .0
            .front()
            .is_some_and(|&past| now.duration_since(past) >= policy.window)
        {
            self.0.pop_front();
        }
        if self.0.len() >= policy.budget as usize {
            return None;
        }
        let doublings = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0.push_back(now);
        let factor = 2u32.checked_pow(doublings).unwrap_or(u32::MAX);
        Some(policy.backoff.saturating_mul(factor).min(policy.max_backoff))
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("note", &self.note)
            .finish_non_exhaustive()
    }
}
