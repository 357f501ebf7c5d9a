//! From the settings to a ghost table and a place to start the stream.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use changeling_core::change_source::ChangeSource;
use changeling_core::coords::Coordinates;
use changeling_core::ident::TableName;

use super::resume::{self, Earlier};
use super::{MigrationError, checkpoints};
use crate::changelog::Changelog;
use crate::checkpoint::{Begun, Checkpoint, CheckpointTable};
use crate::error::ApplyError;
use crate::ghost::{self, Definer};
use crate::inspector::{InspectError, Inspection};
use crate::plan::MigrationPlan;
use crate::server::{Role, Server, ServerError};
use crate::sessions::{Mode, Sessions};
use crate::settings::{MigrationSettings, Permission, Purpose};

/// What the work starts from.
pub(super) struct Prepared {
    pub plan: Arc<MigrationPlan>,
    pub owner: String,
    pub start: Coordinates,
    /// Where an earlier run stopped.
    pub resumed: Option<Box<Checkpoint>>,
    pub written: Arc<Server>,
    pub inspected: Arc<Server>,
}

/// Where a run begins.
pub(super) enum Start {
    /// With this.
    Work(Box<Prepared>),
    /// At the end: an earlier run has swapped the tables, and was killed before it could clean up.
    Swapped(Box<Checkpoint>),
}

/// Creates our tables, or finds those of an earlier run.
pub(super) async fn prepare(
    settings: &MigrationSettings,
    inspection: &Inspection,
    source: &dyn ChangeSource,
) -> Result<Start, MigrationError> {
    let written = Arc::new(inspection.primary.clone());
    let inspected = Arc::new(inspection.source.clone());
    if settings.purpose == Purpose::Execute {
        match resume::find(settings, inspection, source).await? {
            Earlier::Nothing => inspection.check_free(settings).await?,
            Earlier::Swapped(checkpoint) => return Ok(Start::Swapped(checkpoint)),
            Earlier::Unfinished(checkpoint, plan) => {
                return Ok(Start::Work(Box::new(Prepared {
                    plan: Arc::new(*plan),
                    owner: checkpoint.owner.clone(),
                    start: checkpoint.upto.clone(),
                    resumed: Some(checkpoint),
                    written,
                    inspected,
                })));
            }
        }
    }
    let owner = token();
    ghost::make_room(inspection, settings, &owner).await?;
    note_beginning(settings, inspection, &owner).await?;
    let plan = match ghost::prepare(inspection, settings, &owner).await {
        Ok(plan) => plan,
        Err(error) => {
            let names = &inspection.names;
            let mut ours = vec![];
            if !already_there(&error) {
                // Dropped by then, unless the connection was lost over it.
                ours.push(&names.ghost);
            }
            if settings.purpose == Purpose::Execute {
                ours.push(&names.checkpoint);
            }
            discard(inspection, &ours, &owner).await;
            return Err(error.into());
        }
    };
    let created = if settings.purpose == Purpose::Execute {
        create_rest(settings, inspection, &plan, &owner, source).await
    } else {
        source
            .current()
            .await
            .map_err(|error| ApplyError::Stream(error.message).into())
    };
    match created {
        Ok(start) => Ok(Start::Work(Box::new(Prepared {
            plan: Arc::new(plan),
            owner,
            start,
            resumed: None,
            written,
            inspected,
        }))),
        Err(error) => {
            discard(inspection, &ours(settings, &plan), &owner).await;
            Err(error)
        }
    }
}

/// Whether the ghost table was not made because somebody else has made one since its name was looked at.
fn already_there(error: &InspectError) -> bool {
    const TABLE_EXISTS: u16 = 1050;
    matches!(error, InspectError::Server(error) if error.errno() == Some(TABLE_EXISTS))
}

/// The checkpoint table comes first, with the word that what comes next may be dropped by whoever finds it without a
/// checkpoint. A ghost table that may be dropped is gone by now: the new word must not be found beside it.
async fn note_beginning(
    settings: &MigrationSettings,
    inspection: &Inspection,
    owner: &str,
) -> Result<(), MigrationError> {
    if settings.purpose != Purpose::Execute || settings.checkpoint.interval.is_none() {
        return Ok(());
    }
    let never = tokio_util::sync::CancellationToken::new();
    let mut table = checkpoint_table(settings, inspection);
    table.create(&never).await?;
    let begun = Begun {
        owner: owner.to_owned(),
    };
    Ok(table.begin(&begun, &never).await?)
}

fn checkpoint_table(settings: &MigrationSettings, inspection: &Inspection) -> CheckpointTable {
    let server = Arc::new(inspection.primary.clone());
    let sessions = Sessions::new(server, Role::Changelog, Mode::AutoCommit, settings.retries);
    CheckpointTable::new(inspection.names.checkpoint.clone(), &sessions)
}

/// What a run that is not gone on with drops: a dry run creates the ghost table only.
pub(super) fn ours<'a>(settings: &MigrationSettings, plan: &'a MigrationPlan) -> Vec<&'a TableName> {
    let names = &plan.names;
    match settings.purpose {
        Purpose::Execute => vec![&names.ghost, &names.changelog, &names.checkpoint],
        Purpose::DryRun => vec![&names.ghost],
    }
}

/// Changelog and checkpoint tables, and the position from which the stream begins: before the first marker and the
/// first row that is copied.
async fn create_rest(
    settings: &MigrationSettings,
    inspection: &Inspection,
    plan: &MigrationPlan,
    owner: &str,
    source: &dyn ChangeSource,
) -> Result<Coordinates, MigrationError> {
    let start = source
        .current()
        .await
        .map_err(|error| ApplyError::Stream(error.message))?;
    let mut definer = Definer::open(&inspection.primary, &inspection.definition, owner).await?;
    let changelog = &plan.names.changelog;
    definer.drop(changelog).await?;
    definer
        .run(
            &Changelog::create_statement(changelog),
            &format!("create the changelog table {changelog}"),
        )
        .await?;
    if settings.checkpoint.interval.is_some() {
        let never = tokio_util::sync::CancellationToken::new();
        // From here on a run that is killed can be resumed.
        checkpoint_table(settings, inspection)
            .write(&checkpoints::first(settings, plan, owner, &start), &never)
            .await?;
    }
    Ok(start)
}

/// Drops what a start that failed, or a dry run, has created. What cannot be dropped is named in the log, and so is what
/// comes after it: the checkpoint table is the last, and says to a run with `--resume` what to do with the others.
pub(super) async fn discard(inspection: &Inspection, tables: &[&TableName], owner: &str) {
    let mut left = tables;
    let dropped = async {
        let mut definer = Definer::open(&inspection.primary, &inspection.definition, owner).await?;
        while let [table, rest @ ..] = left {
            definer.drop(table).await?;
            left = rest;
        }
        Ok::<(), ServerError>(())
    };
    if let Err(error) = dropped.await {
        let names: Vec<String> = left.iter().map(ToString::to_string).collect();
        tracing::error!(%error, "our tables are left behind: {}; run again with --resume, or drop them", names.join(", "));
    }
}

/// The lines of the plan, for a dry run.
pub(super) fn describe(settings: &MigrationSettings, plan: &MigrationPlan, rows: u64) -> Vec<String> {
    let names = &plan.names;
    let key: Vec<&str> = plan
        .key
        .columns
        .iter()
        .map(|column| column.source.name.as_str())
        .collect();
    let mut lines = vec![
        format!(
            "copy about {rows} rows of {} to {}, {} columns",
            names.original,
            names.ghost,
            plan.columns.len()
        ),
        format!("find rows by key `{}` ({})", plan.key.source_name, key.join(", ")),
        format!(
            "{} copy workers, {} apply lanes",
            settings.copy.workers, settings.lanes
        ),
    ];
    let renamed: Vec<String> = plan
        .columns
        .iter()
        .filter(|pair| pair.source.name != pair.target.name)
        .map(|pair| format!("`{}` → `{}`", pair.source.name, pair.target.name))
        .collect();
    if !renamed.is_empty() {
        lines.push(format!("renamed columns: {}", renamed.join(", ")));
    }
    if !plan.deferred_indexes.is_empty() {
        let names: Vec<&str> = plan
            .deferred_indexes
            .iter()
            .map(|index| index.name.as_str())
            .collect();
        lines.push(format!("build after the copy: {}", names.join(", ")));
    }
    lines.push(format!("prove: {:?}", settings.verify).to_lowercase());
    let dropped = settings.leftovers.drop_old_last == Permission::Granted;
    lines.push(format!(
        "swap, then {} {}",
        if dropped { "drop" } else { "keep the original as" },
        names.old
    ));
    lines
}

/// A token that marks this migration's statements.
pub(super) fn token() -> String {
    let random = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", random(), random())
}
