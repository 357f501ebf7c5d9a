//! Which product, which version, which settings.

use std::collections::BTreeMap;
use std::fmt;

/// The product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flavor {
    /// MySQL and what behaves like it: Percona Server, Aurora, RDS.
    MySql,
    /// MariaDB.
    MariaDb,
}

impl fmt::Display for Flavor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MySql => "MySQL",
            Self::MariaDb => "MariaDB",
        })
    }
}

/// A version number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// `8` of 8.0.36.
    pub major: u16,
    /// `0` of 8.0.36.
    pub minor: u16,
    /// `36` of 8.0.36.
    pub patch: u16,
}

impl Version {
    /// A version from its numbers.
    #[must_use]
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self { major, minor, patch }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Reads `@@version`, for example `8.0.36-28`, `10.11.6-MariaDB-log` or `5.5.5-10.6.16-MariaDB`.
pub(super) fn recognise(text: &str, comment: &str) -> (Flavor, Version) {
    let mariadb =
        text.to_ascii_lowercase().contains("mariadb") || comment.to_ascii_lowercase().contains("mariadb");
    let text = if mariadb {
        text.strip_prefix("5.5.5-").unwrap_or(text)
    } else {
        text
    };
    let mut numbers = text
        .split(|c: char| !c.is_ascii_digit())
        .map(|digits| digits.parse().unwrap_or(0));
    let version = Version::new(
        numbers.next().unwrap_or(0),
        numbers.next().unwrap_or(0),
        numbers.next().unwrap_or(0),
    );
    (if mariadb { Flavor::MariaDb } else { Flavor::MySql }, version)
}

/// Global variables, by lower-case name. A variable that a server does not have is simply absent.
#[derive(Clone, Debug, Default)]
pub struct Variables(BTreeMap<String, String>);

impl Variables {
    /// From the rows of `SHOW GLOBAL VARIABLES`.
    #[must_use]
    pub fn new(rows: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(
            rows.into_iter()
                .map(|(name, value)| (name.to_ascii_lowercase(), value))
                .collect(),
        )
    }

    /// A variable's value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Whether the server has such a variable.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether a switch is on; `None` if the server does not have it.
    #[must_use]
    pub fn is_on(&self, name: &str) -> Option<bool> {
        self.get(name)
            .map(|value| value.eq_ignore_ascii_case("ON") || value == "1")
    }

    /// A variable's value as a number.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        self.get(name).and_then(|value| value.parse().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(
        "8.0.36",
        "MySQL Community Server - GPL",
        Flavor::MySql,
        Version::new(8, 0, 36)
    )]
    #[case("9.7.4-2", "(Debian)", Flavor::MySql, Version::new(9, 7, 4))]
    #[case("8.0.35-27", "Percona Server (GPL)", Flavor::MySql, Version::new(8, 0, 35))]
    #[case(
        "10.11.18-MariaDB-0+deb12u1-log",
        "Debian 12",
        Flavor::MariaDb,
        Version::new(10, 11, 18)
    )]
    #[case("5.5.5-10.6.16-MariaDB", "", Flavor::MariaDb, Version::new(10, 6, 16))]
    #[case(
        "10.6.5",
        "mariadb.org binary distribution",
        Flavor::MariaDb,
        Version::new(10, 6, 5)
    )]
    #[case("", "", Flavor::MySql, Version::new(0, 0, 0))]
    fn versions(#[case] text: &str, #[case] comment: &str, #[case] flavor: Flavor, #[case] version: Version) {
        assert_eq!(recognise(text, comment), (flavor, version));
    }

    #[test]
    fn a_variable_is_found_whatever_its_case() {
        let variables = Variables::new([
            ("Log_Bin".to_owned(), "ON".to_owned()),
            ("port".into(), "3306".into()),
        ]);
        assert_eq!(variables.is_on("log_bin"), Some(true));
        assert_eq!(variables.is_on("port"), Some(false));
        assert_eq!(variables.number("port"), Some(3306));
        assert_eq!(variables.is_on("none"), None);
    }
}
