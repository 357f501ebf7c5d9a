//! gh-ost's status line and block of settings, to the letter: scripts read them.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use changeling_applier::control::operand;
use changeling_applier::progress::{Eta, MigrationState, Phase};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// What the block of settings tells beside the migration's state.
#[derive(Clone, Debug)]
pub struct Scene {
    /// This machine's name.
    pub executing_on: String,
    /// The time zone of times that are shown.
    pub time_zone: TimeZone,
    /// Where commands are taken.
    pub socket: String,
    /// The flag files that exist.
    pub set_files: BTreeSet<String>,
}

impl Scene {
    /// Looks around on this machine.
    #[must_use]
    pub fn here(socket: &Path) -> Self {
        let executing_on = std::fs::read_to_string("/proc/sys/kernel/hostname")
            .map(|name| name.trim().to_owned())
            .ok()
            .or_else(|| std::env::var("HOSTNAME").ok())
            .unwrap_or_else(|| "localhost".to_owned());
        let socket = socket.display().to_string();
        Self {
            executing_on,
            time_zone: TimeZone::system(),
            socket,
            set_files: BTreeSet::new(),
        }
    }

    /// The same with the flag files of this state that exist now.
    #[must_use]
    pub fn with_flag_files(&self, state: &MigrationState) -> Self {
        let settings = &state.settings;
        let files = [
            &settings.throttle_flag_file,
            &settings.throttle_additional_flag_file,
            &settings.postpone_flag_file,
        ];
        let set_files = files
            .into_iter()
            .flatten()
            .filter(|file| Path::new(file.as_str()).exists())
            .cloned()
            .collect();
        Self {
            set_files,
            ..self.clone()
        }
    }
}

/// The status line, without a line end.
#[must_use]
pub fn line(state: &MigrationState) -> String {
    let percent = percent(state.rows_copied, state.rows_estimate);
    let (activity, eta) = activity_and_eta(state);
    format!(
        "Copy: {}/{} {percent:.1}%; Applied: {}; Backlog: {}/{}; Time: {}(total), {}(copy); streamer: {}; Lag: \
         {:.2}s, HeartbeatLag: {:.2}s, State: {activity}; ETA: {eta}",
        state.rows_copied,
        state.rows_estimate,
        state.events_applied,
        state.backlog,
        state.backlog_capacity,
        duration(state.elapsed),
        duration(state.elapsed_copy),
        state.coordinates,
        state.lag.as_secs_f64(),
        state.heartbeat_lag.as_secs_f64(),
    )
}

/// Part of a whole, which is everything when there is nothing.
#[must_use]
pub(super) fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        100.0
    } else {
        100.0 * part as f64 / whole as f64
    }
}

/// What the line says after `State:` and `ETA:`. gh-ost has no words for phases that it does not have.
fn activity_and_eta(state: &MigrationState) -> (String, String) {
    let eta = eta(state.eta);
    match (state.phase, &state.throttled) {
        (Phase::CountingRows, _) => ("counting rows".into(), eta),
        (Phase::Postponing, _) => ("postponing cut-over".into(), "due".into()),
        (_, Some(reason)) => (format!("throttled, {reason}"), eta),
        (Phase::BuildingIndexes, None) => ("building indexes".into(), eta),
        (Phase::Verifying, None) => {
            let (proven, all) = state.verified;
            (format!("verifying, {proven}/{all} ranges"), eta)
        }
        _ => ("migrating".into(), eta),
    }
}

/// An ETA as gh-ost writes it.
#[must_use]
pub fn eta(eta: Eta) -> String {
    match eta {
        Eta::Unknown => "N/A".into(),
        Eta::In(time) if time.as_secs() > 0 => duration(time),
        Eta::In(_) | Eta::Due => "due".into(),
    }
}

/// A duration as Go writes it, in whole seconds: `0s`, `2m5s`, `1h0m5s`.
#[must_use]
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// The block of settings that goes before the status line now and then, with line ends.
#[must_use]
pub fn hint(state: &MigrationState, scene: &Scene) -> String {
    let settings = &state.settings;
    let mut lines = Vec::new();
    if let Some(names) = &state.names {
        lines.push(format!(
            "# Migrating {}; Ghost table is {}",
            names.original.quoted(),
            names.ghost.quoted()
        ));
    }
    lines.push(format!(
        "# Migrating {}; inspecting {}; executing on {}",
        state.applier.address, state.inspector.address, scene.executing_on
    ));
    lines.push(format!(
        "# Migration started at {}",
        started_at(state, &scene.time_zone)
    ));
    lines.push(format!(
        "# chunk-size: {}; max-lag-millis: {}ms; dml-batch-size: {}; max-load: {}; critical-load: {}; \
         nice-ratio: {:.6}",
        settings.chunk_size,
        settings.max_lag.as_millis(),
        settings.dml_batch_size,
        operand::load_limits_text(&settings.max_load),
        operand::load_limits_text(&settings.critical_load),
        settings.nice_ratio,
    ));
    let file = |name: &str, path: &Option<String>| {
        path.as_ref().map(|path| {
            let set = if scene.set_files.contains(path) {
                "[set]"
            } else {
                ""
            };
            format!("# {name}: {path} {set}")
        })
    };
    lines.extend(file("throttle-flag-file", &settings.throttle_flag_file));
    lines.extend(file(
        "throttle-additional-flag-file",
        &settings.throttle_additional_flag_file,
    ));
    lines.extend(
        settings
            .throttle_query
            .as_ref()
            .map(|query| format!("# throttle-query: {query}")),
    );
    if !settings.control_replicas.is_empty() {
        lines.push(format!(
            "# throttle-control-replicas count: {}",
            settings.control_replicas.len()
        ));
    }
    lines.extend(file("postpone-cut-over-flag-file", &settings.postpone_flag_file));
    lines.extend(
        settings
            .panic_flag_file
            .as_ref()
            .map(|path| format!("# panic-flag-file: {path}")),
    );
    lines.push(format!("# Serving on unix socket: {}", scene.socket));
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Go's `RubyDate`.
fn started_at(state: &MigrationState, zone: &TimeZone) -> String {
    Timestamp::from_microsecond(state.started_at_micros)
        .map(|start| {
            start
                .to_zoned(zone.clone())
                .strftime("%a %b %d %H:%M:%S %z %Y")
                .to_string()
        })
        .unwrap_or_default()
}

/// When a status line is due, as in gh-ost: often at the beginning, towards the end, and after something has
/// happened; rarely in between.
#[must_use]
pub fn line_is_due(state: &MigrationState, since_event: Duration) -> bool {
    let elapsed = state.elapsed.as_secs();
    let eta = match (state.phase, state.eta) {
        (Phase::Postponing, _) | (_, Eta::Unknown | Eta::Due) => 0,
        (_, Eta::In(time)) => time.as_secs(),
    };
    if elapsed <= 60 || eta <= 60 {
        true
    } else if eta <= 180 || elapsed <= 180 || since_event.as_secs() <= 60 {
        elapsed.is_multiple_of(5)
    } else {
        elapsed.is_multiple_of(30)
    }
}

/// When the block of settings is due: every ten minutes.
#[must_use]
pub fn hint_is_due(state: &MigrationState) -> bool {
    state.elapsed.as_secs().is_multiple_of(600)
}

#[cfg(test)]
pub(crate) mod tests;
