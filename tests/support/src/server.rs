//! A running server and its life: stop, kill, restart, pause.

mod contained;
mod mariadb;
mod mysql;
mod postgres;
mod process;
mod template;
mod types;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};

use crate::error::{Result, SupportError};
use crate::installation::Installation;
use crate::source::{self, Found, SourceKind};
use crate::spec::{Flavor, ServerSpec, Version};
use contained::Contained;
use process::Process;

/// The administrator that the harness creates, with every privilege and the right to pass them on.
pub(crate) const USER: &str = "changeling";
/// Its password: the servers listen on the loopback interface only and live for seconds.
pub(crate) const PASSWORD: &str = "changeling";

/// Pause between two looks at a server that starts or ends: small against the second that a start takes.
const POLL: Duration = Duration::from_millis(15);
/// How long a server may take to end by itself before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// How often another port is tried when somebody was faster: ports are probed, not reserved.
const PORT_ATTEMPTS: u32 = 5;

/// A server that answers. Dropping it kills the server and removes its directory.
#[derive(Debug)]
pub struct Server {
    spec: ServerSpec,
    host: String,
    port: u16,
    user: String,
    password: String,
    socket: Option<PathBuf>,
    version: Version,
    full_version: String,
    source: SourceKind,
    hosting: Hosting,
}

#[derive(Debug)]
enum Hosting {
    Shared,
    Process(Process),
    Container(Contained),
}

impl ServerSpec {
    /// Finds a server in the order described at the top of this crate, starts it and waits until it answers.
    ///
    /// # Errors
    /// [`SupportError::Unavailable`] when no way to such a server works here; anything else is a defect to look at.
    pub async fn start(&self) -> Result<Server> {
        match Box::pin(source::find(self)).await? {
            Found::Address(address) => {
                let mut server = Server::new(self, SourceKind::Address, Hosting::Shared, address.port);
                server.host = address.host;
                server.user = address.user;
                server.password = address.password;
                server.await_answer().await?;
                Ok(server)
            }
            Found::Container(image) => {
                let (contained, port) = Contained::start(self, &image).await?;
                let mut server =
                    Server::new(self, SourceKind::Container, Hosting::Container(contained), port);
                server.await_answer().await?;
                Ok(server)
            }
            Found::Installed(installation) => self.start_installed(&installation).await,
        }
    }

    async fn start_installed(&self, installation: &Installation) -> Result<Server> {
        let mut attempt = 1;
        loop {
            let port = process::free_port()?;
            let process = match self.flavor {
                Flavor::MySql => mysql::launch(self, installation, port).await?,
                Flavor::MariaDb => mariadb::launch(self, installation, port).await?,
                Flavor::Postgres => postgres::launch(self, installation, port).await?,
            };
            let socket = process.socket();
            let mut server = Server::new(self, installation.source, Hosting::Process(process), port);
            server.socket = Some(socket);
            match server.await_answer().await {
                Ok(()) => return Ok(server),
                Err(SupportError::Exited { log, .. })
                    if attempt < PORT_ATTEMPTS && log.to_lowercase().contains("address already in use") =>
                {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Server {
    fn new(spec: &ServerSpec, source: SourceKind, hosting: Hosting, port: u16) -> Self {
        Self {
            spec: spec.clone(),
            host: "127.0.0.1".into(),
            port,
            user: USER.into(),
            password: PASSWORD.into(),
            socket: None,
            version: spec.version,
            full_version: String::new(),
            source,
            hosting,
        }
    }

    /// Host name or address for TCP.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port; the same after a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The administrator.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The administrator's password.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The Unix socket, for servers that run as processes of this machine.
    pub fn socket(&self) -> Option<&Path> {
        self.socket.as_deref()
    }

    /// The product.
    pub fn flavor(&self) -> Flavor {
        self.spec.flavor
    }

    /// The version that answers.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The version in the server's own words, `10.11.14-MariaDB-log`.
    pub fn full_version(&self) -> &str {
        &self.full_version
    }

    /// Where the server came from.
    pub fn source(&self) -> SourceKind {
        self.source
    }

    /// Whether others may be using the server too: keep to databases of your own and drop them afterwards. Such a
    /// server cannot be stopped, restarted or paused.
    pub fn is_shared(&self) -> bool {
        matches!(self.hosting, Hosting::Shared)
    }

    /// What was asked for.
    pub fn spec(&self) -> &ServerSpec {
        &self.spec
    }

    /// The process id of the server, where it is a process of this machine.
    pub fn process_id(&self) -> Option<u32> {
        match &self.hosting {
            Hosting::Process(process) => process.id(),
            _ => None,
        }
    }

    /// The data directory, where the server is a process of this machine.
    pub fn data_directory(&self) -> Option<PathBuf> {
        match &self.hosting {
            Hosting::Process(process) => Some(process.data_directory()),
            _ => None,
        }
    }

    /// A URL for the administrator, without a database. For MySQL and MariaDB it asks the driver to stay on TCP.
    pub fn url(&self) -> String {
        let (user, password) = (percent(&self.user), percent(&self.password));
        let address = format!("{user}:{password}@{}:{}", self.host, self.port);
        match self.spec.flavor {
            Flavor::MySql | Flavor::MariaDb => format!("mysql://{address}/?prefer_socket=false"),
            Flavor::Postgres => format!("postgres://{address}/postgres"),
        }
    }

    /// Driver options for the administrator on MySQL and MariaDB: TCP, never silently the socket, so that a
    /// [`crate::FaultProxy`] stays in the way.
    pub fn mysql_opts(&self) -> OptsBuilder {
        OptsBuilder::default()
            .ip_or_hostname(&self.host)
            .tcp_port(self.port)
            .user(Some(&self.user))
            .pass(Some(&self.password))
            .prefer_socket(false)
    }

    /// A connection of the administrator to MySQL or MariaDB.
    pub async fn mysql(&self) -> Result<Conn> {
        Ok(Conn::new(self.mysql_opts()).await?)
    }

    /// A connection of the administrator to a PostgreSQL database. Its driver task ends with the client.
    pub async fn postgres(&self, database: &str) -> Result<tokio_postgres::Client> {
        let mut config = tokio_postgres::Config::new();
        config
            .host(&self.host)
            .port(self.port)
            .user(&self.user)
            .password(&self.password)
            .dbname(database);
        let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to PostgreSQL ended");
            }
        });
        Ok(client)
    }

    /// Ends the server and removes everything it left, and returns when that is done: like dropping it, but with an
    /// error if it fails. A shared server is left alone.
    pub async fn stop(self) -> Result<()> {
        match self.hosting {
            Hosting::Shared => Ok(()),
            Hosting::Process(process) => process.remove().await,
            Hosting::Container(contained) => {
                contained.remove().await;
                Ok(())
            }
        }
    }

    /// Stops the server in good order; its data stay for [`Server::restart`].
    pub async fn shut_down(&self) -> Result<()> {
        match &self.hosting {
            Hosting::Shared => Err(self.shared("stop")),
            Hosting::Process(process) => process.shut_down().await,
            Hosting::Container(contained) => contained.control("stop").await,
        }
    }

    /// Kills the server, as `kill -9` does; its data stay for [`Server::restart`].
    pub async fn kill(&self) -> Result<()> {
        match &self.hosting {
            Hosting::Shared => Err(self.shared("kill")),
            Hosting::Process(process) => process.kill().await,
            Hosting::Container(contained) => contained.control("kill").await,
        }
    }

    /// Starts the server again on the same data and port, stopping it first if it runs, and waits until it answers.
    pub async fn restart(&self) -> Result<()> {
        match &self.hosting {
            Hosting::Shared => return Err(self.shared("restart")),
            Hosting::Process(process) => {
                process.shut_down().await?;
                process.start()?;
            }
            Hosting::Container(contained) => contained.control("restart").await?,
        }
        self.first_answer().await.map(drop)
    }

    /// Freezes the server (SIGSTOP): connections stay open, nothing is answered.
    pub async fn pause(&self) -> Result<()> {
        match &self.hosting {
            Hosting::Shared => Err(self.shared("pause")),
            Hosting::Process(process) => process.pause().await,
            Hosting::Container(contained) => contained.control("pause").await,
        }
    }

    /// Ends a pause.
    pub async fn resume(&self) -> Result<()> {
        match &self.hosting {
            Hosting::Shared => Err(self.shared("resume")),
            Hosting::Process(process) => process.signal_all(rustix::process::Signal::CONT),
            Hosting::Container(contained) => contained.control("unpause").await,
        }
    }

    /// The address at which another server of the same source reaches this one: containers do not see the
    /// loopback interface of the machine.
    pub async fn address_for_peers(&self) -> Result<(String, u16)> {
        match &self.hosting {
            Hosting::Container(contained) => {
                let port = contained::inner_port(self.spec.flavor, self.port);
                Ok((contained.inner_address().await?, port))
            }
            _ => Ok((self.host.clone(), self.port)),
        }
    }

    fn shared(&self, operation: &'static str) -> SupportError {
        SupportError::SharedServer {
            operation,
            variable: self.spec.flavor.address_variable(),
        }
    }

    async fn await_answer(&mut self) -> Result<()> {
        let said = self.first_answer().await?;
        self.version = said.parse().map_err(SupportError::Unsupported)?;
        self.full_version = said;
        Ok(())
    }

    /// Waits until the server answers a query, and returns its version.
    async fn first_answer(&self) -> Result<String> {
        let name = self.spec.to_string();
        let started = Instant::now();
        loop {
            let last = match self.ask_version().await {
                Ok(said) => return Ok(said),
                Err(error) => error.to_string(),
            };
            let ended = match &self.hosting {
                Hosting::Shared => None,
                Hosting::Process(process) => process.ended()?,
                Hosting::Container(contained) => contained.ended().await?,
            };
            if let Some(outcome) = ended {
                return Err(SupportError::Exited {
                    server: name,
                    outcome,
                    log: self.log_tail().await,
                });
            }
            if started.elapsed() > self.spec.start_timeout {
                let waited = started.elapsed();
                return Err(SupportError::NotReady {
                    server: name,
                    waited,
                    last,
                    log: self.log_tail().await,
                });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn ask_version(&self) -> Result<String> {
        let asked = async {
            match self.spec.flavor {
                Flavor::MySql | Flavor::MariaDb => self.ask_mysql_version().await,
                Flavor::Postgres => self.ask_postgres_version().await,
            }
        };
        // A server that accepts and then stays silent must not hold the loop up beyond its own limit.
        match tokio::time::timeout(self.spec.start_timeout, Box::pin(asked)).await {
            Ok(said) => said,
            Err(_) => Err(SupportError::Unsupported(
                "a connection was opened but not answered".into(),
            )),
        }
    }

    async fn ask_mysql_version(&self) -> Result<String> {
        // The socket lies in the server's own directory: whoever answers there is the server that was started, while
        // the TCP port could have been taken by another.
        let opts = match &self.socket {
            Some(socket) => self.mysql_opts().socket(socket.to_str()).prefer_socket(true),
            None => self.mysql_opts(),
        };
        if let Hosting::Container(contained) = &self.hosting {
            contained.make_administrator(self).await?;
        }
        let mut conn = Conn::new(opts).await?;
        let version: Option<String> = conn.query_first("SELECT VERSION()").await?;
        conn.disconnect().await?;
        Ok(version.unwrap_or_default())
    }

    async fn ask_postgres_version(&self) -> Result<String> {
        let mut config = tokio_postgres::Config::new();
        match self.socket.as_deref().and_then(Path::parent) {
            Some(directory) => config.host_path(directory),
            None => config.host(&self.host),
        };
        config
            .port(self.port)
            .user(&self.user)
            .password(&self.password)
            .dbname("postgres");
        let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
        let driver = tokio::spawn(connection);
        let row = client.query_one("SHOW server_version", &[]).await?;
        let version = row.try_get(0)?;
        drop(client);
        let _ = driver.await;
        Ok(version)
    }

    async fn log_tail(&self) -> String {
        match &self.hosting {
            Hosting::Shared => String::new(),
            Hosting::Process(process) => process.log_tail(),
            Hosting::Container(contained) => contained.log_tail().await,
        }
    }
}

/// Escapes the characters that would end a part of a URL.
fn percent(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let escape = |byte: u8| {
        if plain(byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(escape).collect()
}
