//! What one node's `information_schema` says about a table.

use changeling_core::ident::{TableName, quote_text};

use crate::model::{Dialect, Generation, Identity, NodeName, ValueKind};
use crate::side::{SideError, SideErrorKind};

use super::connect::MySqlConnection;
use super::plan::{KeyLiteral, TextForm};

/// A table as one node has it.
#[derive(Clone, Debug)]
pub(super) struct MySqlTable {
    pub(super) node: NodeName,
    pub(super) dialect: Dialect,
    pub(super) name: TableName,
    pub(super) columns: Vec<MySqlColumn>,
    pub(super) keys: Vec<MySqlKey>,
    pub(super) estimate: f64,
}

/// A column as one node has it.
#[derive(Clone, Debug)]
pub(super) struct MySqlColumn {
    pub(super) name: String,
    pub(super) type_text: String,
    pub(super) data_type: String,
    pub(super) kind: ValueKind,
    pub(super) form: TextForm,
    /// How a key's text is written to be looked up; `None` for a column that cannot be part of a key that is walked.
    pub(super) literal: Option<KeyLiteral>,
    pub(super) nullable: bool,
    pub(super) generation: Generation,
    /// How it is computed, if it is.
    pub(super) expression: Option<String>,
    pub(super) identity: Identity,
    /// By what it sorts.
    pub(super) sorting: String,
}

/// A unique key of whole NOT NULL columns.
#[derive(Clone, Debug)]
pub(super) struct MySqlKey {
    pub(super) index: String,
    pub(super) columns: Vec<String>,
}

impl MySqlTable {
    pub(super) async fn inspect(
        connection: &mut MySqlConnection,
        name: &TableName,
    ) -> Result<Self, SideError> {
        let place = format!(
            "TABLE_SCHEMA = {} AND TABLE_NAME = {}",
            quote_text(&name.schema),
            quote_text(&name.table)
        );
        let tables = connection
            .all(&format!(
                "SELECT TABLE_TYPE, TABLE_ROWS FROM information_schema.TABLES WHERE {place}"
            ))
            .await?;
        let refuse = |why: String| SideError::new(&connection.node, SideErrorKind::Permanent, why);
        let Some(table) = tables.first() else {
            return Err(refuse(format!(
                "there is no table {name} that this user may see; GRANT SELECT on it"
            )));
        };
        if table[0].as_deref() != Some("BASE TABLE") {
            return Err(refuse(format!("{name} is not a table")));
        }
        let estimate = table[1]
            .as_deref()
            .and_then(|rows| rows.parse().ok())
            .unwrap_or(0.0);
        let columns = columns(connection, &place).await?;
        let keys = keys(connection, &place, &columns).await?;
        Ok(Self {
            node: connection.node.clone(),
            dialect: connection.dialect,
            name: name.clone(),
            columns,
            keys,
            estimate,
        })
    }
}

async fn columns(connection: &mut MySqlConnection, place: &str) -> Result<Vec<MySqlColumn>, SideError> {
    let rows = connection
        .all(&format!(
            "SELECT COLUMN_NAME, COLUMN_TYPE, LOWER(DATA_TYPE), IS_NULLABLE, LOWER(EXTRA), \
             COALESCE(CHARACTER_SET_NAME, ''), COALESCE(COLLATION_NAME, ''), NULLIF(GENERATION_EXPRESSION, '') \
             FROM information_schema.COLUMNS WHERE {place} ORDER BY ORDINAL_POSITION"
        ))
        .await?;
    rows.into_iter()
        .map(|row| {
            let text = |index: usize| row.get(index).cloned().flatten().unwrap_or_default();
            let (data_type, extra, charset) = (text(2), text(4), text(5));
            let column_type = text(1);
            let (kind, form, literal) = reading(&data_type, &charset).ok_or_else(|| {
                SideError::new(
                    &connection.node,
                    SideErrorKind::Permanent,
                    format_args!(
                        "column {:?} is of type {column_type}, which is not known; leave it out: --ignore-columns {0}",
                        text(0)
                    ),
                )
            })?;
            Ok(MySqlColumn {
                name: text(0),
                type_text: column_type,
                data_type,
                kind,
                form,
                literal,
                nullable: text(3) == "YES",
                generation: match &extra {
                    extra if extra.contains("virtual generated") => Generation::Virtual,
                    extra if extra.contains("stored generated") || extra.contains("persistent") => Generation::Stored,
                    _ => Generation::Never,
                },
                identity: if extra.contains("auto_increment") {
                    Identity::ByDefault
                } else {
                    Identity::None
                },
                expression: row.get(7).cloned().flatten(),
                sorting: text(6),
            })
        })
        .collect()
}

type Reading = (ValueKind, TextForm, Option<KeyLiteral>);

/// How values of a type become texts, and texts become values again; `None` for an unknown type.
fn reading(data_type: &str, charset: &str) -> Option<Reading> {
    let reading = match data_type {
        "tinyint" | "smallint" | "mediumint" | "int" | "integer" | "bigint" => {
            (ValueKind::Integer, TextForm::Cast, Some(KeyLiteral::Number))
        }
        "year" => (ValueKind::Integer, TextForm::Cast, Some(KeyLiteral::Number)),
        "decimal" | "numeric" => (ValueKind::Decimal, TextForm::Cast, Some(KeyLiteral::Number)),
        // A float's own text has six digits, which do not tell all floats apart; a double's does.
        "float" | "double" | "real" => (ValueKind::Float, TextForm::Double, None),
        "bit" => (ValueKind::Integer, TextForm::Bits, None),
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" if charset == "binary" => {
            (ValueKind::Bytes, TextForm::Bytes, Some(KeyLiteral::Bytes))
        }
        "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" => (
            ValueKind::Text,
            TextForm::Characters,
            Some(KeyLiteral::Characters),
        ),
        "enum" | "set" => (ValueKind::Text, TextForm::Characters, None),
        "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" => {
            (ValueKind::Bytes, TextForm::Bytes, Some(KeyLiteral::Bytes))
        }
        "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring"
        | "multipolygon" | "geometrycollection" | "geomcollection" | "vector" => {
            (ValueKind::Bytes, TextForm::Bytes, None)
        }
        "json" => (ValueKind::Json, TextForm::Json, None),
        "date" | "time" | "datetime" | "timestamp" => {
            (ValueKind::Text, TextForm::Cast, Some(KeyLiteral::Quoted))
        }
        "uuid" | "inet4" | "inet6" => (ValueKind::Text, TextForm::Cast, Some(KeyLiteral::Quoted)),
        _ => return None,
    };
    Some(reading)
}

async fn keys(
    connection: &mut MySqlConnection,
    place: &str,
    columns: &[MySqlColumn],
) -> Result<Vec<MySqlKey>, SideError> {
    let rows = connection
        .all(&format!(
            "SELECT INDEX_NAME, COLUMN_NAME, SUB_PART FROM information_schema.STATISTICS \
             WHERE {place} AND NON_UNIQUE = 0 ORDER BY INDEX_NAME <> 'PRIMARY', INDEX_NAME, SEQ_IN_INDEX"
        ))
        .await?;
    let mut keys: Vec<(MySqlKey, bool)> = Vec::new();
    for row in rows {
        let [Some(index), column, part] = <[Option<String>; 3]>::try_from(row)
            .map_err(|_| connection.odd("an index came in other columns than were asked for"))?
        else {
            continue;
        };
        let usable = part.is_none()
            && column.as_ref().is_some_and(|name| {
                columns
                    .iter()
                    .any(|column| column.name == *name && !column.nullable && column.literal.is_some())
            });
        if keys.last().is_none_or(|(key, _)| key.index != index) {
            keys.push((
                MySqlKey {
                    index,
                    columns: Vec::new(),
                },
                true,
            ));
        }
        if let Some((key, all)) = keys.last_mut() {
            *all &= usable;
            key.columns.extend(column);
        }
    }
    Ok(keys
        .into_iter()
        .filter(|(_, all)| *all)
        .map(|(key, _)| key)
        .collect())
}
