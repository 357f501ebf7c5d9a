//! Checkpoints of a running migration.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use changeling_core::coords::Coordinates;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;

use super::crew::Instruments;
use crate::checkpoint::{Checkpoint, CheckpointTable, Conversion};
use crate::plan::MigrationPlan;
use crate::progress::{MigrationState, Phase};
use crate::sessions::Sessions;
use crate::settings::MigrationSettings;

/// How long the last checkpoint may take when the migration is stopped.
const LAST: Duration = Duration::from_secs(10);

/// The checkpoint of a migration that has done nothing yet: its stream begins at `start`.
pub(super) fn first(
    settings: &MigrationSettings,
    plan: &MigrationPlan,
    owner: &str,
    start: &Coordinates,
) -> Checkpoint {
    Checkpoint {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        owner: owner.to_owned(),
        alter: settings.alter.clone(),
        original: plan.original.clone(),
        ghost: plan.ghost.clone(),
        old: Some(plan.names.old.clone()),
        deferred_indexes: plan.deferred_indexes.clone(),
        conversion: Some(Conversion::of(plan)),
        upto: start.clone(),
        watermark: None,
        rows_copied: 0,
        events_applied: 0,
        copy_complete: false,
        attempts: 0,
    }
}

/// Where checkpoints are made from.
#[derive(Debug)]
pub(super) struct Checkpoints {
    pub settings: MigrationSettings,
    pub plan: Arc<MigrationPlan>,
    pub owner: String,
    pub instruments: Instruments,
    pub sessions: Sessions,
    pub state: watch::Sender<MigrationState>,
    pub attempts: Arc<AtomicU64>,
}

impl Checkpoints {
    /// The checkpoint of this moment; `None` before the first cycle.
    fn now(&self) -> Option<Checkpoint> {
        // Both only grow, and each is true by itself; see [`crate::checkpoint`].
        let copy = self.instruments.copy.borrow().clone();
        let upto = self.instruments.cycles.borrow().upto.clone()?;
        let state = self.state.borrow();
        Some(Checkpoint {
            watermark: copy.watermark,
            rows_copied: copy.rows,
            events_applied: state.events_applied,
            copy_complete: state.phase > Phase::Copying,
            attempts: self.attempts.load(Ordering::Relaxed),
            ..first(&self.settings, &self.plan, &self.owner, &upto)
        })
    }

    /// Writes one each interval until it is dropped. A failure is logged; the checkpoint before stays.
    pub(super) async fn keep(self) {
        let Some(interval) = self.settings.checkpoint.interval else {
            return;
        };
        let never = CancellationToken::new();
        let mut table = CheckpointTable::new(self.plan.names.checkpoint.clone(), &self.sessions);
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let Some(checkpoint) = self.now() else { continue };
            match table.write(&checkpoint, &never).await {
                Ok(()) => tracing::info!("checkpoint success at coords={}", checkpoint.upto),
                Err(error) => tracing::warn!(%error, "checkpoint failed; the one before stays"),
            }
        }
    }

    /// Writes the last one, and says how to go on.
    pub(super) async fn last(self) -> String {
        if self.settings.checkpoint.interval.is_none() {
            return "No checkpoints are written, so start again with --initially-drop-ghost-table".to_owned();
        }
        let mut table = CheckpointTable::new(self.plan.names.checkpoint.clone(), &self.sessions);
        let never = CancellationToken::new();
        let written = match self.now() {
            Some(checkpoint) => timeout(LAST, table.write(&checkpoint, &never)).await,
            // The one of the start, or of an earlier run, stays.
            None => return "Go on with the same command and --resume".to_owned(),
        };
        match written {
            Ok(Ok(())) => "Go on with the same command and --resume".to_owned(),
            Ok(Err(error)) => format!(
                "The last checkpoint could not be written ({error}); the one before stays: go on with the same command \
                 and --resume"
            ),
            Err(_) => {
                "The last checkpoint could not be written in time; the one before stays: go on with the same \
                 command and --resume"
                    .to_owned()
            }
        }
    }
}
