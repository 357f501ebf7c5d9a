//! One event of a binary log: its header, its checksum, and the small events.

use changeling_core::coords::{Gtid, GtidSet, MariaGtid};

use super::bytes::{Bytes, Truncated};
use crate::error::{ErrorKind, StreamError};

/// Event types, as both servers number them.
pub(crate) mod kind {
    pub(crate) const QUERY: u8 = 2;
    pub(crate) const STOP: u8 = 3;
    pub(crate) const ROTATE: u8 = 4;
    pub(crate) const INTVAR: u8 = 5;
    pub(crate) const APPEND_BLOCK: u8 = 9;
    pub(crate) const DELETE_FILE: u8 = 11;
    pub(crate) const RAND: u8 = 13;
    pub(crate) const USER_VAR: u8 = 14;
    pub(crate) const FORMAT_DESCRIPTION: u8 = 15;
    pub(crate) const XID: u8 = 16;
    pub(crate) const BEGIN_LOAD_QUERY: u8 = 17;
    pub(crate) const EXECUTE_LOAD_QUERY: u8 = 18;
    pub(crate) const TABLE_MAP: u8 = 19;
    pub(crate) const WRITE_ROWS_V1: u8 = 23;
    pub(crate) const UPDATE_ROWS_V1: u8 = 24;
    pub(crate) const DELETE_ROWS_V1: u8 = 25;
    pub(crate) const INCIDENT: u8 = 26;
    pub(crate) const HEARTBEAT: u8 = 27;
    pub(crate) const IGNORABLE: u8 = 28;
    pub(crate) const ROWS_QUERY: u8 = 29;
    pub(crate) const WRITE_ROWS: u8 = 30;
    pub(crate) const UPDATE_ROWS: u8 = 31;
    pub(crate) const DELETE_ROWS: u8 = 32;
    pub(crate) const GTID: u8 = 33;
    pub(crate) const ANONYMOUS_GTID: u8 = 34;
    pub(crate) const PREVIOUS_GTIDS: u8 = 35;
    pub(crate) const TRANSACTION_CONTEXT: u8 = 36;
    pub(crate) const VIEW_CHANGE: u8 = 37;
    pub(crate) const XA_PREPARE: u8 = 38;
    pub(crate) const PARTIAL_UPDATE_ROWS: u8 = 39;
    pub(crate) const TRANSACTION_PAYLOAD: u8 = 40;
    pub(crate) const HEARTBEAT_V2: u8 = 41;
    pub(crate) const GTID_TAGGED: u8 = 42;
    pub(crate) const MARIA_ANNOTATE_ROWS: u8 = 160;
    pub(crate) const MARIA_BINLOG_CHECKPOINT: u8 = 161;
    pub(crate) const MARIA_GTID: u8 = 162;
    pub(crate) const MARIA_GTID_LIST: u8 = 163;
    pub(crate) const MARIA_START_ENCRYPTION: u8 = 164;
    pub(crate) const MARIA_QUERY_COMPRESSED: u8 = 165;
    pub(crate) const MARIA_WRITE_ROWS_COMPRESSED_V1: u8 = 166;
    pub(crate) const MARIA_UPDATE_ROWS_COMPRESSED_V1: u8 = 167;
    pub(crate) const MARIA_DELETE_ROWS_COMPRESSED_V1: u8 = 168;
    pub(crate) const MARIA_WRITE_ROWS_COMPRESSED: u8 = 169;
    pub(crate) const MARIA_UPDATE_ROWS_COMPRESSED: u8 = 170;
    pub(crate) const MARIA_DELETE_ROWS_COMPRESSED: u8 = 171;
}

/// Set in the first event of a file while the server writes to it; not covered by the checksum.
const FLAG_IN_USE: u16 = 0x01;
/// The event is made up for us by the dump thread and is not in the file.
const FLAG_ARTIFICIAL: u16 = 0x20;
/// A reader that does not know the event's type may pass over it.
const FLAG_IGNORABLE: u16 = 0x80;

/// Bytes of an event's header.
pub(crate) const HEADER: usize = 19;
const CHECKSUM: usize = 4;

/// How events of a stream end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checksum {
    /// Without a checksum: inner events of a payload, or a server with `binlog_checksum=NONE`.
    Off,
    /// With a CRC-32.
    Crc32,
}

/// The first 19 bytes of an event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) kind: u8,
    pub(crate) size: u32,
    /// Where the next event begins, modulo 2³²; 0 for artificial events and inner ones of a payload.
    pub(crate) log_pos: u32,
    pub(crate) flags: u16,
    pub(crate) server_id: u32,
}

impl Header {
    fn read(bytes: &mut Bytes<'_>) -> Result<Self, Truncated> {
        bytes.skip(4)?;
        let kind = bytes.u8()?;
        let server_id = bytes.u32()?;
        let size = bytes.u32()?;
        let log_pos = bytes.u32()?;
        let flags = bytes.u16()?;
        Ok(Self {
            kind,
            size,
            log_pos,
            flags,
            server_id,
        })
    }

    pub(crate) fn is_artificial(&self) -> bool {
        self.flags & FLAG_ARTIFICIAL != 0
    }

    pub(crate) fn is_ignorable(&self) -> bool {
        self.flags & FLAG_IGNORABLE != 0
    }
}

/// An event whose checksum was right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event<'a> {
    pub(crate) header: Header,
    /// What is between header and checksum.
    pub(crate) body: &'a [u8],
}

impl<'a> Event<'a> {
    /// Reads one event that fills `bytes`, and verifies its checksum.
    pub(crate) fn parse(bytes: &'a [u8], checksum: Checksum) -> Result<Self, StreamError> {
        let mut cursor = Bytes(bytes);
        let header = Header::read(&mut cursor)?;
        if usize::try_from(header.size) != Ok(bytes.len()) {
            return Err(StreamError::new(
                ErrorKind::Corrupt,
                format!(
                    "an event of type {} says it has {} bytes but {} arrived",
                    header.kind,
                    header.size,
                    bytes.len()
                ),
            ));
        }
        if header.kind == kind::FORMAT_DESCRIPTION {
            return Self::parse_format(bytes, header);
        }
        if checksum == Checksum::Off {
            return Ok(Self {
                header,
                body: cursor.rest(),
            });
        }
        let body = cursor.take(cursor.len().checked_sub(CHECKSUM).ok_or(Truncated)?)?;
        let stored = cursor.u32()?;
        verify(&bytes[..bytes.len() - CHECKSUM], stored, &header)?;
        Ok(Self { header, body })
    }

    /// The format description says itself whether it has a checksum; the place for one is always there.
    fn parse_format(bytes: &'a [u8], header: Header) -> Result<Self, StreamError> {
        let content = bytes.len().checked_sub(CHECKSUM).ok_or(Truncated)?;
        let body = bytes.get(HEADER..content).ok_or(Truncated)?;
        if Format::read(body)?.checksum == Checksum::Crc32 {
            let mut covered = bytes[..content].to_vec();
            // The checksum was made before the server marked the file as being in use.
            if let Some(flags) = covered.get_mut(17) {
                *flags &= !(FLAG_IN_USE as u8);
            }
            let stored = Bytes(&bytes[content..]).u32()?;
            verify(&covered, stored, &header)?;
        }
        Ok(Self { header, body })
    }

    /// What may come before the format description. An artificial rotate there may or may not carry a
    /// checksum, whatever was negotiated (MariaDB sends one, MySQL does when its own checksums are on).
    pub(crate) fn parse_first(bytes: &'a [u8]) -> Result<Self, StreamError> {
        let event = Self::parse(bytes, Checksum::Crc32).or_else(|_| Self::parse(bytes, Checksum::Off))?;
        match event.header.kind {
            kind::FORMAT_DESCRIPTION | kind::ROTATE | kind::HEARTBEAT | kind::HEARTBEAT_V2 => Ok(event),
            other => Err(StreamError::new(
                ErrorKind::Corrupt,
                format!("an event of type {other} comes before the format description"),
            )),
        }
    }
}

fn verify(covered: &[u8], stored: u32, header: &Header) -> Result<(), StreamError> {
    let computed = crc32fast::hash(covered);
    if computed == stored {
        return Ok(());
    }
    Err(StreamError::new(
        ErrorKind::Corrupt,
        format!(
            "the checksum of an event of type {} that ends at {} is {computed:08x} instead of {stored:08x}",
            header.kind, header.log_pos
        ),
    ))
}

/// The format description: how the events that follow are laid out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Format {
    pub(crate) checksum: Checksum,
    pub(crate) maria: bool,
}

impl Format {
    pub(crate) fn read(body: &[u8]) -> Result<Self, StreamError> {
        let mut bytes = Bytes(body);
        let version = bytes.u16()?;
        let maria = bytes.take(50)?.windows(7).any(|part| part == b"MariaDB");
        bytes.skip(4)?;
        let header = bytes.u8()?;
        if version != 4 || usize::from(header) != HEADER {
            return Err(StreamError::new(
                ErrorKind::Unknown,
                format!("the binary log has format {version} with headers of {header} bytes"),
            ));
        }
        let checksum = match bytes.rest().last().ok_or(Truncated)? {
            0 | 255 => Checksum::Off,
            1 => Checksum::Crc32,
            other => {
                return Err(StreamError::new(
                    ErrorKind::Unknown,
                    format!("the binary log has checksums of the unknown sort {other}"),
                ));
            }
        };
        Ok(Self { checksum, maria })
    }
}

/// Where the log goes on: position and file.
pub(crate) fn rotate(body: &[u8]) -> Result<(u64, String), StreamError> {
    let mut bytes = Bytes(body);
    let position = bytes.u64()?;
    let file = String::from_utf8_lossy(bytes.rest()).into_owned();
    Ok((position, file))
}

/// A MySQL transaction's GTID; `None` for an anonymous one.
pub(crate) fn gtid(event: &Event<'_>) -> Result<Option<Gtid>, StreamError> {
    match event.header.kind {
        kind::GTID => {
            let mut bytes = Bytes(event.body);
            bytes.skip(1)?;
            let uuid = bytes.array()?;
            let number = bytes.u64()?;
            Ok(Some(Gtid {
                uuid,
                tag: "".into(),
                number,
            }))
        }
        kind::GTID_TAGGED => tagged_gtid(event.body).map(Some),
        _ => Ok(None),
    }
}

/// Reads the fields 0 to 3 (flags, uuid, number, tag) of the serialised message; the rest is about times.
fn tagged_gtid(body: &[u8]) -> Result<Gtid, StreamError> {
    let mut bytes = Bytes(body);
    let version = bytes.varlen()?;
    if version != 1 {
        return Err(StreamError::new(
            ErrorKind::Unknown,
            format!("a tagged GTID event has the unknown serialisation version {version}"),
        ));
    }
    let _size = bytes.varlen()?;
    let _last_non_ignorable = bytes.varlen()?;
    let (mut uuid, mut number, mut tag) = (None, None, None);
    while !bytes.is_empty() && (uuid.is_none() || number.is_none() || tag.is_none()) {
        match bytes.varlen()? {
            0 => drop(bytes.varlen()?),
            1 => {
                let mut value = [0; 16];
                for byte in &mut value {
                    // Each byte of the array is a variable-length integer of its own.
                    *byte = u8::try_from(bytes.varlen()?).map_err(|_| Truncated)?;
                }
                uuid = Some(value);
            }
            // Signed: the lowest bit is the sign, and no number is below zero.
            2 => number = Some(bytes.varlen()? >> 1),
            3 => {
                let length = usize::try_from(bytes.varlen()?).map_err(|_| Truncated)?;
                tag = Some(String::from_utf8_lossy(bytes.take(length)?).into_owned());
            }
            _ => break,
        }
    }
    match (uuid, number) {
        (Some(uuid), Some(number)) => Ok(Gtid {
            uuid,
            tag: tag.unwrap_or_default().into(),
            number,
        }),
        _ => Err(StreamError::new(
            ErrorKind::Corrupt,
            "a tagged GTID event without uuid or number",
        )),
    }
}

/// The identity of an XA transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Xid {
    pub(crate) format: u32,
    pub(crate) global: Vec<u8>,
    pub(crate) branch: Vec<u8>,
}

impl std::fmt::Display for Xid {
    /// As the servers write it in their log: `X'6162',X'63',1`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = String::from("X'");
        changeling_core::ident::push_hex(&mut text, &self.global);
        text.push_str("',X'");
        changeling_core::ident::push_hex(&mut text, &self.branch);
        write!(f, "{text}',{}", self.format)
    }
}

/// An XA transaction was prepared, or with one phase committed at once.
pub(crate) struct XaPrepare {
    pub(crate) one_phase: bool,
    pub(crate) xid: Xid,
}

pub(crate) fn xa_prepare(body: &[u8]) -> Result<XaPrepare, StreamError> {
    let mut bytes = Bytes(body);
    let one_phase = bytes.u8()? != 0;
    let format = bytes.u32()?;
    let global = usize::try_from(bytes.u32()?).map_err(|_| Truncated)?;
    let branch = usize::try_from(bytes.u32()?).map_err(|_| Truncated)?;
    let global = bytes.take(global)?.to_vec();
    let branch = bytes.take(branch)?.to_vec();
    Ok(XaPrepare {
        one_phase,
        xid: Xid {
            format,
            global,
            branch,
        },
    })
}

/// MariaDB's GTID event, which also begins the transaction.
#[derive(Clone, Debug)]
pub(crate) struct MariaBegin {
    pub(crate) gtid: MariaGtid,
    /// A single statement follows, without a transaction's frame.
    pub(crate) standalone: bool,
    /// The transaction will be prepared under this name.
    pub(crate) prepares: Option<Xid>,
}

pub(crate) fn maria_gtid(event: &Event<'_>) -> Result<MariaBegin, StreamError> {
    const STANDALONE: u8 = 1;
    const GROUP_COMMIT: u8 = 2;
    const PREPARED_XA: u8 = 64;
    let mut bytes = Bytes(event.body);
    let sequence = bytes.u64()?;
    let domain = bytes.u32()?;
    let flags = bytes.u8()?;
    if flags & GROUP_COMMIT != 0 {
        bytes.skip(8)?;
    }
    let prepares = if flags & PREPARED_XA != 0 {
        let format = bytes.u32()?;
        let global = usize::from(bytes.u8()?);
        let branch = usize::from(bytes.u8()?);
        let global = bytes.take(global)?.to_vec();
        let branch = bytes.take(branch)?.to_vec();
        Some(Xid {
            format,
            global,
            branch,
        })
    } else {
        None
    };
    let gtid = MariaGtid {
        domain,
        server: event.header.server_id,
        sequence,
    };
    Ok(MariaBegin {
        gtid,
        standalone: flags & STANDALONE != 0,
        prepares,
    })
}

/// A GTID set as `COM_BINLOG_DUMP_GTID` takes it: the layout of a previous-GTIDs event. One byte
/// at each end of the count says whether tags follow.
pub(crate) fn encode_gtids(set: &GtidSet) -> Vec<u8> {
    let tagged = set.sources().any(|(_, tag, _)| !tag.is_empty());
    let count = set.sources().len() as u64;
    let header = if tagged { 1 << 56 | count << 8 | 1 } else { count };
    let mut bytes = header.to_le_bytes().to_vec();
    for (uuid, tag, intervals) in set.sources() {
        bytes.extend_from_slice(uuid);
        if tagged {
            // At most 32 bytes: the variable-length integer has one byte.
            bytes.push(u8::try_from(tag.len() << 1).unwrap_or(u8::MAX));
            bytes.extend_from_slice(tag.as_bytes());
        }
        bytes.extend_from_slice(&(intervals.len() as u64).to_le_bytes());
        for &(first, last) in intervals {
            bytes.extend_from_slice(&first.to_le_bytes());
            bytes.extend_from_slice(&(last + 1).to_le_bytes());
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The GTIDs of all files before this one.
    pub(crate) fn previous_gtids(body: &[u8]) -> Result<GtidSet, StreamError> {
        let mut bytes = Bytes(body);
        let header = bytes.u64()?;
        let (tagged, sources) = match header >> 56 {
            0 => (false, header),
            1 => (true, header << 8 >> 16),
            other => {
                return Err(StreamError::new(
                    ErrorKind::Unknown,
                    format!("a GTID set has the unknown format {other}"),
                ));
            }
        };
        let mut set = GtidSet::default();
        for _ in 0..sources {
            let uuid = bytes.array()?;
            let tag = if tagged {
                let length = usize::try_from(bytes.varlen()?).map_err(|_| Truncated)?;
                String::from_utf8_lossy(bytes.take(length)?).into_owned()
            } else {
                String::new()
            };
            for _ in 0..bytes.u64()? {
                let first = bytes.u64()?;
                let end = bytes.u64()?;
                set.add_range(uuid, &tag, first, end.saturating_sub(1));
            }
        }
        Ok(set)
    }

    #[test]
    fn gtid_sets_travel_with_and_without_tags() {
        for text in [
            "",
            "a61db349-e5f0-11f1-98a2-02fc00000001:1-3:7",
            "a61db349-e5f0-11f1-98a2-02fc00000001:1-3:blue:4,b61db349-e5f0-11f1-98a2-02fc00000001:9",
        ] {
            let set: GtidSet = text.parse().unwrap();
            assert_eq!(previous_gtids(&encode_gtids(&set)).unwrap(), set);
        }
    }
}
