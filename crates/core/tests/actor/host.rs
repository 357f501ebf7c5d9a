use actix::{Actor, Context, Handler, Message};
use changeling_core::actor::{ActorHost, GetState, HostOptions, Observe, answer_get_state};
use tokio::runtime::Handle;

use super::soon;

#[derive(Message)]
#[rtype(result = "Option<String>")]
struct WhichThread;

struct Probe;

impl Actor for Probe {
    type Context = Context<Self>;
}

impl Handler<WhichThread> for Probe {
    type Result = Option<String>;

    fn handle(&mut self, _: WhichThread, _: &mut Self::Context) -> Self::Result {
        std::thread::current().name().map(str::to_owned)
    }
}

impl Observe for Probe {
    type State = String;

    fn observe(&self) -> String {
        "well".to_owned()
    }
}

answer_get_state!(Probe);

fn named(name: &str) -> ActorHost {
    ActorHost::start(HostOptions {
        name: name.to_owned(),
        ..Default::default()
    })
    .expect("a host")
}

#[tokio::test(flavor = "current_thread")]
async fn inside_a_foreign_current_thread_runtime() {
    let host = named("foreign");
    let probe = host.spawn(|_| Probe);
    assert_eq!(
        soon(probe.send(WhichThread)).await,
        Ok(Some("foreign".to_owned()))
    );
    assert_eq!(soon(probe.send(GetState::new())).await.as_deref(), Ok("well"));
    let worker = host
        .handle()
        .spawn(async { std::thread::current().name().map(str::to_owned) });
    assert_eq!(
        soon(worker).await.expect("no panic").as_deref(),
        Some("foreign-io")
    );
}

#[test]
fn from_a_plain_thread() {
    let host = named("plain");
    let probe = std::thread::spawn({
        let host = host.clone();
        move || host.spawn(|_| Probe)
    });
    let probe = probe.join().expect("no panic");
    let answer = futures_util::FutureExt::boxed(probe.send(WhichThread));
    assert_eq!(host.handle().block_on(soon(answer)), Ok(Some("plain".to_owned())));
}

#[derive(Message)]
#[rtype(result = "actix::Addr<Probe>")]
struct Another;

struct Parent(ActorHost);

impl Actor for Parent {
    type Context = Context<Self>;
}

impl Handler<Another> for Parent {
    type Result = actix::MessageResult<Another>;

    fn handle(&mut self, _: Another, _: &mut Self::Context) -> Self::Result {
        actix::MessageResult(self.0.spawn(|_| Probe))
    }
}

#[tokio::test]
async fn from_the_actors_thread_itself() {
    let host = named("parent");
    let parent = host.spawn({
        let host = host.clone();
        |_| Parent(host)
    });
    let probe = soon(parent.send(Another)).await.expect("it answers");
    assert_eq!(soon(probe.send(WhichThread)).await, Ok(Some("parent".to_owned())));
}

#[tokio::test(flavor = "current_thread")]
async fn pumps_run_where_the_embedder_says() {
    let options = HostOptions {
        runtime: Some(Handle::current()),
        ..Default::default()
    };
    let host = ActorHost::start(options).expect("a host");
    let here = std::thread::current().id();
    let there = host.handle().spawn(async { std::thread::current().id() });
    assert_eq!(soon(there).await.expect("no panic"), here);
    assert!(soon(host.spawn(|_| Probe).send(WhichThread)).await.is_ok());
}

#[tokio::test]
async fn the_last_clone_stops_the_thread() {
    let host = named("short");
    let probe = host.spawn(|_| Probe);
    let other = host.clone();
    drop(host);
    assert!(soon(probe.send(WhichThread)).await.is_ok(), "a clone is left");
    drop(other);
    while probe.connected() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_stopped_host_closes_addresses_old_and_new() {
    let host = named("stopped");
    let old = host.spawn(|_| Probe);
    assert!(soon(old.send(WhichThread)).await.is_ok());
    host.stop();
    soon(host.stopped()).await;
    assert!(soon(old.send(WhichThread)).await.is_err());
    assert!(soon(host.spawn(|_| Probe).send(WhichThread)).await.is_err());
}

#[tokio::test]
async fn a_panic_takes_one_actor_and_not_the_host() {
    let host = named("robust");
    let broken = host.spawn(|_| -> Probe { panic!("in the factory") });
    assert!(soon(broken.send(WhichThread)).await.is_err());
    assert!(soon(host.spawn(|_| Probe).send(WhichThread)).await.is_ok());
}

#[actix::test]
async fn on_a_system_that_is_already_there() {
    let host = ActorHost::current().expect("a System");
    let here = std::thread::current().name().map(str::to_owned);
    assert_eq!(soon(host.spawn(|_| Probe).send(WhichThread)).await, Ok(here));
    host.stop();
    drop(host);
    assert!(ActorHost::current().is_some());
}

#[test]
fn without_a_system_there_is_no_current_host() {
    assert!(ActorHost::current().is_none());
}
