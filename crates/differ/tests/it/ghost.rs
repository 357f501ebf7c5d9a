//! A table, its ghost and a session on a server of their own.

use std::sync::atomic::{AtomicU32, Ordering};

use changeling_core::ident::TableName;
use changeling_core::key::{Bound, Key, KeyColumn, KeyRange, KeySpec, TargetMatch};
use changeling_core::schema::{Column, ColumnKind, Generated};
use changeling_core::verify::{ColumnPair, Discrepancy, Findings, Suspect, TablePair, Verifier};
use changeling_differ::mysql::SameServerProof;
use changeling_support::{Flavor, Server};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

/// Tells schemas of tests that share a server apart.
static SCHEMAS: AtomicU32 = AtomicU32::new(0);

/// The range without ends.
pub(crate) const EVERYTHING: KeyRange = KeyRange {
    from: Bound::Open,
    to: Bound::Open,
};

/// A server with an empty schema and a session in it, without a strict mode.
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) schema: String,
    pub(crate) session: Conn,
}

impl World {
    pub(crate) async fn new(server: Server) -> Self {
        let number = SCHEMAS.fetch_add(1, Ordering::Relaxed);
        let schema = format!("differ_{}_{number}", std::process::id());
        let mut session = server.mysql().await.unwrap();
        session
            .query_drop(format!("CREATE DATABASE {schema} CHARACTER SET utf8mb4"))
            .await
            .unwrap();
        let mut world = Self {
            server,
            schema,
            session,
        };
        world.run(&format!("USE {}", world.schema)).await;
        world.run("SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO'").await;
        world
    }

    pub(crate) fn is_mysql(&self) -> bool {
        self.server.flavor() == Flavor::MySql
    }

    /// Whether the server has this type at all.
    pub(crate) async fn knows(&mut self, column_type: &str) -> bool {
        self.session
            .query_drop("DROP TABLE IF EXISTS probe")
            .await
            .unwrap();
        self.session
            .query_drop(format!("CREATE TABLE probe (v {column_type})"))
            .await
            .is_ok()
    }

    /// Another session in the same schema and mode.
    pub(crate) async fn connect(&self) -> Conn {
        let mut session = self.server.mysql().await.unwrap();
        session.query_drop(format!("USE {}", self.schema)).await.unwrap();
        session
            .query_drop("SET SESSION sql_mode = 'NO_AUTO_VALUE_ON_ZERO'")
            .await
            .unwrap();
        session
    }

    pub(crate) async fn run(&mut self, sql: &str) {
        if let Err(error) = self.session.query_drop(sql).await {
            panic!("{sql}: {error}");
        }
    }

    /// Creates `t` and `g`, drops what there was.
    pub(crate) async fn tables(&mut self, source: &str, target: &str) {
        self.run("DROP TABLE IF EXISTS t, g").await;
        self.run(&format!("CREATE TABLE t ({source})")).await;
        self.run(&format!("CREATE TABLE g ({target})")).await;
    }

    /// Copies all rows of `t` to `g` as a row copy does.
    pub(crate) async fn copy(&mut self, pair: &TablePair) {
        let sql = copy_statement(pair);
        self.run(&sql).await;
    }

    /// Describes `t` and `g`; columns correspond by name, or as `renamed` says.
    pub(crate) async fn pair(&mut self, key: &[&str], renamed: &[(&str, &str)]) -> TablePair {
        let source = TableName::new(&self.schema, "t");
        let target = TableName::new(&self.schema, "g");
        let columns = self.columns("t").await;
        let targets = self.columns("g").await;
        let pairs: Vec<ColumnPair> = columns
            .into_iter()
            .filter_map(|source| {
                let name = renamed
                    .iter()
                    .find(|(from, _)| *from == source.name)
                    .map_or(source.name.as_str(), |(_, to)| *to);
                let target = targets.iter().find(|column| column.name == name)?.clone();
                Some(ColumnPair { source, target })
            })
            .collect();
        let key_column = |name: &&str| {
            let pair = pairs.iter().find(|pair| pair.source.name == **name).unwrap();
            let same =
                pair.source.kind == pair.target.kind || !matches!(pair.source.kind, ColumnKind::Text { .. });
            KeyColumn {
                source: pair.source.name.clone(),
                target: pair.target.name.clone(),
                kind: pair.source.kind.clone(),
                target_kind: pair.target.kind.clone(),
                descending: false,
                target_match: if same {
                    TargetMatch::Collation
                } else {
                    TargetMatch::Bytes
                },
            }
        };
        let key = KeySpec {
            columns: key.iter().map(key_column).collect(),
        };
        TablePair {
            source,
            target,
            source_index: "PRIMARY".to_owned(),
            target_index: "PRIMARY".to_owned(),
            key,
            columns: pairs,
        }
    }

    async fn columns(&mut self, table: &str) -> Vec<Column> {
        type Description = (
            String,
            String,
            String,
            Option<String>,
            Option<String>,
            String,
            Option<u32>,
            Option<u32>,
            Option<u32>,
            String,
        );
        let sql = format!(
            "SELECT COLUMN_NAME, COLUMN_TYPE, DATA_TYPE, CHARACTER_SET_NAME, COLLATION_NAME, IS_NULLABLE, \
             CAST(NUMERIC_PRECISION AS UNSIGNED), CAST(NUMERIC_SCALE AS UNSIGNED), \
             CAST(DATETIME_PRECISION AS UNSIGNED), EXTRA FROM information_schema.COLUMNS \
             WHERE TABLE_SCHEMA = '{}' AND TABLE_NAME = '{table}' ORDER BY ORDINAL_POSITION",
            self.schema
        );
        let rows: Vec<Description> = self.session.query(sql).await.unwrap();
        rows.into_iter()
            .map(
                |(
                    name,
                    column_type,
                    data_type,
                    charset,
                    collation,
                    nullable,
                    precision,
                    scale,
                    fsp,
                    extra,
                )| {
                    let text = (charset.unwrap_or_default(), collation.unwrap_or_default());
                    let digits = (precision.unwrap_or(0), scale.unwrap_or(0), fsp.unwrap_or(0));
                    Column {
                        kind: kind(&data_type, &column_type, text, digits),
                        name,
                        column_type,
                        nullable: nullable == "YES",
                        generated: if extra.contains("VIRTUAL GENERATED") {
                            Generated::Virtual
                        } else if extra.contains("STORED GENERATED") {
                            Generated::Stored
                        } else {
                            Generated::No
                        },
                        auto_increment: extra.contains("auto_increment"),
                        invisible: false,
                    }
                },
            )
            .collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A shared server keeps the schema: it is named after this process.
    }
}

/// `INSERT IGNORE … SELECT` for all rows.
pub(crate) fn copy_statement(pair: &TablePair) -> String {
    let targets: Vec<String> = pair
        .columns
        .iter()
        .map(|pair| format!("`{}`", pair.target.name))
        .collect();
    let sources: Vec<String> = pair
        .columns
        .iter()
        .map(|pair| format!("`{}`", pair.source.name))
        .collect();
    format!(
        "INSERT IGNORE INTO g ({}) SELECT {} FROM t",
        targets.join(","),
        sources.join(",")
    )
}

fn kind(
    data_type: &str,
    column_type: &str,
    (charset, collation): (String, String),
    (precision, scale, fsp): (u32, u32, u32),
) -> ColumnKind {
    let unsigned = column_type.contains("unsigned");
    let integer = |width| ColumnKind::Integer { width, unsigned };
    let small = |number: u32| u8::try_from(number).unwrap();
    let members = || {
        let inner = &column_type[column_type.find('(').unwrap() + 2..column_type.len() - 2];
        inner.split("','").map(|label| label.replace("''", "'")).collect()
    };
    match data_type {
        "tinyint" => integer(1),
        "smallint" => integer(2),
        "mediumint" => integer(3),
        "int" => integer(4),
        "bigint" => integer(8),
        "float" => ColumnKind::Float,
        "double" => ColumnKind::Double,
        "decimal" => ColumnKind::Decimal {
            precision: small(precision),
            scale: small(scale),
        },
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => {
            ColumnKind::Text { charset, collation }
        }
        "binary" => ColumnKind::Binary {
            length: column_type
                .trim_matches(|c: char| !c.is_ascii_digit())
                .parse()
                .unwrap(),
        },
        "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => ColumnKind::VarBinary,
        "date" => ColumnKind::Date,
        "time" => ColumnKind::Time { fsp: small(fsp) },
        "datetime" => ColumnKind::DateTime { fsp: small(fsp) },
        "timestamp" => ColumnKind::Timestamp { fsp: small(fsp) },
        "year" => ColumnKind::Year,
        "enum" => ColumnKind::Enum {
            members: members(),
            charset,
            collation,
        },
        "set" => ColumnKind::Set {
            members: members(),
            charset,
            collation,
        },
        "bit" => ColumnKind::Bit {
            width: small(precision),
        },
        "json" => ColumnKind::Json,
        "geometry" | "point" | "linestring" | "polygon" => ColumnKind::Geometry,
        "vector" => ColumnKind::Vector,
        "uuid" => ColumnKind::Uuid,
        "inet4" => ColumnKind::Inet4,
        "inet6" => ColumnKind::Inet6,
        _ => ColumnKind::Unknown {
            column_type: column_type.to_owned(),
        },
    }
}

/// A prepared proof of one pair in one session.
pub(crate) struct Proof {
    pub(crate) proof: SameServerProof,
    pub(crate) pair: TablePair,
}

impl Proof {
    pub(crate) async fn of(session: &mut Conn, pair: TablePair) -> Self {
        let proof = SameServerProof::new();
        proof.prepare(session, &pair).await.unwrap();
        Self { proof, pair }
    }

    pub(crate) async fn everything(&self, session: &mut Conn) -> Findings {
        self.range(session, &EVERYTHING).await
    }

    pub(crate) async fn range(&self, session: &mut Conn, range: &KeyRange) -> Findings {
        self.proof
            .compare_range(session, &self.pair, range, 1_000)
            .await
            .unwrap()
    }

    pub(crate) async fn keys(&self, session: &mut Conn, keys: &[Key]) -> Findings {
        self.proof.compare_keys(session, &self.pair, keys).await.unwrap()
    }

    /// A key as the source writes it.
    pub(crate) fn key(&self, texts: &[&str]) -> Key {
        let texts: Vec<_> = texts.iter().map(|text| Some(text.as_bytes().to_vec())).collect();
        self.pair.key.parse(&texts).unwrap()
    }

    pub(crate) fn different(&self, texts: &[&str], columns: &[&str]) -> Suspect {
        Suspect {
            key: self.key(texts),
            discrepancy: Discrepancy::Different,
            columns: columns.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    pub(crate) fn missing(&self, texts: &[&str]) -> Suspect {
        Suspect {
            key: self.key(texts),
            discrepancy: Discrepancy::Missing,
            columns: Vec::new(),
        }
    }

    pub(crate) fn extra(&self, texts: &[&str]) -> Suspect {
        Suspect {
            key: self.key(texts),
            discrepancy: Discrepancy::Extra,
            columns: Vec::new(),
        }
    }
}
