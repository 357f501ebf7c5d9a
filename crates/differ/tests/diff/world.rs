//! Databases of one PostgreSQL server as nodes, and what a comparison of them found.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::Duration;

use changeling_core::actor::{ActorHost, HostOptions};
use changeling_core::ident::TableName;
use changeling_differ::engine::{DiffJob, DiffSettings, DiffState, DiffSubject, JobError};
use changeling_differ::model::{DifferenceSink, Finding, Image, JobHeader, JobSummary, NodeName, SinkError};
use changeling_differ::postgres::{PgCluster, PgNode, PgOptions, PgServer, PgTerms, PrepareError, SslMode};
use changeling_support::{ServerSpec, SupportError};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

/// Time that a statement of a comparison may take in these tests.
pub(crate) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(60);

/// How the one server of all tests is reached.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) password: String,
}

/// One server for the whole binary: each test has databases of its own. It lives on a thread of its own, because a
/// test's runtime ends with the test.
fn address() -> Result<Address, String> {
    static ADDRESS: OnceLock<Result<Address, String>> = OnceLock::new();
    ADDRESS
        .get_or_init(|| {
            let (tell, told) = mpsc::channel();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(async {
                    let started = ServerSpec::any_postgres()
                        .option("-cmax_connections=300")
                        .start()
                        .await;
                    match started {
                        Ok(server) => {
                            let address = Address {
                                host: server.host().into(),
                                port: server.port(),
                                user: server.user().into(),
                                password: server.password().into(),
                            };
                            tell.send(Ok(address)).unwrap();
                            std::future::pending::<()>().await;
                        }
                        Err(SupportError::Unavailable(why)) => tell.send(Err(why.to_string())).unwrap(),
                        Err(error) => panic!("{error}"),
                    }
                });
            });
            told.recv().expect("the server's thread")
        })
        .clone()
}

/// Nodes `n1`, `n2`, … with a table each.
pub(crate) struct World {
    pub(crate) address: Address,
    pub(crate) databases: Vec<String>,
    pub(crate) clients: Vec<Client>,
    pub(crate) settings: DiffSettings,
    pub(crate) terms: PgTerms,
    pub(crate) table: TableName,
    pub(crate) statement_timeout: Duration,
    /// Role and password by which the comparison connects.
    pub(crate) login: (String, String),
}

/// The nodes, or `return` from the test after a counted skip.
macro_rules! world_or_skip {
    ($nodes:expr) => {{
        fn here() {}
        let test = ::std::any::type_name_of_val(&here).trim_end_matches("::here");
        match $crate::world::World::new($nodes).await {
            Ok(world) => world,
            Err(why) => {
                changeling_support::skip::count(test.trim_end_matches("::{{closure}}"), &why);
                return;
            }
        }
    }};
}
pub(crate) use world_or_skip;

impl World {
    pub(crate) async fn new(nodes: usize) -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let address = tokio::task::spawn_blocking(address).await.unwrap()?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let admin = connect(&address, "postgres").await;
        let (mut databases, mut clients) = (Vec::new(), Vec::new());
        for node in 1..=nodes {
            let database = format!("t{}_{number}_n{node}", std::process::id());
            admin
                .batch_execute(&format!("CREATE DATABASE {database} TEMPLATE template0"))
                .await
                .unwrap();
            clients.push(connect(&address, &database).await);
            databases.push(database);
        }
        let login = (address.user.clone(), address.password.clone());
        Ok(Self {
            address,
            databases,
            clients,
            settings: DiffSettings {
                children: NonZeroU32::new(2).unwrap(),
                ..DiffSettings::default()
            },
            terms: PgTerms::default(),
            table: TableName::new("public", "t"),
            statement_timeout: STATEMENT_TIMEOUT,
            login,
        })
    }

    /// Small ranges, so that a few rows go through all of the machinery.
    pub(crate) fn with_ranges(mut self, block: u64, unit: u64) -> Self {
        self.settings.block_size = NonZeroU64::new(block).unwrap();
        self.settings.compare_unit_size = NonZeroU64::new(unit).unwrap();
        self
    }

    pub(crate) async fn all(&self, sql: &str) {
        for client in &self.clients {
            client
                .batch_execute(sql)
                .await
                .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        }
    }

    /// Runs it on one node, counted from 1 as the names are.
    pub(crate) async fn on(&self, node: usize, sql: &str) {
        self.clients[node - 1]
            .batch_execute(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    pub(crate) fn nodes(&self) -> Vec<PgNode> {
        let node = |(index, database): (usize, &String)| PgNode {
            server: PgServer::new(
                NodeName::new(format!("n{}", index + 1)),
                self.options(database),
                self.statement_timeout,
            ),
            table: self.table.clone(),
        };
        self.databases.iter().enumerate().map(node).collect()
    }

    pub(crate) fn options(&self, database: &str) -> PgOptions {
        PgOptions {
            host: self.address.host.clone(),
            port: self.address.port,
            user: Some(self.login.0.clone()),
            password: Some(self.login.1.clone().into()),
            database: Some(database.into()),
            ssl_mode: SslMode::Disable,
            ..PgOptions::default()
        }
    }

    pub(crate) async fn prepare(&self) -> Result<PgCluster, PrepareError> {
        PgCluster::prepare(&self.nodes(), self.terms.clone()).await
    }

    pub(crate) async fn diff(&self) -> Outcome {
        let cluster = self.prepare().await.unwrap_or_else(|error| panic!("{error}"));
        self.diff_of(subject(cluster, &self.terms)).await
    }

    pub(crate) async fn diff_of(&self, subject: DiffSubject) -> Outcome {
        self.start(subject, CancellationToken::new())
            .finish()
            .await
            .unwrap()
    }

    pub(crate) fn start(&self, subject: DiffSubject, cancel: CancellationToken) -> Running {
        let host = host();
        let kept = Kept::default();
        let job = DiffJob::start(
            &host,
            subject,
            self.settings.clone(),
            Box::new(kept.clone()),
            cancel,
        );
        Running::of(job, kept, host)
    }
}

pub(crate) fn subject(cluster: PgCluster, terms: &PgTerms) -> DiffSubject {
    DiffSubject {
        sides: cluster.sides,
        shape: cluster.shape,
        comparison: terms.comparison,
        table_filter: terms.filter.clone(),
        concurrency_factor: 0.5,
        notes: cluster.notes,
    }
}

pub(crate) fn host() -> ActorHost {
    ActorHost::start(HostOptions {
        runtime: Some(tokio::runtime::Handle::current()),
        ..HostOptions::default()
    })
    .unwrap()
}

pub(crate) async fn connect(address: &Address, database: &str) -> Client {
    let mut config = tokio_postgres::Config::new();
    config
        .host(&address.host)
        .port(address.port)
        .user(&address.user)
        .password(&address.password)
        .dbname(database);
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A comparison under way.
pub(crate) struct Running {
    pub(crate) job: DiffJob,
    pub(crate) kept: Kept,
    pub(crate) state: tokio::sync::watch::Receiver<DiffState>,
    _host: ActorHost,
}

impl Running {
    pub(crate) fn of(job: DiffJob, kept: Kept, host: ActorHost) -> Self {
        Self {
            state: job.state(),
            job,
            kept,
            _host: host,
        }
    }

    pub(crate) async fn finish(self) -> Result<Outcome, JobError> {
        let summary = tokio::time::timeout(Duration::from_secs(300), self.job.finished())
            .await
            .expect("the job ends")?;
        let state = self.state.borrow().clone();
        let mut findings = std::mem::take(&mut *self.kept.findings.lock().unwrap());
        findings.sort_by(|a, b| a.difference().key.cmp(&b.difference().key));
        Ok(Outcome {
            summary,
            state,
            findings,
        })
    }
}

/// What a comparison said.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) summary: JobSummary,
    pub(crate) state: DiffState,
    pub(crate) findings: Vec<Finding>,
}

impl Outcome {
    /// First key columns of the confirmed differences, in the order of the keys' bytes.
    pub(crate) fn confirmed_keys(&self) -> Vec<&str> {
        self.findings
            .iter()
            .filter(|finding| matches!(finding, Finding::Confirmed(_)))
            .map(|finding| &*finding.difference().key.0[0])
            .collect()
    }

    /// Key and, for each node, the row as text: `7 | 7,a | -`.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.findings
            .iter()
            .map(|finding| {
                let difference = finding.difference();
                let mut line = difference.key.0.join(",");
                for image in &difference.images {
                    line.push_str(" | ");
                    line.push_str(&shown(image));
                }
                if matches!(finding, Finding::InFlight(..)) {
                    line.push_str(" (in flight)");
                }
                line
            })
            .collect()
    }
}

fn shown(image: &Image) -> String {
    let Some(row) = image.row() else {
        return "-".into();
    };
    let cells: Vec<&str> = row.0.iter().map(|cell| cell.as_str().unwrap_or("NULL")).collect();
    cells.join(",")
}

/// Keeps every finding: tests are small.
#[derive(Clone, Default)]
pub(crate) struct Kept {
    pub(crate) findings: Arc<Mutex<Vec<Finding>>>,
    /// Waits before a finding is taken.
    pub(crate) slowly: Option<Duration>,
}

impl DifferenceSink for Kept {
    fn begin<'a>(&'a mut self, _: &'a JobHeader) -> BoxFuture<'a, Result<(), SinkError>> {
        async { Ok(()) }.boxed()
    }

    fn take<'a>(&'a mut self, finding: Finding) -> BoxFuture<'a, Result<(), SinkError>> {
        async move {
            if let Some(pause) = self.slowly {
                tokio::time::sleep(pause).await;
            }
            self.findings.lock().unwrap().push(finding);
            Ok(())
        }
        .boxed()
    }

    fn finish<'a>(&'a mut self, _: &'a JobSummary) -> BoxFuture<'a, Result<(), SinkError>> {
        async { Ok(()) }.boxed()
    }
}
