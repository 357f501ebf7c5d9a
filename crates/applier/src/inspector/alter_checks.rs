//! What an ALTER may not do, and what of it is left out on the ghost table.

use changeling_core::ident::TableName;

use super::problem::{ProblemKind, Problems};
use super::table_checks::ForeignKey;
use crate::alter::{Action, Alter, PartitionAction};
use crate::settings::ForeignKeys;

/// Refuses an ALTER for another table than the one that is asked for.
pub(super) fn check_target(alter: &Alter, asked: &TableName, problems: &mut Problems) {
    let other = |own: &Option<String>, asked: &str| {
        own.as_deref()
            .is_some_and(|own| !asked.is_empty() && own.to_lowercase() != asked.to_lowercase())
    };
    if other(&alter.table, &asked.table) || other(&alter.schema, &asked.schema) {
        let schema = alter.schema.as_deref().unwrap_or(&asked.schema);
        let own = TableName::new(schema, alter.table.as_deref().unwrap_or(&asked.table));
        problems.add(
            ProblemKind::Alter,
            format!("the ALTER is for {own}, but {asked} is asked for"),
            "make --database, --table and --alter agree",
        );
    }
}

/// Refuses clauses that a migration by a second table cannot do, or that would throw rows away in silence.
pub(super) fn check(alter: &Alter, policy: ForeignKeys, problems: &mut Problems) {
    for action in alter.actions() {
        let (message, hint) = match action {
            Action::RenameTable { to } => (
                format!("alter statement seems to RENAME the table (to {to}). This is not supported"),
                "rename it by a statement of its own",
            ),
            Action::Engine { name } if !name.eq_ignore_ascii_case("InnoDB") => (
                format!("the ALTER changes the engine to {name}: rows are synchronised by InnoDB's means"),
                "only InnoDB is supported",
            ),
            Action::AddForeignKey if policy != ForeignKeys::SkipChecks => (
                "Child-side foreign keys are not supported. Bailing out: the ALTER adds a foreign key, which \
                 would lock rows of the parent for every row copied"
                    .to_owned(),
                "add it by a statement of its own afterwards, or see --skip-foreign-key-checks",
            ),
            Action::Partitions(PartitionAction::Rows { verb }) => (
                format!(
                    "{verb} PARTITION moves or drops rows of the table it is run on; on a ghost table it would do \
                     something else"
                ),
                "run it directly: it is quick and needs no copy",
            ),
            Action::Tablespace => (
                "DISCARD and IMPORT TABLESPACE exchange a table's file and cannot be done by a copy".to_owned(),
                "run it directly",
            ),
            Action::Versioning => (
                "system versioning and periods cannot be added, changed or dropped online: the rows' history would \
                 be lost or invented"
                    .to_owned(),
                "run it directly",
            ),
            Action::Secondary => (
                "a secondary engine is loaded from the table itself".to_owned(),
                "run it directly",
            ),
            _ => continue,
        };
        problems.add(ProblemKind::Alter, message, hint);
    }
    if alter.actions().any(|action| *action == Action::OrderBy) {
        tracing::warn!(
            "ORDER BY in the ALTER has no effect: InnoDB stores rows in the order of the primary key"
        );
    }
}

/// The ALTER for the ghost table, and the one for an instant attempt on the table itself.
///
/// Left out on both: `ALGORITHM` and `LOCK`, which are ours to decide. Left out on the ghost table: dropping
/// foreign keys, which it does not have.
pub(super) fn bodies(
    alter: &Alter,
    foreign_keys: &[ForeignKey],
    problems: &mut Problems,
) -> Option<(String, String)> {
    let foreign = |name: &str| foreign_keys.iter().any(|key| key.name.eq_ignore_ascii_case(name));
    let ghost = alter.body_without(|action| match action {
        Action::Execution | Action::DropForeignKey { .. } => true,
        Action::DropConstraint { name } => foreign(name),
        _ => false,
    });
    let instant = alter.body_without(|action| *action == Action::Execution);
    let (Some(ghost), Some(instant)) = (ghost, instant) else {
        problems.add(
            ProblemKind::Alter,
            "ALGORITHM, LOCK or DROP FOREIGN KEY cannot be taken out of an ALTER with /*! … */ comments",
            "leave them, or the comments, out",
        );
        return None;
    };
    if instant.is_empty() {
        problems.add(
            ProblemKind::Alter,
            "the ALTER changes nothing",
            "say with --alter what to change",
        );
    }
    Some((ghost, instant))
}

/// Foreign keys that the ALTER drops by itself.
pub(super) fn drops(alter: &Alter, key: &ForeignKey) -> bool {
    alter.actions().any(|action| match action {
        Action::DropForeignKey { name } | Action::DropConstraint { name } => {
            name.eq_ignore_ascii_case(&key.name)
        }
        _ => false,
    })
}
