//! The bar while tables are compared.

use std::time::{Duration, Instant};

use changeling_differ::engine::DiffState;
use tokio::sync::watch;

use crate::render::progress::count;
use crate::render::screen::Screen;
use crate::render::status;

/// Time between two looks: the eye does not follow more.
const STEP: Duration = Duration::from_millis(200);

/// Shows the state until it is dropped or the job is done.
pub(super) async fn show(state: watch::Receiver<DiffState>, estimate: f64, screen: Screen) {
    let began = Instant::now();
    let mut throttled = None;
    loop {
        tokio::time::sleep(STEP).await;
        let now = state.borrow().clone();
        screen.update_bar_text(&line(&now, estimate, began.elapsed()));
        // Where there is no bar a job that waits must not look like one that hangs.
        if now.throttled.is_some() != std::mem::replace(&mut throttled, now.throttled.clone()).is_some()
            && screen.wants_status_lines()
        {
            match &throttled {
                Some(reason) => tracing::warn!(%reason, "throttled: no range is given out"),
                None => tracing::warn!("not throttled any more"),
            }
        }
        if now.done {
            return;
        }
    }
}

/// Rows, rate, time left, differences.
fn line(state: &DiffState, estimate: f64, elapsed: Duration) -> String {
    let rows = state.rows.iter().copied().max().unwrap_or(0);
    let rate = rows as f64 / elapsed.as_secs_f64().max(0.001);
    let mut parts = Vec::new();
    if estimate >= 1.0 && !state.walked {
        // The planner's number may be old; the bar never claims to be done because of it.
        let share = (rows as f64 / estimate).min(0.99);
        parts.push(format!("{:.0}%", share * 100.0));
        let left = (estimate - rows as f64).max(0.0) / rate.max(1.0);
        parts.push(format!(
            "about {} left",
            status::duration(Duration::from_secs_f64(left))
        ));
    }
    parts.push(format!("{} rows", count(rows)));
    parts.push(format!("{} rows/s", count(rate as u64)));
    parts.push(format!("{} differ", count(state.found.confirmed)));
    if state.found.in_flight > 0 {
        parts.push(format!("{} in flight", count(state.found.in_flight)));
    }
    if state.unknown > 0 {
        parts.push(format!("{} ranges unknown", count(state.unknown)));
    }
    let doing = match &state.throttled {
        Some(reason) => format!("throttled, {reason}"),
        None => "comparing".to_owned(),
    };
    format!("{doing} · {}", parts.join(" · "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_says_how_far_it_is() {
        let mut state = DiffState {
            rows: vec![500_000, 499_999],
            ..DiffState::default()
        };
        state.found.confirmed = 1;
        let text = line(&state, 1_000_000.0, Duration::from_secs(5));
        assert!(text.starts_with("comparing · 50% · about 5s left"), "{text}");
        assert!(
            text.ends_with("500 000 rows · 100 000 rows/s · 1 differ"),
            "{text}"
        );
        state.throttled = Some("flag-file /tmp/x".into());
        let waiting = line(&state, 1_000_000.0, Duration::from_secs(5));
        assert!(
            waiting.starts_with("throttled, flag-file /tmp/x · 50%"),
            "{waiting}"
        );
        state.throttled = None;
        let beyond = line(&state, 10.0, Duration::from_secs(5));
        assert!(beyond.contains("99%"), "{beyond}");
    }
}
