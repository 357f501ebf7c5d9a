//! The snapshot of a migration, put together from what its parts say.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::crew::Instruments;
use super::levers::Levers;
use crate::progress::{Eta, MigrationState, Phase};
use crate::settings::MigrationSettings;

/// How often the snapshot is made.
const TICK: Duration = Duration::from_millis(200);
/// Below this share of the rows nothing can be said about the end; gh-ost's.
const TOO_EARLY: f64 = 0.001;

/// The state before anything is known.
pub(super) fn initial(settings: &MigrationSettings) -> MigrationState {
    let mut state = MigrationState {
        started_at_micros: jiff::Timestamp::now().as_microsecond(),
        ..MigrationState::default()
    };
    let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let live = &mut state.settings;
    live.chunk_size = settings.copy.chunk_size;
    live.dml_batch_size = settings.batch_keys;
    live.max_lag = settings.throttle.max_lag;
    live.nice_ratio = settings.throttle.nice_ratio;
    live.max_load = settings.throttle.max_load.clone();
    live.critical_load = settings.throttle.critical_load.clone();
    live.throttle_query = settings.throttle.query.clone();
    live.control_replicas = settings
        .throttle
        .control_replicas
        .iter()
        .map(|(host, port)| format!("{host}:{port}"))
        .collect();
    live.throttle_flag_file = path(&settings.throttle.flag_file);
    live.throttle_additional_flag_file = path(&settings.throttle.additional_flag_file);
    live.postpone_flag_file = path(&settings.cut_over.postpone_flag_file);
    live.panic_flag_file = path(&settings.throttle.panic_flag_file);
    state
}

/// What snapshots are made of.
#[derive(Clone, Debug)]
pub(super) struct Snapshots {
    pub state: watch::Sender<MigrationState>,
    pub levers: Levers,
    pub instruments: Instruments,
    pub began: Instant,
}

impl Snapshots {
    /// Keeps the snapshot fresh until the crew is dropped.
    pub(super) async fn keep_fresh(self) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut pace = Pace::default();
        loop {
            ticks.tick().await;
            self.take(&mut pace);
        }
    }

    /// Makes the last one, which the summary shows.
    pub(super) fn last(&self) {
        self.take(&mut Pace::default());
    }

    fn take(&self, pace: &mut Pace) {
        self.state
            .send_modify(|state| refresh(state, &self.levers, &self.instruments, self.began, pace));
    }
}

/// Copies what the parts say into the snapshot.
fn refresh(
    state: &mut MigrationState,
    levers: &Levers,
    parts: &Instruments,
    began: Instant,
    pace: &mut Pace,
) {
    state.elapsed = began.elapsed();
    let progress = parts.copy.borrow();
    state.rows_copied = progress.rows;
    drop(progress);
    if state.phase == Phase::Copying {
        if let Some(copying) = *parts.copying_since.borrow() {
            state.elapsed_copy = copying.elapsed();
        }
        state.eta = pace.eta(state.rows_copied, state.rows_estimate, state.elapsed_copy);
    } else if state.phase > Phase::Copying {
        state.rows_estimate = state.rows_estimate.max(state.rows_copied);
        state.eta = Eta::Due;
    }
    let cycles = parts.cycles.borrow();
    {
        let pending = parts.backlog.lock();
        state.events_applied = parts.events_before + pending.events();
        state.backlog = (pending.len() + cycles.in_hand) as u64;
        let per_key = if pending.is_empty() {
            0
        } else {
            pending.bytes() / pending.len()
        };
        state.backlog_capacity = (parts.backlog.capacity() / per_key.max(100)) as u64;
    }
    drop(cycles);
    let stream = parts.stream.borrow();
    if let Some(coordinates) = stream.received.as_ref().or(stream.delivered.as_ref()) {
        state.coordinates = coordinates.to_string();
    }
    drop(stream);
    let throttler = parts.throttler.borrow();
    state.lag = throttler.lag;
    state.heartbeat_lag = throttler.heartbeat_lag;
    state.throttled = throttler.throttled.copy.as_ref().map(ToString::to_string);
    drop(throttler);
    let proof = parts.proof.borrow();
    state.verified = (
        proof.rows,
        if proof.ranges == 0 {
            0
        } else {
            state.rows_estimate.max(proof.rows)
        },
    );
    drop(proof);
    state.settings.chunk_size = levers.copy.size().rows();
    state.settings.nice_ratio = levers.copy.nice_ratio();
    state.settings.dml_batch_size = levers.batch_keys.load(Ordering::Relaxed);
    let postponement = levers.postponement.borrow();
    state.settings.postpone_flag_file = postponement.file.as_ref().map(|path| path.display().to_string());
}

/// How fast rows are copied: over the last seconds where something is known of them, else on average.
#[derive(Debug, Default)]
struct Pace {
    last: Option<(Instant, u64)>,
    rate: f64,
}

impl Pace {
    const WINDOW: Duration = Duration::from_secs(1);

    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn eta(&mut self, copied: u64, estimate: u64, elapsed: Duration) -> Eta {
        match self.last {
            Some((since, rows)) if since.elapsed() >= Self::WINDOW => {
                self.rate = copied.saturating_sub(rows) as f64 / since.elapsed().as_secs_f64();
                self.last = Some((Instant::now(), copied));
            }
            None => self.last = Some((Instant::now(), copied)),
            _ => {}
        }
        if estimate == 0 || (copied as f64) < TOO_EARLY * estimate as f64 {
            return Eta::Unknown;
        }
        if copied >= estimate {
            return Eta::Due;
        }
        let average = copied as f64 / elapsed.as_secs_f64().max(1e-3);
        let rate = if self.rate > 0.0 { self.rate } else { average };
        let left = (estimate - copied) as f64 / rate.max(1e-3);
        Duration::try_from_secs_f64(left).map_or(Eta::Unknown, Eta::In)
    }
}
