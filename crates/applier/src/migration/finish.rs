//! The ends of a migration: instant, dry, and cleaning up.

use std::time::Duration;

use changeling_core::ident::TableName;

use super::begin::{self, Prepared};
use super::pump::MigrationPump;
use super::{MigrationError, Outcome, resume};
use crate::checkpoint::Checkpoint;
use crate::ghost::Definer;
use crate::inspector::Inspection;
use crate::instant::{self, InstantOutcome};
use crate::plan::TableNames;
use crate::progress::{Ending, MigrationSummary, Phase};
use crate::server::{ErrorKind, ServerError};
use crate::settings::{Permission, Purpose, Resume};

/// Has the server change the table at once, if it was asked for and the server can.
pub(super) async fn instant(
    pump: &MigrationPump,
    inspection: &Inspection,
) -> Result<Option<MigrationSummary>, MigrationError> {
    let settings = &pump.settings;
    // What is resumed was not instant.
    let resumes = settings.checkpoint.resume == Resume::Require;
    if settings.attempt_instant == Permission::Refused || settings.purpose == Purpose::DryRun || resumes {
        return Ok(None);
    }
    let outcome = instant::attempt(
        &inspection.primary,
        &inspection.names.original,
        &inspection.instant_body,
        &inspection.definition,
        settings.cut_over.lock_timeout * 2,
        settings.retries,
        &begin::token(),
    )
    .await?;
    match outcome {
        InstantOutcome::Done => {
            tracing::info!("{} was altered at once by the server", inspection.names.original);
            pump.phase(Phase::Done);
            Ok(Some(MigrationSummary {
                state: pump.state.borrow().clone(),
                ending: Ending::Instant,
            }))
        }
        InstantOutcome::NotInstant(why) => {
            tracing::info!("not instant: {why}; migrating");
            Ok(None)
        }
    }
}

/// Says what would be done, and drops what was created to find out.
pub(super) async fn dry_run(pump: &MigrationPump, inspection: &Inspection, prepared: &Prepared) -> Outcome {
    let plan = &prepared.plan;
    let definition = async {
        let mut definer = Definer::open(&inspection.primary, &inspection.definition, &prepared.owner).await?;
        definer.definition(&plan.names.ghost).await
    };
    let definition = definition.await;
    begin::discard(inspection, &[&plan.names.ghost], &prepared.owner).await;
    let ending = Ending::DryRun {
        ghost_definition: definition?,
        plan: begin::describe(&pump.settings, plan, pump.state.borrow().rows_estimate),
    };
    pump.phase(Phase::Done);
    Ok(MigrationSummary {
        state: pump.state.borrow().clone(),
        ending,
    })
}

/// Finishes what an earlier run, killed after its swap, could not.
pub(super) async fn after_swap(
    pump: &MigrationPump,
    inspection: &Inspection,
    checkpoint: &Checkpoint,
) -> MigrationSummary {
    let names = resume::names(inspection, checkpoint);
    tracing::info!("{} was swapped by the earlier run; cleaning up", names.original);
    clean_up(pump, inspection, &names, &checkpoint.owner, &Ending::Swapped).await;
    pump.state.send_modify(|state| {
        state.rows_copied = checkpoint.rows_copied;
        state.events_applied = checkpoint.events_applied;
    });
    pump.phase(Phase::Done);
    MigrationSummary {
        state: pump.state.borrow().clone(),
        ending: Ending::Swapped,
    }
}

/// Drops what is not needed any more, the checkpoint last: as long as it is there, this can be resumed.
/// The new table is in place whatever fails here, so failures are named, not fatal.
pub(super) async fn clean_up(
    pump: &MigrationPump,
    inspection: &Inspection,
    names: &TableNames,
    owner: &str,
    ending: &Ending,
) {
    pump.phase(Phase::Finishing);
    let mut tables = vec![&names.changelog];
    let dropped = pump.settings.leftovers.drop_old_last.granted();
    if *ending == Ending::Swapped && dropped {
        tables.push(&names.old);
    } else if *ending == Ending::Swapped {
        tracing::info!("the original is kept as {}; drop it when you are sure", names.old);
    }
    tables.push(&names.checkpoint);
    for table in tables {
        if let Err(error) = drop_for_good(inspection, table, owner).await {
            tracing::error!(%error, "{table} is left behind; drop it");
        }
    }
}

/// Again, if the session is lost on the way: nobody comes back for these tables.
async fn drop_for_good(inspection: &Inspection, table: &TableName, owner: &str) -> Result<(), ServerError> {
    const TRIES: u32 = 5;
    const PAUSE: Duration = Duration::from_secs(1);
    let mut tries = 1;
    loop {
        let dropped = async {
            let mut definer = Definer::open(&inspection.primary, &inspection.definition, owner).await?;
            definer.drop(table).await
        };
        match dropped.await {
            Err(error) if matches!(error.kind, ErrorKind::Lost | ErrorKind::Unreachable) && tries < TRIES => {
                tries += 1;
                tokio::time::sleep(PAUSE).await;
            }
            result => return result,
        }
    }
}
