//! Reading numbers and texts from bytes that came from a network.

use crate::error::{ErrorKind, StreamError};

/// The bytes ended before what they announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Truncated;

impl From<Truncated> for StreamError {
    fn from(_: Truncated) -> Self {
        Self::new(
            ErrorKind::Corrupt,
            "an event of the binary log is shorter than its content says",
        )
    }
}

/// A cursor over bytes. Nothing of it panics, whatever the bytes are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    #[inline]
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Truncated> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(Truncated)?;
        self.0 = tail;
        Ok(head)
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Truncated> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(Truncated)?;
        self.0 = tail;
        Ok(*head)
    }

    #[inline]
    pub(crate) fn skip(&mut self, count: usize) -> Result<(), Truncated> {
        self.take(count).map(drop)
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, Truncated> {
        self.array::<1>().map(|[byte]| byte)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, Truncated> {
        self.array().map(u16::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, Truncated> {
        self.array().map(u32::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u64(&mut self) -> Result<u64, Truncated> {
        self.array().map(u64::from_le_bytes)
    }

    /// A little-endian number of 0 to 8 bytes.
    #[inline]
    pub(crate) fn uint(&mut self, width: usize) -> Result<u64, Truncated> {
        let mut bytes = [0; 8];
        bytes
            .get_mut(..width)
            .ok_or(Truncated)?
            .copy_from_slice(self.take(width)?);
        Ok(u64::from_le_bytes(bytes))
    }

    /// A big-endian number of 0 to 8 bytes.
    #[inline]
    pub(crate) fn uint_be(&mut self, width: usize) -> Result<u64, Truncated> {
        let start = 8_usize.checked_sub(width).ok_or(Truncated)?;
        let mut bytes = [0; 8];
        bytes
            .get_mut(start..)
            .ok_or(Truncated)?
            .copy_from_slice(self.take(width)?);
        Ok(u64::from_be_bytes(bytes))
    }

    /// The protocol's length-encoded integer.
    pub(crate) fn lenenc(&mut self) -> Result<u64, Truncated> {
        match self.u8()? {
            0xfc => self.uint(2),
            0xfd => self.uint(3),
            0xfe => self.uint(8),
            // 0xfb is NULL and 0xff an error in the protocol; neither is a length.
            0xfb | 0xff => Err(Truncated),
            small => Ok(u64::from(small)),
        }
    }

    /// A length-encoded integer that counts bytes or items still to come.
    pub(crate) fn length(&mut self) -> Result<usize, Truncated> {
        usize::try_from(self.lenenc()?).map_err(|_| Truncated)
    }

    /// The variable-length integer of MySQL's serialisation library: the trailing one-bits of the first
    /// byte count the bytes that follow it.
    pub(crate) fn varlen(&mut self) -> Result<u64, Truncated> {
        let first = *self.0.first().ok_or(Truncated)?;
        let width = first.trailing_ones() as usize + 1;
        if width > 8 {
            self.skip(1)?;
            return self.u64();
        }
        Ok(self
            .uint(width)?
            .checked_shr(u32::try_from(width).unwrap_or(0))
            .unwrap_or(0))
    }
}

/// Whether bit `index` of a little-endian bitmap is set; bits beyond its end are not.
#[inline]
pub(crate) fn bit(bitmap: &[u8], index: usize) -> bool {
    bitmap
        .get(index / 8)
        .is_some_and(|byte| byte >> (index % 8) & 1 == 1)
}
