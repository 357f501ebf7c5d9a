//! The actors and pumps of a migration, started and stopped together.

use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use changeling_core::actor::{
    ActorExited, ActorHost, Credits, ExitNote, ExitStatus, LatestSlot, OnExit, Port,
};
use changeling_core::change::{Change, ChangeBatch};
use changeling_core::change_source::{ChangeSource, Projection, StreamSpec, StreamState, Watch};
use changeling_core::coords::Coordinates;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::levers::Levers;
use crate::actor::{Applier, ApplierParts, ApplierPorts, SentinelReached};
use crate::copy::pump::CopyProgress;
use crate::error::ApplyError;
use crate::plan::{MigrationPlan, SessionPlan};
use crate::proof::ProofProgress;
use crate::server::{Role, Server};
use crate::sessions::{Mode, Sessions};
use crate::settings::{MigrationSettings, Place};
use crate::sync::barrier::Flights;
use crate::sync::cycle::{Backlog, CycleState};
use crate::sync::ledger::Ledger;
use crate::sync::statement::Statements;
use crate::throttle::{
    Abort, HeartbeatSeen, HeartbeatSetup, HeartbeatWriter, LagSource, ThrottleState, Throttler,
    ThrottlerSetup, ThrottlerState, WatchedServers,
};

/// Batches of changes in flight from the stream to the applier, and their bytes. The applier takes a batch over in
/// microseconds; the window only has to cover the way there and back.
const BATCHES: usize = 8;
/// See [`BATCHES`].
const BATCH_BYTES: usize = 2 << 20;
/// Statements on the tables that may wait unread.
const STATEMENTS: usize = 16;
/// How long a crew member may take to end.
const FAREWELL: Duration = Duration::from_secs(10);

/// Where snapshots are read off.
#[derive(Clone, Debug)]
pub(super) struct Instruments {
    pub stream: watch::Receiver<StreamState>,
    pub cycles: watch::Receiver<CycleState>,
    pub backlog: Arc<Backlog>,
    pub throttler: watch::Receiver<ThrottlerState>,
    pub copy: watch::Sender<CopyProgress>,
    pub copying_since: watch::Sender<Option<Instant>>,
    pub proof: watch::Sender<ProofProgress>,
    /// Row changes taken over by an earlier run.
    pub events_before: u64,
}

/// Sessions for each purpose, all of them on the server that is written.
#[derive(Clone, Debug)]
pub(super) struct SessionKinds {
    /// Write the ghost table, no autocommit.
    pub writers: Sessions,
    /// Set up as writers, but committing by themselves.
    pub readers: Sessions,
    /// Changelog and checkpoint.
    pub markers: Sessions,
    /// Everything else.
    pub plain: Sessions,
}

impl SessionKinds {
    pub(super) fn new(server: &Arc<Server>, session: &SessionPlan, retries: u64) -> Self {
        let sessions = |role, mode| Sessions::new(Arc::clone(server), role, mode, retries);
        Self {
            writers: sessions(Role::Synchroniser, Mode::Writer(session.clone())),
            readers: sessions(Role::Verifier, Mode::Reader(session.clone())),
            markers: sessions(Role::Changelog, Mode::AutoCommit),
            plain: sessions(Role::CutOver, Mode::AutoCommit),
        }
    }
}

/// What a crew is put together from.
pub(super) struct CrewParts<'a> {
    pub host: &'a ActorHost,
    pub settings: &'a MigrationSettings,
    pub plan: Arc<MigrationPlan>,
    pub owner: &'a str,
    pub source: Arc<dyn ChangeSource>,
    pub inspected: Arc<Server>,
    pub written: Arc<Server>,
    pub start: Coordinates,
    pub levers: &'a Levers,
    pub copied: CopyProgress,
    pub events_before: u64,
}

/// Everybody at work.
#[derive(Debug)]
pub(super) struct Crew {
    pub statements: Statements,
    pub sessions: SessionKinds,
    pub applier: Addr<Applier>,
    pub flights: Flights,
    pub ledger: Ledger,
    pub throttle: watch::Receiver<ThrottleState>,
    pub sentinels: LatestSlot<SentinelReached>,
    pub instruments: Instruments,
    stream_cancel: CancellationToken,
    stream_watch: JoinHandle<()>,
    statement_watch: JoinHandle<()>,
    heartbeat: HeartbeatWriter,
    throttler: Addr<Throttler>,
    _throttler_setup: ThrottlerSetup,
    cancel: CancellationToken,
    /// Set once the names have changed by our own hand: ends of the stream are no faults then.
    closing: CancellationToken,
}

impl Crew {
    /// Starts everybody; the stream last, so that nothing it delivers finds nobody there.
    pub(super) fn start(parts: CrewParts<'_>) -> Self {
        let CrewParts {
            host,
            settings,
            levers,
            ..
        } = parts;
        let plan = &parts.plan;
        let cancel = CancellationToken::new();
        let closing = CancellationToken::new();
        let statements = Statements::new(Arc::clone(plan));
        let sessions = SessionKinds::new(&parts.written, &plan.session, settings.retries);
        let (flights, ledger) = (Flights::default(), Ledger::default());
        let heartbeats = LatestSlot::<HeartbeatSeen>::new();
        let sentinels = LatestSlot::<SentinelReached>::new();

        let setup = throttler_setup(&parts, &heartbeats);
        let (throttle, throttler_state) = (setup.throttled(), setup.observed());
        // Keeps the watch open should the throttler end: whoever waits on it then waits for the fault, and does not
        // take the end for a cancellation.
        let kept_setup = setup.clone();
        let throttler = host.spawn(move |_| Throttler::new(setup, ExitNote::default()));
        levers.set_throttler(Some(throttler.clone()));

        let (statement_port, statement_seen) = mpsc::channel(STATEMENTS);
        let statement_watch = tokio::spawn(watch_statements(statement_seen, levers.clone(), closing.clone()));
        let (exit_port, exits) = mpsc::channel(1);
        tokio::spawn(watch_applier(exits, levers.clone(), cancel.clone()));
        let applier = Applier::new(
            ApplierParts {
                writers: sessions.writers.clone(),
                markers: sessions.markers.clone(),
                statements: statements.clone(),
                flights: flights.clone(),
                ledger: ledger.clone(),
                lanes: lanes(settings, plan),
                batch_keys: Arc::clone(&levers.batch_keys),
                throttle: throttle.clone(),
                ours: format!("changeling:{}", parts.owner),
            },
            ApplierPorts {
                sentinels: Some(sentinels.sender()),
                heartbeats: Some(heartbeats.sender()),
                statements: Some(statement_port),
                exited: Some(exit_port),
            },
            host.pumps().clone(),
            cancel.child_token(),
        );
        let (cycles, backlog) = (applier.cycles(), applier.backlog());
        let applier = host.spawn(move |_| applier);

        let heartbeat = HeartbeatWriter::start(
            host.pumps(),
            HeartbeatSetup {
                server: Arc::clone(&parts.written),
                changelog: plan.names.changelog.clone(),
                interval: settings.throttle.heartbeat_interval,
                retries: settings.retries,
            },
            heartbeat_end(levers.clone()),
        );

        let port = Port::mailbox(
            applier.clone().recipient::<ChangeBatch>(),
            Credits::new(BATCHES, BATCH_BYTES),
        );
        let stream = parts.source.start(host, spec(plan), parts.start.clone(), port);
        let (stream_state, stream_cancel) = (stream.state.clone(), stream.cancel.clone());
        let stream_watch = tokio::spawn(watch_stream(stream.exit, levers.clone(), closing.clone()));

        Self {
            instruments: Instruments {
                stream: stream_state,
                cycles,
                backlog,
                throttler: throttler_state,
                copy: watch::Sender::new(parts.copied.clone()),
                copying_since: watch::Sender::new(None),
                proof: watch::Sender::new(ProofProgress::default()),
                events_before: parts.events_before,
            },
            statements,
            sessions,
            applier,
            flights,
            ledger,
            throttle,
            sentinels,
            stream_cancel,
            stream_watch,
            statement_watch,
            heartbeat,
            throttler,
            _throttler_setup: kept_setup,
            cancel,
            closing,
        }
    }

    /// From now on the stream may end, and definitions may change, by our own hand.
    pub(super) fn closing(&self) {
        self.closing.cancel();
    }

    /// Stops everybody and waits until nobody writes any more.
    pub(super) async fn dismiss(self, levers: &Levers) {
        self.closing.cancel();
        levers.set_throttler(None);
        // Its polls end with its last address; they must not miss the changelog table.
        drop(self.throttler);
        self.heartbeat.stop().await;
        self.stream_cancel.cancel();
        let _ = timeout(FAREWELL, self.stream_watch).await;
        self.cancel.cancel();
        // The pump has ended when the gate's watch closes; its lanes' transactions are then over.
        let mut cycles = self.instruments.cycles.clone();
        let _ = timeout(FAREWELL, async { while cycles.changed().await.is_ok() {} }).await;
        self.statement_watch.abort();
    }
}

/// Lanes that write a table with another unique key meet in that key's gaps and end each other by deadlocks, on
/// MariaDB at every other batch; one lane alone is faster then.
fn lanes(settings: &MigrationSettings, plan: &MigrationPlan) -> usize {
    if plan.ghost.unique_keys.len() > 1 {
        1
    } else {
        settings.lanes.get()
    }
}

fn spec(plan: &MigrationPlan) -> StreamSpec {
    let key: Box<[usize]> = plan
        .key
        .columns
        .iter()
        .map(|column| column.source_index)
        .collect();
    StreamSpec {
        watches: vec![
            Watch {
                table: plan.names.original.clone(),
                columns: plan.original.columns.clone().into(),
                projection: Projection::Columns(key),
            },
            Watch {
                table: plan.names.ghost.clone(),
                columns: plan.ghost.columns.clone().into(),
                projection: Projection::StatementsOnly,
            },
        ],
        changelog: Some(plan.names.changelog.clone()),
        gateways: plan.gateways.clone(),
    }
}

fn throttler_setup(parts: &CrewParts<'_>, heartbeats: &LatestSlot<HeartbeatSeen>) -> ThrottlerSetup {
    let levers = parts.levers.clone();
    let (abort, mut asked) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(delivery) = asked.recv().await {
            let changeling_core::actor::Delivery {
                message: Abort { reason },
                reply,
            } = delivery;
            levers.fault(ApplyError::Aborted(reason.to_string()));
            reply.accept(());
        }
    });
    let lag = match parts.settings.place {
        Place::Primary { .. } => LagSource::HeartbeatRow,
        Place::TestOnReplica { .. } => LagSource::ReplicaStatus,
    };
    ThrottlerSetup::new(
        &parts.settings.throttle,
        parts.host.pumps().clone(),
        Port::channel(abort),
    )
    .watching(WatchedServers {
        applier: Arc::clone(&parts.written),
        inspected: Arc::clone(&parts.inspected),
        changelog: parts.plan.names.changelog.clone(),
        lag,
    })
    .hearing(heartbeats.clone())
}

fn heartbeat_end(levers: Levers) -> OnExit {
    OnExit::call(move |exited: ActorExited| {
        if exited.status.is_failure() {
            levers.fault(ApplyError::Ended {
                what: "the heartbeat",
                status: exited.status,
            });
        }
    })
}

async fn watch_stream(
    exit: tokio::sync::oneshot::Receiver<ExitStatus>,
    levers: Levers,
    closing: CancellationToken,
) {
    let status = exit.await.unwrap_or(ExitStatus::Cancelled);
    if !closing.is_cancelled() {
        levers.fault(match status {
            ExitStatus::Failed(error) => ApplyError::Stream(error.to_string().into()),
            status => ApplyError::Ended {
                what: "the stream of changes",
                status,
            },
        });
    }
}

async fn watch_applier(mut exits: mpsc::Receiver<ActorExited>, levers: Levers, cancel: CancellationToken) {
    if let Some(exited) = exits.recv().await
        && !cancel.is_cancelled()
    {
        levers.fault(match exited.status {
            ExitStatus::Failed(error) => ApplyError::of_failure(&*error),
            status => ApplyError::Ended {
                what: "the applier",
                status,
            },
        });
    }
}

/// A statement of somebody else's on one of the tables ends the migration: its effect on the rows is not in the row
/// events, or the tables are no longer what was inspected.
async fn watch_statements(mut seen: mpsc::Receiver<Change>, levers: Levers, closing: CancellationToken) {
    while let Some(change) = seen.recv().await {
        let Change::Ddl { table, statement, .. } = change else {
            continue;
        };
        if closing.is_cancelled() {
            continue;
        }
        levers.fault(ApplyError::Statement(format!(
            "somebody else ran a statement on {table} that the migration cannot follow: {statement}; the original table \
             is in charge. Start again with --initially-drop-ghost-table"
        )));
    }
}
