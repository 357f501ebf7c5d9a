//! Layers of settings: defaults, then the settings file, then the environment, then the command line. The
//! `config` crate puts one over the other; what the values mean is the flag table's business.

use std::path::{Path, PathBuf};

use config::{Config, ConfigError, File, FileFormat, Map, Source, Value, ValueKind};

use super::option_file::without_mark;
use super::resolved::{Origin, Resolved};
use super::{Note, SettingsError, Variables};
use crate::args::flag::FlagSpec;
use crate::args::go_syntax::{self, Assignment};
use crate::args::table;

/// One layer: flag names and values as they would be written on a command line.
#[derive(Clone)]
struct Layer(Map<String, Value>);

impl std::fmt::Debug for Layer {
    /// Names only: a value may be a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

impl Layer {
    fn new() -> Self {
        Self(Map::new())
    }

    fn set(&mut self, origin: &Origin, name: &str, text: &str) {
        let value = Value::new(Some(&origin.code()), ValueKind::String(text.to_owned()));
        self.0.insert(name.to_owned(), value);
    }
}

/// Puts the layers together.
pub(super) fn resolve(
    flags: &[Assignment],
    variables: &Variables,
    notes: &mut Vec<Note>,
) -> Result<Resolved, SettingsError> {
    let command_line = from_command_line(flags);
    let environment = from_environment(variables, notes)?;
    let file = match settings_file(flags, variables) {
        Some(path) => from_file(&path)?,
        None => Layer::new(),
    };
    // Collected rather than got one by one: getting a value forgets where it came from.
    let mut merged = Config::builder()
        .add_source(defaults())
        .add_source(file)
        .add_source(environment)
        .add_source(command_line)
        .build()
        .and_then(|config| config.collect())
        .map_err(|error| SettingsError::Usage(error.to_string()))?;
    let mut resolved = Resolved::default();
    for flag in table::all() {
        let Some(value) = merged.remove(flag.name) else {
            continue;
        };
        let origin = value.origin().map_or(Origin::Default, Origin::from_code);
        let text = value
            .into_string()
            .map_err(|error| SettingsError::Usage(error.to_string()))?;
        resolved.insert(flag, go_syntax::read_value(flag, &text)?, origin);
    }
    Ok(resolved)
}

fn defaults() -> Layer {
    let mut layer = Layer::new();
    for flag in table::all().filter(|flag| !flag.default.is_empty()) {
        layer.set(&Origin::Default, flag.name, flag.default);
    }
    layer
}

fn from_command_line(flags: &[Assignment]) -> Layer {
    let mut layer = Layer::new();
    for one in flags {
        layer.set(&Origin::CommandLine, one.flag.name, one.written.reveal());
    }
    layer
}

/// An empty variable counts as not set.
fn from_environment(variables: &Variables, notes: &mut Vec<Note>) -> Result<Layer, SettingsError> {
    let mut layer = Layer::new();
    for (variable, text) in variables {
        let Some(tail) = variable.strip_prefix("CHANGELING_") else {
            continue;
        };
        if text.is_empty() || tail.starts_with("TEST_") {
            continue;
        }
        let name = tail.replace('_', "-").to_ascii_lowercase();
        let Some(flag) = table::find(&name) else {
            let nearest = table::nearest(&name)
                .and_then(table::find)
                .map(FlagSpec::environment);
            notes.push(Note::warning(format!(
                "{variable} in the environment is no setting of this program{}",
                nearest.map_or_else(String::new, |nearest| format!("; did you mean {nearest}?"))
            )));
            continue;
        };
        let origin = Origin::Environment(variable.clone());
        checked(flag, &origin, text)?;
        layer.set(&origin, flag.name, text);
    }
    Ok(layer)
}

fn settings_file(flags: &[Assignment], variables: &Variables) -> Option<PathBuf> {
    let given = flags.iter().rev().find(|one| one.flag.name == "settings");
    let path = match given {
        Some(one) => one.written.reveal().to_owned(),
        None => variables.get("CHANGELING_SETTINGS").cloned().unwrap_or_default(),
    };
    (!path.is_empty()).then(|| PathBuf::from(path))
}

fn from_file(path: &Path) -> Result<Layer, SettingsError> {
    let format = match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => FileFormat::Toml,
        Some("yaml" | "yml") => FileFormat::Yaml,
        _ => {
            return Err(SettingsError::Usage(format!(
                "--settings {}: the name must end in .toml, .yaml or .yml",
                path.display()
            )));
        }
    };
    let text = std::fs::read_to_string(path).map_err(|source| SettingsError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    let origin = Origin::File(path.display().to_string());
    let keys = File::from_str(without_mark(&text), format)
        .collect()
        .map_err(|error| {
            let error = without_source(&error.to_string());
            SettingsError::Usage(format!("--settings {}: {error}", path.display()))
        })?;
    let mut layer = Layer::new();
    for (key, value) in keys {
        let flag = table::find(&key).ok_or_else(|| unknown_key(path, &key))?;
        if flag.name == "settings" {
            return Err(SettingsError::Usage(format!(
                "{}: a settings file cannot name another settings file",
                path.display()
            )));
        }
        let text = written(&value.kind).ok_or_else(|| {
            SettingsError::Usage(format!(
                "{}: {key} must be one value or a list of values, as in {key} = \"…\"",
                path.display()
            ))
        })?;
        checked(flag, &origin, &text)?;
        layer.set(&origin, flag.name, &text);
    }
    Ok(layer)
}

/// A parser's message without the lines of the file that it quotes: a password may stand in them.
fn without_source(message: &str) -> String {
    let quotes = |line: &&str| {
        let rest = line.trim_start_matches(|c: char| c.is_whitespace() || c.is_ascii_digit());
        rest.starts_with('|')
    };
    let kept: Vec<&str> = message
        .lines()
        .filter(|line| !quotes(line) && !line.trim().is_empty())
        .collect();
    kept.join(": ")
}

fn unknown_key(path: &Path, key: &str) -> SettingsError {
    let hint = match table::nearest(&key.replace('_', "-").to_ascii_lowercase()) {
        Some(nearest) => format!("; did you mean {nearest}?"),
        None => "; keys are the names of flags, see changeling migrate --help".to_owned(),
    };
    SettingsError::Usage(format!("{}: unknown key {key}{hint}", path.display()))
}

/// A value as it would be written on a command line.
fn written(kind: &ValueKind) -> Option<String> {
    Some(match kind {
        ValueKind::Boolean(value) => value.to_string(),
        ValueKind::I64(value) => value.to_string(),
        ValueKind::I128(value) => value.to_string(),
        ValueKind::U64(value) => value.to_string(),
        ValueKind::U128(value) => value.to_string(),
        ValueKind::Float(value) => value.to_string(),
        ValueKind::String(value) => value.clone(),
        ValueKind::Array(items) => {
            let items: Option<Vec<_>> = items.iter().map(|item| written(&item.kind)).collect();
            items?.join(",")
        }
        ValueKind::Nil | ValueKind::Table(_) => return None,
    })
}

/// Refuses what may not come from here, and values that the flag cannot have.
fn checked(flag: &FlagSpec, origin: &Origin, text: &str) -> Result<(), SettingsError> {
    if flag.only_on_command_line() {
        return Err(SettingsError::Usage(format!(
            "{} may only be given on the command line, as --{}; it is set by {origin}",
            flag.name, flag.name
        )));
    }
    go_syntax::check_value(flag, text)
        .map_err(|error| SettingsError::Usage(format!("{error} (set by {origin})")))
}
