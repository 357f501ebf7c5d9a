//! The versions that a run of the tests is made with: `CHANGELING_TEST_MYSQL_VERSION=8.0`, `…_MARIADB_VERSION`,
//! `…_POSTGRES_VERSION` stand in for the version that a test asks for by the product's name alone.

use crate::error::{Result, SupportError};
use crate::spec::{Flavor, Version};

/// The environment's choice, else the usual version. A word that is no version is refused when the server is asked for.
pub(crate) fn version(flavor: Flavor, usual: Version) -> Version {
    let word = word(flavor);
    word.and_then(|word| word.parse().ok()).unwrap_or(usual)
}

/// Refuses a choice that cannot be read: a run must not be made with another version than the one that was meant.
pub(crate) fn check(flavor: Flavor) -> Result<()> {
    let Some(word) = word(flavor) else {
        return Ok(());
    };
    let variable = flavor.version_variable();
    let refuse = |reason: String| SupportError::Unsupported(format!("{variable}={word}: {reason}"));
    if !word.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(refuse("a version such as 8.4 or 17 is needed".into()));
    }
    word.parse::<Version>().map(drop).map_err(refuse)
}

fn word(flavor: Flavor) -> Option<String> {
    std::env::var(flavor.version_variable())
        .ok()
        .filter(|word| !word.is_empty())
}
