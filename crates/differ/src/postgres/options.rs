//! How a PostgreSQL server is reached: libpq's words and rules.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::config::{ChannelBinding, SslNegotiation, TargetSessionAttrs};

use super::connection_string;
use super::surroundings::Surroundings;

/// Parameters of libpq's that change how safe or with whom a connection is, and that nothing here honours.
const LIBPQ_ONLY: [&str; 17] = [
    "gssdelegation",
    "gsslib",
    "krbsrvname",
    "load_balance_hosts",
    "oauth_issuer",
    "replication",
    "require_auth",
    "requirepeer",
    "requiressl",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcertmode",
    "sslcompression",
    "sslcrl",
    "sslcrldir",
    "sslpassword",
    "sslsni",
];

/// Time for a connection to come about, where nothing else is said: ACE's own default.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// When TLS is used and how much of the server's certificate must be right: libpq's `sslmode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SslMode {
    /// Never.
    Disable,
    /// If the server has it; nothing is verified.
    #[default]
    Prefer,
    /// Always; the chain is verified only if a root certificate is given.
    Require,
    /// Always, and the chain must lead to a trusted root.
    VerifyCa,
    /// As before, and the certificate must be for this host.
    VerifyFull,
}

/// A connection string that is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// Not `key=value …` and not a URL.
    #[error("cannot read the connection string: {0}; write postgres://user@host/database or host=… dbname=…")]
    Syntax(&'static str),
    /// A word that libpq knows nothing of either.
    #[error("the connection string says {0:?}, which is not a connection parameter")]
    Unknown(String),
    /// A word of libpq's for something that is not had here.
    #[error(
        "the connection string says {0:?}, which is not supported here; leave it out if the connection does not need it"
    )]
    Unsupported(String),
    /// Several servers where there must be one.
    #[error("host={0:?} names several servers; a node is one server: give each a node of its own")]
    SeveralHosts(String),
    /// Two words that go together.
    #[error("the connection string says {0} but not {1}")]
    Incomplete(&'static str, &'static str),
    /// Public roots with less than a full check.
    #[error(
        "sslrootcert=system needs sslmode=verify-full: anybody can have a certificate that leads to a public root"
    )]
    SystemRoots,
    /// Nothing to verify against.
    #[error(
        "sslmode asks for the server's certificate to be verified, and there is no root certificate: give sslrootcert=FILE, \
         or sslrootcert=system for the public ones, or put one at ~/.postgresql/root.crt"
    )]
    NoRoots,
    /// A service that no file has.
    #[error("service {service:?} is not in {looked}")]
    NoService {
        /// The service.
        service: String,
        /// Files that were looked at.
        looked: String,
    },
    /// A file that is needed to know how the server is reached.
    #[error("cannot read {path}: {message}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A word with a value that is not one of its own.
    #[error("{value:?} is no value for {name} in a connection string")]
    Value {
        /// The word.
        name: String,
        /// Its value.
        value: String,
    },
}

/// A server, a database, a login.
#[derive(Clone, Debug)]
pub struct PgOptions {
    /// Host name, address, or directory of the Unix socket.
    pub host: String,
    /// Its address, where the name shall not be looked up.
    pub host_address: Option<IpAddr>,
    /// Port.
    pub port: u16,
    /// Role.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<SecretString>,
    /// Database; the role's name if none is given.
    pub database: Option<String>,
    /// When TLS is used.
    pub ssl_mode: SslMode,
    /// File of the certificates that are trusted, or `system` for the public ones.
    pub ssl_root_cert: Option<PathBuf>,
    /// Whether TLS begins at once instead of being asked for: libpq's `sslnegotiation=direct`.
    pub ssl_direct: bool,
    /// Files of the client's certificate and key.
    pub ssl_client: Option<(PathBuf, PathBuf)>,
    /// Time for a connection to come about.
    pub connect_timeout: Duration,
    /// What the server shows as the client's name.
    pub application_name: String,
    /// Settings for the session, as `-c name=value`; ours come after them.
    pub server_options: Option<String>,
    /// Whether the password is bound to the TLS connection.
    pub channel_binding: ChannelBinding,
    /// What sort of server will do.
    pub session_attributes: TargetSessionAttrs,
}

impl Default for PgOptions {
    fn default() -> Self {
        Self {
            host: "localhost".into(),
            host_address: None,
            port: 5432,
            user: None,
            password: None,
            database: None,
            ssl_mode: SslMode::default(),
            ssl_root_cert: None,
            ssl_direct: false,
            ssl_client: None,
            connect_timeout: CONNECT_TIMEOUT,
            application_name: "changeling".into(),
            server_options: None,
            channel_binding: ChannelBinding::Prefer,
            session_attributes: TargetSessionAttrs::Any,
        }
    }
}

impl PgOptions {
    /// Reads a URL or a `key=value` string; what it leaves open comes from the surroundings. `database` stands in for
    /// what it says.
    ///
    /// # Errors
    /// What is not understood is refused: a TLS rule that is overlooked would be a hole.
    pub fn parse(
        text: &str,
        database: Option<&str>,
        surroundings: &Surroundings,
    ) -> Result<Self, OptionsError> {
        let mut words = connection_string::words(text)?;
        if let Some(database) = database {
            words.insert("dbname".into(), database.into());
        }
        Self::from_words(words, surroundings)
    }

    /// The same from words that were read elsewhere, as those of a service file.
    ///
    /// # Errors
    /// As [`PgOptions::parse`].
    pub fn from_words(
        words: BTreeMap<String, String>,
        surroundings: &Surroundings,
    ) -> Result<Self, OptionsError> {
        let mut options = Self::default();
        let (mut certificate, mut key) = (None, None);
        for (name, value) in surroundings.complete(words)? {
            match name.as_str() {
                "sslcert" => certificate = Some(PathBuf::from(value)),
                "sslkey" => key = Some(PathBuf::from(value)),
                _ => options.take(&name, value)?,
            }
        }
        options.ssl_client = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => return Err(OptionsError::Incomplete("sslcert", "sslkey")),
            (None, Some(_)) => return Err(OptionsError::Incomplete("sslkey", "sslcert")),
        };
        options.check()?;
        Ok(options)
    }

    fn take(&mut self, name: &str, value: String) -> Result<(), OptionsError> {
        match name {
            "host" if value.contains(',') => return Err(OptionsError::SeveralHosts(value)),
            "host" => self.host = value,
            // An address needs no look-up; the name stays what the certificate is checked against.
            "hostaddr" => self.host_address = Some(parsed(name, &value)?),
            "port" => self.port = parsed(name, &value)?,
            "user" => self.user = Some(value),
            "password" => self.password = Some(value.into()),
            "dbname" => self.database = Some(value),
            "sslmode" => self.ssl_mode = value.parse()?,
            "sslrootcert" => self.ssl_root_cert = Some(value.into()),
            "sslnegotiation" => {
                self.ssl_direct = chosen(name, &value, &[("postgres", false), ("direct", true)])?
            }
            "connect_timeout" => {
                // libpq: 0 means to wait for ever; a limit of an hour is that for us.
                let seconds: u64 = parsed(name, &value)?;
                self.connect_timeout = Duration::from_secs(if seconds == 0 { 3600 } else { seconds });
            }
            "application_name" => self.application_name = value,
            "options" => self.server_options = Some(value),
            "channel_binding" => {
                use ChannelBinding::{Disable, Prefer, Require};
                let known = [("disable", Disable), ("prefer", Prefer), ("require", Require)];
                self.channel_binding = chosen(name, &value, &known)?;
            }
            "target_session_attrs" => {
                use TargetSessionAttrs::{Any, ReadOnly, ReadWrite};
                let known = [("any", Any), ("read-write", ReadWrite), ("read-only", ReadOnly)];
                self.session_attributes = chosen(name, &value, &known)?;
            }
            // Kerberos is not spoken here: only who insists on it must be told.
            "gssencmode" => chosen(name, &value, &[("disable", ()), ("prefer", ())])?,
            // What these ask for is done anyway (UTF-8, keep-alives), or is a mere stand-in.
            "fallback_application_name"
            | "client_encoding"
            | "keepalives"
            | "keepalives_idle"
            | "keepalives_interval"
            | "keepalives_count"
            | "tcp_user_timeout"
            | "passfile" => {}
            _ if LIBPQ_ONLY.contains(&name) => return Err(OptionsError::Unsupported(name.into())),
            _ => return Err(OptionsError::Unknown(name.into())),
        }
        Ok(())
    }

    /// libpq's own rules about what goes with what.
    fn check(&self) -> Result<(), OptionsError> {
        let system = self
            .ssl_root_cert
            .as_deref()
            .is_some_and(|file| file.as_os_str() == "system");
        if system && self.ssl_mode != SslMode::VerifyFull {
            // Anybody can have a certificate that leads to a public root.
            return Err(OptionsError::SystemRoots);
        }
        let verifies = matches!(self.ssl_mode, SslMode::VerifyCa | SslMode::VerifyFull);
        if verifies && self.ssl_root_cert.is_none() {
            return Err(OptionsError::NoRoots);
        }
        Ok(())
    }

    /// For the driver; without the TLS rules that it does not know.
    pub(super) fn config(&self) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config
            .host(&self.host)
            .port(self.port)
            .connect_timeout(self.connect_timeout)
            .application_name(&self.application_name)
            .channel_binding(self.channel_binding)
            .target_session_attrs(self.session_attributes)
            .ssl_negotiation(if self.ssl_direct {
                SslNegotiation::Direct
            } else {
                SslNegotiation::Postgres
            })
            .keepalives(true)
            // A peer that has gone is noticed in about a minute, not in two hours.
            .keepalives_idle(Duration::from_secs(30))
            .keepalives_interval(Duration::from_secs(10))
            .keepalives_retries(3)
            .ssl_mode(match self.ssl_mode {
                SslMode::Disable => tokio_postgres::config::SslMode::Disable,
                SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
                _ => tokio_postgres::config::SslMode::Require,
            });
        if let Some(user) = &self.user {
            config.user(user);
        }
        if let Some(password) = &self.password {
            config.password(password.expose_secret());
        }
        if let Some(database) = &self.database {
            config.dbname(database);
        }
        if let Some(address) = self.host_address {
            config.hostaddr(address);
        }
        if let Some(options) = &self.server_options {
            config.options(options);
        }
        config
    }
}

fn chosen<T: Copy>(name: &str, value: &str, known: &[(&str, T)]) -> Result<T, OptionsError> {
    let found = known.iter().find(|(word, _)| *word == value);
    found
        .map(|(_, meaning)| *meaning)
        .ok_or_else(|| OptionsError::Value {
            name: name.into(),
            value: value.into(),
        })
}

fn parsed<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, OptionsError> {
    value.parse().map_err(|_| OptionsError::Value {
        name: name.into(),
        value: value.into(),
    })
}

impl std::str::FromStr for SslMode {
    type Err = OptionsError;

    fn from_str(text: &str) -> Result<Self, OptionsError> {
        Ok(match text {
            "disable" => Self::Disable,
            "allow" | "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => {
                return Err(OptionsError::Value {
                    name: "sslmode".into(),
                    value: text.into(),
                });
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn parse(text: &str) -> Result<PgOptions, OptionsError> {
        PgOptions::parse(text, None, &Surroundings::default())
    }

    #[test]
    fn a_url_and_its_words_say_the_same() {
        let url = parse("postgresql://a%40b:p%2Fw@[::1]:6000/my%20db?sslmode=require").unwrap();
        let words =
            parse(r"user=a@b password='p/w' host = ::1 port=6000 dbname='my db' sslmode=require").unwrap();
        for options in [url, words] {
            assert_eq!(options.user.as_deref(), Some("a@b"));
            assert_eq!(options.password.unwrap().expose_secret(), "p/w");
            assert_eq!((options.host.as_str(), options.port), ("::1", 6000));
            assert_eq!(options.database.as_deref(), Some("my db"));
            assert_eq!(options.ssl_mode, SslMode::Require);
        }
    }

    #[rstest]
    #[case("host=a sslmod=require", "sslmod")]
    #[case("host=a sslmode=sometimes", "sometimes")]
    #[case("host=a,b", "several servers")]
    #[case("host=a sslcrl=x", "not supported")]
    #[case("host=a gssencmode=require", "gssencmode")]
    #[case("host=a target_session_attrs=standby", "standby")]
    #[case("host=a sslcert=x", "not sslkey")]
    #[case("host=a sslmode=verify-full", "no root certificate")]
    #[case("host=a sslmode=require sslrootcert=system", "verify-full")]
    #[case("host=a hostaddr=b", "hostaddr")]
    #[case("postgres://u:secret@h/d?x", "cannot read")]
    fn what_is_not_understood_is_refused_without_the_password(#[case] text: &str, #[case] told: &str) {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn an_address_spares_the_look_up_and_leaves_the_name() {
        let options =
            parse("host=db.example hostaddr=10.0.0.7 sslmode=verify-full sslrootcert=system").unwrap();
        let config = options.config();
        assert_eq!(config.get_hostaddrs(), ["10.0.0.7".parse::<IpAddr>().unwrap()]);
        assert_eq!(config.get_hosts().len(), 1);
        assert!(!format!("{:?}", parse("password=secret").unwrap()).contains("secret"));
    }
}
