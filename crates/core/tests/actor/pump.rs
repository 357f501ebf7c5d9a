use std::time::Duration;

use actix::{Actor, Context, Handler};
use changeling_core::actor::{ActorExited, ActorHost, ExitStatus, OnExit, Pump, Pumps};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Broken, soon};

/// Passes on what it is told.
struct Owner(mpsc::UnboundedSender<ActorExited>);

impl Actor for Owner {
    type Context = Context<Self>;
}

impl Handler<ActorExited> for Owner {
    type Result = ();

    fn handle(&mut self, exited: ActorExited, _: &mut Self::Context) {
        self.0.send(exited).expect("the test listens");
    }
}

struct Fixture {
    host: ActorHost,
    owner: actix::Addr<Owner>,
    told: mpsc::UnboundedReceiver<ActorExited>,
}

impl Fixture {
    fn new() -> Self {
        let host = ActorHost::start(Default::default()).expect("a host");
        let (tell, told) = mpsc::unbounded_channel();
        let owner = host.spawn(move |_| Owner(tell));
        Self { host, owner, told }
    }

    fn pump(
        &self,
        cancel: &CancellationToken,
        work: impl Future<Output = ExitStatus> + Send + 'static,
    ) -> Pump {
        let owner = self.owner.clone().recipient::<ActorExited>();
        Pump::spawn(self.host.pumps(), "pump", cancel.clone(), work, owner)
    }

    /// The one report; that there is no second one shows once the owner, which alone can tell, is gone.
    async fn only_report(mut self) -> ExitStatus {
        let exited = soon(self.told.recv()).await.expect("a report");
        assert_eq!(exited.name, "pump");
        drop(self.owner);
        assert!(soon(self.told.recv()).await.is_none(), "a second report");
        exited.status
    }
}

#[tokio::test]
async fn each_end_is_reported_once() {
    let fixture = Fixture::new();
    let _pump = fixture.pump(&CancellationToken::new(), async { ExitStatus::Success });
    assert!(fixture.only_report().await.is_success());

    let fixture = Fixture::new();
    let _pump = fixture.pump(&CancellationToken::new(), async {
        ExitStatus::failed(Broken("no route"))
    });
    let status = fixture.only_report().await;
    assert!(status.is_failure());
    assert_eq!(status.to_string(), "failed: no route");

    let fixture = Fixture::new();
    let _pump = fixture.pump(&CancellationToken::new(), async { panic!("row {}", 7) });
    let status = fixture.only_report().await;
    assert!(
        matches!(&status, ExitStatus::Panicked(text) if &**text == "row 7"),
        "{status}"
    );
}

#[tokio::test]
async fn cancelling_lets_the_pump_wind_up() {
    for by_drop in [false, true] {
        let fixture = Fixture::new();
        let cancel = CancellationToken::new();
        let asked = cancel.clone();
        let (wound_up, seen) = tokio::sync::oneshot::channel();
        let pump = fixture.pump(&cancel, async move {
            asked.cancelled().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            wound_up.send(()).expect("the test listens");
            ExitStatus::Cancelled
        });
        if by_drop {
            drop(pump);
        } else {
            pump.cancel();
        }
        soon(seen).await.expect("it went on to its end");
        assert!(matches!(fixture.only_report().await, ExitStatus::Cancelled));
    }
}

#[tokio::test]
async fn aborting_ends_a_pump_that_does_not_listen() {
    let fixture = Fixture::new();
    let pump = fixture.pump(&CancellationToken::new(), std::future::pending());
    pump.cancel();
    assert!(!pump.is_finished());
    pump.abort();
    assert!(matches!(fixture.only_report().await, ExitStatus::Cancelled));
}

#[tokio::test]
async fn a_full_mailbox_does_not_lose_the_report() {
    let mut fixture = Fixture::new();
    // Many times actix's capacity, all at once.
    let pumps: Vec<_> = (0..500)
        .map(|_| fixture.pump(&CancellationToken::new(), async { ExitStatus::Success }))
        .collect();
    for _ in &pumps {
        soon(fixture.told.recv()).await.expect("a report for each");
    }
    fixture.only_report_is_out().await;
}

impl Fixture {
    async fn only_report_is_out(mut self) {
        drop(self.owner);
        assert!(soon(self.told.recv()).await.is_none(), "one report too many");
    }
}

#[test]
fn a_runtime_that_goes_down_under_a_pump_is_reported() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (tell, told) = std::sync::mpsc::channel();
    let exited = OnExit::call(move |exited| tell.send(exited).expect("the test listens"));
    let pumps = Pumps::from(runtime.handle().clone());
    let _pump = Pump::spawn(
        &pumps,
        "pump",
        CancellationToken::new(),
        std::future::pending(),
        exited,
    );
    drop(runtime);
    let exited = told.recv_timeout(super::PATIENCE).expect("a report");
    assert!(matches!(exited.status, ExitStatus::Cancelled));
    assert!(told.recv().is_err(), "a second report");
}

#[tokio::test]
async fn stopping_the_host_gives_pumps_their_grace() {
    struct Holder(#[expect(dead_code, reason = "held so that the actor's end cancels it")] Pump);
    impl Actor for Holder {
        type Context = Context<Self>;
    }
    let host = ActorHost::start(Default::default()).expect("a host");
    let (tell, mut told) = mpsc::unbounded_channel();
    let pumps = host.pumps().clone();
    let (up, is_up) = tokio::sync::oneshot::channel();
    let _holder = host.spawn(move |_| {
        let cancel = CancellationToken::new();
        let asked = cancel.clone();
        let work = async move {
            up.send(()).expect("the test listens");
            asked.cancelled().await;
            // What a lock needs to be given back.
            tokio::time::sleep(Duration::from_millis(50)).await;
            ExitStatus::Success
        };
        let exited = OnExit::call(move |exited| tell.send(exited).expect("the test listens"));
        Holder(Pump::spawn(&pumps, "pump", cancel, work, exited))
    });
    soon(is_up).await.expect("it runs");
    host.stop();
    assert!(
        soon(told.recv()).await.expect("a report").status.is_success(),
        "it was cut off"
    );
    soon(host.stopped()).await;
}
