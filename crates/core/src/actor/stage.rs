//! How an actor is put on the actors' thread, and how its end is noticed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use actix::dev::{ContextFut, channel};
use actix::{Actor, ActorContext, Addr, Context};
use actix_rt::ArbiterHandle;
use futures_util::FutureExt;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{ExitStatus, Pumps};

/// Messages that fit into an actor's mailbox before `send` reports it full. Our own windows are
/// [`Credits`](super::Credits), so this is no bound; actix's default.
const MAILBOX_CAPACITY: usize = 16;

/// Where actors are put: the thread and the runtime, without the ownership of either.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    pub(super) actors: ArbiterHandle,
    pub(super) pumps: Pumps,
}

impl Stage {
    /// Starts an actor and reports its end: the panic, or `Success`. A dropped sender means that the host
    /// went down. Cancelling the token stops the actor the ordinary way, with its `stopping` call.
    pub(super) fn launch<A>(
        &self,
        cancel: CancellationToken,
        factory: impl FnOnce(&mut Context<A>) -> A + Send + 'static,
    ) -> (Addr<A>, oneshot::Receiver<ExitStatus>)
    where
        A: Actor<Context = Context<A>>,
    {
        let (sender, receiver) = channel::channel(MAILBOX_CAPACITY);
        let (report, ended) = oneshot::channel();
        // If the thread is gone the closure is dropped, and the receiver with it: the address is closed.
        self.actors.spawn_fn(move || {
            let mut context = Context::with_receiver(receiver);
            let actor = match catch_unwind(AssertUnwindSafe(|| factory(&mut context))) {
                Ok(actor) => actor,
                Err(panic) => return drop(report.send(ExitStatus::panicked(&*panic))),
            };
            let run = AssertUnwindSafe(run_actor(context.into_future(actor), cancel)).catch_unwind();
            actix_rt::spawn(async move {
                let status = match run.await {
                    Ok(()) => ExitStatus::Success,
                    Err(panic) => ExitStatus::panicked(&*panic),
                };
                drop(report.send(status));
            });
        });
        (Addr::new(sender), ended)
    }
}

async fn run_actor<A>(mut actor: ContextFut<A, Context<A>>, cancel: CancellationToken)
where
    A: Actor<Context = Context<A>>,
{
    tokio::select! {
        biased;
        () = cancel.cancelled() => actor.ctx().stop(),
        () = &mut actor => return,
    }
    actor.await;
}
