//! Columns and keys of every type, against what the server's own ALTER makes of them.

use std::sync::Arc;

use anyhow::{Context, ensure};
use changeling_applier::migration::MigrationError;
use changeling_applier::progress::{Ending, Phase};
use changeling_applier::settings::{Permission, Renames};
use rstest::rstest;

use crate::migrate::{flag_file, slow_copy};
use crate::rig::{self, Dice, On, Rig, outcome, reached};
use crate::scribe::{Make, Scribe};
use crate::stage;

fn int(dice: &mut Dice, values: &[&str], limit: u64) -> String {
    match dice.below(3) {
        0 => dice.one_of(values).to_owned(),
        _ => dice.below(limit).to_string(),
    }
}

fn text(dice: &mut Dice, charset: &str) -> String {
    const WORDS: [&str; 10] = [
        "",
        "a",
        "B",
        "two words",
        "it''s",
        "trailing  ",
        "z",
        "%_",
        "0",
        "tab\there",
    ];
    match charset {
        "utf8mb4" | "utf16" => format!(
            "'{}'",
            dice.one_of(&["日本語", "ü€", "🦀 crab", "ß", "a\u{301}", WORDS[2], WORDS[5]])
        ),
        "latin1" => format!(
            "'{}'",
            dice.one_of(&["é", "ü€", "ÿ", "Å", WORDS[1], WORDS[4], WORDS[5]])
        ),
        "ucs2" => format!("'{}'", dice.one_of(&["日本", "ü", "Ω", WORDS[0], WORDS[7]])),
        "sjis" => format!(
            "_sjis X'{}'",
            dice.one_of(&["93FA967B8CEA", "41", "B1B2", "835C", ""])
        ),
        "gbk" => format!("_gbk X'{}'", dice.one_of(&["C8D5B1BE", "41", "BF5C", "815C", ""])),
        _ => format!("'{}'", dice.one_of(&WORDS)),
    }
}

fn bytes(dice: &mut Dice, length: u64) -> String {
    let count = dice.below(length + 1);
    let bytes: String = (0..count)
        .map(|_| {
            format!(
                "{:02X}",
                dice.one_of(&[0_u8, 1, 0x20, 0x5c, 0x27, 0x7f, 0x80, 0xff])
            )
        })
        .collect();
    format!("X'{bytes}'")
}

fn nullable(dice: &mut Dice, make: Make) -> String {
    if dice.below(6) == 0 {
        "NULL".to_owned()
    } else {
        make(dice)
    }
}

/// A column: name, type, and what is written into it; no values for one that the server computes.
type Kind = (&'static str, &'static str, Option<Make>);

const COMMON: &[Kind] = &[
    (
        "ti",
        "tinyint",
        Some(|d| nullable(d, |d| int(d, &["-128", "127", "0"], 100))),
    ),
    ("tu", "tinyint unsigned", Some(|d| int(d, &["255", "0"], 255))),
    ("si", "smallint", Some(|d| int(d, &["-32768", "32767"], 1000))),
    (
        "mi",
        "mediumint",
        Some(|d| int(d, &["-8388608", "8388607"], 1000)),
    ),
    (
        "i",
        "int",
        Some(|d| nullable(d, |d| int(d, &["-2147483648", "2147483647"], 1000))),
    ),
    ("iu", "int unsigned", Some(|d| int(d, &["4294967295"], 1000))),
    (
        "b",
        "bigint",
        Some(|d| int(d, &["-9223372036854775808", "9223372036854775807"], 1000)),
    ),
    (
        "bu",
        "bigint unsigned",
        Some(|d| int(d, &["18446744073709551615"], 1000)),
    ),
    (
        "de",
        "decimal(20,6)",
        Some(|d| {
            nullable(d, |d| {
                int(d, &["-99999999999999.999999", "0.000001", "-0.5"], 1000)
            })
        }),
    ),
    (
        "dw",
        "decimal(65,30)",
        Some(|d| {
            int(
                d,
                &[
                    "-12345678901234567890123456789012345.123456789012345678901234567890",
                    "0.1",
                ],
                9,
            )
        }),
    ),
    (
        "f",
        "float",
        Some(|d| int(d, &["0.1", "3.4e38", "-1e-37", "16777217", "-0.0"], 1000)),
    ),
    (
        "d",
        "double",
        Some(|d| {
            int(
                d,
                &[
                    "0.1",
                    "1.7976931348623157e308",
                    "5e-324",
                    "-2.2250738585072014e-308",
                    "1e15",
                ],
                1000,
            )
        }),
    ),
    (
        "bt",
        "bit(17)",
        Some(|d| int(d, &["b'11111111111111111'", "b'0'"], 1000)),
    ),
    (
        "b64",
        "bit(64)",
        Some(|d| {
            int(
                d,
                &["b'1111111111111111111111111111111111111111111111111111111111111111'"],
                9,
            )
        }),
    ),
    (
        "da",
        "date",
        Some(|d| {
            nullable(d, |d| {
                format!(
                    "'{}'",
                    d.one_of(&["1000-01-01", "9999-12-31", "2024-02-29", "1969-12-31"])
                )
            })
        }),
    ),
    (
        "tm",
        "time(3)",
        Some(|d| {
            format!(
                "'{}'",
                d.one_of(&["-838:59:59.000", "838:59:59.000", "12:34:56.789", "-00:00:00.001"])
            )
        }),
    ),
    (
        "dt",
        "datetime(6)",
        Some(|d| {
            format!(
                "'{}'",
                d.one_of(&[
                    "1000-01-01 00:00:00",
                    "9999-12-31 23:59:59.999999",
                    "2024-10-27 02:30:00.5"
                ])
            )
        }),
    ),
    (
        "ts",
        "timestamp(4) NULL",
        Some(|d| {
            nullable(d, |d| {
                format!(
                    "'{}'",
                    d.one_of(&[
                        "1970-01-01 05:30:01",
                        "2038-01-19 08:44:07.9999",
                        "2024-03-31 02:30:00.25"
                    ])
                )
            })
        }),
    ),
    (
        "up",
        "timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP",
        None,
    ),
    (
        "y",
        "year",
        Some(|d| int(d, &["1901", "2155", "0"], 1).replace("'", "")),
    ),
    (
        "c",
        "char(10) CHARACTER SET utf8mb4",
        Some(|d| nullable(d, |d| text(d, "utf8mb4"))),
    ),
    (
        "vc",
        "varchar(50) CHARACTER SET utf8mb4",
        Some(|d| text(d, "utf8mb4")),
    ),
    (
        "tx",
        "text CHARACTER SET utf8mb4",
        Some(|d| nullable(d, |d| format!("REPEAT({}, {})", text(d, "utf8mb4"), d.below(400)))),
    ),
    (
        "lt",
        "longtext CHARACTER SET utf8mb4",
        Some(|d| text(d, "utf8mb4")),
    ),
    (
        "l1",
        "varchar(50) CHARACTER SET latin1",
        Some(|d| nullable(d, |d| text(d, "latin1"))),
    ),
    (
        "cl",
        "char(9) CHARACTER SET latin1 COLLATE latin1_bin",
        Some(|d| text(d, "latin1")),
    ),
    (
        "u16",
        "varchar(50) CHARACTER SET utf16",
        Some(|d| text(d, "utf16")),
    ),
    ("u2", "varchar(50) CHARACTER SET ucs2", Some(|d| text(d, "ucs2"))),
    ("sj", "varchar(50) CHARACTER SET sjis", Some(|d| text(d, "sjis"))),
    ("gb", "varchar(50) CHARACTER SET gbk", Some(|d| text(d, "gbk"))),
    ("bi", "binary(8)", Some(|d| bytes(d, 8))),
    ("vb", "varbinary(40)", Some(|d| nullable(d, |d| bytes(d, 40)))),
    ("bl", "blob", Some(|d| bytes(d, 60))),
    (
        "e",
        "enum('a','b','ü','x y') CHARACTER SET utf8mb4",
        Some(|d| nullable(d, |d| d.one_of(&["'a'", "'b'", "'ü'", "'x y'"]).to_owned())),
    ),
    (
        "s",
        "set('p','q','é','r s') CHARACTER SET utf8mb4",
        Some(|d| d.one_of(&["''", "'p'", "'q,é'", "'p,q,é,r s'"]).to_owned()),
    ),
    (
        "js",
        "json",
        Some(|d| {
            nullable(d, |d| {
                format!(
                    "'{}'",
                    d.one_of(&[
                        r#"{"a":[1,2.5,"ü"],"b":null}"#,
                        "[]",
                        r#""text""#,
                        "1e3",
                        r#"{"big":18446744073709551615,"neg":-1.5}"#
                    ])
                )
            })
        }),
    ),
    (
        "ge",
        "geometry",
        Some(|d| {
            nullable(d, |d| {
                format!(
                    "ST_GeomFromText('{}')",
                    d.one_of(&[
                        "POINT(1 2)",
                        "LINESTRING(0 0,1 1,2 5)",
                        "POLYGON((0 0,4 0,4 4,0 0))"
                    ])
                )
            })
        }),
    ),
    (
        "pt",
        "point NOT NULL",
        Some(|d| format!("ST_GeomFromText('POINT({} 7.5)')", d.below(90))),
    ),
    ("gv", "bigint GENERATED ALWAYS AS (si + 1) VIRTUAL", None),
    (
        "gs",
        "varchar(80) CHARACTER SET utf8mb4 GENERATED ALWAYS AS (concat(vc, '!')) STORED",
        None,
    ),
    ("nn", "int NOT NULL DEFAULT 4", Some(|d| d.below(9).to_string())),
];

const MYSQL_ONLY: &[Kind] = &[
    (
        "hid",
        "int INVISIBLE DEFAULT 3",
        Some(|d| d.below(100).to_string()),
    ),
    (
        "vec",
        "vector(3)",
        Some(|d| nullable(d, |d| format!("STRING_TO_VECTOR('[{}, 2.5, -1]')", d.below(100)))),
    ),
    (
        "srid",
        "point SRID 4326",
        Some(|d| nullable(d, |d| format!("ST_SRID(POINT({}, 20), 4326)", d.below(80)))),
    ),
    (
        "dex",
        "varchar(40) DEFAULT (concat('x', 1))",
        Some(|d| text(d, "utf8mb4")),
    ),
];

const MARIADB_ONLY: &[Kind] = &[
    (
        "hid",
        "int INVISIBLE DEFAULT 3",
        Some(|d| d.below(100).to_string()),
    ),
    (
        "uu",
        "uuid",
        Some(|d| {
            nullable(d, |d| {
                format!("'{:08x}-1234-1abc-8abc-0123456789ab'", d.below(1 << 32))
            })
        }),
    ),
    (
        "v6",
        "inet6",
        Some(|d| {
            nullable(d, |d| {
                d.one_of(&["'::1'", "'fe80::1:2'", "'::ffff:10.0.0.1'"])
                    .to_owned()
            })
        }),
    ),
    (
        "v4",
        "inet4",
        Some(|d| {
            d.one_of(&["'10.1.2.3'", "'255.255.255.255'", "'0.0.0.0'"])
                .to_owned()
        }),
    ),
    (
        "co",
        "text COMPRESSED CHARACTER SET utf8mb4",
        Some(|d| format!("REPEAT({}, 40)", text(d, "utf8mb4"))),
    ),
];

fn id(dice: &mut Dice) -> String {
    (1 + dice.below(400)).to_string()
}

/// Creates the table and writes some rows before the migration; the writer goes on with the rest.
async fn every_type(rig: &mut Rig) -> anyhow::Result<Scribe> {
    let more = match rig.on {
        On::MySql => MYSQL_ONLY,
        // A compressed column is refused; see the inspector's tests.
        On::MariaDb => &MARIADB_ONLY[..4],
    };
    let server = &rig.server;
    let kinds: Vec<Kind> = COMMON
        .iter()
        .chain(more)
        .filter(|(_, definition, _)| server.has_type_of(definition))
        .copied()
        .collect();
    let mut definitions: Vec<String> = kinds
        .iter()
        .map(|(name, definition, _)| format!("{name} {definition}"))
        .collect();
    definitions.push("KEY vc (vc), KEY gs (gs), KEY pre (tx(5))".to_owned());
    if rig.on == On::MySql {
        definitions.push("KEY low ((lower(vc)))".to_owned());
    }
    rig.sql(&[format!(
        "CREATE TABLE t (id int NOT NULL PRIMARY KEY, {})",
        definitions.join(", ")
    )])
    .await?;
    let columns = kinds
        .into_iter()
        .filter_map(|(name, _, make)| Some((name, make?)))
        .collect();
    let scribe = Scribe {
        opts: rig.opts(),
        table: "t".to_owned(),
        key: vec![("id", id)],
        columns,
        seed: 5,
    };
    let written = scribe.write(1200).await?;
    ensure!(
        written.errors.is_empty(),
        "{:#?}",
        &written.errors[..written.errors.len().min(3)]
    );
    Ok(scribe)
}

/// Migrates while the writer writes, then lets the server itself alter the table that was replaced, and compares.
async fn as_the_server_does(rig: &mut Rig, scribe: &Scribe, alter: &str) -> anyhow::Result<usize> {
    let mut settings = rig.settings("t", alter);
    slow_copy(&mut settings);
    settings.renames = Renames::Approve;
    settings.leftovers.drop_old_first = Permission::Granted;
    settings.leftovers.drop_ghost_first = Permission::Granted;
    let file = flag_file()?;
    settings.cut_over.postpone_flag_file = Some(file.path().to_owned());
    let migration = stage::migrate(&rig.host, settings);
    reached(&migration, Phase::Copying)
        .await
        .with_context(|| alter.to_owned())?;
    let writing = scribe.start().await?;
    reached(&migration, Phase::Postponing)
        .await
        .with_context(|| alter.to_owned())?;
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    let written = writing.stop().await?;
    file.close()?;
    let summary = outcome(&migration).await.with_context(|| alter.to_owned())?;
    ensure!(summary.ending == Ending::Swapped, "{summary:?}");
    rig.sql(&[format!("ALTER TABLE _t_del {alter}, ALGORITHM=COPY")])
        .await?;
    let rows = rig
        .assert_same("t", "_t_del")
        .await
        .with_context(|| alter.to_owned())?;
    eprintln!(
        "{:?} {alter}: {rows} rows, {} statements meanwhile ({} refused)",
        rig.on, written.statements, written.refused
    );
    Ok(rows)
}

/// A rebuild that converts nothing.
#[rstest]
fn every_type_arrives_as_it_was(#[values(On::MySql, On::MariaDb)] on: On) -> anyhow::Result<()> {
    rig::in_the_east(on, async |mut rig| {
        let scribe = every_type(&mut rig).await?;
        as_the_server_does(
            &mut rig,
            &scribe,
            "ADD COLUMN extra varchar(10) NOT NULL DEFAULT 'é'",
        )
        .await?;
        Ok(())
    })
}

/// The table map has a bit for the sign of a YEAR, before those of the integers behind it.
#[rstest]
fn a_year_has_a_sign_too(#[values(On::MySql, On::MariaDb)] on: On) -> anyhow::Result<()> {
    rig::alone(
        on,
        on.spec().option("--binlog-row-metadata=MINIMAL"),
        async |mut rig| {
            let columns = "i bigint, u bigint unsigned, y year, d decimal(9,2), f float, bt bit(3), i2 int, u2 int unsigned, y2 year, \
                       ts timestamp NULL, e enum('a','b'), s set('a','b'), u3 tinyint unsigned, i3 tinyint, m mediumint unsigned, i4 smallint";
            rig.sql(&[
                format!("CREATE TABLE t (id int PRIMARY KEY, {columns})"),
                "INSERT INTO t (id) VALUES (1), (2), (3)".to_owned(),
            ])
            .await?;
            let file = flag_file()?;
            let mut settings = rig.settings("t", "MODIFY e varchar(9)");
            settings.cut_over.postpone_flag_file = Some(file.path().to_owned());
            let migration = stage::migrate(&rig.host, settings);
            reached(&migration, Phase::Postponing).await?;
            rig.sql(&["UPDATE t SET u = 18446744073709551615, i = -1, u2 = 4294967295, i2 = -1, y = 1999 WHERE id = 1"]).await?;
            file.close()?;
            outcome(&migration).await?;
            ensure!(rig.assert_same("t", "_t_del").await? == 3);
            Ok(())
        },
    )
}

/// Conversions of one column each, rows copied and rows synchronised alike.
#[rstest]
fn every_conversion_is_the_server_s(#[values(On::MySql, On::MariaDb)] on: On) -> anyhow::Result<()> {
    rig::in_the_east(on, async |mut rig| {
        let alters = [
            "MODIFY i bigint, MODIFY tu int unsigned, MODIFY iu bigint",
            "MODIFY vc text CHARACTER SET utf8mb4, MODIFY c varchar(30) CHARACTER SET utf8mb4, DROP KEY vc",
            "MODIFY l1 varchar(60) CHARACTER SET utf8mb4, MODIFY sj varchar(60) CHARACTER SET utf8mb4, MODIFY gb text CHARACTER SET utf8mb4, MODIFY u2 varchar(60) CHARACTER SET utf8mb4",
            "MODIFY e enum('ü','new','x y','b','a') CHARACTER SET utf8mb4, MODIFY s set('é','r s','n','q','p') CHARACTER SET utf8mb4",
            "MODIFY de decimal(30,10), MODIFY si decimal(9,2), MODIFY mi varchar(20) CHARACTER SET latin1",
            "MODIFY tm time(6), MODIFY ts timestamp(6) NULL, MODIFY da datetime",
            "CHANGE vb renamed varbinary(80), CHANGE b big decimal(25,0), CHANGE l1 wide varchar(80) CHARACTER SET utf16",
            "MODIFY f double, MODIFY bt bit(40), MODIFY bl longblob, MODIFY bi varbinary(20)",
            "MODIFY nn int NULL, MODIFY js longtext CHARACTER SET utf8mb4, MODIFY e varchar(20) CHARACTER SET utf8mb4",
        ];
        for alter in alters {
            rig.sql(&["DROP TABLE IF EXISTS t"]).await?;
            let scribe = every_type(&mut rig).await?;
            as_the_server_does(&mut rig, &scribe, alter).await?;
        }
        Ok(())
    })
}

/// Between DATETIME and TIMESTAMP the zone of the server counts, and it is not UTC.
#[rstest]
fn datetime_and_timestamp_in_the_server_s_zone(
    #[values(On::MySql, On::MariaDb)] on: On,
) -> anyhow::Result<()> {
    rig::in_the_east(on, async |mut rig| {
        let times: Make = |d| {
            format!(
                "'{}'",
                d.one_of(&[
                    "1990-01-01 00:00:00",
                    "2024-10-27 02:30:00.5",
                    "2037-12-31 23:59:59.999999",
                    "1970-01-02 00:00:00"
                ])
            )
        };
        for alter in [
            "MODIFY dt timestamp(6) NULL",
            "MODIFY ts datetime(6) NULL",
            "MODIFY dt timestamp(6) NULL, MODIFY ts datetime(6) NULL, MODIFY other bigint",
        ] {
            rig.sql(&[
                "DROP TABLE IF EXISTS t",
                "CREATE TABLE t (id int NOT NULL PRIMARY KEY, dt datetime(6), ts timestamp(6) NULL, other int)",
            ])
            .await?;
            let columns: Vec<(&'static str, Make)> = vec![
                ("dt", times),
                ("ts", times),
                ("other", |d| d.below(9).to_string()),
            ];
            let scribe = Scribe {
                opts: rig.opts(),
                table: "t".to_owned(),
                key: vec![("id", id)],
                columns,
                seed: 6,
            };
            scribe.write(1500).await?;
            as_the_server_does(&mut rig, &scribe, alter).await?;
        }
        Ok(())
    })
}

/// A key: its columns' definitions, and what is written into them.
type OnlyKey = (&'static str, &'static str, &'static [(&'static str, Make)]);

const KEYS: &[OnlyKey] = &[
    (
        "k tinyint NOT NULL",
        "k",
        &[("k", |d| int(d, &["-128", "127"], 100))],
    ),
    (
        "k int NOT NULL",
        "k",
        &[("k", |d| int(d, &["-2147483648", "2147483647", "-1"], 300))],
    ),
    (
        "k int unsigned NOT NULL",
        "k",
        &[("k", |d| int(d, &["4294967295", "0"], 300))],
    ),
    (
        "k mediumint unsigned NOT NULL",
        "k",
        &[("k", |d| int(d, &["16777215", "0"], 300))],
    ),
    (
        "k bigint NOT NULL",
        "k",
        &[("k", |d| {
            int(d, &["-9223372036854775808", "9223372036854775807"], 300)
        })],
    ),
    (
        "k bigint unsigned NOT NULL",
        "k",
        &[("k", |d| {
            int(d, &["18446744073709551615", "9223372036854775808"], 300)
        })],
    ),
    (
        "k decimal(30,10) NOT NULL",
        "k",
        &[("k", |d| {
            int(
                d,
                &["-99999999999999999999.9999999999", "0.1", "0.0000000001"],
                300,
            )
        })],
    ),
    (
        "k double NOT NULL",
        "k",
        &[("k", |d| {
            int(d, &["0.1", "-1.7976931348623157e308", "1e-300", "2.5"], 300)
        })],
    ),
    (
        "k datetime(6) NOT NULL",
        "k",
        &[("k", |d| {
            format!(
                "'2024-01-01 00:00:00.000001' + INTERVAL {} MICROSECOND",
                d.below(300)
            )
        })],
    ),
    (
        "k datetime NOT NULL",
        "k",
        &[("k", |d| {
            format!("'2024-01-01 00:00:00' + INTERVAL {} HOUR", d.below(300))
        })],
    ),
    (
        "k timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP",
        "k",
        &[("k", |d| {
            format!("'2024-10-27 00:00:00' + INTERVAL {} MINUTE", d.below(300))
        })],
    ),
    (
        "k timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)",
        "k",
        &[("k", |d| {
            format!("'2024-10-27 00:00:00.125' + INTERVAL {} MINUTE", d.below(300))
        })],
    ),
    (
        "k date NOT NULL",
        "k",
        &[("k", |d| format!("'1999-12-25' + INTERVAL {} DAY", d.below(300)))],
    ),
    (
        "k time(2) NOT NULL",
        "k",
        &[("k", |d| format!("SEC_TO_TIME({} - 150.5)", d.below(300)))],
    ),
    (
        "k time NOT NULL",
        "k",
        &[("k", |d| format!("SEC_TO_TIME({})", d.below(300) * 10000))],
    ),
    (
        "k year NOT NULL",
        "k",
        &[("k", |d| (1901 + d.below(250)).to_string())],
    ),
    (
        "k binary(16) NOT NULL",
        "k",
        &[("k", |d| {
            format!("UNHEX(LPAD(HEX({} * 251), 32, '00FF5C27'))", d.below(300))
        })],
    ),
    (
        "k binary(4) NOT NULL",
        "k",
        &[("k", |d| {
            format!("UNHEX(RPAD(LPAD(HEX({}), 4, '0'), 8, '0'))", d.below(300))
        })],
    ),
    ("k varbinary(20) NOT NULL", "k", &[("k", |d| bytes(d, 4))]),
    (
        "k varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci NOT NULL",
        "k",
        &[("k", |d| {
            format!("CONCAT({}, {})", text(d, "utf8mb4"), d.below(40))
        })],
    ),
    (
        "k varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL",
        "k",
        &[("k", |d| {
            format!("CONCAT({}, {})", text(d, "utf8mb4"), d.below(40))
        })],
    ),
    (
        "k varchar(20) CHARACTER SET latin1 NOT NULL",
        "k",
        &[("k", |d| format!("CONCAT({}, {})", text(d, "latin1"), d.below(40)))],
    ),
    (
        "k varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci NOT NULL",
        "k",
        &[("k", |d| {
            d.one_of(&["'straße'", "'STRASSE'", "'a'", "'A'", "'á'", "'a '", "'b'", "''"])
                .to_owned()
        })],
    ),
    (
        "k varchar(20) CHARACTER SET sjis NOT NULL",
        "k",
        &[("k", |d| format!("CONCAT({}, {})", text(d, "sjis"), d.below(40)))],
    ),
    (
        "k varchar(20) CHARACTER SET gbk NOT NULL",
        "k",
        &[("k", |d| format!("CONCAT({}, {})", text(d, "gbk"), d.below(40)))],
    ),
    (
        "k varchar(20) CHARACTER SET utf16 NOT NULL",
        "k",
        &[("k", |d| format!("CONCAT({}, {})", text(d, "utf16"), d.below(40)))],
    ),
    (
        "k char(12) CHARACTER SET utf8mb4 NOT NULL",
        "k",
        &[("k", |d| {
            format!("CONCAT({}, {})", text(d, "utf8mb4"), d.below(40))
        })],
    ),
    (
        "k char(12) CHARACTER SET latin1 COLLATE latin1_bin NOT NULL",
        "k",
        &[("k", |d| format!("CONCAT({}, {})", text(d, "latin1"), d.below(40)))],
    ),
    (
        "k enum('z','y','ü','a b','it''s') CHARACTER SET utf8mb4 NOT NULL",
        "k",
        &[("k", |d| {
            d.one_of(&["'z'", "'y'", "'ü'", "'a b'", "'it''s'"]).to_owned()
        })],
    ),
    (
        "k set('z','y','ü','a b') CHARACTER SET utf8mb4 NOT NULL",
        "k",
        &[("k", |d| d.below(16).to_string())],
    ),
    ("k bit(9) NOT NULL", "k", &[("k", |d| d.below(512).to_string())]),
    (
        "k bit(64) NOT NULL",
        "k",
        &[("k", |d| {
            int(
                d,
                &["b'1111111111111111111111111111111111111111111111111111111111111111'"],
                300,
            )
        })],
    ),
    (
        "a int NOT NULL, b varchar(9) CHARACTER SET utf8mb4 NOT NULL",
        "a, b",
        &[("a", |d| d.below(20).to_string()), ("b", |d| text(d, "utf8mb4"))],
    ),
    (
        "a varchar(9) CHARACTER SET utf8mb4 NOT NULL, b datetime NOT NULL",
        "a, b",
        &[
            ("a", |d| text(d, "utf8mb4")),
            ("b", |d| format!("'2024-01-01' + INTERVAL {} HOUR", d.below(40))),
        ],
    ),
    (
        "a date NOT NULL, b int unsigned NOT NULL, c varbinary(4) NOT NULL",
        "a, b, c",
        &[
            ("a", |d| format!("'2024-01-01' + INTERVAL {} DAY", d.below(9))),
            ("b", |d| d.below(9).to_string()),
            ("c", |d| bytes(d, 1)),
        ],
    ),
];

const MYSQL_KEYS: &[OnlyKey] = &[
    (
        "k int NOT NULL",
        "k DESC",
        &[("k", |d| int(d, &["-2147483648", "2147483647", "-1"], 300))],
    ),
    (
        "a int NOT NULL, b varchar(9) CHARACTER SET utf8mb4 NOT NULL, c int NOT NULL",
        "a, b DESC, c",
        &[
            ("a", |d| d.below(9).to_string()),
            ("b", |d| text(d, "utf8mb4")),
            ("c", |d| d.below(9).to_string()),
        ],
    ),
    (
        "k varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci NOT NULL",
        "k",
        &[("k", |d| {
            format!("CONCAT({}, {})", text(d, "utf8mb4"), d.below(40))
        })],
    ),
];

const MARIADB_KEYS: &[OnlyKey] = &[
    (
        "k uuid NOT NULL",
        "k",
        &[("k", |d| {
            format!(
                "'{:08x}-1234-{}abc-8abc-0123456789ab'",
                d.below(150),
                d.below(2) + 1
            )
        })],
    ),
    (
        "k inet6 NOT NULL",
        "k",
        &[("k", |d| format!("'fe80::{:x}:1'", d.below(300)))],
    ),
    (
        "k inet4 NOT NULL",
        "k",
        &[("k", |d| format!("'10.0.{}.{}'", d.below(3), d.below(100)))],
    ),
];

/// Every type that a key may have, as the only key, under a small workload.
#[rstest]
fn every_key(
    #[values(On::MySql, On::MariaDb)] on: On,
    #[values(0, 1, 2, 3)] part: usize,
) -> anyhow::Result<()> {
    rig::in_the_east(on, async |mut rig| {
        let more = if on == On::MySql { MYSQL_KEYS } else { MARIADB_KEYS };
        let server = Arc::clone(&rig.server);
        let keys = KEYS
            .iter()
            .chain(more)
            .filter(|(columns, ..)| server.has_type_of(columns))
            .enumerate()
            .filter(|(number, _)| number % 4 == part);
        let mut failures = Vec::new();
        for (number, (_, key)) in keys.enumerate() {
            if let Err(error) = one_key(&mut rig, key, number).await {
                failures.push(format!("{key:?}: {error:#}", key = (key.0, key.1)));
            }
        }
        ensure!(failures.is_empty(), "{}", failures.join("\n"));
        Ok(())
    })
}

async fn one_key(rig: &mut Rig, (columns, key, makes): &OnlyKey, number: usize) -> anyhow::Result<()> {
    let index = if number.is_multiple_of(3) {
        format!("UNIQUE KEY k ({key})")
    } else {
        format!("PRIMARY KEY ({key})")
    };
    rig.sql(&[
        "DROP TABLE IF EXISTS t, _t_del, _t_gho, _t_ghc, _t_ghk".to_owned(),
        format!("CREATE TABLE t ({columns}, v int, w varchar(30), {index})"),
    ])
    .await?;
    let others: Vec<(&'static str, Make)> = vec![
        ("v", |d| d.below(1000).to_string()),
        ("w", |d| text(d, "utf8mb4")),
    ];
    let scribe = Scribe {
        opts: rig.opts(),
        table: "t".to_owned(),
        key: makes.to_vec(),
        columns: others,
        seed: 7,
    };
    let written = scribe.write(500).await?;
    ensure!(written.errors.is_empty(), "{:#?}", written.errors.first());
    as_the_server_does(rig, &scribe, "MODIFY v bigint").await?;
    Ok(())
}

/// A key with NULLs, one of FLOATs, one over prefixes, none.
#[rstest]
fn keys_that_are_refused(#[values(On::MySql, On::MariaDb)] on: On) -> anyhow::Result<()> {
    rig::on(on, async |mut rig| {
        for definition in [
            "k int, UNIQUE KEY (k)",
            "k float NOT NULL, UNIQUE KEY (k)",
            "k varchar(90) NOT NULL, UNIQUE KEY (k(10))",
            "k int NOT NULL, KEY (k)",
        ] {
            rig.sql(&[
                "DROP TABLE IF EXISTS t".to_owned(),
                format!("CREATE TABLE t ({definition}, v int)"),
            ])
            .await?;
            match rig.migrate(rig.settings("t", "MODIFY v bigint")).await {
                Err(MigrationError::Inspect(error)) => eprintln!("{on:?} {definition}: {error}"),
                other => anyhow::bail!("{definition}: {other:?}"),
            }
            let tables: u64 = rig
                .value(&format!(
                    "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{}'",
                    rig.schema
                ))
                .await?;
            ensure!(tables == 1, "{definition}: something was created");
        }
        Ok(())
    })
}
