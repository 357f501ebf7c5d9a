//! Without servers, and without waiting: the clock is stopped.

use std::fs;
use std::time::Duration;

use actix::Addr;
use changeling_applier::control::ControlCommand;
use changeling_applier::settings::{Endpoint, MigrationSettings, ThrottleSettings};
use changeling_applier::throttle::{
    Abort, HeartbeatSeen, ThrottleCommand, ThrottleState, Throttler, ThrottlerSetup, ThrottlerState,
    UserThrottle,
};
use changeling_core::actor::{ActorHost, Delivery, ExitNote, GetState, LatestSender, LatestSlot, Published};
use changeling_core::ident::TableName;
use changeling_core::marker::Heartbeat;
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::{aborts, both, free, reason_of, until};

const SECOND: Duration = Duration::from_secs(1);

fn settings() -> ThrottleSettings {
    let nowhere = Endpoint {
        host: "none".into(),
        port: 1,
        user: String::new(),
        password: String::new().into(),
    };
    MigrationSettings::new(TableName::new("db", "t"), "ENGINE=InnoDB", nowhere).throttle
}

struct Fixture {
    host: ActorHost,
    setup: ThrottlerSetup,
    aborts: mpsc::Receiver<Delivery<Abort>>,
}

impl Fixture {
    /// Stops the clock.
    fn new(settings: &ThrottleSettings) -> Self {
        tokio::time::pause();
        let host = ActorHost::current().expect("a System");
        let (abort, aborts) = aborts();
        let setup = ThrottlerSetup::new(settings, host.pumps().clone(), abort);
        Self { host, setup, aborts }
    }

    fn hearing(mut self) -> (Self, LatestSender<HeartbeatSeen>) {
        let slot = LatestSlot::new();
        let sender = slot.sender();
        self.setup = self.setup.hearing(slot);
        (self, sender)
    }

    fn start(&self) -> Addr<Throttler> {
        let setup = self.setup.clone();
        self.host
            .spawn(move |_| Throttler::new(setup, ExitNote::default()))
    }
}

async fn observed(throttler: &Addr<Throttler>) -> ThrottlerState {
    throttler.send(GetState::new()).await.expect("it runs")
}

#[actix::test]
async fn until_something_is_known_everything_waits() {
    let fixture = Fixture::new(&settings());
    let throttled = fixture.setup.throttled();
    assert!(
        both(&throttled.borrow(), "waiting for the first reading"),
        "before it was started"
    );
    let throttler = fixture.start();
    observed(&throttler).await;
    assert!(
        free(&throttled.borrow()),
        "nothing to be read: {:?}",
        throttled.borrow()
    );
}

#[actix::test]
async fn the_user_is_obeyed_at_once() {
    let fixture = Fixture::new(&settings());
    let throttled = fixture.setup.throttled();
    let throttler = fixture.start();
    throttler
        .send(ThrottleCommand::User(UserThrottle::Commanded))
        .await
        .expect("it runs");
    assert!(
        both(&throttled.borrow(), "commanded by user"),
        "{:?}",
        throttled.borrow()
    );
    throttler
        .send(ThrottleCommand::User(UserThrottle::Released))
        .await
        .expect("it runs");
    assert!(free(&throttled.borrow()));
    let state = observed(&throttler).await;
    assert_eq!(
        state,
        *fixture.setup.observed().borrow(),
        "the channel says the same"
    );
    let json = serde_json::to_value(&state).expect("a state can be shown");
    assert_eq!(json["throttled"]["copy"], serde_json::Value::Null);
}

#[actix::test]
async fn a_flag_file_throttles_as_long_as_it_is_there() {
    let directory = TempDir::new().expect("a directory");
    let (flag, other) = (directory.path().join("flag"), directory.path().join("other"));
    let fixture = Fixture::new(&ThrottleSettings {
        flag_file: Some(flag.clone()),
        additional_flag_file: Some(other.clone()),
        ..settings()
    });
    let mut throttled = fixture.setup.throttled();
    let throttler = fixture.start();
    until(&mut throttled, free).await;
    for path in [flag, other] {
        fs::write(&path, "").expect("a file");
        until(&mut throttled, |state| both(state, "flag-file")).await;
        fs::remove_file(&path).expect("the file");
        until(&mut throttled, free).await;
    }
    assert_eq!(
        observed(&throttler).await.changes,
        6,
        "waiting, free, and twice on and off"
    );
}

#[actix::test]
async fn a_flag_path_that_cannot_be_looked_at_does_not_throttle() {
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("file");
    fs::write(&file, "").expect("a file");
    let fixture = Fixture::new(&ThrottleSettings {
        flag_file: Some(file.join("under-a-file")),
        panic_flag_file: Some(file.join("too")),
        ..settings()
    });
    let mut throttled = fixture.setup.throttled();
    let _throttler = fixture.start();
    until(&mut throttled, free).await;
}

#[actix::test]
async fn the_panic_flag_file_asks_for_one_abort() {
    let directory = TempDir::new().expect("a directory");
    let panic = directory.path().join("panic");
    let mut fixture = Fixture::new(&ThrottleSettings {
        panic_flag_file: Some(panic.clone()),
        ..settings()
    });
    let throttler = fixture.start();
    tokio::time::sleep(5 * SECOND).await;
    assert!(fixture.aborts.try_recv().is_err(), "no file, no abort");
    fs::write(&panic, "").expect("a file");
    let words = format!("Found panic-file {}. Aborting without cleanup", panic.display());
    assert_eq!(reason_of(&mut fixture.aborts).await, words);
    tokio::time::sleep(10 * SECOND).await;
    drop(throttler);
    let _again = fixture.start();
    tokio::time::sleep(10 * SECOND).await;
    assert!(fixture.aborts.try_recv().is_err(), "a second abort");
}

#[actix::test]
async fn a_stream_that_falls_behind_throttles_the_copy_only() {
    let (fixture, heartbeats) = Fixture::new(&settings()).hearing();
    let mut throttled = fixture.setup.throttled();
    let throttler = fixture.start();
    // One comes that is old already, but not too old.
    let now = Heartbeat::now().written_at_micros;
    heartbeats.publish(HeartbeatSeen {
        written_at_micros: now - 1_000_000,
    });
    until(&mut throttled, free).await;
    let lag = observed(&throttler).await.heartbeat_lag;
    assert!(lag >= SECOND && lag < SECOND * 3 / 2, "{lag:?}");

    // Nothing more comes: it ages.
    let only_copy = |state: &ThrottleState| {
        state.apply.is_none()
            && state
                .copy
                .as_ref()
                .is_some_and(|text| text.starts_with("heartbeat-lag=1.5"))
    };
    until(&mut throttled, only_copy).await;
    assert!(observed(&throttler).await.heartbeat_lag > Duration::from_millis(1500));

    // A new one does away with that, and an older one that comes late does not bring it back.
    heartbeats.publish(HeartbeatSeen {
        written_at_micros: now,
    });
    until(&mut throttled, free).await;
    assert_eq!(
        heartbeats.publish(HeartbeatSeen {
            written_at_micros: now - 500_000
        }),
        Published::Stale
    );

    // The limit is the operator's.
    tokio::time::sleep(SECOND).await;
    assert!(free(&throttled.borrow()));
    throttler
        .send(ThrottleCommand::SetMaxLag(SECOND / 2))
        .await
        .expect("it runs");
    assert!(throttled.borrow().copy.is_some() && throttled.borrow().apply.is_none());
    throttler
        .send(ThrottleCommand::User(UserThrottle::Commanded))
        .await
        .expect("it runs");
    assert!(both(&throttled.borrow(), "commanded by user"));
}

#[actix::test]
async fn before_the_first_heartbeat_the_throttlers_own_age_counts() {
    let (fixture, _heartbeats) = Fixture::new(&settings()).hearing();
    let mut throttled = fixture.setup.throttled();
    let _throttler = fixture.start();
    until(&mut throttled, free).await;
    until(&mut throttled, |state| state.copy.is_some()).await;
    assert!(throttled.borrow().apply.is_none());
}

#[actix::test]
async fn numbers_that_change_are_no_change_of_cause() {
    let (fixture, _heartbeats) = Fixture::new(&settings()).hearing();
    let throttler = fixture.start();
    tokio::time::sleep(3 * SECOND).await;
    let one = observed(&throttler).await;
    tokio::time::sleep(3 * SECOND).await;
    let other = observed(&throttler).await;
    assert_ne!(one.throttled, other.throttled);
    assert_eq!(
        (one.changes, one.since_micros),
        (other.changes, other.since_micros)
    );
}

#[actix::test]
async fn what_the_operator_said_survives_a_restart() {
    let fixture = Fixture::new(&settings());
    let throttled = fixture.setup.throttled();
    let first = fixture.start();
    first
        .send(ThrottleCommand::User(UserThrottle::Commanded))
        .await
        .expect("it runs");
    drop(first);
    let second = fixture.start();
    observed(&second).await;
    assert!(both(&throttled.borrow(), "commanded by user"));
}

#[actix::test]
async fn its_polls_end_with_it() {
    let directory = TempDir::new().expect("a directory");
    let fixture = Fixture::new(&ThrottleSettings {
        flag_file: Some(directory.path().join("flag")),
        ..settings()
    });
    let mut throttled = fixture.setup.throttled();
    let throttler = fixture.start();
    until(&mut throttled, free).await;
    assert_eq!(fixture.host.pumps().running(), 1);
    drop(throttler);
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(fixture.host.pumps().running(), 0);
}

#[test]
fn the_migrations_commands_that_are_about_throttling() {
    let of = |command| ThrottleCommand::from_control(&command);
    assert_eq!(
        of(ControlCommand::Throttle),
        Some(ThrottleCommand::User(UserThrottle::Commanded))
    );
    assert_eq!(
        of(ControlCommand::NoThrottle),
        Some(ThrottleCommand::User(UserThrottle::Released))
    );
    assert_eq!(
        of(ControlCommand::MaxLag(SECOND)),
        Some(ThrottleCommand::SetMaxLag(SECOND))
    );
    assert_eq!(
        of(ControlCommand::ThrottleQuery(None)),
        Some(ThrottleCommand::SetQuery(None))
    );
    assert_eq!(of(ControlCommand::NiceRatio(1.0)), None);
    assert_eq!(of(ControlCommand::Panic), None);
}
