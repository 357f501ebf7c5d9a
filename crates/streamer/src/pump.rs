//! The data plane of a stream: connect, read, deliver, connect again.
//!
//! A batch, once made, is delivered whatever becomes of the connection; only what was read of a transaction
//! whose end was not is read again. If part of it had been delivered already, because it is large, that
//! part is delivered once more. For whoever learns keys or writes images idempotently that is harmless;
//! `upto` did not move with the first delivery, so that it is also visible.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use bytes::Bytes;
use changeling_core::actor::{ExitStatus, InFlight, Port, PortClosed};
use changeling_core::change::{Applied, Change, ChangeBatch};
use changeling_core::change_source::{SourceError, StreamSpec, StreamState};
use changeling_core::coords::{Coordinates, Gtids};
use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::binlog::dump::{Dump, is_heartbeat};
use crate::binlog::position::{Inquiry, Server};
use crate::binlog::transaction::{Bounds, Progress, Transactions};
use crate::binlog::watched::Watched;
use crate::binlog::witness::Found;
use crate::error::{ErrorKind, Retry, StreamError};
use crate::options::{BinlogSourceOptions, PositionBy};

/// Where nothing of interest happens the position still moves on, at most so often.
const QUIET_BATCH: Duration = Duration::from_millis(500);
/// How often the published state is renewed while events pour in.
const STATE_EVERY: Duration = Duration::from_millis(100);
/// How long a transaction that was read may take to be committed, before its server is taken for another.
const COMMIT_PATIENCE: Duration = Duration::from_secs(15);
/// First pause before connecting again; it doubles with each failure.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Why a pump ends.
enum End {
    /// Nobody takes the batches any more.
    Closed,
    Failed(StreamError),
}

impl From<StreamError> for End {
    fn from(error: StreamError) -> Self {
        Self::Failed(error)
    }
}

/// A stream under way.
pub(crate) struct BinlogPump {
    options: BinlogSourceOptions,
    at: Coordinates,
    spec: StreamSpec,
    out: Outlet,
}

/// The delivering half: batches, their answers, and what is told of them.
struct Outlet {
    changes: Port<ChangeBatch>,
    state: watch::Sender<StreamState>,
    seq: u64,
    in_flight: VecDeque<(InFlight<Applied>, Coordinates, u64)>,
    last_upto: Option<Coordinates>,
    last_batch: Instant,
    last_state: Instant,
    last_read: Instant,
    stall: Stall,
    now: StreamState,
}

/// How long nothing came but signs of life. The server is asked twice before it is given up: what it has may just be on its
/// way.
#[derive(Clone, Copy, Debug)]
struct Stall {
    since: Instant,
    /// When the server had more than it sent, last time it was asked.
    had_more: bool,
}

impl Stall {
    fn none() -> Self {
        Self {
            since: Instant::now(),
            had_more: false,
        }
    }
}

impl BinlogPump {
    pub(crate) fn new(
        options: BinlogSourceOptions,
        spec: StreamSpec,
        mut at: Coordinates,
        changes: Port<ChangeBatch>,
        state: watch::Sender<StreamState>,
    ) -> Self {
        if options.by == PositionBy::File {
            at.gtids = Gtids::None;
        }
        let now = Instant::now();
        let out = Outlet {
            changes,
            state,
            seq: 0,
            in_flight: VecDeque::new(),
            last_upto: Some(at.clone()),
            last_batch: now,
            last_state: now,
            last_read: now,
            stall: Stall::none(),
            now: StreamState::default(),
        };
        Self {
            options,
            at,
            spec,
            out,
        }
    }

    pub(crate) async fn run(mut self, cancel: CancellationToken) -> ExitStatus {
        match cancel.run_until_cancelled(self.follow()).await {
            None => ExitStatus::Cancelled,
            Some(End::Closed) => ExitStatus::DownstreamClosed,
            Some(End::Failed(error)) => ExitStatus::failed(SourceError::from(error)),
        }
    }

    /// Reads until it cannot go on.
    async fn follow(&mut self) -> End {
        let mut stream: Option<(Transactions, Server)> = None;
        let mut failures = 0;
        let mut progress = 0;
        loop {
            let end = self.session(&mut stream).await;
            let read = stream
                .as_ref()
                .map_or(0, |(transactions, _)| transactions.transactions);
            if read > progress {
                failures = 0;
                progress = read;
            }
            let error = match end {
                End::Closed => return End::Closed,
                End::Failed(error) => error,
            };
            if error.kind().retry() == Retry::Stop {
                return self.leave(stream, error).await;
            }
            failures += 1;
            if self.options.max_reconnects.is_some_and(|most| failures > most) {
                let error = error.after(failures);
                return self.leave(stream, error).await;
            }
            let pause = self.pause(failures);
            tracing::warn!(%error, failures, ?pause, "the binary log stream broke; connecting again");
            self.out.now.reconnects += 1;
            if let Some((transactions, _)) = &mut stream {
                transactions.reconnected();
            }
            sleep(pause).await;
        }
    }

    /// Hands over what is whole, then fails.
    async fn leave(&mut self, stream: Option<(Transactions, Server)>, error: StreamError) -> End {
        if let Some((mut transactions, _)) = stream {
            transactions.reconnected();
            if !transactions.ready.changes.is_empty()
                && let Err(end) = self.out.deliver(&mut transactions).await
            {
                return end;
            }
            self.out.publish(&transactions);
        }
        End::Failed(error)
    }

    /// Doubles with each failure, and is spread so that many streams do not knock at once.
    fn pause(&self, failures: u32) -> Duration {
        let doubled = FIRST_PAUSE.saturating_mul(1 << failures.min(16).saturating_sub(1));
        let most = doubled.min(self.options.max_backoff);
        let half = most / 2;
        let random = RandomState::new().hash_one(failures) % 1000;
        half + half.mul_f64(random as f64 / 1000.0)
    }

    /// One connection, from its beginning to its end.
    async fn session(&mut self, stream: &mut Option<(Transactions, Server)>) -> End {
        match self.connect(stream).await {
            Ok((mut dump, transactions)) => match self.out.read(&self.options, &mut dump, transactions).await
            {
                Ok(never) => match never {},
                Err(end) => end,
            },
            Err(error) => End::Failed(error),
        }
    }

    async fn connect<'a>(
        &mut self,
        stream: &'a mut Option<(Transactions, Server)>,
    ) -> Result<(Dump, &'a mut Transactions), StreamError> {
        let mut inquiry = Inquiry::open(&self.options).await?;
        let server = inquiry.server.clone();
        if let Some((_, former)) = stream.as_ref() {
            same_server(former, &server, &self.at)?;
        }
        let known = stream
            .as_ref()
            .filter(|(_, former)| former.identity == server.identity);
        let at = stream
            .as_ref()
            .map_or(&self.at, |(transactions, _)| transactions.position());
        let mut checked = check_patiently(&mut inquiry, at, self.options.by).await;
        if let (Ok(()), Some((transactions, _))) = (&checked, known) {
            checked = same_history(&self.options, &mut inquiry, transactions).await;
        }
        inquiry.close().await;
        checked?;
        let dump = Dump::start(&self.options, &server, at).await?;
        tracing::info!(at = %at, gtids = %at.gtids, "reading the binary log");
        if stream.is_none() {
            let watched = Watched::new(self.spec.clone(), server.fold_case)?;
            let bounds = Bounds {
                prepared_bytes: self.options.max_prepared_bytes,
                uncompressed_bytes: self.options.max_uncompressed_bytes,
                known_prepared: self.options.known_prepared.clone(),
            };
            *stream = Some((Transactions::new(watched, bounds, self.at.clone()), server));
        }
        match stream {
            Some((transactions, _)) => Ok((dump, transactions)),
            None => Err(StreamError::new(ErrorKind::Settings, "the stream has no state")),
        }
    }
}

/// A transaction may be read from the log before its commit has ended, under semi-synchronous replication
/// long before. A server asked in between does not count it as executed: what looks like a server set
/// back is asked again for a while.
async fn check_patiently(inquiry: &mut Inquiry, at: &Coordinates, by: PositionBy) -> Result<(), StreamError> {
    let asked = Instant::now();
    loop {
        match inquiry.check(at, by).await {
            Err(error) if error.kind() == ErrorKind::OtherServer && asked.elapsed() < COMMIT_PATIENCE => {
                sleep(FIRST_PAUSE).await;
            }
            verdict => return verdict,
        }
    }
}

/// Whether the server still has what was read of it last ([`crate::binlog::witness`]). If the file is gone it cannot be
/// asked; then the check of the position must do, which has just been made.
async fn same_history(
    options: &BinlogSourceOptions,
    inquiry: &mut Inquiry,
    transactions: &Transactions,
) -> Result<(), StreamError> {
    let witness = transactions.witness();
    // A stream by file and offset cannot begin beyond 4 GiB.
    let Some(place) = witness.place().filter(|place| u32::try_from(place.pos).is_ok()) else {
        return Ok(());
    };
    if inquiry.has_purged(&place.file).await? {
        tracing::warn!(%place, "the log that was read last was purged; nobody can tell whether its server was set back");
        return Ok(());
    }
    let why = match witness.find(options, &inquiry.server, place.clone()).await? {
        Found::Same => return Ok(()),
        Found::Another => String::new(),
        Found::Refused(error) => format!(" ({})", error.what()),
    };
    let message = format!(
        "the server does not have the transaction that was read of it at {place}{why}: it was set back, or its log was \
         reset, and what happened since then was not read"
    );
    Err(StreamError::new(ErrorKind::OtherServer, message))
}

/// Offsets mean nothing on another server; GTIDs are checked against what it has.
fn same_server(former: &Server, now: &Server, at: &Coordinates) -> Result<(), StreamError> {
    if at.gtids == Gtids::None && former.identity != now.identity {
        let message = format!(
            "server {} answers where {} was read by file and offset",
            now.identity, former.identity
        );
        return Err(StreamError::new(ErrorKind::OtherServer, message));
    }
    Ok(())
}

impl Outlet {
    /// Reads and delivers until the connection or the receiver fails.
    async fn read(
        &mut self,
        options: &BinlogSourceOptions,
        dump: &mut Dump,
        transactions: &mut Transactions,
    ) -> Result<std::convert::Infallible, End> {
        self.last_read = Instant::now();
        self.stall = Stall::none();
        loop {
            let progress = if transactions.has_inner() {
                transactions.accept_inner()?
            } else {
                let event = self.next(options, dump, transactions).await?;
                self.now.events += 1;
                self.now.bytes += event.len() as u64;
                transactions.accept(&event)?
            };
            let full = transactions.ready.changes.len() >= options.batch_changes
                || transactions.ready.bytes >= options.batch_bytes;
            if full || progress == Progress::Ended && self.is_quiet(transactions) {
                self.deliver(transactions).await?;
            }
        }
    }

    /// Whether it is time to tell the position although there is nothing else to tell.
    fn is_quiet(&self, transactions: &Transactions) -> bool {
        transactions.ready.changes.is_empty() && self.last_batch.elapsed() >= QUIET_BATCH
    }

    /// The next event. If none is there yet, what is whole is delivered before waiting.
    async fn next(
        &mut self,
        options: &BinlogSourceOptions,
        dump: &mut Dump,
        transactions: &mut Transactions,
    ) -> Result<Bytes, End> {
        if let Some(event) = dump.buffered()? {
            return self.read_one(event, transactions);
        }
        if let Some(event) = dump.next().now_or_never() {
            return self.read_one(event?, transactions);
        }
        if transactions.is_between() && !transactions.ready.changes.is_empty() {
            self.deliver(transactions).await?;
        }
        loop {
            self.publish(transactions);
            let due = self.last_batch + QUIET_BATCH;
            let behind = transactions.is_between() && self.last_upto.as_ref() != Some(&transactions.upto());
            tokio::select! {
                event = dump.next() => return self.read_one(event?, transactions),
                () = sleep_until(due), if behind => self.deliver(transactions).await?,
                () = sleep_until(self.stall.since + options.stall) => {
                    if dump.is_within_an_event() {
                        self.stall = Stall::none();
                    } else {
                        self.ask_for_more(options, transactions).await?;
                    }
                }
                answer = answered(&mut self.in_flight) => self.taken_over(answer)?,
            }
        }
    }

    /// Nothing came for a while. Fails if that is not because there is nothing.
    async fn ask_for_more(
        &mut self,
        options: &BinlogSourceOptions,
        transactions: &Transactions,
    ) -> Result<(), End> {
        let mut inquiry = Inquiry::open(options).await?;
        let mut more = check_patiently(&mut inquiry, transactions.position(), options.by)
            .await
            .map(|()| false);
        if more.is_ok() {
            more = inquiry
                .has_more(transactions.position(), &transactions.read_to())
                .await;
        }
        inquiry.close().await;
        let had_more = more?;
        if had_more && self.stall.had_more {
            let message = "the server has more in its log, and sent nothing but signs of life for a while";
            return Err(StreamError::new(ErrorKind::Silent, message).into());
        }
        self.stall = Stall {
            had_more,
            ..Stall::none()
        };
        Ok(())
    }

    fn read_one(&mut self, event: Bytes, transactions: &Transactions) -> Result<Bytes, End> {
        self.last_read = Instant::now();
        if !is_heartbeat(&event) {
            self.stall = Stall::none();
        }
        if self.last_state.elapsed() >= STATE_EVERY {
            self.publish(transactions);
        }
        Ok(event)
    }

    /// Makes a batch of all that is ready, and waits until the receiver has room for it.
    async fn deliver(&mut self, transactions: &mut Transactions) -> Result<(), End> {
        let upto = transactions.upto();
        let (changes, bytes) = transactions.ready.take();
        let rows = changes
            .iter()
            .filter(|change| matches!(change, Change::Row { .. }))
            .count() as u64;
        self.seq += 1;
        let bytes = bytes + size_of::<ChangeBatch>();
        let batch = ChangeBatch {
            seq: self.seq,
            changes,
            upto: upto.clone(),
            bytes,
        };
        // Before the receiver can see the batch: what it asks us then is not older than what it has.
        self.publish(transactions);
        let answer = self.changes.send(batch).await.map_err(|_| End::Closed)?;
        self.in_flight.push_back((answer, upto.clone(), rows));
        self.last_upto = Some(upto);
        self.last_batch = Instant::now();
        self.settle()
    }

    /// Takes note of the answers that are there.
    fn settle(&mut self) -> Result<(), End> {
        while let Some(answer) = answered(&mut self.in_flight).now_or_never() {
            self.taken_over(answer)?;
        }
        Ok(())
    }

    /// The oldest batch on its way was answered.
    fn taken_over(&mut self, answer: Result<Applied, PortClosed>) -> Result<(), End> {
        answer.map_err(|PortClosed| End::Closed)?;
        if let Some((_, upto, rows)) = self.in_flight.pop_front() {
            self.now.delivered = Some(upto);
            self.now.rows += rows;
        }
        Ok(())
    }

    fn publish(&mut self, transactions: &Transactions) {
        self.last_state = Instant::now();
        self.now.received = Some(transactions.position().clone());
        self.now.transactions = transactions.transactions;
        self.now.prepared = transactions.prepared();
        self.now.silent_for = self.last_read.elapsed();
        self.state.send_replace(self.now.clone());
    }
}

/// Waits for the answer to the oldest batch on its way; for ever if there is none.
async fn answered(
    in_flight: &mut VecDeque<(InFlight<Applied>, Coordinates, u64)>,
) -> Result<Applied, PortClosed> {
    match in_flight.front_mut() {
        Some((answer, _, _)) => answer.await,
        None => std::future::pending().await,
    }
}
