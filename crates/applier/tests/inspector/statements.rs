//! Statements of ours: owner tokens, triggers, instant DDL, sessions.

use std::time::Duration;

use changeling_applier::ghost;
use changeling_applier::inspector::for_definition;
use changeling_applier::instant::{self, InstantOutcome};
use changeling_applier::plan::SessionPlan;
use changeling_applier::server::Role;
use changeling_applier::settings::{Permission, Triggers};
use changeling_applier::trigger::{self, Trigger};
use mysql_async::Row;
use mysql_async::prelude::Queryable;
use rstest::rstest;

use crate::fixture::{OWNER, On, definition, on};

#[rstest]
fn statements_carry_the_owner(#[values(On::MySql, On::MariaDb)] server: On) {
    on(server, async |mut bench| {
        bench.sql("CREATE TABLE t (id int PRIMARY KEY)").await;
        bench.prepare("add c int").await.expect("a plan");
        let files: Vec<Row> = bench.conn.query("SHOW BINARY LOGS").await.expect("logs");
        let mut seen = 0;
        for file in files {
            let name: String = file.get(0).expect("a name");
            let events: Vec<Row> = bench
                .conn
                .query(format!("SHOW BINLOG EVENTS IN '{name}'"))
                .await
                .expect("events");
            for event in events {
                let info: String = event
                    .get::<Option<String>, _>("Info")
                    .flatten()
                    .unwrap_or_default();
                seen +=
                    usize::from(info.starts_with("/* changeling:test:1 */") && info.contains(&bench.schema));
            }
        }
        assert_eq!(seen, 2, "CREATE and ALTER");
        assert_eq!(
            ghost::owned("x*/ DROP", "SELECT 1"),
            "/* changeling:xDROP */ SELECT 1"
        );
    });
}

#[rstest]
fn triggers_are_remade_alike(#[values(On::MySql, On::MariaDb)] server: On) {
    on(server, async |mut bench| {
        bench
            .sql("CREATE TABLE t (id int PRIMARY KEY, a varchar(20))")
            .await;
        bench.sql("CREATE USER IF NOT EXISTS 'some body'@'localhost';\nGRANT ALL ON *.* TO 'some body'@'localhost'").await;
        bench.sql("SET NAMES utf8mb4;\nSET sql_mode='ANSI_QUOTES,NO_BACKSLASH_ESCAPES', collation_connection=latin1_bin").await;
        bench
            .sql("CREATE TRIGGER one BEFORE INSERT ON t FOR EACH ROW SET NEW.\"a\" = concat(NEW.a, '1\\')")
            .await;
        bench
            .sql(
                "CREATE DEFINER='some body'@'localhost' TRIGGER two BEFORE INSERT ON t FOR EACH ROW PRECEDES one \
            BEGIN -- it's first; é\n SET NEW.a = concat(NEW.a, 'é2;'); /* ' */ END",
            )
            .await;
        bench
            .sql("CREATE TRIGGER three AFTER DELETE ON t FOR EACH ROW SET @x = OLD.id")
            .await;
        bench.sql("CREATE TABLE _t_gho LIKE t").await;
        let server = bench.server().await;
        let mut conn = server.connect(Role::CutOver).await.expect("a session");
        let before = trigger::read(&server, &mut conn, &bench.table("t"))
            .await
            .expect("triggers");
        assert_eq!(before.len(), 3);
        let policy = Triggers::Include {
            suffix: "_n".into(),
            remove_if_exists: Permission::Refused,
        };
        let plans = trigger::plan(&before, &policy, &bench.table("_t_gho"), OWNER);
        trigger::rehearse(&server, &mut conn, &plans)
            .await
            .expect("they fit");
        assert!(
            trigger::read(&server, &mut conn, &bench.table("_t_gho"))
                .await
                .expect("none")
                .is_empty()
        );
        for statement in plans.iter().flat_map(|plan| &plan.create) {
            conn.query_drop(statement)
                .await
                .unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
        // Creating them leaves the session as it was.
        let mode: Option<String> = conn.query_first("SELECT @@sql_mode").await.expect("a mode");
        assert_eq!(mode.as_deref(), Some(""));
        let after = trigger::read(&server, &mut conn, &bench.table("_t_gho"))
            .await
            .expect("triggers");
        let essence = |list: &[Trigger]| {
            list.iter()
                .map(|t| {
                    (
                        t.timing.clone(),
                        t.event.clone(),
                        t.definer.clone(),
                        t.sql_mode.clone(),
                        t.collation.clone(),
                        t.body.clone(),
                    )
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(essence(&after), essence(&before));
        let names: Vec<&str> = after.iter().map(|t| t.name.as_str()).collect();
        let before_insert: Vec<&str> = names.iter().copied().filter(|name| *name != "three_n").collect();
        assert_eq!((names.len(), before_insert), (3, vec!["two_n", "one_n"]));
        bench
            .sql("SET NAMES utf8mb4;\nSET sql_mode='';\nINSERT INTO _t_gho VALUES (1, 'x')")
            .await;
        let value: Option<String> = bench
            .conn
            .query_first("SELECT a FROM _t_gho")
            .await
            .expect("a row");
        assert_eq!(value.as_deref(), Some("xé2;1\\"));
        for plan in &plans {
            conn.query_drop(&plan.drop).await.expect("undone");
        }
        assert!(
            trigger::read(&server, &mut conn, &bench.table("_t_gho"))
                .await
                .expect("none")
                .is_empty()
        );
    });
}

#[rstest]
fn instant_or_not(#[values(On::MySql, On::MariaDb)] server: On) {
    on(server, async |mut bench| {
        bench.sql("CREATE TABLE t (id int PRIMARY KEY, a int)").await;
        let server = bench.server().await;
        let session = for_definition(&server.variables, &bench.settings(""));
        let table = bench.table("t");
        let attempt = async |body: &str, tries: u64| {
            instant::attempt(
                &server,
                &table,
                body,
                &session,
                Duration::from_secs(1),
                tries,
                OWNER,
            )
            .await
            .expect("an answer")
        };
        assert_eq!(attempt("add c int -- at the end", 1).await, InstantOutcome::Done);
        assert!(definition(&bench, "t").await.contains("`c`"));
        for body in [
            "modify a varchar(5)",
            "add unique key (a)",
            "drop nothing",
            "add c int",
        ] {
            assert!(
                matches!(attempt(body, 1).await, InstantOutcome::NotInstant(_)),
                "{body}"
            );
        }
        // A reader's metadata lock is waited for, a few times.
        bench.sql("BEGIN").await;
        bench.sql("SELECT * FROM t").await;
        assert!(matches!(
            attempt("add d int", 1).await,
            InstantOutcome::NotInstant(_)
        ));
        let (outcome, ()) = tokio::join!(attempt("add d int", 5), async {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            bench.conn.query_drop("COMMIT").await.expect("committed");
        });
        assert_eq!(outcome, InstantOutcome::Done);
    });
}

#[rstest]
fn sessions_are_what_they_should_be(#[values(On::MySql, On::MariaDb)] server: On) {
    on(server, async |mut bench| {
        let server = bench.server().await;
        let plan = SessionPlan {
            time_zone: "+00:00".into(),
            sql_mode: "STRICT_ALL_TABLES".into(),
        };
        let mut conn = server
            .connect_writer(Role::Copier, &plan)
            .await
            .expect("a session");
        let isolation = if bench.on == On::MySql {
            "@@transaction_isolation"
        } else {
            "@@tx_isolation"
        };
        let row: Option<(String, String, String, u64, u64, String)> = conn
            .query_first(format!("SELECT {isolation}, @@time_zone, @@sql_mode, @@max_error_count, @@autocommit, @@character_set_client"))
            .await
            .expect("settings");
        let expected = (
            "READ-COMMITTED".into(),
            "+00:00".into(),
            "STRICT_ALL_TABLES".into(),
            65_535,
            1,
            "utf8mb4".into(),
        );
        assert_eq!(row, Some(expected));
        if bench.on == On::MySql {
            let role: Option<String> = conn
                .query_first(
                    "SELECT ATTR_VALUE FROM performance_schema.session_connect_attrs \
                    WHERE ATTR_NAME = 'changeling_role' AND PROCESSLIST_ID = CONNECTION_ID()",
                )
                .await
                .expect("attributes");
            assert_eq!(role.as_deref(), Some("copier"));
        }
        bench.sql("SELECT 1").await;
    });
}
