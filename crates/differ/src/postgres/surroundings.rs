//! What libpq looks at where a connection string leaves something open: a service, variables, files in the home directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::cluster::sections_of;

use super::connection_string::Words;
use super::options::OptionsError;
use super::password_file;

/// Variables and the parameters that they stand for.
const VARIABLES: [(&str, &str); 17] = [
    ("PGAPPNAME", "application_name"),
    ("PGCHANNELBINDING", "channel_binding"),
    ("PGCONNECT_TIMEOUT", "connect_timeout"),
    ("PGDATABASE", "dbname"),
    ("PGGSSENCMODE", "gssencmode"),
    ("PGHOST", "host"),
    ("PGHOSTADDR", "hostaddr"),
    ("PGOPTIONS", "options"),
    ("PGPASSWORD", "password"),
    ("PGPASSFILE", "passfile"),
    ("PGPORT", "port"),
    ("PGSSLCERT", "sslcert"),
    ("PGSSLKEY", "sslkey"),
    ("PGSSLMODE", "sslmode"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGTARGETSESSIONATTRS", "target_session_attrs"),
    ("PGUSER", "user"),
];

/// Where libpq's parameters come from if nobody gives them: the variables of a process. The default has none, so that
/// nothing but the connection string counts.
#[derive(Clone, Default)]
pub struct Surroundings {
    variables: BTreeMap<String, String>,
}

/// The values may hold a password.
impl std::fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}

impl Surroundings {
    /// This process's.
    #[must_use]
    pub fn of_process() -> Self {
        Self::of(
            std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        )
    }

    /// These variables; empty ones count as not set.
    #[must_use]
    pub fn of(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let variables = variables.into_iter().filter(|(_, value)| !value.is_empty());
        Self {
            variables: variables.collect(),
        }
    }

    /// A variable.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    fn home(&self) -> Option<&Path> {
        self.variable("HOME").map(Path::new)
    }

    /// A file of libpq's in the home directory, if it is there.
    fn own_file(&self, name: &str) -> Option<String> {
        let path = self.home()?.join(".postgresql").join(name);
        path.is_file().then(|| path.to_string_lossy().into_owned())
    }

    /// In libpq's order: the words themselves, their service, the variables, the files.
    pub(super) fn complete(&self, mut words: Words) -> Result<Words, OptionsError> {
        self.add_service(&mut words)?;
        for (variable, name) in VARIABLES {
            if let Some(value) = self.variable(variable) {
                words.entry(name.into()).or_insert_with(|| value.into());
            }
        }
        if let (None, Some(address)) = (words.get("host"), words.get("hostaddr").cloned()) {
            words.insert("host".into(), address);
        }
        if let (None, Some(user)) = (words.get("user"), self.variable("USER")) {
            words.insert("user".into(), user.into());
        }
        self.add_certificates(&mut words);
        if !words.contains_key("password")
            && let Some(password) = self.password(&words)?
        {
            words.insert("password".into(), password);
        }
        Ok(words)
    }

    fn add_service(&self, words: &mut Words) -> Result<(), OptionsError> {
        let given = words.remove("service");
        let Some(service) = given.or_else(|| self.variable("PGSERVICE").map(Into::into)) else {
            return Ok(());
        };
        let files = self.service_files();
        for path in files.iter().filter(|path| path.is_file()) {
            let sections = sections_of(path).map_err(|error| OptionsError::File {
                path: path.clone(),
                message: error.to_string(),
            })?;
            if let Some((_, found)) = sections.into_iter().find(|(name, _)| *name == service) {
                for (name, value) in found {
                    words.entry(name).or_insert(value);
                }
                return Ok(());
            }
        }
        let looked: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
        Err(OptionsError::NoService {
            service,
            looked: looked.join(", "),
        })
    }

    fn service_files(&self) -> Vec<PathBuf> {
        let own = match self.variable("PGSERVICEFILE") {
            Some(file) => Some(PathBuf::from(file)),
            None => self.home().map(|home| home.join(".pg_service.conf")),
        };
        let shared = Path::new(self.variable("PGSYSCONFDIR").unwrap_or("/etc"));
        own.into_iter().chain([shared.join("pg_service.conf")]).collect()
    }

    /// A pair of certificate and key is taken from one place only.
    fn add_certificates(&self, words: &mut Words) {
        if !words.contains_key("sslrootcert")
            && let Some(file) = self.own_file("root.crt")
        {
            words.insert("sslrootcert".into(), file);
        }
        if words.contains_key("sslcert") || words.contains_key("sslkey") {
            return;
        }
        if let (Some(certificate), Some(key)) =
            (self.own_file("postgresql.crt"), self.own_file("postgresql.key"))
        {
            words.insert("sslcert".into(), certificate);
            words.insert("sslkey".into(), key);
        }
    }

    fn password(&self, words: &Words) -> Result<Option<String>, OptionsError> {
        let path = match words.get("passfile") {
            Some(path) => PathBuf::from(path),
            None => match self.home() {
                Some(home) => home.join(".pgpass"),
                None => return Ok(None),
            },
        };
        if !path.is_file() {
            return Ok(None);
        }
        let word = |name: &str| words.get(name).map(String::as_str);
        let user = word("user").unwrap_or_default();
        let host = word("host").unwrap_or("localhost");
        password_file::look_up(
            &path,
            &password_file::Login {
                // A directory of sockets counts as this machine.
                host: if host.starts_with('/') { "localhost" } else { host },
                port: word("port").unwrap_or("5432"),
                database: word("dbname").unwrap_or(user),
                user,
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::postgres::{PgOptions, SslMode};

    fn home(variables: &[(&str, &str)]) -> (tempfile::TempDir, Surroundings) {
        let home = tempfile::tempdir().unwrap();
        let own = ("HOME".to_owned(), home.path().to_string_lossy().into_owned());
        let given = variables
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()));
        let surroundings = Surroundings::of(given.chain([own]));
        (home, surroundings)
    }

    #[test]
    fn the_string_counts_before_the_service_and_the_service_before_variables() {
        let (home, surroundings) = home(&[("PGPORT", "3"), ("PGUSER", "u3"), ("PGDATABASE", "d3")]);
        let file = home.path().join(".pg_service.conf");
        std::fs::write(file, "[shop]\nhost=h2\nport=2\nuser=u2\n").unwrap();
        let options = PgOptions::parse("service=shop port=1", None, &surroundings).unwrap();
        assert_eq!((options.host.as_str(), options.port), ("h2", 1));
        assert_eq!(options.user.as_deref(), Some("u2"));
        assert_eq!(options.database.as_deref(), Some("d3"));
        let error = PgOptions::parse("service=none", None, &surroundings)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("none") && error.contains("pg_service.conf"),
            "{error}"
        );
    }

    #[test]
    fn passwords_come_from_the_password_file_if_nobody_else_can_read_it() {
        let (home, surroundings) = home(&[("USER", "me")]);
        let file = home.path().join(".pgpass");
        std::fs::write(
            &file,
            "# ours\nother:*:*:*:no\nh\\:1:5432:*:me:a\\:b\nlocalhost:*:*:*:here\n",
        )
        .unwrap();
        let password = |text: &str| {
            let options = PgOptions::parse(text, None, &surroundings);
            options.map(|options| {
                options
                    .password
                    .map(|password| password.expose_secret().to_owned())
            })
        };
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        assert_eq!(password("host=h:1 dbname=d").unwrap().as_deref(), Some("a:b"));
        assert_eq!(password("host=h:1 user=you").unwrap(), None);
        assert_eq!(password("host=/run/postgresql").unwrap().as_deref(), Some("here"));
        assert_eq!(
            password("host=h:1 password=given").unwrap().as_deref(),
            Some("given")
        );
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).unwrap();
        let error = password("host=h:1").unwrap_err().to_string();
        assert!(error.contains("0600"), "{error}");
    }

    #[test]
    fn a_root_certificate_at_home_is_verified_against() {
        let (home, surroundings) = home(&[("PGSSLMODE", "verify-full")]);
        assert!(PgOptions::parse("host=h", None, &surroundings).is_err());
        std::fs::create_dir(home.path().join(".postgresql")).unwrap();
        let root = home.path().join(".postgresql/root.crt");
        std::fs::write(&root, "").unwrap();
        let options = PgOptions::parse("host=h", None, &surroundings).unwrap();
        assert_eq!(
            (options.ssl_mode, options.ssl_root_cert),
            (SslMode::VerifyFull, Some(root))
        );
    }
}
