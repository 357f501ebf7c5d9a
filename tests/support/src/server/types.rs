//! Column types that not every version has.

use super::Server;
use crate::spec::{Flavor, Version};

/// Types that are younger than the oldest version that the tests run on, and the version that brought them.
const YOUNG: [(Flavor, &str, Version); 3] = [
    (Flavor::MySql, "vector", Version::new(9, 0)),
    (Flavor::MariaDb, "uuid", Version::new(10, 7)),
    (Flavor::MariaDb, "inet4", Version::new(10, 10)),
];

impl Server {
    /// Whether a column definition, `k uuid NOT NULL` or its type alone, uses only types that this server has. A test
    /// leaves out what it has not; that is said on standard error.
    pub fn has_type_of(&self, definition: &str) -> bool {
        let words = |name: &str| {
            definition
                .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .any(|word| word.eq_ignore_ascii_case(name))
        };
        let missing = YOUNG
            .iter()
            .find(|(flavor, name, since)| *flavor == self.flavor() && words(name) && self.version() < *since);
        if let Some((flavor, name, since)) = missing {
            eprintln!(
                "left out on {flavor} {}, as {name} came with {since}: {definition}",
                self.version()
            );
        }
        missing.is_none()
    }
}
