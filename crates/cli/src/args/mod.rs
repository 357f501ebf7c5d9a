//! The command line: which subcommand, and what it was given.

use std::ffi::OsString;
use std::path::Path;

use clap::{Args as _, Command, FromArgMatches as _};

pub mod demo;
pub mod diff;
pub mod flag;
pub mod go_syntax;
pub mod mend;
pub mod migrate;
pub mod table;
pub mod tell;

/// What the program was called for.
#[derive(Debug)]
pub enum Invocation {
    /// `migrate`, or a gh-ost command line: the arguments, not read yet.
    Migrate(Vec<OsString>),
    /// `tell`.
    Tell(tell::TellArgs),
    /// `demo`.
    Demo(demo::DemoArgs),
    /// `table-diff`.
    TableDiff(Box<diff::TableDiffArgs>),
    /// `table-rerun`.
    TableRerun(Box<mend::TableRerunArgs>),
    /// `table-repair`.
    TableRepair(Box<mend::TableRepairArgs>),
    /// A mistake in the arguments of a command whose exit status 2 has another meaning.
    Misused(clap::Error),
    /// `--version`.
    Version,
    /// Help that was asked for, or an error of clap's, which says itself where to and how to exit.
    Say(clap::Error),
}

/// Finds out what the program was called for. The first argument is the program's name.
pub fn invocation(arguments: impl IntoIterator<Item = OsString>) -> Invocation {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let program = if arguments.is_empty() {
        OsString::new()
    } else {
        arguments.remove(0)
    };
    if is_gh_ost(&program) || begins_with_flag(&arguments) {
        return Invocation::Migrate(arguments);
    }
    match arguments.first().and_then(|first| first.to_str()) {
        Some("migrate") => return Invocation::Migrate(arguments.split_off(1)),
        Some("--version" | "-version" | "-V") => return Invocation::Version,
        _ => {}
    }
    let compares = arguments
        .first()
        .and_then(|first| first.to_str())
        .is_some_and(|first| first.starts_with("table-"));
    let matches = match command().try_get_matches_from(std::iter::once(program).chain(arguments)) {
        Ok(matches) => matches,
        Err(error) if compares && error.exit_code() != 0 => return Invocation::Misused(error),
        Err(error) => return Invocation::Say(error),
    };
    let parsed = match matches.subcommand() {
        Some(("tell", matches)) => tell::TellArgs::from_arg_matches(matches).map(Invocation::Tell),
        Some(("table-diff", matches)) => diff::TableDiffArgs::from_arg_matches(matches)
            .map(|arguments| Invocation::TableDiff(Box::new(arguments))),
        Some(("table-rerun", matches)) => mend::TableRerunArgs::from_arg_matches(matches)
            .map(|arguments| Invocation::TableRerun(Box::new(arguments))),
        Some(("table-repair", matches)) => mend::TableRepairArgs::from_arg_matches(matches)
            .map(|arguments| Invocation::TableRepair(Box::new(arguments))),
        Some(("demo", matches)) => demo::DemoArgs::from_arg_matches(matches).map(Invocation::Demo),
        _ => Ok(Invocation::Migrate(Vec::new())),
    };
    parsed.unwrap_or_else(Invocation::Say)
}

/// The whole program as clap knows it.
#[must_use]
pub fn command() -> Command {
    Command::new("changeling")
        .about("Changes the schema of MySQL and MariaDB tables while they are being used; compares tables")
        .after_help(
            "Drop-in for gh-ost: called under that name, or with one of its flags as the first argument, the \
             program does what `changeling migrate` does.\nStart with `changeling migrate --help`.",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(migrate::command())
        .subcommand(tell::TellArgs::augment_args(Command::new("tell")))
        .subcommand(diff::TableDiffArgs::augment_args(Command::new("table-diff")))
        .subcommand(mend::TableRerunArgs::augment_args(Command::new("table-rerun")))
        .subcommand(mend::TableRepairArgs::augment_args(Command::new("table-repair")))
        .subcommand(demo::DemoArgs::augment_args(Command::new("demo")))
}

fn is_gh_ost(program: &OsString) -> bool {
    Path::new(program)
        .file_stem()
        .is_some_and(|name| name == "gh-ost")
}

/// Whether this is a command line of gh-ost's: anything that begins with a flag, but for the program's own
/// help and version.
fn begins_with_flag(arguments: &[OsString]) -> bool {
    let Some(first) = arguments.first().and_then(|first| first.to_str()) else {
        return false;
    };
    let of_the_program = matches!(first, "-h" | "-help" | "--help" | "-V" | "-version" | "--version");
    first.starts_with('-') && !(of_the_program && arguments.len() == 1)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn invoke(words: &[&str]) -> Invocation {
        invocation(words.iter().map(OsString::from))
    }

    #[test]
    fn clap_is_content() {
        command().debug_assert();
    }

    #[rstest]
    #[case(&["/usr/bin/gh-ost", "--execute"], 1)]
    #[case(&["gh-ost"], 0)]
    #[case(&["gh-ost", "--help"], 1)]
    #[case(&["changeling", "--alter", "ENGINE=InnoDB"], 2)]
    #[case(&["changeling", "-check-flag", "--cut-over=atomic"], 2)]
    #[case(&["changeling", "migrate", "--execute"], 1)]
    #[case(&["changeling", "migrate"], 0)]
    #[case(&["changeling", "--version", "--check-flag"], 2)]
    fn a_gh_ost_command_line_is_a_migration(#[case] words: &[&str], #[case] arguments: usize) {
        let Invocation::Migrate(given) = invoke(words) else {
            panic!("{words:?}")
        };
        assert_eq!(given.len(), arguments);
    }

    #[test]
    fn the_other_subcommands_are_found() {
        assert!(matches!(
            invoke(&["changeling", "--version"]),
            Invocation::Version
        ));
        assert!(matches!(
            invoke(&["changeling", "tell", "--socket", "/x", "status"]),
            Invocation::Tell(_)
        ));
        assert!(matches!(
            invoke(&["changeling", "demo", "--rows", "5"]),
            Invocation::Demo(_)
        ));
        let Invocation::Say(error) = invoke(&["changeling", "migarte"]) else {
            panic!()
        };
        assert!(error.to_string().contains("migrate"), "{error}");
    }

    #[rstest]
    #[case("changeling", &["changeling", "--help"])]
    #[case("tell", &["changeling", "tell", "--help"])]
    #[case("demo", &["changeling", "demo", "--help"])]
    #[case("table-diff", &["changeling", "table-diff", "--help"])]
    #[case("table-rerun", &["changeling", "table-rerun", "--help"])]
    #[case("table-repair", &["changeling", "table-repair", "--help"])]
    fn help_is_as_reviewed(#[case] name: &str, #[case] words: &[&str]) {
        assert!(matches!(invoke(words), Invocation::Say(_)));
        // The width is the terminal's, where there is one.
        let help = command().term_width(100).try_get_matches_from(words).unwrap_err();
        insta::assert_snapshot!(format!("help-{name}"), help.to_string());
    }
}
