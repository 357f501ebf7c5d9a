//! Servers' settings and replication: each on servers of its own.

use std::time::Duration;

use changeling_applier::ghost;
use changeling_applier::inspector::{InspectError, Inspection, ProblemKind};
use changeling_applier::settings::{MigrationSettings, Permission, Place, Resume};
use changeling_core::ident::TableName;
use changeling_support::ServerSpec;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use rstest::rstest;

use crate::fixture::{OWNER, On, alone, endpoint_of, settings};

impl On {
    fn spec(self) -> ServerSpec {
        match self {
            Self::MySql => ServerSpec::mysql(),
            Self::MariaDb => ServerSpec::mariadb(),
        }
    }
}

async fn run(conn: &mut Conn, statement: &str) {
    for statement in statement.split(";\n") {
        conn.query_drop(statement)
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
}

async fn problems(settings: &MigrationSettings) -> String {
    match Inspection::begin(settings).await {
        Ok(_) => String::new(),
        Err(InspectError::Refused(problems)) => problems.to_string(),
        Err(error) => panic!("not a refusal: {error}"),
    }
}

#[rstest]
fn the_servers_settings(#[values(On::MySql, On::MariaDb)] on: On) {
    alone("the_servers_settings", async move {
        let server = on.spec().dedicated().start().await?;
        let mut conn = server.mysql().await?;
        run(
            &mut conn,
            "CREATE DATABASE s;\nCREATE TABLE s.t (id int PRIMARY KEY)",
        )
        .await;
        let mut settings = settings(&endpoint_of(&server), TableName::new("s", "t"), "add c int");
        assert_eq!(problems(&settings).await, "");

        run(&mut conn, "SET GLOBAL binlog_format='STATEMENT'").await;
        assert!(
            problems(&settings)
                .await
                .contains("you must be using ROW binlog format")
        );
        run(&mut conn, "SET GLOBAL binlog_format='ROW'").await;

        if on == On::MySql {
            run(&mut conn, "SET GLOBAL binlog_order_commits=OFF").await;
            assert!(problems(&settings).await.contains("binlog_order_commits=OFF"));
            run(&mut conn, "SET GLOBAL binlog_order_commits=ON").await;
        }
        let read_only = if on == On::MySql {
            "super_read_only"
        } else {
            "read_only"
        };
        run(&mut conn, &format!("SET GLOBAL {read_only}=ON")).await;
        let refused = problems(&settings).await;
        if on == On::MySql {
            assert!(refused.contains("is read-only"), "{refused}");
        } else {
            assert_eq!(refused, "", "this account may write all the same");
        }
        run(&mut conn, "SET GLOBAL read_only=OFF").await;

        settings.place = Place::Primary {
            inspect_primary: Permission::Refused,
        };
        assert!(
            problems(&settings)
                .await
                .contains("it seems like this migration attempt to run directly on master")
        );
        settings.place = Place::TestOnReplica {
            stop_replica: Permission::Granted,
        };
        assert!(problems(&settings).await.contains("doesn't seem to be a replica"));
        server.stop().await
    });
}

#[rstest]
fn no_binary_log_and_filters(#[values(On::MySql, On::MariaDb)] on: On) {
    alone("no_binary_log_and_filters", async move {
        let mut spec = on.spec().option("--binlog-ignore-db=s").without_gtid();
        if on == On::MySql {
            spec = spec
                .option("--gtid-mode=OFF")
                .option("--enforce-gtid-consistency=OFF");
        }
        let server = spec.start().await?;
        let mut conn = server.mysql().await?;
        run(
            &mut conn,
            "CREATE DATABASE s;\nCREATE TABLE s.t (id int PRIMARY KEY)",
        )
        .await;
        let mut filtered = settings(&endpoint_of(&server), TableName::new("s", "t"), "add c int");
        let refused = problems(&filtered).await;
        assert!(
            refused.contains("hides changes of `s`.`t`: binlog_ignore_db=s"),
            "{refused}"
        );
        filtered.gtid = Permission::Granted;
        let refused = problems(&filtered).await;
        assert_eq!(
            refused.contains("must have gtid_mode=ON and enforce_gtid_consistency=ON"),
            on == On::MySql,
            "{refused}"
        );
        server.stop().await
    });
}

#[rstest]
fn from_a_replica_to_its_primary(#[values(On::MySql, On::MariaDb)] on: On) {
    alone("from_a_replica_to_its_primary", async move {
        let pair = on.spec().with_replica().start().await?;
        let mut primary = pair.primary.mysql().await?;
        run(
            &mut primary,
            "CREATE DATABASE s;\nCREATE TABLE s.t (id int PRIMARY KEY, a int)",
        )
        .await;
        pair.wait_caught_up(Duration::from_secs(20)).await?;
        let replica: &changeling_support::Server = &pair.replica;
        let mut on_replica = replica.mysql().await?;
        let mut settings = settings(&endpoint_of(replica), TableName::new("s", "t"), "add c int");
        settings.place = Place::Primary {
            inspect_primary: Permission::Refused,
        };

        let inspection = Inspection::begin(&settings)
            .await
            .expect("a replica is what is wanted");
        assert_ne!(inspection.source.unique_id, inspection.primary.unique_id);
        assert_eq!(inspection.primary.endpoint.port, pair.primary.port());
        ghost::prepare(&inspection, &settings, OWNER)
            .await
            .expect("a plan");
        let there: Option<u32> = primary
            .query_first("SELECT 1 FROM information_schema.TABLES WHERE TABLE_NAME = '_t_gho'")
            .await?;
        assert_eq!(there, Some(1), "the ghost table is made on the primary");
        settings.purpose = changeling_applier::settings::Purpose::Execute;
        settings.checkpoint.resume = Resume::Require;

        // The primary by name, with the account of its own.
        settings.assumed_primary = Some(endpoint_of(&pair.primary));
        assert_eq!(problems(&settings).await, "");
        settings.assumed_primary = Some(endpoint_of(replica));
        assert!(
            problems(&settings)
                .await
                .contains("it seems like this migration attempt to run directly on master")
        );
        settings.inspected = endpoint_of(&pair.primary);
        assert!(
            problems(&settings)
                .await
                .contains("doesn't seem to be a replica, so its binary log has no changes")
        );
        settings.inspected = endpoint_of(replica);
        settings.assumed_primary = None;

        // Rehearsal on the replica itself.
        let mut rehearsal = settings.clone();
        rehearsal.place = Place::TestOnReplica {
            stop_replica: Permission::Granted,
        };
        let inspection = Inspection::begin(&rehearsal).await.expect("on the replica");
        assert_eq!(inspection.source.unique_id, inspection.primary.unique_id);

        // Another table on the replica.
        run(
            &mut on_replica,
            "SET sql_log_bin=0;\nALTER TABLE s.t MODIFY a bigint",
        )
        .await;
        assert!(
            problems(&settings)
                .await
                .contains("table structure is not identical between master and replica")
        );
        run(&mut on_replica, "ALTER TABLE s.t MODIFY a int").await;

        // Replication that stands still.
        pair.replica.stop_applying().await?;
        let refused = problems(&settings).await;
        assert!(
            refused.contains("replication on") && refused.contains("is broken"),
            "{refused}"
        );
        if on == On::MySql {
            run(
                &mut on_replica,
                "SET GLOBAL replica_parallel_workers=4;\nSET GLOBAL replica_preserve_commit_order=OFF",
            )
            .await;
            let refused = problems(&settings).await;
            assert!(
                refused.contains("without replica_preserve_commit_order"),
                "{refused}"
            );
        }
        run(
            &mut on_replica,
            if on == On::MySql {
                "CHANGE REPLICATION FILTER REPLICATE_WILD_IGNORE_TABLE=('s.\\_%')"
            } else {
                "SET GLOBAL replicate_wild_ignore_table='s.\\\\_%'"
            },
        )
        .await;
        let refused = problems(&settings).await;
        assert!(
            refused.contains("hides changes of `s`.`_t_ghc`: replicate_wild_ignore_table"),
            "{refused}"
        );
        pair.stop().await
    });
}

#[rstest]
fn a_replica_must_write_its_own_log(#[values(On::MySql, On::MariaDb)] on: On) {
    alone("a_replica_must_write_its_own_log", async move {
        let pair = on
            .spec()
            .with_replica()
            .replica_option("--skip-log-slave-updates")
            .start()
            .await?;
        let mut primary = pair.primary.mysql().await?;
        run(
            &mut primary,
            "CREATE DATABASE s;\nCREATE TABLE s.t (id int PRIMARY KEY, a int)",
        )
        .await;
        pair.wait_caught_up(Duration::from_secs(20)).await?;
        let settings = settings(&endpoint_of(&pair.replica), TableName::new("s", "t"), "add c int");
        let refused = problems(&settings).await;
        assert!(
            refused.contains("must have log_slave_updates enabled"),
            "{refused}"
        );
        assert!(!refused.contains("master-master"), "{refused}");
        pair.stop().await
    });
}

#[test]
fn two_primaries_of_each_other() {
    alone("two_primaries_of_each_other", async move {
        let pair = On::MariaDb.spec().with_replica().start().await?;
        let mut primary = pair.primary.mysql().await?;
        run(
            &mut primary,
            "CREATE DATABASE s;\nCREATE TABLE s.t (id int PRIMARY KEY)",
        )
        .await;
        pair.wait_caught_up(Duration::from_secs(20)).await?;
        let replica: &changeling_support::Server = &pair.replica;
        run(
            &mut primary,
            &format!(
                "CHANGE MASTER TO MASTER_HOST='{}', MASTER_PORT={}, MASTER_USER='{}', MASTER_PASSWORD='{}', \
             MASTER_USE_GTID=slave_pos;\nSTART SLAVE",
                replica.host(),
                replica.port(),
                replica.user(),
                replica.password()
            ),
        )
        .await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let settings = settings(&endpoint_of(replica), TableName::new("s", "t"), "add c int");
        let refused = Inspection::begin(&settings)
            .await
            .map(|_| ())
            .expect_err("which one?");
        assert!(
            refused
                .problems()
                .is_some_and(|problems| problems.has(ProblemKind::Topology))
        );
        assert!(
            refused
                .to_string()
                .contains("there seems to be a master-master setup"),
            "{refused}"
        );
        run(&mut primary, "STOP SLAVE").await;
        pair.stop().await
    });
}

#[test]
fn letter_case_is_the_servers_business() {
    alone("letter_case_is_the_servers_business", async {
        let server = On::MariaDb
            .spec()
            .option("--lower-case-table-names=1")
            .start()
            .await?;
        let mut conn = server.mysql().await?;
        run(
            &mut conn,
            "CREATE DATABASE s;\nCREATE TABLE s.Tee (id int PRIMARY KEY)",
        )
        .await;
        let settings = settings(&endpoint_of(&server), TableName::new("S", "TEE"), "add c int");
        let inspection = Inspection::begin(&settings).await.expect("found");
        let plan = ghost::prepare(&inspection, &settings, OWNER)
            .await
            .expect("a plan");
        assert_eq!(
            (plan.names.original, plan.names.ghost),
            (TableName::new("s", "tee"), TableName::new("s", "_tee_gho"))
        );
        server.stop().await
    });
}
