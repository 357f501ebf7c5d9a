//! The actor that decides.

mod polls;

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, AsyncContext, Context, Handler};
use changeling_core::actor::{
    ActorExited, ExitNote, ExitStatus, Observe, OnExit, Pump, Wake, answer_get_state,
};
use changeling_core::marker::Heartbeat;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::critical::{Critical, Verdict};
use super::decision::{Cause, Inputs, Loads, Reason, Source, decide};
use super::link::Links;
use super::poll::Reading;
use super::readings::{Lag, Readings, Replica};
use super::{Abort, HeartbeatSeen, ThrottleCommand, ThrottleState, ThrottlerSetup, ThrottlerState};

/// How often it is decided when nothing is read: ages grow by themselves. gh-ost's.
const TICK: Duration = Duration::from_millis(100);

/// Decides whether copy and apply have to wait, and whether the migration has to be aborted.
///
/// * *Messages in*: [`ThrottleCommand`]; `GetState`; [`HeartbeatSeen`] through the slot of the setup.
/// * *Ports out*: `watch::Receiver<ThrottleState>` for the pumps and `watch::Receiver<ThrottlerState>` for whoever
///   shows it, both from [`ThrottlerSetup`]; `Port<Abort>`, used at most once.
/// * *Owns*: its polls and their connections, one a server.
/// * *Survives a restart*: what [`ThrottlerSetup`] says.
/// * *Ends*: soon after its last address is dropped; the last state then stands. When a poll panics it asks for an abort,
///   writes that poll's status into its note and stops.
#[derive(Debug)]
pub struct Throttler {
    setup: ThrottlerSetup,
    exit: ExitNote,
    began: Instant,
    readings: Readings,
    critical: Critical,
    cause: Option<Cause>,
    links: Arc<Links>,
    /// Tells the load's poll to look at once.
    look: Arc<Notify>,
    pumps: Vec<Pump>,
}

impl Throttler {
    /// A throttler; where it runs under a supervisor, with the attempt's note, else with a new one.
    #[must_use]
    pub fn new(setup: ThrottlerSetup, exit: ExitNote) -> Self {
        Self {
            setup,
            exit,
            began: Instant::now(),
            readings: Readings::default(),
            critical: Critical::default(),
            cause: None,
            links: Arc::default(),
            look: Arc::default(),
            pumps: Vec::new(),
        }
    }

    fn on_loads(&mut self, at: Instant, loads: Loads, ctx: &mut Context<Self>) {
        let verdict = {
            let limits = self.setup.limits.borrow();
            self.critical.judge(
                &loads,
                &limits.critical_load,
                self.setup.critical_load_interval,
                at,
            )
        };
        self.readings.loads = Some(loads);
        match verdict {
            Verdict::Nothing => {}
            Verdict::LookAgain(wait, words) => {
                tracing::error!("{words}");
                ctx.run_later(wait, |throttler, _| throttler.look.notify_one());
            }
            Verdict::Abort(reason) => self.abort(reason),
        }
    }

    fn abort(&mut self, reason: String) {
        let reason: Arc<str> = reason.into();
        if self.setup.aborted.set(Arc::clone(&reason)).is_err() {
            return;
        }
        let port = self.setup.abort.clone();
        // Not cancelled with the throttler: an abort that was decided on arrives.
        let deliver = async move {
            match port
                .deliver(Abort {
                    reason: Arc::clone(&reason),
                })
                .await
            {
                Ok(()) => ExitStatus::Success,
                Err(closed) => {
                    tracing::error!(%reason, "nobody is left to be told to abort");
                    closed.into()
                }
            }
        };
        let name = "throttle: abort";
        let pump = Pump::spawn(
            &self.setup.pumps,
            name,
            CancellationToken::new(),
            deliver,
            OnExit::ignore(),
        );
        self.pumps.push(pump);
    }

    fn lag(&self, now: Instant) -> Source<Duration> {
        let lag = self.readings.lag(self.began, now);
        asked_if(self.setup.servers.is_some(), lag)
    }

    fn heartbeat_lag(&self, now: Instant) -> Source<Duration> {
        let lag = self.readings.heartbeat_lag(self.began, now);
        asked_if(self.setup.heartbeats.is_some(), Some(lag))
    }

    fn decide(&self, now: Instant) -> Option<Reason> {
        let limits = self.setup.limits.borrow();
        let (readings, watching) = (&self.readings, self.setup.servers.is_some());
        decide(&Inputs {
            user: limits.user,
            flag_file: asked_if(!self.setup.files.is_empty(), readings.flag_file),
            critical_load: &limits.critical_load,
            max_load: &limits.max_load,
            loads: asked_if(watching, readings.loads.as_ref()),
            query: asked_if(watching && limits.query.is_some(), readings.query),
            max_lag: limits.max_lag,
            lag: self.lag(now),
            replicas: readings
                .replicas
                .iter()
                .map(|replica| (replica.address.as_str(), Source::asked(replica.lag.as_ref())))
                .collect(),
            heartbeat_lag: self.heartbeat_lag(now),
        })
    }

    /// Decides anew and publishes.
    fn evaluate(&mut self) {
        let now = Instant::now();
        let reason = self.decide(now);
        let throttled = reason.as_ref().map(ThrottleState::from).unwrap_or_default();
        let cause = reason.as_ref().map(|reason| reason.cause.clone());
        let changed = self.cause != cause;
        if changed {
            log(reason.as_ref());
            self.cause = cause;
        }
        let mut state = self.snapshot(now);
        state.throttled.clone_from(&throttled);
        if changed {
            state.since_micros = Timestamp::now().as_microsecond();
            state.changes += 1;
        }
        // First the state: whoever is told of the throttle finds it there.
        self.setup.observed.send_replace(state);
        self.setup.throttled.send_if_modified(|published| {
            let modified = *published != throttled;
            *published = throttled;
            modified
        });
    }

    /// What was read, and what was published before.
    fn snapshot(&self, now: Instant) -> ThrottlerState {
        let known = |source| match source {
            Source::Read(lag) => lag,
            Source::Off | Source::Awaited => Duration::ZERO,
        };
        let read = |replica: &Replica| Some((replica.address.clone(), replica.lag.clone()?));
        let before = self.setup.observed.borrow();
        ThrottlerState {
            throttled: before.throttled.clone(),
            since_micros: before.since_micros,
            lag: known(self.lag(now)),
            heartbeat_lag: known(self.heartbeat_lag(now)),
            control_replicas: self.readings.replicas.iter().filter_map(read).collect(),
            loads: self
                .readings
                .loads
                .as_ref()
                .map(|loads| loads.values.clone())
                .unwrap_or_default(),
            changes: before.changes,
        }
    }
}

fn asked_if<T>(asked: bool, answer: Option<T>) -> Source<T> {
    if asked { Source::asked(answer) } else { Source::Off }
}

fn log(reason: Option<&Reason>) {
    match reason {
        None => tracing::info!("not throttled"),
        Some(reason) if reason.spares_apply() => tracing::info!(reason = &*reason.text, "copying throttled"),
        Some(reason) => tracing::info!(reason = &*reason.text, "throttled"),
    }
}

impl Actor for Throttler {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if let Some(heartbeats) = &self.setup.heartbeats {
            heartbeats.attach(ctx.address());
        }
        self.start_polls(ctx);
        ctx.run_interval(TICK, |throttler, ctx| {
            // A timer keeps an actor alive to which nobody has an address any more.
            if ctx.connected() {
                throttler.evaluate()
            } else {
                ctx.stop()
            }
        });
        self.evaluate();
    }
}

impl Handler<Reading> for Throttler {
    type Result = ();

    fn handle(&mut self, reading: Reading, ctx: &mut Self::Context) {
        match reading {
            Reading::Files { throttle, panic } => {
                self.readings.flag_file = Some(throttle);
                if let Some(reason) = panic {
                    self.abort(reason);
                }
            }
            Reading::Loads { at, loads } => self.on_loads(at, loads, ctx),
            Reading::Query { query, positive } => {
                // The answer to a former query says nothing about this one.
                if self.setup.limits.borrow().query.as_ref() == Some(&query) {
                    self.readings.query = Some(positive);
                }
            }
            Reading::Lag(lag) => {
                self.readings.lag_fails = lag.is_none();
                if let Some(measured) = lag {
                    self.readings.lag = Some(Lag {
                        measured,
                        at: Instant::now(),
                    });
                }
            }
            Reading::Replica { address, lag } => {
                if let Some(replica) = self
                    .readings
                    .replicas
                    .iter_mut()
                    .find(|one| one.address == address)
                {
                    replica.lag = Some(lag);
                }
            }
        }
        self.evaluate();
    }
}

impl Handler<Wake<HeartbeatSeen>> for Throttler {
    type Result = ();

    fn handle(&mut self, _: Wake<HeartbeatSeen>, _: &mut Self::Context) {
        if let Some(seen) = self.setup.heartbeats.as_ref().and_then(|slot| slot.take()) {
            let measured = Heartbeat {
                written_at_micros: seen.written_at_micros,
            }
            .age();
            self.readings.heartbeat = Some(Lag {
                measured,
                at: Instant::now(),
            });
            self.evaluate();
        }
    }
}

impl Handler<ThrottleCommand> for Throttler {
    type Result = ();

    fn handle(&mut self, command: ThrottleCommand, ctx: &mut Self::Context) {
        let limits = &self.setup.limits;
        match command {
            ThrottleCommand::User(user) => limits.send_modify(|limits| limits.user = user),
            ThrottleCommand::SetMaxLag(lag) => limits.send_modify(|limits| limits.max_lag = lag),
            ThrottleCommand::SetMaxLoad(load) => limits.send_modify(|limits| limits.max_load = load),
            ThrottleCommand::SetCriticalLoad(load) => {
                limits.send_modify(|limits| limits.critical_load = load);
                self.critical = Critical::default();
            }
            ThrottleCommand::SetQuery(query) => {
                self.readings.query = None;
                limits.send_modify(|limits| limits.query = query.map(Arc::from));
            }
            ThrottleCommand::SetControlReplicas(replicas) => {
                limits.send_modify(|limits| limits.control_replicas = replicas);
                self.follow_replicas(ctx);
            }
        }
        self.evaluate();
    }
}

impl Handler<ActorExited> for Throttler {
    type Result = ();

    /// A poll that panicked is a source nobody hears of any more, and a defect: the migration must not go on
    /// as if nothing throttled it.
    fn handle(&mut self, exited: ActorExited, ctx: &mut Self::Context) {
        if exited.status.is_failure() {
            self.abort(format!("{} {}", exited.name, exited.status));
            self.exit.write(exited.status);
            ctx.stop();
        }
    }
}

impl Observe for Throttler {
    type State = ThrottlerState;

    fn observe(&self) -> ThrottlerState {
        self.snapshot(Instant::now())
    }
}

answer_get_state!(Throttler);
