//! The migration actor: answers the operator at any time.

use std::sync::atomic::Ordering;

use actix::{Actor, Context, Handler, ResponseFuture};
use changeling_core::actor::{Observe, answer_get_state};
use tokio::sync::watch;

use super::levers::Levers;
use crate::control::{ControlCommand, ControlReply};
use crate::error::ApplyError;
use crate::progress::{LiveSettings, MigrationState};
use crate::throttle::ThrottleCommand;

/// gh-ost's limits for `dml-batch-size`.
const BATCH_KEYS: std::ops::RangeInclusive<usize> = 1..=1000;

/// Answers commands while the migration's pump does the work.
///
/// *Messages in*: [`ControlCommand`], [`changeling_core::actor::GetState`]. *Ports out*: the throttler, and the levers
/// that the pump obeys. *Owns*: nothing. *Survives a restart*: everything; the levers are shared. *Ends* with its
/// handle.
#[derive(Debug)]
pub struct Migration {
    levers: Levers,
    state: watch::Sender<MigrationState>,
}

impl Migration {
    pub(super) fn new(levers: Levers, state: watch::Sender<MigrationState>) -> Self {
        Self { levers, state }
    }

    fn done(&self) -> ControlReply {
        ControlReply::Done(Box::new(self.state.borrow().clone()))
    }

    /// Commands that need no other actor.
    fn at_once(&self, command: &ControlCommand) -> Option<ControlReply> {
        match command {
            ControlCommand::Status => {}
            ControlCommand::ChunkSize(rows) => self.levers.copy.size().fix(*rows),
            ControlCommand::NiceRatio(ratio) => self.levers.copy.set_nice_ratio(*ratio),
            ControlCommand::DmlBatchSize(keys) => {
                let keys = (*keys).clamp(*BATCH_KEYS.start(), *BATCH_KEYS.end());
                self.levers.batch_keys.store(keys, Ordering::Relaxed);
            }
            ControlCommand::Postpone(path) => return Some(self.postpone(path)),
            ControlCommand::Unpostpone => return Some(self.unpostpone()),
            ControlCommand::Panic => self.levers.fault(ApplyError::Aborted(
                "User commanded 'panic'. The migration will be aborted without cleanup. Please drop the gh-ost tables \
                 before trying again, or go on with --resume"
                    .to_owned(),
            )),
            _ => return None,
        }
        // The next snapshot has it too, but the answer to this command is to show it.
        self.state
            .send_modify(|state| note(&mut state.settings, command.clone()));
        Some(self.done())
    }

    fn postpone(&self, path: &std::path::Path) -> ControlReply {
        let created = std::fs::OpenOptions::new().create(true).append(true).open(path);
        if let Err(error) = created {
            return ControlReply::Refused(format!("cannot create {}: {error}", path.display()));
        }
        self.levers.postponement.send_modify(|postponement| {
            postponement.file = Some(path.to_owned());
            postponement.lifted = false;
        });
        self.state
            .send_modify(|state| state.settings.postpone_flag_file = Some(path.display().to_string()));
        self.done()
    }

    fn unpostpone(&self) -> ControlReply {
        if !*self.levers.postponing.borrow() {
            return ControlReply::Refused(
                "You may only invoke this when gh-ost is actively postponing migration. At \
                 this time it is not."
                    .to_owned(),
            );
        }
        self.levers
            .postponement
            .send_modify(|postponement| postponement.lifted = true);
        self.done()
    }
}

impl Actor for Migration {
    type Context = Context<Self>;
}

impl Handler<ControlCommand> for Migration {
    type Result = ResponseFuture<ControlReply>;

    fn handle(&mut self, command: ControlCommand, _: &mut Self::Context) -> Self::Result {
        if let Some(reply) = self.at_once(&command) {
            return Box::pin(async move { reply });
        }
        let throttler = self.levers.throttler();
        let state = self.state.clone();
        Box::pin(async move {
            let (Some(throttler), Some(to_throttler)) = (throttler, ThrottleCommand::from_control(&command))
            else {
                return ControlReply::Refused("not yet: the migration is still being prepared".to_owned());
            };
            match throttler.send(to_throttler).await {
                Ok(()) => {
                    state.send_modify(|state| note(&mut state.settings, command));
                    ControlReply::Done(Box::new(state.borrow().clone()))
                }
                Err(_) => ControlReply::Refused("the migration is ending".to_owned()),
            }
        })
    }
}

/// Shows what a command has changed.
fn note(settings: &mut LiveSettings, command: ControlCommand) {
    match command {
        ControlCommand::ChunkSize(rows) => settings.chunk_size = rows,
        ControlCommand::NiceRatio(ratio) => settings.nice_ratio = ratio,
        ControlCommand::MaxLag(limit) => settings.max_lag = limit,
        ControlCommand::MaxLoad(limits) => settings.max_load = limits,
        ControlCommand::CriticalLoad(limits) => settings.critical_load = limits,
        ControlCommand::ThrottleQuery(query) => settings.throttle_query = query,
        ControlCommand::ControlReplicas(replicas) => {
            settings.control_replicas = replicas
                .into_iter()
                .map(|(host, port)| format!("{host}:{port}"))
                .collect();
        }
        _ => {}
    }
}

impl Observe for Migration {
    type State = MigrationState;

    fn observe(&self) -> MigrationState {
        self.state.borrow().clone()
    }
}

answer_get_state!(Migration);
