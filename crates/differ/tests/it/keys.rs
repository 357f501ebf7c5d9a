//! Keys of every shape: ranges, single keys, under `LOCK TABLES`.

use changeling_core::key::{Bound, KeyRange};
use changeling_core::schema::Column;
use changeling_core::verify::{Discrepancy, Suspect, TablePair, Verifier};
use changeling_differ::mysql::SameServerProof;
use mysql_async::prelude::Queryable;

use crate::ghost::{EVERYTHING, Proof, World};
use crate::on_each_server;
use crate::shapes::{SHAPES, Shape};

/// Fills both tables; `None` where the server lacks a type.
async fn copied(world: &mut World, shape: &Shape, value: (&str, &str)) -> Option<Proof> {
    if shape.source.contains("INET6") && !world.knows("INET6").await {
        return None;
    }
    world.run("SET SESSION time_zone = '+00:00'").await;
    world
        .tables(
            &format!("v {}, {}", value.0, shape.source),
            &format!("v {}, {}", value.1, shape.target),
        )
        .await;
    let mut pair = world.pair(shape.key, &[]).await;
    if shape.source.contains("DESC") {
        pair.key.columns[1].descending = true;
    }
    for row in shape.rows {
        world
            .run(&format!(
                "INSERT INTO t (v, {}) VALUES ('7', {row})",
                shape.key.join(", ")
            ))
            .await;
    }
    world.copy(&pair).await;
    Some(Proof::of(&mut world.session, pair).await)
}

/// The source's keys in order, as the proof writes them.
async fn keys(world: &mut World, proof: &Proof) -> Vec<changeling_core::key::Key> {
    use changeling_core::key::{Direction, Side};
    let key = &proof.pair.key;
    let sql = format!(
        "SELECT {} FROM t ORDER BY {}",
        key.select_list(Side::Source),
        key.order(Direction::Forward)
    );
    let rows: Vec<mysql_async::Row> = world.session.query(sql).await.unwrap();
    rows.into_iter()
        .map(|row| {
            let texts: Vec<Option<Vec<u8>>> = row.unwrap().into_iter().map(mysql_async::from_value).collect();
            key.parse(&texts).unwrap()
        })
        .collect()
}

/// A predicate for a key on the ghost.
fn on_ghost(pair: &TablePair, key: &changeling_core::key::Key) -> String {
    pair.key
        .in_keys(changeling_core::key::Side::Target, [key])
        .unwrap()
}

async fn every_shape(world: &mut World) {
    // Compared directly, and converted into a temporary table first.
    for value in [("INT", "INT"), ("VARCHAR(9)", "INT")] {
        for shape in SHAPES {
            let Some(proof) = copied(world, shape, value).await else {
                continue;
            };
            every_mutation(
                world,
                &proof,
                &format!("{} to {}, {value:?}", shape.source, shape.target),
            )
            .await;
        }
    }
}

async fn every_mutation(world: &mut World, proof: &Proof, what: &str) {
    let keys = keys(world, proof).await;
    assert_eq!(proof.everything(&mut world.session).await.suspects, [], "{what}");
    let found = proof.keys(&mut world.session, &keys).await;
    assert_eq!(
        (found.rows, found.suspects),
        (keys.len() as u64, vec![]),
        "{what}"
    );
    world.run("START TRANSACTION").await;
    for (index, key) in keys.iter().enumerate() {
        let suspect = |discrepancy, columns: &[&str]| Suspect {
            key: key.clone(),
            discrepancy,
            columns: columns.iter().map(|&name| name.to_owned()).collect(),
        };
        let below = KeyRange {
            from: Bound::Open,
            to: Bound::Included(key.clone()),
        };
        let above = KeyRange {
            from: Bound::Excluded(key.clone()),
            to: Bound::Open,
        };
        assert_eq!(
            proof.range(&mut world.session, &below).await.rows,
            index as u64 + 1,
            "{what} up to {key:?}"
        );
        let cases = [
            (
                format!("UPDATE g SET v = 8 WHERE {}", on_ghost(&proof.pair, key)),
                suspect(Discrepancy::Different, &["v"]),
            ),
            (
                format!("DELETE FROM g WHERE {}", on_ghost(&proof.pair, key)),
                suspect(Discrepancy::Missing, &[]),
            ),
        ];
        for (mutation, expected) in cases {
            let what = format!("{what}: {mutation}");
            world.run("SAVEPOINT unchanged").await;
            world.run(&mutation).await;
            let expected = [expected];
            assert_eq!(
                proof.everything(&mut world.session).await.suspects,
                expected,
                "{what}"
            );
            assert_eq!(
                proof.range(&mut world.session, &below).await.suspects,
                expected,
                "{what}"
            );
            assert_eq!(
                proof.range(&mut world.session, &above).await.suspects,
                [],
                "{what}"
            );
            assert_eq!(
                proof.keys(&mut world.session, &keys).await.suspects,
                expected,
                "{what}"
            );
            world.run("ROLLBACK TO SAVEPOINT unchanged").await;
        }
        // An extra row of the ghost is a missing row of the original.
        world.run("SAVEPOINT unchanged").await;
        let source = proof
            .pair
            .key
            .in_keys(changeling_core::key::Side::Source, [key])
            .unwrap();
        world.run(&format!("DELETE FROM t WHERE {source}")).await;
        let expected = [suspect(Discrepancy::Extra, &[])];
        assert_eq!(
            proof.everything(&mut world.session).await.suspects,
            expected,
            "{what}: extra {key:?}"
        );
        assert_eq!(
            proof.range(&mut world.session, &below).await.suspects,
            expected,
            "{what}: extra {key:?}"
        );
        assert_eq!(
            proof.keys(&mut world.session, &keys).await.suspects,
            expected,
            "{what}: extra {key:?}"
        );
        world.run("ROLLBACK TO SAVEPOINT unchanged").await;
    }
    world.run("ROLLBACK").await;
}

async fn under_table_locks(world: &mut World) {
    for value in [("INT", "INT"), ("VARCHAR(9)", "INT"), ("DATETIME(6)", "DATETIME")] {
        for shape in SHAPES {
            let Some(proof) = copied(world, shape, value).await else {
                continue;
            };
            let keys = keys(world, &proof).await;
            let what = format!("{} to {}", shape.source, shape.target);
            world.run("LOCK TABLES t WRITE, g WRITE").await;
            assert_eq!(proof.keys(&mut world.session, &keys).await.suspects, [], "{what}");
            world
                .run(&format!(
                    "DELETE FROM g WHERE {}",
                    on_ghost(&proof.pair, &keys[1])
                ))
                .await;
            let found = proof.keys(&mut world.session, &keys).await.suspects;
            assert_eq!(found.len(), 1, "{what}");
            assert_eq!(
                (found[0].discrepancy, &found[0].key),
                (Discrepancy::Missing, &keys[1]),
                "{what}"
            );
            world.run("UNLOCK TABLES").await;
        }
    }
}

async fn the_case_of_a_key(world: &mut World) {
    let columns = "k VARCHAR(9) COLLATE utf8mb4_general_ci NOT NULL PRIMARY KEY, v INT";
    world.tables(columns, columns).await;
    let pair = world.pair(&["k"], &[]).await;
    world.run("INSERT INTO t VALUES ('a', 1), ('b', 2)").await;
    world.run("INSERT INTO g VALUES ('A', 1), ('b', 2)").await;
    let proof = Proof::of(&mut world.session, pair).await;
    let expected = [proof.different(&["a"], &["k"])];
    assert_eq!(proof.everything(&mut world.session).await.suspects, expected);
    assert_eq!(
        proof
            .keys(&mut world.session, &[proof.key(&["a"])])
            .await
            .suspects,
        expected
    );
}

async fn an_extra_key_that_the_original_cannot_hold(world: &mut World) {
    world
        .tables(
            "k VARCHAR(9) CHARACTER SET latin1 NOT NULL PRIMARY KEY, v INT",
            "k VARCHAR(9) CHARACTER SET utf8mb4 NOT NULL PRIMARY KEY, v INT",
        )
        .await;
    let pair = world.pair(&["k"], &[]).await;
    world.run("INSERT INTO g VALUES (_utf8mb4 X'E3818B', 1)").await;
    let proof = Proof::of(&mut world.session, pair).await;
    let error = proof
        .proof
        .compare_range(&mut world.session, &proof.pair, &EVERYTHING, 9)
        .await
        .unwrap_err();
    assert!(!error.transient, "{error}");
    assert!(error.message.contains("whose key no row"), "{error}");
}

async fn few_rows_are_read_for_few_keys(world: &mut World) {
    let columns = "k INT NOT NULL, l VARCHAR(20) NOT NULL, v INT, PRIMARY KEY (k, l)";
    world.tables(columns, columns).await;
    world.run("INSERT INTO t VALUES (1, 'x', 1)").await;
    for _ in 0..13 {
        world
            .run("INSERT INTO t SELECT k + (SELECT MAX(k) FROM t AS n), l, v FROM t AS m")
            .await;
    }
    let pair = world.pair(&["k", "l"], &[]).await;
    world.copy(&pair).await;
    world.run("ANALYZE TABLE t, g").await;
    let proof = Proof::of(&mut world.session, pair).await;
    let keys: Vec<_> = (0..200)
        .map(|n| proof.key(&[&(n * 40).to_string(), "x"]))
        .collect();
    world.run("FLUSH STATUS").await;
    assert_eq!(proof.keys(&mut world.session, &keys).await.suspects, []);
    let reads: Vec<(String, u64)> = world
        .session
        .query("SHOW SESSION STATUS WHERE Variable_name LIKE 'Handler_read%' AND Variable_name NOT LIKE '%_rnd%'")
        .await
        .unwrap();
    let reads: u64 = reads.iter().map(|(_, count)| count).sum();
    assert!(
        reads < 200 * 8,
        "{reads} rows or index entries were read for 200 keys in tables of 8192 rows"
    );
}

async fn keys_that_cannot_be_matched_are_refused(world: &mut World) {
    async fn refusal(world: &mut World, source: &str, target: &str) -> String {
        world.tables(source, target).await;
        let pair = world.pair(&["k"], &[]).await;
        let error = SameServerProof::new()
            .prepare(&mut world.session, &pair)
            .await
            .unwrap_err();
        assert!(!error.transient);
        error.to_string()
    }
    let error = refusal(
        world,
        "k INT NOT NULL PRIMARY KEY",
        "k VARCHAR(9) NOT NULL PRIMARY KEY",
    )
    .await;
    assert!(error.contains("`k` changes from int"), "{error}");
    let error = refusal(world, "k INT NOT NULL PRIMARY KEY", "k INT NULL UNIQUE").await;
    assert!(error.contains("may be NULL"), "{error}");
    world.run("SET SESSION time_zone = '+02:00'").await;
    let stamp = "k TIMESTAMP NOT NULL DEFAULT '2001-01-01' PRIMARY KEY";
    let error = refusal(world, stamp, stamp).await;
    assert!(error.contains("time_zone is +02:00"), "{error}");
    let pair = world.pair(&["k"], &[]).await;
    let unprepared = SameServerProof::new();
    assert!(
        unprepared
            .compare_range(&mut world.session, &pair, &EVERYTHING, 1)
            .await
            .is_err()
    );
    let unknown = |column: &Column| column.kind.clone();
    assert_eq!(unknown(&pair.columns[0].source), unknown(&pair.columns[0].target));
}

on_each_server!(
    every_shape,
    under_table_locks,
    the_case_of_a_key,
    an_extra_key_that_the_original_cannot_hold,
    few_rows_are_read_for_few_keys,
    keys_that_cannot_be_matched_are_refused,
);
