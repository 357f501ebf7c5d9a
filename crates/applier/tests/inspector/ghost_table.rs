//! From settings to a ghost table and a plan.

use changeling_applier::ghost::{self, Definer};
use changeling_applier::inspector::keys::RowImages;
use changeling_applier::inspector::{self, Inspection, ProblemKind, for_definition};
use changeling_applier::plan::ConflictPolicy;
use changeling_applier::server::{Role, Variables};
use changeling_applier::settings::{DeferIndexes, MigrationSettings, Permission, Resume, VerifyMode};
use mysql_async::prelude::Queryable;
use rstest::rstest;

use crate::fixture::{OWNER, On, definition, on};

#[rstest]
fn a_simple_table(#[values(On::MySql, On::MariaDb)] server: On) {
    on(server, async |mut bench| {
        bench.sql("CREATE TABLE t (id int NOT NULL AUTO_INCREMENT PRIMARY KEY, a int, b varchar(9), KEY ka (a))").await;
        bench.sql("INSERT INTO t (id, a) VALUES (41, 1)").await;
        let plan = bench
            .prepare("ADD COLUMN c int NOT NULL DEFAULT 7, ENGINE=InnoDB")
            .await
            .expect("a plan");
        assert_eq!(plan.names.ghost, bench.table("_t_gho"));
        assert_eq!(
            (plan.key.source_name.as_str(), plan.key.target_name.as_str()),
            ("PRIMARY", "PRIMARY")
        );
        let shared: Vec<&str> = plan
            .columns
            .iter()
            .map(|column| column.source.name.as_str())
            .collect();
        assert_eq!(shared, ["id", "a", "b"]);
        assert_eq!(plan.conflicts, ConflictPolicy::Replace);
        assert_eq!(plan.same_unique_keys, ["PRIMARY"]);
        assert_eq!(plan.session.time_zone, "+00:00");
        assert!(plan.session.sql_mode.contains("STRICT_ALL_TABLES"));
        assert_eq!(plan.ghost.columns.len(), 4);
        assert_eq!(bench.our_tables().await, ["_t_gho"]);
    });
}

#[rstest]
fn keys_and_conflicts(#[values(On::MySql, On::MariaDb)] server: On) {
    on(server, async |mut bench| {
        for (definition, alter, key, target, conflicts, same) in [
            // Identical unique keys: REPLACE is safe.
            (
                "id int PRIMARY KEY, a int, UNIQUE KEY u (a)",
                "add c int",
                "PRIMARY",
                "PRIMARY",
                ConflictPolicy::Replace,
                "PRIMARY u",
            ),
            (
                "id int PRIMARY KEY, a int, UNIQUE KEY u (a)",
                "drop key u, add unique key w (a)",
                "PRIMARY",
                "PRIMARY",
                ConflictPolicy::Replace,
                "PRIMARY w",
            ),
            (
                "id int PRIMARY KEY, a int, b int, UNIQUE KEY u (a, b)",
                "drop key u, add unique key w (b, a)",
                "PRIMARY",
                "PRIMARY",
                ConflictPolicy::Replace,
                "PRIMARY w",
            ),
            (
                "id int PRIMARY KEY, a int, UNIQUE KEY u (a)",
                "drop key u",
                "PRIMARY",
                "PRIMARY",
                ConflictPolicy::Replace,
                "PRIMARY",
            ),
            (
                "id int PRIMARY KEY, a int, UNIQUE KEY u (a)",
                "modify id bigint auto_increment, modify a bigint",
                "PRIMARY",
                "PRIMARY",
                ConflictPolicy::Replace,
                "PRIMARY u",
            ),
            // New, narrower, or under another equality: not.
            (
                "id int PRIMARY KEY, a int",
                "add unique key u (a)",
                "PRIMARY",
                "PRIMARY",
                ConflictPolicy::Insert,
                "PRIMARY",
            ),
            (
                "id int PRIMARY KEY, a int, b int, UNIQUE KEY u (a, b)",
                "drop key u, add unique key u (a)",
                "PRIMARY",
                "PRIMARY",
                ConflictPolicy::Insert,
                "PRIMARY",
            ),
            (
                "id int PRIMARY KEY, a varchar(20), UNIQUE KEY u (a)",
                "drop key u, add unique key u (a(5))",
                "PRIMARY",
                "PRIMARY",
                ConflictPolicy::Insert,
                "PRIMARY",
            ),
            (
                "id int PRIMARY KEY, a varchar(20) collate utf8mb4_bin, UNIQUE KEY u (a)",
                "modify a varchar(20) collate utf8mb4_general_ci",
                "PRIMARY",
                "PRIMARY",
                ConflictPolicy::Insert,
                "PRIMARY",
            ),
            (
                "id int PRIMARY KEY, a datetime(6), UNIQUE KEY u (a)",
                "modify a datetime",
                "PRIMARY",
                "PRIMARY",
                ConflictPolicy::Insert,
                "PRIMARY",
            ),
            // A wider key finds rows by its first columns, and can only be violated where the old one is.
            (
                "id int PRIMARY KEY, a int NOT NULL",
                "drop primary key, add primary key (id, a)",
                "PRIMARY",
                "PRIMARY",
                ConflictPolicy::Insert,
                "PRIMARY",
            ),
            // Another key where the primary key cannot be.
            (
                "id int PRIMARY KEY, a int NOT NULL, b int NOT NULL, UNIQUE KEY u (a), UNIQUE KEY v (b)",
                "drop primary key, add x int auto_increment primary key, drop key v",
                "u",
                "u",
                ConflictPolicy::Insert,
                "u",
            ),
            (
                "a varchar(9) NOT NULL, b int NOT NULL, c int NOT NULL, UNIQUE KEY u (a), UNIQUE KEY v (b, c)",
                "add d int",
                "v",
                "v",
                ConflictPolicy::Replace,
                "u v",
            ),
            (
                "a int, b int NOT NULL, c int NOT NULL, UNIQUE KEY u (a), UNIQUE KEY v (b, c)",
                "add d int",
                "v",
                "v",
                ConflictPolicy::Replace,
                "v u",
            ),
            (
                "a varchar(9) character set utf8mb3 collate utf8mb3_general_ci PRIMARY KEY",
                "convert to character set utf8mb4 collate utf8mb4_general_ci",
                "PRIMARY",
                "PRIMARY",
                ConflictPolicy::Replace,
                "PRIMARY",
            ),
        ] {
            bench.sql(&format!("CREATE TABLE t ({definition})")).await;
            let plan = bench
                .prepare(alter)
                .await
                .unwrap_or_else(|error| panic!("{definition}; {alter}: {error}"));
            let case = format!("{definition}; {alter}");
            assert_eq!(
                (plan.key.source_name.as_str(), plan.key.target_name.as_str()),
                (key, target),
                "{case}"
            );
            assert_eq!(plan.conflicts, conflicts, "{case}");
            assert!(
                plan.same_unique_keys
                    .iter()
                    .all(|name| plan.unique_indexes.contains(name)),
                "{case}"
            );
            let mut names = plan.same_unique_keys.clone();
            names.sort_unstable_by_key(|name| name.to_lowercase());
            let mut expected: Vec<&str> = same.split(' ').collect();
            expected.sort_unstable_by_key(|name| name.to_lowercase());
            assert_eq!(names, expected, "{case}");
            bench.sql("DROP TABLE t, _t_gho").await;
        }
    });
}

#[rstest]
fn deferred_indexes_come_back_as_they_were(#[values(On::MySql, On::MariaDb)] server: On) {
    on(server, async |mut bench| {
        let special = match bench.on {
            On::MySql => "KEY k4 ((lower(b))), KEY k5 (b) INVISIBLE,",
            On::MariaDb => "KEY k5 (b) IGNORED,",
        };
        bench
            .sql(&format!(
                "CREATE TABLE t (id int PRIMARY KEY, a int NOT NULL AUTO_INCREMENT, b varchar(50), g geometry NOT NULL, \
                 UNIQUE KEY u (b), KEY k1 (a), KEY k2 (b(7) DESC, a) COMMENT 'it''s, (a) \\\\ key', KEY k3 (a, b), {special} \
                 KEY `k``6` (id, b) USING BTREE, FULLTEXT KEY ft (b), SPATIAL KEY sp (g)) DEFAULT CHARACTER SET utf8mb4"
            ))
            .await;
        let mut never = bench.settings("add c int, add key k7 (c, b)");
        never.copy.defer_indexes = DeferIndexes::Never;
        let plan = bench.prepare_with(&never).await.expect("a plan");
        assert!(plan.deferred_indexes.is_empty());
        let before = definition(&bench, "_t_gho").await;
        bench.sql("DROP TABLE _t_gho").await;

        let mut always = never.clone();
        always.copy.defer_indexes = DeferIndexes::Always;
        let plan = bench.prepare_with(&always).await.expect("a plan");
        let mut names: Vec<&str> = plan
            .deferred_indexes
            .iter()
            .map(|index| index.name.as_str())
            .collect();
        names.sort_unstable();
        // k1 and k3 begin with the AUTO_INCREMENT column and stay; so do unique, FULLTEXT and SPATIAL ones, and k4,
        // which is over an expression.
        assert_eq!(names, ["k2", "k5", "k7", "k`6"]);
        let server = bench.server().await;
        let mut definer = Definer::open(&server, &for_definition(&server.variables, &always), OWNER)
            .await
            .expect("a session");
        let without = definition(&bench, "_t_gho").await;
        assert!(
            !without.contains("k2") && without.contains("`k1`") && without.contains("FULLTEXT"),
            "{without}"
        );
        definer
            .build_deferred(&plan.names.ghost, &plan.deferred_indexes)
            .await
            .expect("built");
        definer
            .build_deferred(&plan.names.ghost, &plan.deferred_indexes)
            .await
            .expect("again is nothing");
        let after = definition(&bench, "_t_gho").await;
        let lines = |text: &str| {
            let mut lines: Vec<String> = text
                .lines()
                .map(|line| line.trim_end_matches(',').to_owned())
                .collect();
            lines.sort_unstable();
            lines
        };
        assert_eq!(lines(&after), lines(&before));
        definer.drop(&plan.names.ghost).await.expect("dropped");
        definer.drop(&plan.names.ghost).await.expect("again is nothing");
    });
}

#[rstest]
fn auto_increment_goes_on(#[values(On::MySql, On::MariaDb)] server: On) {
    on(server, async |mut bench| {
        for (alter, expected) in [("add c int", 42), ("auto_increment=1000, add c int", 1000)] {
            bench
                .sql("CREATE TABLE t (id int NOT NULL AUTO_INCREMENT PRIMARY KEY)")
                .await;
            bench.sql("INSERT INTO t VALUES (41)").await;
            bench.prepare(alter).await.expect("a plan");
            let server = bench.server().await;
            let mut conn = server.connect(Role::Inspector).await.expect("a session");
            let ghost = inspector::read(&server, &mut conn, &bench.table("_t_gho"))
                .await
                .expect("readable")
                .expect("there");
            assert_eq!(ghost.auto_increment, Some(expected), "{alter}");
            bench.sql("DROP TABLE t, _t_gho").await;
        }
    });
}

#[rstest]
fn partitioned_and_generated(#[values(On::MySql, On::MariaDb)] server: On) {
    on(server, async |mut bench| {
        bench.sql("CREATE TABLE t (id int, d int, v int AS (d + 1) VIRTUAL, s int AS (d + 2) STORED, PRIMARY KEY (id, d), KEY kv (v)) \
            PARTITION BY RANGE (d) (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN MAXVALUE)").await;
        let plan = bench
            .prepare("modify s int remove partitioning")
            .await
            .expect("a plan");
        let shared: Vec<&str> = plan
            .columns
            .iter()
            .map(|column| column.source.name.as_str())
            .collect();
        // What the server computes on the new table is not copied; what it stores from now on is.
        assert_eq!(shared, ["id", "d", "s"]);
        bench.sql("DROP TABLE _t_gho").await;
        bench
            .prepare("add column c int")
            .await
            .expect("a partitioned ghost table");
        assert!(definition(&bench, "_t_gho").await.contains("PARTITION"));
    });
}

#[test]
fn a_stored_generated_column_can_be_the_key() {
    on(On::MySql, async |mut bench| {
        bench
            .sql("CREATE TABLE t (a int NOT NULL, s int AS (a + 1) STORED NOT NULL, PRIMARY KEY (s), z int)")
            .await;
        let mut unproven = bench.settings("modify z bigint");
        bench
            .refused_for(&unproven, ProblemKind::Key, "is computed by the server")
            .await;
        unproven.verify = VerifyMode::Off;
        let plan = bench.prepare_with(&unproven).await.expect("computed alike");
        assert_eq!(
            plan.key.columns.first().map(|column| column.source.name.as_str()),
            Some("s")
        );
        bench.sql("DROP TABLE _t_gho").await;
        bench
            .refused_for(
                &bench.settings("modify a bigint not null"),
                ProblemKind::Key,
                "whose type changes",
            )
            .await;
        bench.sql("DROP TABLE t").await;
        bench
            .sql("CREATE TABLE t (a int NOT NULL, v int AS (a + 1) VIRTUAL NOT NULL, UNIQUE KEY (v))")
            .await;
        bench
            .refused_for(&bench.settings("add z int"), ProblemKind::Key, "not STORED")
            .await;
    });
}

#[rstest]
#[case("modify a datetime", true)]
#[case("modify a timestamp(6) null", false)]
#[case("modify b timestamp null", true)]
#[case("modify c varchar(30)", false)]
#[case("add d datetime default current_timestamp", true)]
#[case("add d timestamp default current_timestamp", false)]
fn the_time_zone_is_the_servers_only_where_it_matters(
    #[values(On::MySql, On::MariaDb)] server: On,
    #[case] alter: &str,
    #[case] zone: bool,
) {
    on(server, async |mut bench| {
        bench
            .sql("CREATE TABLE t (id int PRIMARY KEY, a timestamp null, b datetime, c varchar(20))")
            .await;
        let settings = bench.settings(alter);
        let mut inspection = Inspection::begin(&settings).await.expect("nothing wrong");
        // The shared test server may be in UTC: as if it were not.
        let zoned = [
            ("time_zone".to_owned(), "Europe/Berlin".to_owned()),
            (
                "sql_mode".into(),
                "ANSI_QUOTES,PAD_CHAR_TO_FULL_LENGTH,NO_ZERO_DATE,STRICT_TRANS_TABLES".into(),
            ),
        ];
        ghost::prepare(&inspection, &settings, OWNER)
            .await
            .expect("a plan");
        let altered = inspection.read_ghost().await.expect("there");
        inspection.primary.variables = Variables::new(zoned);
        let plan = inspection.plan(&settings, &altered).expect("a plan");
        assert_eq!(
            plan.session.time_zone,
            if zone { "Europe/Berlin" } else { "+00:00" }
        );
        assert_eq!(
            plan.session.sql_mode,
            "NO_ZERO_DATE,STRICT_TRANS_TABLES,NO_AUTO_VALUE_ON_ZERO,STRICT_ALL_TABLES"
        );
        let loose = MigrationSettings {
            skip_strict_mode: Permission::Granted,
            allow_zero_in_date: Permission::Granted,
            ..settings
        };
        let plan = inspection.plan(&loose, &altered).expect("a plan");
        assert_eq!(plan.session.sql_mode, "STRICT_TRANS_TABLES,NO_AUTO_VALUE_ON_ZERO");
    });
}

#[rstest]
fn a_timestamp_key_and_a_zone_do_not_mix(#[values(On::MySql, On::MariaDb)] server: On) {
    on(server, async |mut bench| {
        bench.sql("CREATE TABLE t (id int, k timestamp(3) NOT NULL DEFAULT '2020-01-01 00:00:00', a timestamp null, PRIMARY KEY (id, k))").await;
        let settings = bench.settings("modify a datetime");
        let mut inspection = Inspection::begin(&settings).await.expect("nothing wrong");
        let plan = ghost::prepare(&inspection, &settings, OWNER).await;
        let ghost = inspection.read_ghost().await;
        for (zone, fine) in [("+00:00", true), ("+02:00", false), ("Europe/Berlin", false)] {
            inspection.primary.variables = Variables::new([("time_zone".to_owned(), zone.to_owned())]);
            let Ok(ghost) = &ghost else { continue };
            let plan = inspection.plan(&settings, ghost);
            assert_eq!(plan.is_ok(), fine, "{zone}");
            if let Err(problems) = plan {
                assert!(
                    problems.to_string().contains("one time can mean two moments"),
                    "{problems}"
                );
            }
        }
        plan.expect("the test server is in UTC");
    });
}

#[rstest]
fn new_columns_without_a_default_are_filled(#[values(On::MySql, On::MariaDb)] server: On) {
    on(server, async |mut bench| {
        bench.sql("CREATE TABLE t (id int PRIMARY KEY)").await;
        bench.sql("INSERT INTO t VALUES (1), (2)").await;
        let alter = "add a int not null, add b varchar(9) not null, add c enum('x','y') not null, add d set('p') not null, \
            add e time not null, add f decimal(5,2) not null, add g int not null default 3, add h int, \
            add i blob not null, add j bit(3) not null, add k year not null, add l binary(3) not null";
        let plan = bench.prepare(alter).await.expect("a plan");
        let names: Vec<&str> = plan
            .filled
            .iter()
            .map(|filled| filled.target.name.as_str())
            .collect();
        assert_eq!(names, ["a", "b", "d", "e", "f", "i", "j", "k", "l"]);
        // What is filled in is what the ALTER itself gives to rows that are there.
        let server = bench.server().await;
        let mut conn = server
            .connect_writer(Role::Copier, &plan.session)
            .await
            .expect("a session");
        let values: Vec<&str> = plan.filled.iter().map(|filled| filled.value.as_str()).collect();
        conn.query_drop(format!(
            "INSERT INTO {} (id, {}) SELECT id, {} FROM {}",
            plan.names.ghost,
            names.join(", "),
            values.join(", "),
            plan.names.original
        ))
        .await
        .expect("no value is missing");
        bench.sql(&format!("ALTER TABLE t {alter}")).await;
        let different: Option<u64> = bench.conn.query_first("SELECT COUNT(*) FROM t JOIN _t_gho USING (id) WHERE NOT \
            (t.a <=> _t_gho.a AND t.b <=> _t_gho.b AND t.c <=> _t_gho.c AND t.d <=> _t_gho.d AND t.e <=> _t_gho.e AND \
            t.f <=> _t_gho.f AND t.g <=> _t_gho.g AND t.h <=> _t_gho.h AND t.i <=> _t_gho.i AND t.j <=> _t_gho.j AND \
            t.k <=> _t_gho.k AND t.l <=> _t_gho.l)").await.expect("compared");
        assert_eq!(different, Some(0));
        bench.sql("DROP TABLE _t_gho").await;
        let mut settings = bench.settings("add z geometry not null");
        bench
            .refused_for(
                &settings,
                ProblemKind::Columns,
                "there is no value that the rows could have in it",
            )
            .await;
        settings.alter = "add z date not null".into();
        let plan = bench.prepare_with(&settings).await;
        match bench.on {
            // MySQL's default sql_mode has NO_ZERO_DATE, MariaDB's has not.
            On::MySql => assert!(plan.is_err()),
            On::MariaDb => assert!(plan.is_ok()),
        }
    });
}

#[rstest]
fn checks_are_dropped_by_the_name_that_the_original_has(#[values(On::MySql, On::MariaDb)] server: On) {
    on(server, async |mut bench| {
        bench
            .sql(
                "CREATE TABLE t (id int PRIMARY KEY, a int, CONSTRAINT small CHECK (a < 10), CHECK (a > 1), \
            CONSTRAINT other CHECK (a <> 5))",
            )
            .await;
        bench.prepare("drop constraint other").await.expect("a plan");
        let ghost = definition(&bench, "_t_gho").await;
        assert!(
            ghost.contains("< 10") && ghost.contains("> 1") && !ghost.contains("<> 5"),
            "{ghost}"
        );
    });
}

#[rstest]
fn an_invisible_or_generated_key_column_of_the_server_serves(#[values(On::MySql)] server: On) {
    on(server, async |mut bench| {
        bench.sql("SET sql_generate_invisible_primary_key=ON").await;
        bench.sql("CREATE TABLE t (a int)").await;
        let plan = bench.prepare("add b int").await.expect("a plan");
        assert_eq!(
            plan.key.columns.first().map(|column| column.source.name.as_str()),
            Some("my_row_id")
        );
        assert!(
            plan.columns
                .iter()
                .any(|column| column.source.name == "my_row_id")
        );
    });
}

#[rstest]
fn without_full_row_images_only_the_primary_key_serves(#[values(On::MySql, On::MariaDb)] server: On) {
    on(server, async |mut bench| {
        bench.sql("CREATE TABLE t (id varchar(9) PRIMARY KEY, a int NOT NULL, UNIQUE KEY u (a)) COLLATE utf8mb4_bin").await;
        let settings = bench.settings("modify id varchar(9) collate utf8mb4_general_ci");
        let mut inspection = Inspection::begin(&settings).await.expect("nothing wrong");
        let plan = ghost::prepare(&inspection, &settings, OWNER)
            .await
            .expect("by the other key");
        assert_eq!(plan.key.source_name, "u");
        inspection.images = RowImages::Minimal;
        let altered = inspection.read_ghost().await.expect("there");
        let problems = inspection
            .plan(&settings, &altered)
            .expect_err("refused")
            .to_string();
        assert!(
            problems.contains("only the primary key is sure to be in every event"),
            "{problems}"
        );
    });
}

#[rstest]
fn a_resumed_plan_is_the_same(#[values(On::MySql, On::MariaDb)] server: On) {
    on(server, async |mut bench| {
        bench
            .sql("CREATE TABLE t (id int PRIMARY KEY, a int, KEY ka (a))")
            .await;
        let mut settings = bench.settings("add c int");
        settings.copy.defer_indexes = DeferIndexes::Never;
        let plan = bench.prepare_with(&settings).await.expect("a plan");
        settings.purpose = changeling_applier::settings::Purpose::Execute;
        settings.checkpoint.resume = Resume::Require;
        let inspection = Inspection::begin(&settings)
            .await
            .expect("the ghost table may be there");
        let again = inspection
            .plan(&settings, &inspection.read_ghost().await.expect("there"))
            .expect("a plan");
        assert_eq!(again, plan);
    });
}

#[rstest]
fn a_unique_index_over_a_prefix_is_not_forgotten(#[values(On::MySql, On::MariaDb)] server: On) {
    on(server, async |mut bench| {
        bench
            .sql("CREATE TABLE t (id int PRIMARY KEY, a varchar(20))")
            .await;
        let alter = match bench.on {
            On::MySql => "add unique key p (a(3)), add unique key e ((lower(a)))",
            On::MariaDb => "add unique key p (a(3)), add b text, add unique key e (b)",
        };
        let plan = bench.prepare(alter).await.expect("a plan");
        let mut names = plan.unique_indexes.clone();
        names.sort_unstable();
        assert_eq!(names, ["PRIMARY", "e", "p"]);
        assert_eq!(plan.ghost.unique_keys.len(), 1);
        assert_eq!(
            (plan.conflicts, plan.same_unique_keys.len()),
            (ConflictPolicy::Insert, 1)
        );
    });
}
