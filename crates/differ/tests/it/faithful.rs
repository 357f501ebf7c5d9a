//! A faithful copy is found equal, whatever the conversion.

use changeling_core::key::{Bound, KeyRange};

use mysql_async::prelude::Queryable;

use crate::ghost::{Proof, World};
use crate::on_each_server;
use crate::values::{CONVERTED, Case, UNCHANGED};

/// Creates and fills `t` and `g` for a case; `None` where the server lacks a type.
pub(crate) async fn copied(world: &mut World, case: &Case) -> Option<Proof> {
    if !(world.knows(case.source).await && world.knows(case.target).await) {
        return None;
    }
    world
        .tables(
            &format!("id INT NOT NULL PRIMARY KEY, v {}, w INT", case.source),
            &format!("id INT NOT NULL PRIMARY KEY, w INT, v {}", case.target),
        )
        .await;
    let pair = world.pair(&["id"], &[]).await;
    for (id, value) in case.values.iter().enumerate() {
        world
            .run(&format!(
                "INSERT IGNORE INTO t (id, v, w) VALUES ({id}, {value}, 0)"
            ))
            .await;
    }
    if pair.columns[1].source.nullable && pair.columns[1].target.nullable {
        world
            .run(&format!(
                "INSERT INTO t (id, v, w) VALUES ({}, NULL, 0)",
                case.values.len()
            ))
            .await;
    }
    world.copy(&pair).await;
    Some(Proof::of(&mut world.session, pair).await)
}

async fn assert_equal(world: &mut World, cases: &[Case]) {
    let mut seen = 0;
    for case in cases {
        let Some(proof) = copied(world, case).await else {
            continue;
        };
        seen += 1;
        let rows = proof.everything(&mut world.session).await;
        assert_eq!(rows.suspects, [], "{case:?}");
        assert!(rows.rows >= case.values.len() as u64, "{case:?}");
        let keys: Vec<_> = (0..20).map(|id| proof.key(&[&id.to_string()])).collect();
        let found = proof.keys(&mut world.session, &keys).await;
        assert_eq!((found.rows, found.suspects), (rows.rows, vec![]), "{case:?}");
    }
    assert!(
        seen * 10 > cases.len() * 8,
        "only {seen} of {} cases ran",
        cases.len()
    );
}

async fn unchanged_columns(world: &mut World) {
    assert_equal(world, UNCHANGED).await;
}

async fn converted_columns(world: &mut World) {
    assert_equal(world, CONVERTED).await;
}

async fn converted_columns_far_from_utc(world: &mut World) {
    world.run("SET SESSION time_zone = '+09:30'").await;
    let temporal: Vec<Case> = CONVERTED
        .iter()
        .filter(|case| case.source.contains("TIME") || case.source.contains("DATE"))
        .copied()
        .collect();
    assert_equal(world, &temporal).await;
}

async fn what_a_faithful_copy_loses_is_not_a_difference(world: &mut World) {
    world
        .tables(
            "id INT NOT NULL PRIMARY KEY, a VARCHAR(20), b DATETIME(6), c INT, d VARCHAR(9) CHARACTER SET utf8mb4",
            "id INT NOT NULL PRIMARY KEY, a VARCHAR(2) NOT NULL, b DATETIME, c TINYINT NOT NULL, d VARCHAR(9) CHARACTER SET latin1",
        )
        .await;
    let pair = world.pair(&["id"], &[]).await;
    world
        .run(
            "INSERT INTO t VALUES (1, 'long', '2024-02-29 23:59:59.6', 1000, _utf8mb4 X'E3818B'), \
             (2, NULL, NULL, NULL, NULL), (3, 'ok', '2024-02-29 23:59:59', 3, 'x')",
        )
        .await;
    world.copy(&pair).await;
    let proof = Proof::of(&mut world.session, pair).await;
    assert_eq!(proof.everything(&mut world.session).await.suspects, []);
    world.run("UPDATE g SET d = '!' WHERE id = 1").await;
    assert_eq!(
        proof.everything(&mut world.session).await.suspects,
        [proof.different(&["1"], &["d"])]
    );
}

async fn renamed_and_generated_columns(world: &mut World) {
    world
        .tables(
            "id INT NOT NULL PRIMARY KEY, a INT, twice INT AS (a * 2) STORED, b VARCHAR(9)",
            "number BIGINT NOT NULL PRIMARY KEY, b VARCHAR(9), c INT, twice INT AS (c * 2) VIRTUAL",
        )
        .await;
    let mut pair = world.pair(&["id"], &[("id", "number"), ("a", "c")]).await;
    pair.columns.retain(|pair| pair.source.name != "twice");
    world
        .run("INSERT INTO t (id, a, b) VALUES (1, 1, 'x'), (2, NULL, NULL)")
        .await;
    world.copy(&pair).await;
    let proof = Proof::of(&mut world.session, pair).await;
    assert_eq!(proof.everything(&mut world.session).await.suspects, []);
    world.run("UPDATE g SET c = 5 WHERE number = 2").await;
    assert_eq!(
        proof.everything(&mut world.session).await.suspects,
        [proof.different(&["2"], &["a"])]
    );
}

async fn empty_tables_and_empty_ranges(world: &mut World) {
    world
        .tables(
            "id INT NOT NULL PRIMARY KEY, v INT",
            "id INT NOT NULL PRIMARY KEY, v INT",
        )
        .await;
    let pair = world.pair(&["id"], &[]).await;
    let proof = Proof::of(&mut world.session, pair).await;
    assert_eq!(
        proof.everything(&mut world.session).await,
        changeling_core::verify::Findings::default()
    );
    world.run("INSERT INTO g VALUES (7, 7)").await;
    assert_eq!(
        proof.everything(&mut world.session).await.suspects,
        [proof.extra(&["7"])]
    );
    let below = KeyRange {
        from: Bound::Open,
        to: Bound::Excluded(proof.key(&["7"])),
    };
    assert_eq!(proof.range(&mut world.session, &below).await.suspects, []);
    assert_eq!(proof.keys(&mut world.session, &[]).await.suspects, []);
}

/// A zone whose clocks went back on 2024-10-27 at 01:00 UTC, as in Europe.
async fn use_a_zone_that_repeats_an_hour(world: &mut World) {
    let known: Option<u64> = world
        .session
        .query_first("SELECT Time_zone_id FROM mysql.time_zone_name WHERE Name = 'Changeling/Autumn'")
        .await
        .unwrap();
    if known.is_none() {
        world
            .run("INSERT INTO mysql.time_zone (Use_leap_seconds) VALUES ('N')")
            .await;
        world.run("SET @zone = LAST_INSERT_ID()").await;
        world
            .run("INSERT INTO mysql.time_zone_name VALUES ('Changeling/Autumn', @zone)")
            .await;
        let types = "VALUES (@zone, 0, 3600, 0, 'W'), (@zone, 1, 7200, 1, 'S')";
        world
            .run(&format!("INSERT INTO mysql.time_zone_transition_type {types}"))
            .await;
        let transitions = "VALUES (@zone, 1711846800, 1), (@zone, 1729990800, 0)";
        world
            .run(&format!("INSERT INTO mysql.time_zone_transition {transitions}"))
            .await;
    }
    world.run("SET SESSION time_zone = 'Changeling/Autumn'").await;
}

async fn an_hour_that_comes_twice(world: &mut World) {
    for source in ["TIMESTAMP NULL", "DATETIME"] {
        world
            .tables(
                &format!("id INT NOT NULL PRIMARY KEY, v {source}"),
                "id INT NOT NULL PRIMARY KEY, v TIMESTAMP NULL",
            )
            .await;
        let pair = world.pair(&["id"], &[]).await;
        use_a_zone_that_repeats_an_hour(world).await;
        // The same wall clock before and after it went back.
        world
            .run("INSERT INTO t VALUES (1, FROM_UNIXTIME(1729989000)), (2, FROM_UNIXTIME(1729992600))")
            .await;
        world.run("SET SESSION time_zone = '+00:00'").await;
        if source.starts_with("TIMESTAMP") {
            world
                .run("UPDATE t SET v = FROM_UNIXTIME(IF(id = 1, 1729989000, 1729992600))")
                .await;
        }
        use_a_zone_that_repeats_an_hour(world).await;
        world.copy(&pair).await;
        let looks: Option<u64> = world
            .session
            .query_first("SELECT COUNT(DISTINCT v + 0) FROM t")
            .await
            .unwrap();
        assert_eq!(looks, Some(1));
        let proof = Proof::of(&mut world.session, pair).await;
        assert_eq!(proof.everything(&mut world.session).await.suspects, []);
        let mut other = world.connect().await;
        other
            .query_drop("SET SESSION time_zone = '+00:00'")
            .await
            .unwrap();
        other
            .query_drop(
                "UPDATE g SET v = FROM_UNIXTIME(1729989000 + 1729992600 - UNIX_TIMESTAMP(v)) WHERE id = 2",
            )
            .await
            .unwrap();
        let expected = [proof.different(&["2"], &["v"])];
        assert_eq!(
            proof.everything(&mut world.session).await.suspects,
            expected,
            "{source}"
        );
        world.run("SET SESSION time_zone = '+00:00'").await;
    }
}

on_each_server!(
    unchanged_columns,
    converted_columns,
    converted_columns_far_from_utc,
    what_a_faithful_copy_loses_is_not_a_difference,
    an_hour_that_comes_twice,
    renamed_and_generated_columns,
    empty_tables_and_empty_ranges,
);
