//! Tasks that actors own.

use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;

use super::exit::ExitReport;
use super::{ExitStatus, OnExit, Pumps};

/// A task owned by an actor: it reads, copies or holds a lock, so that the actor need not.
///
/// Its end, whatever it is, is reported exactly once. Dropping the pump cancels it, so a pump does not
/// outlive its actor for longer than it takes to wind up.
///
/// # Cancellation
///
/// Cancelling is a request: the token is cancelled, and the future, which holds a clone of it, winds up what
/// it is in the middle of and returns [`ExitStatus::Cancelled`]. Work that may be cut off at any await
/// says so itself:
///
/// ```
/// # use changeling_core::actor::ExitStatus;
/// # use tokio_util::sync::CancellationToken;
/// # async fn copy_rows() -> ExitStatus { ExitStatus::Success }
/// # async fn pump(cancel: CancellationToken) -> ExitStatus {
/// cancel.run_until_cancelled(copy_rows()).await.unwrap_or(ExitStatus::Cancelled)
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropping a pump cancels it"]
pub struct Pump {
    name: &'static str,
    cancel: CancellationToken,
    abort: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Pump {
    /// Starts the future on the host's runtime. `cancel` is what [`Pump::cancel`] cancels; the future watches it.
    ///
    /// A panic becomes [`ExitStatus::Panicked`]; if the runtime goes down under it,
    /// [`ExitStatus::Cancelled`] is reported. May be called from any thread.
    pub fn spawn(
        pumps: &Pumps,
        name: &'static str,
        cancel: CancellationToken,
        future: impl Future<Output = ExitStatus> + Send + 'static,
        exited: impl Into<OnExit>,
    ) -> Self {
        let report = ExitReport::new(name, exited.into());
        let abort = CancellationToken::new();
        let aborted = abort.clone();
        let task = pumps.spawn(async move {
            let work = AssertUnwindSafe(aborted.run_until_cancelled_owned(future)).catch_unwind();
            let status = match work.await {
                Ok(status) => status.unwrap_or(ExitStatus::Cancelled),
                Err(panic) => ExitStatus::panicked(&*panic),
            };
            report.finish(status);
        });
        Self {
            name,
            cancel,
            abort,
            task,
        }
    }

    /// The name it was started under.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Asks it to end. It decides when; the report says how.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Drops the future at its next await, wherever that is, and reports [`ExitStatus::Cancelled`]. The
    /// last resort for a pump that does not heed [`Pump::cancel`].
    pub fn abort(&self) {
        self.cancel.cancel();
        self.abort.cancel();
    }

    /// Whether it has ended and reported.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}
