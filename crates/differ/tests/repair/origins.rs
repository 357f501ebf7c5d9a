//! Commit times and origins, and recovery from a node that failed.

use changeling_differ::repair::OriginKeeping;

use crate::modes::FULL;
use crate::round::{Format, Round, options};
use crate::world::world_or_skip;

const TIMES: &str = "SELECT pg_xact_commit_timestamp(xmin)::text FROM t ORDER BY id";

#[tokio::test]
async fn commit_times_and_origins_are_preserved_when_asked_for() {
    for keeping in [OriginKeeping::Preserve, OriginKeeping::Local] {
        let round = Round::new(world_or_skip!(2));
        round
            .world
            .all("CREATE TABLE t (id int PRIMARY KEY, v text)")
            .await;
        round.world.on(1, "INSERT INTO t VALUES (1, 'a')").await;
        round.world.on(1, "INSERT INTO t VALUES (2, 'b')").await;
        round.world.on(2, "INSERT INTO t VALUES (2, 'x'), (3, 'c')").await;
        let (_, report) = round.diff(Format::Ndjson).await;
        let mut options = options(FULL);
        options.origin = keeping;
        let repaired = round.repair_with(&report, options).await.unwrap();
        assert_eq!(repaired.counts(2), "1/1/1/0/0", "{:?}", repaired.told);
        assert_eq!(repaired.outcome.exit_code(), 0);
        let (n1, n2) = (round.texts(1, TIMES).await, round.texts(2, TIMES).await);
        assert_eq!(n1 == n2, keeping == OriginKeeping::Preserve, "{n1:?} {n2:?}");
        let origins = "SELECT coalesce(o.roname, 'none') FROM t, LATERAL pg_xact_commit_timestamp_origin(t.xmin) AS c \
                       LEFT JOIN pg_replication_origin AS o ON o.roident = c.roident ORDER BY t.id";
        let expected = if keeping == OriginKeeping::Preserve {
            "node_n1"
        } else {
            "none"
        };
        assert_eq!(round.texts(2, origins).await, [expected, expected]);
    }
}
