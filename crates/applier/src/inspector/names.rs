//! The names of our tables, as gh-ost makes them.

use changeling_core::ident::TableName;
use jiff::civil::DateTime;

use crate::cutover::safe_names::candidates;
use crate::plan::TableNames;
use crate::settings::{Leftovers, MigrationSettings};

/// The longest name of a table. The servers count characters; gh-ost counts bytes, and so do we.
const LONGEST_NAME: usize = 64;

fn decorated(base: &str, suffix: &str) -> String {
    let mut end = LONGEST_NAME.saturating_sub(suffix.len() + 1).min(base.len());
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    format!("_{}{suffix}", base.get(..end).unwrap_or_default())
}

/// Names for a migration of `table` that started at `started` (local time).
#[must_use]
pub(super) fn of(table: &TableName, leftovers: &Leftovers, started: DateTime) -> TableNames {
    let base = leftovers.base_name.as_deref().unwrap_or(&table.table);
    let named = |suffix: &str| table.sibling(decorated(base, suffix));
    let old = if leftovers.timestamp_old.granted() {
        named(&format!("_{}_del", started.strftime("%Y%m%d%H%M%S")))
    } else {
        named("_del")
    };
    TableNames {
        original: table.clone(),
        ghost: named("_gho"),
        changelog: named("_ghc"),
        checkpoint: named("_ghk"),
        old,
    }
}

/// Tables whose triggers are ours, or go before ours are made: where such a table is there and may not be, that is
/// what is refused.
pub(super) fn with_our_triggers(names: &TableNames, settings: &MigrationSettings) -> Vec<String> {
    let (resumes, leftovers) = (settings.resumes(), &settings.leftovers);
    let mut tables = candidates(&names.original.table, "gho");
    tables.push(names.ghost.table.clone());
    if resumes || leftovers.drop_old_first.granted() {
        tables.push(names.old.table.clone());
    }
    tables
}

/// Lock names are no longer than this.
const LONGEST_LOCK: usize = 64;

/// gh-ost's name for the lock, so that the two exclude each other. One that is too long for the server ends in a checksum
/// of all of it instead of its tail.
#[must_use]
pub(crate) fn lock_name(table: &TableName) -> String {
    let name = format!("gh-ost::{}.{}", table.schema, table.table);
    if name.chars().count() <= LONGEST_LOCK {
        return name;
    }
    let mut digest: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in name.bytes() {
        digest = (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let kept: String = name.chars().take(LONGEST_LOCK - 17).collect();
    format!("{kept}-{digest:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Permission;

    fn leftovers() -> Leftovers {
        Leftovers {
            drop_ghost_first: Permission::Refused,
            drop_old_first: Permission::Refused,
            drop_old_last: Permission::Refused,
            timestamp_old: Permission::Refused,
            base_name: None,
        }
    }

    fn start() -> DateTime {
        jiff::civil::date(2026, 2, 3).at(4, 5, 6, 0)
    }

    #[test]
    fn as_gh_ost() {
        let names = of(&TableName::new("s", "t"), &leftovers(), start());
        assert_eq!(names.ghost, TableName::new("s", "_t_gho"));
        assert_eq!(names.changelog.table, "_t_ghc");
        assert_eq!(names.checkpoint.table, "_t_ghk");
        assert_eq!(names.old.table, "_t_del");
    }

    #[test]
    fn forced_and_stamped() {
        let leftovers = Leftovers {
            timestamp_old: Permission::Granted,
            base_name: Some("b".into()),
            ..leftovers()
        };
        let names = of(&TableName::new("s", "t"), &leftovers, start());
        assert_eq!(
            (names.ghost.table.as_str(), names.old.table.as_str()),
            ("_b_gho", "_b_20260203040506_del")
        );
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        for base in ["x".repeat(64), "é".repeat(40), format!("x{}", "é".repeat(31))] {
            let name = of(&TableName::new("s", base), &leftovers(), start()).ghost.table;
            assert!(
                name.len() <= 64 && name.starts_with('_') && name.ends_with("_gho"),
                "{name}"
            );
        }
    }
}
