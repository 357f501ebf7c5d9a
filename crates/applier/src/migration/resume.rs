//! Going on where an earlier run stopped.

use changeling_core::change_source::ChangeSource;

use super::MigrationError;
use super::recover::{self, Left};
use crate::checkpoint::{Begun, Checkpoint, Conversion, Found, read, read_swap_names};
use crate::ghost::Definer;
use crate::inspector::Inspection;
use crate::plan::{MigrationPlan, TableNames};
use crate::server::Role;
use crate::sessions::{Mode, Sessions};
use crate::settings::{MigrationSettings, Resume};
use crate::trigger;

/// What an earlier run has left.
pub(super) enum Earlier {
    /// Nothing that is to be gone on with.
    Nothing,
    /// A migration in its middle.
    Unfinished(Box<Checkpoint>, Box<MigrationPlan>),
    /// A migration after its swap.
    Swapped(Box<Checkpoint>),
}

/// Finds a checkpoint to go on from, and makes sure that it still fits: the same ALTER, the same tables, and a server
/// that still has every change since. With `--resume=auto`, nothing where there is no checkpoint or another ALTER's.
///
/// Tables that a run killed inside a swap has left under other names get their usual ones back, resumed or not: what
/// is not resumed is then found by its name. Nothing else is changed or deleted here, whatever does not fit.
pub(super) async fn find(
    settings: &MigrationSettings,
    inspection: &Inspection,
    source: &dyn ChangeSource,
) -> Result<Earlier, MigrationError> {
    let server = std::sync::Arc::new(inspection.primary.clone());
    let sessions = Sessions::new(server, Role::Changelog, Mode::AutoCommit, settings.retries);
    let mut conn = sessions.open().await?;
    let table = &inspection.names.checkpoint;
    let required = settings.checkpoint.resume == Resume::Require;
    let checkpoint = match read(&mut conn, &sessions, table).await? {
        Found::Checkpoint(checkpoint) => checkpoint,
        Found::Begun(begun) if settings.resumes() => {
            begin_anew(inspection, &begun).await?;
            return Ok(Earlier::Nothing);
        }
        Found::Nothing if required => {
            return Err(MigrationError::Resume(format!(
                "there is no checkpoint in {table}; start without --resume, and with --initially-drop-ghost-table if \
                 {} exists",
                inspection.names.ghost
            )));
        }
        Found::Unreadable(why) if settings.resumes() => {
            return Err(MigrationError::Resume(format!(
                "the checkpoint in {table} was written by another version: {why}; finish with that version, or start \
                 with --initially-drop-ghost-table and without --resume"
            )));
        }
        Found::Nothing | Found::Empty | Found::Begun(_) | Found::Unreadable(_) => {
            return Ok(Earlier::Nothing);
        }
    };
    let names = names(inspection, &checkpoint);
    let swap = read_swap_names(&mut conn, &sessions, table).await?;
    let left = recover::put_right(settings, inspection, &checkpoint, swap, &names).await?;
    if !settings.resumes() {
        return Ok(Earlier::Nothing);
    }
    if checkpoint.alter.trim() != settings.alter.trim() {
        if !required {
            return Ok(Earlier::Nothing);
        }
        return Err(MigrationError::Resume(format!(
            "the checkpoint in {table} belongs to another ALTER: {}; go on with that one, or start with \
             --initially-drop-ghost-table and without --resume",
            checkpoint.alter
        )));
    }
    match left {
        Left::Swapped => return Ok(Earlier::Swapped(checkpoint)),
        Left::Nothing => {
            return Err(MigrationError::Resume(format!(
                "there is a checkpoint in {table}, but {} is gone; start without --resume",
                names.ghost
            )));
        }
        Left::Ghost => {}
    }
    let plan = matching_plan(settings, inspection, &checkpoint).await?;
    source.check_start(&checkpoint.upto).await.map_err(|error| {
        MigrationError::Resume(format!(
            "{error}. Start with --initially-drop-ghost-table and without --resume"
        ))
    })?;
    make_ready(settings, inspection, &plan, &checkpoint).await?;
    Ok(Earlier::Unfinished(checkpoint, Box::new(plan)))
}

/// Drops what a run has created that was killed before its first checkpoint: there is no row in it. The names were free
/// when that run looked, after which it noted that it had begun; and the migration's lock is ours now.
async fn begin_anew(inspection: &Inspection, begun: &Begun) -> Result<(), MigrationError> {
    let names = &inspection.names;
    tracing::info!(
        "the run before was ended before it had copied anything; its tables are dropped, and {} is begun anew",
        names.original
    );
    let mut definer = Definer::open(&inspection.primary, &inspection.definition, &begun.owner).await?;
    for table in [&names.ghost, &names.changelog, &names.checkpoint] {
        definer.drop(table).await?;
    }
    Ok(())
}

/// The names of the earlier run.
pub(super) fn names(inspection: &Inspection, checkpoint: &Checkpoint) -> TableNames {
    let names = inspection.names.clone();
    TableNames {
        old: checkpoint.old.clone().unwrap_or(names.old),
        ..names
    }
}

/// Makes D's name free, if that was asked for, and drops the triggers that an attempt has made on the ghost table: they
/// would fire for every row that is written to it.
async fn make_ready(
    settings: &MigrationSettings,
    inspection: &Inspection,
    plan: &MigrationPlan,
    checkpoint: &Checkpoint,
) -> Result<(), MigrationError> {
    let names = &plan.names;
    let mut definer = Definer::open(&inspection.primary, &inspection.definition, &checkpoint.owner).await?;
    if definer
        .definition(&names.changelog)
        .await
        .unwrap_or_default()
        .is_empty()
    {
        return Err(MigrationError::Resume(format!(
            "there is a checkpoint, but {} is gone; start with --initially-drop-ghost-table and without --resume",
            names.changelog
        )));
    }
    let triggers = trigger::plan(
        &inspection.triggers,
        &settings.triggers,
        &names.ghost,
        &checkpoint.owner,
    );
    for trigger in triggers {
        definer
            .run(&trigger.drop, "drop a trigger of an earlier attempt")
            .await?;
    }
    if settings.leftovers.drop_old_first.granted() {
        definer.drop(&names.old).await?;
    } else if !definer
        .definition(&names.old)
        .await
        .unwrap_or_default()
        .is_empty()
    {
        return Err(MigrationError::Resume(format!(
            "table {} stands where {} is to be kept; look at it, then drop it or use --initially-drop-old-table",
            names.old, names.original
        )));
    }
    Ok(())
}

async fn matching_plan(
    settings: &MigrationSettings,
    inspection: &Inspection,
    checkpoint: &Checkpoint,
) -> Result<MigrationPlan, MigrationError> {
    let afresh = "start with --initially-drop-ghost-table and without --resume";
    if checkpoint.original != inspection.original.schema {
        return Err(MigrationError::Resume(format!(
            "{} was changed since the checkpoint; {afresh}",
            inspection.names.original
        )));
    }
    let ghost = inspection.read_ghost().await?;
    if checkpoint.ghost != ghost.schema {
        return Err(MigrationError::Resume(format!(
            "{} is not the table that the checkpoint speaks of; {afresh}",
            inspection.names.ghost
        )));
    }
    let mut plan = inspection
        .plan(settings, &ghost)
        .map_err(crate::inspector::InspectError::from)?;
    let differences = checkpoint
        .conversion
        .as_ref()
        .map(|before| before.differences(&Conversion::of(&plan)))
        .unwrap_or_default();
    if !differences.is_empty() {
        return Err(MigrationError::Resume(format!(
            "rows would not be converted as they were before the checkpoint: {}; put that back, or {afresh}",
            differences.join("; ")
        )));
    }
    plan.names = names(inspection, checkpoint);
    plan.deferred_indexes.clone_from(&checkpoint.deferred_indexes);
    Ok(plan)
}
