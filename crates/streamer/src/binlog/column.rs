//! One column of a row event: how many bytes it takes, and which value they are.

use bytes::Bytes as Shared;
use changeling_core::value::Cell;

use super::bytes::{Bytes, Truncated};
use super::{json, number, temporal};

/// How a column lies in a row image. Chosen once per table from the table map and the inspected column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    Integer {
        width: u8,
        unsigned: bool,
    },
    Float,
    Double,
    Decimal {
        precision: u8,
        scale: u8,
    },
    Bit {
        bytes: u8,
    },
    Enum {
        width: u8,
    },
    Set {
        width: u8,
    },
    Year,
    Date,
    Temporal(temporal::Layout),
    /// A length of so many bytes, then the content.
    Counted {
        prefix: u8,
        content: Content,
    },
}

/// What counted bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Text,
    Binary,
    /// The server cuts trailing zero bytes off; the value has so many bytes.
    Padded(u32),
    /// MariaDB stores a UUID's parts in reverse, so that it sorts by time.
    Uuid,
    Json,
    Geometry,
    Vector,
}

impl Layout {
    /// Bytes the value takes, from where it begins.
    #[inline]
    pub(crate) fn skip(self, bytes: &mut Bytes<'_>) -> Result<(), Truncated> {
        let length = match self {
            Self::Integer { width, .. } | Self::Enum { width } | Self::Set { width } => usize::from(width),
            Self::Float => 4,
            Self::Double => 8,
            Self::Decimal { precision, scale } => number::decimal_size(precision, scale),
            Self::Bit { bytes } => usize::from(bytes),
            Self::Year => 1,
            Self::Date => 3,
            Self::Temporal(layout) => layout.size(),
            Self::Counted { prefix, .. } => {
                usize::try_from(bytes.uint(usize::from(prefix))?).map_err(|_| Truncated)?
            }
        };
        bytes.skip(length)
    }

    /// The value.
    pub(crate) fn read(self, bytes: &mut Bytes<'_>) -> Result<Cell, ReadError> {
        Ok(match self {
            Self::Integer { width, unsigned } => integer(bytes, width, unsigned)?,
            Self::Float => Cell::Float(bytes.u32()?),
            Self::Double => Cell::Double(bytes.u64()?),
            Self::Decimal { precision, scale } => {
                Cell::Decimal(number::decimal(bytes, precision, scale)?.into_boxed_str())
            }
            Self::Bit { bytes: width } => Cell::Bit(bytes.uint_be(usize::from(width))?),
            Self::Enum { width } => Cell::Enum(u16::try_from(bytes.uint(usize::from(width))?).unwrap_or(0)),
            Self::Set { width } => Cell::Set(bytes.uint(usize::from(width))?),
            Self::Year => match bytes.u8()? {
                0 => Cell::Year(0),
                year => Cell::Year(1900 + u16::from(year)),
            },
            Self::Date => temporal::date(bytes)?,
            Self::Temporal(layout) => layout.read(bytes)?,
            Self::Counted { prefix, content } => {
                let length = usize::try_from(bytes.uint(usize::from(prefix))?).map_err(|_| Truncated)?;
                counted(bytes.take(length)?, content)?
            }
        })
    }
}

/// Why a value cannot be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    Truncated,
    Json(&'static str),
}

impl From<Truncated> for ReadError {
    fn from(_: Truncated) -> Self {
        Self::Truncated
    }
}

fn integer(bytes: &mut Bytes<'_>, width: u8, unsigned: bool) -> Result<Cell, Truncated> {
    let value = bytes.uint(usize::from(width))?;
    if unsigned {
        return Ok(Cell::UInt(value));
    }
    let unused = 64 - 8 * u32::from(width.clamp(1, 8));
    Ok(Cell::Int((value << unused) as i64 >> unused))
}

fn counted(value: &[u8], content: Content) -> Result<Cell, ReadError> {
    Ok(match content {
        Content::Text => Cell::Text(Shared::copy_from_slice(value)),
        Content::Binary => Cell::Binary(Shared::copy_from_slice(value)),
        Content::Padded(length) => {
            let mut padded = value.to_vec();
            padded.resize(value.len().max(length as usize), 0);
            Cell::Binary(padded.into())
        }
        Content::Uuid => {
            let mut stored = [0; 16];
            for (to, from) in stored.iter_mut().zip(value) {
                *to = *from;
            }
            Cell::Binary(Shared::copy_from_slice(&uuid_in_order(stored)))
        }
        Content::Json => Cell::Json(json::text(value).map_err(ReadError::Json)?.into_boxed_str()),
        Content::Geometry => Cell::Geometry(Shared::copy_from_slice(value)),
        Content::Vector => Cell::Vector(Shared::copy_from_slice(value)),
    })
}

/// MariaDB keeps UUIDs of the versions 1 to 5 with their five groups in reverse order, those of version 6
/// and later (and the nil one) as they are; the variant bits tell which, wherever they lie.
fn uuid_in_order(stored: [u8; 16]) -> [u8; 16] {
    let swapped_variant = stored[6] & 0x80 != 0;
    let swapped_version = stored[8] & 0xf0;
    if !swapped_variant || swapped_version == 0 || swapped_version > 0x5f {
        return stored;
    }
    let mut uuid = [0; 16];
    uuid[..4].copy_from_slice(&stored[12..]);
    uuid[4..6].copy_from_slice(&stored[10..12]);
    uuid[6..8].copy_from_slice(&stored[8..10]);
    uuid[8..10].copy_from_slice(&stored[6..8]);
    uuid[10..].copy_from_slice(&stored[..6]);
    uuid
}
