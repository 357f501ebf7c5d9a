//! What a job says about the tables, in one word.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The outcome of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every range of the key was compared on every node and no row differs.
    Match,
    /// At least one confirmed difference, whatever else could not be established.
    Differ,
    /// No difference is confirmed, but something was not established.
    Unknown,
}

impl Verdict {
    /// The program's exit status: 0, 1, 2. (3 is a mistake in its usage.)
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Match => 0,
            Self::Differ => 1,
            Self::Unknown => 2,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Match => "match",
            Self::Differ => "differ",
            Self::Unknown => "unknown",
        })
    }
}
