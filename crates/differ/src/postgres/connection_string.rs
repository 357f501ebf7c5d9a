//! libpq's two ways to write down how a server is reached: `key=value …`, and a URL.

use std::collections::BTreeMap;

use super::options::OptionsError;

/// Connection parameters by name. May hold a password: never shown as a whole.
pub(crate) type Words = BTreeMap<String, String>;

/// Reads a URL or a `key=value` string. No piece of it is shown, which might be of a password. A word that is given twice counts as it was given last.
///
/// # Errors
/// It is neither.
pub(crate) fn words(text: &str) -> Result<Words, OptionsError> {
    let words = if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        url_words(text)?
    } else {
        conninfo_words(text)?
    };
    Ok(words.into_iter().collect())
}

fn conninfo_words(text: &str) -> Result<Vec<(String, String)>, OptionsError> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, value) = rest
            .split_once('=')
            .ok_or(OptionsError::Syntax("there is a word without a '='"))?;
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
        return Err(OptionsError::Syntax("there is an open quote"));
    }
    Ok((value, ""))
}

fn url_words(text: &str) -> Result<Vec<(String, String)>, OptionsError> {
    let (_, rest) = text
        .split_once("://")
        .ok_or(OptionsError::Syntax("there is no '://'"))?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, address) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let (host, port) = if let Some(inner) = address.strip_prefix('[') {
        let (host, port) = inner
            .split_once(']')
            .ok_or(OptionsError::Syntax("there is an open bracket"))?;
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
        let (name, value) = pair.split_once('=').ok_or(OptionsError::Syntax(
            "there is a word without a '=' behind the '?'",
        ))?;
        words.push((unescaped(name)?, unescaped(value)?));
    }
    Ok(words)
}

fn unescaped(text: &str) -> Result<String, OptionsError> {
    let bad = || OptionsError::Syntax("there is a percent sign without two digits that make a text");
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
