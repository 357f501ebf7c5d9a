//! Who logs in, and with what password.
//!
//! The account: `--user` (or its environment variable, or the settings file), else `--conf`, else `~/.my.cnf`.
//! The password: `--ask-pass`, else `--password` (likewise), else `--conf`, else `MYSQL_PWD`, else
//! `~/.my.cnf`, else none. `~/.my.cnf` is looked at only if there is no `--conf`, and no user and no password
//! from anywhere else: it is a convenience for people, and must not change what a script has said.

use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::option_file::{self, Login};
use super::resolved::{Origin, Resolved};
use super::{Note, SettingsError, Surroundings};

/// Account and password for all servers.
pub(super) struct Credentials {
    pub(super) user: String,
    pub(super) password: SecretString,
}

pub(super) fn find(
    resolved: &Resolved,
    surroundings: &Surroundings,
    notes: &mut Vec<Note>,
) -> Result<Credentials, SettingsError> {
    warn_of_visible_passwords(resolved, notes);
    let mut user = resolved.text("user").map(str::to_owned);
    let mut password = if resolved.switch("ask-pass") {
        Some((surroundings.ask_password)().map_err(|error| {
            SettingsError::Usage(format!(
                "--ask-pass: the password cannot be read from the terminal: {error}. Use CHANGELING_PASSWORD or --conf \
                 where there is no terminal"
            ))
        })?)
    } else {
        resolved.secret("password").cloned()
    };
    let conf = resolved.text("conf").map(PathBuf::from);
    if let Some(path) = &conf {
        warn_of_readable_file("--conf", path, notes);
        fill(
            &mut user,
            &mut password,
            option_file::read(path, &surroundings.variables)?,
        );
    }
    if password.is_none() {
        password = surroundings
            .variables
            .get("MYSQL_PWD")
            .map(|password| SecretString::from(password.as_str()));
    }
    if conf.is_none() && user.is_none() && password.is_none() {
        read_home(&mut user, &mut password, surroundings, notes)?;
    }
    Ok(Credentials {
        user: user.unwrap_or_default(),
        password: password.unwrap_or_default(),
    })
}

fn fill(user: &mut Option<String>, password: &mut Option<SecretString>, login: Login) {
    if user.is_none() {
        *user = login.user;
    }
    if password.is_none() {
        *password = login.password;
    }
}

fn read_home(
    user: &mut Option<String>,
    password: &mut Option<SecretString>,
    surroundings: &Surroundings,
    notes: &mut Vec<Note>,
) -> Result<(), SettingsError> {
    let Some(path) = surroundings
        .home
        .as_ref()
        .map(|home| home.join(".my.cnf"))
        .filter(|path| path.is_file())
    else {
        return Ok(());
    };
    fill(user, password, option_file::read(&path, &surroundings.variables)?);
    notes.push(Note::info(format!(
        "No --user, --conf or password: they come from {}",
        path.display()
    )));
    Ok(())
}

fn warn_of_visible_passwords(resolved: &Resolved, notes: &mut Vec<Note>) {
    for name in ["password", "master-password"] {
        match resolved.origin(name) {
            Origin::CommandLine => notes.push(Note::warning(format!(
                "--{name}: everybody on this machine can read it in the process list; give it as CHANGELING_{}",
                name.replace('-', "_").to_ascii_uppercase()
            ))),
            Origin::File(path) => warn_of_readable_file("--settings", Path::new(&path), notes),
            Origin::Default | Origin::Environment(_) => {}
        }
    }
}

fn warn_of_readable_file(flag: &str, path: &Path, notes: &mut Vec<Note>) {
    use std::os::unix::fs::PermissionsExt as _;
    let open = std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o004 != 0);
    if open {
        notes.push(Note::warning(format!(
            "{flag} {0}: everybody on this machine can read the password in it; chmod 600 {0}",
            path.display()
        )));
    }
}
