//! When a critical load aborts: at once, or when it is met again after a while. Pure.

use std::time::Duration;

use tokio::time::Instant;

use super::decision::Loads;
use crate::settings::LoadLimits;

/// What was seen of the critical load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Critical {
    /// Nothing.
    #[default]
    Quiet,
    /// It was met, at the instant of that reading.
    Met(Instant),
}

/// What a reading calls for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Nothing,
    /// Another reading after this long, and these words for the log.
    LookAgain(Duration, String),
    /// The end of the migration.
    Abort(String),
}

impl Critical {
    /// Judges what was read at `at`. With an interval only a reading that long after the first one, or later,
    /// counts as the second; one that finds the load below its limits ends the matter.
    pub(super) fn judge(
        &mut self,
        loads: &Loads,
        limits: &LoadLimits,
        interval: Option<Duration>,
        at: Instant,
    ) -> Verdict {
        let met = limits.iter().find_map(|(variable, limit)| {
            let value = loads.values.get(variable)?;
            (value >= limit).then(|| format!("{variable}={value}, >={limit}"))
        });
        if met.is_none() && loads.failure.is_some() {
            // A server too busy to answer has not recovered.
            return Verdict::Nothing;
        }
        match (*self, met, interval) {
            (_, Some(met), None) => Verdict::Abort(format!("critical-load met: {met}")),
            (Self::Quiet, Some(met), Some(wait)) => {
                *self = Self::Met(at);
                let millis = wait.as_millis();
                Verdict::LookAgain(
                    wait,
                    format!("critical-load met once: {met}. Will check again in {millis} millis"),
                )
            }
            (Self::Met(first), met, Some(wait)) if at >= first + wait => {
                *self = Self::Quiet;
                match met {
                    Some(met) => Verdict::Abort(format!(
                        "critical-load met again after {} millis: {met}",
                        wait.as_millis()
                    )),
                    None => Verdict::Nothing,
                }
            }
            _ => Verdict::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_millis(500);

    fn loads(value: i64) -> Loads {
        Loads {
            values: [("Threads_running".to_owned(), value)].into(),
            failure: None,
        }
    }

    fn limits() -> LoadLimits {
        [("Threads_running".to_owned(), 100)].into()
    }

    #[test]
    fn without_an_interval_the_first_time_is_enough() {
        let (mut critical, now) = (Critical::default(), Instant::now());
        assert_eq!(critical.judge(&loads(99), &limits(), None, now), Verdict::Nothing);
        assert_eq!(
            critical.judge(&loads(100), &limits(), None, now),
            Verdict::Abort("critical-load met: Threads_running=100, >=100".into())
        );
    }

    #[test]
    fn with_an_interval_it_must_be_met_again_after_it() {
        let (mut critical, now) = (Critical::default(), Instant::now());
        let verdict = critical.judge(&loads(150), &limits(), Some(WAIT), now);
        let words = "critical-load met once: Threads_running=150, >=100. Will check again in 500 millis";
        assert_eq!(verdict, Verdict::LookAgain(WAIT, words.into()));
        let between = now + WAIT / 2;
        assert_eq!(
            critical.judge(&loads(150), &limits(), Some(WAIT), between),
            Verdict::Nothing
        );
        assert_eq!(
            critical.judge(&loads(120), &limits(), Some(WAIT), now + WAIT),
            Verdict::Abort("critical-load met again after 500 millis: Threads_running=120, >=100".into())
        );
    }

    #[test]
    fn a_load_that_has_passed_is_forgotten() {
        let (mut critical, now) = (Critical::default(), Instant::now());
        let _ = critical.judge(&loads(150), &limits(), Some(WAIT), now);
        assert_eq!(
            critical.judge(&loads(1), &limits(), Some(WAIT), now + WAIT),
            Verdict::Nothing
        );
        let later = critical.judge(&loads(150), &limits(), Some(WAIT), now + WAIT * 4);
        assert!(matches!(later, Verdict::LookAgain(..)), "{later:?}");
    }

    #[test]
    fn what_could_not_be_read_is_not_critical() {
        let (mut critical, now) = (Critical::default(), Instant::now());
        let unread = Loads {
            failure: Some(("Threads_running".into(), "gone".into())),
            ..Loads::default()
        };
        assert_eq!(critical.judge(&unread, &limits(), None, now), Verdict::Nothing);
        let _ = critical.judge(&loads(150), &limits(), Some(WAIT), now);
        assert_eq!(
            critical.judge(&unread, &limits(), Some(WAIT), now + WAIT),
            Verdict::Nothing
        );
        let verdict = critical.judge(&loads(150), &limits(), Some(WAIT), now + WAIT * 2);
        assert!(
            matches!(verdict, Verdict::Abort(_)),
            "an unread load is not a recovery: {verdict:?}"
        );
    }
}
