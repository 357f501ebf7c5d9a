//! How an actor or a pump ended, and who is told.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

use actix::{Message, Recipient};
use serde::{Serialize, Serializer};

use super::PortClosed;

/// How an actor, or the pump it owns, ended.
#[derive(Clone, Debug)]
pub enum ExitStatus {
    /// Its work is done.
    Success,
    /// It was asked to stop, or its host went down under it.
    Cancelled,
    /// The actor behind one of its ports is gone.
    DownstreamClosed,
    /// It failed.
    Failed(Arc<dyn Error + Send + Sync>),
    /// It panicked; the text of the panic.
    Panicked(Arc<str>),
}

impl ExitStatus {
    /// A failure with this error.
    pub fn failed(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed(Arc::from(error.into()))
    }

    /// What a caught panic carried. A panic whose payload is not text says so.
    #[must_use]
    pub fn panicked(payload: &(dyn Any + Send)) -> Self {
        let text = payload
            .downcast_ref::<&'static str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("a panic without text");
        Self::Panicked(text.into())
    }

    /// Whether the work is done.
    #[must_use]
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Success)
    }

    /// Whether it went wrong by itself: failed or panicked.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Panicked(_))
    }
}

impl fmt::Display for ExitStatus {
    /// One line; the causes of a failure follow it after colons.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Success => f.write_str("success"),
            Self::Cancelled => f.write_str("cancelled"),
            Self::DownstreamClosed => f.write_str("downstream closed"),
            Self::Panicked(text) => write!(f, "panicked: {text}"),
            Self::Failed(error) => {
                write!(f, "failed: {error}")?;
                let mut cause = error.source();
                while let Some(error) = cause {
                    write!(f, ": {error}")?;
                    cause = error.source();
                }
                Ok(())
            }
        }
    }
}

impl Serialize for ExitStatus {
    /// The text of [`Display`](fmt::Display).
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl From<PortClosed> for ExitStatus {
    fn from(_: PortClosed) -> Self {
        Self::DownstreamClosed
    }
}

/// Sent exactly once when a pump, or a supervised actor for good, has ended.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct ActorExited {
    /// The name it was started under.
    pub name: &'static str,
    /// How it ended.
    pub status: ExitStatus,
}

/// Who is told of an end: an actor, a closure, or nobody.
///
/// A [`Recipient`] converts into it; for a closure there is [`OnExit::call`].
pub struct OnExit(Told);

enum Told {
    Actor(Recipient<ActorExited>),
    Closure(Box<dyn FnOnce(ActorExited) + Send>),
    Nobody,
}

impl OnExit {
    /// The closure runs where the task ended; it must not block.
    pub fn call(told: impl FnOnce(ActorExited) + Send + 'static) -> Self {
        Self(Told::Closure(Box::new(told)))
    }

    /// Nobody is told.
    #[must_use]
    pub fn ignore() -> Self {
        Self(Told::Nobody)
    }

    fn tell(self, exited: ActorExited) {
        match self.0 {
            // A sender that was never used owns a free place in the mailbox whatever its capacity, and a
            // clone is such a sender: this is refused only if the actor is gone, and then nobody is left
            // to be told.
            Told::Actor(recipient) => drop(recipient.clone().try_send(exited)),
            Told::Closure(told) => told(exited),
            Told::Nobody => {}
        }
    }
}

impl From<Recipient<ActorExited>> for OnExit {
    fn from(recipient: Recipient<ActorExited>) -> Self {
        Self(Told::Actor(recipient))
    }
}

impl fmt::Debug for OnExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Told::Actor(_) => "OnExit::Actor",
            Told::Closure(_) => "OnExit::Closure",
            Told::Nobody => "OnExit::Nobody",
        })
    }
}

/// Tells exactly once: when finished, or, if its task is thrown away with its runtime, when dropped.
#[derive(Debug)]
pub(super) struct ExitReport {
    name: &'static str,
    told: Option<OnExit>,
}

impl ExitReport {
    pub(super) fn new(name: &'static str, told: OnExit) -> Self {
        Self {
            name,
            told: Some(told),
        }
    }

    pub(super) fn finish(mut self, status: ExitStatus) {
        self.tell(status);
    }

    fn tell(&mut self, status: ExitStatus) {
        if let Some(told) = self.told.take() {
            told.tell(ActorExited {
                name: self.name,
                status,
            });
        }
    }
}

impl Drop for ExitReport {
    fn drop(&mut self) {
        self.tell(ExitStatus::Cancelled);
    }
}
