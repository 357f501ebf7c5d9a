//! The applier: takes changes over and keeps the ghost table in step.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix::{Actor, AsyncContext, Context, Handler, Message, ResponseFuture};
use changeling_core::actor::{
    ActorExited, ExitStatus, Generation, GetState, LatestSender, Observe, Pump, Pumps,
};
use changeling_core::change::{Applied, Change, ChangeBatch};
use changeling_core::coords::Coordinates;
use changeling_core::key::Key;
use changeling_core::marker::Sentinel;
use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::changelog::Changelog;
use crate::sessions::Sessions;
use crate::sync::barrier::Flights;
use crate::sync::cycle::{Backlog, CyclePump, CycleState, Gate};
use crate::sync::lane::Lane;
use crate::sync::ledger::Ledger;
use crate::sync::pending::KeyMap;
use crate::sync::statement::Statements;
use crate::throttle::{HeartbeatSeen, ThrottleState};

/// Bytes of pending keys above which the stream is made to wait. A key of one integer costs about a
/// hundred bytes, so this is some hundred thousand rows; a cycle in hand can hold as much again.
pub const BACKLOG_BYTES: usize = 8 << 20;

/// A sentinel came through the stream: every change that stands before it has been taken over. Latest wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentinelReached {
    /// What was written.
    pub sentinel: Sentinel,
    /// The end of the batch that held it.
    pub upto: Coordinates,
}

impl Generation for SentinelReached {
    fn generation(&self) -> u64 {
        self.sentinel.attempt
    }
}

/// The applier's pump has ended: nothing is synchronised any more, and nobody may rely on what it did last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the applier has ended")]
pub struct ApplierEnded;

/// Stops beginning cycles; answered when none runs any more.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<(), ApplierEnded>")]
pub struct Hold;

/// Lets cycles run again.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Release;

/// Runs one cycle although cycles are on hold; answered when it has succeeded, or the pump has ended of it.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<(), ApplierEnded>")]
pub struct Step;

/// Gives back keys that were taken out by [`WhatRemains`] and not proven.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct StillUnproven(pub Vec<Key>);

/// Asks what is not synchronised and what is not proven, while cycles are on hold.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<Remaining, ApplierEnded>")]
pub struct WhatRemains;

/// The answer to [`WhatRemains`].
#[derive(Clone, Debug, Default)]
pub struct Remaining {
    /// Keys to be synchronised. They are not taken out: should the cut-over fail, the cycles see to them again.
    pub keys: KeyMap,
    /// Keys that are synchronised but were not proven since. They are taken out: who asked proves them, or gives them
    /// back with [`StillUnproven`].
    pub unproven: Vec<Key>,
    /// Where a stream must start to repeat everything after these keys.
    pub upto: Option<Coordinates>,
}

/// What the applier says of itself.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ApplierState {
    /// Row changes taken over.
    pub events: u64,
    /// Keys that wait.
    pub backlog: usize,
    /// Bytes they occupy.
    pub backlog_bytes: usize,
    /// What the cycles have done.
    pub cycles: CycleState,
    /// Keys that met a duplicate on a unique key of the new table only.
    pub conflicts: usize,
    /// Keys to be proven.
    pub unproven: usize,
    /// How the pump ended, if it has.
    pub ended: Option<ExitStatus>,
}

/// What an applier is made of.
#[derive(Debug)]
pub struct ApplierParts {
    /// Sessions that write the ghost table.
    pub writers: Sessions,
    /// Sessions that write the changelog table.
    pub markers: Sessions,
    /// The statements of this migration.
    pub statements: Statements,
    /// Copy chunks in flight; shared with the copy. An applier without a copy has none.
    pub flights: Flights,
    /// Keys to be proven; shared with the proof.
    pub ledger: Ledger,
    /// Sessions that synchronise at once.
    pub lanes: usize,
    /// Keys of one statement; may be changed at any time.
    pub batch_keys: Arc<AtomicUsize>,
    /// Whether to pause.
    pub throttle: watch::Receiver<ThrottleState>,
    /// Stands in every statement of our own that changes a definition; those are no reason to stop.
    pub ours: String,
}

/// Where an applier reports.
#[derive(Debug, Default)]
pub struct ApplierPorts {
    /// Sentinels, for the cut-over. Never blocks the applier.
    pub sentinels: Option<LatestSender<SentinelReached>>,
    /// Heartbeats, for the throttler. Never blocks the applier.
    pub heartbeats: Option<LatestSender<HeartbeatSeen>>,
    /// Statements of others on the watched tables; if the channel is full there are unread ones, which is enough to
    /// stop a migration.
    pub statements: Option<mpsc::Sender<Change>>,
    /// The end of the pump: a failure, or `Cancelled`.
    pub exited: Option<mpsc::Sender<ActorExited>>,
}

/// Keeps `ghost[key] = original[key]` for every key that the stream names.
///
/// *Messages in*: [`ChangeBatch`] (answered as soon as its keys are noted, later while the backlog is full:
/// that is the stream's backpressure), [`Hold`], [`Step`], [`Release`], [`WhatRemains`], [`StillUnproven`],
/// [`GetState`].
/// *Ports out*: [`ApplierPorts`]. *Owns* one session for each lane, one for conflicts and one for markers.
/// *Survives a restart*: nothing; a new applier is fed from a checkpoint's position. *Ends* when stopped:
/// the cycle in hand is broken off, its transactions are rolled back or were committed, both harmless.
#[derive(Debug)]
pub struct Applier {
    backlog: Arc<Backlog>,
    gate: watch::Sender<Gate>,
    cycles: watch::Receiver<CycleState>,
    ledger: Ledger,
    conflicts: Arc<AtomicUsize>,
    ports: ApplierPorts,
    cancel: CancellationToken,
    pumps: Pumps,
    start: Option<CyclePump>,
    pump: Option<Pump>,
    ended: Option<ExitStatus>,
    ours: String,
    /// A statement of somebody else's changed a watched table.
    overtaken: bool,
}

impl Applier {
    /// An applier that starts to work when the actor starts; `pumps` is where its pump runs.
    #[must_use]
    pub fn new(parts: ApplierParts, ports: ApplierPorts, pumps: Pumps, cancel: CancellationToken) -> Self {
        let backlog = Arc::new(Backlog::new(BACKLOG_BYTES));
        let (gate, gate_seen) = watch::channel(Gate::Open);
        let (state, cycles) = watch::channel(CycleState::default());
        let conflicts = Arc::new(AtomicUsize::new(0));
        let lane = |_| {
            Lane::new(
                &parts.writers,
                parts.statements.clone(),
                Arc::clone(&parts.batch_keys),
            )
        };
        let start = CyclePump {
            backlog: Arc::clone(&backlog),
            changelog: Changelog::new(parts.statements.plan().names.changelog.clone(), &parts.markers),
            flights: parts.flights,
            lanes: (0..parts.lanes.max(1)).map(lane).collect(),
            session: parts.writers.lasting(),
            ledger: parts.ledger.clone(),
            statements: parts.statements,
            gate: gate_seen,
            throttle: parts.throttle,
            state,
            cancel: cancel.clone(),
            conflicts: Arc::clone(&conflicts),
        };
        Self {
            backlog,
            gate,
            cycles,
            ledger: parts.ledger,
            conflicts,
            ports,
            cancel,
            pumps,
            start: Some(start),
            pump: None,
            ended: None,
            ours: parts.ours,
            overtaken: false,
        }
    }

    /// What the cycles have done, for whoever waits for them.
    #[must_use]
    pub fn cycles(&self) -> watch::Receiver<CycleState> {
        self.cycles.clone()
    }

    /// The backlog, for whoever shows it.
    #[must_use]
    pub fn backlog(&self) -> Arc<Backlog> {
        Arc::clone(&self.backlog)
    }
}

impl Actor for Applier {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if let Some(pump) = self.start.take() {
            let work = async move {
                match pump.run().await {
                    Ok(()) => ExitStatus::Cancelled,
                    Err(error) => ExitStatus::failed(error),
                }
            };
            let told = ctx.address().recipient::<ActorExited>();
            self.pump = Some(Pump::spawn(
                &self.pumps,
                "applier",
                self.cancel.clone(),
                work,
                told,
            ));
        }
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.cancel.cancel();
    }
}

impl Handler<ChangeBatch> for Applier {
    type Result = ResponseFuture<Applied>;

    fn handle(&mut self, batch: ChangeBatch, _: &mut Self::Context) -> Self::Result {
        let applied = Applied { seq: batch.seq };
        let upto = batch.upto.clone();
        let (seen, full) = {
            let mut pending = self.backlog.lock();
            let seen = pending.absorb(batch);
            (seen, pending.bytes() >= self.backlog.capacity())
        };
        self.backlog.filled();
        if let (Some(heartbeat), Some(port)) = (seen.heartbeat, &self.ports.heartbeats) {
            let _ = port.publish(HeartbeatSeen {
                written_at_micros: heartbeat.written_at_micros,
            });
        }
        for statement in seen.statements {
            if matches!(&statement, Change::Ddl { statement, .. } if statement.contains(&self.ours)) {
                continue;
            }
            self.overtaken = true;
            if let Some(port) = &self.ports.statements {
                let _ = port.try_send(statement);
            }
        }
        // Last: whoever hears of the sentinel finds everything before it in the backlog. After a foreign statement no
        // sentinel is passed on: rows may have changed without events, so no swap may follow.
        if self.overtaken {
            tracing::debug!("sentinels are withheld after a foreign statement");
        } else if let (Some(sentinel), Some(port)) = (seen.sentinel, &self.ports.sentinels) {
            let _ = port.publish(SentinelReached { sentinel, upto });
        }
        let backlog = Arc::clone(&self.backlog);
        Box::pin(async move {
            if full {
                backlog.room().await;
            }
            applied
        })
    }
}

impl Applier {
    /// The pump holds the sending end of the watch; without it a failed cycle's keys would seem synchronised.
    fn alive(&self) -> Result<(), ApplierEnded> {
        self.cycles.has_changed().map(drop).map_err(|_| ApplierEnded)
    }
}

impl Handler<Hold> for Applier {
    type Result = ResponseFuture<Result<(), ApplierEnded>>;

    fn handle(&mut self, _: Hold, _: &mut Self::Context) -> Self::Result {
        let steps = self.cycles.borrow().steps;
        self.gate.send_if_modified(|gate| {
            let open = *gate == Gate::Open;
            if open {
                *gate = Gate::Shut { steps };
            }
            open
        });
        let (mut cycles, alive) = (self.cycles.clone(), self.alive());
        Box::pin(async move {
            alive?;
            cycles
                .wait_for(|state| state.at_rest)
                .await
                .map(drop)
                .map_err(|_| ApplierEnded)
        })
    }
}

impl Handler<Step> for Applier {
    type Result = ResponseFuture<Result<(), ApplierEnded>>;

    fn handle(&mut self, _: Step, _: &mut Self::Context) -> Self::Result {
        let mut wanted = 0;
        self.gate.send_modify(|gate| {
            if let Gate::Shut { steps } = gate {
                *steps += 1;
                wanted = *steps;
            }
        });
        let (mut cycles, alive) = (self.cycles.clone(), self.alive());
        Box::pin(async move {
            alive?;
            cycles
                .wait_for(|state| state.steps >= wanted)
                .await
                .map(drop)
                .map_err(|_| ApplierEnded)
        })
    }
}

impl Handler<StillUnproven> for Applier {
    type Result = ();

    fn handle(&mut self, StillUnproven(keys): StillUnproven, _: &mut Self::Context) {
        self.ledger.record(&keys);
    }
}

impl Handler<Release> for Applier {
    type Result = ();

    fn handle(&mut self, _: Release, _: &mut Self::Context) {
        self.gate.send_replace(Gate::Open);
    }
}

impl Handler<WhatRemains> for Applier {
    type Result = actix::MessageResult<WhatRemains>;

    fn handle(&mut self, _: WhatRemains, _: &mut Self::Context) -> Self::Result {
        let pending = self.backlog.lock();
        actix::MessageResult(self.alive().map(|()| Remaining {
            keys: pending.keys().clone(),
            unproven: self.ledger.take().into_iter().collect(),
            upto: pending.upto().cloned(),
        }))
    }
}

impl Handler<ActorExited> for Applier {
    type Result = ();

    fn handle(&mut self, exited: ActorExited, _: &mut Self::Context) {
        self.ended = Some(exited.status.clone());
        if let Some(port) = &self.ports.exited {
            let _ = port.try_send(exited);
        }
    }
}

impl Observe for Applier {
    type State = ApplierState;

    fn observe(&self) -> ApplierState {
        let pending = self.backlog.lock();
        ApplierState {
            events: pending.events(),
            backlog: pending.len(),
            backlog_bytes: pending.bytes(),
            cycles: self.cycles.borrow().clone(),
            conflicts: self.conflicts.load(Ordering::Relaxed),
            unproven: self.ledger.len(),
            ended: self.ended.clone(),
        }
    }
}

impl Handler<GetState<ApplierState>> for Applier {
    type Result = actix::MessageResult<GetState<ApplierState>>;

    fn handle(&mut self, _: GetState<ApplierState>, _: &mut Self::Context) -> Self::Result {
        actix::MessageResult(self.observe())
    }
}
