//! The child: does one range at a time.

use std::sync::Arc;

use actix::{Actor, Context, Handler, ResponseFuture};
use changeling_core::actor::{ExitStatus, OnExit, Pump, Pumps};
use tokio::sync::{Mutex, oneshot};
use tokio_util::sync::CancellationToken;

use super::errand::{Brakes, Connections, Errands};
use super::task::{ChildLost, RangeOutcome, RangeTask};

/// Compares ranges for the supervisor, one at a time, on connections of its own.
///
/// Messages in: `RangeTask`, answered when it is done. Owns one connection to each node and the pump that uses them.
/// Nothing survives a restart; the supervisor gives the range to another child. Ends with its address.
pub(super) struct DiffChild {
    errands: Arc<Errands>,
    pumps: Pumps,
    cancel: CancellationToken,
    connections: Arc<Mutex<Connections>>,
    brakes: Brakes,
    pump: Option<Pump>,
}

impl DiffChild {
    pub(super) fn new(errands: Arc<Errands>, pumps: Pumps, cancel: CancellationToken) -> Self {
        Self {
            errands,
            pumps,
            cancel,
            connections: Arc::default(),
            brakes: Brakes::default(),
            pump: None,
        }
    }
}

impl Actor for DiffChild {
    type Context = Context<Self>;
}

impl Handler<RangeTask> for DiffChild {
    type Result = ResponseFuture<Result<RangeOutcome, ChildLost>>;

    fn handle(&mut self, task: RangeTask, _: &mut Self::Context) -> Self::Result {
        let (answer, outcome) = oneshot::channel();
        let token = self.cancel.child_token();
        let errand = errand(
            Arc::clone(&self.errands),
            Arc::clone(&self.connections),
            self.brakes.clone(),
            token.clone(),
            task,
        );
        let work = async move {
            // If nobody waits any more the job is over.
            drop(answer.send(errand.await));
            ExitStatus::Success
        };
        // The one before has ended: the supervisor sends the next task when it has the answer.
        self.pump = Some(Pump::spawn(
            &self.pumps,
            "diff child",
            token,
            work,
            OnExit::ignore(),
        ));
        Box::pin(async move { outcome.await.map_err(|_| ChildLost) })
    }
}

async fn errand(
    errands: Arc<Errands>,
    connections: Arc<Mutex<Connections>>,
    brakes: Brakes,
    cancel: CancellationToken,
    task: RangeTask,
) -> RangeOutcome {
    let mut connections = connections.lock().await;
    let outcome = {
        let work = errands.run(&task, &mut connections, &brakes);
        cancel
            .run_until_cancelled(work)
            .await
            .unwrap_or(RangeOutcome::Stopped)
    };
    if matches!(outcome, RangeOutcome::Failed(_) | RangeOutcome::Stopped) {
        // One node failed; the others may still be at it. Dropped first: the brakes are pulled until a connection ends.
        *connections = Connections::default();
        brakes.pull().await;
    }
    outcome
}
