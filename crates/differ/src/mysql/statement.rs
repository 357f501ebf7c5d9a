//! The statements of a comparison, and what their rows mean.
//!
//! The first statement of a range, [`Question::summary`], only counts: rows of the source, rows that
//! found a row of the target, rows equal in every column, and rows of the target. It is one statement and
//! so one snapshot. With `target_is_unique` every source row joins at most one target row, and every target
//! row joins at most one source row because the key is unique on the source. So
//! `rows = matched = equal = target rows` is a bijection of equal rows: exact, not a checksum. Without that
//! uniqueness a doubled ghost row could make up for a missing one, so that the source is counted as well.
//! Only when the counts disagree are keys read, by [`Question::differing`], [`Question::extra`] and
//! [`Question::doubled`].
//!
//! An absent row is found by `key <=> NULL`: both servers take `IS NULL` on a `NOT NULL` date column for
//! "is '0000-00-00'", and under `sql_auto_is_null` on an `AUTO_INCREMENT` column for "was inserted last".
//!
//! No table has an alias and in the statements for keys each is named once: they run under `LOCK TABLES`.

use changeling_core::key::{Key, KeyColumn, KeyRange, NotAKey, Side};
use changeling_core::verify::{TablePair, VerifyError};

use super::matching;
use super::plan::{Comparand, Plan};
use super::session::{TextRow, number, refusal};

/// The rows that a comparison is about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scope<'a> {
    /// All rows of a range of the source's key.
    Range(&'a KeyRange),
    /// The rows of these keys.
    Keys(&'a [Key]),
}

/// A scope of a plan, written as SQL.
#[derive(Debug)]
pub(super) struct Question<'a> {
    plan: &'a Plan,
    pair: &'a TablePair,
    /// Selects the scope's rows of the source.
    pub(super) source_filter: String,
    /// Selects the scope's rows of the target; `None` where a range of the source says nothing about it.
    target_filter: Option<String>,
    /// Whether tables may be named twice in a statement.
    unlocked: bool,
}

/// What [`Question::summary`] counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Summary {
    /// Rows of the source, or of the join where a source row joined several.
    pub(super) rows: u64,
    matched: u64,
    equal: u64,
    target: Option<u64>,
    source: Option<u64>,
}

impl Summary {
    /// Whether all that was counted agrees.
    pub(super) fn is_perfect(&self) -> bool {
        self.matched == self.rows
            && self.equal == self.rows
            && self.target.is_none_or(|count| count == self.rows)
            && self.source.is_none_or(|count| count == self.rows)
    }

    /// Whether some joined row was not found equal.
    pub(super) fn has_unequal(&self) -> bool {
        self.equal < self.matched
    }
}

/// A key that a statement returned with what is wrong about it.
#[derive(Debug)]
pub(super) struct Difference {
    pub(super) key: Key,
    pub(super) missing: bool,
    pub(super) columns: Vec<String>,
}

impl<'a> Question<'a> {
    /// # Errors
    /// When a bound or a key cannot be written.
    pub(super) fn new(plan: &'a Plan, pair: &'a TablePair, scope: Scope<'_>) -> Result<Self, VerifyError> {
        let filters = || -> Result<(String, Option<String>), NotAKey> {
            Ok(match scope {
                Scope::Range(range) => (
                    plan.key.in_range(Side::Source, range)?,
                    plan.ranges_are_alike()
                        .then(|| plan.key.in_range(Side::Target, range))
                        .transpose()?,
                ),
                Scope::Keys(keys) => (
                    plan.key.in_keys(Side::Source, keys)?,
                    Some(plan.key.in_keys(Side::Target, keys)?),
                ),
            })
        };
        let (source_filter, target_filter) = filters().map_err(|error| refusal(error.to_string()))?;
        let unlocked = matches!(scope, Scope::Range(_));
        Ok(Self {
            plan,
            pair,
            source_filter,
            target_filter,
            unlocked,
        })
    }

    /// Counts rows, matches and equal rows, and in a range the rows of each table by itself.
    pub(super) fn summary(&self, left: &Comparand, filter: &str) -> String {
        let plan = self.plan;
        let first = &plan.key.names(Side::Target)[0];
        let count = |from: &str, filter: &str| format!("(SELECT COUNT(*) FROM {from} WHERE {filter})");
        let target = match &self.target_filter {
            Some(filter) if self.unlocked => count(&plan.target_from, filter),
            _ => "NULL".to_owned(),
        };
        let source = if self.unlocked && !plan.target_is_unique {
            count(&plan.source_from, &self.source_filter)
        } else {
            "NULL".to_owned()
        };
        format!(
            "SELECT COUNT(*), COUNT({first}), COUNT(CASE WHEN {} THEN 1 END), {target}, {source} \
             FROM {} LEFT JOIN {} ON {} WHERE {filter}",
            left.equal(),
            left.from,
            plan.target_from,
            left.on
        )
    }

    /// Reads what [`Question::summary`] returned.
    pub(super) fn read_summary(rows: &[TextRow]) -> Result<Summary, VerifyError> {
        let [row] = rows else {
            return Err(refusal(format!("a count returned {} rows", rows.len())));
        };
        let optional = |index: usize| row[index].is_some().then(|| number(row, index)).transpose();
        Ok(Summary {
            rows: number(row, 0)?,
            matched: number(row, 1)?,
            equal: number(row, 2)?,
            target: optional(3)?,
            source: optional(4)?,
        })
    }

    /// Keys of source rows that the target lacks or has otherwise.
    pub(super) fn differing(&self, left: &Comparand, filter: &str, limit: usize) -> String {
        let first = &self.plan.key.names(Side::Target)[0];
        let mut columns = String::new();
        for (_, expression) in &left.columns {
            columns.push_str(&format!(", ({expression}) IS NOT TRUE"));
        }
        format!(
            "SELECT {}, {first} <=> NULL{columns} FROM {} LEFT JOIN {} ON {} \
             WHERE {filter} AND ({first} <=> NULL OR ({}) IS NOT TRUE) LIMIT {limit}",
            left.key,
            left.from,
            self.plan.target_from,
            left.on,
            left.equal()
        )
    }

    /// Reads a row of [`Question::differing`].
    pub(super) fn read_differing(&self, left: &Comparand, row: &TextRow) -> Result<Difference, VerifyError> {
        let width = self.pair.key.columns.len();
        let missing = number(row, width)? != 0;
        let mut columns = Vec::new();
        for (index, (name, _)) in left.columns.iter().enumerate() {
            if !missing && number(row, width + 1 + index)? != 0 {
                columns.push(name.clone());
            }
        }
        Ok(Difference {
            key: self.parse(&row[..width])?,
            missing,
            columns,
        })
    }

    /// Keys of target rows that the source lacks; `None` where the scope does not say which those are.
    pub(super) fn extra(&self, limit: usize) -> Option<String> {
        let filter = self.target_filter.as_deref()?;
        Some(extra(self.plan, self.pair, filter, limit))
    }

    /// Keys that several rows of the target share.
    pub(super) fn doubled(&self, limit: usize) -> Option<String> {
        let plan = self.plan;
        let group = plan.key.names(Side::Source).join(", ");
        (!plan.target_is_unique).then(|| {
            format!(
                "SELECT {} FROM {} STRAIGHT_JOIN {} ON {} WHERE {} GROUP BY {group} HAVING COUNT(*) > 1 \
                 LIMIT {limit}",
                plan.key.select_list(Side::Source),
                plan.source_from,
                plan.target_from,
                matching_on(plan, self.pair),
                self.source_filter
            )
        })
    }

    /// Reads a source key from the front of a row.
    pub(super) fn parse(&self, texts: &[Option<Vec<u8>>]) -> Result<Key, VerifyError> {
        self.pair
            .key
            .parse(texts)
            .map_err(|error| refusal(error.to_string()))
    }
}

/// Keys of target rows, selected by `filter`, that the source lacks.
pub(super) fn extra(plan: &Plan, pair: &TablePair, filter: &str, limit: usize) -> String {
    let mut keys = Vec::new();
    let mut certain = Vec::new();
    for (index, column) in pair.key.columns.iter().enumerate() {
        let name = &plan.key.names(Side::Target)[index];
        let plain = plain_key(plan, pair, column, index);
        let (key, condition) = matching::source_key(&plan.alikeness[index], column, name, &plain);
        keys.push(key);
        certain.extend(condition);
    }
    let certain = if certain.is_empty() {
        "TRUE".to_owned()
    } else {
        certain.join(" AND ")
    };
    format!(
        "SELECT {}, ({certain}) IS TRUE FROM {} LEFT JOIN {} ON {} WHERE {filter} AND {} <=> NULL LIMIT {limit}",
        keys.join(", "),
        plan.target_from,
        plan.source_from,
        plan.reverse_on,
        plan.key.names(Side::Source)[0]
    )
}

/// Reads a row of [`extra`].
///
/// # Errors
/// When the row's key cannot be a key of the source: then it could not be looked up again, and a row
/// that cannot be looked up must not end as "equal".
pub(super) fn read_extra(pair: &TablePair, row: &TextRow) -> Result<Key, VerifyError> {
    let width = pair.key.columns.len();
    let key = pair
        .key
        .parse(&row[..width])
        .map_err(|error| refusal(error.to_string()))?;
    if number(row, width)? == 0 {
        return Err(refusal(format!(
            "{} has a row whose key no row of {} can have; the nearest is {}",
            pair.target,
            pair.source,
            pair.key.display(&key)
        )));
    }
    Ok(key)
}

/// The target's key column as the source's would be read.
fn plain_key(plan: &Plan, pair: &TablePair, column: &KeyColumn, index: usize) -> String {
    let single = changeling_core::key::KeySpec {
        columns: vec![column.clone()],
    };
    debug_assert_eq!(pair.key.columns[index], *column);
    matching::QualifiedKey::new(&single, &plan.source, &plan.target).select_list(Side::Target)
}

fn matching_on(plan: &Plan, pair: &TablePair) -> String {
    let terms: Vec<String> = pair
        .key
        .columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let source = &plan.key.names(Side::Source)[index];
            let target = &plan.key.names(Side::Target)[index];
            matching::forward(&plan.alikeness[index], column, source, target)
        })
        .collect();
    terms.join(" AND ")
}
