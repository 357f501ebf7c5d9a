//! Every mode, and every type.

use changeling_differ::model::Verdict;
use changeling_differ::repair::plan::Plan;
use changeling_differ::repair::{Apply, CopyMode, Policy};

use crate::round::{Format, Round, options};
use crate::world::world_or_skip;

pub(crate) const FULL: Policy = Policy::SourceOfTruth {
    source: 0,
    mode: CopyMode::Full,
};

const CUSTOMERS: &str = "CREATE TABLE t (id int PRIMARY KEY, name text, amount numeric(12,2), region text, updated_at timestamptz); \
    INSERT INTO t SELECT i, 'name ' || i, i * 1.5, CASE WHEN i % 2 = 0 THEN 'eu' ELSE 'us' END, '2026-01-01'::timestamptz + i * interval '1 s' \
    FROM generate_series(1, 2000) AS i";

/// 3 rows only on n1, 2 only on n2, 4 changed on n2.
const DAMAGE: &str = "DELETE FROM t WHERE id IN (5, 700, 1999); INSERT INTO t VALUES (3001, 'x', 1, 'eu', now()), (3002, 'y', NULL, 'us', NULL); \
    UPDATE t SET name = NULL WHERE id IN (10, 11); UPDATE t SET amount = amount + 1, updated_at = updated_at + interval '1 day' WHERE id IN (20, 21)";

async fn customers(world: crate::world::World) -> Round {
    let round = Round::new(world.with_ranges(500, 50));
    round.world.all(CUSTOMERS).await;
    round.world.on(2, DAMAGE).await;
    round
}

#[tokio::test]
async fn one_node_is_right() {
    for format in [Format::Ndjson, Format::Ace] {
        let round = customers(world_or_skip!(2)).await;
        let (verdict, report) = round.diff(format).await;
        assert_eq!(verdict, Verdict::Differ);
        let repaired = round.repair(&report, FULL).await;
        assert_eq!(repaired.counts(2), "3/4/2/0/0", "{:?}", repaired.told);
        assert_eq!(
            (
                repaired.outcome.keys,
                repaired.outcome.rechecked,
                repaired.outcome.remaining
            ),
            (9, 9, 0)
        );
        assert_eq!(repaired.outcome.exit_code(), 0);
        assert_eq!(round.verdict().await, Verdict::Match);
        let changes = &repaired.report["changes"]["n2"];
        assert_eq!(changes["upserted_rows"].as_array().unwrap().len(), 7);
        assert_eq!(changes["deleted_rows"].as_array().unwrap().len(), 2);
        assert_eq!(changes["rule_matches"]["('5')"], "source_of_truth");
        // Again there is nothing to do, and that is no failure.
        let again = round.repair(&report, FULL).await;
        assert_eq!((again.counts(2), again.outcome.settled), ("0/0/0/0/0".into(), 9));
        assert_eq!(again.outcome.exit_code(), 0);
    }
}

#[tokio::test]
async fn insert_only_upsert_only_and_both_ways() {
    let cases = [
        (
            Policy::SourceOfTruth {
                source: 0,
                mode: CopyMode::InsertOnly,
            },
            "3/0/0/0/0",
            "0/0/0/0/0",
            6,
        ),
        (
            Policy::SourceOfTruth {
                source: 0,
                mode: CopyMode::UpsertOnly,
            },
            "3/4/0/0/0",
            "0/0/0/0/0",
            2,
        ),
        (Policy::Bidirectional, "3/0/0/0/0", "2/0/0/4/0", 4),
        (Policy::FixNulls, "0/2/0/0/0", "0/0/0/0/0", 7),
    ];
    for (policy, n2, n1, left) in cases {
        let round = customers(world_or_skip!(2)).await;
        let (_, report) = round.diff(Format::Ndjson).await;
        let repaired = round.repair(&report, policy.clone()).await;
        assert_eq!(
            (repaired.counts(2).as_str(), repaired.counts(1).as_str()),
            (n2, n1),
            "{policy:?}"
        );
        // Both ways cannot say which of two versions is right: that is told and is no success. The others were asked for.
        let (status, as_asked) = match policy {
            Policy::Bidirectional => (1, 0),
            _ => (0, left as u64),
        };
        assert_eq!(
            (repaired.outcome.exit_code(), repaired.outcome.as_asked),
            (status, as_asked),
            "{policy:?}"
        );
        assert_eq!(round.world.diff().await.findings.len(), left, "{policy:?}");
    }
}

#[tokio::test]
async fn nulls_are_filled_from_either_side() {
    let round = Round::new(world_or_skip!(3));
    round
        .world
        .all("CREATE TABLE t (id int PRIMARY KEY, a text, b text)")
        .await;
    round
        .world
        .on(1, "INSERT INTO t VALUES (1, 'a', NULL), (2, 'x', 'y')")
        .await;
    round
        .world
        .on(2, "INSERT INTO t VALUES (1, NULL, 'b'), (2, 'x', 'y')")
        .await;
    round
        .world
        .on(3, "INSERT INTO t VALUES (1, NULL, NULL), (2, NULL, 'y')")
        .await;
    let (_, report) = round.diff(Format::Ndjson).await;
    let repaired = round.repair(&report, Policy::FixNulls).await;
    assert_eq!(repaired.outcome.exit_code(), 0, "{:?}", repaired.told);
    assert_eq!(round.verdict().await, Verdict::Match);
    assert_eq!(
        round.texts(3, "SELECT a || b FROM t ORDER BY id").await,
        ["ab", "xy"]
    );
}

#[tokio::test]
async fn a_plan_decides_row_by_row() {
    let plan = r#"
version: 1
tables:
  public.t:
    default_action: {type: skip}
    rules:
      - {name: gone, diff_type: missing_on_n2, pk_in: [{range: {from: 1, to: 1000}}], action: {type: apply_from, from: n1, mode: insert}}
      - {name: extra, diff_type: missing_on_n1, when: "n2.region = 'eu'", action: {type: delete}}
      - {name: fresh, columns_changed: [amount], action: {type: custom, helpers: {pick_freshest: {key: updated_at, tie: n1}}}}
      - {name: nulls, diff_type: row_mismatch, when: "n1.name IS NOT NULL AND n2.name IS NULL AND n1.amount > 15", action: {type: custom, custom_row: {name: "{{n1.name}}", region: changed}}}
    row_overrides:
      - {pk: {id: 3002}, action: {type: keep_n2}}
"#;
    let round = customers(world_or_skip!(2)).await;
    let (_, report) = round.diff(Format::Ndjson).await;
    let repaired = round
        .repair(&report, Policy::Plan(Plan::read(plan).unwrap()))
        .await;
    let mut told = repaired.told.clone();
    told.sort();
    assert_eq!(
        told,
        [
            "n1 written ('11') by nulls",
            "n1 written ('20') by fresh",
            "n1 written ('21') by fresh",
            "n1 written ('3002') by row_override_0",
            "n2 written ('11') by nulls",
            "n2 written ('3001') by extra",
            "n2 written ('5') by gone",
            "n2 written ('700') by gone",
        ]
    );
    assert_eq!(repaired.outcome.exit_code(), 0);
    let left: Vec<String> = round
        .world
        .diff()
        .await
        .findings
        .iter()
        .map(|found| found.difference().key.to_string())
        .collect();
    assert_eq!(left, ["('10')", "('1999')"]);
    assert_eq!(
        round.texts(1, "SELECT name || region FROM t WHERE id = 11").await,
        ["name 11changed"]
    );
}

#[tokio::test]
async fn a_dry_run_does_the_same_and_changes_nothing() {
    let round = customers(world_or_skip!(2)).await;
    let (_, report) = round.diff(Format::Ndjson).await;
    let before = round.texts(2, "SELECT t::text || xmin FROM t ORDER BY id").await;
    let mut dry = options(FULL);
    dry.apply = Apply::DryRun;
    let rehearsed = round.repair_with(&report, dry).await.unwrap();
    assert_eq!(
        round.texts(2, "SELECT t::text || xmin FROM t ORDER BY id").await,
        before
    );
    assert_eq!(rehearsed.report["changes"]["n2"]["would_upsert"], 7);
    assert_eq!(rehearsed.report["changes"]["n2"]["would_delete"], 2);
    let repaired = round.repair(&report, FULL).await;
    assert_eq!(rehearsed.counts(2), repaired.counts(2));
    assert_eq!(rehearsed.told, repaired.told);
}

#[tokio::test]
async fn the_repair_as_sql_does_the_same_and_compares_first() {
    let round = customers(world_or_skip!(2)).await;
    let (_, report) = round.diff(Format::Ndjson).await;
    let mut dry = options(FULL);
    dry.apply = Apply::DryRun;
    let rehearsed = round.repair_with(&report, dry).await.unwrap();
    assert_eq!(rehearsed.scripts[0], "");
    // Somebody changes a row before the script is run: it is left alone.
    round
        .world
        .on(2, "UPDATE t SET name = 'meanwhile' WHERE id = 20")
        .await;
    round.world.on(2, &rehearsed.scripts[1]).await;
    let left = round.world.diff().await;
    assert_eq!(left.findings.len(), 1, "{:?}", left.lines());
    assert_eq!(
        round.texts(2, "SELECT name FROM t WHERE id = 20").await,
        ["meanwhile"]
    );
}

/// A value of each type on n1, another or none on n2.
const TYPES: [(&str, &str, &str); 46] = [
    ("smallint", "-32768", "1"),
    ("integer", "2147483647", "1"),
    ("bigint", "9223372036854775807", "9223372036854775806"),
    ("numeric", "123456789012345678901234567890.000100", "1"),
    ("numeric(10,2)", "1.10", "1.11"),
    ("real", "1.1754944e-38", "NaN"),
    ("double precision", "-Infinity", "0.30000000000000004"),
    ("money", "-1234.56", "1"),
    ("boolean", "true", "false"),
    ("text", "it's \\ \"quoted\" é 🦀\nline", ""),
    ("varchar(20)", "trailing  ", "trailing"),
    ("char(8)", "ab", "b"),
    ("\"char\"", "x", "y"),
    ("name", "a name", "b"),
    ("bytea", "\\x00ff5c27", "\\x"),
    ("date", "infinity", "0044-03-15 BC"),
    ("time", "23:59:59.999999", "24:00:00"),
    ("time with time zone", "12:00:00+02", "12:00:00+01"),
    ("timestamp", "294276-12-31 23:59:59.999999", "-infinity"),
    (
        "timestamptz",
        "2026-07-01 12:00:00.123456+02",
        "2026-07-01 12:00:00.123457+02",
    ),
    ("interval", "1 year 2 mons -3 days 04:05:06.789", "30 days"),
    (
        "uuid",
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12",
    ),
    ("inet", "192.168.0.1/24", "::1"),
    ("cidr", "192.168.0.0/16", "10.0.0.0/8"),
    ("macaddr", "08:00:2b:01:02:03", "08:00:2b:01:02:04"),
    ("macaddr8", "08:00:2b:01:02:03:04:05", "08:00:2b:01:02:03:04:06"),
    ("bit(5)", "10101", "10100"),
    ("varbit", "1010101010", "0"),
    ("json", "{\"a\":  [1, 1.00, null], \"a\": 2}", "{}"),
    ("jsonb", "{\"b\": 1.00, \"a\": \"\\u00e9\"}", "[]"),
    ("xml", "<a b=\"1\">x &amp; y</a>", "<b/>"),
    ("point", "(1.5,-2)", "(0,0)"),
    ("box", "(3,4),(1,2)", "(1,1),(0,0)"),
    ("path", "[(1,2),(3,4)]", "((1,2),(3,4))"),
    ("polygon", "((0,0),(1,0),(1,1))", "((0,0),(1,0),(1,2))"),
    ("tsvector", "'a':1A 'b c':2", "'z'"),
    ("tsquery", "'a' & !'b'", "'c'"),
    ("integer[]", "{1,NULL,3}", "{}"),
    ("text[]", "{\"a,b\",\"NULL\",NULL,\"\\\"\"}", "{x}"),
    ("numeric[]", "{1.0,1.00}", "{1}"),
    ("int4range", "[1,5)", "empty"),
    (
        "tstzmultirange",
        "{[2026-01-01 00:00:00+00,2026-02-01 00:00:00+00)}",
        "{}",
    ),
    ("mood", "so so", "happy"),
    ("positive", "5.50", "6"),
    ("pair", "(1,\"a,b\")", "(,)"),
    ("pair[]", "{\"(1,x)\",\"(2,\\\"y z\\\")\"}", "{}"),
];

#[tokio::test]
async fn every_type_goes_round() {
    for format in [Format::Ndjson, Format::Ace] {
        let round = Round::new(world_or_skip!(2));
        let columns: Vec<String> = TYPES
            .iter()
            .enumerate()
            .map(|(n, (kind, ..))| format!("c{n} {kind}"))
            .collect();
        let table = format!(
            "CREATE TYPE mood AS ENUM ('happy', 'so so'); CREATE DOMAIN positive AS numeric CHECK (VALUE > 0); \
             CREATE TYPE pair AS (a int, b text); CREATE TABLE t (id int PRIMARY KEY, {})",
            columns.join(", ")
        );
        round.world.all(&table).await;
        let literal = |text: &str| format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"));
        let values = |pick: &dyn Fn(&(&str, &str, &str)) -> String| {
            TYPES.iter().map(pick).collect::<Vec<_>>().join(", ")
        };
        let (one, other) = (
            values(&|(_, one, _)| literal(one)),
            values(&|(_, _, other)| literal(other)),
        );
        let nulls = values(&|_| "NULL".into());
        round
            .world
            .on(
                1,
                &format!("INSERT INTO t VALUES (1, {one}), (2, {one}), (3, {nulls}), (4, {other})"),
            )
            .await;
        round
            .world
            .on(
                2,
                &format!("INSERT INTO t VALUES (1, {other}), (2, {nulls}), (3, {one})"),
            )
            .await;
        let (verdict, report) = round.diff(format).await;
        assert_eq!(verdict, Verdict::Differ);
        let repaired = round.repair(&report, FULL).await;
        assert_eq!(repaired.counts(2), "1/3/0/0/0", "{format:?} {:?}", repaired.told);
        assert_eq!(round.verdict().await, Verdict::Match, "{format:?}");
        let texts = "SELECT t::text FROM t ORDER BY id";
        assert_eq!(round.texts(1, texts).await, round.texts(2, texts).await);
    }
}

/// Keys of every kind find their rows, whoever wrote the report.
#[tokio::test]
async fn c6_keys_of_every_type_and_of_several_parts_find_their_rows() {
    let keys = [
        ("uuid", "md5(i::text)::uuid"),
        ("numeric", "i + 0.10"),
        ("timestamptz", "'2026-01-01'::timestamptz + i * interval '1.5 s'"),
        ("bytea", "decode(md5(i::text), 'hex')"),
        ("text", "'a|' || i || E'\\\\ ''\"'"),
        ("double precision", "i / 3.0"),
        ("date", "'2026-01-01'::date + i"),
    ];
    for (kind, value) in keys {
        let round = Round::new(world_or_skip!(2));
        let table = format!(
            "CREATE TABLE t (k {kind}, \"K 2\" text, v int, PRIMARY KEY (k, \"K 2\")); \
             INSERT INTO t SELECT {value}, CASE WHEN i % 2 = 0 THEN 'a|b' ELSE 'b|c' END, i FROM generate_series(1, 50) AS i"
        );
        round.world.all(&table).await;
        round
            .world
            .on(2, "DELETE FROM t WHERE v <= 5; UPDATE t SET v = -v WHERE v <= 10")
            .await;
        let (_, report) = round.diff(Format::Ace).await;
        let repaired = round.repair(&report, FULL).await;
        assert_eq!(repaired.counts(2), "5/5/0/0/0", "{kind}: {:?}", repaired.told);
        assert_eq!(round.verdict().await, Verdict::Match, "{kind}");
    }
}

#[tokio::test]
async fn a_hundred_thousand_differences_go_round() {
    let round = Round::new(world_or_skip!(2));
    round
        .world
        .all("CREATE TABLE t (id bigint PRIMARY KEY, a text, b timestamptz, c numeric)")
        .await;
    let rows = "INSERT INTO t SELECT i, 'some text ' || i, '2026-01-01'::timestamptz + i * interval '1 s', i / 7.0 FROM generate_series";
    round.world.on(1, &format!("{rows}(1, 80000) AS i")).await;
    round.world.on(2, &format!("{rows}(60001, 100000) AS i")).await;
    round.world.on(2, "UPDATE t SET a = a || '!'").await;
    let (_, report) = round.diff(Format::Ace).await;
    let began = std::time::Instant::now();
    let repaired = round.repair(&report, FULL).await;
    eprintln!("repaired in {:?}", began.elapsed());
    assert_eq!(repaired.counts(2), "60000/20000/20000/0/0");
    assert_eq!(
        (repaired.outcome.rechecked, repaired.outcome.remaining),
        (100_000, 0)
    );
    assert_eq!(round.verdict().await, Verdict::Match);
}
