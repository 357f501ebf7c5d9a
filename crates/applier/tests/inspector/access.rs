//! Reaching a server, and being allowed to work on it.

use changeling_applier::inspector::ProblemKind;
use changeling_applier::server::{ErrorKind, Server};
use changeling_applier::settings::{Endpoint, Permission, Tls, TlsVerify};
use rstest::rstest;

use crate::fixture::{On, on};

const SIMPLE: &str = "CREATE TABLE t (id int PRIMARY KEY, a int, b varchar(9))";

fn endpoint(endpoint: &Endpoint, user: &str, password: &str) -> Endpoint {
    Endpoint {
        user: user.into(),
        password: password.to_owned().into(),
        ..endpoint.clone()
    }
}

#[rstest]
fn servers_that_cannot_be_used_say_why(#[values(On::MySql, On::MariaDb)] server: On) {
    on(server, async |bench| {
        let wrong = endpoint(&bench.endpoint, "nobody_at_all", "wrong");
        let error = Server::open(&wrong, &Tls::Off, None)
            .await
            .expect_err("a wrong account");
        assert_eq!(error.kind, ErrorKind::Auth, "{error}");
        assert!(
            error.to_string().contains("nobody_at_all") && !error.to_string().contains("wrong"),
            "{error}"
        );

        let closed = Endpoint {
            port: 1,
            ..bench.endpoint.clone()
        };
        let error = Server::open(&closed, &Tls::Off, None)
            .await
            .expect_err("a closed port");
        assert_eq!(error.kind, ErrorKind::Unreachable, "{error}");
        assert!(
            error.to_string().contains(":1") && error.to_string().contains("--port"),
            "{error}"
        );

        let silent = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let port = silent.local_addr().expect("an address").port();
        let mute = Endpoint {
            host: "127.0.0.1".into(),
            port,
            ..bench.endpoint.clone()
        };
        let limit = Some(std::time::Duration::from_millis(200));
        let error = Server::open(&mute, &Tls::Off, limit)
            .await
            .expect_err("a server that says nothing");
        assert_eq!(error.kind, ErrorKind::Unreachable, "{error}");
        assert!(error.to_string().contains("no answer within 0.2 s"), "{error}");

        let socket = Endpoint {
            host: "/nowhere/mysqld.sock".into(),
            ..bench.endpoint.clone()
        };
        let error = Server::open(&socket, &Tls::Off, None)
            .await
            .expect_err("no such socket");
        assert_eq!(error.kind, ErrorKind::Unreachable, "{error}");
    });
}

#[test]
fn tls_is_checked_unless_told_otherwise() {
    on(On::MySql, async |bench| {
        let tls = |verify| Tls::On {
            ca: None,
            identity: None,
            verify,
        };
        let error = Server::open(&bench.endpoint, &tls(TlsVerify::Full), None)
            .await
            .expect_err("self-signed");
        assert_eq!(error.kind, ErrorKind::Tls, "{error}");
        let server = Server::open(&bench.endpoint, &tls(TlsVerify::Nothing), None)
            .await
            .expect("not checked");
        let mut conn = server
            .connect(changeling_applier::server::Role::Inspector)
            .await
            .expect("again");
        let cipher: Option<(String, String)> =
            mysql_async::prelude::Queryable::query_first(&mut conn, "SHOW STATUS LIKE 'Ssl_cipher'")
                .await
                .expect("asked");
        assert!(cipher.is_some_and(|(_, cipher)| !cipher.is_empty()));
    });
}

#[rstest]
fn a_proxy_port_is_noticed(#[values(On::MySql, On::MariaDb)] server: On) {
    on(server, async |mut bench| {
        bench.sql(SIMPLE).await;
        let upstream = format!("{}:{}", bench.endpoint.host, bench.endpoint.port);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let forward = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let Ok(mut server) = tokio::net::TcpStream::connect(&upstream).await else {
                    break;
                };
                tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut server).await });
            }
        });
        let mut settings = bench.settings("add c int");
        settings.inspected.host = "127.0.0.1".into();
        settings.inspected.port = port;
        bench
            .refused_for(
                &settings,
                ProblemKind::Settings,
                "unexpected database port reported",
            )
            .await;
        settings.skip_port_validation = Permission::Granted;
        bench.prepare_with(&settings).await.expect("validation is off");
        forward.abort();
    });
}

#[rstest]
fn privileges_are_named(#[values(On::MySql, On::MariaDb)] server: On) {
    on(server, async |mut bench| {
        bench.sql(SIMPLE).await;
        let user = format!("u_{}", bench.schema);
        bench
            .sql(&format!("CREATE USER {user} IDENTIFIED BY 'pw1'"))
            .await;
        let mut settings = bench.settings("add c int");
        settings.inspected = endpoint(&bench.endpoint, &user, "pw1");
        let escaped = bench.schema.replace('_', "\\_");
        bench
            .sql(&format!("GRANT SELECT ON `{escaped}`.* TO {user}"))
            .await;
        let problems = bench.refused(&settings).await.to_string();
        assert!(
            problems.contains("user has insufficient privileges for migration"),
            "{problems}"
        );
        assert!(
            problems.contains("misses REPLICATION SLAVE, REPLICATION CLIENT ON *.*"),
            "{problems}"
        );
        assert!(
            problems.contains(
                "misses ALTER, CREATE, DELETE, DROP, INDEX, INSERT, LOCK TABLES, TRIGGER, UPDATE ON"
            ),
            "{problems}"
        );

        let monitor = if bench.on == On::MariaDb {
            ", REPLICA MONITOR"
        } else {
            ""
        };
        bench
            .sql(&format!(
                "GRANT REPLICATION SLAVE, REPLICATION CLIENT{monitor} ON *.* TO {user}"
            ))
            .await;
        bench
            .sql(&format!(
                "GRANT ALTER, CREATE, DELETE, DROP, INDEX, INSERT, LOCK TABLES, SELECT, TRIGGER, UPDATE \
            ON `{escaped}`.* TO {user}"
            ))
            .await;
        bench
            .prepare_with(&settings)
            .await
            .expect("gh-ost's privileges are enough");
        bench.sql(&format!("DROP USER {user}")).await;
    });
}

#[rstest]
fn a_role_counts_when_it_is_active(#[values(On::MySql, On::MariaDb)] server: On) {
    on(server, async |mut bench| {
        bench.sql(SIMPLE).await;
        let (user, role) = (format!("u_{}", bench.schema), format!("r_{}", bench.schema));
        bench.sql(&format!("CREATE USER {user} IDENTIFIED BY 'pw1';\nCREATE ROLE {role};\nGRANT ALL ON *.* TO {role};\nGRANT {role} TO {user}")).await;
        let to = if bench.on == On::MariaDb { "FOR" } else { "TO" };
        bench.sql(&format!("SET DEFAULT ROLE {role} {to} {user}")).await;
        let mut settings = bench.settings("add c int");
        settings.inspected = endpoint(&bench.endpoint, &user, "pw1");
        bench
            .prepare_with(&settings)
            .await
            .expect("the role's privileges are enough");
        bench.sql(&format!("DROP USER {user};\nDROP ROLE {role}")).await;
    });
}
