//! What is printed at the end.

use changeling_applier::progress::{Ending, MigrationSummary};

/// What goes to standard output after a success, with line ends. The last line is gh-ost's `# Done`.
#[must_use]
pub fn ending(summary: &MigrationSummary) -> String {
    let mut text = String::new();
    if let Ending::DryRun {
        ghost_definition,
        plan,
    } = &summary.ending
    {
        text.push_str(ghost_definition.trim_end());
        text.push('\n');
        for line in plan {
            text.push_str("# ");
            text.push_str(line);
            text.push('\n');
        }
        text.push_str("# Nothing was changed; add --execute to do it\n");
    }
    text.push_str("# Done\n");
    text
}

/// The one line of the log that says how it went.
#[must_use]
pub fn outcome(summary: &MigrationSummary) -> String {
    let state = &summary.state;
    let table = state
        .names
        .as_ref()
        .map_or_else(|| "the table".to_owned(), |names| names.original.quoted());
    match &summary.ending {
        Ending::Swapped => {
            let locked = state.locked_for.map_or_else(String::new, |time| {
                format!(", locked for {} ms", time.as_millis())
            });
            format!(
                "Done migrating {table}: {} rows copied, {} changes applied{locked}",
                state.rows_copied, state.events_applied
            )
        }
        Ending::Instant => format!("Done migrating {table}: the server changed it at once"),
        Ending::Rehearsed => {
            format!("Done rehearsing {table}: the original is in place, the ghost table beside it")
        }
        Ending::DryRun { .. } => format!("Done checking {table}: nothing was changed"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use changeling_applier::progress::MigrationState;

    use super::super::status::tests::sample;
    use super::*;

    fn summary(ending: Ending) -> MigrationSummary {
        let state = MigrationState {
            locked_for: Some(Duration::from_millis(14)),
            ..sample()
        };
        MigrationSummary { state, ending }
    }

    #[test]
    fn a_dry_run_shows_the_ghost_table_and_the_plan() {
        let dry = summary(Ending::DryRun {
            ghost_definition: "CREATE TABLE `_orders_gho` (\n  `id` int NOT NULL,\n  PRIMARY KEY (`id`)\n)"
                .into(),
            plan: vec!["chosen key: PRIMARY (id)".into(), "columns: id, note".into()],
        });
        insta::assert_snapshot!(ending(&dry));
    }

    #[test]
    fn every_ending_has_its_line() {
        let dry = Ending::DryRun {
            ghost_definition: String::new(),
            plan: Vec::new(),
        };
        let lines: Vec<_> = [Ending::Swapped, Ending::Instant, Ending::Rehearsed, dry]
            .into_iter()
            .map(|one| outcome(&summary(one)))
            .collect();
        insta::assert_snapshot!(lines.join("\n"));
        assert_eq!(ending(&summary(Ending::Swapped)), "# Done\n");
    }
}
