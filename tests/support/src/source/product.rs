//! Which packages hold a server, and in which suites of Debian or Ubuntu.

use crate::source::Answer;
use crate::source::apt::{Mirror, Suites};
use crate::source::ubuntu;
use crate::spec::{Flavor, ServerSpec, Version};

const SID: Suites = Suites::main(&["sid"]);
const TRIXIE: Suites = Suites::main(&["trixie"]);
const BOOKWORM: Suites = Suites::main(&["bookworm"]);
/// The updates are where a long-term release's servers are kept up to date.
const RESOLUTE: Suites = Suites::main(&["resolute", "resolute-updates"]);
const NOBLE: Suites = Suites::main(&["noble", "noble-updates"]);
const JAMMY: Suites = Suites::main(&["jammy", "jammy-updates"]);
/// With its second component, whose lists are large: MariaDB is there.
const JAMMY_ALL: Suites = Suites {
    components: "main universe",
    ..JAMMY
};

/// A distribution whose archive has servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Distribution {
    Debian,
    /// Its long-term releases keep the versions that Debian's suites have passed over or left behind.
    Ubuntu,
}

impl Distribution {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Debian => "Debian",
            Self::Ubuntu => "Ubuntu",
        }
    }

    /// Where its archive is, and the key that signs it.
    pub(crate) async fn mirror(self) -> Answer<Mirror> {
        match self {
            Self::Debian => Ok(Mirror::of_this_machine()),
            Self::Ubuntu => ubuntu::mirror().await,
        }
    }
}

/// A server as a distribution packages it.
#[derive(Debug)]
pub(crate) struct Product {
    pub(crate) distribution: Distribution,
    pub(crate) suites: Suites,
    /// The server's own package first.
    pub(crate) packages: Vec<String>,
}

impl Product {
    /// Suites keep their server's version for good, except sid, where only the product's newest version is.
    pub(crate) fn of(spec: &ServerSpec) -> Option<Self> {
        match spec.flavor {
            Flavor::MySql => mysql(spec.version),
            Flavor::MariaDb => mariadb(spec.version),
            Flavor::Postgres => postgres(spec.version.major),
        }
    }

    /// The suite that gives it its name.
    pub(crate) fn suite(&self) -> &'static str {
        self.suites.names[0]
    }
}

fn mysql(version: Version) -> Option<Product> {
    let both =
        |suffix: &str| ["mysql-server-core", "mysql-client-core"].map(|name| format!("{name}{suffix}"));
    match (version.major, version.minor) {
        (9, _) => Some(debian(SID, both(""))),
        (8, 4) => Some(ubuntu(RESOLUTE, both(""))),
        (8, 0) => Some(ubuntu(NOBLE, both("-8.0"))),
        _ => None,
    }
}

fn mariadb(version: Version) -> Option<Product> {
    match (version.major, version.minor) {
        (11, 8) => Some(debian(TRIXIE, ["mariadb-server-core".into()])),
        (10, 11) => Some(debian(BOOKWORM, ["mariadb-server-core".into()])),
        (10, 6) => Some(ubuntu(JAMMY_ALL, ["mariadb-server-core-10.6".into()])),
        _ => None,
    }
}

fn postgres(major: u16) -> Option<Product> {
    let both = ["postgresql", "postgresql-client"].map(|name| format!("{name}-{major}"));
    match major {
        18 => Some(debian(SID, both)),
        17 => Some(debian(TRIXIE, both)),
        16 => Some(ubuntu(NOBLE, both)),
        15 => Some(debian(BOOKWORM, both)),
        14 => Some(ubuntu(JAMMY, both)),
        _ => None,
    }
}

fn debian<const N: usize>(suites: Suites, packages: [String; N]) -> Product {
    Product {
        distribution: Distribution::Debian,
        suites,
        packages: packages.into(),
    }
}

fn ubuntu<const N: usize>(suites: Suites, packages: [String; N]) -> Product {
    Product {
        distribution: Distribution::Ubuntu,
        ..debian(suites, packages)
    }
}
