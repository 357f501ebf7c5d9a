//! Command lines as Go's `flag` package reads them, because scripts written for gh-ost rely on it.
//!
//! * `-flag` and `--flag` are the same; `---flag` and `--=x` are errors;
//! * a switch stands alone or has its value after an equals sign, `--flag=false`; a word after it is not its
//!   value;
//! * any other flag takes `--flag=value` or the next argument, whatever that looks like;
//! * the last of several values for one flag counts; `--` ends the flags.
//!
//! One thing differs on purpose: Go leaves words that belong to no flag to the program, and gh-ost ignores
//! them, together with every flag after them. Here they are an error.

use std::ffi::OsString;

use secrecy::SecretString;
use thiserror::Error;

use super::flag::{FlagSpec, ValueKind};
use super::table;

/// A value that has been read.
#[derive(Clone, Debug)]
pub enum FlagValue {
    /// Of a switch.
    Switch(bool),
    /// Of a flag that takes some words only.
    Word(&'static str),
    /// A text, path or list.
    Text(String),
    /// A text that is never shown.
    Secret(SecretString),
    /// A whole number.
    Whole(i64),
    /// A whole number that is not negative.
    Unsigned(u64),
    /// A number.
    Real(f64),
}

/// One flag of a command line.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// Which flag.
    pub flag: &'static FlagSpec,
    /// Its value as written, which is good; secret if the flag's is.
    pub written: Written,
}

/// A value as it was written.
#[derive(Clone)]
pub struct Written(String);

impl Written {
    /// The text. Never log it: it may be a password.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[written]")
    }
}

/// What is wrong with a command line. gh-ost exits with 2 for these.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SyntaxError {
    /// No such flag.
    #[error("flag provided but not defined: -{name}.{} See --help for all flags", suggestion(*nearest))]
    Undefined {
        /// As it was written.
        name: String,
        /// A flag with a similar name.
        nearest: Option<&'static str>,
    },
    /// A value is missing.
    #[error("flag needs an argument: -{name}. Write --{name} {placeholder} or --{name}={placeholder}")]
    NeedsArgument {
        /// The flag.
        name: &'static str,
        /// What the value is.
        placeholder: &'static str,
    },
    /// A dash too many, or a name missing.
    #[error("bad flag syntax: {0}. A flag is --name, --name=value or --name value")]
    BadSyntax(String),
    /// A value is not good.
    #[error("invalid value {value:?} for flag -{name}: {reason}")]
    InvalidValue {
        /// The flag.
        name: &'static str,
        /// As it was written.
        value: String,
        /// What a good one is.
        reason: String,
    },
    /// A word that belongs to no flag.
    #[error("unexpected argument {word:?}. {hint}")]
    Unexpected {
        /// The word.
        word: String,
        /// What was probably meant.
        hint: String,
    },
    /// An argument that is not UTF-8.
    #[error("argument {0:?} is not valid UTF-8")]
    NotUnicode(OsString),
}

fn suggestion(nearest: Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |name| format!(" Did you mean --{name}?"))
}

/// A command line, read.
#[derive(Clone, Debug)]
pub enum CommandLine {
    /// `-h`, which Go answers with help whatever else is there.
    Help,
    /// Flags in the order in which they were given.
    Flags(Vec<Assignment>),
}

/// Reads a command line.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<CommandLine, SyntaxError> {
    let mut arguments = arguments
        .into_iter()
        .map(|argument| argument.into_string().map_err(SyntaxError::NotUnicode));
    let mut flags: Vec<Assignment> = Vec::new();
    while let Some(argument) = arguments.next() {
        let argument = argument?;
        let Some(body) = flag_body(&argument)? else {
            return match (argument.as_str(), arguments.next()) {
                ("--", None) => Ok(CommandLine::Flags(flags)),
                ("--", Some(word)) => Err(unexpected(&word?, None)),
                (word, _) => Err(unexpected(word, flags.last().map(|last| last.flag))),
            };
        };
        let (name, value) = body
            .split_once('=')
            .map_or((body, None), |(name, value)| (name, Some(value)));
        let Some(flag) = table::find(name) else {
            if name == "h" {
                return Ok(CommandLine::Help);
            }
            return Err(SyntaxError::Undefined {
                name: name.to_owned(),
                nearest: table::nearest(name),
            });
        };
        let value = match value {
            Some(value) => value.to_owned(),
            None if flag.kind.is_switch() => "true".to_owned(),
            None => arguments.next().ok_or(SyntaxError::NeedsArgument {
                name: flag.name,
                placeholder: flag.kind.placeholder(),
            })??,
        };
        check_value(flag, &value)?;
        flags.push(Assignment {
            flag,
            written: Written(value),
        });
    }
    Ok(CommandLine::Flags(flags))
}

/// What stands after the dashes, if the argument is a flag.
fn flag_body(argument: &str) -> Result<Option<&str>, SyntaxError> {
    let Some(body) = argument.strip_prefix('-').filter(|body| !body.is_empty()) else {
        return Ok(None);
    };
    let body = match body.strip_prefix('-') {
        Some("") => return Ok(None),
        Some(body) => body,
        None => body,
    };
    if body.starts_with(['-', '=']) {
        return Err(SyntaxError::BadSyntax(argument.to_owned()));
    }
    Ok(Some(body))
}

fn unexpected(word: &str, after: Option<&FlagSpec>) -> SyntaxError {
    let hint = match after {
        Some(flag) if flag.kind.is_switch() => {
            format!(
                "--{0} takes its value after an equals sign: --{0}={word}",
                flag.name
            )
        }
        _ => "All of a migration's settings are flags; put quotes around a value with spaces".to_owned(),
    };
    SyntaxError::Unexpected {
        word: word.to_owned(),
        hint,
    }
}

/// Whether a flag can have this value.
///
/// # Errors
/// Why not.
pub fn check_value(flag: &FlagSpec, text: &str) -> Result<(), SyntaxError> {
    read_value(flag, text).map(|_| ())
}

/// Reads a flag's value.
///
/// # Errors
/// What is wrong with it.
pub fn read_value(flag: &FlagSpec, text: &str) -> Result<FlagValue, SyntaxError> {
    let name = flag.name;
    let invalid = |reason: String| {
        Err(SyntaxError::InvalidValue {
            name,
            value: text.to_owned(),
            reason,
        })
    };
    Ok(match flag.kind {
        ValueKind::Text | ValueKind::Path | ValueKind::List => FlagValue::Text(text.to_owned()),
        ValueKind::Secret => FlagValue::Secret(SecretString::from(text)),
        ValueKind::Switch => match go_bool(text) {
            Some(value) => FlagValue::Switch(value),
            None => return invalid("write true or false".into()),
        },
        ValueKind::SwitchOr(words) => match (go_bool(text), find_word(words, text)) {
            (Some(value), _) => FlagValue::Switch(value),
            (None, Some(word)) => FlagValue::Word(word),
            (None, None) => return invalid(format!("write true, false or {}", words.join(" or "))),
        },
        ValueKind::Choice(words) => match find_word(words, text) {
            Some(word) => FlagValue::Word(word),
            None => return invalid(format!("write one of {}", words.join(", "))),
        },
        ValueKind::Whole => match go_integer(text).map(i64::try_from) {
            Some(Ok(value)) => FlagValue::Whole(value),
            Some(Err(_)) => return invalid("value out of range".into()),
            None => return invalid("write a whole number".into()),
        },
        ValueKind::Unsigned => match go_integer(text).map(u64::try_from) {
            Some(Ok(value)) => FlagValue::Unsigned(value),
            Some(Err(_)) => return invalid("value out of range".into()),
            None => return invalid("write a whole number, 0 or more".into()),
        },
        ValueKind::Real => match text.parse::<f64>() {
            Ok(value) if value.is_finite() => FlagValue::Real(value),
            _ => return invalid("write a number".into()),
        },
    })
}

fn find_word(words: &'static [&'static str], text: &str) -> Option<&'static str> {
    words.iter().copied().find(|word| *word == text)
}

/// Go's `strconv.ParseBool`.
fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Go's integer literals: decimal, `0x`, `0o`, `0b`, a leading zero for octal, single underscores between digits.
fn go_integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (text.starts_with('-'), digits),
        None => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = [("0x", 16), ("0o", 8), ("0b", 2), ("0", 8)]
        .into_iter()
        .find_map(|(prefix, radix)| {
            lower
                .strip_prefix(prefix)
                .filter(|rest| !rest.is_empty())
                .map(|rest| (radix, rest.strip_prefix('_').unwrap_or(rest)))
        })
        .unwrap_or((10, lower.as_str()));
    let groups: Vec<&str> = digits.split('_').collect();
    if groups
        .iter()
        .any(|group| group.is_empty() || group.starts_with(['+', '-']))
    {
        return None;
    }
    let value = i128::from_str_radix(&groups.concat(), radix).ok()?;
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn read_words(words: &[&str]) -> Result<Vec<(&'static str, String)>, SyntaxError> {
        match read(words.iter().map(OsString::from))? {
            CommandLine::Help => Ok(vec![("h", String::new())]),
            CommandLine::Flags(flags) => Ok(flags
                .into_iter()
                .map(|one| (one.flag.name, one.written.reveal().to_owned()))
                .collect()),
        }
    }

    #[rstest]
    #[case(&["-execute", "--ssl"], &[("execute", "true"), ("ssl", "true")])]
    #[case(&["--ssl=false", "-ssl=T"], &[("ssl", "false"), ("ssl", "T")])]
    #[case(&["--chunk-size", "500", "-chunk-size=600"], &[("chunk-size", "500"), ("chunk-size", "600")])]
    #[case(&["--alter", "-drop column x"], &[("alter", "-drop column x")])]
    #[case(&["--throttle-query=select a=b"], &[("throttle-query", "select a=b")])]
    #[case(&["--user="], &[("user", "")])]
    #[case(&["--user", ""], &[("user", "")])]
    #[case(&["--password", "--execute"], &[("password", "--execute")])]
    #[case(&["--execute", "--"], &[("execute", "true")])]
    #[case(&["--resume", "--resume=auto"], &[("resume", "true"), ("resume", "auto")])]
    #[case(&["--default-retries", "9999999999999"], &[("default-retries", "9999999999999")])]
    #[case(&["--chunk-size=0x10", "--chunk-size=1_000"], &[("chunk-size", "0x10"), ("chunk-size", "1_000")])]
    #[case(&["-h", "--whatever"], &[("h", "")])]
    fn go_reads(#[case] words: &[&str], #[case] flags: &[(&'static str, &str)]) {
        let flags: Vec<_> = flags
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect();
        assert_eq!(read_words(words).unwrap(), flags);
    }

    #[rstest]
    #[case(&["--chunksize", "5"], "not defined: -chunksize. Did you mean --chunk-size? See")]
    #[case(&["--chunk-size"], "flag needs an argument: -chunk-size")]
    #[case(&["--chunk-size", "ten"], "invalid value \"ten\" for flag -chunk-size: write a whole number")]
    #[case(&["--chunk-size", "1__0"], "whole number")]
    #[case(&["--chunk-size", "1.5"], "whole number")]
    #[case(&["--chunk-size", ""], "whole number")]
    #[case(&["--chunk-size", "99999999999999999999"], "out of range")]
    #[case(&["--replica-server-id", "-1"], "out of range")]
    #[case(&["--nice-ratio", "inf"], "write a number")]
    #[case(&["---ssl"], "bad flag syntax: ---ssl")]
    #[case(&["--=1"], "bad flag syntax")]
    #[case(&["--ssl=yes"], "write true or false")]
    #[case(&["--ssl="], "write true or false")]
    #[case(&["--execute", "false"], "--execute=false")]
    #[case(&["--execute", "-"], "unexpected argument \"-\"")]
    #[case(&["--", "--execute"], "unexpected argument \"--execute\"")]
    #[case(&["--verify", "some"], "write one of off, sample, full")]
    #[case(&["--resume=maybe"], "write true, false or auto")]
    fn go_refuses(#[case] words: &[&str], #[case] part: &str) {
        let error = read_words(words).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }

    #[rstest]
    #[case("10", Some(10))]
    #[case("-10", Some(-10))]
    #[case("+7", Some(7))]
    #[case("0", Some(0))]
    #[case("010", Some(8))]
    #[case("0b101", Some(5))]
    #[case("0o17", Some(15))]
    #[case("0X_ff", Some(255))]
    #[case("09", None)]
    #[case("0x", None)]
    #[case("1_", None)]
    #[case("_1", None)]
    #[case("+-1", None)]
    #[case("1e3", None)]
    #[case(" 1", None)]
    fn integers_are_gos(#[case] text: &str, #[case] value: Option<i128>) {
        assert_eq!(go_integer(text), value);
    }

    #[test]
    fn a_password_is_not_in_any_debug_output() {
        let line = read(["--password=hunter2".into(), "--master-password=hunter2".into()]).unwrap();
        assert!(!format!("{line:?}").contains("hunter2"));
        let flag = table::find("password").unwrap();
        assert!(!format!("{:?}", read_value(flag, "hunter2").unwrap()).contains("hunter2"));
    }

    proptest! {
        #[test]
        fn one_or_two_dashes_and_both_ways_to_give_a_value_are_the_same(
            value in "[ -~]{0,20}", double in any::<bool>(), joined in any::<bool>(),
        ) {
            let dashes = if double { "--" } else { "-" };
            let words = if joined {
                vec![format!("{dashes}alter={value}")]
            } else {
                vec![format!("{dashes}alter"), value.clone()]
            };
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            prop_assert_eq!(read_words(&words).unwrap(), vec![("alter", value)]);
        }

        #[test]
        fn no_command_line_panics(words in proptest::collection::vec("-{0,3}[a-z0-9=-]{0,12}|\\PC{0,8}", 0..6)) {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let _ = read_words(&words);
        }

        #[test]
        fn every_whole_number_is_read_back(value in any::<i64>()) {
            prop_assert_eq!(go_integer(&value.to_string()), Some(i128::from(value)));
        }
    }
}
