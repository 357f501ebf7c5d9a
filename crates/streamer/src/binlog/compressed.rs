//! Events inside of events: MySQL's transaction payload and MariaDB's compressed events.
//!
//! What is unpacked is capped, because its size is the sender's word, and every failure is an error: there
//! are rows in there.

use std::io::Read;

use super::bytes::{Bytes, Truncated};
use super::event::{HEADER, kind};
use crate::error::{ErrorKind, StreamError};

/// A transaction of MySQL in one event.
pub(crate) enum Payload<'a> {
    Plain(&'a [u8]),
    Unpacked(Vec<u8>),
}

impl Payload<'_> {
    /// The inner events, one after another.
    pub(crate) fn events(&self) -> InnerEvents<'_> {
        match self {
            Self::Plain(bytes) => InnerEvents(bytes),
            Self::Unpacked(bytes) => InnerEvents(bytes),
        }
    }
}

fn too_large(size: u64, cap: usize) -> StreamError {
    let message = format!(
        "a compressed event has {size} bytes or more when unpacked, above max_uncompressed_bytes = {cap}"
    );
    StreamError::new(ErrorKind::Limit, message)
}

fn damaged(what: &str, error: impl std::fmt::Display) -> StreamError {
    StreamError::new(ErrorKind::Corrupt, format!("{what} cannot be unpacked: {error}"))
}

/// Reads a transaction payload event.
pub(crate) fn payload(body: &[u8], cap: usize) -> Result<Payload<'_>, StreamError> {
    const END: u64 = 0;
    const SIZE: u64 = 1;
    const ALGORITHM: u64 = 2;
    const UNCOMPRESSED: u64 = 3;
    const ZSTD: u64 = 0;
    const NONE: u64 = 255;
    let mut bytes = Bytes(body);
    let (mut size, mut algorithm, mut uncompressed) = (None, None, None);
    loop {
        let field = bytes.lenenc()?;
        if field == END {
            break;
        }
        let length = bytes.length()?;
        let mut value = Bytes(bytes.take(length)?);
        match field {
            SIZE => size = Some(value.length()?),
            ALGORITHM => algorithm = Some(value.lenenc()?),
            UNCOMPRESSED => uncompressed = Some(value.lenenc()?),
            _ => {}
        }
    }
    let size = size.ok_or_else(|| damaged("a transaction payload", "it does not tell its size"))?;
    let content = bytes.take(size)?;
    match algorithm {
        Some(NONE) => Ok(Payload::Plain(content)),
        Some(ZSTD) => {
            let announced = uncompressed.unwrap_or(0);
            if announced > cap as u64 {
                return Err(too_large(announced, cap));
            }
            let decoder =
                zstd::Decoder::new(content).map_err(|error| damaged("a transaction payload", error))?;
            let unpacked = unpack("a transaction payload", decoder, content.len(), cap)?;
            if uncompressed.is_some_and(|announced| announced != unpacked.len() as u64) {
                return Err(damaged(
                    "a transaction payload",
                    "it has another size than announced",
                ));
            }
            Ok(Payload::Unpacked(unpacked))
        }
        other => Err(StreamError::new(
            ErrorKind::Unknown,
            format!("a transaction payload is packed in the unknown way {other:?}"),
        )),
    }
}

/// Unpacks in steps: what a sender announces reserves no memory.
fn unpack(what: &str, mut from: impl Read, packed: usize, cap: usize) -> Result<Vec<u8>, StreamError> {
    let mut unpacked = Vec::with_capacity(packed.saturating_mul(4).min(cap).min(1 << 20));
    let limit = cap as u64 + 1;
    from.by_ref()
        .take(limit)
        .read_to_end(&mut unpacked)
        .map_err(|error| damaged(what, error))?;
    if unpacked.len() > cap {
        return Err(too_large(unpacked.len() as u64, cap));
    }
    Ok(unpacked)
}

/// Cuts a payload into its events.
pub(crate) struct InnerEvents<'a>(&'a [u8]);

impl<'a> Iterator for InnerEvents<'a> {
    type Item = Result<&'a [u8], Truncated>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let cut = || {
            let mut head = Bytes(self.0.get(9..)?);
            let size = usize::try_from(head.u32().ok()?).ok()?;
            (size >= HEADER).then(|| self.0.split_at_checked(size)).flatten()
        };
        match cut() {
            Some((event, rest)) => {
                self.0 = rest;
                Some(Ok(event))
            }
            None => {
                self.0 = &[];
                Some(Err(Truncated))
            }
        }
    }
}

/// The type and length of the fixed part of what a compressed event of MariaDB is when unpacked.
pub(crate) fn maria_inner(event_type: u8) -> Option<u8> {
    Some(match event_type {
        kind::MARIA_QUERY_COMPRESSED => kind::QUERY,
        kind::MARIA_WRITE_ROWS_COMPRESSED_V1 => kind::WRITE_ROWS_V1,
        kind::MARIA_UPDATE_ROWS_COMPRESSED_V1 => kind::UPDATE_ROWS_V1,
        kind::MARIA_DELETE_ROWS_COMPRESSED_V1 => kind::DELETE_ROWS_V1,
        kind::MARIA_WRITE_ROWS_COMPRESSED => kind::WRITE_ROWS,
        kind::MARIA_UPDATE_ROWS_COMPRESSED => kind::UPDATE_ROWS,
        kind::MARIA_DELETE_ROWS_COMPRESSED => kind::DELETE_ROWS,
        _ => return None,
    })
}

/// The body of a compressed event of MariaDB as that of the ordinary event.
pub(crate) fn maria_body(inner: u8, body: &[u8], cap: usize) -> Result<Vec<u8>, StreamError> {
    let mut bytes = Bytes(body);
    // What is before the packed part stays as it is.
    let plain = match inner {
        kind::QUERY => {
            let mut head = bytes;
            head.skip(8)?;
            let schema = usize::from(head.u8()?);
            head.skip(2)?;
            let variables = usize::from(head.u16()?);
            13 + variables + schema + 1
        }
        kind::WRITE_ROWS_V1 | kind::UPDATE_ROWS_V1 | kind::DELETE_ROWS_V1 => rows_head(bytes, 8, inner)?,
        _ => {
            let mut head = bytes;
            head.skip(8)?;
            rows_head(bytes, 8 + usize::from(head.u16()?), inner)?
        }
    };
    let mut whole = bytes.take(plain)?.to_vec();
    // A byte of method (bits 4 to 6; 0 is zlib) and width of the size, which is big-endian.
    let head = bytes.u8()?;
    let method = head >> 4 & 7;
    if head & 0x80 == 0 || method != 0 {
        let message = format!("a compressed event is packed in the unknown way {head:#04x}");
        return Err(StreamError::new(ErrorKind::Unknown, message));
    }
    let announced = bytes.uint_be(usize::from(head & 7))?;
    if announced > cap as u64 {
        return Err(too_large(announced, cap));
    }
    let packed = bytes.rest();
    let decoder = flate2::read::ZlibDecoder::new(packed);
    let unpacked = unpack("a compressed event", decoder, packed.len(), cap)?;
    if unpacked.len() as u64 != announced {
        return Err(damaged(
            "a compressed event",
            "it has another size than announced",
        ));
    }
    whole.extend_from_slice(&unpacked);
    Ok(whole)
}

/// Fixed part, column count and bitmaps: only the rows are packed.
fn rows_head(bytes: Bytes<'_>, fixed: usize, inner: u8) -> Result<usize, StreamError> {
    let mut head = bytes;
    head.skip(fixed)?;
    let columns = head.length()?;
    let bitmaps = if matches!(inner, kind::UPDATE_ROWS_V1 | kind::UPDATE_ROWS) {
        2
    } else {
        1
    };
    head.skip(columns.div_ceil(8) * bitmaps)?;
    Ok(bytes.len() - head.len())
}
