//! Reads a table from `information_schema`.

use changeling_core::ident::TableName;
use changeling_core::schema::{Column, Generated, KeyPart, TableSchema, UniqueKey};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};

use super::column_type::{self, TypeFacts};
use crate::server::{Server, ServerError};

/// One part of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexPart {
    /// The column; `None` for an expression.
    pub column: Option<String>,
    /// The expression of a functional part.
    pub expression: Option<String>,
    /// How many characters or bytes are indexed, where it is not the whole column.
    pub prefix: Option<u32>,
    /// Whether it is stored from high to low.
    pub descending: bool,
    /// Whether it may be `NULL`.
    pub nullable: bool,
}

/// An index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// Its name; `PRIMARY` for the primary key.
    pub name: String,
    /// Whether it is unique.
    pub unique: bool,
    /// `BTREE`, `HASH`, `FULLTEXT`, `SPATIAL`, …
    pub method: String,
    /// Its parts in order.
    pub parts: Vec<IndexPart>,
}

impl Index {
    /// Its columns in order, if each part is a whole column.
    #[must_use]
    pub fn whole_columns(&self) -> Option<Vec<&str>> {
        self.parts
            .iter()
            .map(|part| {
                if part.prefix.is_some() {
                    None
                } else {
                    part.column.as_deref()
                }
            })
            .collect()
    }

    /// Whether it can be walked in order.
    #[must_use]
    pub fn is_ordered(&self) -> bool {
        self.method.eq_ignore_ascii_case("BTREE")
    }
}

/// What is known of a column beside its [`Column`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColumnExtra {
    /// Whether it has a default, `NULL` aside.
    pub has_default: bool,
    /// Whether its default is computed for each row: `CURRENT_TIMESTAMP`, `uuid()`.
    pub computed_default: bool,
    /// How it is computed, if it is.
    pub expression: String,
    /// `information_schema.COLUMNS.DATA_TYPE`.
    pub data_type: String,
}

/// A table, in all detail that the migration needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableDetail {
    /// What every crate needs to know.
    pub schema: TableSchema,
    /// More of each column, in the same order.
    pub extras: Vec<ColumnExtra>,
    /// All indexes, the primary key first.
    pub indexes: Vec<Index>,
    /// `BASE TABLE`, `VIEW`, `SEQUENCE`, `SYSTEM VERSIONED`, …
    pub table_type: String,
    /// Default collation.
    pub collation: String,
    /// The next `AUTO_INCREMENT` value.
    pub auto_increment: Option<u64>,
    /// The server's estimate of the number of rows.
    pub rows_estimate: u64,
    /// Comment.
    pub comment: String,
    /// `SHOW CREATE TABLE`.
    pub definition: String,
}

impl TableDetail {
    /// An index by name.
    #[must_use]
    pub fn index(&self, name: &str) -> Option<&Index> {
        self.indexes
            .iter()
            .find(|index| index.name.eq_ignore_ascii_case(name))
    }

    /// A column and what else is known of it.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<(&Column, &ColumnExtra)> {
        let index = self.schema.column_index(name)?;
        Some((self.schema.columns.get(index)?, self.extras.get(index)?))
    }
}

struct ColumnRow {
    column: Column,
    extra: ColumnExtra,
}

/// `information_schema` names columns in upper case on MySQL; aliases make it one.
const COLUMNS: &str = "SELECT COLUMN_NAME AS column_name, COLUMN_TYPE AS column_type, DATA_TYPE AS data_type, \
     IS_NULLABLE AS is_nullable, EXTRA AS extra, GENERATION_EXPRESSION AS expression, \
     CHARACTER_SET_NAME AS charset, COLLATION_NAME AS collation, COLUMN_DEFAULT AS column_default \
     FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION";

fn text(row: &Row, name: &str) -> Option<String> {
    row.get_opt::<Option<String>, _>(name)
        .and_then(Result::ok)
        .flatten()
}

fn column_row(row: &Row, mariadb: bool) -> ColumnRow {
    let get = |name| text(row, name).unwrap_or_default();
    let (column_type, data_type, extra) = (get("column_type"), get("data_type"), get("extra"));
    let (charset, collation) = (text(row, "charset"), text(row, "collation"));
    let upper = extra.to_ascii_uppercase();
    let generated = if upper.contains("VIRTUAL GENERATED") {
        Generated::Virtual
    } else if upper.contains("STORED GENERATED") || upper.contains("PERSISTENT") {
        Generated::Stored
    } else {
        Generated::No
    };
    // MariaDB shows defaults as SQL: a text is quoted, and a nullable column without one says NULL.
    let default = text(row, "column_default").filter(|value| !mariadb || value != "NULL");
    let computed_default = upper.contains("DEFAULT_GENERATED")
        || (mariadb
            && default.as_deref().is_some_and(|value| {
                !value.starts_with('\'') && (value.contains('(') || value.contains('`'))
            }));
    ColumnRow {
        column: Column {
            kind: column_type::kind(TypeFacts {
                data_type: &data_type,
                column_type: &column_type,
                charset: charset.as_deref(),
                collation: collation.as_deref(),
            }),
            name: get("column_name"),
            nullable: get("is_nullable").eq_ignore_ascii_case("YES"),
            generated,
            auto_increment: upper.contains("AUTO_INCREMENT"),
            invisible: upper.contains("INVISIBLE"),
            column_type,
        },
        extra: ColumnExtra {
            has_default: default.is_some(),
            computed_default,
            expression: get("expression"),
            data_type,
        },
    }
}

/// Reads a table; `None` if there is none of that name.
///
/// The name is compared as the server compares it (`lower_case_table_names`), never as a pattern; the
/// result carries the name as the server stores it.
///
/// # Errors
/// If the server cannot be asked.
pub async fn read(
    server: &Server,
    conn: &mut Conn,
    name: &TableName,
) -> Result<Option<TableDetail>, ServerError> {
    let fold = server
        .variables
        .get("lower_case_table_names")
        .is_some_and(|mode| mode != "0");
    let asked = if server.variables.get("lower_case_table_names") == Some("1") {
        TableName::new(name.schema.to_lowercase(), name.table.to_lowercase())
    } else {
        name.clone()
    };
    let doing = format!("look at {name}");
    let rows: Vec<Row> = conn
        .exec(
            "SELECT TABLE_SCHEMA AS table_schema, TABLE_NAME AS table_name, TABLE_TYPE AS table_type, \
             ENGINE AS engine, TABLE_COLLATION AS table_collation, AUTO_INCREMENT AS next_value, \
             TABLE_ROWS AS table_rows, TABLE_COMMENT AS table_comment FROM information_schema.TABLES \
             WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?",
            (&asked.schema, &asked.table),
        )
        .await
        .map_err(server.failed(&doing))?;
    let same = |found: &Option<String>, asked: &str| {
        found.as_deref().is_some_and(|found| {
            if fold {
                found.to_lowercase() == asked.to_lowercase()
            } else {
                found == asked
            }
        })
    };
    let Some(row) = rows.into_iter().find(|row| {
        same(&text(row, "table_schema"), &asked.schema) && same(&text(row, "table_name"), &asked.table)
    }) else {
        return Ok(None);
    };
    let get = |column| text(&row, column).unwrap_or_default();
    let number = |column| {
        row.get_opt::<Option<u64>, _>(column)
            .and_then(Result::ok)
            .flatten()
    };
    let stored = TableName::new(get("table_schema"), get("table_name"));
    let columns: Vec<Row> = conn
        .exec(COLUMNS, (&stored.schema, &stored.table))
        .await
        .map_err(server.failed(&doing))?;
    let indexes = read_indexes(server, conn, &stored).await?;
    let table_type = get("table_type");
    let definition = if table_type == "VIEW" {
        String::new()
    } else {
        let row: Option<Row> = conn
            .query_first(format!("SHOW CREATE TABLE {}", stored.quoted()))
            .await
            .map_err(server.failed(&doing))?;
        row.and_then(|row| row.get_opt::<String, _>(1).and_then(Result::ok))
            .unwrap_or_default()
    };
    let (columns, extras): (Vec<Column>, Vec<ColumnExtra>) = columns
        .iter()
        .map(|row| column_row(row, server.is_mariadb()))
        .map(|row| (row.column, row.extra))
        .unzip();
    let unique_keys = indexes
        .iter()
        .filter_map(|index| unique_key(index, &columns))
        .collect();
    Ok(Some(TableDetail {
        schema: TableSchema {
            name: stored,
            columns,
            unique_keys,
            engine: get("engine"),
        },
        extras,
        indexes,
        table_type,
        collation: get("table_collation"),
        auto_increment: number("next_value"),
        rows_estimate: number("table_rows").unwrap_or(0),
        comment: get("table_comment"),
        definition,
    }))
}

async fn read_indexes(server: &Server, conn: &mut Conn, name: &TableName) -> Result<Vec<Index>, ServerError> {
    // MariaDB has no functional parts and no column for them.
    let expression = if server.is_mariadb() { "NULL" } else { "EXPRESSION" };
    let rows: Vec<Row> = conn
        .exec(
            format!(
                "SELECT INDEX_NAME AS index_name, NON_UNIQUE AS non_unique, INDEX_TYPE AS index_type, \
                 COLUMN_NAME AS column_name, {expression} AS expression, SUB_PART AS sub_part, \
                 COLLATION AS direction, NULLABLE AS nullable FROM information_schema.STATISTICS \
                 WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY INDEX_NAME = 'PRIMARY' DESC, NON_UNIQUE, \
                 INDEX_NAME, SEQ_IN_INDEX"
            ),
            (&name.schema, &name.table),
        )
        .await
        .map_err(server.failed(&format!("look at the indexes of {name}")))?;
    let mut indexes: Vec<Index> = Vec::new();
    for row in rows {
        let get = |column| text(&row, column);
        let number = |column| {
            row.get_opt::<Option<u64>, _>(column)
                .and_then(Result::ok)
                .flatten()
        };
        let part = IndexPart {
            column: get("column_name"),
            expression: get("expression"),
            prefix: number("sub_part").and_then(|length| u32::try_from(length).ok()),
            descending: get("direction").as_deref() == Some("D"),
            nullable: get("nullable").as_deref() == Some("YES"),
        };
        let index_name = get("index_name").unwrap_or_default();
        match indexes.last_mut().filter(|index| index.name == index_name) {
            Some(index) => index.parts.push(part),
            None => indexes.push(Index {
                name: index_name,
                unique: number("non_unique") == Some(0),
                method: get("index_type").unwrap_or_default(),
                parts: vec![part],
            }),
        }
    }
    Ok(indexes)
}

fn unique_key(index: &Index, columns: &[Column]) -> Option<UniqueKey> {
    if !index.unique || !index.is_ordered() {
        return None;
    }
    index.whole_columns()?;
    let parts: Option<Vec<KeyPart>> = index
        .parts
        .iter()
        .map(|part| {
            let name = part.column.as_deref()?.to_lowercase();
            let column = columns
                .iter()
                .position(|column| column.name.to_lowercase() == name)?;
            Some(KeyPart {
                column,
                descending: part.descending,
            })
        })
        .collect();
    let parts = parts?;
    let nullable = parts
        .iter()
        .any(|part| columns.get(part.column).is_none_or(|column| column.nullable));
    Some(UniqueKey {
        name: index.name.clone(),
        parts,
        nullable,
    })
}
