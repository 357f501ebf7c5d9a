//! Columns and values on which copies are tested.

/// A column of the source, what it becomes, and values that stay distinct on the way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) source: &'static str,
    pub(crate) target: &'static str,
    /// SQL literals.
    pub(crate) values: &'static [&'static str],
}

const fn same(column_type: &'static str, values: &'static [&'static str]) -> Case {
    Case {
        source: column_type,
        target: column_type,
        values,
    }
}

const fn change(source: &'static str, target: &'static str, values: &'static [&'static str]) -> Case {
    Case {
        source,
        target,
        values,
    }
}

const TEXTS: &[&str] = &[
    "''",
    "' '",
    "'a'",
    "'A'",
    "'a '",
    "'a  '",
    "'b'",
    "_utf8mb4 X'C3A1'",
    "_utf8mb4 X'61CC81'",
    "_utf8mb4 X'C381'",
    "_utf8mb4 X'C39F'",
    "'ss'",
    "_utf8mb4 X'00'",
    "_utf8mb4 X'6100'",
    "'0'",
];
/// Without trailing spaces, which `CHAR` strips, and without combining characters.
const PLAIN: &[&str] = &[
    "''",
    "'a'",
    "'A'",
    "'b'",
    "_utf8mb4 X'C3A1'",
    "_utf8mb4 X'C381'",
    "_utf8mb4 X'C39F'",
    "'ss'",
    "'0'",
];
const ASTRAL: &[&str] = &[
    "''",
    "'a'",
    "_utf8mb4 X'F09F9880'",
    "_utf8mb4 X'F09F9881'",
    "_utf8mb4 X'E3818B'",
    "_utf8mb4 X'E38B8B'",
];
const KANJI: &[&str] = &[
    "''",
    "'a'",
    "'A'",
    "'a '",
    "_utf8mb4 X'E38182'",
    "_utf8mb4 X'E38184'",
    "_utf8mb4 X'E6BCA2'",
    "_utf8mb4 X'E69CAC'",
];
const BYTES: &[&str] = &[
    "X''", "X'00'", "X'0000'", "X'61'", "X'6100'", "X'41'", "X'20'", "X'2020'", "X'FF'", "X'C3A1'",
];
const DATES: &[&str] = &[
    "'0000-00-00'",
    "'2024-00-00'",
    "'2024-02-00'",
    "'2024-02-29'",
    "'1000-01-01'",
    "'9999-12-31'",
    "'1970-01-01'",
];
const DATETIMES: &[&str] = &[
    "'0000-00-00 00:00:00'",
    "'2024-02-29 23:59:59'",
    "'2024-02-29 23:59:58'",
    "'1000-01-01'",
    "'9999-12-31 23:59:59'",
];
const MICROS: &[&str] = &[
    "'2024-02-29 23:59:59.000001'",
    "'2024-02-29 23:59:59'",
    "'2024-02-29 23:59:59.1'",
    "'2024-02-29 23:59:59.999999'",
    "'0000-00-00 00:00:00'",
];
const TIMESTAMPS: &[&str] = &[
    "'2024-02-29 23:59:59'",
    "'2024-02-29 23:59:58'",
    "'1970-01-02 00:00:01'",
    "'2038-01-18 03:14:07'",
    "0",
];
const FLOATS: &[&str] = &[
    "0",
    "'-0'",
    "1",
    "-1",
    "0.1",
    "0.10000001",
    "16777216",
    "16777218",
    "3.4e38",
    "1.2e-38",
    "1e-40",
];
const DOUBLES: &[&str] = &[
    "0",
    "'-0'",
    "0.1",
    "0.10000000000000002",
    "0.30000000000000004",
    "0.3",
    "1e308",
    "5e-324",
    "9007199254740992",
    "9007199254740994",
];
const DOCUMENTS: &[&str] = &[
    "'{}'",
    "'[]'",
    "'null'",
    "'\"\"'",
    "'0'",
    "'0.0'",
    "'1'",
    "'1.0'",
    "'true'",
    "'\"true\"'",
    "'{\"a\": 1}'",
    "'{\"a\": \"1\"}'",
    "'{\"A\": 1}'",
    "'[1, 2]'",
    "'[2, 1]'",
];
const SHAPES: &[&str] = &[
    "ST_GeomFromText('POINT(1 2)')",
    "ST_GeomFromText('POINT(2 1)')",
    "ST_GeomFromText('POINT(1 2)', 4326)",
    "ST_GeomFromText('LINESTRING(1 2,3 4)')",
    "ST_GeomFromText('LINESTRING(3 4,1 2)')",
    "ST_GeomFromText('POLYGON((0 0,1 0,1 1,0 0))')",
];

/// Columns that the ALTER leaves alone.
pub(crate) const UNCHANGED: &[Case] = &[
    same("TINYINT", &["-128", "-1", "0", "1", "127"]),
    same("TINYINT UNSIGNED", &["0", "1", "128", "255"]),
    same("SMALLINT", &["-32768", "0", "32767"]),
    same("SMALLINT UNSIGNED", &["0", "65535"]),
    same("MEDIUMINT", &["-8388608", "0", "8388607"]),
    same("MEDIUMINT UNSIGNED", &["0", "16777215"]),
    same("INT", &["-2147483648", "0", "2147483647"]),
    same("INT UNSIGNED ZEROFILL", &["0", "4294967295"]),
    same(
        "BIGINT",
        &[
            "-9223372036854775808",
            "9223372036854775806",
            "9223372036854775807",
            "0",
        ],
    ),
    same(
        "BIGINT UNSIGNED",
        &[
            "18446744073709551615",
            "18446744073709551614",
            "9223372036854775808",
            "0",
        ],
    ),
    same(
        "DECIMAL(65,30)",
        &[
            "0",
            "0.000000000000000000000000000001",
            "-0.000000000000000000000000000001",
            "99999999999999999999999999999999999.9",
        ],
    ),
    same("DECIMAL(5,0)", &["-99999", "0", "99999"]),
    same("FLOAT", FLOATS),
    same("FLOAT(7,4)", &["0", "1.0001", "1.0002", "999.9999", "999.9998"]),
    same("DOUBLE", DOUBLES),
    same("DOUBLE(20,3)", &["0", "0.001", "0.002", "9007199254740.992"]),
    same("BIT(1)", &["0", "1"]),
    same(
        "BIT(64)",
        &[
            "0",
            "18446744073709551615",
            "18446744073709551614",
            "9223372036854775808",
        ],
    ),
    same("DATE", DATES),
    same(
        "TIME",
        &[
            "'-838:59:59'",
            "'838:59:59'",
            "'00:00:00'",
            "'-00:00:01'",
            "'00:00:01'",
        ],
    ),
    same(
        "TIME(6)",
        &["'-00:00:00.000001'", "'00:00:00.000001'", "0", "'12:00:00.5'"],
    ),
    same("DATETIME", DATETIMES),
    same(
        "DATETIME(3)",
        &["'2024-02-29 23:59:59.001'", "'2024-02-29 23:59:59.002'", "0"],
    ),
    same("DATETIME(6)", MICROS),
    same("TIMESTAMP NULL", TIMESTAMPS),
    same(
        "TIMESTAMP(6) NULL",
        &[
            "'2024-02-29 23:59:59.000001'",
            "'2024-02-29 23:59:59.000002'",
            "0",
        ],
    ),
    same("YEAR", &["0", "1901", "2000", "2155"]),
    same("CHAR(20)", PLAIN),
    same("VARCHAR(20)", TEXTS),
    same("VARCHAR(20) COLLATE utf8mb4_bin", TEXTS),
    same("VARCHAR(20) COLLATE utf8mb4_general_ci", TEXTS),
    same("VARCHAR(20) COLLATE utf8mb4_0900_ai_ci", TEXTS),
    same("TEXT", TEXTS),
    same("LONGTEXT COLLATE utf8mb4_unicode_ci", ASTRAL),
    same("VARCHAR(20) CHARACTER SET utf8mb3", TEXTS),
    same("CHAR(20) CHARACTER SET latin1", PLAIN),
    same("TEXT CHARACTER SET latin1 COLLATE latin1_german1_ci", PLAIN),
    same("VARCHAR(20) CHARACTER SET utf16", TEXTS),
    same("VARCHAR(20) CHARACTER SET utf32", ASTRAL),
    same("VARCHAR(20) CHARACTER SET ucs2", PLAIN),
    same("VARCHAR(20) CHARACTER SET sjis", KANJI),
    same("VARCHAR(20) CHARACTER SET gbk", KANJI),
    same("VARCHAR(20) CHARACTER SET ujis", KANJI),
    same("BINARY(3)", &["X''", "X'61'", "X'41'", "X'20'", "X'FF00FF'"]),
    same("VARBINARY(20)", BYTES),
    same("TINYBLOB", BYTES),
    same("LONGBLOB", BYTES),
    same(
        "ENUM('','a','A ''q','b') COLLATE utf8mb4_bin",
        &["1", "2", "3", "4", "'no such'"],
    ),
    same("ENUM('x','y')", &["1", "2", "'no such'"]),
    same("SET('a','b','c')", &["0", "1", "2", "3", "7"]),
    same(
        LARGE_SET,
        &[
            "0",
            "1",
            "9223372036854775808",
            "9223372036854775809",
            "288230376151711744",
            "288230376151711745",
        ],
    ),
    same("JSON", DOCUMENTS),
    same("GEOMETRY", SHAPES),
    same(
        "POINT",
        &[
            "ST_GeomFromText('POINT(1 2)')",
            "ST_GeomFromText('POINT(2 1)')",
            "ST_GeomFromText('POINT(1 2)', 4326)",
        ],
    ),
    same(
        "UUID",
        &[
            "'00000000-0000-0000-0000-000000000000'",
            "'123e4567-e89b-12d3-a456-426655440000'",
            "'123e4567-e89b-12d3-a456-426655440001'",
        ],
    ),
    same("INET6", &["'::'", "'::1'", "'::ffff:1.2.3.4'"]),
    same("INET4", &["'0.0.0.0'", "'1.2.3.4'", "'255.255.255.255'"]),
    same(
        "VECTOR(2)",
        &[
            "X'0000803F00000040'",
            "X'0000803F00000041'",
            "X'0000000000000080'",
            "X'0000000000000000'",
        ],
    ),
];

const LARGE_SET: &str = "SET('a0','a1','a2','a3','a4','a5','a6','a7','a8','a9','b0','b1','b2','b3','b4','b5','b6','b7','b8','b9','c0','c1','c2','c3','c4','c5','c6','c7','c8','c9','d0','d1','d2','d3','d4','d5','d6','d7','d8','d9','e0','e1','e2','e3','e4','e5','e6','e7','e8','e9','f0','f1','f2','f3','f4','f5','f6','f7','f8','f9','g0','g1','g2','g3')";

/// Columns that the ALTER converts, with values that stay apart.
pub(crate) const CONVERTED: &[Case] = &[
    change("INT", "BIGINT", &["-2147483648", "0", "2147483647"]),
    change("INT UNSIGNED", "BIGINT", &["0", "1", "4294967295"]),
    change(
        "BIGINT",
        "INT",
        &["9223372036854775807", "-9223372036854775808", "0", "5"],
    ),
    change("INT", "INT UNSIGNED", &["-5", "1", "5"]),
    change("BIGINT UNSIGNED", "BIGINT", &["18446744073709551615", "5"]),
    change("INT", "VARCHAR(20)", &["-2147483648", "0", "2147483647"]),
    change("INT(5) ZEROFILL", "VARCHAR(20)", &["0", "7", "70000"]),
    change("VARCHAR(20)", "INT", &["'0'", "'-5'", "'7abc'", "'8 '"]),
    change("INT", "DECIMAL(20,3)", &["-5", "0", "5"]),
    change("INT", "DOUBLE", &["-5", "0", "5"]),
    change("BIGINT", "FLOAT", &["0", "16777217", "9223372036854775807"]),
    change(
        "DECIMAL(20,6)",
        "DECIMAL(10,2)",
        &["1.005", "1.015", "-3.999999", "0"],
    ),
    change("DECIMAL(10,2)", "DECIMAL(20,6)", &["1.05", "-3.99", "0"]),
    change("DECIMAL(10,2)", "DECIMAL(10,2) UNSIGNED", &["-1.05", "3.99"]),
    change("DECIMAL(10,2)", "VARCHAR(30)", &["-1.05", "3.99", "0"]),
    change("FLOAT", "DOUBLE", FLOATS),
    change("DOUBLE", "FLOAT", &["0", "0.1", "1e300", "16777217"]),
    change("FLOAT", "DECIMAL(20,5)", &["0", "0.1", "16777216"]),
    change("VARCHAR(10)", "VARCHAR(30)", TEXTS),
    change("VARCHAR(20)", "TEXT", TEXTS),
    change("VARCHAR(20)", "VARCHAR(3)", &["'abcdef'", "'abd'", "'ab '", "''"]),
    change("TEXT", "VARCHAR(20)", TEXTS),
    change("VARCHAR(20)", "CHAR(20)", PLAIN),
    change("CHAR(20)", "VARCHAR(20)", PLAIN),
    change("VARCHAR(20) NULL", "VARCHAR(20) NOT NULL", &["'a'", "'A'"]),
    change("INT NULL", "INT NOT NULL", &["1", "2"]),
    change(
        "DATETIME NULL",
        "DATETIME NOT NULL",
        &["'2024-01-01'", "'2024-01-02'"],
    ),
    change(
        "VARCHAR(20) CHARACTER SET latin1",
        "VARCHAR(20) CHARACTER SET utf8mb4",
        PLAIN,
    ),
    change(
        "VARCHAR(20) CHARACTER SET latin1",
        "VARCHAR(20) CHARACTER SET utf16",
        PLAIN,
    ),
    change(
        "VARCHAR(20) CHARACTER SET utf8mb4",
        "VARCHAR(20) CHARACTER SET latin1",
        PLAIN,
    ),
    change(
        "VARCHAR(20) CHARACTER SET utf8mb4",
        "VARCHAR(20) CHARACTER SET latin1",
        &["_utf8mb4 X'E3818B'", "'a'"],
    ),
    change(
        "VARCHAR(20) CHARACTER SET utf8mb3",
        "VARCHAR(20) CHARACTER SET utf8mb4",
        TEXTS,
    ),
    change(
        "VARCHAR(20) CHARACTER SET utf8mb4",
        "VARCHAR(20) CHARACTER SET utf8mb3",
        TEXTS,
    ),
    change(
        "VARCHAR(20) CHARACTER SET utf8mb4",
        "VARCHAR(20) CHARACTER SET sjis",
        KANJI,
    ),
    change(
        "VARCHAR(20) CHARACTER SET sjis",
        "VARCHAR(20) CHARACTER SET utf8mb4",
        KANJI,
    ),
    change(
        "VARCHAR(20) CHARACTER SET gbk",
        "VARCHAR(20) CHARACTER SET utf8mb4",
        KANJI,
    ),
    change(
        "VARCHAR(20) CHARACTER SET ascii",
        "VARCHAR(20) CHARACTER SET utf8mb4",
        &["''", "'a'", "'A'", "'a '"],
    ),
    change(
        "VARCHAR(20) COLLATE utf8mb4_general_ci",
        "VARCHAR(20) COLLATE utf8mb4_bin",
        TEXTS,
    ),
    change(
        "VARCHAR(20) COLLATE utf8mb4_bin",
        "VARCHAR(20) COLLATE utf8mb4_unicode_ci",
        TEXTS,
    ),
    change("VARCHAR(20)", "VARBINARY(60)", TEXTS),
    change(
        "VARBINARY(20)",
        "VARCHAR(20) CHARACTER SET latin1",
        &["X'61'", "X'41'", "X'E1'"],
    ),
    change("BINARY(3)", "BINARY(6)", &["X'61'", "X'41'", "X'FF00FF'"]),
    change("BINARY(3)", "VARBINARY(9)", &["X'61'", "X'41'", "X'FF00FF'"]),
    change("VARBINARY(20)", "BLOB", BYTES),
    change(
        "VARBINARY(20)",
        "BINARY(3)",
        &["X'61'", "X'41'", "X'FF00FF'", "X'0102030405'"],
    ),
    change(
        "DATETIME(6)",
        "DATETIME",
        &[
            "'2024-02-29 23:59:59.4'",
            "'2024-02-29 23:59:56.6'",
            "'2024-02-29 23:59:55.4'",
        ],
    ),
    change("DATETIME", "DATETIME(6)", DATETIMES),
    change("DATETIME", "TIMESTAMP NULL", TIMESTAMPS),
    change("TIMESTAMP NULL", "DATETIME", TIMESTAMPS),
    change(
        "TIMESTAMP(6) NULL",
        "TIMESTAMP NULL",
        &["'2024-02-29 23:59:59.4'", "'2024-02-29 23:59:57.6'"],
    ),
    change(
        "DATETIME",
        "DATE",
        &["'2024-02-29 23:59:59'", "'2024-02-28 23:59:59'"],
    ),
    change("DATE", "DATETIME", DATES),
    change("DATETIME", "VARCHAR(40)", DATETIMES),
    change("DATETIME", "BIGINT", DATETIMES),
    change(
        "TIME(6)",
        "TIME",
        &["'12:00:00.4'", "'12:00:01.6'", "'-12:00:01.6'"],
    ),
    change("YEAR", "INT", &["0", "1901", "2155"]),
    change("INT", "YEAR", &["0", "1901", "2155", "5"]),
    change(
        "ENUM('a','b','c')",
        "ENUM('a','b','c','d')",
        &["1", "2", "3", "'no such'"],
    ),
    change(
        "ENUM('a','b','c')",
        "ENUM('c','a','b')",
        &["1", "2", "3", "'no such'"],
    ),
    change("ENUM('a','b','c')", "VARCHAR(9)", &["1", "2", "3"]),
    change("VARCHAR(9)", "ENUM('b','a')", &["'a'", "'b'", "'c'"]),
    change("ENUM('a','b','c')", "INT", &["1", "2", "3"]),
    change("SET('a','b','c')", "SET('a','b','c','d')", &["0", "1", "5", "7"]),
    change("SET('a','b','c')", "SET('c','b','a')", &["0", "1", "5", "7", "4"]),
    change("BIT(8)", "BIT(16)", &["0", "1", "255"]),
    change("BIT(8)", "INT", &["0", "1", "255"]),
    change("JSON", "LONGTEXT", DOCUMENTS),
    change("LONGTEXT", "JSON", DOCUMENTS),
    change(
        "POINT",
        "GEOMETRY",
        &["ST_GeomFromText('POINT(1 2)')", "ST_GeomFromText('POINT(2 1)')"],
    ),
    change(
        "VARCHAR(40)",
        "UUID",
        &[
            "'123e4567-e89b-12d3-a456-426655440000'",
            "'123e4567-e89b-12d3-a456-426655440001'",
        ],
    ),
    change(
        "UUID",
        "VARCHAR(40)",
        &[
            "'123e4567-e89b-12d3-a456-426655440000'",
            "'123e4567-e89b-12d3-a456-426655440001'",
        ],
    ),
    change("VARCHAR(40)", "INET6", &["'::1'", "'::2'"]),
];
