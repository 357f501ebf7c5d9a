//! The table map event: which table an id stands for, and how its rows are laid out.

use super::bytes::{Bytes, Truncated, bit};

/// A table map, its parts unread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TableMap<'a> {
    /// Stands for the table in the row events that follow, until it is given to another one.
    pub(crate) id: u64,
    pub(crate) schema: &'a [u8],
    pub(crate) table: &'a [u8],
    /// A type code for each column.
    pub(crate) types: &'a [u8],
    /// Of each column what its type needs, one after another.
    pub(crate) metadata: &'a [u8],
    /// Signedness, names and more, as far as `binlog_row_metadata` goes.
    optional: &'a [u8],
}

impl<'a> TableMap<'a> {
    pub(crate) fn read(body: &'a [u8]) -> Result<Self, Truncated> {
        let mut bytes = Bytes(body);
        let id = bytes.uint(6)?;
        bytes.skip(2)?;
        let schema = counted_name(&mut bytes)?;
        let table = counted_name(&mut bytes)?;
        let count = bytes.length()?;
        let types = bytes.take(count)?;
        let length = bytes.length()?;
        let metadata = bytes.take(length)?;
        bytes.skip(count.div_ceil(8))?;
        Ok(Self {
            id,
            schema,
            table,
            types,
            metadata,
            optional: bytes.rest(),
        })
    }

    /// The names of the columns, where the server sends them.
    pub(crate) fn names(&self) -> Result<Option<Vec<&'a [u8]>>, Truncated> {
        const NAMES: u8 = 4;
        let Some(field) = self.optional_field(NAMES)? else {
            return Ok(None);
        };
        let mut bytes = Bytes(field);
        let mut names = Vec::with_capacity(self.types.len());
        while !bytes.is_empty() {
            let length = bytes.length()?;
            names.push(bytes.take(length)?);
        }
        Ok(Some(names))
    }

    /// For each numeric column, in order, whether it is unsigned, where the server says so.
    pub(crate) fn unsigned(&self) -> Result<Option<impl Fn(usize) -> bool + 'a>, Truncated> {
        const SIGNEDNESS: u8 = 1;
        let field = self.optional_field(SIGNEDNESS)?;
        // The bits of each byte count from the highest, unlike in every other bitmap.
        Ok(field.map(|field| move |index: usize| bit(field, index / 8 * 8 + (7 - index % 8))))
    }

    fn optional_field(&self, wanted: u8) -> Result<Option<&'a [u8]>, Truncated> {
        let mut bytes = Bytes(self.optional);
        while !bytes.is_empty() {
            let kind = bytes.u8()?;
            let length = bytes.length()?;
            let value = bytes.take(length)?;
            if kind == wanted {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }
}

/// A name with its length before and a zero after it.
fn counted_name<'a>(bytes: &mut Bytes<'a>) -> Result<&'a [u8], Truncated> {
    let length = usize::from(bytes.u8()?);
    let name = bytes.take(length)?;
    bytes.skip(1)?;
    Ok(name)
}
