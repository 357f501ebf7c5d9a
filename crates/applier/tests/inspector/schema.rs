//! Tables as `information_schema` describes them.

use changeling_applier::inspector::{self, TableDetail};
use changeling_applier::server::Role;
use changeling_core::schema::{ColumnKind, Generated};
use changeling_support::{Flavor, Version};
use rstest::rstest;

use crate::fixture::{Bench, On, has_type_of, on};

async fn read(bench: &Bench, table: &str) -> TableDetail {
    let server = bench.server().await;
    let mut conn = server.connect(Role::Inspector).await.expect("reachable");
    inspector::read(&server, &mut conn, &bench.table(table))
        .await
        .expect("readable")
        .expect("there")
}

const COMMON: &str = "CREATE TABLE t (id int unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY, b tinyint(1), \
    c bigint unsigned zerofill, d decimal(10,3) unsigned, f float, g double, h year, i bit(7), j bit, k char(3), \
    l varchar(10) character set latin1, m text, n longblob, o binary(16), p varbinary(4), q date, r time, s time(3), \
    tt datetime(6), u timestamp NULL, v timestamp(2) NOT NULL DEFAULT CURRENT_TIMESTAMP(2), \
    w enum('a','it''s','c\\\\d','é','x,y',')') character set latin1, x set('1','2'), z geometry, \
    z3 int GENERATED ALWAYS AS (b + 1) VIRTUAL, z4 int GENERATED ALWAYS AS (b + 1) STORED, z5 int INVISIBLE, \
    UNIQUE KEY uu (k, l), UNIQUE KEY up (m(4)), KEY dd (k DESC, l ASC)) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";

#[rstest]
fn every_type_is_known(#[values(On::MySql, On::MariaDb)] server: On) {
    on(server, async |mut bench| {
        bench.sql(COMMON).await;
        let table = read(&bench, "t").await;
        let kind = |name: &str| {
            table
                .column(name)
                .map(|(column, _)| column.kind.clone())
                .expect("there")
        };
        let text = |charset: &str, collation: &str| ColumnKind::Text {
            charset: charset.into(),
            collation: collation.into(),
        };
        assert_eq!(
            kind("id"),
            ColumnKind::Integer {
                width: 4,
                unsigned: true
            }
        );
        assert_eq!(
            kind("b"),
            ColumnKind::Integer {
                width: 1,
                unsigned: false
            }
        );
        assert_eq!(
            kind("c"),
            ColumnKind::Integer {
                width: 8,
                unsigned: true
            }
        );
        assert_eq!(
            kind("d"),
            ColumnKind::Decimal {
                precision: 10,
                scale: 3
            }
        );
        assert_eq!(
            (kind("f"), kind("g"), kind("h")),
            (ColumnKind::Float, ColumnKind::Double, ColumnKind::Year)
        );
        assert_eq!(
            (kind("i"), kind("j")),
            (ColumnKind::Bit { width: 7 }, ColumnKind::Bit { width: 1 })
        );
        assert_eq!(kind("k"), text("utf8mb4", "utf8mb4_bin"));
        assert_eq!(kind("l"), text("latin1", "latin1_swedish_ci"));
        assert_eq!(kind("m"), text("utf8mb4", "utf8mb4_bin"));
        assert_eq!(
            (kind("n"), kind("o"), kind("p")),
            (
                ColumnKind::VarBinary,
                ColumnKind::Binary { length: 16 },
                ColumnKind::VarBinary
            )
        );
        assert_eq!(
            (kind("q"), kind("r"), kind("s")),
            (
                ColumnKind::Date,
                ColumnKind::Time { fsp: 0 },
                ColumnKind::Time { fsp: 3 }
            )
        );
        assert_eq!(
            (kind("tt"), kind("u"), kind("v")),
            (
                ColumnKind::DateTime { fsp: 6 },
                ColumnKind::Timestamp { fsp: 0 },
                ColumnKind::Timestamp { fsp: 2 }
            )
        );
        let members = ["a", "it's", "c\\d", "é", "x,y", ")"].map(String::from).to_vec();
        assert_eq!(
            kind("w"),
            ColumnKind::Enum {
                members,
                charset: "latin1".into(),
                collation: "latin1_swedish_ci".into()
            }
        );
        assert!(matches!(kind("x"), ColumnKind::Set { members, .. } if members == ["1", "2"]));
        assert_eq!(kind("z"), ColumnKind::Geometry);
        let column = |name: &str| table.column(name).expect("there").0.clone();
        assert!(column("id").auto_increment && !column("id").nullable && column("b").nullable);
        assert_eq!(
            (column("z3").generated, column("z4").generated),
            (Generated::Virtual, Generated::Stored)
        );
        assert!(column("z5").invisible && !column("z4").invisible);
        assert!(table.column("v").expect("there").1.computed_default);
        // Prefixed and plain keys are no unique keys of whole columns; the descending part is seen.
        let keys: Vec<&str> = table
            .schema
            .unique_keys
            .iter()
            .map(|key| key.name.as_str())
            .collect();
        assert_eq!(keys, ["PRIMARY", "uu"]);
        assert!(
            table
                .schema
                .unique_keys
                .iter()
                .all(|key| key.nullable == (key.name == "uu"))
        );
        // MariaDB read and ignored the word before 10.8.
        let part = table.index("dd").and_then(|index| index.parts.first());
        assert_eq!(
            part.expect("a part").descending,
            bench.at_least(Flavor::MariaDb, Version::new(10, 8)).await
        );
        assert_eq!(
            table
                .index("up")
                .expect("there")
                .parts
                .first()
                .expect("a part")
                .prefix,
            Some(4)
        );
        assert_eq!(
            (table.schema.engine.as_str(), table.table_type.as_str()),
            ("InnoDB", "BASE TABLE")
        );
    });
}

#[test]
fn what_only_mysql_has() {
    on(On::MySql, async |mut bench| {
        let (vector, kinds) = if has_type_of(bench.on, "vector(3)").await {
            (", v vector(3)", vec![ColumnKind::Json, ColumnKind::Vector])
        } else {
            ("", vec![ColumnKind::Json])
        };
        let columns =
            format!("id int PRIMARY KEY, n varchar(20), y json{vector}, UNIQUE KEY fx ((lower(n)))");
        bench.sql(&format!("CREATE TABLE t ({columns})")).await;
        let table = read(&bench, "t").await;
        assert_eq!(
            table
                .schema
                .columns
                .iter()
                .map(|c| c.kind.clone())
                .skip(2)
                .collect::<Vec<_>>(),
            kinds
        );
        assert_eq!(table.schema.unique_keys.len(), 1);
        assert_eq!(
            table
                .index("fx")
                .expect("there")
                .parts
                .first()
                .and_then(|p| p.expression.clone())
                .as_deref(),
            Some("lower(`n`)")
        );
        bench.sql("SET sql_generate_invisible_primary_key=ON").await;
        bench.sql("CREATE TABLE g (a int)").await;
        let table = read(&bench, "g").await;
        assert_eq!(
            table.schema.unique_keys.first().map(|key| key.name.as_str()),
            Some("PRIMARY")
        );
        assert!(table.column("my_row_id").expect("there").0.invisible);
    });
}

#[test]
fn what_only_mariadb_has() {
    on(On::MariaDb, async |mut bench| {
        let mut own = vec![("b inet6", ColumnKind::Inet6)];
        for (definition, kind) in [("u uuid", ColumnKind::Uuid), ("a inet4", ColumnKind::Inet4)] {
            if has_type_of(bench.on, definition).await {
                own.push((definition, kind));
            }
        }
        let definitions: Vec<&str> = own.iter().map(|(definition, _)| *definition).collect();
        bench
            .sql(&format!(
                "CREATE TABLE t (id int PRIMARY KEY, {}, j json, c varchar(30) COMPRESSED, l longtext, UNIQUE KEY lu (l), \
                 d varchar(9) NOT NULL DEFAULT 'NULL', e char(36) DEFAULT uuid(), f int DEFAULT NULL)",
                definitions.join(", ")
            ))
            .await;
        let table = read(&bench, "t").await;
        let kinds: Vec<ColumnKind> = table
            .schema
            .columns
            .iter()
            .skip(1)
            .map(|c| c.kind.clone())
            .collect();
        let expected: Vec<ColumnKind> = own.into_iter().map(|(_, kind)| kind).collect();
        let (own, others) = kinds.split_at(expected.len());
        assert_eq!(own, expected);
        assert!(matches!(others.first(), Some(ColumnKind::Text { charset, .. }) if charset == "utf8mb4"));
        assert!(matches!(others.get(1), Some(ColumnKind::Unknown { .. })));
        // A unique key over a hash cannot be walked.
        assert_eq!(table.schema.unique_keys.len(), 1);
        let extra = |name: &str| table.column(name).expect("there").1.clone();
        assert!(extra("d").has_default && !extra("d").computed_default);
        assert!(extra("e").computed_default && !extra("f").has_default);
    });
}

#[rstest]
fn a_name_is_no_pattern(#[values(On::MySql, On::MariaDb)] server: On) {
    on(server, async |mut bench| {
        bench.sql("CREATE TABLE axb (id int PRIMARY KEY)").await;
        let server = bench.server().await;
        let mut conn = server.connect(Role::Inspector).await.expect("reachable");
        for name in ["a_b", "a%", "AXB", "axb "] {
            let found = inspector::read(&server, &mut conn, &bench.table(name))
                .await
                .expect("readable");
            assert!(found.is_none(), "{name}");
        }
    });
}
