//! Comparing while both tables change.

use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;

use crate::ghost::{Proof, World};
use crate::on_each_server;

/// How long writers and the proof meet each other.
const MEETING: Duration = Duration::from_secs(3);

async fn tables_that_change_together_are_always_equal(world: &mut World) {
    let columns = "id INT NOT NULL PRIMARY KEY, v INT, w VARCHAR(20), KEY (v)";
    world.tables(columns, columns).await;
    let pair = world.pair(&["id"], &[]).await;
    world.run("INSERT INTO t VALUES (0, 0, 'x')").await;
    for step in 0..11 {
        world
            .run(&format!(
                "INSERT INTO t SELECT id + {}, v, w FROM t AS n",
                1 << step
            ))
            .await;
    }
    world.copy(&pair).await;
    let end = Instant::now() + MEETING;
    let mut writers = Vec::new();
    for writer in 0..2_u64 {
        let mut session = world.connect().await;
        writers.push(tokio::spawn(async move {
            let mut seed = writer + 1;
            let mut transactions = 0_u64;
            while Instant::now() < end {
                seed = seed
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let id = (seed >> 33) % 1_024 * 2 + writer;
                let other = id + 100_000;
                let change = match (seed >> 20) % 3 {
                    0 => format!("DELETE FROM {{}} WHERE id = {id}"),
                    1 => format!("REPLACE INTO {{}} VALUES ({id}, {seed} % 1000, 'y')"),
                    _ => format!(
                        "UPDATE IGNORE {{}} SET id = IF(id = {id}, {other}, {id}) WHERE id IN ({id}, {other})"
                    ),
                };
                session.query_drop("START TRANSACTION").await.unwrap();
                for table in ["t", "g"] {
                    session.query_drop(change.replace("{}", table)).await.unwrap();
                }
                session.query_drop("COMMIT").await.unwrap();
                transactions += 1;
            }
            transactions
        }));
    }
    let proof = Proof::of(&mut world.session, pair).await;
    let mut comparisons = 0;
    while Instant::now() < end {
        assert_eq!(proof.everything(&mut world.session).await.suspects, []);
        comparisons += 1;
    }
    for writer in writers {
        assert!(writer.await.unwrap() > 20);
    }
    assert!(comparisons > 20, "{comparisons}");
}

on_each_server!(tables_that_change_together_are_always_equal);
