//! Running programs to their end, with a time limit and an error that shows what they wrote.

use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;

use crate::error::{Result, SupportError};

/// How much of a program's or server's output an error message shows.
const OUTPUT_SHOWN: usize = 3000;

/// Runs to the end; a failure or a time-out is an error. The program dies with the future.
pub(crate) async fn run(command: &mut Command, limit: Duration) -> Result<String> {
    let output = finish(command, limit).await?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Err(SupportError::Command {
        command: line(command),
        outcome: output.status.to_string(),
        output: tail(&text).to_owned(),
    })
}

/// Runs to the end whatever the exit status; a time-out is an error.
pub(crate) async fn finish(command: &mut Command, limit: Duration) -> Result<Output> {
    command.kill_on_drop(true).stdin(Stdio::null());
    match tokio::time::timeout(limit, command.output()).await {
        Ok(Ok(output)) => Ok(output),
        Ok(Err(source)) => Err(SupportError::Spawn {
            command: line(command),
            source,
        }),
        Err(_) => Err(SupportError::Command {
            command: line(command),
            outcome: format!("no end after {} s", limit.as_secs()),
            output: String::new(),
        }),
    }
}

fn line(command: &Command) -> String {
    let command = command.as_std();
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// The end of a long text, cut between characters.
pub(crate) fn tail(text: &str) -> &str {
    let text = text.trim_end();
    let mut start = text.len().saturating_sub(OUTPUT_SHOWN);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}
