//! How many rows were wrong, and doubled ones.

use changeling_core::verify::{Discrepancy, Verifier};

use crate::ghost::{EVERYTHING, Proof, World};
use crate::on_each_server;

async fn a_doubled_row_does_not_make_up_for_a_missing_one(world: &mut World) {
    world
        .tables(
            "id INT NOT NULL PRIMARY KEY, v INT",
            "id INT NOT NULL, v INT, KEY by_id (id)",
        )
        .await;
    let mut pair = world.pair(&["id"], &[]).await;
    pair.target_index = "by_id".to_owned();
    world.run("INSERT INTO t VALUES (1, 1), (2, 2)").await;
    world.run("INSERT INTO g VALUES (1, 1), (1, 1)").await;
    let proof = Proof::of(&mut world.session, pair).await;
    let expected = [proof.missing(&["2"]), proof.extra(&["1"])];
    assert_eq!(proof.everything(&mut world.session).await.suspects, expected);
    let keys = [proof.key(&["1"]), proof.key(&["2"])];
    assert_eq!(proof.keys(&mut world.session, &keys).await.suspects, expected);
    world.run("INSERT INTO g VALUES (2, 2)").await;
    assert_eq!(
        proof.everything(&mut world.session).await.suspects,
        [proof.extra(&["1"])]
    );
    world.run("DELETE FROM g WHERE id = 1 LIMIT 1").await;
    assert_eq!(proof.everything(&mut world.session).await.suspects, []);
}

async fn a_key_that_grew_by_a_column(world: &mut World) {
    world
        .tables(
            "id INT NOT NULL PRIMARY KEY, v INT NOT NULL",
            "id INT NOT NULL, v INT NOT NULL, PRIMARY KEY (id, v)",
        )
        .await;
    let pair = world.pair(&["id"], &[]).await;
    world.run("INSERT INTO t VALUES (1, 1), (2, 2)").await;
    world.run("INSERT INTO g VALUES (1, 0), (1, 1), (2, 2)").await;
    let proof = Proof::of(&mut world.session, pair).await;
    let expected = [proof.different(&["1"], &["v"]), proof.extra(&["1"])];
    assert_eq!(proof.everything(&mut world.session).await.suspects, expected);
}

async fn suspects_stop_at_the_limit(world: &mut World) {
    let columns = "id INT NOT NULL PRIMARY KEY, v INT";
    world.tables(columns, columns).await;
    let pair = world.pair(&["id"], &[]).await;
    for id in 0..10 {
        world.run(&format!("INSERT INTO t VALUES ({id}, 1)")).await;
        world
            .run(&format!("INSERT INTO g VALUES ({}, 1)", id + 100))
            .await;
    }
    let proof = Proof::of(&mut world.session, pair).await;
    for (limit, truncated) in [(0, true), (3, true), (10, true), (19, true), (20, false)] {
        let found = proof
            .proof
            .compare_range(&mut world.session, &proof.pair, &EVERYTHING, limit)
            .await
            .unwrap();
        assert_eq!(
            (found.suspects.len(), found.truncated, found.rows),
            (limit, truncated, 10)
        );
    }
    let all = proof.everything(&mut world.session).await.suspects;
    let count = |wanted| all.iter().filter(|suspect| suspect.discrepancy == wanted).count();
    assert_eq!((count(Discrepancy::Missing), count(Discrepancy::Extra)), (10, 10));
}

async fn thousands_of_extra_rows_of_another_order(world: &mut World) {
    world
        .tables(
            "k VARCHAR(9) COLLATE utf8mb4_bin NOT NULL PRIMARY KEY",
            "k VARCHAR(9) COLLATE utf8mb4_general_ci NOT NULL PRIMARY KEY",
        )
        .await;
    let pair = world.pair(&["k"], &[]).await;
    world.run("INSERT INTO t VALUES ('0')").await;
    for step in 0..14 {
        world
            .run(&format!("INSERT INTO t SELECT k + {} FROM t AS n", 1 << step))
            .await;
    }
    world.copy(&pair).await;
    let proof = Proof::of(&mut world.session, pair).await;
    let found = proof.everything(&mut world.session).await;
    assert_eq!((found.rows, found.suspects), (16_384, vec![]));
    world.run("INSERT INTO g VALUES ('A'), ('5000x'), ('')").await;
    let found = proof.everything(&mut world.session).await.suspects;
    assert_eq!(
        found,
        [proof.extra(&[""]), proof.extra(&["5000x"]), proof.extra(&["A"])]
    );
}

on_each_server!(
    a_doubled_row_does_not_make_up_for_a_missing_one,
    a_key_that_grew_by_a_column,
    suspects_stop_at_the_limit,
    thousands_of_extra_rows_of_another_order,
);
