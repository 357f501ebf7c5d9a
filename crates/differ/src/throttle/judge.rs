//! From what was read of a node to what is thought of it: pure. The words are gh-ost's.

use std::time::Duration;

use super::{LoadLimits, ThrottleTerms};
use crate::model::NodeName;
use crate::side::Lag;

/// What was read of a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Reading {
    /// By variable.
    pub(super) loads: Vec<(String, i64)>,
    pub(super) lags: Vec<Lag>,
}

/// What a reading calls for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Judged {
    /// To wait.
    pub(super) wait: Option<String>,
    /// To end.
    pub(super) end: Option<String>,
}

pub(super) fn judge(node: &NodeName, terms: &ThrottleTerms, reading: &Reading) -> Judged {
    let over = |limits: &LoadLimits| {
        let mut loads = reading.loads.iter();
        loads.find_map(|(name, value)| {
            let limit = limits.get(name)?;
            (value >= limit).then(|| format!("{name}={value} >= {limit}"))
        })
    };
    Judged {
        end: over(&terms.critical_load).map(|load| format!("{node} critical-load met: {load}")),
        wait: over(&terms.max_load)
            .map(|load| format!("{node} max-load {load}"))
            .or_else(|| lagging(node, terms.max_lag?, &reading.lags)),
    }
}

/// The one that lags most.
fn lagging(node: &NodeName, most: Duration, lags: &[Lag]) -> Option<String> {
    let lag = lags.iter().max_by_key(|lag| lag.lag.unwrap_or(Duration::MAX))?;
    match lag.lag {
        Some(time) if time <= most => None,
        Some(time) => Some(format!("{node} {} lag={:.3}s", lag.who, time.as_secs_f64())),
        None => Some(format!(
            "{node} {} does not keep up, by how much is not known",
            lag.who
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms() -> ThrottleTerms {
        ThrottleTerms {
            max_lag: Some(Duration::from_millis(1500)),
            max_load: [("Threads_running".to_owned(), 20)].into(),
            critical_load: [("Threads_running".to_owned(), 100)].into(),
            flag_files: vec![],
        }
    }

    fn judged(load: i64, lags: &[Option<u64>]) -> Judged {
        let lag = |millis: &Option<u64>| Lag {
            who: "standby s".into(),
            lag: millis.map(Duration::from_millis),
        };
        let reading = Reading {
            loads: vec![("Threads_running".into(), load)],
            lags: lags.iter().map(lag).collect(),
        };
        judge(&NodeName::new("n1"), &terms(), &reading)
    }

    #[test]
    fn limits_are_reached_at_their_value_and_lag_above_it() {
        assert_eq!(judged(19, &[Some(1500), Some(0)]), Judged::default());
        let busy = judged(20, &[Some(9000)]);
        assert_eq!(busy.wait.as_deref(), Some("n1 max-load Threads_running=20 >= 20"));
        assert_eq!(busy.end, None);
        let lagging = judged(0, &[Some(3), Some(1501)]).wait;
        assert_eq!(lagging.as_deref(), Some("n1 standby s lag=1.501s"));
        assert!(
            judged(0, &[Some(3), None]).wait.is_some(),
            "what is not known is no small lag"
        );
        let critical = judged(100, &[]).end;
        assert_eq!(
            critical.as_deref(),
            Some("n1 critical-load met: Threads_running=100 >= 100")
        );
    }
}
