//! Every change of a single ghost row is noticed, for every type.

use changeling_core::verify::Suspect;

use crate::faithful::copied;
use crate::ghost::{Proof, World};
use crate::on_each_server;
use crate::values::{CONVERTED, Case, UNCHANGED};

async fn assert_noticed(world: &mut World, proof: &Proof, expected: &[Suspect], what: &str) {
    let found = proof.everything(&mut world.session).await;
    assert_eq!(found.suspects, expected, "{what}: range");
    let mut keys: Vec<_> = expected.iter().map(|suspect| suspect.key.clone()).collect();
    keys.push(proof.key(&["999"]));
    assert_eq!(
        proof.keys(&mut world.session, &keys).await.suspects,
        expected,
        "{what}: keys"
    );
}

async fn mutate(world: &mut World, cases: &[Case]) {
    for case in cases {
        let Some(proof) = copied(world, case).await else {
            continue;
        };
        let nullable = proof.pair.columns[1].source.nullable && proof.pair.columns[1].target.nullable;
        // Never committed: the session sees its own changes, and thousands of commits would be the test's time.
        world.run("START TRANSACTION").await;
        let count = case.values.len() + usize::from(nullable);
        for row in 0..count {
            for other in (0..count).filter(|&other| other != row) {
                let what = format!("{case:?}: row {row} has the value of row {other}");
                world
                    .run(&format!(
                        "REPLACE INTO g (id, v, w) SELECT {row}, v, w FROM g WHERE id = {other}"
                    ))
                    .await;
                if world.is_mariadb_zero(case, row, other) {
                    continue;
                }
                let expected = [proof.different(&[&row.to_string()], &["v"])];
                assert_noticed(world, &proof, &expected, &what).await;
                world.restore(row).await;
            }
            world.run(&format!("DELETE FROM g WHERE id = {row}")).await;
            let expected = [proof.missing(&[&row.to_string()])];
            assert_noticed(world, &proof, &expected, &format!("{case:?}: row {row} deleted")).await;
            world.restore(row).await;
        }
        world.run("UPDATE g SET w = 1 WHERE id = 0").await;
        assert_noticed(
            world,
            &proof,
            &[proof.different(&["0"], &["w"])],
            &format!("{case:?}: other column"),
        )
        .await;
        world.restore(0).await;
        world
            .run("INSERT INTO g (id, v, w) SELECT 500, v, w FROM g WHERE id = 0")
            .await;
        assert_noticed(
            world,
            &proof,
            &[proof.extra(&["500"])],
            &format!("{case:?}: extra row"),
        )
        .await;
        world.run("DELETE FROM g WHERE id = 1").await;
        let expected = [proof.missing(&["1"]), proof.extra(&["500"])];
        assert_noticed(
            world,
            &proof,
            &expected,
            &format!("{case:?}: one missing and one extra"),
        )
        .await;
        world.run("ROLLBACK").await;
    }
}

impl World {
    /// MariaDB 10.11 writes no negative zero from text, so that these two rows are the same.
    fn is_mariadb_zero(&self, case: &Case, row: usize, other: usize) -> bool {
        let zero = |index: usize| matches!(case.values.get(index), Some(&("0" | "'-0'")));
        !self.is_mysql()
            && self.server.version().major == 10
            && case.values.contains(&"'-0'")
            && zero(row)
            && zero(other)
    }

    async fn restore(&mut self, row: usize) {
        self.run(&format!(
            "REPLACE INTO g (id, v, w) SELECT id, v, w FROM t WHERE id = {row}"
        ))
        .await;
    }
}

async fn unchanged_columns(world: &mut World) {
    mutate(world, UNCHANGED).await;
}

async fn converted_columns(world: &mut World) {
    mutate(world, CONVERTED).await;
}

async fn a_border_between_columns_that_moved(world: &mut World) {
    let columns = "id INT NOT NULL PRIMARY KEY, a VARCHAR(9), b VARCHAR(9), c VARBINARY(9), d VARBINARY(9)";
    world.tables(columns, columns).await;
    let pair = world.pair(&["id"], &[]).await;
    world
        .run("INSERT INTO t VALUES (1, 'ab', 'c', 'ab', 'c'), (2, '', NULL, NULL, '')")
        .await;
    world.copy(&pair).await;
    let proof = Proof::of(&mut world.session, pair).await;
    world.run("UPDATE g SET a = 'a', b = 'bc' WHERE id = 1").await;
    assert_noticed(world, &proof, &[proof.different(&["1"], &["a", "b"])], "text").await;
    world
        .run("UPDATE g SET a = 'ab', b = 'c', c = 'a', d = 'bc' WHERE id = 1")
        .await;
    assert_noticed(world, &proof, &[proof.different(&["1"], &["c", "d"])], "bytes").await;
    world.run("UPDATE g SET c = 'ab', d = 'c' WHERE id = 1").await;
    world
        .run("UPDATE g SET a = NULL, b = '', c = '', d = NULL WHERE id = 2")
        .await;
    assert_noticed(
        world,
        &proof,
        &[proof.different(&["2"], &["a", "b", "c", "d"])],
        "NULL",
    )
    .await;
}

async fn two_rows_that_swapped_their_values(world: &mut World) {
    let columns = "id INT NOT NULL PRIMARY KEY, a VARCHAR(9), u INT";
    world.tables(columns, columns).await;
    let pair = world.pair(&["id"], &[]).await;
    world
        .run("INSERT INTO t VALUES (1, 'x', 1), (2, 'y', 2), (3, 'z', 3)")
        .await;
    world
        .run("INSERT INTO g VALUES (1, 'y', 2), (2, 'x', 1), (3, 'z', 3)")
        .await;
    let proof = Proof::of(&mut world.session, pair).await;
    let expected = [
        proof.different(&["1"], &["a", "u"]),
        proof.different(&["2"], &["a", "u"]),
    ];
    assert_noticed(world, &proof, &expected, "swapped").await;
}

on_each_server!(
    unchanged_columns,
    converted_columns,
    a_border_between_columns_that_moved,
    two_rows_that_swapped_their_values,
);
