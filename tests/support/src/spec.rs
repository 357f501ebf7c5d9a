//! What kind of server is wanted.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::chosen;
use crate::replica::TopologySpec;

/// How long a server may take from its start to its first answer. Cold disks and busy continuous integration machines
/// need far more than the second or two seen normally.
const START_TIMEOUT: Duration = Duration::from_secs(90);

/// InnoDB buffer pool in MiB: holds a test's or small benchmark's table, and a dozen servers fit one machine.
const BUFFER_POOL_MIB: u32 = 256;

/// A product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Flavor {
    /// Oracle's MySQL.
    MySql,
    /// MariaDB.
    MariaDb,
    /// PostgreSQL.
    Postgres,
}

impl Flavor {
    pub(crate) fn address_variable(self) -> &'static str {
        match self {
            Self::MySql => "CHANGELING_TEST_MYSQL",
            Self::MariaDb => "CHANGELING_TEST_MARIADB",
            Self::Postgres => "CHANGELING_TEST_POSTGRES",
        }
    }

    pub(crate) fn version_variable(self) -> &'static str {
        match self {
            Self::MySql => "CHANGELING_TEST_MYSQL_VERSION",
            Self::MariaDb => "CHANGELING_TEST_MARIADB_VERSION",
            Self::Postgres => "CHANGELING_TEST_POSTGRES_VERSION",
        }
    }

    /// The word that names it in files and service names.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::MySql => "mysql",
            Self::MariaDb => "mariadb",
            Self::Postgres => "postgres",
        }
    }

    pub(crate) fn standard_port(self) -> u16 {
        match self {
            Self::MySql | Self::MariaDb => 3306,
            Self::Postgres => 5432,
        }
    }
}

impl fmt::Display for Flavor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::MySql => "MySQL",
            Self::MariaDb => "MariaDB",
            Self::Postgres => "PostgreSQL",
        })
    }
}

/// Major and minor version; the minor of PostgreSQL says nothing and is ignored in comparisons of fitness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version {
    /// First number.
    pub major: u16,
    /// Second number.
    pub minor: u16,
}

impl Version {
    /// A version.
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }

    /// Whether a server of this version may stand for the `wanted` one: MariaDB and MySQL 8 exactly, MySQL 9 also a
    /// newer minor (its innovation releases replace one another), PostgreSQL by its major number.
    pub(crate) fn fits(self, flavor: Flavor, wanted: Version) -> bool {
        match flavor {
            Flavor::Postgres => self.major == wanted.major,
            Flavor::MySql if wanted.major >= 9 => self.major == wanted.major && self.minor >= wanted.minor,
            Flavor::MySql | Flavor::MariaDb => self == wanted,
        }
    }

    /// As the flavor's makers and the services of compose.yaml write it: `9.7`, `10.11`, `17`.
    pub(crate) fn of(self, flavor: Flavor) -> String {
        match flavor {
            Flavor::Postgres => self.major.to_string(),
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for Version {
    type Err = String;

    /// Reads the first `major.minor` or bare `major` in a server's own words (`9.7.4-2`, `mysqld  Ver 9.7.4-2 for …`).
    fn from_str(text: &str) -> Result<Self, String> {
        let start = text
            .find(|c: char| c.is_ascii_digit())
            .ok_or_else(|| format!("no version in {text:?}"))?;
        let mut numbers = text[start..].split(|c: char| !c.is_ascii_digit());
        let mut next = || numbers.next().and_then(|number| number.parse::<u16>().ok());
        let major = next().ok_or_else(|| format!("no version in {text:?}"))?;
        Ok(Self {
            major,
            minor: next().unwrap_or(0),
        })
    }
}

/// How hard a server tries to survive a power cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Durability {
    /// Every commit reaches the disk, as in production; for benchmarks and crash tests.
    Full,
    /// Survives `kill -9`, not a power cut; several times faster, for tests.
    #[default]
    Relaxed,
}

/// What is wanted: a builder, ended by [`ServerSpec::start`].
#[derive(Clone, Debug)]
pub struct ServerSpec {
    pub(crate) flavor: Flavor,
    pub(crate) version: Version,
    pub(crate) options: Vec<String>,
    pub(crate) time_zone: Option<String>,
    pub(crate) durability: Durability,
    pub(crate) gtid: bool,
    pub(crate) dedicated: bool,
    pub(crate) buffer_pool_mib: u32,
    pub(crate) server_id: u32,
    pub(crate) start_timeout: Duration,
}

impl ServerSpec {
    /// Any flavor and version.
    pub fn new(flavor: Flavor, version: Version) -> Self {
        Self {
            flavor,
            version,
            options: Vec::new(),
            time_zone: None,
            durability: Durability::default(),
            gtid: true,
            dedicated: false,
            buffer_pool_mib: BUFFER_POOL_MIB,
            server_id: 1,
            start_timeout: START_TIMEOUT,
        }
    }

    /// MySQL: 9.7 (or a newer 9) unless `CHANGELING_TEST_MYSQL_VERSION` names another.
    pub fn mysql() -> Self {
        Self::chosen(Flavor::MySql, Version::new(9, 7))
    }

    /// MariaDB: 10.11 unless `CHANGELING_TEST_MARIADB_VERSION` names another.
    pub fn mariadb() -> Self {
        Self::chosen(Flavor::MariaDb, Version::new(10, 11))
    }

    /// MariaDB 11.8, whatever the others are.
    pub fn mariadb_11_8() -> Self {
        Self::new(Flavor::MariaDb, Version::new(11, 8))
    }

    /// PostgreSQL: 15 unless `CHANGELING_TEST_POSTGRES_VERSION` names another.
    pub fn any_postgres() -> Self {
        Self::chosen(Flavor::Postgres, Version::new(15, 0))
    }

    /// PostgreSQL of this major version, whatever the others are.
    pub fn postgres(major: u16) -> Self {
        Self::new(Flavor::Postgres, Version::new(major, 0))
    }

    fn chosen(flavor: Flavor, usual: Version) -> Self {
        Self::new(flavor, chosen::version(flavor, usual))
    }

    /// Adds a server option as on its command line, `--binlog-row-image=MINIMAL`; later ones win. Makes the server
    /// [`dedicated`](Self::dedicated).
    #[must_use]
    pub fn option(mut self, option: impl Into<String>) -> Self {
        self.options.push(option.into());
        self.dedicated()
    }

    /// Sets the server's default time zone, `+02:00`.
    #[must_use]
    pub fn time_zone(mut self, zone: impl Into<String>) -> Self {
        self.time_zone = Some(zone.into());
        self.dedicated()
    }

    /// Chooses between speed and safety; [`Durability::Relaxed`] unless told.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self.dedicated()
    }

    /// Switches MySQL's GTIDs off (MariaDB's cannot be).
    #[must_use]
    pub fn without_gtid(mut self) -> Self {
        self.gtid = false;
        self.dedicated()
    }

    /// Sets the size of the buffer pool (PostgreSQL: shared buffers) in MiB, 256 unless told.
    #[must_use]
    pub fn buffer_pool_mib(mut self, mib: u32) -> Self {
        self.buffer_pool_mib = mib;
        self.dedicated()
    }

    /// Sets the server id, 1 unless told (replicas get their own).
    #[must_use]
    pub fn server_id(mut self, id: u32) -> Self {
        self.server_id = id;
        self.dedicated()
    }

    /// Demands a server that nobody else uses: one given by an address in the environment is passed over.
    #[must_use]
    pub fn dedicated(mut self) -> Self {
        self.dedicated = true;
        self
    }

    /// Limits the time from start to first answer, 90 s unless told.
    #[must_use]
    pub fn start_timeout(mut self, limit: Duration) -> Self {
        self.start_timeout = limit;
        self
    }

    /// Asks for a primary with a replica instead of one server.
    #[must_use]
    pub fn with_replica(self) -> TopologySpec {
        TopologySpec::new(self)
    }

    /// The flavor asked for.
    pub fn flavor(&self) -> Flavor {
        self.flavor
    }

    /// The version asked for; [`crate::Server::version`] tells which one came.
    pub fn version(&self) -> Version {
        self.version
    }
}

impl fmt::Display for ServerSpec {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.flavor, self.version.of(self.flavor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_servers_say() {
        let read = |text: &str| text.parse::<Version>().unwrap();
        assert_eq!(read("9.7.4-2"), Version::new(9, 7));
        assert_eq!(
            read("/usr/sbin/mariadbd  Ver 10.11.14-MariaDB-0+deb12u2"),
            Version::new(10, 11)
        );
        assert_eq!(read("postgres (PostgreSQL) 15.12 (Debian)"), Version::new(15, 12));
        assert_eq!(read("18beta1"), Version::new(18, 0));
        assert!("nothing".parse::<Version>().is_err());
    }

    #[test]
    fn a_newer_nine_stands_for_an_older_one() {
        assert!(Version::new(9, 8).fits(Flavor::MySql, Version::new(9, 7)));
        assert!(!Version::new(8, 4).fits(Flavor::MySql, Version::new(8, 0)));
        assert!(!Version::new(10, 6).fits(Flavor::MariaDb, Version::new(10, 11)));
        assert!(Version::new(17, 5).fits(Flavor::Postgres, Version::new(17, 0)));
    }
}
