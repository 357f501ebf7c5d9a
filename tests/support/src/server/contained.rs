//! A server in a container.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::process::{free_port, random};
use super::{PASSWORD, PORT_ATTEMPTS, STOP_TIMEOUT, Server, USER, mariadb, mysql, postgres};
use crate::command;
use crate::error::{Result, SupportError};
use crate::reaper::Reaper;
use crate::source::container::{Image, run};
use crate::spec::{Flavor, ServerSpec};

/// Creating a container from a present image is under a second; engines under load need more.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(120);

/// A container that lives as long as this value; the reaper removes it with its volumes.
///
/// It runs without `--rm`, which would remove the data when a test kills the server to start it again.
#[derive(Debug)]
pub(super) struct Contained {
    name: String,
    has_administrator: AtomicBool,
    reaper: Reaper,
}

impl Contained {
    /// Starts a container on a free port of the loopback interface.
    pub(super) async fn start(spec: &ServerSpec, image: &Image) -> Result<(Self, u16)> {
        let mut attempt = 1;
        loop {
            let port = free_port()?;
            match Self::start_on(spec, image, port).await {
                Ok(contained) => return Ok((contained, port)),
                Err(SupportError::Command { output, .. })
                    if attempt < PORT_ATTEMPTS && output.contains("port is already allocated") =>
                {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn start_on(spec: &ServerSpec, image: &Image, port: u16) -> Result<Self> {
        let name = format!("changeling-{:016x}", random());
        let publish = format!("127.0.0.1:{port}:{}", inner_port(spec.flavor, port));
        let mut words = vec!["run".into(), "--detach".into(), "--name".into(), name.clone()];
        words.extend(["--label".into(), "changeling".into(), "--publish".into(), publish]);
        for variable in environment(spec.flavor) {
            words.extend(["--env".into(), variable]);
        }
        words.push(image.name.clone());
        words.extend(match spec.flavor {
            Flavor::MySql => mysql::options(spec),
            Flavor::MariaDb => mariadb::options(spec),
            Flavor::Postgres => postgres::options(spec),
        });
        if spec.flavor != Flavor::Postgres {
            words.push(format!("--port={port}"));
        }
        // Before the container: it removes nothing if there is nothing, and misses nothing.
        let reaper = Reaper::of_container(&name)?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        run(&words, ENGINE_TIMEOUT).await?;
        Ok(Self {
            name,
            has_administrator: AtomicBool::new(false),
            reaper,
        })
    }

    /// `stop`, `kill`, `restart`, `pause` or `unpause`.
    pub(super) async fn control(&self, verb: &str) -> Result<()> {
        let words: &[&str] = match verb {
            "stop" | "restart" => &[verb, "--time", "60", &self.name],
            _ => &[verb, &self.name],
        };
        run(words, ENGINE_TIMEOUT + STOP_TIMEOUT).await.map(drop)
    }

    pub(super) async fn ended(&self) -> Result<Option<String>> {
        let format = "{{.State.Running}} {{.State.ExitCode}}";
        let state = run(
            &["container", "inspect", "--format", format, &self.name],
            ENGINE_TIMEOUT,
        )
        .await?;
        Ok(state
            .strip_prefix("false")
            .map(|code| format!("exit status{}", code.trim_end())))
    }

    /// The address by which other containers on the engine's default network reach this one.
    pub(super) async fn inner_address(&self) -> Result<String> {
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}";
        let said = run(
            &["container", "inspect", "--format", format, &self.name],
            ENGINE_TIMEOUT,
        )
        .await?;
        said.split_whitespace().next().map(str::to_owned).ok_or_else(|| {
            SupportError::Unsupported(format!(
                "container {} has no address other containers could use",
                self.name
            ))
        })
    }

    /// Makes the administrator, once, by way of the image's root account.
    ///
    /// Trying the administrator first and root after a refusal would not do: for an account that does not exist MySQL
    /// pretends an authentication method picked at random per server, one that the driver may not know.
    pub(super) async fn make_administrator(&self, server: &Server) -> Result<()> {
        if self.has_administrator.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut conn = Conn::new(server.mysql_opts().user(Some("root"))).await?;
        for statement in mysql::administrator_sql().split_terminator(";\n") {
            conn.query_drop(statement).await?;
        }
        self.has_administrator.store(true, Ordering::Relaxed);
        Ok(conn.disconnect().await?)
    }

    pub(super) async fn log_tail(&self) -> String {
        let mut logs = tokio::process::Command::new("docker");
        logs.args(["logs", "--tail", "30", &self.name]);
        let Ok(output) = command::finish(&mut logs, ENGINE_TIMEOUT).await else {
            return String::new();
        };
        let text = [output.stdout, output.stderr].concat();
        command::tail(&String::from_utf8_lossy(&text)).to_owned()
    }

    pub(super) async fn remove(self) {
        self.reaper.finish().await;
    }
}

/// The port inside of the container. MySQL and MariaDB say their own port to whoever asks, and a migration refuses a server
/// that says another than the one it was reached by; so theirs is the published one.
pub(super) fn inner_port(flavor: Flavor, published: u16) -> u16 {
    match flavor {
        Flavor::MySql | Flavor::MariaDb => published,
        Flavor::Postgres => flavor.standard_port(),
    }
}

/// What the official images' entry points ask for; those of images/build.sh obey the same variables.
fn environment(flavor: Flavor) -> Vec<String> {
    let (prefix, user) = match flavor {
        Flavor::MySql => ("MYSQL", None),
        Flavor::MariaDb => ("MARIADB", None),
        // The superuser that the image creates is the administrator.
        Flavor::Postgres => ("POSTGRES", Some(format!("POSTGRES_USER={USER}"))),
    };
    match user {
        Some(user) => vec![user, format!("POSTGRES_PASSWORD={PASSWORD}")],
        None => vec![
            format!("{prefix}_ROOT_PASSWORD={PASSWORD}"),
            format!("{prefix}_ROOT_HOST=%"),
            format!("{prefix}_INITDB_SKIP_TZINFO=1"),
        ],
    }
}
