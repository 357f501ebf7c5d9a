//! What is decided once for a pair of tables, before the first comparison.

use changeling_core::ident::{TableName, quote};
use changeling_core::key::{KeyColumn, Side};
use changeling_core::schema::ColumnKind;
use changeling_core::verify::{TablePair, VerifyError};

use super::comparison::{Comparison, Dialect, compare, compare_stored};
use super::matching::{self, Alikeness, QualifiedKey};
use super::scratch::Scratch;
use super::session::refusal;

/// One side of a join against the target, and what makes a joined row equal.
#[derive(Clone, Debug)]
pub(super) struct Comparand {
    /// The table with its index hint, as in `FROM`.
    pub(super) from: String,
    /// Reads the source's key, for [`changeling_core::key::KeySpec::parse`].
    pub(super) key: String,
    /// Joins a row of the target.
    pub(super) on: String,
    /// Names of the source's columns and when each is faithful; columns that the join itself decides
    /// are not among them.
    pub(super) columns: Vec<(String, String)>,
}

impl Comparand {
    /// True where all columns of a joined row are faithful.
    pub(super) fn equal(&self) -> String {
        if self.columns.is_empty() {
            return "TRUE".to_owned();
        }
        let terms: Vec<&str> = self
            .columns
            .iter()
            .map(|(_, expression)| expression.as_str())
            .collect();
        terms.join(" AND ")
    }
}

/// How a pair is compared.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) source: TableName,
    pub(super) target: TableName,
    /// The key's columns, qualified.
    pub(super) key: QualifiedKey,
    /// How each of them is matched.
    pub(super) alikeness: Vec<Alikeness>,
    /// Whether the target's index admits one row a key.
    pub(super) target_is_unique: bool,
    /// Source against target; `None` where a column cannot be compared without converting it.
    pub(super) direct: Option<Comparand>,
    /// Whether what `direct` finds unequal is unequal.
    pub(super) direct_decides: bool,
    /// Converted rows against target; `None` where `direct` decides everything.
    pub(super) converted: Option<(Scratch, Comparand)>,
    /// Finds the source's row of a target's row.
    pub(super) reverse_on: String,
    /// Source and target with their index hints.
    pub(super) source_from: String,
    pub(super) target_from: String,
}

impl Plan {
    /// # Errors
    /// Where the pair cannot be compared, with the reason.
    pub(super) fn new(
        pair: &TablePair,
        dialect: Dialect,
        target_is_unique: bool,
        scratch_name: &str,
    ) -> Result<Self, VerifyError> {
        let key = QualifiedKey::new(&pair.key, &pair.source, &pair.target);
        let positions = key_positions(pair)?;
        let alikeness = judge_key(pair, &positions)?;
        let source_from = with_index(&pair.source, &pair.source_index);
        let target_from = with_index(&pair.target, &pair.target_index);

        let mut direct_columns = Vec::with_capacity(pair.columns.len());
        let mut direct_possible = true;
        let mut direct_decides = true;
        for (position, columns) in pair.columns.iter().enumerate() {
            let a = qualified(&pair.source, &columns.source.name);
            let b = qualified(&pair.target, &columns.target.name);
            let Comparison { expression, decisive } = compare(columns, &a, &b, dialect);
            direct_decides &= decisive;
            let joined = positions
                .iter()
                .position(|&key_position| key_position == position);
            match expression {
                _ if joined.is_some_and(|index| decides(&pair.key.columns[index], &alikeness[index])) => {}
                Some(expression) => direct_columns.push((columns.source.name.clone(), expression)),
                None => direct_possible = false,
            }
        }
        let direct = direct_possible.then(|| Comparand {
            from: source_from.clone(),
            key: key.select_list(Side::Source),
            on: join_on(pair, &key, &alikeness, matching::forward),
            columns: direct_columns,
        });
        let direct_decides = direct_possible && direct_decides;
        let converted = if direct_decides {
            None
        } else {
            let scratch = Scratch::new(pair, pair.target.sibling(scratch_name), &source_from);
            let comparand = converted_comparand(pair, &scratch, &positions, &alikeness, &key, dialect)?;
            Some((scratch, comparand))
        };
        Ok(Self {
            source: pair.source.clone(),
            target: pair.target.clone(),
            reverse_on: join_on(pair, &key, &alikeness, matching::reverse),
            key,
            alikeness,
            target_is_unique,
            direct,
            direct_decides,
            converted,
            source_from,
            target_from,
        })
    }

    /// Whether a range of the source is the same range of the target.
    pub(super) fn ranges_are_alike(&self) -> bool {
        self.alikeness
            .iter()
            .all(|alikeness| *alikeness == Alikeness::Alike)
    }

    /// Whether this is the plan of that pair.
    pub(super) fn is_for(&self, pair: &TablePair) -> bool {
        self.source == pair.source && self.target == pair.target
    }
}

pub(super) fn qualified(table: &TableName, column: &str) -> String {
    format!("{}.{}", table.quoted(), quote(column))
}

fn with_index(table: &TableName, index: &str) -> String {
    format!("{} FORCE INDEX ({})", table.quoted(), quote(index))
}

/// Where the key's columns are among the pair's.
fn key_positions(pair: &TablePair) -> Result<Vec<usize>, VerifyError> {
    let find = |key: &KeyColumn| {
        pair.columns
            .iter()
            .position(|columns| columns.source.name == key.source && columns.target.name == key.target)
            .ok_or_else(|| {
                refusal(format!(
                    "key column {} is not among the copied ones",
                    quote(&key.source)
                ))
            })
    };
    pair.key.columns.iter().map(find).collect()
}

fn judge_key(pair: &TablePair, positions: &[usize]) -> Result<Vec<Alikeness>, VerifyError> {
    let judge = |(key, &position): (&KeyColumn, &usize)| {
        let columns = &pair.columns[position];
        if columns.source.nullable || columns.target.nullable {
            return Err(refusal(format!(
                "key column {} may be NULL, and rows without a key cannot be matched",
                quote(&key.source)
            )));
        }
        matching::alikeness(key, &columns.source, &columns.target).map_err(refusal)
    };
    pair.key.columns.iter().zip(positions).map(judge).collect()
}

fn join_on(
    pair: &TablePair,
    key: &QualifiedKey,
    alikeness: &[Alikeness],
    condition: fn(&Alikeness, &KeyColumn, &str, &str) -> String,
) -> String {
    let conditions: Vec<String> = pair
        .key
        .columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let (source, target) = (&key.names(Side::Source)[index], &key.names(Side::Target)[index]);
            condition(&alikeness[index], column, source, target)
        })
        .collect();
    conditions.join(" AND ")
}

/// Whether rows joined on this column cannot differ in it.
fn decides(key: &KeyColumn, alikeness: &Alikeness) -> bool {
    use ColumnKind as K;
    *alikeness == Alikeness::Alike
        && !matches!(
            key.kind,
            K::Text { .. } | K::Double | K::Float | K::Timestamp { .. }
        )
}

fn converted_comparand(
    pair: &TablePair,
    scratch: &Scratch,
    positions: &[usize],
    alikeness: &[Alikeness],
    key: &QualifiedKey,
    dialect: Dialect,
) -> Result<Comparand, VerifyError> {
    let mut columns = Vec::with_capacity(pair.columns.len());
    for (position, pair_columns) in pair.columns.iter().enumerate() {
        let a = scratch.column(position);
        let b = qualified(&pair.target, &pair_columns.target.name);
        let expression = compare_stored(&pair_columns.target, &a, &b, dialect).ok_or_else(|| {
            refusal(format!(
                "column {} has type {}, which cannot be compared",
                quote(&pair_columns.target.name),
                pair_columns.target.column_type
            ))
        })?;
        columns.push((pair_columns.source.name.clone(), expression));
    }
    let on: Vec<String> = positions
        .iter()
        .enumerate()
        .map(|(index, &position)| {
            let converted = scratch.column(position);
            let target = &key.names(Side::Target)[index];
            matching::stored(&alikeness[index], &pair.key.columns[index], &converted, target)
        })
        .collect();
    Ok(Comparand {
        from: scratch.name().quoted(),
        key: scratch.key(&pair.key).select_list(Side::Source),
        on: on.join(" AND "),
        columns,
    })
}
