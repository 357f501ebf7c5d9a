//! Sizes, from the environment.

use std::fmt::Display;
use std::str::FromStr;

use anyhow::{Context, Result};

/// The value of `CHANGELING_BENCH_` and this name, or the default.
///
/// # Errors
/// When it is set to something else than a value.
pub fn value<T>(name: &str, default: T) -> Result<T>
where
    T: FromStr,
    T::Err: Display,
{
    let name = format!("CHANGELING_BENCH_{name}");
    match std::env::var(&name) {
        Ok(text) => text
            .parse()
            .map_err(|error| anyhow::anyhow!("{name}={text}: {error}")),
        Err(_) => Ok(default),
    }
}

/// The words of a variable, separated by spaces or commas.
///
/// # Errors
/// When a word is not a value.
pub fn list<T>(name: &str, default: &str) -> Result<Vec<T>>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: String = value(name, default.to_owned())?;
    text.split([' ', ','])
        .filter(|word| !word.is_empty())
        .map(|word| {
            word.parse()
                .with_context(|| format!("CHANGELING_BENCH_{name}: {word}"))
        })
        .collect()
}
