//! A mailbox that keeps only the newest message.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use actix::{Recipient, WeakRecipient};
use tokio::sync::Notify;

mod wake;

use wake::Closed;
pub use wake::Wake;

/// A message that is newer or older than others of its kind.
pub trait Generation {
    /// Grows from message to message. Of two with the same generation the first one published stands.
    fn generation(&self) -> u64;
}

/// What became of a published value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// It waits in the slot.
    Queued,
    /// It waits in the slot, where it displaced an older value that nobody had taken.
    Superseded,
    /// It was dropped: its generation is not above the highest one ever published here.
    Stale,
    /// The receiver is gone. The value waits in the slot all the same, for a receiver that may be
    /// attached later.
    Closed,
}

/// The receiving end: holds the newest value, if nobody has taken it, and the highest generation ever
/// published, which survives taking. So memory is constant, a publisher never waits, and a stale value
/// can never come back.
///
/// Clones are the same slot. A restarted actor is given a clone and attaches itself anew; the high-water
/// mark and a value not yet taken are still there.
///
/// An actor attaches itself when it starts and takes when it is woken:
///
/// ```
/// use actix::{Actor, AsyncContext, Context, Handler};
/// use changeling_core::actor::{Generation, LatestSlot, Wake};
///
/// struct Reached(u64);
///
/// impl Generation for Reached {
///     fn generation(&self) -> u64 {
///         self.0
///     }
/// }
///
/// struct CutOver {
///     sentinels: LatestSlot<Reached>,
/// }
///
/// impl Actor for CutOver {
///     type Context = Context<Self>;
///
///     fn started(&mut self, ctx: &mut Self::Context) {
///         self.sentinels.attach(ctx.address());
///     }
/// }
///
/// impl Handler<Wake<Reached>> for CutOver {
///     type Result = ();
///
///     fn handle(&mut self, _: Wake<Reached>, ctx: &mut Self::Context) {
///         if let Some(reached) = self.sentinels.take() { self.on_reached(reached, ctx) }
///     }
/// }
///
/// impl CutOver {
///     fn on_reached(&mut self, reached: Reached, _: &mut Context<Self>) { /* … */ }
/// }
/// ```
///
/// A plain task awaits [`LatestSlot::changed`] instead and attaches nothing.
///
/// The slot does not keep its actor alive: whoever owns the actor holds its address.
pub struct LatestSlot<T: Generation + Send + 'static> {
    shared: Arc<Shared<T>>,
    receivers: Arc<()>,
}

/// The publishing end. Clones publish into the same slot. `Send` and `Sync`; works on any thread.
pub struct LatestSender<T: Generation + Send + 'static> {
    shared: Arc<Shared<T>>,
}

struct Shared<T: Generation + Send + 'static> {
    state: Mutex<State<T>>,
    notify: Notify,
    // Wakes and senders hold this structure too; only slots hold what this points to.
    receivers: Weak<()>,
}

struct State<T: Generation + Send + 'static> {
    value: Option<T>,
    high_water: Option<u64>,
    superseded: u64,
    // Weak, because an actor that holds its slot would otherwise hold its own address and never end.
    actor: Option<WeakRecipient<Wake<T>>>,
    // Counts `attach`, so that the wakes left in the mailbox of a former actor mean nothing.
    attachment: u64,
    // A wake of this attachment is queued or being handled.
    armed: bool,
    // A value came while armed and has not been taken.
    unannounced: bool,
    #[cfg(test)]
    wakes: tests::WakeCount,
}

impl<T: Generation + Send + 'static> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing of the caller's runs under the lock, so a panic cannot have left it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Generation + Send + 'static> LatestSlot<T> {
    /// An empty slot without an actor.
    #[must_use]
    pub fn new() -> Self {
        let receivers = Arc::new(());
        let shared = Shared {
            state: Mutex::new(State {
                value: None,
                high_water: None,
                superseded: 0,
                actor: None,
                attachment: 0,
                armed: false,
                unannounced: false,
                #[cfg(test)]
                wakes: tests::WakeCount::default(),
            }),
            notify: Notify::new(),
            receivers: Arc::downgrade(&receivers),
        };
        Self {
            shared: Arc::new(shared),
            receivers,
        }
    }

    /// An end to publish with. It may be made, and used, before an actor is attached.
    #[must_use]
    pub fn sender(&self) -> LatestSender<T> {
        LatestSender {
            shared: Arc::clone(&self.shared),
        }
    }

    /// From now on this actor is woken, instead of any attached before. If a value waits in the slot it is
    /// woken at once.
    pub fn attach(&self, actor: impl Into<Recipient<Wake<T>>>) {
        let actor = actor.into().downgrade();
        let mut state = self.shared.lock();
        let former = state.actor.replace(actor);
        state.attachment += 1;
        state.armed = false;
        state.unannounced = false;
        let announcement = if state.value.is_some() {
            self.shared.arm(&mut state)
        } else {
            Ok(None)
        };
        drop(state);
        drop(former);
        if let Ok(Some(announcement)) = announcement {
            announcement.send();
        }
    }

    /// The newest value, if it was not taken yet. A wake may find nothing here.
    #[must_use]
    pub fn take(&self) -> Option<T> {
        let mut state = self.shared.lock();
        state.unannounced = false;
        state.value.take()
    }

    /// Waits for the next value and takes it: for a plain task, on a slot to which no actor was attached.
    /// Dropping the future takes nothing.
    pub async fn changed(&self) -> T {
        loop {
            if let Some(value) = self.take() {
                return value;
            }
            self.shared.notify.notified().await;
        }
    }

    /// How many values were displaced by a newer one before anybody took them.
    #[must_use]
    pub fn superseded(&self) -> u64 {
        self.shared.lock().superseded
    }
}

impl<T: Generation + Send + 'static> LatestSender<T> {
    /// Puts the value into the slot if it is newer than every one before, and wakes the receiver if it is
    /// not awake already. Never waits, whatever the receiver does.
    pub fn publish(&self, value: T) -> Published {
        let generation = value.generation();
        let gone = self.shared.receivers.strong_count() == 0;
        let mut state = self.shared.lock();
        if state.high_water.is_some_and(|highest| generation <= highest) {
            return Published::Stale;
        }
        state.high_water = Some(generation);
        let displaced = state.value.replace(value);
        state.superseded += u64::from(displaced.is_some());
        let for_task = state.actor.is_none();
        let announcement = if gone {
            Err(Closed)
        } else {
            self.shared.arm(&mut state)
        };
        // What runs code of others, the destructor of the value displaced and the wakes, runs unlocked.
        drop(state);
        if for_task {
            self.shared.notify.notify_one();
        }
        match announcement {
            Err(Closed) => return Published::Closed,
            Ok(Some(announcement)) => announcement.send(),
            Ok(None) => {}
        }
        if displaced.is_some() {
            Published::Superseded
        } else {
            Published::Queued
        }
    }
}

impl<T: Generation + Send + 'static> Default for LatestSlot<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Generation + Send + 'static> Clone for LatestSlot<T> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            receivers: Arc::clone(&self.receivers),
        }
    }
}

impl<T: Generation + Send + 'static> Clone for LatestSender<T> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<T: Generation + Send + 'static> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Latest")
            .field("waiting", &state.value.is_some())
            .field("high_water", &state.high_water)
            .field("superseded", &state.superseded)
            .finish_non_exhaustive()
    }
}

impl<T: Generation + Send + 'static> fmt::Debug for LatestSlot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

impl<T: Generation + Send + 'static> fmt::Debug for LatestSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

#[cfg(test)]
mod tests;
