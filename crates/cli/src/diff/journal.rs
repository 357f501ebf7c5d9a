//! The journal that lies beside a report, from the operator's side.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use changeling_core::ident::TableName;
use changeling_differ::journal::{JobIdentity, Journal};
use changeling_differ::model::JobSummary;

use crate::args::diff::TableDiffArgs;
use crate::render::screen::Screen;

use super::output::Report;

/// The extension of a journal's file name.
const EXTENSION: &str = "journal";

/// A report and the journal that goes with it.
pub(super) struct Opened {
    pub(super) report: Report,
    pub(super) journal: Option<Journal>,
}

/// Makes a new journal or opens the one to go on with. A resumed comparison writes the report that the journal belongs
/// to anew, in the journal's directory: what the killed run left of it says less.
///
/// A comparison that only counts writes no file, so it has no journal either.
pub(super) fn open(
    arguments: &TableDiffArgs,
    table: &TableName,
    identity: &JobIdentity,
) -> anyhow::Result<Opened> {
    if let Some(path) = &arguments.resume {
        let journal = Journal::resume(path, identity)?;
        let name = Path::new(journal.report())
            .file_name()
            .context("the journal names no report")?;
        return Ok(Opened {
            report: Report::Files {
                lines: path.with_file_name(name),
                form: arguments.output,
            },
            journal: Some(journal),
        });
    }
    let report = Report::new(arguments, table);
    let journal = match &report {
        Report::Files { lines, .. } if !arguments.no_journal => {
            let name = lines.file_name().unwrap_or_default().to_string_lossy();
            Some(Journal::create(&beside(lines), &name, identity)?)
        }
        _ => None,
    };
    Ok(Opened { report, journal })
}

fn beside(lines: &Path) -> PathBuf {
    lines.with_extension(EXTENSION)
}

/// Removes the journal of a comparison that has nothing left to go on with. True if there is none any more.
///
/// What is only in flight is for `table-rerun`. As many differences as were wanted leave the rest unknown, and the
/// operator may want more of them; one who stops at the first does not.
pub(super) fn conclude(path: &Path, summary: &JobSummary, fail_fast: bool, screen: &Screen) -> bool {
    let limited = summary.limit_reached && !fail_fast;
    if summary.cancelled || limited || summary.unknown > 0 {
        return false;
    }
    if let Err(error) = std::fs::remove_file(path) {
        screen.complain(&format!(
            "warning: the journal {} is not needed any more and could not be removed: {error}\n",
            path.display()
        ));
    }
    true
}

/// What to do with a journal that is left.
pub(super) fn how_to_go_on(path: &Path) -> String {
    format!(
        "to go on with the rest: the same command with --resume {}",
        path.display()
    )
}
