//! Every reason not to begin, on real tables: found, worded, and nothing created.

use changeling_applier::inspector::{InspectError, Inspection, ProblemKind};
use changeling_applier::settings::{
    ForeignKeys, MigrationSettings, Permission, Place, Purpose, Renames, Triggers,
};
use mysql_async::prelude::Queryable;
use rstest::rstest;

use crate::fixture::{On, on};

const SIMPLE: &str = "CREATE TABLE t (id int PRIMARY KEY, a int, b varchar(9))";

#[rstest]
#[case(
    "rename to u",
    ProblemKind::Alter,
    "alter statement seems to RENAME the table"
)]
#[case(
    "change a c int",
    ProblemKind::Columns,
    "gh-ost believes the ALTER statement renames columns"
)]
#[case(
    "rename column a to c",
    ProblemKind::Columns,
    "gh-ost believes the ALTER statement renames columns, as follows: a -> c"
)]
#[case("engine=myisam", ProblemKind::Alter, "changes the engine to myisam")]
#[case(
    "add c int, add foreign key (c) references p(id)",
    ProblemKind::Alter,
    "the ALTER adds a foreign key"
)]
#[case("drop partition p0", ProblemKind::Alter, "DROP PARTITION moves or drops rows")]
#[case("discard tablespace", ProblemKind::Alter, "cannot be done by a copy")]
#[case("add system versioning", ProblemKind::Alter, "system versioning")]
#[case(
    "algorithm=inplace, lock=none",
    ProblemKind::Alter,
    "the ALTER changes nothing"
)]
fn what_an_alter_may_not_do(
    #[values(On::MySql, On::MariaDb)] server: On,
    #[case] alter: &str,
    #[case] kind: ProblemKind,
    #[case] text: &str,
) {
    on(server, async |mut bench| {
        bench.sql(SIMPLE).await;
        bench.refused_for(&bench.settings(alter), kind, text).await;
    });
}

#[rstest]
#[case(
    "CREATE TABLE t (id int, a int)",
    "add c int",
    ProblemKind::Key,
    "no PRIMARY nor UNIQUE key found in table! Bailing out"
)]
#[case(
    "CREATE TABLE t (id int, a varchar(9) NOT NULL, UNIQUE KEY u (a(3)))",
    "add c int",
    ProblemKind::Key,
    "no PRIMARY nor UNIQUE key found in table!"
)]
#[case(
    "CREATE TABLE t (id int, UNIQUE KEY u (id))",
    "add c int",
    ProblemKind::Key,
    "has nullable columns. Bailing out"
)]
#[case(
    "CREATE TABLE t (id int PRIMARY KEY, a int)",
    "drop primary key, add primary key (a)",
    ProblemKind::Key,
    "no shared unique key can be found after ALTER! Bailing out"
)]
#[case(
    "CREATE TABLE t (id int PRIMARY KEY, a int)",
    "drop primary key, drop id, add id int first, add primary key (id)",
    ProblemKind::Key,
    "its column id is not in the altered table"
)]
#[case(
    "CREATE TABLE t (id float PRIMARY KEY, a int)",
    "add c int",
    ProblemKind::Key,
    "id is a FLOAT"
)]
#[case(
    "CREATE TABLE t (id datetime PRIMARY KEY, a int)",
    "modify id timestamp",
    ProblemKind::Key,
    "no support at this time for converting a column from DATETIME to TIMESTAMP that is also part of the chosen unique key"
)]
#[case(
    "CREATE TABLE t (id varchar(9) PRIMARY KEY) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    "modify id varchar(9) collate utf8mb4_general_ci",
    ProblemKind::Key,
    "changes its collation from utf8mb4_bin to utf8mb4_general_ci"
)]
#[case(
    "CREATE TABLE t (id int PRIMARY KEY, a int)",
    "drop primary key, add x int, add primary key (id, x)",
    ProblemKind::Key,
    "also holds x, which is new"
)]
#[case(
    "CREATE TABLE t (id int PRIMARY KEY, a int) ENGINE=MyISAM",
    "add c int",
    ProblemKind::Table,
    "is of engine MyISAM"
)]
#[case(
    "CREATE VIEW t AS SELECT 1 AS id",
    "add c int",
    ProblemKind::Table,
    "is a VIEW, not a real table"
)]
#[case(
    "CREATE TABLE u (id int PRIMARY KEY)",
    "add c int",
    ProblemKind::Table,
    "cannot find table"
)]
#[case(
    "CREATE TABLE _t_gho (id int PRIMARY KEY);\nCREATE TABLE t (id int PRIMARY KEY);\nRENAME TABLE _t_gho TO `x_t_gho`;\nCREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW SET NEW.id = 1",
    "add c int",
    ProblemKind::Triggers,
    "found triggers on"
)]
#[case(
    "CREATE TABLE p (id int PRIMARY KEY);\nCREATE TABLE t (id int PRIMARY KEY, p int, CONSTRAINT fk FOREIGN KEY (p) REFERENCES p (id))",
    "add c int",
    ProblemKind::ForeignKeys,
    "Child-side foreign keys are not supported. Bailing out"
)]
#[case(
    "CREATE TABLE t (id int PRIMARY KEY);\nCREATE TABLE c (id int PRIMARY KEY, p int, CONSTRAINT fk FOREIGN KEY (p) REFERENCES t (id))",
    "add c int",
    ProblemKind::ForeignKeys,
    "Parent-side foreign keys are not supported. Bailing out"
)]
fn what_a_table_may_not_be(
    #[values(On::MySql, On::MariaDb)] server: On,
    #[case] definition: &str,
    #[case] alter: &str,
    #[case] kind: ProblemKind,
    #[case] text: &str,
) {
    on(server, async |mut bench| {
        bench.sql(definition).await;
        bench.refused_for(&bench.settings(alter), kind, text).await;
    });
}

#[rstest]
#[case(
    "CREATE TABLE t (id int PRIMARY KEY, c varchar(30) COMPRESSED)",
    "compressed columns"
)]
#[case(
    "CREATE TABLE t (id int PRIMARY KEY) WITH SYSTEM VERSIONING",
    "system-versioned"
)]
#[case("CREATE SEQUENCE t", "is a SEQUENCE")]
#[case(
    "CREATE TABLE t (id int, a date, b date, PERIOD FOR p (a, b), PRIMARY KEY (id, p WITHOUT OVERLAPS))",
    "has a period"
)]
fn what_a_mariadb_table_may_not_be(#[case] definition: &str, #[case] text: &str) {
    on(On::MariaDb, async |mut bench| {
        bench.sql(definition).await;
        bench
            .refused_for(&bench.settings("add x int"), ProblemKind::Table, text)
            .await;
    });
}

#[test]
fn a_functional_key_is_not_usable() {
    on(On::MySql, async |mut bench| {
        bench
            .sql("CREATE TABLE t (id int, n varchar(9), UNIQUE KEY u ((lower(n))))")
            .await;
        bench
            .refused_for(
                &bench.settings("add x int"),
                ProblemKind::Key,
                "no PRIMARY nor UNIQUE key",
            )
            .await;
    });
}

#[rstest]
fn everything_is_said_at_once(#[values(On::MySql, On::MariaDb)] server: On) {
    on(server, async |mut bench| {
        bench.sql("CREATE TABLE t (id int, a int) ENGINE=MyISAM").await;
        bench
            .sql("CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW SET NEW.id = 1")
            .await;
        let mut settings = bench.settings("change a b int, rename to u");
        settings.place = Place::Primary {
            inspect_primary: Permission::Refused,
        };
        let problems = bench.refused(&settings).await;
        for kind in [
            ProblemKind::Alter,
            ProblemKind::Columns,
            ProblemKind::Table,
            ProblemKind::Triggers,
            ProblemKind::Topology,
        ] {
            assert!(problems.has(kind), "{kind:?} in {problems}");
        }
        assert!(
            problems
                .to_string()
                .contains("it seems like this migration attempt to run directly on master")
        );
        assert_eq!(problems.to_string().lines().count(), problems.0.len());
    });
}

#[rstest]
fn tables_in_the_way(#[values(On::MySql, On::MariaDb)] server: On) {
    on(server, async |mut bench| {
        bench.sql(SIMPLE).await;
        bench.sql("CREATE TABLE _t_gho (x int)").await;
        bench.sql("CREATE TABLE _t_del (x int)").await;
        let settings = bench.settings("add c int");
        let error = bench
            .prepare_with(&settings)
            .await
            .map(|_| ())
            .expect_err("refused")
            .to_string();
        assert!(error.contains("_t_gho` already exists. Panicking."), "{error}");
        assert!(error.contains("_t_del` already exists. Panicking."), "{error}");
        let mut settings = settings;
        settings.leftovers.drop_ghost_first = Permission::Granted;
        settings.leftovers.timestamp_old = Permission::Granted;
        settings.purpose = Purpose::DryRun;
        let error = bench.prepare_with(&settings).await.map(|_| ());
        let error = error.expect_err("a dry run drops nothing").to_string();
        assert!(error.contains("drops nothing"), "{error}");
        settings.purpose = Purpose::Execute;
        bench
            .prepare_with(&settings)
            .await
            .expect("the ghost table is replaced, the old one has another name");
    });
}

#[rstest]
fn foreign_keys_by_choice(#[values(On::MySql, On::MariaDb)] server: On) {
    on(server, async |mut bench| {
        bench.sql("CREATE TABLE p (id int PRIMARY KEY)").await;
        bench
            .sql(
                "CREATE TABLE t (id int PRIMARY KEY, p int, CONSTRAINT fk FOREIGN KEY (p) REFERENCES p (id))",
            )
            .await;
        let drop = bench
            .prepare("drop foreign key fk")
            .await
            .expect("the ALTER itself drops it");
        assert_eq!(drop.alter, "");
        bench.sql("DROP TABLE _t_gho").await;
        let mut settings = bench.settings("add c int, drop foreign key fk");
        settings.foreign_keys = ForeignKeys::Discard;
        let plan = bench.prepare_with(&settings).await.expect("they are discarded");
        assert_eq!(plan.alter, "add c int");
        assert!(
            plan.deferred_indexes.iter().any(|index| index.name == "fk"),
            "{:?}",
            plan.deferred_indexes
        );
    });
}

#[rstest]
fn renames_by_choice(#[values(On::MySql, On::MariaDb)] server: On) {
    on(server, async |mut bench| {
        bench
            .sql("CREATE TABLE t (id int PRIMARY KEY, a int, b int, c int)")
            .await;
        for (alter, renames, expected) in [
            ("change a x int", Renames::Approve, "id=id a=x b=b c=c"),
            ("change a x int", Renames::Skip, "id=id b=b c=c"),
            (
                "rename column a to b, rename column b to a",
                Renames::Approve,
                "id=id a=b b=a c=c",
            ),
            ("change a A bigint", Renames::Ask, "id=id a=A b=b c=c"),
            ("drop c, add c int", Renames::Ask, "id=id a=a b=b"),
            ("change id key1 bigint", Renames::Approve, "id=key1 a=a b=b c=c"),
            ("rename column b to c, drop c", Renames::Approve, "id=id a=a b=c"),
        ] {
            let mut settings = bench.settings(alter);
            settings.renames = renames;
            let plan = bench
                .prepare_with(&settings)
                .await
                .unwrap_or_else(|error| panic!("{alter}: {error}"));
            let pairs: Vec<String> = plan
                .columns
                .iter()
                .map(|c| format!("{}={}", c.source.name, c.target.name))
                .collect();
            assert_eq!(pairs.join(" "), expected, "{alter}");
            bench.sql("DROP TABLE _t_gho").await;
        }
    });
}

#[rstest]
fn a_bad_alter_leaves_nothing(#[values(On::MySql, On::MariaDb)] server: On) {
    on(server, async |mut bench| {
        bench.sql(SIMPLE).await;
        for (alter, errno) in [
            ("add a int", "1060"),
            ("add c intt", ""),
            ("drop column z", "1091"),
            ("frobnicate", "1064"),
        ] {
            let error = bench.prepare(alter).await.map(|_| ()).expect_err("a bad ALTER");
            let InspectError::Server(error) = error else {
                panic!("{alter}: {error}")
            };
            assert!(
                error.to_string().contains(errno) && error.to_string().contains(alter),
                "{error}"
            );
            assert_eq!(bench.our_tables().await, Vec::<String>::new(), "{alter}");
        }
    });
}

#[rstest]
fn triggers_by_choice(#[values(On::MySql, On::MariaDb)] server: On) {
    on(server, async |mut bench| {
        bench.sql("CREATE TABLE t (id int PRIMARY KEY, a int)").await;
        bench
            .sql("SET sql_mode='ANSI_QUOTES', collation_connection=latin1_bin")
            .await;
        bench
            .sql("CREATE TRIGGER one BEFORE INSERT ON t FOR EACH ROW SET NEW.\"a\" = 1")
            .await;
        bench.sql("CREATE TRIGGER two BEFORE INSERT ON t FOR EACH ROW PRECEDES one BEGIN SET NEW.a = 2; SET NEW.a = 3; END").await;
        let include = |suffix: &str| Triggers::Include {
            suffix: suffix.into(),
            remove_if_exists: Permission::Refused,
        };
        let with = |suffix: &str, alter: &str| {
            let mut settings = bench.settings(alter);
            settings.triggers = include(suffix);
            settings
        };
        let (long, bad, gone, good) = (
            with(&"x".repeat(62), "add c int"),
            with("a b", "add c int"),
            with("_g", "drop a"),
            with("_g", "add c int"),
        );
        bench
            .refused_for(&long, ProblemKind::Triggers, "length > 64 characters")
            .await;
        bench
            .refused_for(&bad, ProblemKind::Triggers, "letters, digits and underscores")
            .await;
        // The trigger's column is gone: found before a row is copied.
        let error = bench
            .prepare_with(&gone)
            .await
            .map(|_| ())
            .expect_err("a trigger that does not fit")
            .to_string();
        assert!(
            error.contains("1054") && error.contains("trigger two_g"),
            "{error}"
        );
        assert_eq!(bench.our_tables().await, Vec::<String>::new());

        bench.sql("CREATE TABLE other (id int);\nCREATE TRIGGER one_g BEFORE INSERT ON other FOR EACH ROW SET NEW.id = 1").await;
        bench
            .refused_for(&good, ProblemKind::Triggers, "found gh-ost triggers")
            .await;
        bench.sql("DROP TRIGGER one_g").await;
        bench.prepare_with(&good).await.expect("triggers that fit");
    });
}

#[rstest]
fn xa_transactions_that_nobody_decides(#[values(On::MySql, On::MariaDb)] server: On) {
    on(server, async |mut bench| {
        bench.sql(SIMPLE).await;
        let xid = format!("'x{}'", bench.schema);
        bench.sql(&format!("XA START {xid}")).await;
        bench.sql("INSERT INTO t VALUES (1, 1, 1)").await;
        bench.sql(&format!("XA END {xid};\nXA PREPARE {xid}")).await;
        let settings = bench.settings("add c int");
        let error = Inspection::begin(&settings)
            .await
            .map(|_| ())
            .expect_err("undecided")
            .to_string();
        assert!(
            error.contains("undecided XA transactions") && error.contains(&xid),
            "{error}"
        );
        // One that is decided while we wait is no problem.
        let (inspection, ()) = tokio::join!(Inspection::begin(&settings), async {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            bench.sql(&format!("XA COMMIT {xid}")).await;
        });
        inspection.expect("decided in time");
    });
}

#[test]
fn an_alter_that_cannot_be_read_is_said_so() {
    on(On::MySql, async |mut bench| {
        bench.sql(SIMPLE).await;
        let error = Inspection::begin(&bench.settings("add c varchar(9) default 'x"))
            .await
            .map(|_| ())
            .expect_err("unfinished");
        assert!(matches!(error, InspectError::Alter(_)), "{error}");
        let full = MigrationSettings {
            table: changeling_core::ident::TableName::new("", ""),
            ..bench.settings("")
        };
        let full = MigrationSettings {
            alter: format!("ALTER TABLE {}.t ADD c int", bench.schema),
            ..full
        };
        let inspection = Inspection::begin(&full).await.expect("the table is in the ALTER");
        assert_eq!(
            (inspection.body.as_str(), inspection.names.original),
            ("ADD c int", bench.table("t"))
        );
    });
}

#[test]
fn an_alter_for_another_table() {
    on(On::MySql, async |mut bench| {
        bench.sql(SIMPLE).await;
        for alter in ["ALTER TABLE u ADD c int", "ALTER TABLE other.t ADD c int"] {
            let settings = bench.settings(alter);
            bench
                .refused_for(&settings, ProblemKind::Alter, "is asked for")
                .await;
        }
        bench
            .prepare("ALTER TABLE `T` ADD c int")
            .await
            .expect("the same table");
    });
}

#[test]
fn the_instrument_of_metadata_locks_is_switched_on_if_allowed() {
    on(On::MySql, async |mut bench| {
        bench.sql(SIMPLE).await;
        let state = "SELECT ENABLED FROM performance_schema.setup_instruments WHERE NAME = 'wait/lock/metadata/sql/mdl'";
        bench.sql("UPDATE performance_schema.setup_instruments SET ENABLED = 'NO' WHERE NAME = 'wait/lock/metadata/sql/mdl'").await;
        let mut settings = bench.settings("add c int");
        Inspection::begin(&settings)
            .await
            .expect("this version does without");
        settings.allow_setup_instruments = Permission::Granted;
        Inspection::begin(&settings).await.expect("switched on");
        let enabled: Option<String> = bench.conn.query_first(state).await.expect("a state");
        assert_eq!(enabled.as_deref(), Some("YES"));
    });
}
