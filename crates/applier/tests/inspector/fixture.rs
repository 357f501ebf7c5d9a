//! Servers, schemas and shortcuts for the tests of this binary.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use changeling_applier::ghost;
use changeling_applier::inspector::{self, InspectError, Inspection, ProblemKind, Problems};
use changeling_applier::plan::MigrationPlan;
use changeling_applier::server::{Role, Server};
use changeling_applier::settings::{Endpoint, MigrationSettings, Permission, Place, Tls};
use changeling_core::ident::TableName;
use changeling_support::{Flavor, ServerSpec, SupportError, Version, skip};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));
static MYSQL: OnceCell<Option<changeling_support::Server>> = OnceCell::const_new();
static MARIADB: OnceCell<Option<changeling_support::Server>> = OnceCell::const_new();
static SCHEMAS: AtomicU32 = AtomicU32::new(0);

/// The owner token of this binary's statements.
pub(crate) const OWNER: &str = "test:1";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    MySql,
    MariaDb,
}

impl On {
    async fn server(self) -> Option<&'static changeling_support::Server> {
        let (cell, spec) = match self {
            Self::MySql => (&MYSQL, ServerSpec::mysql()),
            Self::MariaDb => (&MARIADB, ServerSpec::mariadb()),
        };
        let found: &Option<_> = cell
            .get_or_init(|| async move {
                skip::unless_available("applier inspector tests", spec.start().await)
                    .expect("a server that starts")
            })
            .await;
        found.as_ref()
    }
}

/// Whether the shared server is young enough for the types of a column definition.
pub(crate) async fn has_type_of(on: On, definition: &str) -> bool {
    on.server()
        .await
        .is_some_and(|server| server.has_type_of(definition))
}

/// A schema of its own on one of the shared servers.
pub(crate) struct Bench {
    pub(crate) on: On,
    pub(crate) schema: String,
    pub(crate) conn: Conn,
    pub(crate) endpoint: Endpoint,
}

/// Runs a test on a server, in a schema of its own; skips it where there is no such server.
pub(crate) fn on<F, Fut>(on: On, test: F)
where
    F: FnOnce(Bench) -> Fut,
    Fut: Future<Output = ()>,
{
    RUNTIME.block_on(async {
        let Some(server) = on.server().await else { return };
        let mut conn = server.mysql().await.expect("a connection");
        let schema = format!(
            "insp_{}_{}",
            std::process::id(),
            SCHEMAS.fetch_add(1, Ordering::Relaxed)
        );
        conn.query_drop(format!("CREATE DATABASE {schema} CHARACTER SET utf8mb4"))
            .await
            .expect("a schema");
        conn.query_drop(format!("USE {schema}")).await.expect("a schema");
        let endpoint = endpoint_of(server);
        test(Bench {
            on,
            schema: schema.clone(),
            conn,
            endpoint,
        })
        .await;
        let mut conn = server.mysql().await.expect("a connection");
        conn.query_drop(format!("DROP DATABASE {schema}"))
            .await
            .expect("dropped");
    });
}

/// Runs a test that brings its own servers.
pub(crate) fn alone<Fut: Future<Output = Result<(), SupportError>>>(name: &str, test: Fut) {
    RUNTIME.block_on(async {
        skip::unless_available(name, test.await).expect("servers that start");
    });
}

pub(crate) fn endpoint_of(server: &changeling_support::Server) -> Endpoint {
    Endpoint {
        host: server.host().to_owned(),
        port: server.port(),
        user: server.user().to_owned(),
        password: server.password().to_owned().into(),
    }
}

impl Bench {
    /// Whether the server is another product, or of this version or later.
    pub(crate) async fn at_least(&self, flavor: Flavor, version: Version) -> bool {
        self.on
            .server()
            .await
            .is_some_and(|server| server.flavor() != flavor || server.version() >= version)
    }

    pub(crate) async fn sql(&mut self, statement: &str) {
        for statement in statement.split(";\n") {
            if let Err(error) = self.conn.query_drop(statement).await {
                panic!("{statement}: {error}");
            }
        }
    }

    pub(crate) fn table(&self, name: &str) -> TableName {
        TableName::new(&self.schema, name)
    }

    pub(crate) fn settings(&self, alter: &str) -> MigrationSettings {
        settings(&self.endpoint, self.table("t"), alter)
    }

    pub(crate) async fn server(&self) -> Server {
        Server::open(&self.endpoint, &Tls::Off, None)
            .await
            .expect("reachable")
    }

    /// The whole preparation of a migration of `t`.
    pub(crate) async fn prepare(&self, alter: &str) -> Result<MigrationPlan, InspectError> {
        self.prepare_with(&self.settings(alter)).await
    }

    pub(crate) async fn prepare_with(
        &self,
        settings: &MigrationSettings,
    ) -> Result<MigrationPlan, InspectError> {
        let inspection = Inspection::begin(settings).await?;
        ghost::make_room(&inspection, settings, OWNER).await?;
        ghost::prepare(&inspection, settings, OWNER).await
    }

    /// Expects a refusal, and that no table of ours is left.
    pub(crate) async fn refused(&mut self, settings: &MigrationSettings) -> Problems {
        let error = self
            .prepare_with(settings)
            .await
            .map(|_| ())
            .expect_err("refused");
        let InspectError::Refused(problems) = error else {
            panic!("not a refusal: {error}")
        };
        assert_eq!(self.our_tables().await, Vec::<String>::new(), "left behind");
        problems
    }

    pub(crate) async fn refused_for(&mut self, settings: &MigrationSettings, kind: ProblemKind, text: &str) {
        let problems = self.refused(settings).await;
        assert!(problems.has(kind), "{problems}");
        assert!(problems.to_string().contains(text), "{problems}");
    }

    pub(crate) async fn our_tables(&mut self) -> Vec<String> {
        self.conn
            .exec(
                "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME LIKE '\\_%'",
                (&self.schema,),
            )
            .await
            .expect("tables")
    }
}

pub(crate) fn settings(endpoint: &Endpoint, table: TableName, alter: &str) -> MigrationSettings {
    let mut settings = MigrationSettings::new(table, alter, endpoint.clone());
    settings.place = Place::Primary {
        inspect_primary: Permission::Granted,
    };
    settings
}

/// `SHOW CREATE TABLE`.
pub(crate) async fn definition(bench: &Bench, table: &str) -> String {
    let server = bench.server().await;
    let mut conn = server.connect(Role::Inspector).await.expect("a session");
    let table = inspector::read(&server, &mut conn, &bench.table(table))
        .await
        .expect("readable")
        .expect("there");
    table.definition
}
