//! How one actor reaches the next.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use actix::{Message, Recipient};
use tokio::sync::{mpsc, oneshot};

use super::{Credits, Generation, LatestSender, Permit, Published, Weigh};

/// The receiver of a port is gone, or it dropped the message unanswered. Whether the message took effect
/// is then unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the receiver is gone")]
pub struct PortClosed;

/// A message and the means to answer it, as a channel delivers it.
#[derive(Debug)]
#[must_use = "a delivery dropped unanswered tells the sender that the port is closed"]
pub struct Delivery<M: Message> {
    /// The message.
    pub message: M,
    /// Answers it.
    pub reply: Reply<M::Result>,
}

/// Answers one message. Dropping it unanswered is [`PortClosed`] to the sender; either gives the credit back.
#[must_use = "dropping a reply tells the sender that the port is closed"]
pub struct Reply<R> {
    answer: oneshot::Sender<R>,
    permit: Option<Permit>,
}

impl<R> Reply<R> {
    /// The message was taken over, with this result. If nobody awaits it any more it is dropped.
    pub fn accept(self, result: R) {
        // First the credit, then the answer: whoever sees the answer finds the window open again.
        drop(self.permit);
        drop(self.answer.send(result));
    }
}

impl<R> fmt::Debug for Reply<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("permit", &self.permit)
            .finish_non_exhaustive()
    }
}

/// The reply to a message that was sent.
///
/// It need not be awaited: the message is handled, and its credit given back, even if this is dropped.
#[must_use = "the reply says whether the message was taken over"]
#[derive(Debug)]
pub struct InFlight<R>(Awaited<R>);

#[derive(Debug)]
enum Awaited<R> {
    Known(Option<Result<R, PortClosed>>),
    Coming(oneshot::Receiver<R>),
}

// Nothing in it is pinned structurally.
impl<R> Unpin for InFlight<R> {}

impl<R> Future for InFlight<R> {
    type Output = Result<R, PortClosed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Awaited::Known(result) => Poll::Ready(result.take().expect("polled after its reply")),
            Awaited::Coming(reply) => Poll::Ready(ready!(Pin::new(reply).poll(cx)).map_err(|_| PortClosed)),
        }
    }
}

/// Where an actor sends messages of one kind. It does not know who is behind it.
///
/// A port is cheap to clone, and clones share its window. It may be used from any tokio runtime and any
/// thread, but only inside a runtime.
pub struct Port<M>(Route<M>)
where
    M: Message + Send + 'static,
    M::Result: Send;

type Weigher<M> = fn(&M) -> usize;
type Immediate<M> = dyn Fn(M) -> Result<<M as Message>::Result, PortClosed> + Send + Sync;

enum Route<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    Mailbox {
        recipient: Recipient<M>,
        credits: Credits,
        weigh: Weigher<M>,
    },
    Channel {
        sender: mpsc::Sender<Delivery<M>>,
        window: Option<(Credits, Weigher<M>)>,
    },
    Immediate(Arc<Immediate<M>>),
}

impl<M> Port<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    /// To an actor's mailbox. The window is `credits`; the mailbox's own capacity plays no part.
    #[must_use]
    pub fn mailbox(recipient: impl Into<Recipient<M>>, credits: Credits) -> Self
    where
        M: Weigh,
    {
        Self(Route::Mailbox {
            recipient: recipient.into(),
            credits,
            weigh: M::weight,
        })
    }

    /// To a channel. The window is the channel's capacity; what the receiver has taken and not answered
    /// does not count.
    #[must_use]
    pub fn channel(sender: mpsc::Sender<Delivery<M>>) -> Self {
        Self(Route::Channel { sender, window: None })
    }

    /// To a channel, and no more than `credits` unanswered, whether still in the channel or not.
    #[must_use]
    pub fn channel_with(sender: mpsc::Sender<Delivery<M>>, credits: Credits) -> Self
    where
        M: Weigh,
    {
        Self(Route::Channel {
            sender,
            window: Some((credits, M::weight)),
        })
    }

    /// To a slot that keeps only the newest message. Sending never waits; a message that is stale or
    /// displaced by a newer one counts as delivered.
    #[must_use]
    pub fn latest(sender: LatestSender<M>) -> Self
    where
        M: Message<Result = ()> + Generation,
    {
        Self(Route::Immediate(Arc::new(move |message| {
            match sender.publish(message) {
                Published::Closed => Err(PortClosed),
                Published::Queued | Published::Superseded | Published::Stale => Ok(()),
            }
        })))
    }

    /// To nobody: every message is dropped and answered with the result's default.
    #[must_use]
    pub fn discard() -> Self
    where
        M::Result: Default,
    {
        Self::discard_with(|_| M::Result::default())
    }

    /// To nobody: every message is dropped and answered by the closure. For messages whose sender
    /// believes the answer, as that of a [`ChangeBatch`](crate::change::ChangeBatch) echoes its number.
    #[must_use]
    pub fn discard_with(answer: impl Fn(&M) -> M::Result + Send + Sync + 'static) -> Self {
        Self(Route::Immediate(Arc::new(move |message| Ok(answer(&message)))))
    }

    /// Waits for credit only, then hands the message over and returns the reply to come. Messages sent one
    /// after another arrive in that order.
    ///
    /// Dropping the future before it is ready means the message was not sent. After that it is the
    /// receiver's, and dropping the [`InFlight`] does not call it back.
    ///
    /// # Errors
    ///
    /// [`PortClosed`] if the receiver is gone.
    pub async fn send(&self, message: M) -> Result<InFlight<M::Result>, PortClosed> {
        match &self.0 {
            Route::Mailbox {
                recipient,
                credits,
                weigh,
            } => {
                let permit = credits.acquire(weigh(&message)).await;
                if !recipient.connected() {
                    return Err(PortClosed);
                }
                // A fresh clone, because a sender that met a full mailbox would queue this message not now
                // but when the request is first polled, and a later message could overtake it.
                let request = recipient.clone().send(message);
                let (answer, reply) = oneshot::channel();
                // The request lives in a task of its own for two reasons: dropped, it would take the
                // message back unhandled, and only its end gives the credit back, even to a sender that
                // does not poll its replies while it waits for credit.
                tokio::spawn(async move {
                    let result = request.await;
                    drop(permit);
                    if let Ok(result) = result {
                        drop(answer.send(result));
                    }
                });
                Ok(InFlight(Awaited::Coming(reply)))
            }
            Route::Channel { sender, window } => {
                let permit = match window {
                    None => None,
                    Some((credits, weigh)) => tokio::select! {
                        // The receiver may have gone while someone still holds a delivery and its credit.
                        () = sender.closed() => return Err(PortClosed),
                        permit = credits.acquire(weigh(&message)) => Some(permit),
                    },
                };
                let place = sender.reserve().await.map_err(|_| PortClosed)?;
                let (answer, reply) = oneshot::channel();
                place.send(Delivery {
                    message,
                    reply: Reply { answer, permit },
                });
                Ok(InFlight(Awaited::Coming(reply)))
            }
            Route::Immediate(take) => take(message).map(|result| InFlight(Awaited::Known(Some(Ok(result))))),
        }
    }

    /// Sends the message and waits for the reply. This await is the backpressure.
    ///
    /// Dropping the future leaves it unknown whether the message was sent.
    ///
    /// # Errors
    ///
    /// [`PortClosed`] if the receiver is gone or dropped the message unanswered.
    pub async fn deliver(&self, message: M) -> Result<M::Result, PortClosed> {
        self.send(message).await?.await
    }
}

impl<M> Clone for Port<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn clone(&self) -> Self {
        Self(match &self.0 {
            Route::Mailbox {
                recipient,
                credits,
                weigh,
            } => Route::Mailbox {
                recipient: recipient.clone(),
                credits: credits.clone(),
                weigh: *weigh,
            },
            Route::Channel { sender, window } => Route::Channel {
                sender: sender.clone(),
                window: window.clone(),
            },
            Route::Immediate(take) => Route::Immediate(Arc::clone(take)),
        })
    }
}

impl<M> fmt::Debug for Port<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Route::Mailbox { credits, .. } => f.debug_tuple("Port::Mailbox").field(credits).finish(),
            Route::Channel { sender, window } => f
                .debug_struct("Port::Channel")
                .field("free", &sender.capacity())
                .field("window", &window.as_ref().map(|(credits, _)| credits))
                .finish(),
            Route::Immediate(_) => f.write_str("Port::Immediate"),
        }
    }
}
