//! From what was read to what is throttled: pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{ThrottleState, UserThrottle};
use crate::settings::LoadLimits;

#[cfg(test)]
mod tests;

/// What is known from a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source<T> {
    /// It is not asked.
    Off,
    /// It was asked and has not answered yet.
    Awaited,
    /// Its last answer.
    Read(T),
}

impl<T> Source<T> {
    /// What a source that is asked has said.
    pub(super) fn asked(answer: Option<T>) -> Self {
        answer.map_or(Self::Awaited, Self::Read)
    }
}

/// Status variables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Loads {
    /// By the name that the limit has.
    pub(super) values: BTreeMap<String, i64>,
    /// The first variable that could not be read, and why.
    pub(super) failure: Option<(String, String)>,
}

impl Loads {
    fn failed(&self, variable: &str) -> Option<Reason> {
        let (failed, error) = self.failure.as_ref()?;
        (failed == variable).then(|| {
            Reason::new(
                Cause::LoadUnread(variable.to_owned()),
                format!("{variable} {error}"),
            )
        })
    }
}

/// All that is known at an instant.
#[derive(Debug)]
pub(super) struct Inputs<'a> {
    pub(super) user: UserThrottle,
    pub(super) flag_file: Source<bool>,
    pub(super) critical_load: &'a LoadLimits,
    pub(super) max_load: &'a LoadLimits,
    pub(super) loads: Source<&'a Loads>,
    /// Whether the answer was above zero.
    pub(super) query: Source<bool>,
    pub(super) max_lag: Duration,
    pub(super) lag: Source<Duration>,
    pub(super) replicas: Vec<(&'a str, Source<&'a Result<Duration, String>>)>,
    pub(super) heartbeat_lag: Source<Duration>,
}

/// What a reason is about; without the numbers, so that it is the same as long as nothing else happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    LoadUnread(String),
    User,
    FlagFile,
    Load(String),
    Query,
    Lag,
    ReplicaUnread(String),
    Replica(String),
    Awaited(String),
    HeartbeatLag,
}

/// Why something waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reason {
    pub(super) cause: Cause,
    pub(super) text: Arc<str>,
}

impl Reason {
    fn new(cause: Cause, text: impl Into<Arc<str>>) -> Self {
        Self {
            cause,
            text: text.into(),
        }
    }

    /// Nothing is known of `what` yet.
    pub(super) fn awaited(what: &str) -> Self {
        Self::new(
            Cause::Awaited(what.to_owned()),
            format!("waiting for the first reading of {what}"),
        )
    }

    /// Whether only the copy waits.
    pub(super) fn spares_apply(&self) -> bool {
        // Held back, apply would never catch up, and the lag never end.
        self.cause == Cause::HeartbeatLag
    }
}

impl From<&Reason> for ThrottleState {
    fn from(reason: &Reason) -> Self {
        Self {
            copy: Some(Arc::clone(&reason.text)),
            apply: (!reason.spares_apply()).then(|| Arc::clone(&reason.text)),
        }
    }
}

/// The first reason to throttle, in gh-ost's order, and then ours. A reason to spare apply comes last, so it is
/// never hidden by one that does not, nor hides one.
pub(super) fn decide(inputs: &Inputs<'_>) -> Option<Reason> {
    let unread = |limits: &LoadLimits| match inputs.loads {
        Source::Read(loads) => limits.keys().find_map(|variable| loads.failed(variable)),
        _ => None,
    };
    unread(inputs.critical_load)
        .or_else(|| commanded(inputs))
        .or_else(|| overload(inputs))
        .or_else(|| (inputs.query == Source::Read(true)).then(|| Reason::new(Cause::Query, "throttle-query")))
        .or_else(|| lag(inputs))
        .or_else(|| replica_lag(inputs))
        .or_else(|| awaited(inputs))
        .or_else(|| match inputs.heartbeat_lag {
            Source::Read(lag) if lag > inputs.max_lag => Some(Reason::new(
                Cause::HeartbeatLag,
                format!("heartbeat-lag={}", seconds(lag)),
            )),
            _ => None,
        })
}

fn commanded(inputs: &Inputs<'_>) -> Option<Reason> {
    if inputs.user == UserThrottle::Commanded {
        Some(Reason::new(Cause::User, "commanded by user"))
    } else if inputs.flag_file == Source::Read(true) {
        Some(Reason::new(Cause::FlagFile, "flag-file"))
    } else {
        None
    }
}

fn overload(inputs: &Inputs<'_>) -> Option<Reason> {
    let Source::Read(loads) = inputs.loads else {
        return None;
    };
    inputs
        .max_load
        .iter()
        .find_map(|(variable, limit)| match loads.values.get(variable) {
            Some(value) if value >= limit => {
                let text = format!("max-load {variable}={value} >= {limit}");
                Some(Reason::new(Cause::Load(variable.clone()), text))
            }
            Some(_) => None,
            None => loads.failed(variable),
        })
}

fn lag(inputs: &Inputs<'_>) -> Option<Reason> {
    match inputs.lag {
        Source::Read(lag) if lag > inputs.max_lag => {
            Some(Reason::new(Cause::Lag, format!("lag={}", seconds(lag))))
        }
        _ => None,
    }
}

/// The first replica that cannot be read, else the one that lags most.
fn replica_lag(inputs: &Inputs<'_>) -> Option<Reason> {
    let read = || {
        inputs.replicas.iter().filter_map(|(address, lag)| match lag {
            Source::Read(lag) => Some((*address, *lag)),
            _ => None,
        })
    };
    let failed = read().find_map(|(address, lag)| Some((address, lag.as_ref().err()?)));
    if let Some((address, error)) = failed {
        return Some(Reason::new(
            Cause::ReplicaUnread(address.to_owned()),
            format!("{address} {error}"),
        ));
    }
    let (address, lag) = read()
        .filter_map(|(address, lag)| Some((address, *lag.as_ref().ok()?)))
        .max_by_key(|(_, lag)| *lag)?;
    (lag > inputs.max_lag).then(|| {
        let text = format!("{address} replica-lag={}", seconds(lag));
        Reason::new(Cause::Replica(address.to_owned()), text)
    })
}

fn awaited(inputs: &Inputs<'_>) -> Option<Reason> {
    if inputs.flag_file == Source::Awaited {
        return Some(Reason::awaited("the flag files"));
    }
    let unread = |limits: &LoadLimits| match inputs.loads {
        Source::Off => None,
        Source::Awaited => limits.keys().next().cloned(),
        // A limit that was set after the reading.
        Source::Read(loads) => limits
            .keys()
            .find(|name| !loads.values.contains_key(*name))
            .cloned(),
    };
    if let Some(variable) = unread(inputs.critical_load).or_else(|| unread(inputs.max_load)) {
        return Some(Reason::awaited(&variable));
    }
    if inputs.query == Source::Awaited {
        return Some(Reason::awaited("the throttle query"));
    }
    if inputs.lag == Source::Awaited {
        return Some(Reason::awaited("the lag"));
    }
    let replica = inputs.replicas.iter().find(|(_, lag)| *lag == Source::Awaited)?;
    Some(Reason::awaited(replica.0))
}

/// As gh-ost writes it: Go's `%fs`.
fn seconds(lag: Duration) -> String {
    format!("{:.6}s", lag.as_secs_f64())
}
