//! Every type: what the stream delivers is what `SELECT` says.

use std::fmt::Write;

use changeling_core::change::{Change, RowChange};
use changeling_core::change_source::Projection;
use changeling_core::value::Cell;
use changeling_support::ServerSpec;
use mysql_async::Row;
use mysql_async::prelude::Queryable;

use crate::rig::Rig;

/// A column's type, and literals for it.
type Case = (&'static str, &'static [&'static str]);

const COMMON: &[Case] = &[
    ("tinyint", &["-128", "127", "0"]),
    ("tinyint unsigned", &["255", "0"]),
    ("smallint", &["-32768", "32767"]),
    ("smallint unsigned", &["65535"]),
    ("mediumint", &["-8388608", "8388607", "-1"]),
    ("mediumint unsigned", &["16777215"]),
    ("int", &["-2147483648", "2147483647"]),
    ("int unsigned zerofill", &["4294967295", "7"]),
    ("bigint", &["-9223372036854775808", "9223372036854775807"]),
    ("bigint unsigned", &["18446744073709551615"]),
    ("bool", &["true"]),
    ("float", &["1.5", "-0.25", "3.4e38", "0"]),
    ("double", &["1.1", "-2.5e300", "0"]),
    ("double unsigned", &["1.1"]),
    ("decimal(10,2)", &["12345678.90", "-0.01", "0"]),
    (
        "decimal(65,30)",
        &[
            "-12345678901234567890123456789012345.123456789012345678901234567891",
            "1",
        ],
    ),
    ("decimal(9,9)", &["0.123456789", "-0.000000001"]),
    ("decimal(5,0)", &["-99999", "10"]),
    ("decimal(20,7) unsigned", &["1234567890123.0000001"]),
    ("bit(1)", &["b'1'", "b'0'"]),
    ("bit(9)", &["b'100000001'"]),
    ("bit(64)", &["~0", "1"]),
    ("char(5) character set latin1", &["'ab'", "''", "x'e4f6'"]),
    ("char(60) character set utf8mb4", &["'äöü€😀'", "'a  '"]),
    ("char(255) character set utf8mb4", &["REPEAT('€', 255)", "'x'"]),
    ("varchar(10)", &["'a '", "''"]),
    ("varchar(300) character set utf8mb4", &["REPEAT('ß', 300)"]),
    ("varchar(20) character set utf16", &["'utf16'"]),
    ("tinytext", &["'tiny'"]),
    ("text", &["REPEAT('t', 1000)"]),
    ("mediumtext", &["REPEAT('m', 70000)"]),
    ("longtext", &["'long'"]),
    ("binary(4)", &["x'00000000'", "x'61'", "x'6100620a'"]),
    ("binary(255)", &["x'ff'"]),
    ("varbinary(10)", &["x'00'", "''", "x'6100'"]),
    ("varbinary(400)", &["REPEAT(x'00', 400)"]),
    ("tinyblob", &["x'00ff'"]),
    ("blob", &["REPEAT(x'fe', 300)"]),
    ("mediumblob", &["x'01'"]),
    ("longblob", &["x'01'"]),
    (
        "date",
        &[
            "'2024-02-29'",
            "'0000-00-00'",
            "'2023-00-01'",
            "'9999-12-31'",
            "'1000-01-01'",
        ],
    ),
    (
        "time",
        &["'-838:59:59'", "'838:59:59'", "'00:00:01'", "'-00:00:01'"],
    ),
    ("time(1)", &["'-00:00:00.1'", "'12:34:56.9'"]),
    ("time(3)", &["'-01:02:03.004'", "'00:00:00.001'"]),
    (
        "time(6)",
        &["'-838:59:58.999999'", "'-00:00:00.000001'", "'11:12:13.141516'"],
    ),
    (
        "datetime",
        &[
            "'2024-02-29 23:59:58'",
            "'0000-00-00 00:00:00'",
            "'2023-01-00 00:00:00'",
        ],
    ),
    ("datetime(2)", &["'2024-02-29 23:59:58.12'"]),
    ("datetime(4)", &["'2024-02-29 23:59:58.1234'"]),
    (
        "datetime(6)",
        &["'9999-12-31 23:59:59.999999'", "'0001-01-01 00:00:00.000001'"],
    ),
    (
        "timestamp NULL",
        &[
            "'2024-02-29 23:59:58'",
            "'0000-00-00 00:00:00'",
            "'1970-01-01 00:00:01'",
            "'2038-01-19 03:14:07'",
        ],
    ),
    (
        "timestamp(3) NULL",
        &["'2024-02-29 23:59:58.123'", "'0000-00-00 00:00:00'"],
    ),
    ("timestamp(6) NULL", &["'2024-02-29 23:59:58.123456'"]),
    ("year", &["1901", "2155", "0", "2024"]),
    ("enum('a','b','c d')", &["'a'", "'c d'"]),
    (
        "set('a','b','c','d','e','f','g','h','i')",
        &["'a,i'", "''", "'b'"],
    ),
    (
        "json",
        &[
            r#"'{"a": [1, 2.5, "x", null, true], "b": {"c": "\\u00e4\\n"}}'"#,
            "'[]'",
            "'3'",
        ],
    ),
    (
        "geometry",
        &[
            "ST_GeomFromText('POINT(1 2)')",
            "ST_GeomFromText('LINESTRING(0 0,1 1,2 3)')",
        ],
    ),
    ("point", &["ST_GeomFromText('POINT(1.5 -2)')"]),
];

const MYSQL: &[Case] = &[
    ("vector(3)", &["TO_VECTOR('[1,2.5,-3]')"]),
    (
        "json",
        &[
            "JSON_OBJECT('d', CAST(1.50 AS DECIMAL(10,2)), 'n', -7, 'big', 18446744073709551615, 'f', 1.0e0)",
            "JSON_ARRAY(CAST('2024-02-29' AS DATE), CAST('-01:02:03.5' AS TIME(6)), CAST('2024-02-29 01:02:03' AS DATETIME))",
            "JSON_ARRAY(x'00ff10', b'101', 1e20, 1e-7, 0.1e0, 123456789012345680000e0, -0.0e0)",
            r#"JSON_ARRAY('"\\ \b\f\n\r\t /', CONCAT('ctl', CHAR(1)), '😀', -2147483649, 65536, -32769)"#,
            "JSON_OBJECT('long', REPEAT('k', 70000), 'list', JSON_ARRAY(1, 2, JSON_OBJECT()))",
            "'null'",
            "'\"text\"'",
            "JSON_ARRAY(1e15, 1e16, 1e17, 1.5e17, 123456789.125e0, 1.7976931348623157e308, 5e-324, 0.0001e0, 0.00001e0, 100000e0)",
        ],
    ),
];

const MARIADB: &[Case] = &[
    (
        "uuid",
        &[
            "'123e4567-e89b-12d3-a456-426655440000'",
            "'ffffffff-ffff-ffff-ffff-fffffffffffe'",
            "'00000000-0000-0000-0000-000000000000'",
            "'018f4e1c-7c0a-7abc-8def-0123456789ab'",
            "'6ccd780c-baba-1026-8564-0040f4311e00'",
        ],
    ),
    ("inet6", &["'2001:db8::ff00:42:8329'", "'::'", "'ffff::'"]),
    ("inet4", &["'192.168.0.1'", "'1.0.0.0'", "'0.0.0.0'"]),
];

/// How `SELECT` is to show a column so that it can be compared with [`shown`].
fn select(data_type: &str, name: &str, mariadb: bool) -> String {
    match data_type.split(['(', ' ']).next().unwrap_or_default() {
        "float" | "double" | "json" if !(data_type == "json" && mariadb) => format!("CONCAT({name})"),
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" | "binary" | "varbinary"
        | "tinyblob" | "blob" | "mediumblob" | "longblob" | "geometry" | "point" | "vector" | "json" => {
            format!("CONCAT('hex ', HEX(CAST({name} AS BINARY)))")
        }
        "uuid" => format!("CONCAT('hex ', UPPER(REPLACE({name}, '-', '')))"),
        "inet6" => format!("CONCAT('hex ', HEX(INET6_ATON({name})))"),
        "inet4" => format!("CONCAT('hex ', LPAD(HEX(INET_ATON({name})), 8, '0'))"),
        "enum" | "set" | "bit" => format!("CONCAT({name} + 0)"),
        // Without zerofill's zeros.
        "int" => format!("CONCAT({name} + 0)"),
        "timestamp" => {
            format!("IF({name} = 0, 'zero', CONCAT(UNIX_TIMESTAMP({name})))")
        }
        _ => format!("CONCAT({name})"),
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::from("hex ");
    bytes
        .iter()
        .for_each(|byte| write!(text, "{byte:02X}").expect("a string"));
    text
}

fn with_fraction(mut text: String, micros: u32, data_type: &str) -> String {
    let digits = data_type
        .split(['(', ')'])
        .nth(1)
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0);
    if digits > 0 {
        write!(text, ".{}", &format!("{micros:06}")[..digits]).expect("a string");
    }
    text
}

fn shown(cell: &Cell, data_type: &str) -> String {
    match cell {
        Cell::Int(value) => value.to_string(),
        Cell::UInt(value) | Cell::Set(value) | Cell::Bit(value) => value.to_string(),
        Cell::Enum(value) => value.to_string(),
        Cell::Float(bits) => format!("float {}", f32::from_bits(*bits)),
        Cell::Double(bits) => format!("double {}", f64::from_bits(*bits)),
        Cell::Decimal(text) | Cell::Json(text) => text.to_string(),
        Cell::Text(bytes) | Cell::Binary(bytes) | Cell::Geometry(bytes) | Cell::Vector(bytes) => hex(bytes),
        Cell::Date { year, month, day } => format!("{year:04}-{month:02}-{day:02}"),
        Cell::Time {
            negative,
            hours,
            minutes,
            seconds,
            micros,
        } => {
            let sign = if *negative { "-" } else { "" };
            with_fraction(
                format!("{sign}{hours:02}:{minutes:02}:{seconds:02}"),
                *micros,
                data_type,
            )
        }
        Cell::DateTime {
            year,
            month,
            day,
            hours,
            minutes,
            seconds,
            micros,
        } => with_fraction(
            format!("{year:04}-{month:02}-{day:02} {hours:02}:{minutes:02}:{seconds:02}"),
            *micros,
            data_type,
        ),
        Cell::Timestamp {
            seconds: 0,
            micros: 0,
        } => "zero".into(),
        Cell::Timestamp { seconds, micros } => with_fraction(seconds.to_string(), *micros, data_type),
        Cell::Year(year) => format!("{year:04}"),
        Cell::Null => "NULL".into(),
        other => format!("{other:?}"),
    }
}

/// Floats are compared as numbers: the server shows fewer digits of a `FLOAT` than it stores.
fn same(selected: &str, delivered: &str) -> bool {
    if let Some(number) = delivered.strip_prefix("float ") {
        let (selected, delivered): (f32, f32) =
            (selected.parse().expect("float"), number.parse().expect("float"));
        return (selected - delivered).abs() <= delivered.abs() * 1e-5;
    }
    if let Some(number) = delivered.strip_prefix("double ") {
        return selected.parse::<f64>() == number.parse::<f64>();
    }
    selected == delivered
}

struct Column {
    data_type: &'static str,
    literals: &'static [&'static str],
}

async fn matrix(rig: &mut Rig, cases: &[&[Case]], mariadb: bool, settings: &[&str]) {
    let columns: Vec<Column> = cases
        .iter()
        .flat_map(|cases| cases.iter())
        .filter(|(data_type, _)| rig.server.has_type_of(data_type))
        .map(|&(data_type, literals)| Column { data_type, literals })
        .collect();
    rig.run(&[
        "SET SESSION sql_mode = '', time_zone = '+00:00'",
        "DROP TABLE IF EXISTS m",
    ])
    .await;
    let mut create = String::from("CREATE TABLE m (id int PRIMARY KEY");
    for (index, column) in columns.iter().enumerate() {
        write!(create, ", c{index} {}", column.data_type).expect("a string");
    }
    // Off the page, so that the widths of the columns do not add up to more than a row may have.
    create.push_str(") ROW_FORMAT=DYNAMIC");
    rig.run(&[&create]).await;
    rig.run(settings).await;
    let mut stream = rig.stream(&[("m", Projection::All)]).await;
    let rows = columns
        .iter()
        .map(|column| column.literals.len())
        .max()
        .unwrap_or(0);
    for row in 0..rows {
        let values: Vec<&str> = columns
            .iter()
            .map(|column| column.literals.get(row).copied().unwrap_or("NULL"))
            .collect();
        rig.run(&[&format!("INSERT INTO m VALUES ({row}, {})", values.join(", "))])
            .await;
    }
    let mut query = String::from("SELECT id");
    for (index, column) in columns.iter().enumerate() {
        write!(
            query,
            ", {}",
            select(column.data_type, &format!("c{index}"), mariadb)
        )
        .expect("a string");
    }
    let selected: Vec<Row> = rig
        .conn
        .query(format!("{query} FROM m ORDER BY id"))
        .await
        .expect("rows");
    // Updates carry both images; in MINIMAL, of the second only what changed.
    rig.run(&["UPDATE m SET id = id + 100", "DELETE FROM m"]).await;
    let sentinel = rig.mark().await;
    let changes = stream.until(sentinel).await;
    stream.stop().await;
    let mut compared = 0;
    for (row, change) in selected.iter().zip(&changes) {
        let Change::Row {
            row: RowChange::Insert { after },
            ..
        } = change
        else {
            panic!("{change:?}")
        };
        for (index, column) in columns.iter().enumerate() {
            let selected: Option<Vec<u8>> = row.get(index + 1).expect("a value");
            let selected = selected.map_or_else(
                || "NULL".to_owned(),
                |bytes| String::from_utf8_lossy(&bytes).into_owned(),
            );
            let cell = &after.cells()[index + 1];
            // A minimal image leaves out what was not given a value.
            let delivered = if *cell == Cell::Absent {
                "NULL".into()
            } else {
                shown(cell, column.data_type)
            };
            assert!(
                same(&selected, &delivered),
                "{} {:?}: {selected:.300} is delivered as {delivered:.300}",
                column.data_type,
                column.literals.get(compared)
            );
        }
        compared += 1;
    }
    assert_eq!(compared, rows);
    assert_eq!(changes.len(), rows * 3);
}

#[tokio::test]
async fn mysql_values() {
    let Some(mut rig) = Rig::new("mysql_values", ServerSpec::mysql()).await else {
        return;
    };
    matrix(&mut rig, &[COMMON, MYSQL], false, &[]).await;
    matrix(
        &mut rig,
        &[COMMON, MYSQL],
        false,
        &["SET SESSION binlog_row_image = MINIMAL"],
    )
    .await;
    matrix(
        &mut rig,
        &[COMMON],
        false,
        &["SET SESSION binlog_transaction_compression = ON"],
    )
    .await;
}

#[tokio::test]
async fn mariadb_values() {
    let Some(mut rig) = Rig::new("mariadb_values", ServerSpec::mariadb()).await else {
        return;
    };
    matrix(&mut rig, &[COMMON, MARIADB], true, &[]).await;
    matrix(
        &mut rig,
        &[COMMON, MARIADB],
        true,
        &["SET SESSION binlog_row_image = MINIMAL"],
    )
    .await;
    rig.run(&["SET SESSION binlog_row_image = FULL, GLOBAL binlog_row_metadata = MINIMAL"])
        .await;
    matrix(&mut rig, &[COMMON, MARIADB], true, &[]).await;
    // Before the table is created: columns keep the format they were made with.
    rig.run(&["SET GLOBAL mysql56_temporal_format = OFF"]).await;
    matrix(&mut rig, &[COMMON, MARIADB], true, &[]).await;
    rig.run(&["SET GLOBAL mysql56_temporal_format = ON"]).await;
}
