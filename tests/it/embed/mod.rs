//! Each part alone, inside somebody else's program.

mod applier;
mod cutover;
mod streamer;

use std::sync::Arc;
use std::time::Duration;

use changeling_applier::changelog::Changelog;
use changeling_applier::ghost;
use changeling_applier::inspector::Inspection;
use changeling_applier::plan::MigrationPlan;
use changeling_applier::server::{Role, Server};
use changeling_applier::sessions::{Mode, Sessions};

use crate::rig::Rig;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Marks the statements of these tests.
const OWNER: &str = "embed";
/// How often a statement is tried.
const TRIES: u64 = 20;

/// A ghost table beside `orders`, altered, and a changelog table.
struct Tables {
    plan: Arc<MigrationPlan>,
    server: Arc<Server>,
}

impl Tables {
    async fn prepare(rig: &mut Rig, alter: &str) -> anyhow::Result<Self> {
        let settings = rig.settings("orders", alter);
        let inspection = Inspection::begin(&settings).await?;
        let plan = ghost::prepare(&inspection, &settings, OWNER).await?;
        rig.sql(&[Changelog::create_statement(&plan.names.changelog)])
            .await?;
        Ok(Self {
            plan: Arc::new(plan),
            server: Arc::new(inspection.primary),
        })
    }

    /// Sessions that write the ghost table.
    fn writers(&self) -> Sessions {
        self.sessions(Role::Synchroniser, Mode::Writer(self.plan.session.clone()))
    }

    /// Sessions that commit by themselves.
    fn plain(&self) -> Sessions {
        self.sessions(Role::Changelog, Mode::AutoCommit)
    }

    fn sessions(&self, role: Role, mode: Mode) -> Sessions {
        Sessions::new(Arc::clone(&self.server), role, mode, TRIES)
    }
}
