//! The connection that carries a binary log.
//!
//! The driver's own stream of events is not used, for what it does to bytes before anybody can look at
//! them: it drops a transaction payload that it cannot read, allocates whatever size a payload announces,
//! panics on short events, verifies no checksum, and cannot ask for tagged GTIDs. Here is no more than a
//! replica needs: connect, TLS, log in, statements without results, and whole packets. Everything else
//! (positions, variables) goes through the driver, with the same options.

use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use mysql_async::Opts;
use mysql_common::constants::CapabilityFlags;
use mysql_common::io::ParseBuf;
use mysql_common::packets::{AuthPlugin, AuthSwitchRequest, HandshakePacket};
use mysql_common::proto::MySerialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::bytes::Bytes as Cursor;
use super::tls;
use crate::error::{ErrorKind, StreamError};

/// The protocol's limit of a packet part; a part of this length has a successor.
const PART: usize = 0xff_ffff;
/// Reading buffer: enough for hundreds of small events a system call.
const READ_AHEAD: usize = 256 * 1024;
/// An event, and so a packet, has at most 1 GiB by the servers' limits; a little more for its frame.
pub(crate) const MAX_PACKET: usize = (1 << 30) + 1024;
/// `utf8mb4_general_ci`, known to every server.
const COLLATION: u8 = 45;

trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// A connection that is logged in.
pub(crate) struct Connection {
    transport: Box<dyn Transport>,
    /// Whether a password may travel in clear.
    private: bool,
    input: BytesMut,
    /// Parts of a packet longer than [`PART`].
    parts: BytesMut,
    sequence: u8,
}

pub(crate) fn io_error(what: &str, error: &io::Error) -> StreamError {
    StreamError::new(ErrorKind::Unreachable, format!("{what}: {error}"))
}

impl Connection {
    /// Connects and logs in as the driver would with these options, within `timeout`.
    pub(crate) async fn open(opts: &Opts, timeout: Duration) -> Result<Self, StreamError> {
        let late = |_| {
            StreamError::new(
                ErrorKind::Unreachable,
                format!("{} did not let us in within {timeout:?}", address(opts)),
            )
        };
        tokio::time::timeout(timeout, Self::login(opts))
            .await
            .map_err(late)?
    }

    async fn login(opts: &Opts) -> Result<Self, StreamError> {
        let mut connection = match opts.socket() {
            Some(path) => Self::on_socket(path).await?,
            None => Self::on_tcp(opts).await?,
        };
        let hello = connection.packet().await?;
        if hello.first() == Some(&0xff) {
            return Err(refusal(&hello));
        }
        let hello = ParseBuf(&hello)
            .parse::<HandshakePacket<'_>>(())
            .map_err(|error| io_error("the server's greeting is not understood", &error))?;
        let mut nonce = hello.nonce();
        let plugin = match hello.auth_plugin() {
            Some(AuthPlugin::CachingSha2Password) => AuthPlugin::CachingSha2Password,
            _ => AuthPlugin::MysqlNativePassword,
        };
        let mut capabilities = CapabilityFlags::CLIENT_LONG_PASSWORD
            | CapabilityFlags::CLIENT_PROTOCOL_41
            | CapabilityFlags::CLIENT_TRANSACTIONS
            | CapabilityFlags::CLIENT_SECURE_CONNECTION
            | CapabilityFlags::CLIENT_PLUGIN_AUTH;
        if opts.socket().is_none()
            && let Some(ssl) = opts.ssl_opts()
        {
            if !hello.capabilities().contains(CapabilityFlags::CLIENT_SSL) {
                let message = format!("{} does not offer TLS, which the settings demand", address(opts));
                return Err(StreamError::new(ErrorKind::Refused, message));
            }
            capabilities |= CapabilityFlags::CLIENT_SSL;
            connection = connection.secure(opts, ssl, capabilities).await?;
        }
        let scramble = plugin.gen_data(opts.pass(), &nonce);
        let mut response = greeting(capabilities);
        response.extend_from_slice(opts.user().unwrap_or_default().as_bytes());
        response.push(0);
        let proof = scramble.as_deref().unwrap_or_default();
        response.push(u8::try_from(proof.len()).unwrap_or(0));
        response.extend_from_slice(proof);
        response.extend_from_slice(plugin.as_bytes());
        response.push(0);
        connection.write(&response).await?;
        connection
            .authenticate(opts, plugin.into_owned(), &mut nonce)
            .await?;
        Ok(connection)
    }

    fn new(transport: Box<dyn Transport>, private: bool) -> Self {
        Self {
            transport,
            private,
            input: BytesMut::new(),
            parts: BytesMut::new(),
            sequence: 0,
        }
    }

    #[cfg(unix)]
    async fn on_socket(path: &str) -> Result<Self, StreamError> {
        let stream = tokio::net::UnixStream::connect(path)
            .await
            .map_err(|error| io_error(&format!("cannot connect to {path}"), &error))?;
        Ok(Self::new(Box::new(stream), true))
    }

    #[cfg(not(unix))]
    async fn on_socket(path: &str) -> Result<Self, StreamError> {
        let message = format!("{path}: this system has no sockets in the file system");
        Err(StreamError::new(ErrorKind::Settings, message))
    }

    async fn on_tcp(opts: &Opts) -> Result<Self, StreamError> {
        let failed = |error| io_error(&format!("cannot connect to {}", address(opts)), &error);
        let stream = TcpStream::connect((opts.ip_or_hostname(), opts.tcp_port()))
            .await
            .map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        Ok(Self::new(Box::new(stream), false))
    }

    async fn secure(
        mut self,
        opts: &Opts,
        ssl: &mysql_async::SslOpts,
        capabilities: CapabilityFlags,
    ) -> Result<Self, StreamError> {
        self.write(&greeting(capabilities)).await?;
        let host = ssl
            .tls_hostname_override()
            .unwrap_or_else(|| opts.ip_or_hostname());
        let transport = tls::wrap(ssl, host, self.transport).await?;
        Ok(Self {
            transport: Box::new(transport),
            private: true,
            ..self
        })
    }

    /// Answers the server's questions until it says yes or no.
    async fn authenticate(
        &mut self,
        opts: &Opts,
        mut plugin: AuthPlugin<'static>,
        nonce: &mut Vec<u8>,
    ) -> Result<(), StreamError> {
        loop {
            let packet = self.packet().await?;
            match (packet.first(), packet.get(1)) {
                (Some(0x00), _) => return Ok(()),
                (Some(0xff), _) => return Err(refusal(&packet)),
                (Some(0xfe), _) => {
                    let request = ParseBuf(&packet)
                        .parse::<AuthSwitchRequest<'_>>(())
                        .map_err(|error| io_error("the server's login request is not understood", &error))?;
                    *nonce = request.plugin_data().to_vec();
                    plugin = request.auth_plugin().into_owned();
                    let proof = self.proof(opts, &plugin, nonce)?;
                    self.write(&proof).await?;
                }
                // caching_sha2_password: 3 = known, an OK follows; 4 = the password itself is needed.
                (Some(0x01), Some(0x03)) if matches!(plugin, AuthPlugin::CachingSha2Password) => {}
                (Some(0x01), Some(0x04)) if matches!(plugin, AuthPlugin::CachingSha2Password) => {
                    self.send_password(opts.pass().unwrap_or_default(), nonce).await?;
                }
                _ => {
                    let message = format!("the login to {} took an unexpected turn", address(opts));
                    return Err(StreamError::new(ErrorKind::Refused, message));
                }
            }
        }
    }

    fn proof(&self, opts: &Opts, plugin: &AuthPlugin<'_>, nonce: &[u8]) -> Result<Vec<u8>, StreamError> {
        let allowed = match plugin {
            AuthPlugin::CachingSha2Password | AuthPlugin::MysqlNativePassword => true,
            AuthPlugin::MysqlClearPassword => opts.enable_cleartext_plugin() && self.private,
            _ => false,
        };
        if !allowed {
            let name = String::from_utf8_lossy(plugin.as_bytes()).into_owned();
            let message = format!(
                "the account at {} logs in with {name}; this stream knows caching_sha2_password, \
                 mysql_native_password and, over TLS and if enabled, mysql_clear_password",
                address(opts)
            );
            return Err(StreamError::new(ErrorKind::Refused, message));
        }
        let mut proof = Vec::new();
        if let Some(data) = plugin.gen_data(opts.pass(), nonce) {
            data.serialize(&mut proof);
        }
        Ok(proof)
    }

    async fn send_password(&mut self, password: &str, nonce: &[u8]) -> Result<(), StreamError> {
        let mut secret = password.as_bytes().to_vec();
        secret.push(0);
        if self.private {
            return self.write(&secret).await;
        }
        self.write(&[0x02]).await?;
        let key = self.packet().await?;
        for (byte, mask) in secret.iter_mut().zip(nonce.iter().cycle()) {
            *byte ^= mask;
        }
        // The library panics on a malformed key, which is the server's word.
        let key = key.get(1..).unwrap_or_default().to_vec();
        let sealed =
            std::panic::catch_unwind(|| mysql_common::crypto::encrypt(&secret, &key)).map_err(|_| {
                StreamError::new(
                    ErrorKind::Refused,
                    "the server's public key for passwords is unusable; use TLS",
                )
            })?;
        self.write(&sealed).await
    }

    /// Sends a command: the sequence of packets begins anew.
    pub(crate) async fn command(&mut self, code: u8, body: &[u8]) -> Result<(), StreamError> {
        self.sequence = 0;
        let mut packet = Vec::with_capacity(body.len() + 1);
        packet.push(code);
        packet.extend_from_slice(body);
        self.write(&packet).await
    }

    /// Runs a statement that has no result.
    pub(crate) async fn execute(&mut self, statement: &str) -> Result<(), StreamError> {
        const COM_QUERY: u8 = 0x03;
        self.command(COM_QUERY, statement.as_bytes()).await?;
        self.confirm().await
    }

    /// Awaits the server's yes.
    pub(crate) async fn confirm(&mut self) -> Result<(), StreamError> {
        let packet = self.packet().await?;
        match packet.first() {
            Some(0x00) => Ok(()),
            _ => Err(refusal(&packet)),
        }
    }

    async fn write(&mut self, packet: &[u8]) -> Result<(), StreamError> {
        debug_assert!(packet.len() < PART, "we only send small packets");
        let mut framed = Vec::with_capacity(packet.len() + 4);
        let length = u32::try_from(packet.len()).unwrap_or(0).to_le_bytes();
        framed.extend_from_slice(&length[..3]);
        framed.push(self.sequence);
        framed.extend_from_slice(packet);
        self.sequence = self.sequence.wrapping_add(1);
        let failed = |error| io_error("the connection broke", &error);
        self.transport.write_all(&framed).await.map_err(failed)?;
        self.transport.flush().await.map_err(failed)
    }

    /// The next packet. Dropping the future loses nothing.
    pub(crate) async fn packet(&mut self) -> Result<Bytes, StreamError> {
        loop {
            if let Some(packet) = self.buffered()? {
                return Ok(packet);
            }
            self.fill().await?;
        }
    }

    /// The same, but gives up when nothing at all has come for so long. How long the whole packet takes does not matter: a
    /// row may be a gigabyte, and the network slow.
    pub(crate) async fn packet_unless_silent(&mut self, patience: Duration) -> Result<Bytes, StreamError> {
        loop {
            if let Some(packet) = self.buffered()? {
                return Ok(packet);
            }
            tokio::time::timeout(patience, self.fill()).await.map_err(|_| {
                let message = format!("the server sent nothing, not even a heartbeat, for {patience:?}");
                StreamError::new(ErrorKind::Silent, message)
            })??;
        }
    }

    /// Whether a packet has begun and not ended.
    pub(crate) fn is_within_a_packet(&self) -> bool {
        !self.input.is_empty() || !self.parts.is_empty()
    }

    /// Reads what there is. Dropping the future loses nothing.
    async fn fill(&mut self) -> Result<(), StreamError> {
        self.reserve();
        let read = self.transport.read_buf(&mut self.input).await;
        if read.map_err(|error| io_error("the connection broke", &error))? == 0 {
            return Err(StreamError::new(
                ErrorKind::Unreachable,
                "the server closed the connection",
            ));
        }
        Ok(())
    }

    /// Room for the rest of the packet part under way, in steps, so that a length alone reserves nothing.
    fn reserve(&mut self) {
        if self.input.capacity() - self.input.len() < READ_AHEAD / 4 {
            self.input.reserve(READ_AHEAD);
        }
    }

    /// The next packet if all of it has arrived.
    pub(crate) fn buffered(&mut self) -> Result<Option<Bytes>, StreamError> {
        loop {
            let Some(&[a, b, c, sequence]) = self.input.first_chunk::<4>() else {
                return Ok(None);
            };
            let length = u32::from_le_bytes([a, b, c, 0]) as usize;
            if self.parts.len() + length > MAX_PACKET {
                let message = format!("a packet is longer than {MAX_PACKET} bytes");
                return Err(StreamError::new(ErrorKind::Limit, message));
            }
            if self.input.len() < 4 + length {
                return Ok(None);
            }
            if sequence != self.sequence {
                return Err(StreamError::new(
                    ErrorKind::Unreachable,
                    "packets of the server are out of order",
                ));
            }
            self.sequence = self.sequence.wrapping_add(1);
            self.input.advance(4);
            let part = self.input.split_to(length);
            if length < PART && self.parts.is_empty() {
                return Ok(Some(part.freeze()));
            }
            self.parts.unsplit(part);
            if length < PART {
                return Ok(Some(self.parts.split().freeze()));
            }
        }
    }
}

/// Head of the login packet, which alone is the request for TLS.
fn greeting(capabilities: CapabilityFlags) -> Vec<u8> {
    let mut head = capabilities.bits().to_le_bytes().to_vec();
    head.extend_from_slice(&u32::try_from(MAX_PACKET).unwrap_or(u32::MAX).to_le_bytes());
    head.push(COLLATION);
    head.resize(32, 0);
    head
}

/// Host and port, or socket, for messages.
pub(crate) fn address(opts: &Opts) -> String {
    match opts.socket() {
        Some(path) => path.to_owned(),
        None => format!("{}:{}", opts.ip_or_hostname(), opts.tcp_port()),
    }
}

/// An error packet as a failure.
pub(crate) fn refusal(packet: &[u8]) -> StreamError {
    let mut cursor = Cursor(packet);
    let code = cursor.skip(1).and_then(|()| cursor.u16()).unwrap_or(0);
    let mut text = cursor.rest();
    if text.first() == Some(&b'#') {
        text = text.get(6..).unwrap_or_default();
    }
    server_error(code, &String::from_utf8_lossy(text))
}

/// What follows from an error number of the server.
pub(crate) fn server_error(code: u16, text: &str) -> StreamError {
    let kind = match code {
        // Too many connections, shutdown in progress, killed, network and time-out errors.
        1040 | 1053 | 1077 | 1079 | 1152..=1161 | 1203 | 1226 | 1317 | 1927 | 3024 | 3032 | 4031 => {
            ErrorKind::Unreachable
        }
        // Not a matter of the log at all.
        1236 if text.contains("same server_uuid/server_id") => {
            return StreamError::new(
                ErrorKind::Refused,
                format!(
                    "another reader of the binary log has come with our server id, and this one was sent away: every \
                     migration needs a --replica-server-id of its own ({text}, errno {code})"
                ),
            );
        }
        // What a dump thread cannot go on from. Most often the file is gone.
        1236 | 1373 | 1789 => ErrorKind::Purged,
        _ => ErrorKind::Refused,
    };
    StreamError::new(kind, format!("the server says: {text} (errno {code})"))
}
