//! Partitioned tables, partition by partition.

use changeling_differ::model::Verdict;

use crate::world::{Outcome, World, subject, world_or_skip};

/// By month, one month by country; the later month was made first.
const TREE: &str = "CREATE TABLE t (id int, at date, country text, a text, PRIMARY KEY (id, at, country)) PARTITION BY RANGE (at); \
    CREATE TABLE \"t feb\" PARTITION OF t FOR VALUES FROM ('2026-02-01') TO ('2026-03-01') PARTITION BY LIST (country); \
    CREATE TABLE t_feb_de PARTITION OF \"t feb\" FOR VALUES IN ('de'); \
    CREATE TABLE \"t_feb \"\"rest\" PARTITION OF \"t feb\" DEFAULT; \
    CREATE TABLE t_jan PARTITION OF t FOR VALUES FROM (MINVALUE) TO ('2026-02-01'); \
    CREATE TABLE t_other PARTITION OF t DEFAULT";
const ROWS: &str = "INSERT INTO t SELECT i, date '2026-01-01' + i % 80, (ARRAY['de', 'fr', 'it'])[1 + i % 3], 'v' || i \
    FROM generate_series(1, 3000) AS i";

async fn names(world: &World) -> Vec<String> {
    let cluster = world.prepare().await.unwrap_or_else(|error| panic!("{error}"));
    cluster.shape.partitions.iter().map(ToString::to_string).collect()
}

fn assert_noted(outcome: &Outcome, words: &str) {
    let notes = &outcome.summary.notes;
    assert!(notes.iter().any(|note| note.contains(words)), "{notes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn c18_each_partition_is_compared_on_its_own() {
    let world = world_or_skip!(2).with_ranges(100, 10);
    world.all(TREE).await;
    world.all(ROWS).await;
    // Names do not matter, what they hold does.
    world
        .on(
            2,
            "ALTER TABLE t_jan RENAME TO january; ALTER TABLE t_feb_de RENAME TO t_jan",
        )
        .await;
    assert_eq!(
        names(&world).await,
        [
            "\"public\".\"t_feb_de\"",
            "\"public\".\"t_feb \"\"rest\"",
            "\"public\".\"t_jan\"",
            "\"public\".\"t_other\""
        ]
    );
    let outcome = world.diff().await;
    assert_eq!(outcome.summary.verdict, Verdict::Match);
    assert_eq!(outcome.summary.nodes[1].rows, 3_000);
    assert_noted(&outcome, "partition by partition: 4");

    world
        .on(
            2,
            "UPDATE t SET a = 'x' WHERE id = 7; DELETE FROM t WHERE id = 33; \
             UPDATE t SET at = '2026-02-02', country = 'de' WHERE id = 50; \
             INSERT INTO t VALUES (1, '2030-01-01', 'pl', 'new'), (5000, '2026-02-28', 'pl', 'new')",
        )
        .await;
    let outcome = world.diff().await;
    let mut lines = outcome.lines();
    lines.sort();
    assert_eq!(
        lines,
        [
            "1,2030-01-01,pl | - | 1,2030-01-01,pl,new",
            "33,2026-02-03,de | 33,2026-02-03,de,v33 | -",
            "50,2026-02-02,de | - | 50,2026-02-02,de,v50",
            "50,2026-02-20,it | 50,2026-02-20,it,v50 | -",
            "5000,2026-02-28,pl | - | 5000,2026-02-28,pl,new",
            "7,2026-01-08,fr | 7,2026-01-08,fr,v7 | 7,2026-01-08,fr,x",
        ]
    );
}

/// A role that may read the table need not be allowed to read its partitions, and there they may have policies.
#[tokio::test(flavor = "multi_thread")]
async fn c18_partitions_that_cannot_be_read_alone_are_read_with_the_table() {
    let mut world = world_or_skip!(2).with_ranges(100, 10);
    world.all(TREE).await;
    world.all(ROWS).await;
    let role = format!("reader_{}", world.databases[0]);
    world
        .on(1, &format!("CREATE ROLE {role} LOGIN PASSWORD 'r'"))
        .await;
    world.all(&format!("GRANT SELECT ON t TO {role}")).await;
    world.on(2, "DELETE FROM t WHERE id = 33").await;
    world.login = (role.clone(), "r".into());
    let outcome = world.diff().await;
    assert_eq!(outcome.confirmed_keys(), ["33"]);
    assert_noted(&outcome, "as a whole");
    world
        .all(&format!("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"))
        .await;
    let outcome = world.diff().await;
    assert_eq!(outcome.confirmed_keys(), ["33"]);
    assert_noted(&outcome, "partition by partition");
    world.on(1, "ALTER TABLE t_jan ENABLE ROW LEVEL SECURITY").await;
    let outcome = world.diff().await;
    assert_eq!(outcome.confirmed_keys(), ["33"]);
    assert_noted(&outcome, "\"t_jan\"");
    assert_noted(&outcome, "as a whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn c18_a_partition_that_goes_away_is_unknown() {
    let world = world_or_skip!(2).with_ranges(100, 10);
    world.all(TREE).await;
    world.all(ROWS).await;
    let cluster = world.prepare().await.unwrap();
    world.on(2, "DROP TABLE t_jan").await;
    world.on(1, "DELETE FROM t WHERE at < '2026-02-01'").await;
    let outcome = world.diff_of(subject(cluster, &world.terms)).await;
    assert_eq!(outcome.summary.verdict, Verdict::Unknown);
    let unknown = &outcome.summary.unknown_ranges;
    let unknown: Vec<String> = unknown
        .iter()
        .map(|unknown| format!("{}: {}", unknown.range, unknown.reason))
        .collect();
    assert_eq!(unknown.len(), 2, "{unknown:?}");
    assert!(
        unknown[0].starts_with("partition \"public\".\"t_jan\", all keys: n2: relation"),
        "{unknown:?}"
    );
    assert!(unknown[1].contains("was detached meanwhile"), "{unknown:?}");
    // Then it is not partitioned in the same way any more.
    let outcome = world.diff().await;
    assert_eq!(outcome.summary.verdict, Verdict::Match);
    assert_noted(&outcome, "not partitioned in the same way");
    // Being detached is being gone.
    world.on(1, "ALTER TABLE t DETACH PARTITION t_jan").await;
    assert_eq!(names(&world).await.len(), 3);
    assert_eq!(world.diff().await.summary.verdict, Verdict::Match);
}

/// Two servers whose hash functions are not the same put a row into different partitions of the same bounds.
#[tokio::test(flavor = "multi_thread")]
async fn c18_a_row_in_another_partition_is_the_same_row() {
    let world = world_or_skip!(2).with_ranges(100, 10);
    for (node, step) in [(1, 0), (2, 1)] {
        world
            .on(
                node,
                &format!(
                    "CREATE FUNCTION place(int, bigint) RETURNS bigint LANGUAGE sql IMMUTABLE STRICT AS 'SELECT ($1 + {step})::bigint'; \
                     CREATE OPERATOR CLASS own FOR TYPE int USING hash AS OPERATOR 1 =, FUNCTION 2 place(int, bigint); \
                     CREATE TABLE t (id int PRIMARY KEY, a text) PARTITION BY HASH (id own); \
                     CREATE TABLE t0 PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER 0); \
                     CREATE TABLE t1 PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER 1); \
                     INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 500) AS i"
                ),
            )
            .await;
    }
    assert_eq!(names(&world).await.len(), 2);
    assert_eq!(world.diff().await.summary.verdict, Verdict::Match);
    world
        .on(
            2,
            "UPDATE t SET a = 'x' WHERE id = 77; DELETE FROM t WHERE id = 78",
        )
        .await;
    let outcome = world.diff().await;
    let mut keys = outcome.confirmed_keys();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys, ["77", "78"]);
}

/// What a partition holds may go to another while the first waits to be compared.
#[tokio::test(flavor = "multi_thread")]
async fn c18_rows_that_change_partitions_meanwhile_are_not_taken_for_compared() {
    let moved = "CREATE TABLE late (LIKE t INCLUDING ALL); \
         WITH m AS (DELETE FROM t_other WHERE at >= '2026-03-01' AND at < '2026-04-01' RETURNING *) INSERT INTO late SELECT * FROM m; \
         ALTER TABLE t ATTACH PARTITION late FOR VALUES FROM ('2026-03-01') TO ('2026-04-01')";
    let swapped = "ALTER TABLE t DETACH PARTITION t_jan; ALTER TABLE t_jan RENAME TO old; CREATE TABLE t_jan (LIKE t INCLUDING ALL); \
         ALTER TABLE t ATTACH PARTITION t_jan FOR VALUES FROM (MINVALUE) TO ('2026-02-01')";
    for (sql, both, words) in [
        (moved, [1, 2].as_slice(), "\"late\" was attached meanwhile"),
        (
            "ALTER TABLE t DETACH PARTITION t_jan",
            &[2],
            "\"t_jan\" was detached meanwhile",
        ),
        (swapped, &[2], "\"t_jan\" was attached meanwhile"),
    ] {
        let world = world_or_skip!(2).with_ranges(100, 10);
        world.all(TREE).await;
        world.all(ROWS).await;
        let cluster = world.prepare().await.unwrap();
        for &node in both {
            world.on(node, sql).await;
        }
        let outcome = world.diff_of(subject(cluster, &world.terms)).await;
        assert_ne!(outcome.summary.verdict, Verdict::Match, "{sql}");
        let unknown = &outcome.summary.unknown_ranges;
        assert!(
            unknown.iter().any(|unknown| unknown.reason.contains(words)),
            "{unknown:?}"
        );
    }
}

/// An enum is hashed by numbers that each database gives its labels: the nodes have the rows in other partitions, and rows were
/// reported twice.
#[tokio::test(flavor = "multi_thread")]
async fn c18_hash_partitions_of_enums_are_compared_as_a_whole() {
    let world = world_or_skip!(2).with_ranges(100, 10);
    world
        .all(
            "CREATE TYPE e AS ENUM ('a', 'b', 'c', 'd', 'f', 'g'); \
             CREATE TABLE t (r e, id int, v text, PRIMARY KEY (r, id)) PARTITION BY HASH (r); \
             CREATE TABLE t0 PARTITION OF t FOR VALUES WITH (MODULUS 3, REMAINDER 0); \
             CREATE TABLE t1 PARTITION OF t FOR VALUES WITH (MODULUS 3, REMAINDER 1); \
             CREATE TABLE t2 PARTITION OF t FOR VALUES WITH (MODULUS 3, REMAINDER 2); \
             INSERT INTO t SELECT (enum_range(NULL::e))[1 + g % 6], g, 'v' || g FROM generate_series(1, 600) AS g",
        )
        .await;
    world.on(2, "UPDATE t SET v = 'x' WHERE id IN (1, 500)").await;
    let outcome = world.diff().await;
    assert_eq!(outcome.summary.confirmed, 2);
    assert_noted(&outcome, "as a whole");
}

/// A partition may compute a column otherwise than the table says, and whoever reads the table does not see that.
#[tokio::test(flavor = "multi_thread")]
async fn c18_columns_computed_when_they_are_read_are_read_from_the_table() {
    let world = world_or_skip!(2);
    let version: String = world.clients[0]
        .query_one("SHOW server_version_num", &[])
        .await
        .unwrap()
        .get(0);
    if version.parse::<u32>().unwrap() < 180_000 {
        eprintln!("virtual columns: from version 18");
        return;
    }
    for (node, factor) in [(1, 3), (2, 2)] {
        world
            .on(
                node,
                &format!(
                    "CREATE TABLE t (id int PRIMARY KEY, v int, g int GENERATED ALWAYS AS (v * {factor}) VIRTUAL) PARTITION BY RANGE (id); \
                     CREATE TABLE t0 (id int NOT NULL, v int, g int GENERATED ALWAYS AS (v * 2) VIRTUAL); \
                     ALTER TABLE t ATTACH PARTITION t0 FOR VALUES FROM (0) TO (100); INSERT INTO t (id, v) VALUES (1, 1), (2, 2)"
                ),
            )
            .await;
    }
    let outcome = world.diff().await;
    assert_eq!(outcome.lines(), ["1 | 1,1,3 | 1,1,2", "2 | 2,2,6 | 2,2,4"]);
}
