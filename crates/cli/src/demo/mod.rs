//! `changeling demo`: a server of its own, a table, writers, a migration under them, and a comparison.
//!
//! * `stage` – the server, the table, the writers, and what they know;
//! * `play` – the migration under the writers, from the first look to the comparison;
//! * `show` – what is seen of it while it runs; `summary` – what is said at the end.

use std::process::ExitCode;
use std::time::Duration;

use crate::args::demo::DemoArgs;
use crate::render::log::{self, LogSettings};
use crate::render::screen::Screen;
use crate::signal::Signals;

mod play;
mod show;
mod stage;
pub mod summary;

use show::Show;
use stage::Stage;
use summary::DemoSummary;

/// How long a server may take to be removed after a signal; what removes it then is its guard, which outlives us.
const REMOVAL: Duration = Duration::from_secs(20);

/// How a demo ended, if not with an error.
#[derive(Debug)]
pub enum Ended {
    /// It came to its end and said what it found.
    Shown(Box<DemoSummary>),
    /// By a signal, with this exit status.
    Interrupted(u8),
}

impl From<Ended> for ExitCode {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Shown(summary) if summary.is_good() => Self::SUCCESS,
            Ended::Shown(_) => Self::FAILURE,
            Ended::Interrupted(status) => Self::from(status),
        }
    }
}

/// Runs a demo to its end.
///
/// # Errors
/// Why it cannot be run.
pub async fn run(arguments: &DemoArgs, screen: &Screen) -> anyhow::Result<Ended> {
    log::install(LogSettings::default(), screen);
    let mut signals = Signals::listen()?;
    let mut show = Show::begin(screen, arguments);
    let opened = tokio::select! {
        opened = Stage::open(arguments, &mut show) => opened,
        status = signals.end() => return Ok(interrupted(&show, status)),
    };
    let stage = match opened {
        Ok(stage) => stage,
        Err(error) => {
            show.end();
            return Err(error);
        }
    };
    let played = tokio::select! {
        played = Box::pin(play::play(&stage, arguments, &mut show)) => Ok(played),
        status = signals.end() => Err(status),
    };
    show.end();
    let ended = match played {
        Ok(Ok(summary)) => {
            show.summary(&summary);
            if arguments.keep {
                show.kept(&stage);
                signals.end().await;
            }
            Ok(Ended::Shown(Box::new(summary)))
        }
        Ok(Err(error)) => {
            if arguments.keep {
                show.failed(&error);
                show.kept(&stage);
                signals.end().await;
            }
            Err(error)
        }
        Err(status) => Ok(interrupted(&show, status)),
    };
    let closed = tokio::select! {
        closed = tokio::time::timeout(REMOVAL, stage.close()) => closed,
        status = signals.end() => return Ok(Ended::Interrupted(status)),
    };
    match closed {
        Ok(Ok(())) => ended,
        Ok(Err(error)) => ended.and(Err(error)),
        Err(_) => ended,
    }
}

fn interrupted(show: &Show, status: u8) -> Ended {
    show.interrupted();
    Ended::Interrupted(status)
}
