//! The `changeling` binary, as a library: arguments, settings, rendering and the command socket.
//!
//! * [`args`] – what was typed: gh-ost's flags as a table, Go's syntax, the other subcommands;
//! * [`settings`] – defaults, file, environment and flags, put together into the migration's settings;
//! * [`serve`] – the command socket and its client;
//! * [`render`] – status lines, progress bar, log;
//! * [`migrate`], [`diff`], [`mend`], [`demo`] – what the subcommands do; [`signal`] – how they are stopped.
//!
//! The work itself is in `changeling-applier`.

use std::ffi::OsString;
use std::process::ExitCode;

use jiff::Zoned;

pub mod args;
pub mod demo;
pub mod diff;
pub mod mend;
pub mod migrate;
pub mod render;
pub mod serve;
pub mod settings;
pub mod signal;

use args::Invocation;
use args::migrate::Request;
use render::log::{self, LogLevel, LogSettings};
use render::screen::Screen;
use settings::Surroundings;

/// Runs the program with these arguments, of which the first is its name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let screen = Screen::of_process();
    match args::invocation(arguments) {
        Invocation::Say(message) => {
            let _ = message.print();
            u8::try_from(message.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
        }
        Invocation::Version => say(&screen, &format!("{}\n", version())),
        Invocation::Migrate(arguments) => migrate(arguments, &screen),
        Invocation::Tell(arguments) => {
            log::install(LogSettings::default(), &screen);
            let told = arguments
                .socket_path()
                .map_err(anyhow::Error::msg)
                .and_then(|socket| serve::client::tell(&socket, &arguments.commands));
            match told {
                Ok(answer) => say(&screen, &answer),
                Err(error) => fail(&screen, LogSettings::default(), &error, 1),
            }
        }
        Invocation::Demo(arguments) => demo(&arguments, &screen),
        Invocation::TableDiff(arguments) => {
            on_tables(arguments.talk, &screen, diff::run(&arguments, &screen))
        }
        Invocation::TableRerun(arguments) => {
            on_tables(arguments.talk, &screen, mend::rerun(&arguments, &screen))
        }
        Invocation::TableRepair(arguments) => {
            on_tables(arguments.talk, &screen, mend::repair(&arguments, &screen))
        }
        Invocation::Misused(message) => {
            let _ = message.print();
            ExitCode::from(diff::USAGE)
        }
    }
}

/// The version as gh-ost prints its own.
#[must_use]
pub fn version() -> String {
    let commit = option_env!("CHANGELING_COMMIT").unwrap_or("unknown");
    format!("{} (git commit: {commit})", env!("CARGO_PKG_VERSION"))
}

fn migrate(arguments: Vec<OsString>, screen: &Screen) -> ExitCode {
    let flags = match args::migrate::parse(arguments) {
        Ok(Request::Help) => return say(screen, &args::migrate::help()),
        Ok(Request::Version) => return say(screen, &format!("{}\n", version())),
        Ok(Request::CheckFlag) => return ExitCode::SUCCESS,
        Ok(Request::Migrate(flags)) => flags,
        Err(error) => return fail(screen, LogSettings::default(), &error.into(), 2),
    };
    let surroundings = Surroundings::of_process();
    let prepared = match settings::prepare(&flags, &surroundings) {
        Ok(prepared) => prepared,
        Err(error) => return misconfigured(screen, LogSettings::default(), error),
    };
    let log = prepared.log;
    log::install(log, screen);
    let launch = match prepared.launch(&surroundings) {
        Ok(launch) => launch,
        Err(error) => return misconfigured(screen, log, error),
    };
    // The password prompt is over; nothing needs the environment's passwords any more.
    drop(surroundings);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(screen, log, &error.into(), 1),
    };
    let ended = runtime.block_on(migrate::run(launch, screen));
    // Whatever still runs then is not waited for: it has been cancelled, or the operator is in a hurry.
    runtime.shutdown_background();
    match ended {
        Ok(ended) => ended.into(),
        Err(error) => fail(screen, log, &error, 1),
    }
}

fn demo(arguments: &args::demo::DemoArgs, screen: &Screen) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(screen, LogSettings::default(), &error.into(), 1),
    };
    let ended = runtime.block_on(Box::pin(demo::run(arguments, screen)));
    // What still runs then works on a server that is gone.
    runtime.shutdown_background();
    match ended {
        Ok(ended) => ended.into(),
        Err(error) => fail(screen, LogSettings::default(), &error, 1),
    }
}

/// Runs a command whose exit status is a verdict.
fn on_tables(
    talk: args::diff::TalkArgs,
    screen: &Screen,
    work: impl Future<Output = Result<ExitCode, diff::DiffError>>,
) -> ExitCode {
    let settings = LogSettings {
        level: match talk {
            args::diff::TalkArgs { debug: true, .. } => LogLevel::Debug,
            args::diff::TalkArgs { quiet: true, .. } => LogLevel::Error,
            _ => LogLevel::Warning,
        },
        ..LogSettings::default()
    };
    log::install(settings, screen);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(screen, settings, &error.into(), diff::FAILED),
    };
    let ended = runtime.block_on(Box::pin(work));
    runtime.shutdown_background();
    match ended {
        Ok(ended) => ended,
        Err(error) => {
            let status = error.exit_status();
            fail(screen, settings, &error.into(), status)
        }
    }
}

fn misconfigured(screen: &Screen, log: LogSettings, error: settings::SettingsError) -> ExitCode {
    let status = error.exit_status();
    fail(screen, log, &error.into(), status)
}

fn say(screen: &Screen, text: &str) -> ExitCode {
    screen.print(text);
    ExitCode::SUCCESS
}

/// Says why the program ends, as gh-ost does: `FATAL` on standard error.
fn fail(screen: &Screen, log: LogSettings, error: &anyhow::Error, status: u8) -> ExitCode {
    let text = log::error_text(error, log.causes);
    screen.complain(&log::line(log.format, &Zoned::now(), LogLevel::Fatal, &text));
    ExitCode::from(status)
}
