//! Running a migration: the log, the socket, the signals and the screen around it.

use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use changeling_applier::control::grammar::CommandRules;
use changeling_applier::control::{ControlCommand, ControlReply};
use changeling_applier::migration::{Migration, MigrationHandle};
use changeling_applier::progress::{MigrationState, MigrationSummary, Phase};
use changeling_applier::server::{Role, Server};
use changeling_applier::settings::MigrationSettings;
use changeling_core::actor::{ActorHost, HostOptions};
use changeling_core::change_source::ChangeSource;
use changeling_differ::mysql::SameServerProof;
use changeling_streamer::{BinlogSource, BinlogSourceOptions, PositionBy};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::render::log::LogLevel;
use crate::render::screen::Screen;
use crate::render::status::{self, Scene};
use crate::render::{plan, progress};
use crate::serve::Control;
use crate::serve::socket::CommandSocket;
use crate::settings::{Launch, Note};
use crate::signal::Signals;

/// How often progress is looked at.
const TICK: Duration = Duration::from_secs(1);

/// A migration that has been started.
pub trait Running: Control + Clone {
    /// Its states as they come.
    fn states(&self) -> watch::Receiver<MigrationState>;

    /// Asks it to stop and leave the original table in charge.
    fn stop(&self);

    /// Waits for its end. Called once.
    fn outcome(&self) -> impl Future<Output = anyhow::Result<MigrationSummary>> + Send;
}

/// Runs a migration to its end.
///
/// # Errors
/// Why it failed, as `FATAL` shows it.
pub async fn run(launch: Launch, screen: &Screen) -> anyhow::Result<Ended> {
    for Note { level, text } in &launch.notes {
        match level {
            LogLevel::Info => tracing::info!("{text}"),
            _ => tracing::warn!("{text}"),
        }
    }
    tracing::info!("starting changeling {}", crate::version());
    let signals = Signals::listen()?;
    let socket = CommandSocket::bind(&launch.socket, launch.take_socket_over)?;
    tracing::info!("Listening on unix socket file: {}", socket.path().display());
    let rules = rules(&launch.migration);
    let migration = start(launch.migration)?;
    screen.show_bar(launch.progress);
    let ended = attend(migration, socket, rules, signals, screen).await;
    screen.hide_bar();
    ended
}

/// How it ended, if not with an error.
#[derive(Debug)]
pub enum Ended {
    /// By itself.
    Success,
    /// By the second signal, with this exit status.
    AtOnce(u8),
}

impl From<Ended> for ExitCode {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Success => Self::SUCCESS,
            Ended::AtOnce(status) => Self::from(status),
        }
    }
}

/// Starts the migration. The only place that knows where changes come from and who proves the result.
pub(crate) fn start(settings: MigrationSettings) -> anyhow::Result<Hosted> {
    let host = ActorHost::start(HostOptions::default()).context("cannot start the actors' thread")?;
    let (server_id, reconnects) = (settings.server_id, settings.max_reconnects);
    let by = if settings.gtid.granted() {
        PositionBy::Gtid
    } else {
        PositionBy::Auto
    };
    let source = Box::new(move |server: &Server| {
        let mut options = BinlogSourceOptions::new(server.opts(Role::Streamer), server_id);
        options.by = by;
        options.max_reconnects = reconnects;
        Arc::new(BinlogSource::new(options)) as Arc<dyn ChangeSource>
    });
    let handle = Migration::start(&host, settings, source, Arc::new(SameServerProof::new()));
    Ok(Hosted { handle, _host: host })
}

/// A migration and the host that its actors live on.
#[derive(Clone, Debug)]
pub(crate) struct Hosted {
    handle: MigrationHandle,
    _host: ActorHost,
}

impl Control for Hosted {
    fn state(&self) -> MigrationState {
        self.handle.state().borrow().clone()
    }

    async fn command(&self, command: ControlCommand) -> ControlReply {
        self.handle.command(command).await
    }
}

impl Running for Hosted {
    fn states(&self) -> watch::Receiver<MigrationState> {
        self.handle.state()
    }

    fn stop(&self) {
        self.handle.stop();
    }

    async fn outcome(&self) -> anyhow::Result<MigrationSummary> {
        Ok(self.handle.outcome().await?)
    }
}

fn rules(settings: &MigrationSettings) -> CommandRules {
    CommandRules {
        table: settings.table.table.clone(),
        named_cut_over: settings.force_named_cut_over,
        named_panic: settings.force_named_panic,
    }
}

/// Everything around a running migration, until it ends.
pub(crate) async fn attend<M: Running>(
    migration: M,
    socket: CommandSocket,
    rules: CommandRules,
    signals: Signals,
    screen: &Screen,
) -> anyhow::Result<Ended> {
    let scene = Scene::here(socket.path());
    let quit = CancellationToken::new();
    let _quit = quit.clone().drop_guard();
    let serving = tokio::spawn(socket.serve(migration.clone(), rules, scene.clone(), quit.clone()));
    let stop = CancellationToken::new();
    let second_signal = signals.watch(stop.clone());
    let stopper = async {
        stop.cancelled().await;
        migration.stop();
        std::future::pending::<()>().await;
    };
    let outcome = tokio::select! {
        outcome = migration.outcome() => outcome,
        status = second_signal => return Ok(Ended::AtOnce(status)),
        () = stopper => unreachable!("it only ends with the others"),
        () = report(migration.states(), &scene, screen) => unreachable!("it only ends with the others"),
    };
    quit.cancel();
    let _ = serving.await;
    screen.hide_bar();
    let summary = outcome?;
    if screen.wants_status_lines() {
        screen.print(&format!(
            "{}{}\n",
            status::hint(&summary.state, &scene.with_flag_files(&summary.state)),
            status::line(&summary.state)
        ));
    }
    tracing::info!("{}", plan::outcome(&summary));
    screen.print(&plan::ending(&summary));
    Ok(Ended::Success)
}

/// Shows progress, for ever.
async fn report(mut states: watch::Receiver<MigrationState>, scene: &Scene, screen: &Screen) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut reporter = Reporter::new();
    loop {
        ticks.tick().await;
        let state = states.borrow_and_update().clone();
        reporter.show(&state, scene, screen);
    }
}

/// What must be remembered between two looks.
struct Reporter {
    started: bool,
    phase: Phase,
    since_event: Instant,
    rows: u64,
    rate: f64,
    looked: Instant,
    second: Option<u64>,
}

impl Reporter {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            started: false,
            phase: Phase::Preparing,
            since_event: now,
            rows: 0,
            rate: 0.0,
            looked: now,
            second: None,
        }
    }

    fn show(&mut self, state: &MigrationState, scene: &Scene, screen: &Screen) {
        self.measure(state);
        screen.update_bar(&progress::view(state, self.rate));
        if self.phase != state.phase {
            self.phase = state.phase;
            self.since_event = Instant::now();
        }
        // Until the tables are known there is nothing to tell; a second is told about once.
        let second = state.elapsed.as_secs();
        if state.names.is_none() || self.second == Some(second) || !screen.wants_status_lines() {
            return;
        }
        self.second = Some(second);
        if !self.started || status::hint_is_due(state) {
            screen.print(&status::hint(state, &scene.with_flag_files(state)));
        }
        if !self.started || status::line_is_due(state, self.since_event.elapsed()) {
            let line = status::line(state);
            screen.print(&format!("{line}\n"));
            tracing::info!("{line}");
        }
        self.started = true;
    }

    /// Rows a second, smoothed over about five looks.
    fn measure(&mut self, state: &MigrationState) {
        const NEWEST: f64 = 0.2;
        let seconds = self.looked.elapsed().as_secs_f64();
        if seconds > 0.0 {
            let now = state.rows_copied.saturating_sub(self.rows) as f64 / seconds;
            self.rate = if self.rows == 0 {
                now
            } else {
                self.rate + NEWEST * (now - self.rate)
            };
        }
        self.rows = state.rows_copied;
        self.looked = Instant::now();
    }
}

#[cfg(test)]
mod tests;
