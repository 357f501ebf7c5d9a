//! The third way: a server installed on the machine.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;

use crate::command;
use crate::installation::Installation;
use crate::source::{Answer, SourceKind};
use crate::spec::{Flavor, ServerSpec, Version};

/// `--version` of a program answers at once; a minute covers a cold disk.
const VERSION_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) async fn find(spec: &ServerSpec) -> Answer<Installation> {
    let mut seen = Vec::new();
    for program in candidates(spec) {
        let Ok(said) = command::run(Command::new(&program).arg("--version"), VERSION_TIMEOUT).await else {
            continue;
        };
        let said = said.trim();
        // Distributions install MariaDB under MySQL's name; and the path before the version may hold digits.
        let is_mariadb = said.contains("MariaDB");
        let said_version = said.split_once("Ver ").map_or(said, |(_, rest)| rest);
        let Ok(version) = said_version.parse::<Version>() else {
            continue;
        };
        let right_flavor = match spec.flavor {
            Flavor::MySql => !is_mariadb,
            Flavor::MariaDb => is_mariadb,
            Flavor::Postgres => true,
        };
        if right_flavor && version.fits(spec.flavor, spec.version) {
            let prefix = prefix(&program);
            let build = said_version.to_owned();
            let source = SourceKind::Local;
            return Ok(Ok(Installation {
                source,
                version,
                build,
                program,
                prefix,
                loader: None,
            }));
        }
        seen.push(format!("{} is {said_version}", program.display()));
    }
    if seen.is_empty() {
        Ok(Err("not installed".into()))
    } else {
        Ok(Err(seen.join("; ")))
    }
}

fn candidates(spec: &ServerSpec) -> Vec<PathBuf> {
    let names: &[&str] = match spec.flavor {
        Flavor::MySql => &["mysqld"],
        Flavor::MariaDb => &["mariadbd", "mysqld"],
        Flavor::Postgres => &["postgres"],
    };
    let mut directories: Vec<PathBuf> = Vec::new();
    if spec.flavor == Flavor::Postgres {
        let major = spec.version.major;
        directories.push(format!("/usr/lib/postgresql/{major}/bin").into());
        directories.push(format!("/usr/pgsql-{major}/bin").into());
        directories.push(format!("/opt/homebrew/opt/postgresql@{major}/bin").into());
    }
    directories.extend(
        std::env::var_os("PATH")
            .iter()
            .flat_map(|path| std::env::split_paths(path)),
    );
    // Where packages put servers, though it is on no ordinary user's PATH.
    directories.extend(
        [
            "/usr/sbin",
            "/usr/local/sbin",
            "/usr/libexec",
            "/usr/local/mysql/bin",
        ]
        .map(PathBuf::from),
    );

    let mut found: Vec<PathBuf> = Vec::new();
    for directory in directories {
        for name in names {
            let program = directory.join(name);
            if program.is_file() && !found.contains(&program) {
                found.push(program);
            }
        }
    }
    found
}

fn prefix(program: &Path) -> PathBuf {
    program
        .parent()
        .and_then(Path::parent)
        .unwrap_or(Path::new("/usr"))
        .to_owned()
}
