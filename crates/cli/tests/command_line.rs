//! The binary itself: exit statuses, and what goes to which stream.

use std::os::unix::fs::symlink;
use std::process::{Command, Output};

use rstest::rstest;

const CHANGELING: &str = env!("CARGO_BIN_EXE_changeling");

fn run(program: &str, words: &[&str]) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(program)
        .args(words)
        .env_clear()
        .env("TZ", "UTC")
        .output()
        .expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the program writes UTF-8");
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

#[rstest]
#[case(&["--version"])]
#[case(&["migrate", "--version"])]
#[case(&["migrate", "-version", "--chunk-size", "5"])]
fn the_version_is_in_gh_osts_form(#[case] words: &[&str]) {
    let (status, output, errors) = run(CHANGELING, words);
    assert_eq!((status, errors.as_str()), (0, ""));
    let expected = format!("{} (git commit: ", env!("CARGO_PKG_VERSION"));
    assert!(
        output.starts_with(&expected) && output.ends_with(")\n"),
        "{output}"
    );
}

#[rstest]
#[case(&["--check-flag", "--cut-over-lock-timeout-seconds=3", "--nice-ratio", "0"], 0)]
#[case(&["--check-flag", "--no-such-flag"], 2)]
#[case(&["migrate", "--help"], 0)]
#[case(&["-h", "--alter"], 0)]
#[case(&["--help"], 0)]
#[case(&["migrate", "--chunksize", "5"], 2)]
#[case(&["migrate", "--chunk-size", "many"], 2)]
#[case(&["migrate"], 1)]
#[case(&["migrate", "--serve-tcp-port=5000"], 1)]
#[case(&["tell", "--socket", "/nowhere/s", "sup"], 1)]
#[case(&["tell", "--table", "orders", "sup"], 1)]
fn the_exit_status_is_gh_osts(#[case] words: &[&str], #[case] expected: i32) {
    let (status, output, errors) = run(CHANGELING, words);
    assert_eq!(status, expected, "{output}{errors}");
    assert_eq!(errors.is_empty(), expected == 0, "{errors}");
}

#[test]
fn a_failure_is_one_fatal_line_on_standard_error() {
    let (status, output, errors) = run(CHANGELING, &["migrate", "--database=d", "--table=t"]);
    assert_eq!((status, output.as_str()), (1, ""));
    let lines: Vec<&str> = errors.lines().collect();
    let [line] = lines[..] else { panic!("{errors}") };
    let (time, rest) = line.split_at("2023-11-14 22:13:20".len());
    assert!(
        time.chars()
            .all(|one| one.is_ascii_digit() || "- :".contains(one)),
        "{line}"
    );
    assert_eq!(
        rest,
        " FATAL --alter must be provided and statement must not be empty"
    );
}

#[test]
fn a_failure_can_be_json() {
    let words = ["migrate", "--log-format=json", "--alter=x"];
    let (_, _, errors) = run(CHANGELING, &words);
    let line: serde_json::Value = serde_json::from_str(&errors).expect("one JSON object");
    assert_eq!(line["level"], "FATAL");
    assert!(
        line["message"]
            .as_str()
            .is_some_and(|text| text.contains("--database")),
        "{errors}"
    );
}

#[test]
fn under_the_name_gh_ost_it_is_gh_ost() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let gh_ost = directory.path().join("gh-ost");
    symlink(CHANGELING, &gh_ost).expect("a link");
    let gh_ost = gh_ost.display().to_string();
    let (status, output, _) = run(&gh_ost, &["--help"]);
    assert!(
        status == 0 && output.contains("--initially-drop-ghost-table"),
        "{output}"
    );
    let (status, _, errors) = run(&gh_ost, &["-database", "d", "-table=t"]);
    assert!(
        status == 1 && errors.contains("--alter must be provided"),
        "{errors}"
    );
}

#[test]
fn what_is_said_at_the_start_is_in_the_log_and_no_password_is() {
    let socket = tempfile::tempdir().expect("a temporary directory");
    let socket = format!("--serve-socket-file={}/s", socket.path().display());
    // Nothing listens there: whatever the engine does, it fails.
    let words = [
        "migrate",
        "--verbose",
        "--database=d",
        "--table=t",
        "--alter=ENGINE=InnoDB",
        "--password=hunter2",
        "--charset=latin1",
        "--port=1",
        "--mysql-timeout=5",
        &socket,
    ];
    let (status, output, errors) = run(CHANGELING, &words);
    assert_eq!(status, 1, "{output}{errors}");
    assert!(
        errors.contains(" WARNING --charset: the connection's character set does not matter"),
        "{errors}"
    );
    assert!(errors.contains(" INFO starting changeling "), "{errors}");
    assert!(
        errors.lines().last().is_some_and(|line| line.contains(" FATAL ")),
        "{errors}"
    );
    assert!(
        !errors.contains("hunter2") && !output.contains("hunter2") && !output.contains("# Done"),
        "{errors}"
    );
}
