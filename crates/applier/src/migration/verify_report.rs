//! The proof's result as a file, `--verify-report`.

use std::path::Path;

use serde::Serialize;

use super::MigrationError;
use crate::error::ApplyError;
use crate::plan::MigrationPlan;
use crate::progress::Ending;
use crate::proof::ProofProgress;
use crate::settings::{MigrationSettings, VerifyMode};

/// What the file holds.
#[derive(Debug, Serialize)]
struct VerifyReport {
    original: String,
    ghost: String,
    key: String,
    verify: String,
    #[serde(flatten)]
    verdict: Verdict,
    compared: ProofProgress,
}

/// What the comparison came to.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", content = "details", rename_all = "snake_case")]
enum Verdict {
    /// The migration has not ended, or was killed.
    Unfinished,
    /// Everything that `verify` asks for was compared and equal, what changed last under the lock of the swap.
    Equal,
    /// Rows differ; the original is in charge.
    Different(String),
    /// The migration ended before it was known.
    Unknown(String),
    /// `--verify=off`.
    NotCompared,
}

impl Verdict {
    fn of(verify: VerifyMode, result: &Result<Ending, MigrationError>) -> Self {
        match result {
            Err(MigrationError::Apply(ApplyError::Unequal { details })) => Self::Different(details.clone()),
            Err(error) => Self::Unknown(error.to_string()),
            Ok(_) if verify == VerifyMode::Off => Self::NotCompared,
            Ok(Ending::Swapped | Ending::Rehearsed) => Self::Equal,
            Ok(ending) => Self::Unknown(format!("ended as {ending:?}")),
        }
    }
}

/// Writes a first report where one was asked for, before anything is copied.
///
/// # Errors
/// When it cannot be written: who asked for it relies on it.
pub(super) fn begin(settings: &MigrationSettings, plan: &MigrationPlan) -> Result<(), ApplyError> {
    let Some(path) = &settings.verify_report else {
        return Ok(());
    };
    let report = report(settings, plan, Verdict::Unfinished, ProofProgress::default());
    write(path, &report).map_err(|error| {
        let path = path.display();
        ApplyError::Aborted(format!(
            "cannot write {path}: {error}. Choose another --verify-report"
        ))
    })
}

/// Writes the report that stays.
pub(super) fn end(
    settings: &MigrationSettings,
    plan: &MigrationPlan,
    compared: ProofProgress,
    result: &Result<Ending, MigrationError>,
) {
    let Some(path) = &settings.verify_report else {
        return;
    };
    let report = report(settings, plan, Verdict::of(settings.verify, result), compared);
    if let Err(error) = write(path, &report) {
        tracing::error!(%error, "cannot write {}; the report would be {report:?}", path.display());
    }
}

fn report(
    settings: &MigrationSettings,
    plan: &MigrationPlan,
    verdict: Verdict,
    compared: ProofProgress,
) -> VerifyReport {
    VerifyReport {
        original: plan.names.original.to_string(),
        ghost: plan.names.ghost.to_string(),
        key: plan.key.source_name.clone(),
        verify: format!("{:?}", settings.verify).to_lowercase(),
        verdict,
        compared,
    }
}

fn write(path: &Path, report: &VerifyReport) -> std::io::Result<()> {
    let mut text = serde_json::to_string_pretty(report)?;
    text.push('\n');
    std::fs::write(path, text)
}
