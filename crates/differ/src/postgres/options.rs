//! How a PostgreSQL server is reached: libpq's words and rules.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

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
    #[error(
        "cannot read the connection string at {0:?}; write postgres://user@host/database or host=… dbname=…"
    )]
    Syntax(String),
    /// A word that libpq knows nothing of either.
    #[error("the connection string says {0:?}, which is not a connection parameter")]
    Unknown(String),
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
    /// File of the certificates that are trusted; the system's where none is given.
    pub ssl_root_cert: Option<PathBuf>,
    /// Files of the client's certificate and key.
    pub ssl_client: Option<(PathBuf, PathBuf)>,
    /// Time for a connection to come about.
    pub connect_timeout: Duration,
    /// What the server shows as the client's name.
    pub application_name: String,
}

impl Default for PgOptions {
    fn default() -> Self {
        Self {
            host: "localhost".into(),
            port: 5432,
            user: None,
            password: None,
            database: None,
            ssl_mode: SslMode::default(),
            ssl_root_cert: None,
            ssl_client: None,
            connect_timeout: CONNECT_TIMEOUT,
            application_name: "changeling".into(),
        }
    }
}

impl PgOptions {
    /// Reads a URL or a `key=value` string.
    ///
    /// # Errors
    /// What is not understood is refused: a TLS rule that is overlooked would be a hole.
    pub fn parse(text: &str) -> Result<Self, OptionsError> {
        let words = if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            url_words(text)?
        } else {
            conninfo_words(text)?
        };
        Self::from_words(words)
    }

    /// The same from words that were read elsewhere, as those of a service file.
    ///
    /// # Errors
    /// As [`PgOptions::parse`].
    pub fn from_words(words: impl IntoIterator<Item = (String, String)>) -> Result<Self, OptionsError> {
        let mut options = Self::default();
        let mut certificate = None;
        let mut key = None;
        let words: BTreeMap<String, String> = words.into_iter().collect();
        for (name, value) in words {
            match name.as_str() {
                // An address needs no look-up; the name stays what the certificate is checked against.
                "host" => options.host = value,
                "hostaddr" if options.host == "localhost" => options.host = value,
                "hostaddr"
                | "fallback_application_name"
                | "gssencmode"
                | "channel_binding"
                | "keepalives"
                | "keepalives_idle"
                | "keepalives_interval"
                | "keepalives_count"
                | "client_encoding"
                | "sslnegotiation"
                | "target_session_attrs"
                | "tcp_user_timeout" => {}
                "port" => options.port = parsed(&name, &value)?,
                "user" => options.user = Some(value),
                "password" => options.password = Some(value.into()),
                "dbname" => options.database = Some(value),
                "sslmode" => options.ssl_mode = value.parse()?,
                "sslrootcert" => options.ssl_root_cert = Some(value.into()),
                "sslcert" => certificate = Some(PathBuf::from(value)),
                "sslkey" => key = Some(PathBuf::from(value)),
                "connect_timeout" => {
                    // libpq: 0 means to wait for ever; a limit of an hour is that for us.
                    let seconds: u64 = parsed(&name, &value)?;
                    options.connect_timeout = Duration::from_secs(if seconds == 0 { 3600 } else { seconds });
                }
                "application_name" => options.application_name = value,
                _ => return Err(OptionsError::Unknown(name)),
            }
        }
        options.ssl_client = certificate.zip(key);
        Ok(options)
    }

    /// For the driver; without the TLS rules that it does not know.
    pub(super) fn config(&self) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config
            .host(&self.host)
            .port(self.port)
            .connect_timeout(self.connect_timeout)
            .application_name(&self.application_name)
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
        config
    }
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

fn conninfo_words(text: &str) -> Result<Vec<(String, String)>, OptionsError> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, value) = rest
            .split_once('=')
            .ok_or_else(|| OptionsError::Syntax(shown(rest)))?;
        let (value, after) = conninfo_value(value.trim_start())?;
        words.push((name.trim().to_owned(), value));
        rest = after.trim_start();
    }
    Ok(words)
}

/// A value, quoted or not, and what follows it; a backslash takes the next character as it is.
fn conninfo_value(text: &str) -> Result<(String, &str), OptionsError> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut characters = text.char_indices().skip(usize::from(quoted));
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, next)| next)),
            '\'' if quoted => return Ok((value, &text[at + 1..])),
            space if !quoted && space.is_whitespace() => return Ok((value, &text[at..])),
            other => value.push(other),
        }
    }
    if quoted {
        return Err(OptionsError::Syntax("an open quote".into()));
    }
    Ok((value, ""))
}

/// Never the whole string: it may hold a password.
fn shown(text: &str) -> String {
    text.chars().take(12).collect()
}

fn url_words(text: &str) -> Result<Vec<(String, String)>, OptionsError> {
    let (_, rest) = text
        .split_once("://")
        .ok_or_else(|| OptionsError::Syntax(shown(text)))?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, address) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let (host, port) = if let Some(inner) = address.strip_prefix('[') {
        let (host, port) = inner
            .split_once(']')
            .ok_or_else(|| OptionsError::Syntax("an open bracket".into()))?;
        (host, port.trim_start_matches(':'))
    } else {
        address.rsplit_once(':').unwrap_or((address, ""))
    };
    let mut words = Vec::new();
    for (name, value) in [
        ("user", user),
        ("password", password),
        ("host", host),
        ("port", port),
        ("dbname", database),
    ] {
        if !value.is_empty() {
            words.push((name.to_owned(), unescaped(value)?));
        }
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair
            .split_once('=')
            .ok_or_else(|| OptionsError::Syntax(shown(pair)))?;
        words.push((unescaped(name)?, unescaped(value)?));
    }
    Ok(words)
}

fn unescaped(text: &str) -> Result<String, OptionsError> {
    let bad = || OptionsError::Syntax("a percent sign".into());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next().ok_or_else(bad)?, rest.next().ok_or_else(bad)?];
            let digits = std::str::from_utf8(&digits).map_err(|_| bad())?;
            bytes.push(u8::from_str_radix(digits, 16).map_err(|_| bad())?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_and_its_words_say_the_same() {
        let url =
            PgOptions::parse("postgresql://a%40b:p%2Fw@[::1]:6000/my%20db?sslmode=verify-full").unwrap();
        let words = PgOptions::parse(
            r"user=a@b password='p/w' host = ::1 port=6000 dbname='my db' sslmode=verify-full",
        )
        .unwrap();
        for options in [url, words] {
            assert_eq!(options.user.as_deref(), Some("a@b"));
            assert_eq!(options.password.unwrap().expose_secret(), "p/w");
            assert_eq!((options.host.as_str(), options.port), ("::1", 6000));
            assert_eq!(options.database.as_deref(), Some("my db"));
            assert_eq!(options.ssl_mode, SslMode::VerifyFull);
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_without_the_password() {
        assert!(PgOptions::parse("host=a sslmod=require").is_err());
        assert!(PgOptions::parse("host=a sslmode=sometimes").is_err());
        let error = PgOptions::parse("postgres://u:secret@h/d?x")
            .unwrap_err()
            .to_string();
        assert!(!error.contains("secret"), "{error}");
        assert!(!format!("{:?}", PgOptions::parse("password=secret").unwrap()).contains("secret"));
    }
}
