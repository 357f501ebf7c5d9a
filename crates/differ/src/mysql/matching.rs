//! Which row of one table belongs to which row of the other.
//!
//! A key column is *alike* on both sides if equality and order mean the same on both, values in between
//! included. Then the join is plain equality and a range of the source is a range of the target. The other
//! supported case is a text column whose character set or collation changes: there the rows of the
//! target are looked up under *its* collation by the converted key and must agree with it byte by byte,
//! and a range of the source says nothing about the target. Every other change of a key's type is refused
//! before anything is compared.

use changeling_core::ident::{TableName, quote};
use changeling_core::key::{KeyColumn, KeyRange, KeySpec, NotAKey, Side, TargetMatch};
use changeling_core::schema::{Column, ColumnKind};
use changeling_core::verify::TablePair;

/// A key whose columns are written with their table's name before them, as joins need it.
#[derive(Clone, Debug)]
pub(super) struct QualifiedKey {
    /// The key with a placeholder for every name; see [`QualifiedKey::fill_in`].
    spec: KeySpec,
    source: Vec<String>,
    target: Vec<String>,
}

impl QualifiedKey {
    pub(super) fn new(spec: &KeySpec, source: &TableName, target: &TableName) -> Self {
        let qualified = |table: &TableName, name: &str| format!("{}.{}", table.quoted(), quote(name));
        let mut placeholders = spec.clone();
        for (index, column) in placeholders.columns.iter_mut().enumerate() {
            column.source = placeholder(index);
            column.target = placeholder(index);
        }
        Self {
            spec: placeholders,
            source: spec
                .columns
                .iter()
                .map(|column| qualified(source, &column.source))
                .collect(),
            target: spec
                .columns
                .iter()
                .map(|column| qualified(target, &column.target))
                .collect(),
        }
    }

    pub(super) fn names(&self, side: Side) -> &[String] {
        match side {
            Side::Source => &self.source,
            Side::Target => &self.target,
        }
    }

    /// [`KeySpec::in_range`] with qualified names.
    pub(super) fn in_range(&self, side: Side, range: &KeyRange) -> Result<String, NotAKey> {
        Ok(self.fill_in(side, self.spec.in_range(side, range)?))
    }

    /// [`KeySpec::in_keys`] with qualified names.
    pub(super) fn in_keys<'a>(
        &self,
        side: Side,
        keys: impl IntoIterator<Item = &'a changeling_core::key::Key>,
    ) -> Result<String, NotAKey> {
        Ok(self.fill_in(side, self.spec.in_keys(side, keys)?))
    }

    /// [`KeySpec::select_list`] with qualified names.
    pub(super) fn select_list(&self, side: Side) -> String {
        self.fill_in(side, self.spec.select_list(side))
    }

    /// Values in such texts are hexadecimal or made of digits and punctuation, never a backtick, so that
    /// nothing but a name can look like a placeholder.
    fn fill_in(&self, side: Side, text: String) -> String {
        self.names(side)
            .iter()
            .enumerate()
            .fold(text, |text, (index, name)| {
                text.replace(&quote(&placeholder(index)), name)
            })
    }
}

fn placeholder(index: usize) -> String {
    format!("changeling key column {index}")
}

/// How one key column is found on the other side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Alikeness {
    /// Equality and order are the same on both sides.
    Alike,
    /// Text whose character set or collation changes.
    Recoded(Recoding),
}

/// Both sides of a text column whose character set or collation changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recoding {
    pub(super) source_charset: String,
    pub(super) source_collation: String,
    pub(super) target_charset: String,
    pub(super) target_collation: String,
}

/// Judges a key column; `Err` says why rows cannot be matched by it.
pub(super) fn alikeness(key: &KeyColumn, source: &Column, target: &Column) -> Result<Alikeness, String> {
    use ColumnKind as K;
    if let (
        K::Text {
            charset: source_charset,
            collation: source_collation,
        },
        K::Text {
            charset: target_charset,
            collation: target_collation,
        },
    ) = (&key.kind, &key.target_kind)
    {
        if key.kind == key.target_kind && key.target_match == TargetMatch::Collation {
            return Ok(Alikeness::Alike);
        }
        return Ok(Alikeness::Recoded(Recoding {
            source_charset: source_charset.clone(),
            source_collation: source_collation.clone(),
            target_charset: target_charset.clone(),
            target_collation: target_collation.clone(),
        }));
    }
    let alike = match (&key.kind, &key.target_kind) {
        (K::Unknown { .. } | K::Json | K::Geometry | K::Vector | K::Float, _) => false,
        (K::Integer { .. }, K::Integer { .. }) | (K::Binary { .. } | K::VarBinary, K::VarBinary) => true,
        (K::Decimal { scale: from, .. }, K::Decimal { scale: to, .. }) => to >= from,
        (K::Time { fsp: from }, K::Time { fsp: to })
        | (K::DateTime { fsp: from }, K::DateTime { fsp: to })
        | (K::Timestamp { fsp: from }, K::Timestamp { fsp: to }) => to >= from,
        (K::Enum { members: from, .. }, K::Enum { members: to, .. })
        | (K::Set { members: from, .. }, K::Set { members: to, .. }) => to.starts_with(from),
        (K::Bit { .. }, K::Bit { .. }) => true,
        (from, to) => from == to,
    };
    if alike {
        Ok(Alikeness::Alike)
    } else {
        Err(format!(
            "key column {} changes from {} to {}, by which rows cannot be matched",
            quote(&key.source),
            source.column_type,
            target.column_type
        ))
    }
}

/// `target = what the source's column becomes`, for a look-up in the target's index.
pub(super) fn forward(alikeness: &Alikeness, key: &KeyColumn, source: &str, target: &str) -> String {
    match alikeness {
        Alikeness::Alike => alike(key, source, target),
        Alikeness::Recoded(recoding) => {
            let Recoding {
                target_charset,
                target_collation,
                ..
            } = recoding;
            format!(
                "{target} = CONVERT({source} USING {target_charset}) COLLATE {target_collation}{}",
                bytes_too(key, recoding, source, target)
            )
        }
    }
}

/// `source = what the target's column came from`, for a look-up in the source's index.
pub(super) fn reverse(alikeness: &Alikeness, key: &KeyColumn, source: &str, target: &str) -> String {
    match alikeness {
        Alikeness::Alike => alike(key, target, source),
        Alikeness::Recoded(recoding) => {
            let Recoding {
                source_charset,
                source_collation,
                ..
            } = recoding;
            format!(
                "{source} = CONVERT({target} USING {source_charset}) COLLATE {source_collation}{}",
                bytes_too(key, recoding, source, target)
            )
        }
    }
}

/// As [`forward`], for a key that has been converted already.
pub(super) fn stored(alikeness: &Alikeness, key: &KeyColumn, converted: &str, target: &str) -> String {
    let equal = alike(key, converted, target);
    if *alikeness == Alikeness::Alike || key.target_match == TargetMatch::Collation {
        return equal;
    }
    format!("{equal} AND CAST({target} AS BINARY) = CAST({converted} AS BINARY)")
}

fn alike(key: &KeyColumn, known: &str, sought: &str) -> String {
    if matches!(key.kind, ColumnKind::Enum { .. } | ColumnKind::Set { .. }) {
        // By number: the empty value of an invalid insert has a label that may be a member's, too.
        return format!("{sought} = CAST({known} AS UNSIGNED)");
    }
    format!("{sought} = {known}")
}

/// Where equality is the same on both sides, a key whose bytes differ is one row that differs; where it
/// is not, it is two rows.
fn bytes_too(key: &KeyColumn, recoding: &Recoding, source: &str, target: &str) -> String {
    if key.target_match == TargetMatch::Collation {
        return String::new();
    }
    format!(
        " AND CAST({target} AS BINARY) = CAST(CONVERT({source} USING {}) AS BINARY)",
        recoding.target_charset
    )
}

/// The key of a target's row as the source writes it, and whether that is its only possible key.
///
/// A key that the source could not hold would, looked up later, name another row or none, and the row
/// would pass for equal.
pub(super) fn source_key(
    alikeness: &Alikeness,
    key: &KeyColumn,
    target: &str,
    plain: &str,
) -> (String, Option<String>) {
    match (alikeness, &key.kind) {
        (Alikeness::Recoded(recoding), _) => {
            let back = format!("CONVERT({target} USING {})", recoding.source_charset);
            let forth = format!("CONVERT({back} USING {})", recoding.target_charset);
            (
                format!("CAST({back} AS BINARY)"),
                Some(format!("CAST({forth} AS BINARY) = CAST({target} AS BINARY)")),
            )
        }
        (Alikeness::Alike, ColumnKind::Decimal { precision, scale }) => {
            let back = format!("CAST({target} AS DECIMAL({precision},{scale}))");
            (back.clone(), Some(format!("{back} = {target}")))
        }
        (Alikeness::Alike, _) => (plain.to_owned(), None),
    }
}

/// The target's key as a key of its own, to walk the target by itself.
pub(super) fn mirrored(pair: &TablePair) -> KeySpec {
    let mirror = |column: &KeyColumn| KeyColumn {
        source: column.target.clone(),
        target: column.target.clone(),
        kind: column.target_kind.clone(),
        target_kind: column.target_kind.clone(),
        descending: false,
        target_match: TargetMatch::Collation,
    };
    KeySpec {
        columns: pair.key.columns.iter().map(mirror).collect(),
    }
}
