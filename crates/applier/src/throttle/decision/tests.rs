use rstest::rstest;

use super::*;

const MAX_LAG: Duration = Duration::from_millis(1500);
const LITTLE: Duration = Duration::from_millis(10);
const MUCH: Duration = Duration::from_millis(2250);

/// A migration with every source, all of them quiet; tests disturb it.
struct Scene {
    critical_load: LoadLimits,
    max_load: LoadLimits,
    loads: Loads,
    replicas: Vec<(&'static str, Result<Duration, String>)>,
    user: UserThrottle,
    flag_file: Source<bool>,
    query: Source<bool>,
    lag: Source<Duration>,
    heartbeat_lag: Source<Duration>,
    loads_read: bool,
    replicas_read: bool,
}

fn scene() -> Scene {
    Scene {
        critical_load: [("Threads_running".to_owned(), 1000)].into(),
        max_load: [
            ("Threads_connected".to_owned(), 500),
            ("Threads_running".to_owned(), 25),
        ]
        .into(),
        loads: loads(12, 3),
        replicas: vec![("r1:3306", Ok(LITTLE)), ("r2:3307", Ok(LITTLE))],
        user: UserThrottle::Released,
        flag_file: Source::Read(false),
        query: Source::Read(false),
        lag: Source::Read(LITTLE),
        heartbeat_lag: Source::Read(LITTLE),
        loads_read: true,
        replicas_read: true,
    }
}

fn loads(connected: i64, running: i64) -> Loads {
    let values = [
        ("Threads_connected".to_owned(), connected),
        ("Threads_running".to_owned(), running),
    ];
    Loads {
        values: values.into(),
        failure: None,
    }
}

fn unread(variable: &str) -> Loads {
    Loads {
        failure: Some((variable.into(), "went away".into())),
        ..Loads::default()
    }
}

impl Scene {
    fn decide(&self) -> Option<Reason> {
        decide(&Inputs {
            user: self.user,
            flag_file: self.flag_file,
            critical_load: &self.critical_load,
            max_load: &self.max_load,
            loads: if self.loads_read {
                Source::Read(&self.loads)
            } else {
                Source::Awaited
            },
            query: self.query,
            max_lag: MAX_LAG,
            lag: self.lag,
            replicas: self
                .replicas
                .iter()
                .map(|(address, lag)| {
                    (
                        *address,
                        if self.replicas_read {
                            Source::Read(lag)
                        } else {
                            Source::Awaited
                        },
                    )
                })
                .collect(),
            heartbeat_lag: self.heartbeat_lag,
        })
    }

    fn state(&self) -> ThrottleState {
        self.decide()
            .as_ref()
            .map(ThrottleState::from)
            .unwrap_or_default()
    }
}

type Disturb = fn(&mut Scene);

/// What disturbs the quiet, in the order in which reasons win.
const DISTURBANCES: [(&str, Disturb); 9] = [
    ("Threads_running went away", |scene| {
        scene.loads = unread("Threads_running")
    }),
    ("commanded by user", |scene| scene.user = UserThrottle::Commanded),
    ("flag-file", |scene| scene.flag_file = Source::Read(true)),
    ("max-load Threads_running=25 >= 25", |scene| {
        scene.loads = loads(499, 25)
    }),
    ("throttle-query", |scene| scene.query = Source::Read(true)),
    ("lag=2.250000s", |scene| scene.lag = Source::Read(MUCH)),
    ("r2:3307 cannot connect", |scene| {
        scene.replicas[1].1 = Err("cannot connect".into())
    }),
    ("r1:3306 replica-lag=2.250000s", |scene| {
        scene.replicas[0].1 = Ok(MUCH)
    }),
    ("heartbeat-lag=2.250000s", |scene| {
        scene.heartbeat_lag = Source::Read(MUCH)
    }),
];

#[test]
fn quiet_is_not_throttled() {
    assert_eq!(scene().state(), ThrottleState::default());
}

#[test]
fn each_reason_has_its_words_and_its_reach() {
    for (text, disturb) in DISTURBANCES {
        let mut scene = scene();
        disturb(&mut scene);
        let state = scene.state();
        assert_eq!(state.copy.as_deref(), Some(text));
        let spared = text.starts_with("heartbeat-lag");
        assert_eq!(state.apply.as_deref(), (!spared).then_some(text), "apply");
    }
}

#[test]
fn of_two_reasons_the_earlier_one_is_told() {
    for (index, (text, disturb)) in DISTURBANCES.into_iter().enumerate() {
        for (later, also) in &DISTURBANCES[index + 1..] {
            let mut scene = scene();
            also(&mut scene);
            disturb(&mut scene);
            let told = scene.decide().map(|reason| reason.text.to_string());
            assert_eq!(told.as_deref(), Some(text), "with {later}");
        }
    }
}

#[rstest]
#[case(MAX_LAG, false)]
#[case(MAX_LAG + Duration::from_nanos(1), true)]
fn a_lag_throttles_above_its_limit(#[case] lag: Duration, #[case] throttled: bool) {
    type Lagging = fn(&mut Scene, Duration);
    let places: [Lagging; 3] = [
        |scene, lag| scene.lag = Source::Read(lag),
        |scene, lag| scene.replicas[1].1 = Ok(lag),
        |scene, lag| scene.heartbeat_lag = Source::Read(lag),
    ];
    for place in places {
        let mut scene = scene();
        place(&mut scene, lag);
        assert_eq!(scene.decide().is_some(), throttled);
    }
}

#[rstest]
#[case(499, 24, None)]
#[case(500, 24, Some("max-load Threads_connected=500 >= 500"))]
#[case(500, 25, Some("max-load Threads_connected=500 >= 500"))]
#[case(0, 9000, Some("max-load Threads_running=9000 >= 25"))]
fn a_load_throttles_from_its_limit_on(
    #[case] connected: i64,
    #[case] running: i64,
    #[case] told: Option<&str>,
) {
    let scene = Scene {
        loads: loads(connected, running),
        ..scene()
    };
    assert_eq!(scene.decide().as_ref().map(|reason| &*reason.text), told);
}

#[test]
fn a_load_that_cannot_be_read_throttles() {
    let scene = Scene {
        critical_load: LoadLimits::new(),
        loads: unread("Threads_connected"),
        ..scene()
    };
    let state = scene.state();
    assert_eq!(state.apply.as_deref(), Some("Threads_connected went away"));
}

#[test]
fn what_was_not_read_yet_is_waited_for() {
    let unread: [(&str, Disturb); 6] = [
        ("the flag files", |scene| scene.flag_file = Source::Awaited),
        ("Threads_running", |scene| scene.loads_read = false),
        ("the throttle query", |scene| scene.query = Source::Awaited),
        ("the lag", |scene| scene.lag = Source::Awaited),
        ("r1:3306", |scene| scene.replicas_read = false),
        // Set since the last reading.
        ("Aborted_clients", |scene| {
            scene.max_load.extend([("Aborted_clients".to_owned(), 1)])
        }),
    ];
    for (what, forget) in unread {
        let mut scene = scene();
        forget(&mut scene);
        let told = scene.state().apply.map(|text| text.to_string());
        assert_eq!(told, Some(format!("waiting for the first reading of {what}")));
        // What is known comes first, and what spares apply is hidden by what does not.
        scene.user = UserThrottle::Commanded;
        assert_eq!(scene.state().apply.as_deref(), Some("commanded by user"));
    }
}

#[test]
fn a_source_that_is_off_is_not_waited_for() {
    let scene = Scene {
        flag_file: Source::Off,
        query: Source::Off,
        lag: Source::Off,
        heartbeat_lag: Source::Off,
        replicas: Vec::new(),
        critical_load: LoadLimits::new(),
        max_load: LoadLimits::new(),
        loads_read: false,
        ..scene()
    };
    assert_eq!(scene.decide(), None);
}

#[test]
fn only_the_numbers_of_a_cause_change() {
    let mut scene = scene();
    scene.lag = Source::Read(MUCH);
    let one = scene.decide().expect("it lags");
    scene.lag = Source::Read(MUCH * 2);
    let other = scene.decide().expect("it lags more");
    assert_eq!(one.cause, other.cause);
    assert_ne!(one.text, other.text);
}
