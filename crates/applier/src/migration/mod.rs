//! The migration: who does what, in which order, and what happens when something goes wrong.
//!
//! [`Migration::start`] brings up an actor that answers commands at any time and a pump that walks through the
//! phases of [`crate::progress::Phase`]. The pump owns the crew: stream, applier, throttler, heartbeat,
//! cut-over. Whatever one of them reports as its end, and every reason to abort, arrives as one *fault*, and the
//! first fault ends the migration with the original table in charge.

mod actor;
mod begin;
mod checkpoints;
mod crew;
mod finish;
mod levers;
mod lock;
mod pump;
mod recover;
mod resume;
mod status;
mod swap;
mod verify_report;

use std::sync::Arc;

use changeling_core::actor::{ActorHost, ExitStatus, OnExit, Pump};
use changeling_core::change_source::ChangeSource;
use changeling_core::verify::Verifier;
use mysql_async::Conn;
use tokio::sync::{Mutex, oneshot, watch};
use tokio_util::sync::CancellationToken;

pub use actor::Migration;

use crate::control::{ControlCommand, ControlReply};
use crate::error::ApplyError;
use crate::inspector::InspectError;
use crate::progress::{MigrationState, MigrationSummary};
use crate::server::{Server, ServerError};
use crate::settings::MigrationSettings;

/// Makes the stream of the inspected server's changes, once that server is known.
pub type SourceFactory = Box<dyn FnOnce(&Server) -> Arc<dyn ChangeSource> + Send>;

/// What proves the ghost table.
pub type ProofBy = Arc<dyn Verifier<Conn>>;

/// Why a migration ended without its purpose. The original table is in charge, unless the text says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// Something stands in the way; nothing was changed.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// A server said no.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// It failed on the way.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// Another migration of this table is running.
    #[error("another gh-ost process is already migrating {table} (or another changeling); {hint}")]
    Busy {
        /// The table.
        table: String,
        /// What to do.
        hint: String,
    },
    /// It cannot be resumed, and why.
    #[error("cannot resume: {0}")]
    Resume(String),
    /// Stopped on request.
    #[error("stopped on request; the original table is in charge. {0}")]
    Stopped(String),
    /// Whether the tables were swapped is unknown.
    #[error("{0}")]
    Unknown(String),
    /// The pump ended without saying anything.
    #[error("the migration ended: {0}")]
    Ended(ExitStatus),
}

/// A running migration. It is stopped when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct MigrationHandle {
    addr: actix::Addr<Migration>,
    state: watch::Receiver<MigrationState>,
    stop: CancellationToken,
    outcome: Arc<Mutex<Option<oneshot::Receiver<Outcome>>>>,
    _pump: Arc<Pump>,
}

/// How a migration ends.
pub(crate) type Outcome = Result<MigrationSummary, MigrationError>;

impl MigrationHandle {
    /// Its state, as it changes.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<MigrationState> {
        self.state.clone()
    }

    /// Carries out a command. Answered also while the migration waits for a server.
    pub async fn command(&self, command: ControlCommand) -> ControlReply {
        self.addr
            .send(command)
            .await
            .unwrap_or_else(|_| ControlReply::Refused("the migration has ended".to_owned()))
    }

    /// Asks it to stop: a swap under way is finished or undone, a checkpoint is written.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// How it ended. Only the first caller is told. Cancel-safe: who gives up waiting may ask again.
    ///
    /// # Errors
    /// Why it did not reach its purpose.
    pub async fn outcome(&self) -> Outcome {
        let mut waiting = self.outcome.lock().await;
        let Some(outcome) = waiting.as_mut() else {
            return Err(MigrationError::Ended(ExitStatus::Success));
        };
        let outcome = outcome
            .await
            .unwrap_or_else(|_| Err(MigrationError::Ended(ExitStatus::Cancelled)));
        *waiting = None;
        outcome
    }
}

impl Migration {
    /// Starts a migration on this host.
    #[must_use]
    pub fn start(
        host: &ActorHost,
        settings: MigrationSettings,
        source: SourceFactory,
        verifier: ProofBy,
    ) -> MigrationHandle {
        let stop = CancellationToken::new();
        let (answer, outcome) = oneshot::channel();
        let levers = levers::Levers::new(&settings);
        let state = status::initial(&settings);
        let (state, seen) = watch::channel(state);
        let pump = pump::MigrationPump::new(
            host.clone(),
            settings,
            verifier,
            levers.clone(),
            state.clone(),
            stop.clone(),
        );
        let work = async move {
            let outcome = pump.run(source).await;
            let status = match &outcome {
                Ok(_) => ExitStatus::Success,
                Err(MigrationError::Stopped(_)) => ExitStatus::Cancelled,
                Err(error) => ExitStatus::failed(error.to_string()),
            };
            // Nobody waiting is no reason not to have finished.
            let _ = answer.send(outcome);
            status
        };
        let pump = Pump::spawn(host.pumps(), "migration", stop.clone(), work, OnExit::ignore());
        let actor = Migration::new(levers, state);
        let addr = host.spawn(move |_| actor);
        MigrationHandle {
            addr,
            state: seen,
            stop,
            outcome: Arc::new(Mutex::new(Some(outcome))),
            _pump: Arc::new(pump),
        }
    }
}
