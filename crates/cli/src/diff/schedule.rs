//! `--schedule --every`: comparisons one after the other, in the foreground.

use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::args::diff::TableDiffArgs;
use crate::render::screen::Screen;
use crate::signal::Signals;

use super::{DiffError, Ended, FAILED, once};

/// Compares until a signal. The status is that of the last run. A run that fails, because a server is away for
/// instance, does not end the series; a mistake in the arguments does.
///
/// # Errors
/// A mistake in the arguments, or signals cannot be listened for.
pub(super) async fn repeat(
    every: Duration,
    arguments: &TableDiffArgs,
    screen: &Screen,
) -> Result<u8, DiffError> {
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    loop {
        let began = Instant::now();
        let status = match once(arguments, screen).await {
            Ok(Ended {
                status,
                cancelled: true,
            }) => return Ok(status),
            Ok(Ended { status, .. }) => status,
            Err(DiffError::Failed(error)) => {
                screen.complain(&format!("error: {error:#}; it is tried again when it is time\n"));
                FAILED
            }
            Err(usage) => return Err(usage),
        };
        tokio::select! {
            () = tokio::time::sleep(every.saturating_sub(began.elapsed())) => {}
            // Also one that came while nothing was compared yet.
            _ = signals.end() => return Ok(status),
        }
    }
}
