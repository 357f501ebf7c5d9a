//! Command lines of PostgreSQL.

use std::ffi::OsString;
use std::path::Path;

use rustix::process::Signal;
use tokio::process::Command;

use super::process::{Process, ServerDirectory};
use super::{PASSWORD, USER, template};
use crate::command;
use crate::error::{Result, SupportError};
use crate::installation::Installation;
use crate::spec::{Durability, ServerSpec};

/// PostgreSQL refuses to run as root. This is `nobody` everywhere; any user other than root would do.
const UNPRIVILEGED: u32 = 65_534;

/// Settings that hold wherever the server runs, the wanted ones last.
pub(super) fn options(spec: &ServerSpec) -> Vec<String> {
    let mut settings = vec![
        "wal_level=logical".into(),
        "track_commit_timestamp=on".into(),
        "max_wal_senders=20".into(),
        "max_replication_slots=20".into(),
        "max_prepared_transactions=20".into(),
        format!("shared_buffers={}MB", spec.buffer_pool_mib),
    ];
    if spec.durability == Durability::Relaxed {
        // Not synchronous_commit: without it `kill -9` loses commits.
        settings.push("full_page_writes=off".into());
        settings.push("fsync=off".into());
    }
    if let Some(zone) = &spec.time_zone {
        settings.push(format!("timezone={zone}"));
    }
    let mut options: Vec<String> = settings
        .into_iter()
        .flat_map(|setting| ["-c".into(), setting])
        .collect();
    options.extend(spec.options.iter().cloned());
    options
}

/// Initialises a cluster of its own (each must have its own system identifier, so no template) and starts it.
pub(super) async fn launch(spec: &ServerSpec, installation: &Installation, port: u16) -> Result<Process> {
    let directory = ServerDirectory::new()?;
    let path = directory.path().to_owned();
    let password = path.join("password");
    std::fs::write(&password, PASSWORD).map_err(SupportError::file("write", &password))?;
    let mut step_down: Vec<OsString> = Vec::new();
    if rustix::process::geteuid().is_root() {
        for file in [&path, &password] {
            std::os::unix::fs::chown(file, Some(UNPRIVILEGED), Some(UNPRIVILEGED))
                .map_err(SupportError::file("change the owner of", file))?;
        }
        step_down = stepping_down(installation)?;
    }

    let mut words = step_down.clone();
    words.extend(installation.launch(&installation.program.with_file_name("initdb")));
    words.extend(
        [
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--auth=scram-sha-256",
        ]
        .map(OsString::from),
    );
    words.extend(["--username", USER].map(OsString::from));
    words.push("--pgdata".into());
    words.push(directory.data().into_os_string());
    words.push(crate::installation::path_option("--pwfile", &password));
    let mut initialise = Command::new(&words[0]);
    initialise.args(&words[1..]).current_dir(&path);
    command::run(&mut initialise, template::INITIALISE_TIMEOUT).await?;

    let mut words = step_down;
    // Unpacked, this is a script that calls the loader.
    words.push(installation.program.clone().into_os_string());
    words.extend(["-D".into(), directory.data().into_os_string()]);
    words.extend(["-k".into(), path.clone().into_os_string()]);
    words.extend(["-p".into(), port.to_string().into()]);
    words.extend(["-c", "listen_addresses=127.0.0.1"].map(OsString::from));
    words.extend(options(spec).into_iter().map(OsString::from));
    let socket = path.join(format!(".s.PGSQL.{port}"));
    // "Fast": connections are ended, data are flushed.
    Process::launch(directory, words, socket, Signal::INT)
}

/// The words that run a program as an unprivileged user. That user must be able to reach the unpacked programs, and a
/// capability would not do: PostgreSQL asks access(2), which ignores it.
fn stepping_down(installation: &Installation) -> Result<Vec<OsString>> {
    if let Some(closed) = closed_directory(&installation.program) {
        return Err(SupportError::Unsupported(format!(
            "PostgreSQL does not run as root, and other users cannot enter {}: set XDG_CACHE_HOME to a directory that \
             everybody can read",
            closed.display()
        )));
    }
    let user = UNPRIVILEGED.to_string();
    let words = [
        "setpriv",
        "--clear-groups",
        "--reuid",
        &user,
        "--regid",
        &user,
        "--",
    ];
    Ok(words.map(OsString::from).to_vec())
}

/// A directory on the way to `program` that is closed to other users.
fn closed_directory(program: &Path) -> Option<&Path> {
    use std::os::unix::fs::PermissionsExt;
    let closed = |path: &&Path| {
        path.metadata()
            .is_ok_and(|metadata| metadata.permissions().mode() & 0o005 != 0o005)
    };
    program
        .ancestors()
        .skip(1)
        .filter(|path| !path.as_os_str().is_empty())
        .find(closed)
}
