//! The values of a row, as a change stream reports them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// One value of one row.
///
/// The variants are as fine as the binary log is: what a client would see as text (an `ENUM`'s label,
/// a `DATETIME`) stays in the form that can be rendered without knowing a session's settings. Strings
/// are bytes in the *column's* character set. Equality is bytewise, so `Cell` can be the key of a map;
/// floating point numbers therefore carry their bits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Cell {
    /// SQL `NULL`.
    Null,
    /// A signed integer of any width.
    Int(i64),
    /// An unsigned integer of any width.
    UInt(u64),
    /// A `FLOAT`, by its bits.
    Float(u32),
    /// A `DOUBLE`, by its bits.
    Double(u64),
    /// A `DECIMAL`, as the server writes it: all digits of its scale, no padding before.
    Decimal(Box<str>),
    /// `CHAR`, `VARCHAR` and `TEXT`: bytes in the column's character set.
    Text(Bytes),
    /// `BINARY` (padded to its length), `VARBINARY`, `BLOB`, and MariaDB's `UUID` and `INET`, raw.
    Binary(Bytes),
    /// `DATE`, zero parts allowed.
    Date {
        /// 0 to 9999.
        year: u16,
        /// 0 to 12.
        month: u8,
        /// 0 to 31.
        day: u8,
    },
    /// `TIME`.
    Time {
        /// Whether the time is below zero.
        negative: bool,
        /// 0 to 838.
        hours: u16,
        /// 0 to 59.
        minutes: u8,
        /// 0 to 59.
        seconds: u8,
        /// 0 to 999 999.
        micros: u32,
    },
    /// `DATETIME`, zero parts allowed.
    DateTime {
        /// 0 to 9999.
        year: u16,
        /// 0 to 12.
        month: u8,
        /// 0 to 31.
        day: u8,
        /// 0 to 23.
        hours: u8,
        /// 0 to 59.
        minutes: u8,
        /// 0 to 59.
        seconds: u8,
        /// 0 to 999 999.
        micros: u32,
    },
    /// `TIMESTAMP`: seconds since 1970 in UTC; 0 and no microseconds is the zero date.
    Timestamp {
        /// Whole seconds.
        seconds: i64,
        /// 0 to 999 999.
        micros: u32,
    },
    /// `YEAR`: 0, or 1901 to 2155.
    Year(u16),
    /// `ENUM`: the member's number, from 1; 0 is the empty value of an invalid insert.
    Enum(u16),
    /// `SET`: a bit for each member.
    Set(u64),
    /// `BIT(n)`.
    Bit(u64),
    /// `JSON`, as text that the server would parse to the same document.
    Json(Box<str>),
    /// Changes within a `JSON` document (`binlog_row_value_options=PARTIAL_JSON`), as text for a person;
    /// the whole document is not in the event.
    JsonDiff(Box<str>),
    /// A geometry: 4 bytes of SRID, then well-known binary.
    Geometry(Bytes),
    /// `VECTOR`: little-endian floats.
    Vector(Bytes),
    /// The event did not carry this column (row image not full).
    Absent,
}

impl Cell {
    /// About how many bytes the value occupies in memory, for budgets.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Decimal(text) | Self::Json(text) | Self::JsonDiff(text) => text.len(),
                Self::Text(bytes) | Self::Binary(bytes) | Self::Geometry(bytes) | Self::Vector(bytes) => {
                    bytes.len()
                }
                _ => 0,
            }
    }
}

/// The values of one row, or of the watched columns of one row, in the order of the watch.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RowImage(Box<[Cell]>);

impl RowImage {
    /// A row of these values.
    #[must_use]
    pub fn new(cells: Vec<Cell>) -> Self {
        Self(cells.into_boxed_slice())
    }

    /// The values.
    #[must_use]
    pub fn cells(&self) -> &[Cell] {
        &self.0
    }

    /// About how many bytes the row occupies in memory, for budgets.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.0.iter().map(Cell::bytes).sum::<usize>()
    }
}
