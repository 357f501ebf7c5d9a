//! What to do with the rows of one table: made once per table map, kept as long as the map does not change.

use changeling_core::change_source::{Projection, Watch};
use changeling_core::schema::{Column as Inspected, ColumnKind};

use super::bytes::{Bytes, Truncated};
use super::column::{Content, Layout};
use super::table_map::TableMap;
use super::temporal;
use crate::error::{ErrorKind, StreamError};

/// Type codes of table maps.
mod code {
    pub(super) const TINY: u8 = 1;
    pub(super) const SHORT: u8 = 2;
    pub(super) const LONG: u8 = 3;
    pub(super) const FLOAT: u8 = 4;
    pub(super) const DOUBLE: u8 = 5;
    pub(super) const TIMESTAMP: u8 = 7;
    pub(super) const LONGLONG: u8 = 8;
    pub(super) const INT24: u8 = 9;
    pub(super) const DATE: u8 = 10;
    pub(super) const TIME: u8 = 11;
    pub(super) const DATETIME: u8 = 12;
    pub(super) const YEAR: u8 = 13;
    pub(super) const NEWDATE: u8 = 14;
    pub(super) const VARCHAR: u8 = 15;
    pub(super) const BIT: u8 = 16;
    pub(super) const TIMESTAMP2: u8 = 17;
    pub(super) const DATETIME2: u8 = 18;
    pub(super) const TIME2: u8 = 19;
    pub(super) const MARIA_BLOB_COMPRESSED: u8 = 140;
    pub(super) const MARIA_VARCHAR_COMPRESSED: u8 = 141;
    pub(super) const VECTOR: u8 = 242;
    pub(super) const JSON: u8 = 245;
    pub(super) const NEWDECIMAL: u8 = 246;
    pub(super) const ENUM: u8 = 247;
    pub(super) const SET: u8 = 248;
    pub(super) const TINY_BLOB: u8 = 249;
    pub(super) const BLOB: u8 = 252;
    pub(super) const VAR_STRING: u8 = 253;
    pub(super) const STRING: u8 = 254;
    pub(super) const GEOMETRY: u8 = 255;
}

/// Whose rows they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A watch, by its number.
    Watch(usize),
    /// The changelog: columns 0 to 3 are id, last_update, hint and value.
    Changelog,
}

/// One column of the table.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    pub(crate) name: Box<str>,
    pub(crate) layout: Layout,
    /// Where its value goes in the delivered image.
    pub(crate) slot: Option<usize>,
}

/// How the rows of one table are read.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) target: Target,
    pub(crate) columns: Box<[Column]>,
    /// Columns of the delivered image.
    pub(crate) slots: usize,
    /// All columns are delivered, and absent ones are said to be; otherwise each must be there.
    pub(crate) whole: bool,
}

impl Plan {
    /// A plan for a watched table; an error says in what the event and the inspected table disagree.
    pub(crate) fn of_watch(number: usize, watch: &Watch, map: &TableMap<'_>) -> Result<Self, StreamError> {
        let wanted: Vec<usize> = match &watch.projection {
            Projection::All => (0..watch.columns.len()).collect(),
            Projection::Columns(columns) => columns.to_vec(),
            Projection::StatementsOnly => Vec::new(),
        };
        agree(&watch.columns, map)?;
        let mut cursor = Metadata(Bytes(map.metadata));
        let mut columns = Vec::with_capacity(map.types.len());
        for (position, (&kind, inspected)) in map.types.iter().zip(watch.columns.iter()).enumerate() {
            let layout = cursor.next(kind)?.layout(&inspected.kind).map_err(|reason| {
                let message = format!(
                    "column {} of {} is {} but in the binary log {reason}",
                    inspected.name, watch.table, inspected.column_type
                );
                StreamError::new(ErrorKind::TableChanged, message)
            })?;
            let slot = wanted.iter().position(|&column| column == position);
            columns.push(Column {
                name: inspected.name.as_str().into(),
                layout,
                slot,
            });
        }
        Ok(Self {
            target: Target::Watch(number),
            columns: columns.into(),
            slots: wanted.len(),
            whole: watch.projection == Projection::All,
        })
    }

    /// The plan for the changelog table, whose columns are ours by definition.
    pub(crate) fn of_changelog(map: &TableMap<'_>) -> Result<Self, StreamError> {
        let text = ColumnKind::Text {
            charset: String::new(),
            collation: String::new(),
        };
        let kinds = [
            (
                "id",
                ColumnKind::Integer {
                    width: 8,
                    unsigned: true,
                },
                Some(0),
            ),
            ("last_update", ColumnKind::Timestamp { fsp: 0 }, None),
            ("hint", text.clone(), Some(1)),
            ("value", text, Some(2)),
        ];
        let different = || {
            let message = "the changelog table is not id, last_update, hint, value";
            StreamError::new(ErrorKind::TableChanged, message)
        };
        if map.types.len() != kinds.len() {
            return Err(different());
        }
        let mut cursor = Metadata(Bytes(map.metadata));
        let mut columns = Vec::with_capacity(kinds.len());
        for (&code, (name, kind, slot)) in map.types.iter().zip(kinds) {
            let layout = cursor.next(code)?.layout(&kind).map_err(|_| different())?;
            columns.push(Column {
                name: name.into(),
                layout,
                slot,
            });
        }
        Ok(Self {
            target: Target::Changelog,
            columns: columns.into(),
            slots: 3,
            whole: true,
        })
    }
}

/// Columns must agree in number, and in name and sign where the event tells those.
fn agree(inspected: &[Inspected], map: &TableMap<'_>) -> Result<(), StreamError> {
    let table = || {
        format!(
            "{}.{}",
            String::from_utf8_lossy(map.schema),
            String::from_utf8_lossy(map.table)
        )
    };
    if inspected.len() != map.types.len() {
        let message = format!(
            "{} has {} columns in the binary log, {} were inspected (implicit columns of a system-versioned \
             table count too)",
            table(),
            map.types.len(),
            inspected.len()
        );
        return Err(StreamError::new(ErrorKind::TableChanged, message));
    }
    if let Some(names) = map.names()? {
        for (column, name) in inspected.iter().zip(&names) {
            if column.name.as_bytes() != *name {
                let name = String::from_utf8_lossy(name);
                let message = format!(
                    "column {} of {} is called {name} in the binary log",
                    column.name,
                    table()
                );
                return Err(StreamError::new(ErrorKind::TableChanged, message));
            }
        }
    }
    if let Some(unsigned) = map.unsigned()? {
        let numeric = inspected
            .iter()
            .zip(map.types)
            .filter(|(_, code)| is_numeric(**code));
        for (index, (column, _)) in numeric.enumerate() {
            if let ColumnKind::Integer {
                unsigned: expected, ..
            } = column.kind
                && unsigned(index) != expected
            {
                let message = format!("column {} of {} changed its sign", column.name, table());
                return Err(StreamError::new(ErrorKind::TableChanged, message));
            }
        }
    }
    Ok(())
}

/// The types that have a bit in the signedness field.
fn is_numeric(kind: u8) -> bool {
    matches!(
        kind,
        code::TINY
            | code::SHORT
            | code::INT24
            | code::LONG
            | code::LONGLONG
            | code::FLOAT
            | code::DOUBLE
            | code::NEWDECIMAL
            // Both servers count it in; see the test `a_year_has_a_sign_too` on real servers.
            | code::YEAR
    )
}

/// Walks through the metadata, column by column.
struct Metadata<'a>(Bytes<'a>);

impl Metadata<'_> {
    fn next(&mut self, kind: u8) -> Result<Stored, Truncated> {
        let bytes = &mut self.0;
        Ok(match kind {
            code::FLOAT
            | code::DOUBLE
            | code::TIMESTAMP2
            | code::DATETIME2
            | code::TIME2
            | code::BLOB
            | code::TINY_BLOB..=251
            | code::JSON
            | code::GEOMETRY
            | code::VECTOR
            | code::MARIA_BLOB_COMPRESSED => Stored {
                kind,
                first: bytes.u8()?,
                second: 0,
            },
            code::VARCHAR
            | code::VAR_STRING
            | code::BIT
            | code::NEWDECIMAL
            | code::ENUM
            | code::SET
            | code::STRING
            | code::MARIA_VARCHAR_COMPRESSED => Stored {
                kind,
                first: bytes.u8()?,
                second: bytes.u8()?,
            },
            _ => Stored {
                kind,
                first: 0,
                second: 0,
            },
        })
    }
}

/// A column's type as the table map has it.
struct Stored {
    kind: u8,
    first: u8,
    second: u8,
}

type Chosen = Result<Layout, String>;

impl Stored {
    /// The layout, if the stored type can be what was inspected.
    fn layout(&self, inspected: &ColumnKind) -> Chosen {
        use temporal::Layout as T;
        let chosen = match (inspected, self.kind) {
            (&ColumnKind::Integer { width, unsigned }, kind) if integer_width(kind) == Some(width) => {
                Some(Layout::Integer { width, unsigned })
            }
            (ColumnKind::Float, code::FLOAT) => Some(Layout::Float),
            (ColumnKind::Double, code::DOUBLE) => Some(Layout::Double),
            (&ColumnKind::Decimal { precision, scale }, code::NEWDECIMAL)
                if (precision, scale) == (self.first, self.second)
                    && scale <= precision
                    && precision <= 65 =>
            {
                Some(Layout::Decimal { precision, scale })
            }
            (&ColumnKind::Bit { width }, code::BIT) if self.bits() == u32::from(width) && width <= 64 => {
                Some(Layout::Bit {
                    bytes: width.div_ceil(8),
                })
            }
            (ColumnKind::Year, code::YEAR) => Some(Layout::Year),
            (ColumnKind::Date, code::DATE | code::NEWDATE) => Some(Layout::Date),
            (&ColumnKind::Timestamp { fsp }, code::TIMESTAMP2) if self.first == fsp => {
                Some(Layout::Temporal(T::Timestamp2 { fsp }))
            }
            (&ColumnKind::DateTime { fsp }, code::DATETIME2) if self.first == fsp => {
                Some(Layout::Temporal(T::DateTime2 { fsp }))
            }
            (&ColumnKind::Time { fsp }, code::TIME2) if self.first == fsp => {
                Some(Layout::Temporal(T::Time2 { fsp }))
            }
            (&ColumnKind::Timestamp { fsp }, code::TIMESTAMP) => Some(Layout::Temporal(match fsp {
                0 => T::OldTimestamp,
                fsp => T::MariaTimestamp { fsp },
            })),
            (&ColumnKind::DateTime { fsp }, code::DATETIME) => Some(Layout::Temporal(match fsp {
                0 => T::OldDateTime,
                fsp => T::MariaDateTime { fsp },
            })),
            (&ColumnKind::Time { fsp }, code::TIME) => Some(Layout::Temporal(match fsp {
                0 => T::OldTime,
                fsp => T::MariaTime { fsp },
            })),
            (ColumnKind::Enum { .. }, code::STRING) if self.first == code::ENUM && self.second <= 2 => {
                Some(Layout::Enum { width: self.second })
            }
            (ColumnKind::Set { .. }, code::STRING) if self.first == code::SET && self.second <= 8 => {
                Some(Layout::Set { width: self.second })
            }
            (inspected, _) => self.counted(inspected),
        };
        chosen.ok_or_else(|| self.describe())
    }

    fn bits(&self) -> u32 {
        u32::from(self.second) * 8 + u32::from(self.first)
    }

    fn counted(&self, inspected: &ColumnKind) -> Option<Layout> {
        let content = match *inspected {
            ColumnKind::Text { .. } => Content::Text,
            ColumnKind::VarBinary => Content::Binary,
            ColumnKind::Binary { length } => Content::Padded(length),
            ColumnKind::Uuid => Content::Uuid,
            ColumnKind::Inet4 => Content::Padded(4),
            ColumnKind::Inet6 => Content::Padded(16),
            ColumnKind::Json => Content::Json,
            ColumnKind::Geometry => Content::Geometry,
            ColumnKind::Vector => Content::Vector,
            _ => return None,
        };
        let fits = match self.kind {
            code::JSON => content == Content::Json,
            code::GEOMETRY => content == Content::Geometry,
            code::VECTOR => content == Content::Vector,
            code::BLOB => matches!(content, Content::Text | Content::Binary | Content::Geometry),
            code::VARCHAR | code::VAR_STRING => {
                matches!(content, Content::Text | Content::Binary | Content::Vector)
            }
            code::STRING => matches!(content, Content::Text | Content::Padded(_) | Content::Uuid),
            _ => false,
        };
        let prefix = self.prefix()?;
        fits.then_some(Layout::Counted { prefix, content })
    }

    /// Bytes of the length before counted content.
    fn prefix(&self) -> Option<u8> {
        match self.kind {
            code::JSON | code::GEOMETRY | code::VECTOR | code::BLOB => {
                (1..=4).contains(&self.first).then_some(self.first)
            }
            code::VARCHAR | code::VAR_STRING => Some(if self.second == 0 { 1 } else { 2 }),
            // The type is hidden in the first byte; two of its bits are the high bits of the length, inverted.
            code::STRING if matches!(self.first, code::ENUM | code::SET) => None,
            code::STRING => Some(if self.first & 0x30 == 0x30 { 1 } else { 2 }),
            _ => None,
        }
    }

    fn describe(&self) -> String {
        match self.kind {
            code::MARIA_BLOB_COMPRESSED | code::MARIA_VARCHAR_COMPRESSED => {
                "a COMPRESSED column, which is not supported".into()
            }
            kind => format!("has the type code {kind} ({}, {})", self.first, self.second),
        }
    }
}

fn integer_width(kind: u8) -> Option<u8> {
    Some(match kind {
        code::TINY => 1,
        code::SHORT => 2,
        code::INT24 => 3,
        code::LONG => 4,
        code::LONGLONG => 8,
        _ => return None,
    })
}

/// Whether the type code is MySQL's `JSON`: such columns have a bit each in partial updates.
pub(crate) fn is_json(column: &Column) -> bool {
    matches!(
        column.layout,
        Layout::Counted {
            content: Content::Json,
            ..
        }
    )
}
