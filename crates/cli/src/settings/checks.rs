//! Flags that exclude or need each other, as gh-ost checks them, and those that this release refuses.

use super::resolved::Resolved;
use super::{Note, SettingsError};

/// (flag, what it needs)
const NEEDS: &[(&str, &str)] = &[
    ("master-user", "assume-master-host"),
    ("master-password", "assume-master-host"),
    ("ssl-ca", "ssl"),
    ("ssl-cert", "ssl"),
    ("ssl-key", "ssl"),
    ("ssl-allow-insecure", "ssl"),
    ("ssl-cert", "ssl-key"),
    ("ssl-key", "ssl-cert"),
    ("test-on-replica-skip-replica-stop", "test-on-replica"),
    ("trigger-suffix", "include-triggers"),
    ("include-triggers", "trigger-suffix"),
    ("remove-trigger-suffix-if-exists", "include-triggers"),
];

/// (flag, flag that it cannot stand beside)
const EXCLUDES: &[(&str, &str)] = &[
    ("allow-on-master", "test-on-replica"),
    ("approve-renamed-columns", "skip-renamed-columns"),
];

pub(super) fn check(resolved: &Resolved) -> Result<(), SettingsError> {
    if let Some((flag, reason)) = resolved.refused().next() {
        return Err(SettingsError::Usage(format!(
            "--{} is not available in this release: {reason} (set by {})",
            flag.name,
            resolved.origin(flag.name)
        )));
    }
    for (flag, needed) in NEEDS {
        if on(resolved, flag) && !on(resolved, needed) {
            return Err(SettingsError::Usage(format!("--{flag} requires --{needed}")));
        }
    }
    for (left, right) in EXCLUDES {
        if on(resolved, left) && on(resolved, right) {
            return Err(SettingsError::Usage(format!(
                "--{left} and --{right} are mutually exclusive"
            )));
        }
    }
    check_words(resolved)
}

fn check_words(resolved: &Resolved) -> Result<(), SettingsError> {
    if let Some(suffix) = resolved.text("trigger-suffix")
        && !suffix
            .chars()
            .all(|one| one.is_ascii_alphanumeric() || one == '_')
    {
        return Err(SettingsError::Usage(
            "--trigger-suffix must contain only alpha numeric characters and underscore (0-9,a-z,A-Z,_)"
                .into(),
        ));
    }
    match resolved.text("cut-over") {
        None | Some("atomic" | "default") => {}
        Some("two-step") => {
            return Err(SettingsError::Usage(
                "--cut-over=two-step is not available in this release: for a moment it leaves no table of that \
                 name, and queries fail; leave the flag away for the atomic swap"
                    .into(),
            ));
        }
        Some(other) => {
            return Err(SettingsError::Usage(format!(
                "Unknown cut-over: {other}. Write atomic, or leave it away"
            )));
        }
    }
    check_charset(resolved)?;
    if on(resolved, "resume") && !resolved.switch("checkpoint") {
        return Err(SettingsError::Usage(
            "--resume needs checkpoints, and --checkpoint=false writes none; leave --checkpoint=false away"
                .into(),
        ));
    }
    Ok(())
}

/// The names only have to look like names: they are not used.
fn check_charset(resolved: &Resolved) -> Result<(), SettingsError> {
    let charset = resolved.text("charset").unwrap_or("utf8mb4");
    let name = |one: &str| {
        !one.is_empty()
            && one
                .chars()
                .all(|character| character.is_ascii_alphanumeric() || character == '_')
    };
    if charset.split(',').all(|one| name(one.trim())) {
        return Ok(());
    }
    Err(SettingsError::Usage(format!(
        "--charset {charset:?} is not a list of character sets such as utf8mb4,latin1"
    )))
}

/// What to say at the start about flags that mean something else here, or nothing.
pub(super) fn notes(resolved: &Resolved, notes: &mut Vec<Note>) {
    for (flag, how) in resolved.different() {
        notes.push(Note::warning(format!("--{}: {how}", flag.name)));
    }
    if resolved.given("exponential-backoff-max-interval") && !resolved.switch("cut-over-exponential-backoff")
    {
        notes.push(Note::warning(
            "--exponential-backoff-max-interval has no effect without --cut-over-exponential-backoff".into(),
        ));
    }
    if resolved.given("critical-load-interval-millis") && resolved.text("critical-load").is_none() {
        notes.push(Note::warning(
            "--critical-load-interval-millis has no effect without --critical-load".into(),
        ));
    }
    if resolved.given("concurrent-rowcount") && !resolved.switch("exact-rowcount") {
        notes.push(Note::warning(
            "--concurrent-rowcount has no effect without --exact-rowcount".into(),
        ));
    }
    if resolved.given("checkpoint-seconds") && !resolved.switch("checkpoint") {
        notes.push(Note::warning(
            "--checkpoint-seconds has no effect with --checkpoint=false".into(),
        ));
    }
    if resolved.switch("resume") && resolved.switch("initially-drop-ghost-table") {
        notes.push(Note::warning(
            "--initially-drop-ghost-table has no effect with --resume: the ghost table is what is continued"
                .into(),
        ));
    }
    if resolved.switch("test-on-replica-skip-replica-stop") {
        notes.push(Note::warning(
            "--test-on-replica-skip-replica-stop enabled. Replication will not be stopped before cut-over: be \
             sure that somebody else does"
                .into(),
        ));
    }
}

/// Whether a switch is on, or anything else has a value.
fn on(resolved: &Resolved, name: &str) -> bool {
    resolved.switch(name)
        || resolved.word(name).is_some()
        || resolved.text(name).is_some()
        || resolved.secret(name).is_some()
}
