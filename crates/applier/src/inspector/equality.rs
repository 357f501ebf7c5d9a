//! Whether two columns agree on which values are equal: what a key needs on both tables.

use changeling_core::schema::{Column, ColumnKind};

/// Digits that an integer of this many bytes can have.
fn digits(width: u8) -> u8 {
    match width {
        1 => 3,
        2 => 5,
        3 => 8,
        4 => 10,
        _ => 20,
    }
}

/// Whether the collation compares trailing spaces.
fn is_no_pad(collation: &str) -> bool {
    let lower = collation.to_ascii_lowercase();
    lower.contains("_0900_") || lower.contains("nopad") || lower == "binary"
}

fn normal(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    lower.strip_prefix("utf8_").map_or_else(
        || {
            if lower == "utf8" {
                "utf8mb3".to_owned()
            } else {
                lower.clone()
            }
        },
        |rest| format!("utf8mb3_{rest}"),
    )
}

/// Whether texts that are equal (and in order) under the first are so under the second, and the reverse: the
/// same collation, or the utf8mb4 form of a utf8mb3 one, which weighs all characters that utf8mb3 has alike.
fn same_collation(source: (&str, &str), target: (&str, &str)) -> bool {
    let (source_set, source) = (normal(source.0), normal(source.1));
    let (target_set, target) = (normal(target.0), normal(target.1));
    (source_set == target_set && source == target)
        || (source_set == "utf8mb3"
            && target_set == "utf8mb4"
            && source
                .strip_prefix("utf8mb3_")
                .is_some_and(|rest| target.strip_prefix("utf8mb4_") == Some(rest)))
}

/// Whether values keep their equality and their order on the way from `source` to `target`.
///
/// A value that does not fit at all is no matter here: the copy stops at it and names the row.
///
/// # Errors
/// The reason, if they do not.
pub fn keeps_equality(source: &Column, target: &Column) -> Result<(), String> {
    let change = || {
        format!(
            "{} changes from {} to {}",
            source.name, source.column_type, target.column_type
        )
    };
    let refuse = |why: &str| Err(format!("{}: {why}", change()));
    match (&source.kind, &target.kind) {
        (ColumnKind::Integer { .. }, ColumnKind::Integer { .. })
        | (ColumnKind::Double, ColumnKind::Double)
        | (ColumnKind::Float, ColumnKind::Float)
        | (ColumnKind::VarBinary, ColumnKind::VarBinary)
        | (ColumnKind::Binary { .. }, ColumnKind::VarBinary)
        | (ColumnKind::Date, ColumnKind::Date)
        | (ColumnKind::Year, ColumnKind::Year)
        | (ColumnKind::Uuid, ColumnKind::Uuid)
        | (ColumnKind::Inet4, ColumnKind::Inet4)
        | (ColumnKind::Inet6, ColumnKind::Inet6) => Ok(()),
        (ColumnKind::Integer { width, .. }, ColumnKind::Decimal { precision, scale }) => {
            if precision.saturating_sub(*scale) >= digits(*width) {
                Ok(())
            } else {
                refuse("the new type has too few digits")
            }
        }
        (
            ColumnKind::Decimal {
                precision: from_digits,
                scale: from_scale,
            },
            ColumnKind::Decimal { precision, scale },
        ) => {
            if scale < from_scale {
                refuse("rounding can make different values equal")
            } else if precision - scale < from_digits - from_scale {
                refuse("the new type has too few digits")
            } else {
                Ok(())
            }
        }
        (ColumnKind::Binary { length }, ColumnKind::Binary { length: new }) => {
            if length == new {
                Ok(())
            } else {
                refuse("padding changes the values")
            }
        }
        (ColumnKind::Bit { width }, ColumnKind::Bit { width: new }) => {
            if new >= width {
                Ok(())
            } else {
                refuse("the new type has too few bits")
            }
        }
        (ColumnKind::Time { fsp }, ColumnKind::Time { fsp: new })
        | (ColumnKind::DateTime { fsp }, ColumnKind::DateTime { fsp: new })
        | (ColumnKind::Timestamp { fsp }, ColumnKind::Timestamp { fsp: new }) => {
            if new >= fsp {
                Ok(())
            } else {
                refuse("rounding can make different values equal")
            }
        }
        (ColumnKind::DateTime { .. }, ColumnKind::Timestamp { .. }) => Err(format!(
            "{}: no support at this time for converting a column from DATETIME to TIMESTAMP that is also part of \
             the chosen unique key",
            change()
        )),
        (
            ColumnKind::Text { charset, collation },
            ColumnKind::Text {
                charset: new_charset,
                collation: new_collation,
            },
        ) => {
            if !same_collation((charset, collation), (new_charset, new_collation)) {
                return Err(format!(
                    "{} changes its collation from {collation} to {new_collation}, which can change which values \
                     are equal",
                    source.name
                ));
            }
            let fixed = |column: &Column| column.column_type.to_ascii_lowercase().starts_with("char");
            if fixed(target) && !fixed(source) && is_no_pad(collation) {
                return refuse("trailing spaces would be lost");
            }
            Ok(())
        }
        (
            ColumnKind::Enum {
                members,
                charset,
                collation,
            },
            ColumnKind::Enum {
                members: new,
                charset: new_charset,
                collation: new_collation,
            },
        )
        | (
            ColumnKind::Set {
                members,
                charset,
                collation,
            },
            ColumnKind::Set {
                members: new,
                charset: new_charset,
                collation: new_collation,
            },
        ) => {
            if !new.starts_with(members) {
                refuse("its members change other than by new ones at the end")
            } else if !same_collation((charset, collation), (new_charset, new_collation)) {
                refuse("its collation changes")
            } else {
                Ok(())
            }
        }
        _ => refuse("the types compare differently"),
    }
}

/// Whether a column can be part of the key by which rows are found.
///
/// # Errors
/// The reason, if it cannot.
pub fn can_be_key(column: &Column) -> Result<(), String> {
    match &column.kind {
        ColumnKind::Float => Err(format!(
            "{} is a FLOAT, whose values cannot be written exactly",
            column.name
        )),
        ColumnKind::Json | ColumnKind::Geometry | ColumnKind::Vector | ColumnKind::Unknown { .. } => {
            Err(format!(
                "{} is of type {}, which has no exact order",
                column.name, column.column_type
            ))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use changeling_core::schema::Generated;
    use rstest::rstest;

    pub(crate) fn column(name: &str, column_type: &str, kind: ColumnKind) -> Column {
        Column {
            name: name.into(),
            column_type: column_type.into(),
            kind,
            nullable: false,
            generated: Generated::No,
            auto_increment: false,
            invisible: false,
        }
    }

    fn text(column_type: &str, charset: &str, collation: &str) -> Column {
        column(
            "c",
            column_type,
            ColumnKind::Text {
                charset: charset.into(),
                collation: collation.into(),
            },
        )
    }

    fn plain(kind: ColumnKind) -> Column {
        column("c", "type", kind)
    }

    fn int(width: u8) -> ColumnKind {
        ColumnKind::Integer {
            width,
            unsigned: false,
        }
    }

    fn members(list: &[&str]) -> ColumnKind {
        ColumnKind::Enum {
            members: list.iter().map(|m| (*m).to_owned()).collect(),
            charset: "latin1".into(),
            collation: "latin1_bin".into(),
        }
    }

    #[rstest]
    #[case(int(4), int(8), true)]
    #[case(int(8), int(4), true)]
    #[case(int(8), ColumnKind::Decimal { precision: 20, scale: 0 }, true)]
    #[case(int(8), ColumnKind::Decimal { precision: 20, scale: 2 }, false)]
    #[case(int(8), ColumnKind::Double, false)]
    #[case(ColumnKind::Decimal { precision: 10, scale: 2 }, ColumnKind::Decimal { precision: 12, scale: 3 }, true)]
    #[case(ColumnKind::Decimal { precision: 10, scale: 2 }, ColumnKind::Decimal { precision: 10, scale: 3 }, false)]
    #[case(ColumnKind::Decimal { precision: 10, scale: 2 }, ColumnKind::Decimal { precision: 10, scale: 1 }, false)]
    #[case(ColumnKind::Binary { length: 16 }, ColumnKind::Binary { length: 20 }, false)]
    #[case(ColumnKind::Binary { length: 16 }, ColumnKind::VarBinary, true)]
    #[case(ColumnKind::Timestamp { fsp: 0 }, ColumnKind::Timestamp { fsp: 6 }, true)]
    #[case(ColumnKind::Timestamp { fsp: 6 }, ColumnKind::Timestamp { fsp: 0 }, false)]
    #[case(ColumnKind::DateTime { fsp: 0 }, ColumnKind::Timestamp { fsp: 0 }, false)]
    #[case(members(&["a", "b"]), members(&["a", "b", "c"]), true)]
    #[case(members(&["a", "b"]), members(&["b", "a"]), false)]
    #[case(ColumnKind::Binary { length: 16 }, ColumnKind::Uuid, false)]
    fn types(#[case] from: ColumnKind, #[case] to: ColumnKind, #[case] keeps: bool) {
        assert_eq!(keeps_equality(&plain(from), &plain(to)).is_ok(), keeps);
    }

    #[rstest]
    #[case(("varchar(9)", "utf8mb4", "utf8mb4_bin"), ("varchar(20)", "utf8mb4", "utf8mb4_bin"), true)]
    #[case(("varchar(9)", "utf8mb3", "utf8mb3_general_ci"), ("varchar(9)", "utf8mb4", "utf8mb4_general_ci"), true)]
    #[case(("varchar(9)", "utf8", "utf8_general_ci"), ("varchar(9)", "utf8mb4", "utf8mb4_general_ci"), true)]
    #[case(("varchar(9)", "utf8mb4", "utf8mb4_general_ci"), ("varchar(9)", "utf8mb3", "utf8mb3_general_ci"), false)]
    #[case(("varchar(9)", "latin1", "latin1_swedish_ci"), ("varchar(9)", "utf8mb4", "utf8mb4_0900_ai_ci"), false)]
    #[case(("varchar(9)", "utf8mb4", "utf8mb4_0900_ai_ci"), ("varchar(9)", "utf8mb4", "utf8mb4_bin"), false)]
    #[case(("varchar(9)", "utf8mb4", "utf8mb4_0900_ai_ci"), ("char(9)", "utf8mb4", "utf8mb4_0900_ai_ci"), false)]
    #[case(("varchar(9)", "utf8mb4", "utf8mb4_general_ci"), ("char(9)", "utf8mb4", "utf8mb4_general_ci"), true)]
    fn texts(#[case] from: (&str, &str, &str), #[case] to: (&str, &str, &str), #[case] keeps: bool) {
        let result = keeps_equality(&text(from.0, from.1, from.2), &text(to.0, to.1, to.2));
        assert_eq!(result.is_ok(), keeps, "{result:?}");
    }
}
