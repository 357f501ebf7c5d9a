//! `[client] user` and `password` of an option file: gh-ost's `--conf`, which is also how `my.cnf` is written.
//!
//! MySQL's rules: `#` or `;` begins a comment line, `#` outside quotes ends a value, values may be quoted,
//! backslash escapes are known, `-` and `_` are the same in names, the last value counts. Other sections and
//! other names are passed over, so that a `my.cnf` can be used as it is. As in gh-ost, a value that is
//! `${NAME}` is taken from the environment.

use std::path::Path;

use secrecy::SecretString;

use super::{SettingsError, Variables};

/// What an option file says about logging in.
#[derive(Debug, Default)]
pub(super) struct Login {
    /// Account.
    pub(super) user: Option<String>,
    /// Its password.
    pub(super) password: Option<SecretString>,
}

/// Reads the file at `path`.
pub(super) fn read(path: &Path, variables: &Variables) -> Result<Login, SettingsError> {
    let text = std::fs::read_to_string(path).map_err(|source| SettingsError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    parse(&text, variables)
        .map_err(|reason| SettingsError::Usage(format!("--conf {}: {reason}", path.display())))
}

/// Some editors begin a file with a mark of its encoding.
pub(super) fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

fn parse(text: &str, variables: &Variables) -> Result<Login, String> {
    let mut login = Login::default();
    let mut in_client = false;
    for (number, line) in without_mark(text).lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';', '!']) {
            continue;
        }
        if let Some(rest) = line.strip_prefix('[') {
            let (section, _) = rest
                .split_once(']')
                .ok_or_else(|| format!("line {}: a section lacks its ]", number + 1))?;
            in_client = section.trim().eq_ignore_ascii_case("client");
            continue;
        }
        let Some((name, raw)) = line.split_once('=').filter(|_| in_client) else {
            continue;
        };
        match name.trim() {
            "user" => login.user = Some(expand(value(raw), variables)?),
            "password" => login.password = Some(SecretString::from(expand(value(raw), variables)?)),
            _ => {}
        }
    }
    Ok(login)
}

/// A value without quotes, comment and escapes.
fn value(raw: &str) -> String {
    let raw = raw.trim();
    for quote in ['"', '\''] {
        if let Some(rest) = raw.strip_prefix(quote)
            && let Some(end) = rest.rfind(quote)
            && rest
                .get(end + 1..)
                .is_some_and(|tail| tail.trim().is_empty() || tail.trim().starts_with('#'))
        {
            return unescape(rest.get(..end).unwrap_or_default());
        }
    }
    unescape(raw.split('#').next().unwrap_or_default().trim_end())
}

fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            plain.push(character);
            continue;
        }
        match characters.next() {
            Some('n') => plain.push('\n'),
            Some('t') => plain.push('\t'),
            Some('r') => plain.push('\r'),
            Some('b') => plain.push('\u{8}'),
            Some('s') => plain.push(' '),
            Some(escaped @ ('\\' | '"' | '\'')) => plain.push(escaped),
            Some(other) => plain.extend(['\\', other]),
            None => plain.push('\\'),
        }
    }
    plain
}

fn expand(value: String, variables: &Variables) -> Result<String, String> {
    let Some(name) = value.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) else {
        return Ok(value);
    };
    variables
        .get(name)
        .cloned()
        .ok_or_else(|| format!("${{{name}}} is to be taken from the environment, and {name} is not set"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use secrecy::ExposeSecret as _;

    use super::*;

    fn login(text: &str) -> (Option<String>, Option<String>) {
        let variables = Variables::from([("APP_PW".to_owned(), "s3cret".to_owned())]);
        let login = parse(text, &variables).unwrap();
        (
            login.user,
            login.password.map(|password| password.expose_secret().to_owned()),
        )
    }

    #[rstest]
    #[case("[client]\nuser=app\npassword=pw\n", Some("app"), Some("pw"))]
    #[case(
        "user=nobody\n[mysqld]\nuser=mysql\n[client]\nskip-name\npassword = a=b # why\n",
        None,
        Some("a=b")
    )]
    #[case("[client]\npassword=\"a#b\" # quoted\nuser = 'x y'", Some("x y"), Some("a#b"))]
    #[case("[client]\npassword=a\\\\b\\s\n", None, Some("a\\b "))]
    #[case("[client]\npassword=${APP_PW}\n", None, Some("s3cret"))]
    #[case("\u{feff}[client]\r\nuser=app\r\npassword=pw\r\n", Some("app"), Some("pw"))]
    #[case(
        "[client]\npassword=one\npassword=two\n!include x\n; c\n# c\n",
        None,
        Some("two")
    )]
    #[case("[client]\npassword=\n", None, Some(""))]
    #[case("[osc]\nchunk_size=5\n", None, None)]
    fn a_login_is_read(#[case] text: &str, #[case] user: Option<&str>, #[case] password: Option<&str>) {
        assert_eq!(
            login(text),
            (user.map(str::to_owned), password.map(str::to_owned))
        );
    }

    #[test]
    fn a_variable_that_is_not_set_is_named() {
        let error = parse("[client]\nuser=${NOPE}", &Variables::new()).unwrap_err();
        assert!(error.contains("NOPE is not set"), "{error}");
    }

    #[test]
    fn a_password_is_not_in_debug_output() {
        let login = parse("[client]\npassword=hunter2", &Variables::new()).unwrap();
        assert!(!format!("{login:?}").contains("hunter2"));
    }
}
