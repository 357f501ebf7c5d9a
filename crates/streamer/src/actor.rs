//! The streamer: the actor that owns a stream.

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message};
use changeling_core::actor::{ActorExited, ExitStatus, Observe, Port, Pump, Pumps, answer_get_state};
use changeling_core::change::ChangeBatch;
use changeling_core::change_source::{StreamSpec, StreamState};
use changeling_core::coords::Coordinates;
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::pump::BinlogPump;
use crate::source::BinlogSource;

const NAME: &str = "streamer";

type Told = Box<dyn FnOnce(ExitStatus) + Send>;

/// Asks a [`Streamer`] to end. What was read and not yet delivered is dropped.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct StopStreaming;

/// Reads a server's binary log and delivers whole transactions.
///
/// * **Messages in**: [`StopStreaming`]; [`GetState`](changeling_core::actor::GetState) for [`StreamerState`].
/// * **Ports out**: `changes`, each [`ChangeBatch`] once and in order. Its window is the backpressure: while
///   the receiver gives no credit, nothing is read. An embedder reads rows from a channel of its own with
///   [`Port::channel`].
/// * **What it owns**: one replication connection and, while it connects, one for questions; the rows of
///   undecided XA transactions, bounded by `max_prepared_bytes`; one batch.
/// * **What survives a restart**: nothing in memory, by design. A new streamer is started from the `upto`
///   of the last batch that was taken over, and delivers everything after it. Broken connections are no
///   restart: the stream goes on by itself after the last whole transaction.
/// * **How it ends**: `Cancelled` when asked to; `DownstreamClosed` when nobody takes the batches;
///   `Failed` with a [`SourceError`](changeling_core::change_source::SourceError) whose text says what, where
///   and what to do. It never ends by itself with success: a log has no end. The end is told once to
///   [`Streamer::exits_to`].
pub struct Streamer {
    pumps: Pumps,
    work: Option<BinlogPump>,
    pump: Option<Pump>,
    cancel: CancellationToken,
    state: watch::Receiver<StreamState>,
    exited: Option<Told>,
    ended: Option<ExitStatus>,
}

/// What a streamer tells of itself.
#[derive(Clone, Debug, Serialize)]
pub struct StreamerState {
    /// The stream.
    pub stream: StreamState,
    /// Whether the pump runs.
    pub running: bool,
    /// How it ended, if it has.
    pub ended: Option<ExitStatus>,
}

impl Streamer {
    /// A streamer that will begin at `at` once it is spawned.
    #[must_use]
    pub fn new(
        source: BinlogSource,
        spec: StreamSpec,
        at: Coordinates,
        changes: Port<ChangeBatch>,
        pumps: Pumps,
    ) -> Self {
        let (told, state) = watch::channel(StreamState::default());
        let work = BinlogPump::new(source.options().clone(), spec, at, changes, told);
        Self {
            pumps,
            work: Some(work),
            pump: None,
            cancel: CancellationToken::new(),
            state,
            exited: None,
            ended: None,
        }
    }

    /// What to call when it has ended, once.
    #[must_use]
    pub fn exits_to(mut self, told: impl FnOnce(ExitStatus) + Send + 'static) -> Self {
        self.exited = Some(Box::new(told));
        self
    }

    /// The newest state of the stream; it can be watched from any thread.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<StreamState> {
        self.state.clone()
    }

    /// Cancelling it ends the stream, as [`StopStreaming`] does.
    #[must_use]
    pub fn cancel_token(&self) -> CancellationToken {
        self.cancel.clone()
    }
}

impl Actor for Streamer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Some(work) = self.work.take() else { return };
        let run = work.run(self.cancel.clone());
        let exited = ctx.address().recipient::<ActorExited>();
        self.pump = Some(Pump::spawn(&self.pumps, NAME, self.cancel.clone(), run, exited));
    }
}

impl Handler<ActorExited> for Streamer {
    type Result = ();

    fn handle(&mut self, exited: ActorExited, ctx: &mut Self::Context) {
        self.ended = Some(exited.status.clone());
        self.pump = None;
        if let Some(told) = self.exited.take() {
            told(exited.status);
        }
        ctx.stop();
    }
}

impl Handler<StopStreaming> for Streamer {
    type Result = ();

    fn handle(&mut self, _: StopStreaming, _: &mut Self::Context) {
        self.cancel.cancel();
    }
}

impl Observe for Streamer {
    type State = StreamerState;

    fn observe(&self) -> StreamerState {
        StreamerState {
            stream: self.state.borrow().clone(),
            running: self.pump.is_some(),
            ended: self.ended.clone(),
        }
    }
}

answer_get_state!(Streamer);

impl std::fmt::Debug for Streamer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streamer")
            .field("state", &*self.state.borrow())
            .finish_non_exhaustive()
    }
}
