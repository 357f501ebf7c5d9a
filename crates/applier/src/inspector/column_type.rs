//! From `information_schema.COLUMNS` to a [`ColumnKind`].

use changeling_core::schema::ColumnKind;

/// What `information_schema` says of a column's type.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TypeFacts<'a> {
    pub(super) data_type: &'a str,
    pub(super) column_type: &'a str,
    pub(super) charset: Option<&'a str>,
    pub(super) collation: Option<&'a str>,
}

/// The kind of a column.
pub(super) fn kind(facts: TypeFacts<'_>) -> ColumnKind {
    let column_type = facts.column_type;
    let unknown = || ColumnKind::Unknown {
        column_type: column_type.to_owned(),
    };
    let lower = column_type.to_ascii_lowercase();
    // MariaDB's compressed columns have row events of their own that cannot be read.
    if lower.contains("compressed*/") && !matches!(facts.data_type, "enum" | "set") {
        return unknown();
    }
    let base = facts.data_type.to_ascii_lowercase();
    let unsigned = lower
        .split_whitespace()
        .any(|word| word == "unsigned" || word == "zerofill");
    let numbers = numbers(&lower);
    let first = numbers.first().copied();
    let fsp = u8::try_from(first.unwrap_or(0)).unwrap_or(0);
    let charset = || facts.charset.unwrap_or("binary").to_owned();
    let collation = || facts.collation.unwrap_or("binary").to_owned();
    match base.as_str() {
        "tinyint" => ColumnKind::Integer { width: 1, unsigned },
        "smallint" => ColumnKind::Integer { width: 2, unsigned },
        "mediumint" => ColumnKind::Integer { width: 3, unsigned },
        "int" | "integer" => ColumnKind::Integer { width: 4, unsigned },
        "bigint" => ColumnKind::Integer { width: 8, unsigned },
        "float" => ColumnKind::Float,
        "double" | "real" => ColumnKind::Double,
        "decimal" | "numeric" => {
            let number = |at: usize, default| {
                numbers
                    .get(at)
                    .map_or(Some(default), |number| u8::try_from(*number).ok())
            };
            match (number(0, 10), number(1, 0)) {
                (Some(precision), Some(scale)) => ColumnKind::Decimal { precision, scale },
                _ => unknown(),
            }
        }
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => ColumnKind::Text {
            charset: charset(),
            collation: collation(),
        },
        "binary" => ColumnKind::Binary {
            length: first.unwrap_or(1),
        },
        "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => ColumnKind::VarBinary,
        "date" => ColumnKind::Date,
        "time" => ColumnKind::Time { fsp },
        "datetime" => ColumnKind::DateTime { fsp },
        "timestamp" => ColumnKind::Timestamp { fsp },
        "year" => ColumnKind::Year,
        "bit" => match u8::try_from(first.unwrap_or(1)) {
            Ok(width @ 1..=64) => ColumnKind::Bit { width },
            _ => unknown(),
        },
        "enum" | "set" => match members(column_type) {
            Some(members) if base == "enum" => ColumnKind::Enum {
                members,
                charset: charset(),
                collation: collation(),
            },
            Some(members) => ColumnKind::Set {
                members,
                charset: charset(),
                collation: collation(),
            },
            None => unknown(),
        },
        "json" => ColumnKind::Json,
        "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring"
        | "multipolygon" | "geomcollection" | "geometrycollection" => ColumnKind::Geometry,
        "vector" => ColumnKind::Vector,
        "uuid" => ColumnKind::Uuid,
        "inet4" => ColumnKind::Inet4,
        "inet6" => ColumnKind::Inet6,
        _ => unknown(),
    }
}

/// The numbers in the first parentheses: `decimal(10,3)`.
fn numbers(column_type: &str) -> Vec<u32> {
    let inner = column_type
        .split_once('(')
        .and_then(|(_, rest)| rest.split_once(')'));
    inner.map_or_else(Vec::new, |(inner, _)| {
        inner
            .split(',')
            .map_while(|number| number.trim().parse().ok())
            .collect()
    })
}

/// The members of `enum('a','it''s')`. The server doubles quotes and writes a backslash before a backslash,
/// a line feed, a carriage return and a zero byte.
fn members(column_type: &str) -> Option<Vec<String>> {
    let (_, list) = column_type.split_once('(')?;
    let mut characters = list.chars();
    let mut members = Vec::new();
    loop {
        if characters.next()? != '\'' {
            return None;
        }
        let mut member = String::new();
        let separator = loop {
            match characters.next()? {
                '\\' => member.push(match characters.next()? {
                    'n' => '\n',
                    'r' => '\r',
                    '0' => '\0',
                    other => other,
                }),
                '\'' => match characters.next()? {
                    '\'' => member.push('\''),
                    other => break other,
                },
                other => member.push(other),
            }
        };
        members.push(member);
        match separator {
            ',' => {}
            ')' => return Some(members),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    fn of(column_type: &str) -> ColumnKind {
        let data_type = column_type.split(['(', ' ']).next().unwrap_or_default();
        kind(TypeFacts {
            data_type,
            column_type,
            charset: Some("latin1"),
            collation: Some("latin1_bin"),
        })
    }

    fn text() -> ColumnKind {
        ColumnKind::Text {
            charset: "latin1".into(),
            collation: "latin1_bin".into(),
        }
    }

    #[rstest]
    #[case("int", ColumnKind::Integer { width: 4, unsigned: false })]
    #[case("int(10) unsigned", ColumnKind::Integer { width: 4, unsigned: true })]
    #[case("bigint(20) unsigned zerofill", ColumnKind::Integer { width: 8, unsigned: true })]
    #[case("tinyint(1)", ColumnKind::Integer { width: 1, unsigned: false })]
    #[case("mediumint(9)", ColumnKind::Integer { width: 3, unsigned: false })]
    #[case("decimal(10,3) unsigned", ColumnKind::Decimal { precision: 10, scale: 3 })]
    #[case("decimal(65,0)", ColumnKind::Decimal { precision: 65, scale: 0 })]
    #[case("float(7,3)", ColumnKind::Float)]
    #[case("double", ColumnKind::Double)]
    #[case("year(4)", ColumnKind::Year)]
    #[case("bit(7)", ColumnKind::Bit { width: 7 })]
    #[case("binary(16)", ColumnKind::Binary { length: 16 })]
    #[case("varbinary(4)", ColumnKind::VarBinary)]
    #[case("longblob", ColumnKind::VarBinary)]
    #[case("char(3)", text())]
    #[case("longtext", text())]
    #[case("time(3)", ColumnKind::Time { fsp: 3 })]
    #[case("datetime", ColumnKind::DateTime { fsp: 0 })]
    #[case("timestamp(6)", ColumnKind::Timestamp { fsp: 6 })]
    #[case("datetime(6) /* mariadb-5.3 */", ColumnKind::DateTime { fsp: 6 })]
    #[case("json", ColumnKind::Json)]
    #[case("geomcollection", ColumnKind::Geometry)]
    #[case("vector(3)", ColumnKind::Vector)]
    #[case("uuid", ColumnKind::Uuid)]
    #[case("inet6", ColumnKind::Inet6)]
    #[case("inet4", ColumnKind::Inet4)]
    #[case("varchar(30) /*M!100301 COMPRESSED*/", ColumnKind::Unknown { column_type: "varchar(30) /*M!100301 COMPRESSED*/".into() })]
    #[case("xmltype", ColumnKind::Unknown { column_type: "xmltype".into() })]
    fn kinds(#[case] column_type: &str, #[case] expected: ColumnKind) {
        assert_eq!(of(column_type), expected);
    }

    #[test]
    fn members_with_quotes_commas_backslashes_and_letters() {
        let expected: Vec<String> = ["a", "it's", "c\\d", "é", "x,y", ")", ""].map(Into::into).into();
        let column_type = r"enum('a','it''s','c\\d','é','x,y',')','')";
        assert_eq!(members(column_type), Some(expected));
        assert_eq!(members("enum('a"), None);
        assert_eq!(
            members("set('json','unsigned')"),
            Some(vec!["json".into(), "unsigned".into()])
        );
    }

    #[test]
    fn words_inside_of_members_mean_nothing() {
        let ColumnKind::Enum { members, .. } = of("enum('compressed*/','int unsigned')") else {
            panic!("an enum")
        };
        assert_eq!(members.len(), 2);
    }

    proptest! {
        #[test]
        fn members_round_trip(list in proptest::collection::vec("[^\\x00]{0,8}", 1..6)) {
            let quoted: Vec<String> = list
                .iter()
                .map(|m| format!("'{}'", m.replace('\\', "\\\\").replace('\'', "''").replace('\n', "\\n").replace('\r', "\\r")))
                .collect();
            prop_assert_eq!(members(&format!("set({})", quoted.join(","))), Some(list));
        }

        #[test]
        fn never_panics(column_type in "\\PC*") {
            let _ = of(&column_type);
        }
    }
}
