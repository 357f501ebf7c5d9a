//! Every type that is compared is written so that nothing is left to tell the rows apart.

use changeling_differ::model::Verdict;
use changeling_support::Flavor;
use rstest::rstest;

use crate::modes::FULL;
use crate::mysql::stage::{Stage, stage_or_skip};
use crate::round::Format;

/// Type, and two values of it. One of them is a hard one.
const TYPES: &[(&str, &str, &str)] = &[
    ("TINYINT", "-128", "127"),
    ("BOOL", "0", "1"),
    ("SMALLINT UNSIGNED", "65535", "0"),
    ("MEDIUMINT", "-8388608", "1"),
    ("INT ZEROFILL", "7", "0"),
    ("BIGINT", "-9223372036854775808", "4294967296"),
    ("BIGINT UNSIGNED", "18446744073709551615", "9007199254740993"),
    (
        "DECIMAL(65,30)",
        "12345678901234567890123456789012345.012345678901234567890123456789",
        "-0.5",
    ),
    (
        "DECIMAL(60,20)",
        "0.00000000000000000001",
        "0.00000000000000000002",
    ),
    ("FLOAT", "16777216", "16777217.9"),
    ("FLOAT", "1.0000001", "-3.4028234e38"),
    ("FLOAT(7,4)", "123.4567", "-0.0001"),
    ("DOUBLE", "0.1", "0.10000000000000002"),
    ("DOUBLE", "-0e0", "1.7976931348623157e308"),
    ("DOUBLE", "4.9406564584124654e-324", "123456789012345680000"),
    ("DOUBLE(20,3)", "12345678.125", "-1"),
    ("BIT(1)", "b'1'", "b'0'"),
    ("BIT(13)", "b'1'", "b'1000000000000'"),
    ("BIT(64)", "18446744073709551615", "48"),
    ("CHAR(9)", "'a b'", "''"),
    ("VARCHAR(9) CHARACTER SET utf8mb4", "''", "' '"),
    ("VARCHAR(9) CHARACTER SET utf8mb4", "'a'", "'A'"),
    (
        "VARCHAR(9) CHARACTER SET utf8mb4",
        "'😀''\\\\\"`'",
        "'\\0\\n\\r\\Z'",
    ),
    ("VARCHAR(9) CHARACTER SET latin1", "'é€'", "'e'"),
    (
        "VARCHAR(9) CHARACTER SET latin1",
        "_binary X'8190'",
        "_binary X'FF'",
    ),
    ("VARCHAR(9) CHARACTER SET utf16", "'é😀'", "'0'"),
    ("VARCHAR(9) CHARACTER SET sjis", "'日本'", "'\\\\'"),
    ("VARCHAR(9) CHARACTER SET binary", "X'00FF27'", "'a'"),
    (
        "TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci",
        "'a'",
        "'a '",
    ),
    ("LONGTEXT", "REPEAT('é', 50000)", "'-- ; DROP'"),
    ("BINARY(4)", "X'00'", "X'00000001'"),
    ("VARBINARY(9)", "X''", "X'00'"),
    ("BLOB", "X'FF00275C22'", "X'FE'"),
    ("LONGBLOB", "REPEAT(X'00FF', 50000)", "''"),
    ("DATE", "'0000-00-00'", "'2020-01-02'"),
    ("DATE", "'2020-02-31'", "'9999-12-31'"),
    ("DATETIME", "'0000-00-00 00:00:00'", "'1000-01-01 00:00:00'"),
    (
        "DATETIME(6)",
        "'2020-01-01 00:00:00.000001'",
        "'2020-00-00 00:00:00.000002'",
    ),
    ("TIMESTAMP NULL", "'0000-00-00 00:00:00'", "'2037-10-25 01:30:00'"),
    (
        "TIMESTAMP(6) NULL",
        "'2020-10-25 00:30:00'",
        "'2020-10-25 01:30:00.000001'",
    ),
    ("TIME(3)", "'-838:59:59'", "'-00:00:00.001'"),
    ("YEAR", "0", "2155"),
    ("ENUM('a','b','1','0','')", "'0'", "''"),
    ("ENUM('it''s','é','x,y')", "'it''s'", "'é'"),
    ("SET('a','b')", "''", "'a,b'"),
    ("POINT", "POINT(1,2)", "POINT(-0.1,1e300)"),
    (
        "GEOMETRY",
        "ST_GeomFromText('POLYGON((0 0,1 0,1 1,0 0))')",
        "ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 1))')",
    ),
];

const MYSQL: &[(&str, &str, &str)] = &[
    (
        "JSON",
        "JSON_OBJECT('a', CAST(1.10 AS DECIMAL(5,2)), 'b', JSON_ARRAY(1.5, '1.10', CAST(12345678901234567890123.5 AS DECIMAL(30,5))))",
        "CAST('1.5' AS JSON)",
    ),
    (
        "JSON",
        "'{\"b\": [1, 1.0, null, \"\\\\u00e9\"], \"a\": 1e100}'",
        "'\"\"'",
    ),
    ("JSON", "'18446744073709551615'", "CAST('2020-01-01' AS JSON)"),
    (
        "JSON",
        "JSON_OBJECT('d', CAST('2020-01-01' AS DATE), 't', TRUE)",
        "'[]'",
    ),
    (
        "POINT SRID 4326",
        "ST_GeomFromText('POINT(10 20)', 4326)",
        "ST_GeomFromText('POINT(1 2)', 4326)",
    ),
    (
        "VECTOR(3)",
        "STRING_TO_VECTOR('[1,2,3.5]')",
        "STRING_TO_VECTOR('[0,-0.1,1e30]')",
    ),
];

const MARIADB: &[(&str, &str, &str)] = &[
    ("JSON", "'{\"b\":  [1, 1.00, null], \"a\": 2, \"a\": 3}'", "'[]'"),
    (
        "UUID",
        "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
        "'00000000-0000-0000-0000-000000000000'",
    ),
    ("INET6", "'2001:db8::ff00:42:8329'", "'::'"),
    ("INET4", "'192.168.0.1'", "'0.0.0.0'"),
];

fn types(flavor: Flavor) -> Vec<(&'static str, String, String)> {
    let own = match flavor {
        Flavor::MariaDb => MARIADB,
        _ => MYSQL,
    };
    let known = |(kind, one, other): &(&'static str, &'static str, &'static str)| {
        // MySQL checks documents itself, and so a text of a date is none.
        (
            *kind,
            (*one).to_owned(),
            other.replace("CAST('2020-01-01' AS JSON)", "'\"2020-01-01\"'"),
        )
    };
    TYPES.iter().chain(own).map(known).collect()
}

/// Columns in which the tables differ, asked of the server and not of the comparison.
async fn differing_columns(stage: &mut Stage, kinds: &[&str]) -> Vec<String> {
    let mut differing = Vec::new();
    let (one, other) = (stage.schemas[0].clone(), stage.schemas[1].clone());
    for (n, kind) in kinds.iter().enumerate() {
        let same = if kind.starts_with("DOUBLE") || kind.starts_with("FLOAT") {
            format!("a.c{n} + 0e0 <=> b.c{n} + 0e0 AND ATAN2(a.c{n}, -1) <=> ATAN2(b.c{n}, -1)")
        } else {
            format!("CAST(a.c{n} AS BINARY) <=> CAST(b.c{n} AS BINARY) AND HEX(a.c{n}) <=> HEX(b.c{n})")
        };
        let text =
            format!("SELECT COUNT(*) FROM {one}.t AS a JOIN {other}.t AS b ON a.id = b.id WHERE {same}");
        let equal = stage.texts(1, &text).await;
        if equal != ["4"] {
            differing.push(format!("{kind}: {equal:?} of 4 equal"));
        }
    }
    differing
}

#[rstest]
#[case(Flavor::MySql, Format::Ndjson)]
#[case(Flavor::MySql, Format::Ace)]
#[case(Flavor::MariaDb, Format::Ndjson)]
#[case(Flavor::MariaDb, Format::Ace)]
#[tokio::test]
async fn every_type_goes_round(#[case] flavor: Flavor, #[case] format: Format) {
    let mut stage = stage_or_skip!(flavor, 2);
    let types = types(flavor);
    let columns: Vec<String> = types
        .iter()
        .enumerate()
        .map(|(n, (kind, ..))| format!("c{n} {kind}"))
        .collect();
    stage
        .all(&format!(
            "CREATE TABLE t (id INT PRIMARY KEY, {}) ROW_FORMAT = DYNAMIC",
            columns.join(", ")
        ))
        .await;
    let ones: Vec<&str> = types.iter().map(|(_, one, _)| one.as_str()).collect();
    let others: Vec<&str> = types.iter().map(|(_, _, other)| other.as_str()).collect();
    let (one, other, nulls) = (
        ones.join(", "),
        others.join(", "),
        vec!["NULL"; types.len()].join(", "),
    );
    stage
        .on(
            1,
            &format!("INSERT INTO t VALUES (1, {one}), (2, {one}), (3, {nulls}), (4, {other})"),
        )
        .await;
    stage
        .on(
            2,
            &format!("INSERT INTO t VALUES (1, {other}), (2, {nulls}), (3, {one})"),
        )
        .await;
    let (verdict, report) = stage.diff(format).await;
    assert_eq!(verdict, Verdict::Differ);
    let repaired = stage.repair(&report, FULL).await;
    assert_eq!(repaired.counts(2), "1/3/0/0/0", "{:?}", repaired.told);
    assert_eq!(repaired.outcome.exit_code(), 0);
    assert_eq!(stage.left().await, (Verdict::Match, 0));
    if let Some(column) = types.iter().position(|(_, one, _)| one.contains("DECIMAL(5,2)")) {
        // The server reads the text of such a number as a double.
        let kept = format!(
            "SELECT CONCAT(JSON_TYPE(c{column}->'$.a'), JSON_TYPE(c{column}->'$.b[2]')) FROM t WHERE id = 1"
        );
        assert_eq!(stage.texts(2, &kept).await, ["DECIMALDECIMAL"]);
    }
    let kinds: Vec<&str> = types.iter().map(|(kind, ..)| *kind).collect();
    assert_eq!(differing_columns(&mut stage, &kinds).await, Vec::<String>::new());
}

#[rstest]
#[case(Flavor::MySql)]
#[case(Flavor::MariaDb)]
#[tokio::test]
async fn keys_of_every_type_and_of_several_parts_find_their_rows(#[case] flavor: Flavor) {
    let keys = [
        ("BIGINT UNSIGNED", "i + 18446744073709551000"),
        ("DECIMAL(30,5)", "i / 7"),
        ("DATETIME(6)", "TIMESTAMPADD(MICROSECOND, i, '2020-01-01')"),
        ("TIMESTAMP(3)", "TIMESTAMPADD(SECOND, i, '2020-01-01')"),
        ("VARBINARY(20)", "UNHEX(SHA2(i, 256))".trim_end()),
        ("VARCHAR(40) CHARACTER SET latin1", "CONCAT('é|''\\\\\\\\', i)"),
        (
            "VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
            "CONCAT('😀', i)",
        ),
        ("DATE", "'2026-01-01' + INTERVAL i DAY"),
        ("TIME", "SEC_TO_TIME(i - 25)"),
    ];
    for (kind, value) in keys {
        let value = if kind.starts_with("VARBINARY") {
            "LEFT(UNHEX(SHA2(i, 256)), 20)"
        } else {
            value
        };
        let mut stage = stage_or_skip!(flavor, 2);
        stage
            .all(&format!("CREATE TABLE t (k {kind} NOT NULL, `K ``2` VARCHAR(5) NOT NULL, v INT, PRIMARY KEY (k, `K ``2`))"))
            .await;
        stage
            .all(&Stage::numbers(
                1,
                50,
                &format!("{value}, IF(i % 2 = 0, 'a|b', 'b|c'), i"),
            ))
            .await;
        stage
            .on(2, "DELETE FROM t WHERE v <= 5; UPDATE t SET v = -v WHERE v <= 10")
            .await;
        let (_, report) = stage.diff(Format::Ace).await;
        let repaired = stage.repair(&report, FULL).await;
        assert_eq!(repaired.counts(2), "5/5/0/0/0", "{kind}: {:?}", repaired.told);
        assert_eq!(stage.left().await, (Verdict::Match, 0), "{kind}");
    }
}

/// For the server `abc` and `ABC ` are one key, for the comparison they are two.
#[rstest]
#[case(Flavor::MySql)]
#[case(Flavor::MariaDb)]
#[tokio::test]
async fn a_key_that_differs_in_what_its_collation_does_not_see_is_changed(#[case] flavor: Flavor) {
    let mut stage = stage_or_skip!(flavor, 2);
    stage
        .all("CREATE TABLE t (k VARCHAR(9) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci PRIMARY KEY, v INT)")
        .await;
    stage.on(1, "INSERT INTO t VALUES ('abc', 1), ('d', 2)").await;
    stage.on(2, "INSERT INTO t VALUES ('ABC', 1), ('d ', 3)").await;
    let (_, report) = stage.diff(Format::Ndjson).await;
    let repaired = stage.repair(&report, FULL).await;
    assert_eq!(repaired.outcome.exit_code(), 0, "{:?}", repaired.told);
    assert_eq!(stage.left().await, (Verdict::Match, 0));
    assert_eq!(
        stage.texts(2, "SELECT CONCAT(k, v) FROM t ORDER BY k").await,
        ["abc1", "d2"]
    );
}

#[rstest]
#[case(Flavor::MySql)]
#[case(Flavor::MariaDb)]
#[tokio::test]
async fn zero_is_a_number_of_an_auto_increment_column(#[case] flavor: Flavor) {
    let mut stage = stage_or_skip!(flavor, 2);
    stage
        .all("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, v INT); SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO'")
        .await;
    stage.on(1, "INSERT INTO t VALUES (0, 1), (-5, 2), (7, 3)").await;
    let (_, report) = stage.diff(Format::Ndjson).await;
    let repaired = stage.repair(&report, FULL).await;
    assert_eq!(repaired.counts(2), "3/0/0/0/0", "{:?}", repaired.told);
    assert_eq!(stage.left().await, (Verdict::Match, 0));
}

/// What a column cannot hold is refused, also where the server would make it fit in silence.
#[rstest]
#[case(Flavor::MySql, "DATETIME(6)", "DATETIME", "'2020-01-01 00:00:00.25'")]
#[case(Flavor::MariaDb, "DATETIME(6)", "DATETIME", "'2020-01-01 00:00:00.25'")]
#[case(Flavor::MySql, "VARCHAR(9)", "VARCHAR(2)", "'abc'")]
#[case(Flavor::MariaDb, "VARCHAR(9)", "VARCHAR(2)", "'abc'")]
#[case(Flavor::MySql, "DECIMAL(10,4)", "DECIMAL(10,2)", "1.2345")]
#[case(Flavor::MariaDb, "DOUBLE", "FLOAT", "0.1")]
#[case(
    Flavor::MySql,
    "VARCHAR(9) CHARACTER SET utf8mb4",
    "VARCHAR(9) CHARACTER SET latin1",
    "'😀'"
)]
#[tokio::test]
async fn a_value_that_does_not_fit_is_refused_and_not_made_fit(
    #[case] flavor: Flavor,
    #[case] wide: &str,
    #[case] narrow: &str,
    #[case] value: &str,
) {
    let mut stage = stage_or_skip!(flavor, 2);
    stage
        .on(
            1,
            &format!("CREATE TABLE t (id INT PRIMARY KEY, v {wide}, w INT)"),
        )
        .await;
    stage
        .on(
            2,
            &format!("CREATE TABLE t (id INT PRIMARY KEY, v {narrow}, w INT)"),
        )
        .await;
    stage
        .on(
            1,
            &format!("INSERT INTO t VALUES (1, NULL, 5), (2, {value}, 5), (3, NULL, 5)"),
        )
        .await;
    stage.on(2, "INSERT INTO t VALUES (2, NULL, 4)").await;
    let (_, report) = stage.diff(Format::Ndjson).await;
    let repaired = stage.repair(&report, FULL).await;
    assert_eq!(repaired.counts(2), "2/0/0/0/1", "{:?}", repaired.told);
    assert_eq!(repaired.outcome.exit_code(), 1);
    assert_eq!(
        stage
            .texts(2, "SELECT CONCAT(w, COALESCE(v, '-')) FROM t ORDER BY id")
            .await,
        ["5-", "4-", "5-"]
    );
}
