//! When a value of the ghost table is a faithful copy, column by column.
//!
//! A [`Comparison`] has an expression that is true **only if** what the target stores is what the copy's
//! conversion makes of what the source stores. It is *decisive* if it is also false only where that is not
//! so. A pair of types with a lossless conversion has a decisive one. A pair that may lose something
//! (narrowing, rounding, `NULL` into `NOT NULL`) has an expression for the rows that lost nothing; the
//! other rows, and all rows of a pair without an expression, are decided by converting them once more
//! (see `scratch`).
//!
//! Why none of the expressions can be true by mistake:
//! * Strings are compared as binary strings, or under `utf8mb4_0900_bin`, which compares bytes without
//!   padding. No collation, no trailing space.
//! * A `NULL` that an expression yields on the way (a `CAST` beyond `max_allowed_packet`) is never equal:
//!   `NULL` counts as equal only where both *columns* are `NULL`.
//! * `FLOAT` and `DOUBLE` compare as doubles without a fixed number of decimals (`FLOAT(7,4)` columns would
//!   otherwise compare within a tolerance), and zeros by their sign: only `ATAN2` tells -0 from 0 on both
//!   servers.
//! * `TIMESTAMP` compares as seconds since 1970. As civil times two instants would look alike in the hour
//!   that a zone repeats in autumn.
//! * `ENUM` and `SET` compare by number, through `CAST … AS UNSIGNED` (`+ 0` is a double on MySQL and
//!   signed on MariaDB: members 54 to 64 of a `SET` would be lost), and only where the numbers mean
//!   the same labels.
//! * `JSON` compares as text *and* as values: text alone does not tell a date from a string.

use changeling_core::schema::{Column, ColumnKind};
use changeling_core::verify::ColumnPair;

use super::column_type::{same_declaration, string_fits};

/// What the server can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// MySQL; from 8.0.17 on with `utf8mb4_0900_bin`, the fastest way to compare bytes there.
    MySql {
        /// Whether that collation is there.
        bytewise_collation: bool,
    },
    /// MariaDB.
    MariaDb,
}

/// How a pair of columns is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Comparison {
    /// True only for a faithful value; `None` where no expression is known.
    pub(super) expression: Option<String>,
    /// Whether the expression is false only for an unfaithful value.
    pub(super) decisive: bool,
}

impl Comparison {
    fn of(expression: String, decisive: bool) -> Self {
        Self {
            expression: Some(expression),
            decisive,
        }
    }
}

/// Compares the source's column, written as `a`, with the target's, written as `b`.
pub(super) fn compare(pair: &ColumnPair, a: &str, b: &str, dialect: Dialect) -> Comparison {
    let mut comparison = by_kind(pair, a, b, dialect);
    let loses_null = pair.source.nullable && !pair.target.nullable;
    if loses_null || loses_sign(&pair.source, &pair.target) {
        comparison.decisive = false;
    }
    comparison
}

/// Compares two columns of one definition: the scratch table's and the target's.
pub(super) fn compare_stored(column: &Column, a: &str, b: &str, dialect: Dialect) -> Option<String> {
    let pair = ColumnPair {
        source: column.clone(),
        target: column.clone(),
    };
    by_kind(&pair, a, b, dialect).expression
}

fn by_kind(pair: &ColumnPair, a: &str, b: &str, dialect: Dialect) -> Comparison {
    use ColumnKind as K;
    let (source, target) = (&pair.source, &pair.target);
    let nullable = source.nullable || target.nullable;
    let plain = || format!("{a} <=> {b}");
    match (&source.kind, &target.kind) {
        (K::Integer { .. }, K::Integer { .. })
        | (K::Decimal { .. }, K::Decimal { .. } | K::Integer { .. })
        | (K::Integer { .. }, K::Decimal { .. }) => {
            Comparison::of(plain(), number_fits(&source.kind, &target.kind))
        }
        (K::Float | K::Double, K::Float | K::Double) => {
            Comparison::of(same_bits(a, b), same_declaration(source, target))
        }
        (K::Text { .. }, K::Text { .. }) => text(pair, a, b, dialect),
        (K::Binary { .. } | K::VarBinary, K::Binary { .. } | K::VarBinary) => {
            Comparison::of(plain(), string_fits(source, target))
        }
        (K::Date, K::Date)
        | (K::Year, K::Year)
        | (K::Uuid, K::Uuid)
        | (K::Inet4, K::Inet4)
        | (K::Inet6, K::Inet6) => Comparison::of(plain(), true),
        (K::Time { fsp: from }, K::Time { fsp: to })
        | (K::DateTime { fsp: from }, K::DateTime { fsp: to }) => Comparison::of(plain(), to >= from),
        (K::Timestamp { fsp: from }, K::Timestamp { fsp: to }) => {
            Comparison::of(format!("UNIX_TIMESTAMP({a}) <=> UNIX_TIMESTAMP({b})"), to >= from)
        }
        (K::Bit { width: from }, K::Bit { width: to }) => Comparison::of(plain(), to >= from),
        (K::Enum { members: from, .. }, K::Enum { members: to, .. })
        | (K::Set { members: from, .. }, K::Set { members: to, .. })
            if to.starts_with(from) =>
        {
            Comparison::of(format!("CAST({a} AS UNSIGNED) <=> CAST({b} AS UNSIGNED)"), true)
        }
        (K::Json, K::Json) => {
            Comparison::of(format!("({} AND {a} <=> {b})", same_bytes(a, b, nullable)), true)
        }
        (K::Geometry, K::Geometry) | (K::Vector, K::Vector) => {
            Comparison::of(same_bytes(a, b, nullable), same_declaration(source, target))
        }
        _ => Comparison {
            expression: None,
            decisive: false,
        },
    }
}

fn text(pair: &ColumnPair, a: &str, b: &str, dialect: Dialect) -> Comparison {
    let (ColumnKind::Text { charset: from, .. }, ColumnKind::Text { charset: to, .. }) =
        (&pair.source.kind, &pair.target.kind)
    else {
        return Comparison {
            expression: None,
            decisive: false,
        };
    };
    let nullable = pair.source.nullable || pair.target.nullable;
    let both_utf8 = from == "utf8mb4" && to == "utf8mb4";
    if both_utf8
        && dialect
            == (Dialect::MySql {
                bytewise_collation: true,
            })
    {
        let bytewise = |name: &str| format!("{name} COLLATE utf8mb4_0900_bin");
        let expression = format!("{} <=> {}", bytewise(a), bytewise(b));
        return Comparison::of(expression, string_fits(&pair.source, &pair.target));
    }
    if from == to || widens_bytewise(from, to) {
        return Comparison::of(
            same_bytes(a, b, nullable),
            string_fits(&pair.source, &pair.target),
        );
    }
    if matches!(to.as_str(), "utf8mb4" | "utf16" | "utf16le" | "utf32") {
        // Every character set maps into these without loss, so that nothing became a '?'.
        let converted = format!("CONVERT({a} USING {to})");
        return Comparison::of(same_bytes_of(a, b, &converted, nullable), false);
    }
    Comparison {
        expression: None,
        decisive: false,
    }
}

/// Whether a text of the first character set has the same bytes in the second.
fn widens_bytewise(from: &str, to: &str) -> bool {
    let utf8 = |name: &str| matches!(name, "utf8" | "utf8mb3" | "utf8mb4");
    (utf8(from) && utf8(to) && from != "utf8mb4") || (from == "ascii" && (utf8(to) || to == "latin1"))
}

fn same_bytes(a: &str, b: &str, nullable: bool) -> String {
    same_bytes_of(a, b, a, nullable)
}

fn same_bytes_of(a: &str, b: &str, expression: &str, nullable: bool) -> String {
    let equal = format!("CAST({expression} AS BINARY) = CAST({b} AS BINARY)");
    if nullable {
        format!("CASE WHEN {a} IS NULL THEN {b} IS NULL ELSE {equal} END")
    } else {
        equal
    }
}

fn same_bits(a: &str, b: &str) -> String {
    format!("({a} + 0e0 <=> {b} + 0e0 AND IF({a} = 0, ATAN2({a}, -1) = ATAN2({b}, -1), TRUE))")
}

/// Whether a number below zero has no place in the target: the kinds of decimals do not tell.
fn loses_sign(source: &Column, target: &Column) -> bool {
    let unsigned = |column: &Column| column.column_type.to_ascii_lowercase().contains("unsigned");
    matches!(target.kind, ColumnKind::Decimal { .. }) && unsigned(target) && !unsigned(source)
}

fn number_fits(source: &ColumnKind, target: &ColumnKind) -> bool {
    use ColumnKind as K;
    match (source, target) {
        (
            K::Integer {
                width: from,
                unsigned: false,
            },
            K::Integer {
                width: to,
                unsigned: false,
            },
        )
        | (
            K::Integer {
                width: from,
                unsigned: true,
            },
            K::Integer {
                width: to,
                unsigned: true,
            },
        ) => to >= from,
        (
            K::Integer {
                width: from,
                unsigned: true,
            },
            K::Integer {
                width: to,
                unsigned: false,
            },
        ) => to > from,
        (K::Integer { width, .. }, K::Decimal { precision, scale }) => {
            precision.saturating_sub(*scale) >= integer_digits(*width)
        }
        (
            K::Decimal { precision, scale },
            K::Decimal {
                precision: to_precision,
                scale: to_scale,
            },
        ) => to_scale >= scale && to_precision.saturating_sub(*to_scale) >= precision.saturating_sub(*scale),
        _ => false,
    }
}

/// Digits of the largest number of this many bytes, signed or not.
fn integer_digits(width: u8) -> u8 {
    match width {
        1 => 3,
        2 => 5,
        3 => 8,
        4 => 10,
        _ => 20,
    }
}

#[cfg(test)]
mod tests {
    use changeling_core::schema::Generated;

    use super::*;

    const MARIADB: Dialect = Dialect::MariaDb;

    fn column(kind: ColumnKind, column_type: &str, nullable: bool) -> Column {
        Column {
            name: "c".to_owned(),
            column_type: column_type.to_owned(),
            kind,
            nullable,
            generated: Generated::No,
            auto_increment: false,
            invisible: false,
        }
    }

    fn integer(width: u8, unsigned: bool) -> Column {
        column(ColumnKind::Integer { width, unsigned }, "int", false)
    }

    fn text(charset: &str, column_type: &str, nullable: bool) -> Column {
        let kind = ColumnKind::Text {
            charset: charset.to_owned(),
            collation: format!("{charset}_bin"),
        };
        column(kind, column_type, nullable)
    }

    fn of(source: Column, target: Column) -> Comparison {
        compare(&ColumnPair { source, target }, "a", "b", MARIADB)
    }

    #[test]
    fn a_wider_integer_is_decided_without_converting() {
        assert_eq!(
            of(integer(4, false), integer(8, false)),
            Comparison::of("a <=> b".to_owned(), true)
        );
        assert!(!of(integer(8, false), integer(4, false)).decisive);
        assert!(!of(integer(4, true), integer(4, false)).decisive);
        assert!(of(integer(4, true), integer(8, false)).decisive);
    }

    #[test]
    fn null_into_not_null_is_left_to_the_conversion() {
        let comparison = of(
            text("latin1", "varchar(9)", true),
            text("latin1", "varchar(9)", false),
        );
        assert!(!comparison.decisive);
    }

    #[test]
    fn only_a_null_column_is_equal_to_a_null_column() {
        let comparison = of(
            text("latin1", "varchar(9)", true),
            text("latin1", "varchar(9)", true),
        );
        assert_eq!(
            comparison,
            Comparison::of(
                "CASE WHEN a IS NULL THEN b IS NULL ELSE CAST(a AS BINARY) = CAST(b AS BINARY) END"
                    .to_owned(),
                true
            )
        );
    }

    #[test]
    fn a_lossy_character_set_has_no_expression() {
        let comparison = of(text("utf8mb4", "text", false), text("latin1", "text", false));
        assert_eq!(
            comparison,
            Comparison {
                expression: None,
                decisive: false
            }
        );
        assert!(
            of(text("latin1", "text", false), text("utf8mb4", "text", false))
                .expression
                .is_some()
        );
    }

    #[test]
    fn enum_members_may_be_added_at_the_end_only() {
        let members = |labels: &[&str]| ColumnKind::Enum {
            members: labels.iter().map(|&label| label.to_owned()).collect(),
            charset: "utf8mb4".to_owned(),
            collation: "utf8mb4_bin".to_owned(),
        };
        let of = |from: &[&str], to: &[&str]| {
            of(
                column(members(from), "enum", false),
                column(members(to), "enum", false),
            )
            .decisive
        };
        assert!(of(&["a", "b"], &["a", "b", "c"]));
        assert!(!of(&["a", "b"], &["b", "a"]));
    }
}
