//! Which columns move, and under which name.

use changeling_core::schema::{ColumnKind, Generated};

use super::problem::{ProblemKind, Problems};
use super::table::TableDetail;
use crate::alter::{Action, Alter};
use crate::plan::{FilledColumn, SharedColumn};
use crate::settings::Renames;

/// A column of the original table and what it is called in the ghost table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Position in the original table.
    pub source: usize,
    /// Position in the ghost table.
    pub target: usize,
}

/// Columns that exist on both tables, generated ones too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    /// In the order of the original table.
    pub pairs: Vec<Pair>,
}

impl Mapping {
    /// Where a column of the original went.
    #[must_use]
    pub fn target_of(&self, source: usize) -> Option<usize> {
        self.pairs
            .iter()
            .find(|pair| pair.source == source)
            .map(|pair| pair.target)
    }

    /// Where a column of the ghost table came from.
    #[must_use]
    pub fn source_of(&self, target: usize) -> Option<usize> {
        self.pairs
            .iter()
            .find(|pair| pair.target == target)
            .map(|pair| pair.source)
    }
}

/// The refusal that gh-ost has for renames nobody approved, if there are any.
pub fn ask_about_renames(alter: &Alter, renames: Renames, problems: &mut Problems) {
    let renamed = alter.renames();
    if renames != Renames::Ask || renamed.is_empty() {
        return;
    }
    let list: Vec<String> = renamed
        .iter()
        .map(|(from, to)| format!("{from} -> {to}"))
        .collect();
    problems.add(
        ProblemKind::Columns,
        format!(
            "gh-ost believes the ALTER statement renames columns, as follows: {}; as precaution, you are asked \
             to confirm",
            list.join(", ")
        ),
        "--approve-renamed-columns moves the data with the column, --skip-renamed-columns makes it a dropped and \
         a new column",
    );
}

/// Maps the columns by the ALTER's clauses, and checks the outcome against the tables as they are: a column
/// that went or came without a clause saying so is a defect of our reading, and refused.
pub fn map(
    alter: &Alter,
    original: &TableDetail,
    ghost: &TableDetail,
    renames: Renames,
    problems: &mut Problems,
) -> Mapping {
    let same = |a: &str, b: &str| a.to_lowercase() == b.to_lowercase();
    let dropped = |name: &str| {
        alter
            .actions()
            .any(|action| matches!(action, Action::DropColumn { name: d } if same(d, name)))
    };
    let added = |name: &str| {
        alter
            .actions()
            .any(|action| matches!(action, Action::AddColumn { name: a } if same(a, name)))
    };
    let new_name = |name: &str| {
        alter.actions().find_map(|action| match action {
            Action::RenameColumn { from, to } if same(from, name) => Some(to.as_str()),
            _ => None,
        })
    };
    let mut mapping = Mapping::default();
    let mut skipped: Vec<&str> = Vec::new();
    for (source, column) in original.schema.columns.iter().enumerate() {
        let renamed = new_name(&column.name);
        let name = renamed.unwrap_or(&column.name);
        if renames == Renames::Skip && !same(name, &column.name) {
            skipped.push(name);
            continue;
        }
        if renamed.is_none() && dropped(&column.name) {
            continue;
        }
        match ghost.schema.column_index(name) {
            Some(target) => mapping.pairs.push(Pair { source, target }),
            None => problems.add(
                ProblemKind::Columns,
                format!(
                    "column {} of {} should be {name} after the ALTER, but the altered table has no such column",
                    column.name, original.schema.name
                ),
                "write each change of a column as a clause of its own: DROP COLUMN, CHANGE COLUMN, RENAME COLUMN",
            ),
        }
    }
    for (target, column) in ghost.schema.columns.iter().enumerate() {
        let known = mapping.source_of(target).is_some()
            || added(&column.name)
            || skipped.iter().any(|name| same(name, &column.name));
        if !known {
            problems.add(
                ProblemKind::Columns,
                format!(
                    "the altered table has a column {} that the ALTER's clauses do not explain",
                    column.name
                ),
                "write each new column as a clause of its own: ADD COLUMN",
            );
        }
    }
    let mut targets: Vec<usize> = mapping.pairs.iter().map(|pair| pair.target).collect();
    targets.sort_unstable();
    targets.dedup();
    if targets.len() != mapping.pairs.len() {
        problems.add(
            ProblemKind::Columns,
            "two columns of the original table would become one column of the altered table",
            "split the change into two migrations",
        );
    }
    mapping
}

/// What is copied: mapped columns that the ghost table stores. One that only the original computes is copied
/// too: an ALTER that makes a generated column an ordinary one keeps its values.
#[must_use]
pub fn shared(original: &TableDetail, ghost: &TableDetail, mapping: &Mapping) -> Vec<SharedColumn> {
    mapping
        .pairs
        .iter()
        .filter_map(|pair| {
            let source = original.schema.columns.get(pair.source)?;
            let target = ghost.schema.columns.get(pair.target)?;
            (target.generated == Generated::No).then(|| SharedColumn {
                source: source.clone(),
                target: target.clone(),
            })
        })
        .collect()
}

/// New columns that a row cannot be written without: `NOT NULL`, no default, not computed. They get what an
/// ALTER gives the rows that are there.
pub fn filled(
    ghost: &TableDetail,
    mapping: &Mapping,
    sql_mode: &str,
    problems: &mut Problems,
) -> Vec<FilledColumn> {
    let mut filled = Vec::new();
    for (target, column) in ghost.schema.columns.iter().enumerate() {
        let has_value = mapping.source_of(target).is_some()
            || column.nullable
            || column.auto_increment
            || column.generated != Generated::No
            || ghost
                .extras
                .get(target)
                .is_some_and(|extra| extra.has_default || extra.computed_default);
        if has_value {
            continue;
        }
        match implicit_default(&column.kind, !sql_mode.contains("NO_ZERO_DATE")) {
            Implicit::Server => {}
            Implicit::Value(value) => {
                filled.push(FilledColumn { target: column.clone(), value: value.to_owned() });
            }
            Implicit::None => problems.add(
                ProblemKind::Columns,
                format!(
                    "the new column {} {} is NOT NULL and has no default, and there is no value that the rows \
                     could have in it",
                    column.name, column.column_type
                ),
                "give it a DEFAULT, or allow NULL",
            ),
        }
    }
    filled
}

enum Implicit {
    /// The server fills it in, strict or not.
    Server,
    Value(&'static str),
    None,
}

fn implicit_default(kind: &ColumnKind, zero_dates: bool) -> Implicit {
    match kind {
        ColumnKind::Enum { .. } => Implicit::Server,
        ColumnKind::Integer { .. }
        | ColumnKind::Float
        | ColumnKind::Double
        | ColumnKind::Decimal { .. }
        | ColumnKind::Bit { .. }
        | ColumnKind::Year => Implicit::Value("0"),
        ColumnKind::Text { .. }
        | ColumnKind::Binary { .. }
        | ColumnKind::VarBinary
        | ColumnKind::Set { .. } => Implicit::Value("''"),
        ColumnKind::Time { .. } => Implicit::Value("'00:00:00'"),
        ColumnKind::Date if zero_dates => Implicit::Value("'0000-00-00'"),
        ColumnKind::DateTime { .. } | ColumnKind::Timestamp { .. } if zero_dates => {
            Implicit::Value("'0000-00-00 00:00:00'")
        }
        ColumnKind::Json => Implicit::Value("'null'"),
        ColumnKind::Uuid => Implicit::Value("'00000000-0000-0000-0000-000000000000'"),
        ColumnKind::Inet4 => Implicit::Value("'0.0.0.0'"),
        ColumnKind::Inet6 => Implicit::Value("'::'"),
        _ => Implicit::None,
    }
}
