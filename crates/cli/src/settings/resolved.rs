//! Settings after the layers have been put together: one value a flag, and where it came from.

use std::collections::BTreeMap;
use std::fmt;

use secrecy::SecretString;

use crate::args::flag::{FlagSpec, Status};
use crate::args::go_syntax::{self, FlagValue};
use crate::args::table;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Default,
    File(String),
    Environment(String),
    CommandLine,
}

impl Origin {
    /// For the config crate, which remembers an origin as a text.
    pub(super) fn code(&self) -> String {
        match self {
            Self::Default => "default".into(),
            Self::File(path) => format!("file:{path}"),
            Self::Environment(variable) => format!("environment:{variable}"),
            Self::CommandLine => "command line".into(),
        }
    }

    pub(super) fn from_code(code: &str) -> Self {
        match code.split_once(':') {
            Some(("file", path)) => Self::File(path.to_owned()),
            Some(("environment", variable)) => Self::Environment(variable.to_owned()),
            _ if code == "command line" => Self::CommandLine,
            _ => Self::Default,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => f.write_str(path),
            Self::Environment(variable) => write!(f, "{variable} in the environment"),
            Self::CommandLine => f.write_str("the command line"),
        }
    }
}

/// All settings.
#[derive(Debug, Default)]
pub(super) struct Resolved {
    values: BTreeMap<&'static str, (FlagValue, Origin)>,
}

impl Resolved {
    pub(super) fn insert(&mut self, flag: &'static FlagSpec, value: FlagValue, origin: Origin) {
        self.values.insert(flag.name, (value, origin));
    }

    fn value(&self, name: &str) -> Option<&FlagValue> {
        debug_assert!(table::find(name).is_some(), "{name} is not in the flag table");
        self.values.get(name).map(|(value, _)| value)
    }

    /// Whether somebody has given the flag, with whatever value.
    pub(super) fn given(&self, name: &str) -> bool {
        self.values
            .get(name)
            .is_some_and(|(_, origin)| *origin != Origin::Default)
    }

    /// Where the flag's value came from.
    pub(super) fn origin(&self, name: &str) -> Origin {
        self.values
            .get(name)
            .map_or(Origin::Default, |(_, origin)| origin.clone())
    }

    pub(super) fn switch(&self, name: &str) -> bool {
        matches!(self.value(name), Some(FlagValue::Switch(true)))
    }

    pub(super) fn word(&self, name: &str) -> Option<&'static str> {
        match self.value(name) {
            Some(FlagValue::Word(word)) => Some(word),
            _ => None,
        }
    }

    /// A text; an empty one is none.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.value(name) {
            Some(FlagValue::Text(text)) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// A secret; an empty one given counts, as an account may have an empty password.
    pub(super) fn secret(&self, name: &str) -> Option<&SecretString> {
        match self.value(name) {
            Some(FlagValue::Secret(secret)) => Some(secret),
            _ => None,
        }
    }

    pub(super) fn whole(&self, name: &str) -> i64 {
        match self.value(name) {
            Some(FlagValue::Whole(value)) => *value,
            _ => 0,
        }
    }

    pub(super) fn unsigned(&self, name: &str) -> u64 {
        match self.value(name) {
            Some(FlagValue::Unsigned(value)) => *value,
            _ => 0,
        }
    }

    pub(super) fn real(&self, name: &str) -> f64 {
        match self.value(name) {
            Some(FlagValue::Real(value)) => *value,
            _ => 0.0,
        }
    }

    /// Flags with another value than the default that this release refuses, and why.
    pub(super) fn refused(&self) -> impl Iterator<Item = (&'static FlagSpec, &'static str)> {
        table::all().filter_map(|flag| match flag.status {
            Status::Refused(reason) if !self.is_default(flag) => Some((flag, reason)),
            _ => None,
        })
    }

    /// Given flags that mean something else than in gh-ost, and what.
    pub(super) fn different(&self) -> impl Iterator<Item = (&'static FlagSpec, &'static str)> {
        table::all().filter_map(|flag| match flag.status {
            Status::Differs(how) if self.given(flag.name) => Some((flag, how)),
            _ => None,
        })
    }

    fn is_default(&self, flag: &FlagSpec) -> bool {
        let Some(value) = self.value(flag.name) else {
            return true;
        };
        match (value, go_syntax::read_value(flag, flag.default)) {
            (FlagValue::Switch(left), Ok(FlagValue::Switch(right))) => *left == right,
            (FlagValue::Whole(left), Ok(FlagValue::Whole(right))) => *left == right,
            (FlagValue::Unsigned(left), Ok(FlagValue::Unsigned(right))) => *left == right,
            (FlagValue::Real(left), Ok(FlagValue::Real(right))) => left.total_cmp(&right).is_eq(),
            (FlagValue::Word(left), Ok(FlagValue::Word(right))) => *left == right,
            (FlagValue::Text(left), Ok(FlagValue::Text(right))) => left.eq_ignore_ascii_case(&right),
            _ => false,
        }
    }
}
