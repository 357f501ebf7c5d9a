//! How a table is described: from `information_schema`, never from an event.

use serde::{Deserialize, Serialize};

use crate::ident::TableName;

/// What a column stores, as far as decoding, comparing and writing it depends on that.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnKind {
    /// `TINYINT` to `BIGINT`: bytes of width (1, 2, 3, 4, 8) and sign.
    Integer {
        /// 1, 2, 3, 4 or 8.
        width: u8,
        /// Whether the column is `UNSIGNED`.
        unsigned: bool,
    },
    /// `FLOAT`.
    Float,
    /// `DOUBLE`.
    Double,
    /// `DECIMAL`.
    Decimal {
        /// Digits in all.
        precision: u8,
        /// Digits after the point.
        scale: u8,
    },
    /// `CHAR`, `VARCHAR` and the `TEXT` family.
    Text {
        /// Character set, for example `utf8mb4`.
        charset: String,
        /// Collation, for example `utf8mb4_0900_ai_ci`.
        collation: String,
    },
    /// `BINARY(n)`: fixed length, padded with zero bytes.
    Binary {
        /// The declared length in bytes.
        length: u32,
    },
    /// `VARBINARY` and the `BLOB` family.
    VarBinary,
    /// `DATE`.
    Date,
    /// `TIME`.
    Time {
        /// Fractional digits, 0 to 6.
        fsp: u8,
    },
    /// `DATETIME`.
    DateTime {
        /// Fractional digits, 0 to 6.
        fsp: u8,
    },
    /// `TIMESTAMP`.
    Timestamp {
        /// Fractional digits, 0 to 6.
        fsp: u8,
    },
    /// `YEAR`.
    Year,
    /// `ENUM`.
    Enum {
        /// Labels in order.
        members: Vec<String>,
        /// Character set of the labels.
        charset: String,
        /// Collation of the labels.
        collation: String,
    },
    /// `SET`.
    Set {
        /// Labels in order.
        members: Vec<String>,
        /// Character set of the labels.
        charset: String,
        /// Collation of the labels.
        collation: String,
    },
    /// `BIT(n)`.
    Bit {
        /// 1 to 64.
        width: u8,
    },
    /// `JSON` of MySQL (MariaDB's is text with a check).
    Json,
    /// Any spatial type.
    Geometry,
    /// `VECTOR`.
    Vector,
    /// MariaDB's `UUID`.
    Uuid,
    /// MariaDB's `INET4`.
    Inet4,
    /// MariaDB's `INET6`.
    Inet6,
    /// A type this version does not know; such a table is refused before anything is created.
    Unknown {
        /// `information_schema.COLUMNS.COLUMN_TYPE`.
        column_type: String,
    },
}

/// Whether the server computes the column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Generated {
    /// An ordinary column.
    No,
    /// Computed when read; not in the row, though present in the binary log's row image.
    Virtual,
    /// Computed when written.
    Stored,
}

/// One column.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Column {
    /// Name as the server writes it.
    pub name: String,
    /// `information_schema.COLUMNS.COLUMN_TYPE`, for messages and fingerprints.
    pub column_type: String,
    /// What it stores.
    pub kind: ColumnKind,
    /// Whether it may be `NULL`.
    pub nullable: bool,
    /// Whether the server computes it.
    pub generated: Generated,
    /// Whether it is `AUTO_INCREMENT`.
    pub auto_increment: bool,
    /// Whether `SELECT *` leaves it out.
    pub invisible: bool,
}

/// One part of a unique key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyPart {
    /// Position of the column in [`TableSchema::columns`].
    pub column: usize,
    /// Whether the index stores this part from high to low.
    pub descending: bool,
}

/// A unique key whose every part is a whole column.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UniqueKey {
    /// Index name; `PRIMARY` for the primary key.
    pub name: String,
    /// Parts in index order.
    pub parts: Vec<KeyPart>,
    /// Whether a column of it may be `NULL`.
    pub nullable: bool,
}

/// A table as it was inspected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSchema {
    /// Its name.
    pub name: TableName,
    /// All columns in ordinal order, generated and invisible ones too: the order of a row image.
    pub columns: Vec<Column>,
    /// Its unique keys that consist of whole columns.
    pub unique_keys: Vec<UniqueKey>,
    /// Storage engine.
    pub engine: String,
}

impl TableSchema {
    /// Position of a column by its name, letter case ignored as the servers do.
    #[must_use]
    pub fn column_index(&self, name: &str) -> Option<usize> {
        self.columns
            .iter()
            .position(|column| column.name.to_lowercase() == name.to_lowercase())
    }
}
