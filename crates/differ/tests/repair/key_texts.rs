//! Keys that are equal by value and not by text.

use changeling_differ::model::Verdict;
use changeling_differ::repair::Policy;

use crate::modes::FULL;
use crate::rerun::again;
use crate::round::{Format, Round};
use crate::world::{World, world_or_skip};

/// Types whose equality is not that of their texts: one text on n1, the other on n2.
const KINDS: [(&str, &str, &str); 7] = [
    ("numeric", "1.0", "1.00"),
    ("double precision", "-0", "0"),
    ("text COLLATE ci", "A", "a"),
    ("interval", "1 day", "24:00:00"),
    ("jsonb", "{\"a\": 1.0}", "{\"a\": 1.00}"),
    ("numeric[]", "{1.0,2}", "{1.00,2.0}"),
    ("ext.citext", "Straße", "STRAßE"),
];

const CI: &str = "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false)";

async fn has_citext(world: &World) -> bool {
    let found = "SELECT FROM pg_available_extensions WHERE name = 'citext'";
    !world.clients[0].query(found, &[]).await.unwrap().is_empty()
}

#[tokio::test]
async fn keys_equal_by_value_and_not_by_text_are_one_row_and_become_equal() {
    for (kind, one, other) in KINDS {
        for (format, rest) in [(Format::Ndjson, ""), (Format::Ace, ", v int DEFAULT 1")] {
            let round = Round::new(world_or_skip!(2));
            round.world.all(CI).await;
            if kind.starts_with("ext.") {
                if !has_citext(&round.world).await {
                    continue;
                }
                // Not where anybody looks by himself.
                round
                    .world
                    .all("CREATE SCHEMA ext; CREATE EXTENSION citext SCHEMA ext")
                    .await;
            }
            round
                .world
                .all(&format!("CREATE TABLE t (k {kind} PRIMARY KEY{rest})"))
                .await;
            round
                .world
                .on(1, &format!("INSERT INTO t VALUES ('{one}')"))
                .await;
            round
                .world
                .on(2, &format!("INSERT INTO t VALUES ('{other}')"))
                .await;
            let found = round.world.diff().await;
            assert_eq!(
                found.summary.confirmed,
                1,
                "{kind} {format:?}: {:?}",
                found.lines()
            );
            assert_eq!(
                found.summary.nodes.iter().map(|node| node.missing).sum::<u64>(),
                0
            );
            assert!(
                found
                    .summary
                    .notes
                    .iter()
                    .any(|note| note.contains("equal by value, not by text")),
                "{kind}: {:?}",
                found.summary.notes
            );
            let (_, report) = round.diff(format).await;
            let (summary, _) = again(&round, &report).await;
            assert_eq!(
                (summary.verdict, summary.confirmed),
                (Verdict::Differ, 1),
                "{kind}"
            );
            let repaired = round.repair(&report, FULL).await;
            assert_eq!(
                repaired.counts(2),
                "0/1/0/0/0",
                "{kind} {format:?}: {:?}",
                repaired.told
            );
            assert_eq!(repaired.outcome.exit_code(), 0, "{kind}");
            assert_eq!(round.verdict().await, Verdict::Match, "{kind}");
            let texts = "SELECT k::text FROM t";
            assert_eq!(round.texts(2, texts).await, round.texts(1, texts).await);
            let (summary, _) = again(&round, &report).await;
            assert_eq!(summary.verdict, Verdict::Match, "{kind}");
        }
    }
}

/// However the ranges and batches are cut: each row is found once.
#[tokio::test]
async fn many_keys_of_other_texts_are_found_once_each() {
    let round = Round::new(world_or_skip!(2).with_ranges(40, 7));
    round
        .world
        .all("CREATE TABLE t (k numeric, s text, v int, PRIMARY KEY (k, s))")
        .await;
    round
        .world
        .on(
            1,
            "INSERT INTO t SELECT i + 0.0, 's', i FROM generate_series(1, 500) AS i",
        )
        .await;
    round
        .world
        .on(
            2,
            "INSERT INTO t SELECT i + CASE i % 3 WHEN 0 THEN 0.0 ELSE 0.000 END, 's', i FROM generate_series(1, 500) AS i",
        )
        .await;
    let found = round.world.diff().await;
    assert_eq!(found.summary.confirmed, 334);
    assert_eq!(found.findings.len(), 334);
    let (_, report) = round.diff(Format::Ace).await;
    let repaired = round.repair(&report, FULL).await;
    assert_eq!(repaired.counts(2), "0/334/0/0/0");
    assert_eq!(round.verdict().await, Verdict::Match);
}

/// What is one key on one node is two on the other: a row must not be taken for its neighbour.
#[tokio::test]
async fn keys_that_only_one_node_takes_for_equal_are_told_apart() {
    let round = Round::new(world_or_skip!(2));
    round.world.all(CI).await;
    round
        .world
        .on(
            1,
            "CREATE TABLE t (k text COLLATE \"C\" PRIMARY KEY, v int); INSERT INTO t VALUES ('A', 1), ('a', 2)",
        )
        .await;
    round
        .world
        .on(
            2,
            "CREATE TABLE t (k text COLLATE ci PRIMARY KEY, v int); INSERT INTO t VALUES ('A', 1)",
        )
        .await;
    assert_eq!(round.world.diff().await.lines(), ["a | a,2 | -"]);
    let (_, report) = round.diff(Format::Ndjson).await;
    let repaired = round.repair(&report, FULL).await;
    assert_eq!(repaired.counts(2), "0/0/0/1/0", "{:?}", repaired.told);
    assert_eq!(repaired.outcome.exit_code(), 1);
    assert_eq!(round.texts(2, "SELECT k || v FROM t").await, ["A1"]);
}

/// The row with the other text goes, wherever it stands in the report, before the one that takes its place comes.
#[tokio::test]
async fn keys_that_the_nodes_compare_differently_become_equal() {
    let round = Round::new(world_or_skip!(2));
    round.world.all(CI).await;
    for (node, collation) in [(1, "\"C\""), (2, "ci")] {
        round
            .world
            .on(
                node,
                &format!("CREATE TABLE t (k text COLLATE {collation} PRIMARY KEY, v int)"),
            )
            .await;
    }
    round
        .world
        .on(
            1,
            "INSERT INTO t SELECT 'A' || i, i FROM generate_series(1, 400) AS i",
        )
        .await;
    round
        .world
        .on(
            2,
            "INSERT INTO t SELECT 'a' || i, i FROM generate_series(1, 400) AS i",
        )
        .await;
    let found = round.world.diff().await;
    assert_eq!(found.summary.confirmed, 800);
    let (_, report) = round.diff(Format::Ndjson).await;
    let repaired = round.repair(&report, FULL).await;
    assert_eq!(
        repaired.counts(2),
        "400/0/400/0/0",
        "{:?}",
        repaired.told.iter().take(3).collect::<Vec<_>>()
    );
    assert_eq!(repaired.outcome.exit_code(), 0);
    assert_eq!(round.verdict().await, Verdict::Match);
}

/// Nobody says which text is right.
#[tokio::test]
async fn both_ways_leaves_two_texts_of_one_key_and_says_so() {
    let round = Round::new(world_or_skip!(2));
    round
        .world
        .all("CREATE TABLE t (k numeric PRIMARY KEY, v int)")
        .await;
    round.world.on(1, "INSERT INTO t VALUES (1.0, 1)").await;
    round.world.on(2, "INSERT INTO t VALUES (1.00, 1)").await;
    let (_, report) = round.diff(Format::Ndjson).await;
    let repaired = round.repair(&report, Policy::Bidirectional).await;
    assert_eq!(repaired.counts(1), "0/0/0/1/0", "{:?}", repaired.told);
    assert_eq!(repaired.outcome.exit_code(), 1);
}
