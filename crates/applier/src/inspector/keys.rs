//! The key by which rows are found, and what other unique keys mean for writing the ghost table.

use changeling_core::schema::{Column, ColumnKind, Generated, KeyPart, UniqueKey};

use super::columns::Mapping;
use super::equality::{can_be_key, keeps_equality};
use super::problem::{ProblemKind, Problems};
use super::table::{Index, TableDetail};
use crate::plan::{ConflictPolicy, KeyColumn, KeyPlan, SharedColumn};
use crate::settings::{VerifyMode, WarningPolicy};

/// What the choice depends on, beside the tables.
#[derive(Clone, Copy, Debug)]
pub struct KeyRules {
    /// `--allow-nullable-unique-key`.
    pub nullable: bool,
    /// Whether values that do not fit end the copy; if not, a key's type may not shrink.
    pub warnings: WarningPolicy,
    /// Which columns a row event is sure to carry.
    pub image: RowImages,
}

/// `binlog_row_image`, as far as keys depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowImages {
    /// Every column.
    Full,
    /// The primary key (or the key that stands in for it), and what changed.
    Minimal,
}

/// Both tables and how their columns relate.
#[derive(Clone, Copy, Debug)]
pub struct Tables<'a> {
    /// T.
    pub original: &'a TableDetail,
    /// G.
    pub ghost: &'a TableDetail,
    /// Which column became which.
    pub mapping: &'a Mapping,
}

impl<'a> Tables<'a> {
    fn pair(&self, source: usize) -> Option<(&'a Column, &'a Column, usize)> {
        let target = self.mapping.target_of(source)?;
        Some((
            self.original.schema.columns.get(source)?,
            self.ghost.schema.columns.get(target)?,
            target,
        ))
    }
}

/// gh-ost's order of preference: the primary key, keys without `NULL`, a first column that is not text, small
/// integers, few columns.
fn preference(key: &UniqueKey, table: &TableDetail) -> (bool, bool, bool, u8, usize) {
    let first = key
        .parts
        .first()
        .and_then(|part| table.schema.columns.get(part.column));
    let text = first.is_some_and(|column| {
        matches!(
            column.kind,
            ColumnKind::Text { .. } | ColumnKind::Enum { .. } | ColumnKind::Set { .. }
        )
    });
    let width = match first.map(|column| &column.kind) {
        Some(ColumnKind::Integer { width, .. }) => *width,
        _ => u8::MAX,
    };
    (key.name != "PRIMARY", key.nullable, text, width, key.parts.len())
}

/// The unique keys of a table, best first.
#[must_use]
pub fn candidates(table: &TableDetail) -> Vec<&UniqueKey> {
    let mut keys: Vec<&UniqueKey> = table.schema.unique_keys.iter().collect();
    keys.sort_by_key(|key| preference(key, table));
    keys
}

/// The refusal of a table without any usable key.
pub(super) fn no_key(table: &TableDetail, problems: &mut Problems) {
    problems.add(
        ProblemKind::Key,
        format!(
            "no PRIMARY nor UNIQUE key found in table! Bailing out: {}",
            table.schema.name
        ),
        "rows are found by a unique key of whole columns: add a primary key first",
    );
}

/// Chooses the key, or says for each candidate why it cannot be.
pub fn choose(tables: Tables<'_>, rules: KeyRules, problems: &mut Problems) -> Option<KeyPlan> {
    let keys = candidates(tables.original);
    if keys.is_empty() {
        problems.add(
            ProblemKind::Key,
            format!(
                "no PRIMARY nor UNIQUE key found in table! Bailing out: {}",
                tables.original.schema.name
            ),
            "rows are found by a key: add a primary key first",
        );
        return None;
    }
    let mut reasons = Vec::new();
    let mut nullable = None;
    for key in keys {
        match plan(tables, key, rules) {
            Ok(plan) if key.nullable && !rules.nullable => {
                nullable.get_or_insert(plan.source_name);
            }
            Ok(plan) => return Some(plan),
            Err(reason) => reasons.push(format!("{}: {reason}", key.name)),
        }
    }
    if let Some(name) = nullable {
        problems.add(
            ProblemKind::Key,
            format!("Chosen key ({name}) has nullable columns. Bailing out: {}", tables.original.schema.name),
            "--allow-nullable-unique-key accepts it, and then a row with a NULL in the key stops the migration",
        );
    } else {
        problems.add(
            ProblemKind::Key,
            format!(
                "no shared unique key can be found after ALTER! Bailing out: {}",
                reasons.join("; ")
            ),
            "",
        );
    }
    None
}

fn plan(tables: Tables<'_>, key: &UniqueKey, rules: KeyRules) -> Result<KeyPlan, String> {
    if rules.image == RowImages::Minimal
        && candidates(tables.original)
            .first()
            .is_none_or(|best| best.name != "PRIMARY")
    {
        return Err("binlog_row_image is not FULL and the table has no primary key".into());
    }
    if rules.image == RowImages::Minimal && key.name != "PRIMARY" {
        return Err(
            "binlog_row_image is not FULL, and only the primary key is sure to be in every event".into(),
        );
    }
    let mut columns = Vec::with_capacity(key.parts.len());
    let mut targets = Vec::with_capacity(key.parts.len());
    for &KeyPart {
        column: source_index,
        descending,
    } in &key.parts
    {
        let name = tables
            .original
            .schema
            .columns
            .get(source_index)
            .map_or("", |column| column.name.as_str());
        let (source, target, target_index) = tables
            .pair(source_index)
            .ok_or_else(|| format!("its column {name} is not in the altered table"))?;
        can_be_key(source)?;
        can_be_key(target)?;
        keeps_equality(source, target)?;
        shrinks(source, target, rules.warnings)?;
        computed(tables, source_index, source, target)?;
        targets.push(target_index);
        columns.push(KeyColumn {
            source_index,
            source: source.clone(),
            target: target.clone(),
            descending,
        });
    }
    let target_name = counterpart(tables, &targets)?;
    Ok(KeyPlan {
        source_name: key.name.clone(),
        target_name,
        columns,
    })
}

/// A value that does not fit must end the copy, not be cut to a value that another row has.
fn shrinks(source: &Column, target: &Column, warnings: WarningPolicy) -> Result<(), String> {
    let smaller = match (&source.kind, &target.kind) {
        (
            ColumnKind::Integer { width, unsigned },
            ColumnKind::Integer {
                width: new_width,
                unsigned: new_unsigned,
            },
        ) => new_width < width || unsigned != new_unsigned,
        _ => false,
    };
    if smaller && warnings == WarningPolicy::Ignore {
        return Err(format!(
            "{} becomes a smaller type, and with --panic-on-warnings=false a value that does not fit would be cut",
            source.name
        ));
    }
    Ok(())
}

/// A column that the server computes can be in the key if it is stored and computed alike on both tables from
/// columns that do not change.
fn computed(tables: Tables<'_>, source_index: usize, source: &Column, target: &Column) -> Result<(), String> {
    if source.generated == Generated::No && target.generated == Generated::No {
        return Ok(());
    }
    let name = &source.name;
    if source.generated != Generated::Stored || target.generated != Generated::Stored {
        return Err(format!(
            "{name} is a generated column that is not STORED on both sides"
        ));
    }
    let expression = |table: &TableDetail, name: &str| {
        table
            .column(name)
            .map(|(_, extra)| extra.expression.clone())
            .unwrap_or_default()
    };
    let text = expression(tables.original, name);
    if text != expression(tables.ghost, &target.name) {
        return Err(format!("{name} is computed differently after the ALTER"));
    }
    for pair in &tables.mapping.pairs {
        let (Some(a), Some(b)) = (
            tables.original.schema.columns.get(pair.source),
            tables.ghost.schema.columns.get(pair.target),
        ) else {
            continue;
        };
        if pair.source != source_index
            && text.contains(&a.name)
            && (a.column_type != b.column_type || a.kind != b.kind)
        {
            return Err(format!("{name} is computed from {}, whose type changes", a.name));
        }
    }
    Ok(())
}

/// The name of an index of the ghost table by which a key finds its row, and which a second copy of the same
/// row violates: it is unique, begins with the key's columns, and whatever follows them is never `NULL` and
/// comes from the original row.
fn counterpart(tables: Tables<'_>, targets: &[usize]) -> Result<String, String> {
    let mut reason = "no unique key of the altered table begins with its columns".to_owned();
    for index in tables
        .ghost
        .indexes
        .iter()
        .filter(|index| index.unique && index.is_ordered())
    {
        let Some(names) = index.whole_columns() else {
            continue;
        };
        let positions: Option<Vec<usize>> = names
            .iter()
            .map(|name| tables.ghost.schema.column_index(name))
            .collect();
        let Some(positions) = positions else { continue };
        let Some((head, tail)) = positions.split_at_checked(targets.len()) else {
            continue;
        };
        if !targets.iter().all(|target| head.contains(target)) {
            continue;
        }
        let unsure = tail.iter().find_map(|target| {
            let column = tables.ghost.schema.columns.get(*target)?;
            let source = tables.mapping.source_of(*target);
            (column.nullable || source.is_none()).then_some(&column.name)
        });
        match unsure {
            None => return Ok(index.name.clone()),
            Some(column) => {
                reason = format!(
                    "{} of the altered table also holds {column}, which is new or may be NULL: one row could get \
                     there twice",
                    index.name
                );
            }
        }
    }
    Err(reason)
}

/// How the ghost table is written, and which of its unique keys the original's rows cannot violate.
///
/// The second is a little wider than "exists identically": a key that holds all columns of an identical one
/// and more can only be violated where that one is. `REPLACE` also relies on the chosen key itself: where the ghost has it
/// with more columns only, an outdated row of the same key would stay beside the new one.
#[must_use]
pub fn conflicts(tables: Tables<'_>, key: &KeyPlan) -> (ConflictPolicy, Vec<String>) {
    let unique = |index: &&Index| index.unique;
    let safe = |index: &&Index| {
        let mut originals = tables.original.indexes.iter().filter(unique);
        originals
            .any(|candidate| candidate.parts.len() <= index.parts.len() && covers(tables, candidate, index))
    };
    let all: Vec<&Index> = tables.ghost.indexes.iter().filter(unique).collect();
    let same: Vec<String> = all
        .iter()
        .copied()
        .filter(safe)
        .map(|index| index.name.clone())
        .collect();
    let kept = all
        .iter()
        .filter(|index| index.name == key.target_name)
        .any(|index| index.parts.len() == key.columns.len() && same.contains(&index.name));
    let policy = if kept && same.len() == all.len() {
        ConflictPolicy::Replace
    } else {
        ConflictPolicy::Insert
    };
    (policy, same)
}

/// Whether each part of the original's index is, after renames, a part of the ghost's.
fn covers(tables: Tables<'_>, original: &Index, ghost: &Index) -> bool {
    original.parts.iter().all(|part| {
        ghost
            .parts
            .iter()
            .any(|other| match (&part.column, &other.column) {
                (Some(from), Some(to)) => {
                    let source = tables.original.schema.column_index(from);
                    let target = tables.ghost.schema.column_index(to);
                    let (Some(source), Some(target)) = (source, target) else {
                        return false;
                    };
                    if tables.mapping.target_of(source) != Some(target) || part.prefix != other.prefix {
                        return false;
                    }
                    let Some((a, b, _)) = tables.pair(source) else {
                        return false;
                    };
                    // A prefix counts in characters of the old character set and bytes of binary types.
                    if part.prefix.is_some() && a.kind != b.kind {
                        return false;
                    }
                    keeps_equality(a, b).is_ok() && computed(tables, source, a, b).is_ok()
                        || (a.generated == Generated::Virtual && same_computation(tables, source, a, b))
                }
                (None, None) => {
                    part.expression.is_some()
                        && part.expression == other.expression
                        && tables.mapping.pairs.iter().all(|pair| {
                            let (Some(a), Some(b)) = (
                                tables.original.schema.columns.get(pair.source),
                                tables.ghost.schema.columns.get(pair.target),
                            ) else {
                                return false;
                            };
                            let used = part
                                .expression
                                .as_ref()
                                .is_some_and(|text| text.contains(&a.name));
                            !used || (a.name == b.name && a.kind == b.kind && a.column_type == b.column_type)
                        })
                }
                _ => false,
            })
    })
}

/// As [`computed`] demands it, for virtual columns, which other keys than the chosen one may hold.
fn same_computation(tables: Tables<'_>, source: usize, a: &Column, b: &Column) -> bool {
    let stored = |column: &Column| Column {
        generated: Generated::Stored,
        ..column.clone()
    };
    a.generated == b.generated && a.kind == b.kind && computed(tables, source, &stored(a), &stored(b)).is_ok()
}
/// The proof matches rows by the key, so the key has to be among what is compared, and there must be no row without it.
pub(super) fn check_provable(
    key: &KeyPlan,
    columns: &[SharedColumn],
    verify: VerifyMode,
    problems: &mut Problems,
) {
    if verify == VerifyMode::Off {
        return;
    }
    for column in &key.columns {
        let name = &column.source.name;
        let why = if column.source.nullable || column.target.nullable {
            "may be NULL"
        } else if !columns.iter().any(|shared| shared.source.name == *name) {
            "is computed by the server"
        } else {
            continue;
        };
        problems.add(
            ProblemKind::Key,
            format!(
                "the rows of both tables cannot be compared by key `{}`: its column `{name}` {why}",
                key.source_name
            ),
            "--verify=off migrates without the proof; a key of plain NOT NULL columns is better",
        );
    }
}
