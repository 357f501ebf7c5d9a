//! Taking commands for a running migration.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use changeling_applier::control::{ControlCommand, ControlReply};
use changeling_applier::progress::MigrationState;

pub mod answer;
pub mod client;
pub mod socket;

#[cfg(test)]
pub(crate) mod tests;

/// A running migration, as those see it who talk to it.
pub trait Control: Send + Sync + 'static {
    /// How it is now.
    fn state(&self) -> MigrationState;

    /// Tells it something.
    fn command(&self, command: ControlCommand) -> impl Future<Output = ControlReply> + Send;
}

impl<C: Control> Control for Arc<C> {
    fn state(&self) -> MigrationState {
        C::state(self)
    }

    fn command(&self, command: ControlCommand) -> impl Future<Output = ControlReply> + Send {
        C::command(self, command)
    }
}

/// Where a migration of this table listens if nobody says otherwise: gh-ost's path.
#[must_use]
pub fn default_socket(database: &str, table: &str) -> PathBuf {
    PathBuf::from(format!("/tmp/gh-ost.{database}.{table}.sock"))
}
