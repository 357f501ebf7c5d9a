//! Command lines of MySQL.

use std::ffi::OsString;
use std::path::Path;

use rustix::process::Signal;
use tokio::process::Command;

use super::process::{Process, ServerDirectory};
use super::{PASSWORD, USER, template};
use crate::command;
use crate::error::{Result, SupportError};
use crate::installation::{Installation, path_option};
use crate::spec::{Durability, ServerSpec, Version};

/// The administrator, without a trace in the binary log.
pub(super) fn administrator_sql() -> String {
    format!(
        "SET SESSION sql_log_bin=0;\n\
         CREATE USER IF NOT EXISTS '{USER}'@'%' IDENTIFIED BY '{PASSWORD}';\n\
         GRANT ALL PRIVILEGES ON *.* TO '{USER}'@'%' WITH GRANT OPTION;\n"
    )
}

/// Options that hold wherever the server runs, the wanted ones last.
pub(super) fn options(spec: &ServerSpec) -> Vec<String> {
    let mut options = shared_options(spec);
    options.push("--mysqlx=OFF".into());
    options.push("--binlog-expire-logs-seconds=86400".into());
    if spec.version >= Version::new(8, 0) && spec.version < Version::new(8, 4) {
        options.push("--log-replica-updates=ON".into());
    }
    if spec.gtid {
        options.push("--gtid-mode=ON".into());
        options.push("--enforce-gtid-consistency=ON".into());
    }
    options.extend(spec.options.iter().cloned());
    options
}

/// What MySQL and MariaDB have in common.
pub(super) fn shared_options(spec: &ServerSpec) -> Vec<String> {
    let mut options = vec![
        "--log-bin=binlog".into(),
        format!("--server-id={}", spec.server_id),
        "--skip-name-resolve".into(),
        format!("--innodb-buffer-pool-size={}M", spec.buffer_pool_mib),
        "--local-infile=ON".into(),
        "--secure-file-priv=NULL".into(),
    ];
    options.extend(match spec.durability {
        Durability::Full => [
            "--innodb-flush-log-at-trx-commit=1".into(),
            "--sync-binlog=1".into(),
        ],
        Durability::Relaxed => [
            "--innodb-flush-log-at-trx-commit=2".into(),
            "--sync-binlog=0".into(),
        ],
    });
    if let Some(zone) = &spec.time_zone {
        options.push(format!("--default-time-zone={zone}"));
    }
    options
}

/// The words that every run of an installed server begins with.
pub(super) fn first_words(installation: &Installation, share: &[&str]) -> Vec<OsString> {
    let mut words = installation.launch(&installation.program);
    words.push("--no-defaults".into());
    if rustix::process::geteuid().is_root() {
        // Otherwise the server refuses to run as root.
        words.push("--user=root".into());
    }
    words.push(path_option("--basedir", &installation.prefix));
    // Installed servers know their own places; unpacked ones were built for others.
    if installation.is_unpacked() {
        if let Some(messages) = installation.directory_with(share, "english/errmsg.sys") {
            words.push(path_option("--lc-messages-dir", messages));
        }
        if let Some(charsets) = installation.directory_with(share, "charsets/Index.xml") {
            words.push(path_option("--character-sets-dir", charsets.join("charsets")));
        }
        words.push(path_option(
            "--plugin-dir",
            installation.prefix.join("lib/mysql/plugin"),
        ));
    }
    words
}

/// The words that name the place of one server.
pub(super) fn place(directory: &ServerDirectory, port: u16) -> Vec<OsString> {
    let path = directory.path();
    vec![
        path_option("--datadir", directory.data()),
        path_option("--socket", path.join("socket")),
        path_option("--pid-file", path.join("mysqld.pid")),
        path_option("--tmpdir", path),
        "--bind-address=127.0.0.1".into(),
        format!("--port={port}").into(),
    ]
}

const SHARE: [&str; 2] = ["share/mysql", "share"];

/// Starts an installed MySQL on a copy of its template.
pub(super) async fn launch(spec: &ServerSpec, installation: &Installation, port: u16) -> Result<Process> {
    let first = first_words(installation, &SHARE);
    let initialise = async |staging: &Path| {
        let sql = staging.join("administrator.sql");
        std::fs::write(&sql, administrator_sql()).map_err(SupportError::file("write", &sql))?;
        let mut command = Command::new(&first[0]);
        command
            .args(&first[1..])
            .arg("--initialize-insecure")
            .args(template::shaping_options(spec));
        command.args([
            path_option("--datadir", staging.join("data")),
            path_option("--init-file", &sql),
        ]);
        // Small log files make small templates; a server enlarges them to its own setting at its first start.
        command.args(["--secure-file-priv=NULL", "--innodb-redo-log-capacity=8M"]);
        command::run(&mut command, template::INITIALISE_TIMEOUT)
            .await
            .map(drop)
    };
    let template = template::prepared(spec, installation, initialise).await?;
    let directory = ServerDirectory::new()?;
    template::copy(spec.flavor, &template, &directory.data()).await?;

    let mut words = first.clone();
    words.extend(place(&directory, port));
    words.extend(options(spec).into_iter().map(OsString::from));
    let socket = directory.path().join("socket");
    Process::launch(directory, words, socket, Signal::TERM)
}
