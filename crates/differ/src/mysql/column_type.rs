//! The little that `information_schema.COLUMNS.COLUMN_TYPE` says beyond [`ColumnKind`].
//!
//! [`ColumnKind`]: changeling_core::schema::ColumnKind

use changeling_core::schema::Column;

/// How much a string column holds, counted in what its declaration counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Capacity {
    /// `VARCHAR(n)`, `VARBINARY(n)`.
    Units(u64),
    /// The `TEXT` and `BLOB` family.
    Bytes(u64),
}

/// The most bytes that one character takes in any character set.
const WIDEST_CHARACTER: u64 = 4;

/// Whether every value of the source fits the target unchanged, both being strings of one character set
/// (or of two of which the first is a subset of the second, byte by byte), or both binary.
pub(super) fn string_fits(source: &Column, target: &Column) -> bool {
    let (from, to) = (bare(&source.column_type), bare(&target.column_type));
    if from == to {
        return true;
    }
    let unit = if from.starts_with("varbinary") {
        1
    } else {
        WIDEST_CHARACTER
    };
    match (capacity(&from), capacity(&to)) {
        (Some(Capacity::Units(from)), Some(Capacity::Units(to))) => to >= from,
        (Some(Capacity::Bytes(from)), Some(Capacity::Bytes(to))) => to >= from,
        (Some(Capacity::Units(from)), Some(Capacity::Bytes(to))) => {
            to >= from.saturating_mul(unit).min(65_535)
        }
        _ => false,
    }
}

/// Whether both columns are declared alike, whatever their character sets.
pub(super) fn same_declaration(source: &Column, target: &Column) -> bool {
    bare(&source.column_type) == bare(&target.column_type)
}

fn bare(column_type: &str) -> String {
    column_type.trim().to_ascii_lowercase()
}

/// `CHAR` and `BINARY` pad and strip, so they have no entry here: they fit only themselves.
fn capacity(column_type: &str) -> Option<Capacity> {
    let (name, rest) = column_type.split_once('(').unwrap_or((column_type, ""));
    match name.trim() {
        "varchar" | "varbinary" => rest.split_once(')')?.0.trim().parse().ok().map(Capacity::Units),
        "tinytext" | "tinyblob" => Some(Capacity::Bytes(255)),
        "text" | "blob" => Some(Capacity::Bytes(65_535)),
        "mediumtext" | "mediumblob" => Some(Capacity::Bytes(16_777_215)),
        "longtext" | "longblob" => Some(Capacity::Bytes(4_294_967_295)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use changeling_core::schema::{ColumnKind, Generated};

    use super::*;

    fn column(column_type: &str) -> Column {
        Column {
            name: "c".to_owned(),
            column_type: column_type.to_owned(),
            kind: ColumnKind::VarBinary,
            nullable: true,
            generated: Generated::No,
            auto_increment: false,
            invisible: false,
        }
    }

    #[test]
    fn a_wider_string_holds_a_narrower_one() {
        let fits = |from: &str, to: &str| string_fits(&column(from), &column(to));
        assert!(fits("varchar(10)", "varchar(20)"));
        assert!(fits("varchar(10)", "text"));
        assert!(fits("varchar(63)", "tinytext"));
        assert!(!fits("varchar(64)", "tinytext"));
        assert!(fits("varbinary(255)", "tinyblob"));
        assert!(fits("text", "longtext"));
        assert!(fits("char(3)", "CHAR(3)"));
        assert!(!fits("text", "varchar(60000)"));
        assert!(!fits("char(3)", "char(4)"));
        assert!(!fits("varchar(20)", "varchar(10)"));
    }
}
