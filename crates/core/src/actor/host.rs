//! The thread on which actors live, and the runtime on which pumps run.

use std::any::type_name;
use std::future::Future;
use std::io;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use actix::{Actor, Addr, Context, System};
use tokio::runtime::{self, Handle};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::ExitStatus;
use super::stage::Stage;

/// How a host is made.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// What its threads are called: the actors' thread has this name, the workers' `-io` added.
    pub name: String,
    /// Threads on which pumps run, at least 1. Two keep a busy pump from delaying another's network; rows
    /// are moved by the servers, not by us. Not used with a `runtime`.
    pub workers: usize,
    /// Run pumps here instead, so that the connections they open belong to this runtime. It must outlive
    /// the host. Its clock is also that of supervisors.
    pub runtime: Option<Handle>,
    /// How long pumps may wind up after [`ActorHost::stop`]; then they are dropped.
    pub grace: Duration,
}

impl Default for HostOptions {
    fn default() -> Self {
        Self {
            name: "changeling".to_owned(),
            workers: 2,
            runtime: None,
            // A pump in a critical section gives back one lock: a few round trips, and no human waits longer.
            grace: Duration::from_secs(10),
        }
    }
}

/// The runtime on which pumps run, and a count of them. Holding it does not keep the host up.
#[derive(Clone, Debug)]
pub struct Pumps {
    handle: Handle,
    running: TaskTracker,
}

impl Pumps {
    /// The runtime.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// How many pumps run now.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.len()
    }

    pub(super) fn spawn(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> tokio::task::JoinHandle<()> {
        self.handle.spawn(self.running.track_future(task))
    }
}

impl From<Handle> for Pumps {
    /// Pumps without a host, for a caller that runs no actors.
    fn from(handle: Handle) -> Self {
        Self {
            handle,
            running: TaskTracker::new(),
        }
    }
}

/// Runs actors on a thread of its own inside any tokio program, or outside one.
///
/// Clones are the same host; when the last one is dropped the thread stops as after [`ActorHost::stop`].
/// An actor therefore keeps [`Pumps`], not the host.
#[derive(Clone, Debug)]
pub struct ActorHost {
    stage: Stage,
    // `None` for a System that is not ours.
    owned: Option<Arc<Owned>>,
    stopped: CancellationToken,
}

#[derive(Debug)]
struct Owned(System);

impl Drop for Owned {
    fn drop(&mut self) {
        // Not joined: this may be the actors' thread itself, or a runtime's worker that must not block.
        self.0.stop();
    }
}

impl ActorHost {
    /// Starts the thread, and the runtime unless one was given. Blocks for as long as that takes.
    ///
    /// # Errors
    ///
    /// If the operating system gives no thread, or no reactor.
    pub fn start(options: HostOptions) -> io::Result<Self> {
        let stopped = CancellationToken::new();
        let (ready, started) = mpsc::sync_channel(1);
        let thread = thread::Builder::new().name(options.name.clone());
        let done = stopped.clone().drop_guard();
        thread.spawn(move || {
            let _done = done;
            run_system(&options, &ready);
        })?;
        let (system, stage) = started
            .recv()
            .map_err(|_| io::Error::other("the actors' thread ended before it had started"))??;
        Ok(Self {
            stage,
            owned: Some(Arc::new(Owned(system))),
            stopped,
        })
    }

    /// The actix System of this thread as a host, `None` if there is none: for tests under
    /// `#[actix::test]` and for programs that already have a System. Actors then live on this thread and
    /// share its clock, pumps run on its runtime. [`ActorHost::stop`] leaves it running.
    #[must_use]
    pub fn current() -> Option<Self> {
        let system = System::try_current()?;
        let handle = Handle::try_current().ok()?;
        let stage = Stage {
            actors: system.arbiter().clone(),
            pumps: Pumps::from(handle),
        };
        Some(Self {
            stage,
            owned: None,
            stopped: CancellationToken::new(),
        })
    }

    /// Starts an actor. The address works at once; messages wait until the factory has run.
    ///
    /// May be called from any thread and any runtime. The actor ends when it stops itself or when its last
    /// address is dropped. A panic of the factory or of the actor is logged and closes the address. If the
    /// host has stopped, the address is closed from the beginning.
    pub fn spawn<A>(&self, factory: impl FnOnce(&mut Context<A>) -> A + Send + 'static) -> Addr<A>
    where
        A: Actor<Context = Context<A>>,
    {
        let (addr, ended) = self.stage.launch(CancellationToken::new(), factory);
        // A supervisor handles the status of its actors; for these there is nobody else.
        self.stage.pumps.handle.spawn(async move {
            if let Ok(ExitStatus::Panicked(text)) = ended.await {
                tracing::error!(actor = type_name::<A>(), panic = &*text, "actor panicked");
            }
        });
        addr
    }

    /// The multi-thread runtime on which pumps run, or the one the options named.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.stage.pumps.handle.clone()
    }

    /// What an actor needs to start pumps.
    #[must_use]
    pub fn pumps(&self) -> &Pumps {
        &self.stage.pumps
    }

    pub(super) fn stage(&self) -> &Stage {
        &self.stage
    }

    /// Drops every actor, and with them cancels their pumps, lets these wind up for [`HostOptions::grace`]
    /// and ends the thread. Returns at once; [`ActorHost::stopped`] waits. Actors get no `stopping` call:
    /// whoever wants an orderly end asks them for it first.
    pub fn stop(&self) {
        if let Some(owned) = &self.owned {
            owned.0.stop();
        }
    }

    /// Waits until the thread has ended after [`ActorHost::stop`].
    pub async fn stopped(&self) {
        self.stopped.cancelled().await;
    }
}

type Started = io::Result<(System, Stage)>;

fn run_system(options: &HostOptions, ready: &mpsc::SyncSender<Started>) {
    let runtime = match &options.runtime {
        // Actors never await the network, so this one only drives their timers.
        Some(_) => runtime::Builder::new_current_thread().enable_all().build(),
        // Shared with the System, so that what an actor's handler spawns runs on the workers too.
        None => runtime::Builder::new_multi_thread()
            .worker_threads(options.workers.max(1))
            .thread_name(format!("{}-io", options.name))
            .enable_all()
            .build(),
    };
    let runtime = match runtime {
        Ok(runtime) => Arc::new(runtime),
        Err(error) => return drop(ready.send(Err(error))),
    };
    let pumps = Pumps::from(
        options
            .runtime
            .clone()
            .unwrap_or_else(|| runtime.handle().clone()),
    );
    let runner = System::with_tokio_rt(|| Arc::clone(&runtime));
    let system = System::current();
    let stage = Stage {
        actors: system.arbiter().clone(),
        pumps: pumps.clone(),
    };
    if ready.send(Ok((system, stage))).is_err() {
        return;
    }
    if let Err(error) = runner.run() {
        tracing::error!(%error, "the actors' thread failed");
    }
    // The actors are dropped by now, so their pumps are cancelled.
    pumps.running.close();
    let left = runtime.block_on(async { tokio::time::timeout(options.grace, pumps.running.wait()).await });
    if left.is_err() {
        tracing::warn!(
            pumps = pumps.running.len(),
            "pumps did not end in time and are dropped"
        );
    }
    if let Ok(runtime) = Arc::try_unwrap(runtime) {
        // Does not wait for blocking calls: the servers they talk to may never answer.
        runtime.shutdown_background();
    }
}
