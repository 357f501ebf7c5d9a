//! Asking a server for its binary log, and reading event after event.

use std::time::Duration;

use bytes::{Buf, Bytes};
use changeling_core::coords::{Coordinates, Gtids};

use super::connect::{Connection, refusal};
use super::event::{encode_gtids, kind};
use super::position::{Flavour, Server};
use crate::error::{ErrorKind, StreamError};
use crate::options::BinlogSourceOptions;

const COM_BINLOG_DUMP: u8 = 0x12;
const COM_REGISTER_SLAVE: u8 = 0x15;
const COM_BINLOG_DUMP_GTID: u8 = 0x1e;

/// Seconds that the server waits for us to read on, while our receiver gives no credit.
const RECEIVER_MAY_PAUSE: u32 = 3600;

/// Start from the GTIDs that follow, not from the beginning.
const BINLOG_THROUGH_GTID: u16 = 0x04;

/// How long a server may search its log for a place. MariaDB reads a whole file for a GTID position, up to a gigabyte, and
/// is silent meanwhile: whoever gives up sooner makes it begin again.
pub(crate) const SEARCH: Duration = Duration::from_secs(60);

/// A binary log that is being sent.
pub(crate) struct Dump {
    connection: Connection,
    /// The server promises a sign of life at least every heartbeat; three missed ones are a failure.
    patience: Duration,
    /// Whether the server has found the place to begin: it promises nothing before that.
    found: bool,
}

impl Dump {
    /// Connects anew and asks for everything after `at`.
    pub(crate) async fn start(
        options: &BinlogSourceOptions,
        server: &Server,
        at: &Coordinates,
    ) -> Result<Self, StreamError> {
        let mut connection = Connection::open(&options.opts, options.connect_timeout).await?;
        let late = |_| StreamError::new(ErrorKind::Silent, "the server does not answer");
        let begin = begin(&mut connection, options, server, at);
        tokio::time::timeout(options.connect_timeout, begin)
            .await
            .map_err(late)??;
        Ok(Self {
            connection,
            patience: options.patience(),
            found: false,
        })
    }

    /// The next event's bytes, header and checksum included. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Bytes, StreamError> {
        let patience = if self.found {
            self.patience
        } else {
            self.patience.max(SEARCH)
        };
        let packet = self.connection.packet_unless_silent(patience).await?;
        self.event(packet)
    }

    /// Whether an event has begun to arrive and is not there yet.
    pub(crate) fn is_within_an_event(&self) -> bool {
        self.connection.is_within_a_packet()
    }

    /// The next event, if it was already read with an earlier one.
    pub(crate) fn buffered(&mut self) -> Result<Option<Bytes>, StreamError> {
        let packet = self.connection.buffered()?;
        packet.map(|packet| self.event(packet)).transpose()
    }

    fn event(&mut self, packet: Bytes) -> Result<Bytes, StreamError> {
        let event = event(packet)?;
        self.found |= !opens_a_file(&event);
        Ok(event)
    }
}

/// Whether it is one of the events that a server sends before it has found the place.
pub(crate) fn opens_a_file(event: &[u8]) -> bool {
    matches!(
        kind_of(event),
        Some(
            kind::ROTATE
                | kind::FORMAT_DESCRIPTION
                | kind::PREVIOUS_GTIDS
                | kind::MARIA_BINLOG_CHECKPOINT
                | kind::MARIA_GTID_LIST
                | kind::MARIA_START_ENCRYPTION
        )
    )
}

/// Whether an event is a sign of life and nothing else.
pub(crate) fn is_heartbeat(event: &[u8]) -> bool {
    matches!(kind_of(event), Some(kind::HEARTBEAT | kind::HEARTBEAT_V2))
}

fn kind_of(event: &[u8]) -> Option<u8> {
    const TYPE: usize = 4;
    event.get(TYPE).copied()
}

fn event(mut packet: Bytes) -> Result<Bytes, StreamError> {
    match packet.first() {
        Some(0x00) => {
            packet.advance(1);
            Ok(packet)
        }
        // The end of a dump that was asked to wait for ever: the server goes down.
        Some(0xfe) if packet.len() < 9 => Err(StreamError::new(
            ErrorKind::Unreachable,
            "the server ended the stream",
        )),
        Some(0xff) => Err(refusal(&packet)),
        _ => Err(StreamError::new(
            ErrorKind::Corrupt,
            "a packet of the stream is neither event nor error",
        )),
    }
}

async fn begin(
    connection: &mut Connection,
    options: &BinlogSourceOptions,
    server: &Server,
    at: &Coordinates,
) -> Result<(), StreamError> {
    let heartbeat = options.heartbeat.as_nanos();
    // Older names first: a variable that a server does not know is simply ours.
    connection
        .execute(&format!(
            "SET @master_heartbeat_period = {heartbeat}, @source_heartbeat_period = {heartbeat}, \
             @master_binlog_checksum = @@global.binlog_checksum, \
             @source_binlog_checksum = @@global.binlog_checksum, SESSION net_write_timeout = {RECEIVER_MAY_PAUSE}"
        ))
        .await?;
    if server.flavour == Flavour::MariaDb {
        // 4: we know GTID events, so none is replaced by a dummy.
        connection.execute("SET @mariadb_slave_capability = 4").await?;
    } else {
        // Our process is not a server, but the dump thread of an earlier connection of ours is ended by it.
        connection
            .execute(&format!(
                "SET @slave_uuid = '{0}', @replica_uuid = '{0}'",
                options.uuid()
            ))
            .await?;
    }
    register(connection, options.server_id).await?;
    match &at.gtids {
        Gtids::MySql(known) => {
            let gtids = encode_gtids(known);
            let mut body = BINLOG_THROUGH_GTID.to_le_bytes().to_vec();
            body.extend_from_slice(&options.server_id.to_le_bytes());
            body.extend_from_slice(&0_u32.to_le_bytes());
            body.extend_from_slice(&4_u64.to_le_bytes());
            body.extend_from_slice(&u32::try_from(gtids.len()).unwrap_or(u32::MAX).to_le_bytes());
            body.extend_from_slice(&gtids);
            connection.command(COM_BINLOG_DUMP_GTID, &body).await
        }
        Gtids::MariaDb(known) => {
            connection
                .execute(&format!(
                    "SET @slave_connect_state = '{known}', @slave_gtid_strict_mode = 1, \
                     @slave_gtid_ignore_duplicates = 0"
                ))
                .await?;
            dump_file(connection, options.server_id, "", 4).await
        }
        Gtids::None => dump_file(connection, options.server_id, &at.file.file, at.file.pos).await,
    }
}

/// Makes us visible in `SHOW REPLICAS`.
async fn register(connection: &mut Connection, server_id: u32) -> Result<(), StreamError> {
    let mut body = server_id.to_le_bytes().to_vec();
    // No host name, user, password; port, rank and source id are 0.
    body.extend_from_slice(&[0; 3 + 2 + 4 + 4]);
    connection.command(COM_REGISTER_SLAVE, &body).await?;
    connection.confirm().await
}

async fn dump_file(
    connection: &mut Connection,
    server_id: u32,
    file: &str,
    pos: u64,
) -> Result<(), StreamError> {
    let pos = u32::try_from(pos).map_err(|_| {
        let message = format!("position {file}:{pos} lies beyond 4 GiB, where a stream by file cannot start");
        StreamError::new(ErrorKind::Unsupported, message)
    })?;
    let mut body = pos.to_le_bytes().to_vec();
    body.extend_from_slice(&0_u16.to_le_bytes());
    body.extend_from_slice(&server_id.to_le_bytes());
    body.extend_from_slice(file.as_bytes());
    connection.command(COM_BINLOG_DUMP, &body).await
}
