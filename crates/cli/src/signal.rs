//! Signals.
//!
//! SIGINT and SIGTERM ask the migration to stop: it finishes or undoes what it must not leave half done, writes
//! a checkpoint and says how to resume. A second one ends the program at once; the server then lets go of all
//! locks. SIGHUP does not end it, as in gh-ost; there is nothing to read anew, because logins are read once, at
//! the start.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The signals of this process, listened to.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

/// A signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Received {
    /// End, with this exit status if it is to be at once: 128 and the signal's number.
    End(&'static str, u8),
    Hangup,
}

impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    /// The system refuses.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Received {
        tokio::select! {
            _ = self.interrupt.recv() => Received::End("SIGINT", 130),
            _ = self.terminate.recv() => Received::End("SIGTERM", 143),
            _ = self.hangup.recv() => Received::Hangup,
        }
    }

    /// Waits for a request to end; returns the exit status.
    pub async fn end(&mut self) -> u8 {
        loop {
            if let Received::End(_, status) = self.next().await {
                return status;
            }
        }
    }

    /// Cancels `stop` at the first request to end; returns the exit status at the second.
    pub async fn watch(mut self, stop: CancellationToken) -> u8 {
        loop {
            match self.next().await {
                Received::Hangup => {
                    tracing::warn!(
                        "Received SIGHUP: nothing is read anew, logins are read at the start only"
                    );
                }
                Received::End(name, _) if !stop.is_cancelled() => {
                    tracing::warn!("Received {name}: stopping. Once more to end at once");
                    stop.cancel();
                }
                Received::End(_, status) => return status,
            }
        }
    }
}
