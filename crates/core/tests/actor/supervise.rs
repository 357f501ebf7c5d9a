use std::time::Duration;

use actix::{Actor, ActorContext, Addr, Context, Handler, Message};
use changeling_core::actor::{
    ActorExited, ActorHost, Attempt, ExitStatus, HostOptions, OnExit, RestartPolicy, Supervised,
};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Broken, soon};

#[derive(Clone, Message)]
#[rtype(result = "u64")]
enum Order {
    Number,
    Panic,
    Fail,
    Finish,
}

struct Worker(Attempt);

impl Actor for Worker {
    type Context = Context<Self>;
}

impl Handler<Order> for Worker {
    type Result = u64;

    fn handle(&mut self, order: Order, ctx: &mut Self::Context) -> u64 {
        match order {
            Order::Number => {}
            Order::Panic => panic!("attempt {}", self.0.number),
            Order::Fail => {
                self.0.exit.write(ExitStatus::failed(Broken("server gone")));
                ctx.stop();
            }
            Order::Finish => ctx.stop(),
        }
        self.0.number
    }
}

/// Waits go by this test's clock, actors live on their own thread.
fn host() -> ActorHost {
    let options = HostOptions {
        runtime: Some(Handle::current()),
        ..Default::default()
    };
    ActorHost::start(options).expect("a host")
}

fn supervised(
    host: &ActorHost,
    policy: RestartPolicy,
) -> (Supervised<Worker>, oneshot::Receiver<ActorExited>) {
    let (tell, told) = oneshot::channel();
    let exited = OnExit::call(move |exited| tell.send(exited).expect("the test listens"));
    (
        Supervised::spawn(host, "worker", policy, |_, attempt| Worker(attempt), exited),
        told,
    )
}

fn policy(budget: u32) -> RestartPolicy {
    RestartPolicy {
        budget,
        window: Duration::from_secs(3600),
        backoff: Duration::from_secs(10),
        max_backoff: Duration::from_secs(25),
        ..Default::default()
    }
}

/// The address of the next attempt after `last`.
async fn next(supervised: &Supervised<Worker>, last: &Addr<Worker>) -> Addr<Worker> {
    let mut addresses = supervised.addresses();
    let address = addresses
        .wait_for(|now| now.as_ref().is_some_and(|now| now != last))
        .await;
    address
        .expect("supervision goes on")
        .clone()
        .expect("just looked")
}

// No timeouts under a paused clock: waiting for another thread, it would jump to them.

#[tokio::test(start_paused = true)]
async fn a_panicking_actor_is_seen_as_such_and_made_anew_until_the_budget_is_used_up() {
    let host = host();
    let (supervised, told) = supervised(&host, policy(3));
    let mut worker = supervised.addr().expect("up at once");
    // 10 s, doubled, and no more than 25 s.
    for (number, wait) in [(1, 10), (2, 20), (3, 25)] {
        assert_eq!(worker.send(Order::Number).await, Ok(number));
        let before = Instant::now();
        assert!(worker.send(Order::Panic).await.is_err());
        worker = next(&supervised, &worker).await;
        assert_eq!(before.elapsed().as_secs(), wait);
        assert_eq!(supervised.restarts(), number);
    }
    assert_eq!(worker.send(Order::Number).await, Ok(4));
    assert!(worker.send(Order::Panic).await.is_err());
    let exited = told.await.expect("a report");
    assert_eq!(exited.name, "worker");
    assert!(
        matches!(&exited.status, ExitStatus::Panicked(text) if &**text == "attempt 4"),
        "{exited:?}"
    );
    assert!(supervised.addr().is_none());
}

#[tokio::test(start_paused = true)]
async fn restarts_count_for_the_window_only() {
    let host = host();
    let (supervised, told) = supervised(&host, policy(2));
    let mut worker = supervised.addr().expect("up at once");
    for _ in 0..6 {
        let before = Instant::now();
        assert!(worker.send(Order::Panic).await.is_err());
        worker = next(&supervised, &worker).await;
        assert_eq!(before.elapsed().as_secs(), 10, "the back-off starts anew");
        tokio::time::advance(Duration::from_secs(3600)).await;
    }
    assert_eq!(supervised.restarts(), 6);
    drop(supervised);
    assert!(matches!(
        told.await.expect("a report").status,
        ExitStatus::Cancelled
    ));
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_the_actor_writes_down_restarts_it_and_success_does_not() {
    let host = host();
    let (supervised, told) = supervised(&host, policy(1));
    let worker = supervised.addr().expect("up at once");
    assert_eq!(worker.send(Order::Fail).await, Ok(1));
    let worker = next(&supervised, &worker).await;
    assert_eq!(worker.send(Order::Finish).await, Ok(2));
    assert!(told.await.expect("a report").status.is_success());
    assert_eq!(supervised.restarts(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_budget_the_first_failure_is_reported() {
    let host = host();
    let (supervised, told) = supervised(&host, RestartPolicy::never());
    let worker = supervised.addr().expect("up at once");
    assert_eq!(worker.send(Order::Fail).await, Ok(1));
    assert_eq!(
        told.await.expect("a report").status.to_string(),
        "failed: server gone"
    );
    assert_eq!(supervised.restarts(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_panicking_factory_is_a_panicking_actor() {
    let host = host();
    let (tell, told) = oneshot::channel();
    let exited = OnExit::call(move |exited: ActorExited| tell.send(exited.status).expect("the test listens"));
    let factory = |_: &mut Context<Worker>, attempt: Attempt| -> Worker { panic!("no {}", attempt.number) };
    let _supervised = Supervised::spawn(&host, "worker", policy(2), factory, exited);
    let status = told.await.expect("a report");
    assert!(
        matches!(&status, ExitStatus::Panicked(text) if &**text == "no 3"),
        "{status}"
    );
}

#[tokio::test]
async fn cancelling_stops_the_actor_and_a_wait() {
    let host = ActorHost::start(Default::default()).expect("a host");
    let (running, told) = supervised(&host, policy(5));
    let worker = running.addr().expect("up at once");
    assert_eq!(soon(worker.send(Order::Number)).await, Ok(1));
    running.cancel();
    assert!(matches!(
        soon(told).await.expect("a report").status,
        ExitStatus::Cancelled
    ));
    assert!(soon(worker.send(Order::Number)).await.is_err());

    let (waiting, told) = supervised(
        &host,
        RestartPolicy {
            backoff: super::PATIENCE * 100,
            max_backoff: super::PATIENCE * 100,
            ..policy(5)
        },
    );
    let worker = waiting.addr().expect("up at once");
    assert_eq!(soon(worker.send(Order::Fail)).await, Ok(1));
    let mut addresses = waiting.addresses();
    soon(addresses.wait_for(Option::is_none))
        .await
        .expect("supervision goes on");
    drop(waiting);
    assert!(matches!(
        soon(told).await.expect("a report").status,
        ExitStatus::Cancelled
    ));
}

#[tokio::test]
async fn a_host_that_goes_down_ends_supervision() {
    let host = ActorHost::start(Default::default()).expect("a host");
    let (supervised, told) = supervised(&host, policy(5));
    let worker = supervised.addr().expect("up at once");
    assert_eq!(soon(worker.send(Order::Number)).await, Ok(1));
    host.stop();
    assert!(matches!(
        soon(told).await.expect("a report").status,
        ExitStatus::Cancelled
    ));
}
