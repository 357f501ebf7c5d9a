//! Credit windows: how much may be under way on a port, in messages and in bytes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::change::ChangeBatch;

/// A message that knows about how many bytes it occupies.
pub trait Weigh {
    /// Bytes occupied, those behind pointers included. An estimate; it must not change while the message
    /// is under way.
    fn weight(&self) -> usize;
}

impl Weigh for ChangeBatch {
    fn weight(&self) -> usize {
        self.bytes
    }
}

/// A window of messages and bytes. Clones share it, so one window may span several ports.
///
/// Credit is given out in the order in which it was asked for: a heavy message is not starved by light ones.
#[derive(Clone)]
pub struct Credits(Arc<Window>);

struct Window {
    messages: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    max_bytes: u32,
    // The semaphores cannot answer this: one that collects permits for a waiter looks exhausted.
    held_messages: AtomicUsize,
    held_bytes: AtomicUsize,
}

impl Credits {
    /// A window of so many messages and so many bytes, each at least 1. More than 4 GiB (`u32::MAX`) bytes
    /// are taken as that.
    #[must_use]
    pub fn new(messages: usize, bytes: usize) -> Self {
        let max_bytes = u32::try_from(bytes.max(1)).unwrap_or(u32::MAX);
        Self(Arc::new(Window {
            messages: Arc::new(Semaphore::new(messages.clamp(1, Semaphore::MAX_PERMITS))),
            bytes: Arc::new(Semaphore::new(max_bytes as usize)),
            max_bytes,
            held_messages: AtomicUsize::new(0),
            held_bytes: AtomicUsize::new(0),
        }))
    }

    /// Waits until a message of so many bytes fits into the window.
    ///
    /// A message heavier than the whole window takes all of it and so passes alone; a weightless one counts
    /// as a byte. Dropping the future gives back what it had and its place in the queue.
    pub async fn acquire(&self, weight: usize) -> Permit {
        const OPEN: &str = "the semaphores of a window are never closed";
        let window = &self.0;
        let bytes =
            u32::try_from(weight.max(1)).map_or(window.max_bytes, |bytes| bytes.min(window.max_bytes));
        // Always first the message, then its bytes: whoever waits for bytes holds no bytes, so waiters
        // cannot block each other.
        let message = Arc::clone(&window.messages).acquire_owned().await.expect(OPEN);
        let weight = Arc::clone(&window.bytes)
            .acquire_many_owned(bytes)
            .await
            .expect(OPEN);
        window.held_messages.fetch_add(1, Ordering::Relaxed);
        window.held_bytes.fetch_add(bytes as usize, Ordering::Relaxed);
        Permit {
            window: Arc::clone(window),
            _message: message,
            weight,
        }
    }

    /// Messages and bytes of credit held now. An oversize message counts as the whole window, so neither
    /// ever exceeds what the window was made with.
    #[must_use]
    pub fn in_flight(&self) -> (usize, usize) {
        (
            self.0.held_messages.load(Ordering::Relaxed),
            self.0.held_bytes.load(Ordering::Relaxed),
        )
    }
}

impl fmt::Debug for Credits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (messages, bytes) = self.in_flight();
        f.debug_struct("Credits")
            .field("messages", &messages)
            .field("bytes", &bytes)
            .field("max_bytes", &self.0.max_bytes)
            .finish_non_exhaustive()
    }
}

/// Credit for one message; dropping it gives it back.
#[must_use = "credit is given back when the permit is dropped"]
pub struct Permit {
    window: Arc<Window>,
    _message: OwnedSemaphorePermit,
    weight: OwnedSemaphorePermit,
}

impl Drop for Permit {
    fn drop(&mut self) {
        // Before the semaphores are given theirs back, so that the counters never exceed the window.
        self.window.held_messages.fetch_sub(1, Ordering::Relaxed);
        self.window
            .held_bytes
            .fetch_sub(self.weight.num_permits(), Ordering::Relaxed);
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Permit").field(&self.weight.num_permits()).finish()
    }
}
