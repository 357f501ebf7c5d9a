//! From flags, files and the environment to [`MigrationSettings`].
//!
//! [`prepare`] first finds out how to log, so that whatever is wrong afterwards is reported in the form that
//! was asked for; [`Prepared::launch`] then does the rest.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use changeling_applier::settings::MigrationSettings;
use secrecy::SecretString;
use thiserror::Error;

use crate::args::go_syntax::{Assignment, SyntaxError};
use crate::render::log::{LogFormat, LogLevel, LogSettings};
use crate::render::screen::ProgressMode;

mod checks;
mod credentials;
mod layers;
mod migration;
mod option_file;
mod resolved;
mod target;

use resolved::Resolved;

/// Environment variables.
pub type Variables = BTreeMap<String, String>;

/// Reads a password from a person.
pub type AskPassword = Box<dyn Fn() -> io::Result<SecretString>>;

/// What the program can look at beside its arguments.
pub struct Surroundings {
    /// The environment.
    pub variables: Variables,
    /// The user's home directory.
    pub home: Option<PathBuf>,
    /// Asks for the password.
    pub ask_password: AskPassword,
}

impl Surroundings {
    /// Those of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let variables: Variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let home = variables.get("HOME").map(PathBuf::from);
        let ask_password = || rpassword::prompt_password("Password: ").map(SecretString::from);
        Self {
            variables,
            home,
            ask_password: Box::new(ask_password),
        }
    }
}

/// What is wrong with the settings.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// The command line cannot be read.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// It can be read, and makes no sense.
    #[error("{0}")]
    Usage(String),
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl SettingsError {
    /// gh-ost's exit status for it: 2 from Go's flag parser, 1 from its own checks.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        if matches!(self, Self::Syntax(_)) { 2 } else { 1 }
    }
}

/// Something to say once the log works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// How loudly.
    pub level: LogLevel,
    /// What.
    pub text: String,
}

impl Note {
    fn warning(text: String) -> Self {
        Self {
            level: LogLevel::Warning,
            text,
        }
    }

    fn info(text: String) -> Self {
        Self {
            level: LogLevel::Info,
            text,
        }
    }
}

/// Settings put together, and not yet understood.
pub struct Prepared {
    /// How to log.
    pub log: LogSettings,
    resolved: Resolved,
    notes: Vec<Note>,
}

/// All that running a migration needs.
#[derive(Debug)]
pub struct Launch {
    /// For the migration.
    pub migration: MigrationSettings,
    /// Where commands are taken.
    pub socket: PathBuf,
    /// `--initially-drop-socket-file`.
    pub take_socket_over: bool,
    /// How progress is shown.
    pub progress: ProgressMode,
    /// What to say at the start.
    pub notes: Vec<Note>,
}

/// Puts the layers together.
///
/// # Errors
/// A layer cannot be read, or holds what it cannot.
pub fn prepare(flags: &[Assignment], surroundings: &Surroundings) -> Result<Prepared, SettingsError> {
    let mut notes = Vec::new();
    let resolved = layers::resolve(flags, &surroundings.variables, &mut notes)?;
    Ok(Prepared {
        log: log_settings(&resolved),
        resolved,
        notes,
    })
}

impl Prepared {
    /// Makes settings of it.
    ///
    /// # Errors
    /// What is missing, contradictory or not available.
    pub fn launch(mut self, surroundings: &Surroundings) -> Result<Launch, SettingsError> {
        let resolved = &self.resolved;
        checks::check(resolved)?;
        checks::notes(resolved, &mut self.notes);
        let migration = migration::build(resolved, surroundings, &mut self.notes)?;
        let socket = match resolved.text("serve-socket-file") {
            Some(path) => PathBuf::from(path),
            None => crate::serve::default_socket(&migration.table.schema, &migration.table.table),
        };
        Ok(Launch {
            migration,
            socket,
            take_socket_over: resolved.switch("initially-drop-socket-file"),
            progress: match resolved.word("progress") {
                Some("always") => ProgressMode::Always,
                Some("never") => ProgressMode::Never,
                _ => ProgressMode::Auto,
            },
            notes: self.notes,
        })
    }
}

fn log_settings(resolved: &Resolved) -> LogSettings {
    let level = if resolved.switch("quiet") {
        LogLevel::Error
    } else if resolved.switch("debug") {
        LogLevel::Debug
    } else if resolved.switch("verbose") {
        LogLevel::Info
    } else {
        LogLevel::Error
    };
    let format = if resolved.word("log-format") == Some("json") {
        LogFormat::Json
    } else {
        LogFormat::Text
    };
    LogSettings {
        level,
        format,
        causes: resolved.switch("stack"),
    }
}

#[cfg(test)]
mod tests;
