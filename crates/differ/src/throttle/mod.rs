//! Kindness: when no range is given out.
//!
//! Each source – the flag files, and each node for its lag and load – is read once a second by a task of its own, so that
//! a server which does not answer hides no other source. The supervisor looks at the board before it gives a range
//! to a child. What is under way is not interrupted: it takes about as long as a block is meant to.
//!
//! As in a migration, what cannot be read throttles: a server too busy to answer is busy. The first failure is logged,
//! the reason stands in the progress bar. But at the start everything is read once, and what can never be read (an
//! unknown variable, a right that is missing) is an error then and not a job that waits for ever. A flag file that
//! cannot be looked at does not exist, as for gh-ost.

mod judge;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use watch::Throttle;

/// Limits of a server's load by the names that the server has for them.
pub type LoadLimits = BTreeMap<String, i64>;

/// When a comparison is to wait, and when to end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ThrottleTerms {
    /// While a replica, standby or subscriber lags by more than this. `None`: lag is not asked for.
    pub max_lag: Option<Duration>,
    /// While a value is at its limit or above on any node.
    pub max_load: LoadLimits,
    /// If a value is at its limit or above on any node, the comparison ends.
    pub critical_load: LoadLimits,
    /// While any of these exists.
    pub flag_files: Vec<PathBuf>,
}

impl ThrottleTerms {
    /// Whether servers are asked, each over one connection more.
    #[must_use]
    pub fn asks_servers(&self) -> bool {
        self.max_lag.is_some() || !self.max_load.is_empty() || !self.critical_load.is_empty()
    }

    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_off(&self) -> bool {
        !self.asks_servers() && self.flag_files.is_empty()
    }

    /// The variables that have a limit.
    fn variables(&self) -> Vec<String> {
        let mut names: Vec<String> = self.critical_load.keys().cloned().collect();
        names.extend(
            self.max_load
                .keys()
                .filter(|name| !self.critical_load.contains_key(*name))
                .cloned(),
        );
        names
    }
}

/// What all sources have said last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Board {
    /// A source's reason to wait.
    reasons: Vec<Option<Arc<str>>>,
    /// A reason to end; it stays.
    critical: Option<Arc<str>>,
}

impl Board {
    /// Why nothing is given out now.
    pub(crate) fn reason(&self) -> Option<Arc<str>> {
        self.reasons.iter().flatten().next().cloned()
    }

    /// Why the job is to end.
    pub(crate) fn critical(&self) -> Option<Arc<str>> {
        self.critical.clone()
    }
}
