//! The one message that a slot sends, and why there is never a second one.

use std::fmt;
use std::sync::Arc;

use actix::{Message, Recipient};

use super::{Generation, Shared, State};

/// Tells the receiving actor to look into the slot. Only the slot makes these, and never a second one
/// while one is queued.
pub struct Wake<T: Generation + Send + 'static> {
    shared: Arc<Shared<T>>,
    attachment: u64,
}

impl<T: Generation + Send + 'static> Message for Wake<T> {
    type Result = ();
}

impl<T: Generation + Send + 'static> Drop for Wake<T> {
    /// Handled, or thrown away with the mailbox: the next publication may send another. One that came
    /// between the handler's `take` and this found a wake still out and sent none, so it is sent here.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        #[cfg(test)]
        state.wakes.gone();
        if state.attachment != self.attachment {
            return;
        }
        state.armed = false;
        let announcement = if state.unannounced {
            self.shared.arm(&mut state)
        } else {
            Ok(None)
        };
        drop(state);
        if let Ok(Some(announcement)) = announcement {
            announcement.send();
        }
    }
}

impl<T: Generation + Send + 'static> fmt::Debug for Wake<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wake")
    }
}

/// A wake that was decided on under the lock and is sent outside it.
pub(super) struct Announcement<T: Generation + Send + 'static>(Recipient<Wake<T>>, Wake<T>);

impl<T: Generation + Send + 'static> Shared<T> {
    /// Decides on a wake unless one is out; `Err` if the actor is gone.
    pub(super) fn arm(self: &Arc<Self>, state: &mut State<T>) -> Result<Option<Announcement<T>>, Closed> {
        let Some(actor) = &state.actor else {
            return Ok(None);
        };
        if state.armed {
            state.unannounced = true;
            return Ok(None);
        }
        let recipient = actor.upgrade().filter(Recipient::connected).ok_or(Closed)?;
        state.armed = true;
        state.unannounced = false;
        #[cfg(test)]
        state.wakes.sent();
        let wake = Wake {
            shared: Arc::clone(self),
            attachment: state.attachment,
        };
        Ok(Some(Announcement(recipient, wake)))
    }
}

/// The actor to be woken is gone.
pub(super) struct Closed;

impl<T: Generation + Send + 'static> Announcement<T> {
    #[expect(
        clippy::disallowed_methods,
        reason = "at most one wake is queued, so the mailbox is bounded by construction; if the actor is \
                  gone the wake is dropped and disarms itself"
    )]
    pub(super) fn send(self) {
        self.0.do_send(self.1);
    }
}
