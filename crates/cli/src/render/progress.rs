//! The progress bar's texts.

use std::time::Duration;

use changeling_applier::progress::{Eta, MigrationState, Phase};

use super::status;

/// What the bar shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BarView {
    /// What is going on.
    pub phase: &'static str,
    /// How much of it is done,
    pub position: u64,
    /// of how much.
    pub length: u64,
    /// The rest: rows, speed, time left, backlog, lag, and what holds it up.
    pub message: String,
}

/// What the bar shows for a state; `rows_per_second` is the caller's, who has seen earlier states.
#[must_use]
pub fn view(state: &MigrationState, rows_per_second: f64) -> BarView {
    let (proven, ranges) = state.verified;
    let (position, length) = match state.phase {
        Phase::Verifying => (proven, ranges),
        Phase::Preparing | Phase::CountingRows => (0, 1),
        Phase::Copying => (state.rows_copied, state.rows_estimate),
        _ => (1, 1),
    };
    let mut parts = vec![format!("{:.1}%", shown_percent(state.phase, position, length))];
    match state.phase {
        Phase::Copying => {
            parts.push(format!(
                "{}/{} rows",
                count(state.rows_copied),
                count(state.rows_estimate)
            ));
            parts.push(format!("{} rows/s", count(rows_per_second.max(0.0) as u64)));
            parts.push(eta(state.eta));
        }
        Phase::Verifying => parts.push(format!("{proven}/{ranges} ranges equal")),
        Phase::CuttingOver if state.cut_over_attempts > 0 => {
            parts.push(format!("attempt {}", state.cut_over_attempts));
        }
        _ => {}
    }
    parts.push(format!("{} keys waiting", count(state.backlog)));
    parts.push(format!("lag {}", seconds(state.lag.max(state.heartbeat_lag))));
    parts.extend(state.throttled.as_ref().map(|reason| format!("PAUSED: {reason}")));
    BarView {
        phase: phase(state.phase),
        position,
        length,
        message: parts.join(" · "),
    }
}

/// The bar as one line.
#[must_use]
pub fn line(view: &BarView) -> String {
    const WIDTH: u64 = 30;
    let filled =
        u128::from(WIDTH) * u128::from(view.position.min(view.length)) / u128::from(view.length.max(1));
    let bar: String = (0..u128::from(WIDTH))
        .map(|cell| match cell.cmp(&filled) {
            std::cmp::Ordering::Less => '=',
            std::cmp::Ordering::Equal => '>',
            std::cmp::Ordering::Greater => ' ',
        })
        .collect();
    format!("{} [{bar}] {}", view.phase, view.message)
}

fn shown_percent(phase: Phase, position: u64, length: u64) -> f64 {
    match phase {
        Phase::Preparing | Phase::CountingRows => 0.0,
        _ => status::percent(position, length).min(100.0),
    }
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Preparing => "preparing",
        Phase::CountingRows => "counting rows",
        Phase::Copying => "copying",
        Phase::BuildingIndexes => "building indexes",
        Phase::Verifying => "verifying",
        Phase::Postponing => "ready, swap postponed",
        Phase::CuttingOver => "swapping",
        Phase::Finishing => "cleaning up",
        Phase::Done => "done",
    }
}

fn eta(eta: Eta) -> String {
    match eta {
        Eta::Unknown => "time left unknown".into(),
        Eta::In(time) => format!("{} left", status::duration(time)),
        Eta::Due => "all but complete".into(),
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.2}s", time.as_secs_f64())
}

/// A count with thousands set apart.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            shown.push(' ');
        }
        shown.push(digit);
    }
    shown
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::status::tests::sample;
    use super::*;

    #[rstest]
    #[case(0, "0")]
    #[case(999, "999")]
    #[case(1000, "1 000")]
    #[case(1_234_567, "1 234 567")]
    fn thousands_are_set_apart(#[case] number: u64, #[case] shown: &str) {
        assert_eq!(count(number), shown);
    }

    #[test]
    fn every_phase_has_a_bar() {
        let phases = [
            Phase::Preparing,
            Phase::CountingRows,
            Phase::Copying,
            Phase::BuildingIndexes,
            Phase::Verifying,
            Phase::Postponing,
            Phase::CuttingOver,
            Phase::Finishing,
            Phase::Done,
        ];
        let shown: Vec<String> = phases
            .into_iter()
            .map(|phase| {
                let state = MigrationState {
                    phase,
                    verified: (12, 80),
                    cut_over_attempts: 2,
                    ..sample()
                };
                let bar = view(&state, 4211.7);
                line(&bar)
            })
            .collect();
        insta::assert_snapshot!(shown.join("\n"));
    }

    #[test]
    fn a_pause_is_shown_with_its_reason() {
        let state = MigrationState {
            phase: Phase::Copying,
            throttled: Some("max-load Threads_running=61 >= 50".into()),
            eta: Eta::Unknown,
            ..sample()
        };
        insta::assert_snapshot!(view(&state, 0.0).message);
    }
}
