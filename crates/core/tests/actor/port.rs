use std::collections::VecDeque;

use actix::{Actor, ActorContext, Context, Handler, Message, ResponseFuture};
use changeling_core::actor::{ActorHost, Credits, Delivery, Generation, LatestSlot, Port, PortClosed, Weigh};
use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot};

use super::soon;

#[derive(Debug, Message, PartialEq)]
#[rtype(result = "usize")]
struct Item(usize);

impl Weigh for Item {
    fn weight(&self) -> usize {
        10
    }
}

/// Answers how many came before; one that comes out of order kills it.
#[derive(Default)]
struct InOrder {
    seen: usize,
    // Items wait for this, so that the mailbox fills.
    gate: Option<oneshot::Receiver<()>>,
}

impl Actor for InOrder {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        use actix::AsyncContext;
        use actix::fut::{ActorFutureExt, wrap_future};
        if let Some(gate) = self.gate.take() {
            ctx.wait(wrap_future(gate).map(|_, _: &mut Self, _| ()));
        }
    }
}

impl Handler<Item> for InOrder {
    type Result = usize;

    fn handle(&mut self, Item(number): Item, _: &mut Self::Context) -> usize {
        assert_eq!(number, self.seen, "out of order");
        self.seen += 1;
        number
    }
}

// On several threads, because on one even requests that are queued too late are queued in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_mailbox_keeps_order_with_many_in_flight() {
    let host = ActorHost::start(Default::default()).expect("a host");
    let (open, gate) = oneshot::channel();
    let actor = host.spawn(|_| InOrder {
        seen: 0,
        gate: Some(gate),
    });
    // Far more than actix's own capacity of 16, where a plain `send` starts to queue out of order.
    let port = Port::mailbox(actor, Credits::new(200, usize::MAX));
    let mut replies = VecDeque::new();
    for number in 0..200 {
        replies.push_back(soon(port.send(Item(number))).await.expect("open"));
    }
    open.send(()).expect("it waits");
    for (number, reply) in replies.into_iter().enumerate() {
        assert_eq!(soon(reply).await, Ok(number));
    }
}

#[tokio::test]
async fn sending_waits_for_credit_and_not_for_replies_to_be_polled() {
    let host = ActorHost::start(Default::default()).expect("a host");
    let (open, gate) = oneshot::channel();
    let actor = host.spawn(|_| InOrder {
        seen: 0,
        gate: Some(gate),
    });
    let credits = Credits::new(100, 30);
    let port = Port::mailbox(actor, credits.clone());
    let mut replies = Vec::new();
    for number in 0..3 {
        replies.push(
            port.send(Item(number))
                .now_or_never()
                .expect("there is credit")
                .expect("open"),
        );
    }
    let mut fourth = Box::pin(port.send(Item(3)));
    for _ in 0..100 {
        tokio::task::yield_now().await;
        assert!(fourth.as_mut().now_or_never().is_none(), "30 bytes are under way");
    }
    assert_eq!(credits.in_flight(), (3, 30));
    open.send(()).expect("it waits");
    let fourth = soon(fourth).await.expect("open");
    assert_eq!(soon(fourth).await, Ok(3));
    drop(replies);
}

#[tokio::test]
async fn a_reply_nobody_awaits_does_not_call_the_message_back() {
    let host = ActorHost::start(Default::default()).expect("a host");
    let (open, gate) = oneshot::channel();
    let actor = host.spawn(|_| InOrder {
        seen: 0,
        gate: Some(gate),
    });
    let port = Port::mailbox(actor, Credits::new(4, 1000));
    drop(port.send(Item(0)).await.expect("open"));
    let second = port.send(Item(1)).await.expect("open");
    open.send(()).expect("it waits");
    // Had the first been taken back, the second would be out of order.
    assert_eq!(soon(second).await, Ok(1));
}

/// Takes a message and never answers it, then stops.
struct Silent;

impl Actor for Silent {
    type Context = Context<Self>;
}

impl Handler<Item> for Silent {
    type Result = ResponseFuture<usize>;

    fn handle(&mut self, _: Item, ctx: &mut Self::Context) -> Self::Result {
        ctx.stop();
        let (never, answer) = oneshot::channel::<usize>();
        drop(never);
        Box::pin(async move { answer.await.expect("this kills the answer") })
    }
}

#[tokio::test]
async fn a_mailbox_that_is_gone_is_closed() {
    let host = ActorHost::start(Default::default()).expect("a host");
    let actor = host.spawn(|_| Silent);
    let credits = Credits::new(1, 1000);
    let port = Port::mailbox(actor, credits.clone());
    let lost = soon(port.send(Item(0))).await.expect("open");
    // These wait for credit until the actor is gone, and must then not wait any longer.
    assert_eq!(soon(port.deliver(Item(1))).await, Err(PortClosed));
    assert_eq!(soon(lost).await, Err(PortClosed));
    assert_eq!(soon(port.deliver(Item(2))).await, Err(PortClosed));
    assert_eq!(credits.in_flight(), (0, 0));
}

#[tokio::test]
async fn a_channel_delivers_in_order_and_carries_the_answers_back() {
    let (sender, mut receiver) = mpsc::channel(4);
    let credits = Credits::new(100, 20);
    let port = Port::channel_with(sender, credits.clone());
    let first = port.send(Item(0)).await.expect("open");
    let second = port.send(Item(1)).await.expect("open");
    let Delivery { message, reply } = receiver.recv().await.expect("sent");
    assert_eq!(message, Item(0));
    assert!(
        port.send(Item(2)).now_or_never().is_none(),
        "taken from the channel is not answered"
    );
    reply.accept(40);
    assert_eq!(soon(first).await, Ok(40));
    drop(
        port.send(Item(2))
            .now_or_never()
            .expect("the answer gave credit back"),
    );
    assert_eq!(receiver.recv().await.expect("sent").message, Item(1));
    assert_eq!(soon(second).await, Err(PortClosed), "dropped unanswered");
    drop(receiver);
    assert_eq!(credits.in_flight(), (0, 0));
    assert_eq!(soon(port.deliver(Item(3))).await, Err(PortClosed));
}

#[tokio::test]
async fn a_receiver_that_goes_while_the_sender_waits_is_noticed() {
    let (sender, mut receiver) = mpsc::channel(1);
    let port = Port::channel_with(sender, Credits::new(1, 10));
    let first = port.send(Item(0)).await.expect("open");
    let held = receiver.recv().await.expect("sent");
    let waiting = tokio::spawn(async move { port.deliver(Item(1)).await });
    tokio::task::yield_now().await;
    // Somebody still holds the delivery, and with it the only credit.
    drop(receiver);
    assert_eq!(soon(waiting).await.expect("no panic"), Err(PortClosed));
    held.reply.accept(1);
    assert_eq!(soon(first).await, Ok(1));

    let (sender, receiver) = mpsc::channel(1);
    let port = Port::channel(sender);
    let _first = port.send(Item(0)).await.expect("open");
    let waiting = tokio::spawn(async move { port.deliver(Item(1)).await });
    tokio::task::yield_now().await;
    drop(receiver);
    assert_eq!(soon(waiting).await.expect("no panic"), Err(PortClosed));
}

#[derive(Message)]
#[rtype(result = "()")]
struct Newest(u64);

impl Generation for Newest {
    fn generation(&self) -> u64 {
        self.0
    }
}

#[tokio::test]
async fn a_latest_port_never_waits() {
    let slot = LatestSlot::new();
    let port = Port::latest(slot.sender());
    for number in [1, 2, 1, 5] {
        assert_eq!(port.deliver(Newest(number)).now_or_never(), Some(Ok(())));
    }
    assert_eq!(slot.take().map(|newest| newest.0), Some(5));
    drop(slot);
    assert_eq!(port.deliver(Newest(6)).await, Err(PortClosed));
}

#[tokio::test]
async fn a_discarding_port_answers() {
    assert_eq!(Port::<Item>::discard().deliver(Item(7)).await, Ok(0));
    assert_eq!(
        Port::discard_with(|item: &Item| item.0).deliver(Item(7)).await,
        Ok(7)
    );
}

#[test]
fn ports_go_anywhere() {
    fn anywhere<T: Clone + Send + Sync + 'static>() {}
    anywhere::<Port<Item>>();
    anywhere::<Port<Newest>>();
    anywhere::<ActorHost>();
    anywhere::<Credits>();
}
