//! `changeling migrate`: flags to a request, and the help made from the flag table.

use std::ffi::OsString;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, Command};

use super::flag::{FlagSpec, Origin, Status, ValueKind};
use super::go_syntax::{self, Assignment, CommandLine, SyntaxError};
use super::table;

/// What a command line of `migrate` asks for.
#[derive(Clone, Debug)]
pub enum Request {
    /// `--help`.
    Help,
    /// `--version`.
    Version,
    /// `--check-flag`, and all other flags are good.
    CheckFlag,
    /// A migration.
    Migrate(Vec<Assignment>),
}

/// Reads a command line, without the program's name and subcommand.
///
/// # Errors
/// What is wrong with it.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Request, SyntaxError> {
    let flags = match go_syntax::read(arguments)? {
        CommandLine::Help => return Ok(Request::Help),
        CommandLine::Flags(flags) => flags,
    };
    let on = |name: &str| {
        let last = flags.iter().rev().find(|one| one.flag.name == name);
        last.is_some_and(|one| matches!(one.written.reveal(), "1" | "t" | "T" | "TRUE" | "true" | "True"))
    };
    Ok(if on("check-flag") {
        Request::CheckFlag
    } else if on("help") {
        Request::Help
    } else if on("version") {
        Request::Version
    } else {
        Request::Migrate(flags)
    })
}

/// The subcommand as clap knows it: for help only, [`parse`] does the parsing, by Go's rules.
#[must_use]
pub fn command() -> Command {
    Command::new("migrate")
        .about("Change a table's schema while it is being used. Takes gh-ost's flags")
        .long_about(ABOUT)
        .after_long_help(EXAMPLES)
        .override_usage(
            "changeling migrate --host HOST --database DB --table TABLE --alter \"ALTER\" [--execute] [FLAGS]",
        )
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args(table::all().map(argument))
}

/// What `changeling migrate --help` shows.
#[must_use]
pub fn help() -> String {
    command().render_long_help().to_string()
}

fn argument(flag: &'static FlagSpec) -> Arg {
    let argument = Arg::new(flag.name)
        .long(flag.name)
        .help_heading(flag.topic.heading())
        .help(help_text(flag))
        .value_name(flag.kind.placeholder())
        .action(ArgAction::Set);
    match flag.kind {
        ValueKind::Switch | ValueKind::SwitchOr(_) => argument.num_args(0..=1).require_equals(true),
        ValueKind::Choice(words) => argument.value_parser(PossibleValuesParser::new(words)),
        _ => argument,
    }
}

fn help_text(flag: &FlagSpec) -> String {
    let mut text = flag.help.to_owned();
    if !flag.default.is_empty() && flag.default != "false" {
        text.push_str(&format!(" [default: {}]", flag.default));
    }
    if flag.origin == Origin::Own {
        text.push_str(" [not in gh-ost]");
    }
    match flag.status {
        Status::Works => {}
        Status::Differs(how) => text.push_str(&format!("\nNote: {how}.")),
        Status::Refused(reason) => text.push_str(&format!("\nNot in this release: {reason}.")),
    }
    text
}

const ABOUT: &str = "\
Change a table's schema while it is being used.

A ghost table with the new schema is filled in the background and kept in step by the binary log, every row of \
it is compared with its original, and then the two are swapped in one moment. Until that moment the original \
table is in charge, and nothing but the swap ever locks it.

Flags are gh-ost's, in Go's syntax: -flag or --flag, --flag=value or --flag value, --switch or --switch=false; \
the last one counts. Called as gh-ost, or with a gh-ost flag as the first argument, the program does what this \
subcommand does, so that a gh-ost command line runs unchanged.";

const EXAMPLES: &str = "\
Examples:
  Look first; nothing is changed:
    changeling migrate --host replica1 --database shop --table orders --alter \"ADD COLUMN note TEXT\" --verbose

  Do it, slowing down when the primary is busy or the replicas lag:
    changeling migrate … --max-load Threads_running=50 --max-lag-millis 1000 --execute

  Hold the swap until you are there, then let it happen:
    changeling migrate … --postpone-cut-over-flag-file /tmp/hold --execute
    changeling tell --table shop.orders unpostpone

  Continue after a crash:
    changeling migrate … --execute --resume

Exit status: 0 after success, 1 after a failure (with a line FATAL … on standard error), 2 for a command line \
that cannot be read.";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &[&str]) -> Result<Request, SyntaxError> {
        parse(words.iter().map(OsString::from))
    }

    #[test]
    fn clap_agrees_with_the_table() {
        command().debug_assert();
    }

    #[test]
    fn help_shows_every_flag_under_its_topic() {
        let help = help();
        for flag in table::all() {
            let shown = format!("--{}", flag.name);
            assert!(
                help.lines()
                    .any(|line| line.trim_start().split([' ', '[']).next() == Some(shown.as_str())),
                "{shown}"
            );
            assert!(help.contains(&format!("{}:", flag.topic.heading())));
        }
    }

    #[test]
    fn help_is_as_reviewed() {
        // The width is the terminal's, where there is one.
        insta::assert_snapshot!(command().term_width(100).render_long_help().to_string());
    }

    #[test]
    fn check_flag_wins_over_everything_but_bad_flags() {
        assert!(matches!(
            parse_words(&["--check-flag", "--help", "--nice-ratio", "0"]),
            Ok(Request::CheckFlag)
        ));
        assert!(matches!(
            parse_words(&["--check-flag", "--no-such"]),
            Err(SyntaxError::Undefined { .. })
        ));
        assert!(matches!(parse_words(&["--help", "--version"]), Ok(Request::Help)));
        assert!(matches!(parse_words(&["--version"]), Ok(Request::Version)));
        assert!(matches!(parse_words(&["--help=false"]), Ok(Request::Migrate(_))));
    }
}
