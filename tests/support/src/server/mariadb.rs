//! Command lines of MariaDB.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;

use rustix::process::Signal;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::mysql::{administrator_sql, first_words, place, shared_options};
use super::process::{Process, ServerDirectory};
use super::template;
use crate::command;
use crate::error::{Result, SupportError};
use crate::installation::{Installation, path_option};
use crate::spec::ServerSpec;

/// Options that hold wherever the server runs, the wanted ones last.
pub(super) fn options(spec: &ServerSpec) -> Vec<String> {
    let mut options = shared_options(spec);
    // MariaDB takes NULL for a directory; without the option there is no restriction, as with MySQL's NULL for us.
    options.retain(|option| option != "--secure-file-priv=NULL");
    options.push("--binlog-format=ROW".into());
    options.push("--log-slave-updates=ON".into());
    options.push("--performance-schema=ON".into());
    options.extend(spec.options.iter().cloned());
    options
}

const SHARE: [&str; 3] = ["share/mysql", "share/mariadb", "share"];

/// Starts an installed MariaDB on a copy of its template.
pub(super) async fn launch(spec: &ServerSpec, installation: &Installation, port: u16) -> Result<Process> {
    let first = first_words(installation, &SHARE);
    let initialise = async |staging: &Path| {
        let data = staging.join("data");
        std::fs::create_dir(&data).map_err(SupportError::file("create", &data))?;
        let sql = bootstrap_sql(installation)?;
        let mut words = first.clone();
        words.extend([
            "--bootstrap".into(),
            path_option("--datadir", &data),
            "--log-warnings=0".into(),
        ]);
        words.push("--innodb-log-file-size=4M".into());
        words.extend(template::shaping_options(spec));
        feed(&words, &sql).await
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

/// What mariadb-install-db feeds to the server, without the help texts.
fn bootstrap_sql(installation: &Installation) -> Result<String> {
    let mut sql = String::from("CREATE DATABASE IF NOT EXISTS mysql;\nUSE mysql;\n");
    for part in [
        "system_tables",
        "performance_tables",
        "system_tables_data",
        "gis_sp_bootstrap",
        "sys_schema",
    ] {
        // Renamed from mysql_… between 10.11 and 11.
        let names = [
            format!("mariadb_{part}.sql"),
            format!("mysql_{part}.sql"),
            format!("maria_add_{part}.sql"),
        ];
        let found = names.iter().find_map(|name| {
            installation
                .directory_with(&SHARE, name)
                .map(|directory| directory.join(name))
        });
        let Some(path) = found else {
            let hint = format!(
                "{} and its like are missing below {}",
                names[0],
                installation.prefix.display()
            );
            return Err(SupportError::Unsupported(hint));
        };
        sql.push_str(&std::fs::read_to_string(&path).map_err(SupportError::file("read", &path))?);
        sql.push('\n');
    }
    // Bootstrap runs without grants until they are loaded.
    let _ = write!(sql, "FLUSH PRIVILEGES;\n{}", administrator_sql());
    Ok(sql)
}

/// Runs a command line with `input` on its standard input.
async fn feed(words: &[OsString], input: &str) -> Result<()> {
    let line = words
        .iter()
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ");
    let mut child = Command::new(&words[0])
        .args(&words[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| SupportError::Spawn {
            command: line.clone(),
            source,
        })?;
    let pipe = child.stdin.take();
    let fed = async move {
        let Some(mut pipe) = pipe else { return };
        // A server that ends early closes the pipe; its exit status and output say why.
        let _ = pipe.write_all(input.as_bytes()).await;
    };
    let ended = async { tokio::join!(fed, child.wait_with_output()).1 };
    let output = match tokio::time::timeout(template::INITIALISE_TIMEOUT, ended).await {
        Ok(output) => output.map_err(|source| SupportError::Spawn {
            command: line.clone(),
            source,
        })?,
        Err(_) => {
            let outcome = format!("no end after {} s", template::INITIALISE_TIMEOUT.as_secs());
            return Err(SupportError::Command {
                command: line,
                outcome,
                output: String::new(),
            });
        }
    };
    let said = String::from_utf8_lossy(&output.stderr);
    // A bootstrap that trips over a statement still ends with 0 in some versions.
    if output.status.success() && !said.contains("ERROR: ") {
        return Ok(());
    }
    let output_shown = command::tail(&said).to_owned();
    Err(SupportError::Command {
        command: line,
        outcome: output.status.to_string(),
        output: output_shown,
    })
}
