//! A TCP proxy that misbehaves on command.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::error::{Result, SupportError};

/// Bytes that a direction may hold while it is stalled or delayed; the rest waits in the kernel's buffers.
const BUFFER: usize = 64 * 1024;

/// A proxy in front of one server. Its port closes and its connections end when it is dropped.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    faults: watch::Sender<Faults>,
    counters: Arc<Counters>,
    acceptor: JoinHandle<()>,
}

#[derive(Clone, Debug, Default)]
struct Faults {
    refuse: bool,
    stall: bool,
    delay: Duration,
    /// Raised by every cut: a connection ends when the number is not the one it began with.
    cuts: u64,
    /// Likewise for half-closes.
    half_closes: u64,
}

#[derive(Debug, Default)]
struct Counters {
    accepted: AtomicU64,
    to_server: AtomicU64,
    to_client: AtomicU64,
}

/// What has passed through a proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Connections that were accepted and forwarded.
    pub connections: u64,
    /// Bytes from clients to the server.
    pub to_server: u64,
    /// Bytes from the server to clients.
    pub to_client: u64,
}

impl FaultProxy {
    /// Listens on a free port of the loopback interface and forwards to `host:port`.
    pub async fn start(host: &str, port: u16) -> Result<Self> {
        let place = "127.0.0.1:0";
        let listener = TcpListener::bind(place)
            .await
            .map_err(SupportError::file("listen on", place))?;
        let address = listener
            .local_addr()
            .map_err(SupportError::file("listen on", place))?;
        let (faults, seen) = watch::channel(Faults::default());
        let counters = Arc::new(Counters::default());
        let acceptor = tokio::spawn(accept(
            listener,
            (host.to_owned(), port),
            seen,
            Arc::clone(&counters),
        ));
        Ok(Self {
            address,
            faults,
            counters,
            acceptor,
        })
    }

    /// A proxy in front of a server of the harness.
    pub async fn before(server: &crate::Server) -> Result<Self> {
        Self::start(server.host(), server.port()).await
    }

    /// Where clients connect.
    pub fn host(&self) -> String {
        self.address.ip().to_string()
    }

    /// Where clients connect.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Cuts every connection with a reset; new ones are accepted.
    pub fn cut_all(&self) {
        self.faults.send_modify(|faults| faults.cuts += 1);
    }

    /// Ends the clients' sending direction of every connection: the server sees the end of input, answers still pass.
    pub fn half_close(&self) {
        self.faults.send_modify(|faults| faults.half_closes += 1);
    }

    /// Closes new connections at once, until [`FaultProxy::resume`].
    pub fn refuse_new(&self) {
        self.faults.send_modify(|faults| faults.refuse = true);
    }

    /// Forwards nothing, in silence, until [`FaultProxy::resume`].
    pub fn stall(&self) {
        self.faults.send_modify(|faults| faults.stall = true);
    }

    /// Holds every piece of data back for this long, each way.
    pub fn delay(&self, delay: Duration) {
        self.faults.send_modify(|faults| faults.delay = delay);
    }

    /// Ends refusing, stalling and delaying. What was cut stays cut.
    pub fn resume(&self) {
        self.faults.send_modify(|faults| {
            faults.refuse = false;
            faults.stall = false;
            faults.delay = Duration::ZERO;
        });
    }

    /// What has passed so far.
    pub fn traffic(&self) -> Traffic {
        Traffic {
            connections: self.counters.accepted.load(Ordering::Relaxed),
            to_server: self.counters.to_server.load(Ordering::Relaxed),
            to_client: self.counters.to_client.load(Ordering::Relaxed),
        }
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        // Connections end by themselves: the channel they watch closes with the sender.
        self.acceptor.abort();
    }
}

async fn accept(
    listener: TcpListener,
    target: (String, u16),
    faults: watch::Receiver<Faults>,
    counters: Arc<Counters>,
) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        if faults.borrow().refuse {
            reset(&client);
            continue;
        }
        counters.accepted.fetch_add(1, Ordering::Relaxed);
        let (target, faults, counters) = (target.clone(), faults.clone(), Arc::clone(&counters));
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(target).await else {
                return reset(&client);
            };
            carry(client, server, faults, counters).await;
        });
    }
}

/// Lets the socket's close be a reset instead of a polite end.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

async fn carry(
    client: TcpStream,
    server: TcpStream,
    faults: watch::Receiver<Faults>,
    counters: Arc<Counters>,
) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let cut = faults.clone();
    let (born, half_closes) = (cut.borrow().cuts, cut.borrow().half_closes);
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = forward(
        &mut from_client,
        &mut to_server,
        faults.clone(),
        &counters.to_server,
        Some(half_closes),
    );
    let down = forward(
        &mut from_server,
        &mut to_client,
        faults,
        &counters.to_client,
        None,
    );
    tokio::select! {
        _ = async { tokio::join!(up, down) } => return,
        () = was_cut(cut, born) => {}
    }
    reset(from_client.as_ref());
    reset(from_server.as_ref());
    // Dropping them would end the direction politely first.
    to_client.forget();
    to_server.forget();
}

async fn was_cut(mut faults: watch::Receiver<Faults>, born: u64) {
    // An error means that the proxy itself is gone.
    let _ = faults.wait_for(|faults| faults.cuts != born).await;
}

async fn forward(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    mut faults: watch::Receiver<Faults>,
    counter: &AtomicU64,
    half_closes: Option<u64>,
) {
    let mut buffer = vec![0; BUFFER];
    let mut half_close = faults.clone();
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read.unwrap_or(0),
            _ = half_close.wait_for(|faults| half_closes.is_some_and(|born| faults.half_closes != born)) => 0,
        };
        let delay = match faults.wait_for(|faults| !faults.stall).await {
            Ok(faults) => faults.delay,
            Err(_) => return,
        };
        if read == 0 {
            let _ = to.shutdown().await;
            return;
        }
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
        counter.fetch_add(u64::try_from(read).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}
