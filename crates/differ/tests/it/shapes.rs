//! Keys on which rows are matched in tests.

/// Definitions of the key's columns on both tables, its columns, and keys in the order of the source.
pub(crate) struct Shape {
    pub(crate) source: &'static str,
    pub(crate) target: &'static str,
    pub(crate) key: &'static [&'static str],
    pub(crate) rows: &'static [&'static str],
}

const fn same(columns: &'static str, key: &'static [&'static str], rows: &'static [&'static str]) -> Shape {
    Shape {
        source: columns,
        target: columns,
        key,
        rows,
    }
}

const WORDS: &[&str] = &[
    "''",
    "'0'",
    "'a'",
    "'b'",
    "_utf8mb4 X'C3A9'",
    "_utf8mb4 X'C3B6'",
    "'z'",
    "'zz'",
];

pub(crate) const SHAPES: &[Shape] = &[
    same(
        "k INT NOT NULL, PRIMARY KEY (k)",
        &["k"],
        &["-5", "0", "1", "2147483647"],
    ),
    same(
        "k BIGINT UNSIGNED NOT NULL, PRIMARY KEY (k)",
        &["k"],
        &["0", "1", "18446744073709551615"],
    ),
    same(
        "k INT NOT NULL, l VARCHAR(20) NOT NULL, PRIMARY KEY (k, l)",
        &["k", "l"],
        &["1, ''", "1, 'a'", "1, 'b'", "2, ''", "2, 'a'"],
    ),
    same(
        "k INT NOT NULL, l INT NOT NULL, m INT NOT NULL, PRIMARY KEY (k, l, m)",
        &["k", "l", "m"],
        &["1,1,1", "1,1,2", "1,2,1", "2,1,1", "2,2,2"],
    ),
    same(
        "k INT NOT NULL, l INT NOT NULL, PRIMARY KEY (k, l DESC)",
        &["k", "l"],
        &["1,2", "1,1", "2,9", "2,8"],
    ),
    same("k VARCHAR(20) NOT NULL, PRIMARY KEY (k)", &["k"], WORDS),
    same(
        "k VARCHAR(20) COLLATE utf8mb4_general_ci NOT NULL, PRIMARY KEY (k)",
        &["k"],
        &["''", "'0'", "'a'", "'b'", "'c'", "'zz'"],
    ),
    same(
        "k VARCHAR(20) CHARACTER SET latin1 NOT NULL, PRIMARY KEY (k)",
        &["k"],
        WORDS,
    ),
    same(
        "k BINARY(3) NOT NULL, PRIMARY KEY (k)",
        &["k"],
        &["X'000000'", "X'000001'", "X'61'", "X'FFFFFF'"],
    ),
    same(
        "k VARBINARY(9) NOT NULL, PRIMARY KEY (k)",
        &["k"],
        &["X''", "X'00'", "X'0000'", "X'61'", "X'6100'"],
    ),
    same(
        "k DATETIME(6) NOT NULL, PRIMARY KEY (k)",
        &["k"],
        &[
            "'0000-00-00'",
            "'2024-02-29 23:59:59'",
            "'2024-02-29 23:59:59.000001'",
            "'9999-12-31'",
        ],
    ),
    same(
        "k DATE NOT NULL, PRIMARY KEY (k)",
        &["k"],
        &["'0000-00-00'", "'2024-00-00'", "'2024-02-29'"],
    ),
    same(
        "k TIMESTAMP(3) NOT NULL DEFAULT '2001-01-01', PRIMARY KEY (k)",
        &["k"],
        &["0", "'2024-02-29 23:59:59'", "'2024-02-29 23:59:59.001'"],
    ),
    same(
        "k TIME NOT NULL, PRIMARY KEY (k)",
        &["k"],
        &["'-838:59:59'", "'-00:00:01'", "0", "'00:00:01'"],
    ),
    same(
        "k DECIMAL(20,5) NOT NULL, PRIMARY KEY (k)",
        &["k"],
        &["-1.5", "0", "0.00001", "99999999999999.99999"],
    ),
    same(
        "k DOUBLE NOT NULL, PRIMARY KEY (k)",
        &["k"],
        &["-1.5", "0", "0.1", "0.3", "1e300"],
    ),
    same("k YEAR NOT NULL, PRIMARY KEY (k)", &["k"], &["0", "1901", "2155"]),
    same(
        "k BIT(64) NOT NULL, PRIMARY KEY (k)",
        &["k"],
        &["0", "1", "18446744073709551615"],
    ),
    same(
        "k ENUM('b','','a') NOT NULL, PRIMARY KEY (k)",
        &["k"],
        &["1", "2", "3"],
    ),
    same(
        "k INT NOT NULL, l SET('a','b') NOT NULL, PRIMARY KEY (k, l)",
        &["k", "l"],
        &["1,0", "1,1", "1,3", "2,0"],
    ),
    same(
        "k INET6 NOT NULL, PRIMARY KEY (k)",
        &["k"],
        &["'::'", "'::1'", "'1::'"],
    ),
    Shape {
        source: "k INT NOT NULL, PRIMARY KEY (k)",
        target: "k BIGINT NOT NULL, PRIMARY KEY (k)",
        key: &["k"],
        rows: &["-5", "0", "2147483647"],
    },
    Shape {
        source: "k DECIMAL(10,2) NOT NULL, PRIMARY KEY (k)",
        target: "k DECIMAL(20,6) NOT NULL, PRIMARY KEY (k)",
        key: &["k"],
        rows: &["-5.25", "0", "1.01"],
    },
    Shape {
        source: "k DATETIME NOT NULL, PRIMARY KEY (k)",
        target: "k DATETIME(6) NOT NULL, PRIMARY KEY (k)",
        key: &["k"],
        rows: &["'2024-01-01'", "'2024-01-02'", "'2024-01-03'"],
    },
    Shape {
        source: "k ENUM('b','a') NOT NULL, PRIMARY KEY (k)",
        target: "k ENUM('b','a','c') NOT NULL, PRIMARY KEY (k)",
        key: &["k"],
        rows: &["1", "2"],
    },
    Shape {
        source: "k VARCHAR(20) CHARACTER SET latin1 NOT NULL, PRIMARY KEY (k)",
        target: "k VARCHAR(20) CHARACTER SET utf8mb4 NOT NULL, PRIMARY KEY (k)",
        key: &["k"],
        rows: WORDS,
    },
    Shape {
        source: "k VARCHAR(20) CHARACTER SET utf8mb4 NOT NULL, PRIMARY KEY (k)",
        target: "k VARCHAR(20) CHARACTER SET latin1 NOT NULL, PRIMARY KEY (k)",
        key: &["k"],
        rows: WORDS,
    },
    Shape {
        source: "k VARCHAR(20) CHARACTER SET utf8mb3 NOT NULL, PRIMARY KEY (k)",
        target: "k VARCHAR(20) CHARACTER SET utf8mb4 NOT NULL, PRIMARY KEY (k)",
        key: &["k"],
        rows: WORDS,
    },
    Shape {
        source: "k VARCHAR(20) COLLATE utf8mb4_bin NOT NULL, PRIMARY KEY (k)",
        target: "k VARCHAR(20) COLLATE utf8mb4_general_ci NOT NULL, PRIMARY KEY (k)",
        key: &["k"],
        rows: WORDS,
    },
    Shape {
        source: "n INT NOT NULL, k VARCHAR(20) COLLATE utf8mb4_general_ci NOT NULL, PRIMARY KEY (n, k)",
        target: "n INT NOT NULL, k VARCHAR(20) COLLATE utf8mb4_bin NOT NULL, PRIMARY KEY (n, k)",
        key: &["n", "k"],
        rows: &["1,'a'", "1,'B'", "1,'c'", "2,'A'"],
    },
];
