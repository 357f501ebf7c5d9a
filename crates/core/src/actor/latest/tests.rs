use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message};

use super::{Generation, LatestSlot, Published, Wake};
use crate::actor::ActorHost;

/// Wakes that exist now, and the most that ever did at once.
#[derive(Debug, Default)]
pub(super) struct WakeCount {
    now: usize,
    most: usize,
    ever: usize,
}

impl WakeCount {
    pub(super) fn sent(&mut self) {
        self.now += 1;
        self.ever += 1;
        self.most = self.most.max(self.now);
    }

    pub(super) fn gone(&mut self) {
        self.now -= 1;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Value(u64);

impl Generation for Value {
    fn generation(&self) -> u64 {
        self.0
    }
}

/// Remembers the newest value it was given and shouts if one is not newer than the one before.
struct Taker {
    slot: LatestSlot<Value>,
    newest: Arc<AtomicU64>,
    // Publishes a newer value once, after it has taken one and before it lets go of the wake.
    echo: bool,
}

impl Actor for Taker {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.slot.attach(ctx.address());
    }
}

impl Handler<Wake<Value>> for Taker {
    type Result = ();

    fn handle(&mut self, _: Wake<Value>, _: &mut Self::Context) {
        if let Some(Value(generation)) = self.slot.take() {
            let before = self.newest.swap(generation, Ordering::SeqCst);
            assert!(before < generation, "{generation} came after {before}");
            if std::mem::take(&mut self.echo) {
                self.slot.sender().publish(Value(generation + 1));
            }
        }
    }
}

/// Blocks the actor's thread until told to go on.
#[derive(Message)]
#[rtype(result = "()")]
struct Block(mpsc::Receiver<()>);

impl Handler<Block> for Taker {
    type Result = ();

    fn handle(&mut self, Block(go_on): Block, _: &mut Self::Context) {
        let _ = go_on.recv();
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Stop;

impl Handler<Stop> for Taker {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

struct Fixture {
    host: ActorHost,
    slot: LatestSlot<Value>,
    newest: Arc<AtomicU64>,
}

impl Fixture {
    fn new() -> Self {
        let host = ActorHost::start(Default::default()).expect("a host");
        Self {
            host,
            slot: LatestSlot::new(),
            newest: Arc::default(),
        }
    }

    fn taker(&self) -> actix::Addr<Taker> {
        let (slot, newest) = (self.slot.clone(), Arc::clone(&self.newest));
        self.host.spawn(move |_| Taker {
            slot,
            newest,
            echo: false,
        })
    }

    fn echo(&self) -> actix::Addr<Taker> {
        let (slot, newest) = (self.slot.clone(), Arc::clone(&self.newest));
        self.host.spawn(move |_| Taker {
            slot,
            newest,
            echo: true,
        })
    }

    /// Spins, because a lost wake-up is a race that sleeping would hide.
    fn await_newest(&self, generation: u64) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.newest.load(Ordering::SeqCst) != generation {
            assert!(
                Instant::now() < deadline,
                "{generation} was published and never seen: {:?}",
                self.slot
            );
            std::thread::yield_now();
        }
    }

    fn wakes(&self) -> (usize, usize) {
        let state = self.slot.shared.lock();
        (state.wakes.most, state.wakes.ever)
    }
}

#[test]
fn four_million_publications_never_lose_the_newest_nor_queue_two_wakes() {
    const EACH: u64 = 1_000_000;
    let fixture = Fixture::new();
    let _taker = fixture.taker();
    let next = AtomicU64::new(1);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let sender = fixture.slot.sender();
                for _ in 0..EACH {
                    assert_ne!(
                        sender.publish(Value(next.fetch_add(1, Ordering::SeqCst))),
                        Published::Closed
                    );
                }
            });
        }
    });
    fixture.await_newest(4 * EACH);
    assert_eq!(fixture.wakes().0, 1);
}

#[test]
fn a_value_that_comes_while_the_last_one_is_handled_is_seen() {
    let fixture = Fixture::new();
    let _taker = fixture.echo();
    fixture.slot.sender().publish(Value(1));
    fixture.await_newest(2);
    assert_eq!(fixture.wakes(), (1, 2));
}

#[test]
fn no_wake_is_lost_between_many_small_rounds() {
    let fixture = Fixture::new();
    let _taker = fixture.taker();
    let sender = fixture.slot.sender();
    let mut generation = 0;
    for round in 0..30_000_u64 {
        for _ in 0..2 {
            generation += 1;
            sender.publish(Value(generation));
            (0..round % 64).for_each(|_| std::hint::spin_loop());
        }
        fixture.await_newest(generation);
    }
    assert_eq!(fixture.wakes().0, 1);
}

#[test]
fn a_stale_value_does_not_come_back_after_the_slot_was_emptied() {
    let slot = LatestSlot::new();
    let sender = slot.sender();
    assert_eq!(sender.publish(Value(7)), Published::Queued);
    assert_eq!(slot.take(), Some(Value(7)));
    assert_eq!(sender.publish(Value(6)), Published::Stale);
    assert_eq!(sender.publish(Value(7)), Published::Stale);
    assert_eq!(slot.take(), None);
    assert_eq!(sender.publish(Value(8)), Published::Queued);
    assert_eq!(sender.publish(Value(9)), Published::Superseded);
    assert_eq!(sender.publish(Value(8)), Published::Stale);
    assert_eq!((slot.take(), slot.superseded()), (Some(Value(9)), 1));
}

#[test]
fn generation_zero_is_a_generation() {
    let slot = LatestSlot::new();
    assert_eq!(slot.sender().publish(Value(0)), Published::Queued);
    assert_eq!(slot.sender().publish(Value(0)), Published::Stale);
}

#[test]
fn a_blocked_receiver_costs_the_publisher_nothing_and_finds_one_wake() {
    let fixture = Fixture::new();
    let taker = fixture.taker();
    let (go_on, blocked) = mpsc::channel();
    taker.try_send(Block(blocked)).expect("room for one");
    let sender = fixture.slot.sender();
    // Returns at all only if no publication waits for the receiver, which cannot run.
    for generation in 1..=100_000 {
        assert_ne!(sender.publish(Value(generation)), Published::Closed);
    }
    assert!(fixture.wakes().1 <= 1, "{:?}", fixture.wakes());
    go_on.send(()).expect("the receiver is blocked");
    fixture.await_newest(100_000);
    assert_eq!(fixture.slot.superseded(), 99_999);
}

#[tokio::test]
async fn what_a_dead_actor_left_is_found_by_the_next_and_older_values_are_not() {
    let fixture = Fixture::new();
    let sender = fixture.slot.sender();
    let taker = fixture.taker();
    assert_eq!(sender.publish(Value(1)), Published::Queued);
    fixture.await_newest(1);
    taker.send(Stop).await.expect("it answers before it stops");
    while taker.connected() {
        tokio::task::yield_now().await;
    }
    assert_eq!(sender.publish(Value(2)), Published::Closed);
    assert_eq!(sender.publish(Value(1)), Published::Stale);
    let _next = fixture.taker();
    fixture.await_newest(2);
    assert_eq!(sender.publish(Value(2)), Published::Stale);
    assert_eq!(sender.publish(Value(3)), Published::Queued);
    fixture.await_newest(3);
}

#[tokio::test]
async fn wakes_lost_with_a_mailbox_do_not_silence_the_slot() {
    let fixture = Fixture::new();
    let taker = fixture.taker();
    let sender = fixture.slot.sender();
    let (go_on, blocked) = mpsc::channel();
    let blocking = taker.send(Block(blocked));
    let stopping = taker.send(Stop);
    sender.publish(Value(1));
    sender.publish(Value(2));
    go_on.send(()).expect("the receiver is blocked");
    let _ = (blocking.await, stopping.await);
    while taker.connected() {
        tokio::task::yield_now().await;
    }
    let _next = fixture.taker();
    sender.publish(Value(3));
    fixture.await_newest(3);
    assert_eq!(fixture.wakes().0, 1);
}

#[tokio::test]
async fn the_wakes_of_a_former_actor_mean_nothing() {
    let fixture = Fixture::new();
    let sender = fixture.slot.sender();
    let former = fixture.taker();
    let (former_goes_on, blocked) = mpsc::channel();
    former.try_send(Block(blocked)).expect("room for one");
    while fixture.slot.shared.lock().attachment == 0 {
        tokio::task::yield_now().await;
    }
    sender.publish(Value(1));

    // On a thread of its own, since the former one's is blocked.
    let _former_host = fixture.host.clone();
    let other = Fixture {
        host: Fixture::new().host,
        ..fixture
    };
    let present = other.taker();
    other.await_newest(1);
    let (present_goes_on, blocked) = mpsc::channel();
    present.try_send(Block(blocked)).expect("room for one");
    sender.publish(Value(2));
    let wakes = other.wakes().1;

    former_goes_on.send(()).expect("it is blocked");
    former.send(Stop).await.expect("it answers before it stops");
    sender.publish(Value(3));
    assert_eq!(other.wakes().1, wakes, "one was queued already");
    present_goes_on.send(()).expect("it is blocked");
    other.await_newest(3);
}

#[tokio::test]
async fn the_slot_does_not_keep_its_actor_alive() {
    let fixture = Fixture::new();
    let taker = fixture.taker();
    let weak = taker.downgrade();
    drop(taker);
    while weak.upgrade().is_some() {
        tokio::task::yield_now().await;
    }
    assert_eq!(fixture.slot.sender().publish(Value(1)), Published::Closed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_task_sees_the_newest_and_nothing_twice() {
    let slot = LatestSlot::new();
    let sender = slot.sender();
    let publisher = std::thread::spawn(move || {
        for generation in 1..=200_000 {
            assert_ne!(sender.publish(Value(generation)), Published::Closed);
        }
        sender
    });
    let mut newest = 0;
    while newest != 200_000 {
        let value = tokio::time::timeout(Duration::from_secs(20), slot.changed())
            .await
            .expect("not lost");
        assert!(value.0 > newest);
        newest = value.0;
    }
    let sender = publisher.join().expect("the publisher ends");
    drop(slot);
    assert_eq!(sender.publish(Value(200_001)), Published::Closed);
}
